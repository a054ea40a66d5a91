// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads perf buffers, which replace the ring buffer before Linux 5.10. Each CPU has its own: a page with the
//! positions, then the data (perf_event_open(2)). Each record carries the time at which a program sent it, so that
//! snoop can hand out the records of all CPUs in the order in which they were sent.

use crate::sys::epoll::{Epoll, Interest};
use crate::sys::mapping::{Mapping, page_size};
use crate::sys::perf_event;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

/// The offsets of the positions in the first page: struct perf_event_mmap_page of linux/perf_event.h.
const HEAD: usize = 1024;
const TAIL: usize = 1032;

/// The type of the records that programs send: PERF_RECORD_SAMPLE.
const RECORD_SAMPLE: u32 = 9;

/// The length of a record's header: its type, flags and size. In a sample, the time and the size of the program's bytes
/// follow.
const HEADER: usize = 8;
const TIME: usize = 8;
const SIZE: usize = 4;

/// The smallest size of a buffer. It must hold the longest record and some more.
const LEAST: usize = 64 << 10;

/// The perf buffers of all CPUs.
pub struct PerfBuffers<F> {
    /// Kept open, because the kernel removes a map's entries when the descriptor through which they were made is closed.
    _map: F,
    cpus: Vec<Buffer>,
    /// Combines the events of all CPUs into one descriptor.
    epoll: Epoll,
    record: Vec<u8>,
}

/// The perf buffer of one CPU.
struct Buffer {
    mapping: Mapping,
    _event: OwnedFd,
    size: usize,
}

impl<F> PerfBuffers<F> {
    /// Opens a buffer for each CPU that is online. Together they have `size` bytes, unless there are so many CPUs that
    /// each buffer would have less than [`LEAST`]. `enter` stores a CPU's number and descriptor in the map.
    pub fn new(
        map: F,
        size: usize,
        cpus: usize,
        enter: impl Fn(&F, u32, BorrowedFd) -> io::Result<()>,
    ) -> io::Result<PerfBuffers<F>> {
        let of_one = (size / cpus).max(LEAST);
        let of_one = 1 << of_one.ilog2();
        let (epoll, mut buffers) = (Epoll::new()?, Vec::new());
        for cpu in 0..cpus as u32 {
            let event = match perf_event::open_bpf_output(cpu, of_one / 4) {
                // This CPU is possible but not online.
                Err(e) if e.raw_os_error() == Some(libc::ENODEV) => continue,
                event => event?,
            };
            let mapping = Mapping::new(event.as_fd(), 0, page_size() + of_one, true)?;
            enter(&map, cpu, event.as_fd())?;
            epoll.add(event.as_fd(), 0, Interest::Read)?;
            buffers.push(Buffer {
                mapping,
                _event: event,
                size: of_one,
            });
        }
        Ok(PerfBuffers {
            _map: map,
            cpus: buffers,
            epoll,
            record: Vec::new(),
        })
    }

    /// Returns how many bytes have been read so far.
    pub fn position(&self) -> usize {
        self.cpus.iter().map(|cpu| cpu.at(TAIL)).sum()
    }

    /// Returns how many bytes have been written so far.
    pub fn end(&self) -> usize {
        self.cpus.iter().map(|cpu| cpu.at(HEAD)).sum()
    }

    /// Calls `each` with the records that wait, at most `limit` of them. Returns how many it read.
    pub fn read(&mut self, limit: usize, mut each: impl FnMut(&[u8])) -> usize {
        let (mut count, mut record) = (0, std::mem::take(&mut self.record));
        while count < limit && self.position() != self.end() {
            count += self.read_in_order(limit - count, &mut record, &mut each);
        }
        self.record = record;
        // The descriptors stay ready until epoll_wait(2) has reported them.
        let _ = self
            .epoll
            .wait(&mut Vec::new(), Some(std::time::Duration::ZERO));
        count
    }

