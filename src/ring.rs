// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads the BPF ring buffer (Linux 5.8) and hands out the bytes of each record in order.
//!
//! The buffer is shared memory: a page with the consumer's position, a page with the producer's position, then the data.
//! Each record begins with its length and two flags (kernel/bpf/ringbuf.c, Documentation/bpf/ringbuf.rst).
//!
//! The kernel lets a process map the data twice in a row, so that no record wraps. But memory that is mapped twice
//! counts twice as resident, so snoop maps the data once and copies the rare record that wraps.

pub mod perf;

use crate::bpf::hooks::Buffer;
use crate::bpf::wire::RING_BYTES;
use crate::error::{Error, Result};
use crate::ring::perf::PerfBuffers;
use crate::sys::mapping::{Mapping, page_size};
use bpf_sys::direct::{Map, possible_cpus};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::slice;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

/// The flag of a record that the producer has not finished.
const BUSY: u32 = 1 << 31;
/// The flag of a record that the producer has given up.
const DISCARDED: u32 = 1 << 30;
/// The length of the header of a record.
const HEADER: usize = 8;

/// The source of records: one ring buffer, or one perf buffer for each CPU.
pub enum Records<F> {
    Ring(Ring<F>),
    Perf(PerfBuffers<F>),
}

/// How often to look at the perf buffers. A perf buffer becomes ready only when a part of it is full.
const LOOK_AFTER: Duration = Duration::from_secs(1);

impl Records<Map> {
    /// Opens the buffer that the programs write to.
    pub fn open(map: Map, buffer: Buffer) -> Result<Records<Map>> {
        let enter = |map: &Map, cpu: u32, event: BorrowedFd| {
            let event = event.as_raw_fd() as u32;
            map.update(&cpu.to_ne_bytes(), &event.to_ne_bytes())
        };
        match buffer {
            Buffer::Ring => Ring::new(map, RING_BYTES).map(Records::Ring),
            Buffer::Perf => {
                PerfBuffers::new(map, RING_BYTES, possible_cpus(), enter).map(Records::Perf)
            }
        }
        .map_err(|e| {
            let remedy = match e.raw_os_error() {
                Some(libc::EACCES | libc::EPERM) => {
                    "; add the capability SYS_ADMIN, or PERFMON where kernel.perf_event_paranoid is below 3"
                }
                _ => "",
            };
            Error::failed(format!("cannot open the {buffer}: {e}{remedy}"))
        })
    }
}

impl<F: AsFd> Records<F> {
    /// Returns how many bytes have been read so far.
    pub fn position(&self) -> usize {
        match self {
            Records::Ring(ring) => ring.position(),
            Records::Perf(buffers) => buffers.position(),
        }
    }

    /// Returns how many bytes have been written so far.
    pub fn end(&self) -> usize {
        match self {
            Records::Ring(ring) => ring.end(),
            Records::Perf(buffers) => buffers.end(),
        }
    }

    /// Calls `each` with the records that wait, at most `limit` of them. Returns how many it read.
    pub fn read(&mut self, limit: usize, each: impl FnMut(&[u8])) -> usize {
        match self {
            Records::Ring(ring) => ring.read(limit, each),
            Records::Perf(buffers) => buffers.read(limit, each),
        }
    }

    /// Returns the longest time to wait before looking for records that epoll has not reported.
    pub fn look_after(&self) -> Option<Duration> {
        matches!(self, Records::Perf(_)).then_some(LOOK_AFTER)
    }
}

impl<F: AsFd> AsFd for Records<F> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Records::Ring(ring) => ring.as_fd(),
            Records::Perf(buffers) => buffers.as_fd(),
        }
    }
}

/// A BPF ring buffer, read through its map.
pub struct Ring<F> {
    map: F,
    size: usize,
    consumer: Mapping,
    /// The producer's page, followed by the data.
    producer: Mapping,
    /// The copy of a record that wraps.
    whole: Vec<u8>,
}

impl<F: AsFd> Ring<F> {
    /// `size` is the number of bytes that the map was created with.
    pub fn new(map: F, size: usize) -> io::Result<Ring<F>> {
        let page = page_size();
        let consumer = Mapping::new(map.as_fd(), 0, page, true)?;
        let producer = Mapping::new(map.as_fd(), page, page + size, false)?;
        Ok(Ring {
            map,
            size,
            consumer,
            producer,
            whole: Vec::new(),
        })
    }

