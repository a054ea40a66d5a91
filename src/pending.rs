//! Requests of io_uring between their record and their result.

use std::collections::VecDeque;

/// Records of requests whose result is not known yet, by key, the oldest first. From perf buffers a result may come
/// before its record: it stands here without one.
#[derive(Default)]
pub struct Pending(VecDeque<(u64, Wait)>);

pub enum Wait {
    ForResult(Vec<u8>),
    ForRecord { succeeded: bool },
}

/// Four times as many as the programs keep.
const PENDING_MAX: usize = 4096;

impl Pending {
    pub fn push(&mut self, key: u64, wait: Wait) {
        if self.0.len() == PENDING_MAX {
            self.0.pop_front();
        }
        self.0.push_back((key, wait));
    }

    /// The record with that key that waits for its result.
    pub fn take_record(&mut self, key: u64) -> Option<Vec<u8>> {
        let is_it = |(k, wait): &(u64, Wait)| *k == key && matches!(wait, Wait::ForResult(_));
        match self.0.remove(self.0.iter().position(is_it)?)? {
            (_, Wait::ForResult(bytes)) => Some(bytes),
            _ => None,
        }
    }

    /// The result that waits for a record with that key: did it succeed?
    pub fn take_result(&mut self, key: u64) -> Option<bool> {
        let is_it = |(k, wait): &(u64, Wait)| *k == key && matches!(wait, Wait::ForRecord { .. });
        match self.0.remove(self.0.iter().position(is_it)?)? {
            (_, Wait::ForRecord { succeeded }) => Some(succeeded),
            _ => None,
        }
    }
}
