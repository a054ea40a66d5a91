// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requests of io_uring between their record and their result.

use std::collections::VecDeque;

/// The key and the record of each request whose result is not known yet, the oldest first.
#[derive(Default)]
pub struct Requests(VecDeque<(u64, Vec<u8>)>);

/// Four times as many as the programs keep.
const REQUESTS_MAX: usize = 4096;

impl Requests {
    pub fn push(&mut self, key: u64, record: &[u8]) {
        if self.0.len() == REQUESTS_MAX {
            self.0.pop_front();
        }
        self.0.push_back((key, record.into()));
    }

    /// Hands out the record of the request with that key.
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
    fn the_oldest_requests_leave() {
        let mut requests = Requests::default();
        for key in 0..=REQUESTS_MAX as u64 {
            requests.push(key, b"");
        }
        assert!(requests.take(0).is_none() && requests.take(1).is_some());
        assert_eq!(requests.0.len(), REQUESTS_MAX - 1);
    }
}
