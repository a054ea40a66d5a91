//! Consumer of perf buffers, which stand in for the ring buffer before Linux 5.10: one for each CPU, a page with the
//! positions and then the data (perf_event_open(2)). Hands out the bytes of each record; those of one CPU are in
//! order.

use crate::sys::{self, Epoll, Interest, Mapping};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

/// Where the positions are in the first page: struct perf_event_mmap_page of linux/perf_event.h.
const HEAD: usize = 1024;
const TAIL: usize = 1032;

const RECORD_SAMPLE: u32 = 9;

/// Type, flags and size of a record; then, of a sample, the size of what the program sent.
const HEADER: usize = 8;
const SIZE: usize = 4;

/// Has to hold the longest record, and some more.
const LEAST: usize = 64 << 10;

pub struct PerfBuffers<F> {
    /// Kept open: the kernel takes out what was entered by a descriptor that is closed.
    _map: F,
    cpus: Vec<Buffer>,
    /// Reports all of them as one descriptor.
    epoll: Epoll,
    record: Vec<u8>,
}

struct Buffer {
    mapping: Mapping,
    _event: OwnedFd,
    size: usize,
}

impl<F> PerfBuffers<F> {
    /// One for each CPU that is there, with `size` bytes in all if they are not too many. `enter` enters the CPU's
    /// number and the descriptor into the map.
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
            let event = match sys::open_bpf_output(cpu, of_one / 4) {
                // Possible, and not there.
                Err(e) if e.raw_os_error() == Some(libc::ENODEV) => continue,
                event => event?,
            };
            let mapping = Mapping::new(event.as_fd(), 0, sys::page_size() + of_one, true)?;
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

    pub fn position(&self) -> usize {
        self.cpus.iter().map(|cpu| cpu.at(TAIL)).sum()
    }

    pub fn end(&self) -> usize {
        self.cpus.iter().map(|cpu| cpu.at(HEAD)).sum()
    }

    /// Calls `each` with the records that are there, `limit` at most; answers how many were.
    pub fn read(&mut self, limit: usize, mut each: impl FnMut(&[u8])) -> usize {
        let (mut count, record) = (0, &mut self.record);
        for cpu in &self.cpus {
            while count < limit && cpu.take(record) {
                if let Some(bytes) = sent(record) {
                    each(bytes);
                    count += 1;
                }
            }
        }
        // The descriptors stay ready until they are asked.
        let _ = self
            .epoll
            .wait(&mut Vec::new(), Some(std::time::Duration::ZERO));
        count
    }
}

impl<F> AsFd for PerfBuffers<F> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

/// What a program sent, if the record is of one; with a few bytes behind it that make its size a multiple of
/// eight. Records that were lost are counted by the programs.
fn sent(record: &[u8]) -> Option<&[u8]> {
    let kind = u32::from_ne_bytes(record.get(..4)?.try_into().ok()?);
    let size = u32::from_ne_bytes(record.get(HEADER..HEADER + SIZE)?.try_into().ok()?);
    let bytes = record.get(HEADER + SIZE..)?.get(..size as usize)?;
    (kind == RECORD_SAMPLE).then_some(bytes)
}

impl Buffer {
    fn position(&self, at: usize) -> &AtomicU64 {
        // SAFETY: the page is mapped as long as self lives; an aligned number of eight bytes that is only accessed
        // atomically on either side.
        unsafe { &*self.mapping.at(at).cast() }
    }

    fn at(&self, position: usize) -> usize {
        self.position(position).load(Ordering::Acquire) as usize
    }

    /// Copies the next record, if there is one.
    fn take(&self, record: &mut Vec<u8>) -> bool {
        let (from, end) = (self.at(TAIL), self.at(HEAD));
        record.clear();
        if from == end {
            return false;
        }
        self.copy(from, HEADER, record);
        let size = usize::from(u16::from_ne_bytes([record[6], record[7]]));
        // Whatever it says, it is no longer than what was written, and no shorter than its header.
        let size = size.clamp(HEADER, (end - from).max(HEADER));
        record.clear();
        self.copy(from, size, record);
        let tail = self.position(TAIL);
        tail.store((from + size) as u64, Ordering::Release);
        true
    }

    /// Appends bytes of the data, which may wrap.
    fn copy(&self, from: usize, len: usize, to: &mut Vec<u8>) {
        let offset = from & (self.size - 1);
        let before_end = len.min(self.size - offset);
        for (at, len) in [(offset, before_end), (0, len - before_end)] {
            let data = self.mapping.at(sys::page_size() + at);
            // SAFETY: the data is mapped as long as self lives, both pieces lie in it, and the kernel leaves what
            // it wrote alone until the tail has passed it.
            to.extend(unsafe { std::slice::from_raw_parts(data, len) });
        }
    }
}
