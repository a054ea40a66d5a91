// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many accesses there were since the last one that used a new file.

/// Counts the accesses since the last new file. The programs count the accesses, and snoop reads their counts only now and then,
/// so that the accesses between the new file and the next reading are not counted.
#[derive(Debug, Default)]
pub struct Quiet {
    /// Whether a new file was used since the counts were read last.
    has_news: bool,
    /// All accesses of this run when the counts were read first after the last new file.
    total_then: u64,
    /// The accesses of earlier runs since the last new file.
    earlier: u64,
}

impl Quiet {
    /// Continues the count of an earlier run.
    pub fn resume(&mut self, events: u64) {
        self.earlier = events;
    }

    /// Notes that a new file was used.
    pub fn new_file(&mut self) {
        self.has_news = true;
    }

    /// Takes the number of all accesses of this run until now.
    pub fn counted(&mut self, total: u64) {
        if std::mem::take(&mut self.has_news) {
            (self.total_then, self.earlier) = (total, 0);
        }
    }

    /// Returns the number of accesses since the last new file. `total` is the number of all accesses of this run.
    pub fn events(&self, total: u64) -> u64 {
        match self.has_news {
            true => 0,
            false => self.earlier + total.saturating_sub(self.total_then),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_begins_the_count_again() {
        let mut quiet = Quiet::default();
        quiet.counted(10);
        assert_eq!(quiet.events(10), 10);
        quiet.new_file();
        assert_eq!(quiet.events(15), 0);
        quiet.counted(20);
        assert_eq!((quiet.events(20), quiet.events(27)), (0, 7));
    }

    #[test]
    fn accesses_of_an_earlier_run_count_until_the_next_new_file() {
        let mut quiet = Quiet::default();
        quiet.resume(100);
        quiet.counted(5);
        assert_eq!(quiet.events(5), 105);
        quiet.new_file();
        quiet.counted(6);
        assert_eq!(quiet.events(8), 2);
    }
}