    /// Looks at all buffers twice, and takes only records that the first look found. Every record that was sent before
    /// one of these is visible at the second look, so that the earliest visible record is always the next one. A record
    /// that arrived between the two looks ends the reading when its turn comes.
    fn read_in_order(
        &self,
        limit: usize,
        record: &mut Vec<u8>,
        each: &mut impl FnMut(&[u8]),
    ) -> usize {
        let look = || self.cpus.iter().map(|cpu| cpu.at(HEAD)).collect();
        let (first, second): (Vec<usize>, Vec<usize>) = (look(), look());
        let next = |cpu: usize| self.cpus[cpu].next(second[cpu]);
        let mut waiting: Vec<Option<Next>> = (0..self.cpus.len()).map(next).collect();
        let mut count = 0;
        while count < limit {
            let earliest = waiting.iter().enumerate();
            let earliest = earliest.filter_map(|(cpu, next)| next.map(|next| (next, cpu)));
            let Some((next_record, cpu)) = earliest.min_by_key(|(next, _)| next.time) else {
                break;
            };
            if next_record.end > first[cpu] {
                break;
            }
            self.cpus[cpu].take(next_record, record);
            if let Some(bytes) = sent(record) {
                each(bytes);
                count += 1;
            }
            waiting[cpu] = next(cpu);
        }
        count
    }
}

impl<F> AsFd for PerfBuffers<F> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

/// A record that waits: the time at which it was sent, and the position after it.
#[derive(Clone, Copy)]
struct Next {
    time: u64,
    end: usize,
}

fn is_sample(record: &[u8]) -> bool {
    record.starts_with(&RECORD_SAMPLE.to_ne_bytes())
}

/// Returns the bytes that a program sent, or `None` if the record is not from a program. Padding after the bytes makes
/// the size of the record a multiple of eight. The programs themselves count lost records.
fn sent(record: &[u8]) -> Option<&[u8]> {
    let (size, bytes) = record.get(HEADER + TIME..)?.split_at_checked(SIZE)?;
    let size = u32::from_ne_bytes(size.try_into().ok()?);
    let bytes = bytes.get(..size as usize)?;
    is_sample(record).then_some(bytes)
}

impl Buffer {
    fn position(&self, at: usize) -> &AtomicU64 {
        // SAFETY: the page is mapped while self lives. The position is an aligned number of eight bytes, and both sides
        // access it only atomically.
        unsafe { &*self.mapping.at(at).cast() }
    }

    fn at(&self, position: usize) -> usize {
        self.position(position).load(Ordering::Acquire) as usize
    }

    /// Looks at the next record, if there is one before that position.
    fn next(&self, end: usize) -> Option<Next> {
        let from = self.at(TAIL);
        if from == end {
            return None;
        }
        let mut head = Vec::with_capacity(HEADER + TIME);
        self.copy(from, HEADER + TIME, &mut head);
        let size = usize::from(u16::from_ne_bytes([head[6], head[7]]));
        // Whatever the header says, the record is not longer than the data, and not shorter than its header.
        let size = size.clamp(HEADER, (end - from).max(HEADER));
        let time = u64::from_ne_bytes(head[HEADER..].try_into().expect("eight bytes"));
        Some(Next {
            // A record that is not from a program has no time, and is skipped at once.
            time: if is_sample(&head) { time } else { 0 },
            end: from + size,
        })
    }

    /// Copies the next record, and gives its space back to the kernel.
    fn take(&self, next: Next, record: &mut Vec<u8>) {
        let from = self.at(TAIL);
        record.clear();
        self.copy(from, next.end - from, record);
        self.position(TAIL)
            .store(next.end as u64, Ordering::Release);
    }

