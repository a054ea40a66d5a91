//! Requests of io_uring between their record and their result.

use std::collections::VecDeque;

/// Records of requests whose result is not known yet, by key, the oldest first.
#[derive(Default)]
pub struct Requests(VecDeque<(u64, Vec<u8>)>);

/// Four times as many as the programs keep.
const PENDING_MAX: usize = 4096;

impl Requests {
    pub fn push(&mut self, key: u64, record: &[u8]) {
        if self.0.len() == PENDING_MAX {
            self.0.pop_front();
        }
        self.0.push_back((key, record.into()));
    }

    /// The record of the request with that key.
    pub fn take(&mut self, key: u64) -> Option<Vec<u8>> {
        let at = self.0.iter().position(|(k, _)| *k == key)?;
        self.0.remove(at).map(|(_, record)| record)
    }
}