    /// Returns the consumer's and the producer's position.
    fn positions(&self) -> (&AtomicUsize, &AtomicUsize) {
        // SAFETY: both pages are mapped while self lives, begin with an aligned unsigned long
        // (the kernel's type for positions), and are only accessed atomically on either side.
        unsafe {
            (
                &*self.consumer.at(0).cast(),
                &*self.producer.at(0).cast::<AtomicUsize>(),
            )
        }
    }

    /// Returns `len` bytes of the data.
    fn data(&self, at: usize, len: usize) -> &[u8] {
        assert!(at + len <= self.size, "a piece of the ring");
        // SAFETY: the data is mapped while self lives. The caller takes bytes of a complete record, which the kernel
        // does not change until the consumer's position has passed it.
        unsafe { slice::from_raw_parts(self.producer.at(page_size()).add(at), len) }
    }

    /// Returns how many bytes have been read so far.
    pub fn position(&self) -> usize {
        self.positions().0.load(Ordering::Relaxed)
    }

    /// Returns how many bytes have been written so far.
    pub fn end(&self) -> usize {
        self.positions().1.load(Ordering::Acquire)
    }

    /// Calls `each` with the records that wait, at most `limit` of them. Returns how many it read. The function never
    /// reads outside the buffer, whatever the buffer holds. If a length or position is invalid, one empty record
    /// replaces all records that wait.
    pub fn read(&mut self, limit: usize, mut each: impl FnMut(&[u8])) -> usize {
        let mut at = self.position();
        let mut count = 0;
        while count < limit {
            // Positions are multiples of eight.
            let end = self.end() & !7;
            if at >= end {
                break;
            }
            let offset = at & (self.size - 1);
            let record = self.producer.at(page_size() + offset);
            // SAFETY: records begin at multiples of eight inside the data.
            let head = unsafe { &*record.cast::<AtomicU32>() }.load(Ordering::Acquire);
            if head & BUSY != 0 {
                break;
            }
            let len = (head & !DISCARDED) as usize;
            if end - at > self.size || len > end - at - HEADER {
                each(&[]);
                self.positions().0.store(end, Ordering::Release);
                return count + 1;
            }
            if head & DISCARDED == 0 {
                let start = (offset + HEADER) & (self.size - 1);
                let before_end = len.min(self.size - start);
                if before_end == len {
                    each(self.data(start, len));
                } else {
                    let mut whole = std::mem::take(&mut self.whole);
                    whole.clear();
                    whole.extend(self.data(start, before_end));
                    whole.extend(self.data(0, len - before_end));
                    each(&whole);
                    self.whole = whole;
                }
                count += 1;
            }
            at += (len + HEADER).next_multiple_of(8);
            self.positions().0.store(at, Ordering::Release);
        }
        count
    }
}

