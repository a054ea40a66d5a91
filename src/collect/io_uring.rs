// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keeps the records of io_uring requests until their results arrive.

use std::collections::VecDeque;

/// The key and the record of each request whose result has not arrived yet, the oldest first.
#[derive(Default)]
pub struct Requests(VecDeque<(u64, Vec<u8>)>);

/// Four times the number that the programs keep.
const REQUESTS_MAX: usize = 4096;

impl Requests {
    pub fn push(&mut self, key: u64, record: &[u8]) {
        if self.0.len() == REQUESTS_MAX {
            self.0.pop_front();
        }
        self.0.push_back((key, record.into()));
    }

    /// Removes and returns the record of the request with this key.
    pub fn take(&mut self, key: u64) -> Option<Vec<u8>> {
        let at = self.0.iter().position(|(k, _)| *k == key)?;
        self.0.remove(at).map(|(_, record)| record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_handed_out_once() {
        let mut requests = Requests::default();
        requests.push(7, b"seven");
        requests.push(8, b"eight");
        assert_eq!(requests.take(7).as_deref(), Some(&b"seven"[..]));
        assert_eq!(requests.take(7), None);
        assert_eq!(requests.take(8).as_deref(), Some(&b"eight"[..]));
    }

    #[test]
    fn the_oldest_requests_are_dropped() {
        let mut requests = Requests::default();
        for key in 0..=REQUESTS_MAX as u64 {
            requests.push(key, b"");
        }
        assert!(requests.take(0).is_none() && requests.take(1).is_some());
        assert_eq!(requests.0.len(), REQUESTS_MAX - 1);
    }
}