    /// Appends bytes of the data, which may wrap.
    fn copy(&self, from: usize, len: usize, to: &mut Vec<u8>) {
        let offset = from & (self.size - 1);
        let before_end = len.min(self.size - offset);
        for (at, len) in [(offset, before_end), (0, len - before_end)] {
            let data = self.mapping.at(page_size() + at);
            // SAFETY: the data is mapped while self lives, both pieces lie in it, and the kernel does not change what it
            // wrote until the tail has passed it.
            to.extend(unsafe { std::slice::from_raw_parts(data, len) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    /// A buffer of a page in a file, which the test fills as the kernel does.
    struct Cpu {
        file: File,
        head: u64,
    }

    impl Cpu {
        fn new(start: u64) -> Cpu {
            let file = tempfile::tempfile().unwrap();
            file.set_len(2 * page_size() as u64).unwrap();
            file.write_all_at(&start.to_ne_bytes(), TAIL as u64)
                .unwrap();
            file.write_all_at(&start.to_ne_bytes(), HEAD as u64)
                .unwrap();
            Cpu { file, head: start }
        }

        fn write(&mut self, kind: u32, time: u64, sent: &[u8]) {
            let size = (HEADER + TIME + SIZE + sent.len()).next_multiple_of(8);
            let mut record = Vec::new();
            record.extend(kind.to_ne_bytes());
            record.extend(0u16.to_ne_bytes());
            record.extend((size as u16).to_ne_bytes());
            record.extend(time.to_ne_bytes());
            record.extend(((size - HEADER - TIME - SIZE) as u32).to_ne_bytes());
            record.write_all(sent).unwrap();
            record.resize(size, 0);
            let page = page_size() as u64;
            for (i, byte) in record.iter().enumerate() {
                let at = page + (self.head + i as u64) % page;
                self.file.write_all_at(&[*byte], at).unwrap();
            }
            self.head += size as u64;
            let head = self.head.to_ne_bytes();
            self.file.write_all_at(&head, HEAD as u64).unwrap();
        }

        fn buffer(&self) -> Buffer {
            let page = page_size();
            Buffer {
                mapping: Mapping::new(self.file.as_fd(), 0, 2 * page, true).unwrap(),
                _event: self.file.try_clone().unwrap().into(),
                size: page,
            }
        }
    }

    fn buffers(cpus: &[&Cpu]) -> PerfBuffers<()> {
        PerfBuffers {
            _map: (),
            cpus: cpus.iter().map(|cpu| cpu.buffer()).collect(),
            epoll: Epoll::new().unwrap(),
            record: Vec::new(),
        }
    }

    fn read(buffers: &mut PerfBuffers<()>, limit: usize) -> Vec<String> {
        let mut records = Vec::new();
        buffers.read(limit, |bytes| {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            records.push(text.trim_end_matches('\0').to_string());
        });
        records
    }

    #[test]
    fn records_of_all_cpus_come_in_the_order_of_their_times() {
        let (mut a, mut b, idle) = (Cpu::new(0), Cpu::new(0), Cpu::new(0));
        a.write(RECORD_SAMPLE, 20, b"second");
        a.write(RECORD_SAMPLE, 40, b"fourth");
        b.write(RECORD_SAMPLE, 10, b"first");
        b.write(RECORD_SAMPLE, 30, b"third");
        let mut buffers = buffers(&[&a, &b, &idle]);
        assert_eq!(read(&mut buffers, 3), ["first", "second", "third"]);
        b.write(RECORD_SAMPLE, 50, b"fifth");
        assert_eq!(read(&mut buffers, 100), ["fourth", "fifth"]);
        assert_eq!(read(&mut buffers, 100), [""; 0]);
        assert_eq!(buffers.position(), buffers.end());
    }

    #[test]
    fn a_record_that_wraps_is_read_whole() {
        let mut cpu = Cpu::new(3 * page_size() as u64 - 24);
        cpu.write(RECORD_SAMPLE, 1, b"around the end of the data");
        let mut buffers = buffers(&[&cpu]);
        assert_eq!(read(&mut buffers, 100), ["around the end of the data"]);
    }

    /// One record is a PERF_RECORD_LOST, another one has an invalid size.
    #[test]
    fn records_that_are_not_from_a_program_are_skipped() {
        const RECORD_LOST: u32 = 2;
        let mut cpu = Cpu::new(0);
        cpu.write(RECORD_LOST, u64::MAX, b"12345678");
        cpu.write(RECORD_SAMPLE, 1, b"kept");
        let mut of_one = buffers(&[&cpu]);
        assert_eq!(read(&mut of_one, 100), ["kept"]);
        let size_of_the_next = page_size() as u64 + cpu.head + 6;
        cpu.write(RECORD_SAMPLE, 2, b"shorter than its header");
        cpu.file.write_all_at(&[0, 0], size_of_the_next).unwrap();
        read(&mut of_one, 100);
        assert_eq!(of_one.position(), of_one.end());
    }
}