impl<F: AsFd> AsFd for Ring<F> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    /// Where the consumer's position is in the map's file.
    const CONSUMER: u64 = 0;
    fn producer() -> u64 {
        page_size() as u64
    }
    fn data() -> u64 {
        2 * page_size() as u64
    }

    /// A ring with a page of data in a file, which the test fills as the kernel does.
    struct Kernel {
        file: File,
        end: u64,
    }

    impl Kernel {
        /// Returns a ring in which all records before this position have been read.
        fn at(position: u64) -> Kernel {
            let file = tempfile::tempfile().unwrap();
            file.set_len(3 * page_size() as u64).unwrap();
            let mut kernel = Kernel { file, end: 0 };
            kernel.set_end(position);
            let position = position.to_ne_bytes();
            kernel.file.write_all_at(&position, CONSUMER).unwrap();
            kernel
        }

        fn set_end(&mut self, end: u64) {
            self.end = end;
            let bytes = end.to_ne_bytes();
            self.file.write_all_at(&bytes, producer()).unwrap();
        }

        fn set_head(&self, position: u64, head: u32) {
            let at = data() + position % page_size() as u64;
            self.file.write_all_at(&head.to_ne_bytes(), at).unwrap();
        }

        /// Writes a record, and returns its position.
        fn write(&mut self, flags: u32, sent: &[u8]) -> u64 {
            let position = self.end;
            self.set_head(position, sent.len() as u32 | flags);
            for (i, byte) in (HEADER as u64..).zip(sent) {
                let at = data() + (position + i) % page_size() as u64;
                self.file.write_all_at(&[*byte], at).unwrap();
            }
            let len = (HEADER + sent.len()).next_multiple_of(8) as u64;
            self.set_end(position + len);
            position
        }

        fn ring(&self) -> Ring<File> {
            Ring::new(self.file.try_clone().unwrap(), page_size()).unwrap()
        }
    }

    fn read(ring: &mut Ring<File>, limit: usize) -> Vec<String> {
        let mut records = Vec::new();
        let count = ring.read(limit, |bytes| {
            records.push(String::from_utf8(bytes.to_vec()).unwrap());
        });
        assert_eq!(count, records.len());
        records
    }

    #[test]
    fn records_are_read_in_order_up_to_the_limit() {
        let mut kernel = Kernel::at(0);
        let mut ring = kernel.ring();
        assert_eq!(read(&mut ring, 100), [""; 0]);
        for sent in ["first", "second", "third"] {
            kernel.write(0, sent.as_bytes());
        }
        assert_eq!(read(&mut ring, 2), ["first", "second"]);
        assert!(ring.position() < ring.end());
        assert_eq!(read(&mut ring, 2), ["third"]);
        assert_eq!(ring.position(), ring.end());
        kernel.write(0, b"fourth");
        assert_eq!(read(&mut ring, 2), ["fourth"]);
    }

    #[test]
    fn a_record_that_wraps_is_read_whole() {
        let text = "around the end of the data";
        // The data wraps at the start of the record, in its middle, and after its last byte.
        for before_end in [HEADER as u64, HEADER as u64 + 8, 32, 40] {
            let mut kernel = Kernel::at(5 * page_size() as u64 - before_end);
            let mut ring = kernel.ring();
            kernel.write(0, text.as_bytes());
            kernel.write(0, b"behind it");
            assert_eq!(read(&mut ring, 100), [text, "behind it"], "{before_end}");
        }
    }

    #[test]
    fn a_full_ring_is_read_to_its_end() {
        let mut kernel = Kernel::at(page_size() as u64 / 2);
        let mut ring = kernel.ring();
        let records = page_size() / 16;
        for _ in 0..records {
            kernel.write(0, b"12345678");
        }
        assert_eq!(ring.end() - ring.position(), page_size());
        assert_eq!(read(&mut ring, usize::MAX).len(), records);
        assert_eq!(ring.position(), ring.end());
    }

    #[test]
    fn a_busy_record_holds_up_the_records_after_it() {
        let mut kernel = Kernel::at(0);
        let mut ring = kernel.ring();
        kernel.write(0, b"done");
        let busy = kernel.write(BUSY, b"busy");
        kernel.write(0, b"behind");
        assert_eq!(read(&mut ring, 100), ["done"]);
        assert_eq!(read(&mut ring, 100), [""; 0]);
        kernel.set_head(busy, "busy".len() as u32);
        assert_eq!(read(&mut ring, 100), ["busy", "behind"]);
    }

    #[test]
    fn a_discarded_record_is_skipped() {
        let mut kernel = Kernel::at(0);
        let mut ring = kernel.ring();
        kernel.write(DISCARDED, b"discarded");
        kernel.write(0, b"kept");
        kernel.write(DISCARDED, b"discarded");
        assert_eq!(read(&mut ring, 1), ["kept"]);
        assert_eq!(read(&mut ring, 1), [""; 0]);
        assert_eq!(ring.position(), ring.end());
    }

    #[test]
    fn an_invalid_length_yields_one_empty_record_for_all_that_wait() {
        for len in [9, 17, page_size() as u32, DISCARDED - 1] {
            let mut kernel = Kernel::at(0);
            let mut ring = kernel.ring();
            kernel.write(0, b"good");
            let position = kernel.write(0, b"12345678");
            kernel.set_head(position, len);
            assert_eq!(read(&mut ring, 100), ["good", ""], "{len}");
            assert_eq!(ring.position(), ring.end());
            kernel.write(0, b"good again");
            assert_eq!(read(&mut ring, 100), ["good again"], "{len}");
        }
    }

    #[test]
    fn positions_that_are_too_far_apart_yield_one_empty_record() {
        let mut kernel = Kernel::at(64);
        let mut ring = kernel.ring();
        kernel.set_end(64 + 2 * page_size() as u64);
        assert_eq!(read(&mut ring, 100), [""]);
        assert_eq!(ring.position(), ring.end());
        // If the end is before the position, there is nothing to read.
        kernel.set_end(8);
        assert_eq!(read(&mut ring, 100), [""; 0]);
    }
}
