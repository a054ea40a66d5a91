//! Consumer of the BPF ring buffer (Linux 5.8): hands out the bytes of each record, in order.
//!
//! The buffer is shared memory: a page with the consumer's position, one with the producer's, then the data. Each
//! record begins with its length and two flags (kernel/bpf/ringbuf.c, Documentation/bpf/ringbuf.rst).
//!
//! The kernel offers the data twice in a row, so that no record wraps. Mapped twice it counts twice as resident
//! memory; here it is mapped once, and the rare record that wraps is put together.

pub mod perf;

use crate::bpf::kernel::Buffer;
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

const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
const HEADER: usize = 8;

/// Where records come from.
pub enum Records<F> {
    Ring(Ring<F>),
    Perf(PerfBuffers<F>),
}

/// Perf buffers report when a part of one is full; what is less has to be looked after.
const LOOK_AFTER: Duration = Duration::from_secs(1);

impl Records<Map> {
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
                    ": add the capability SYS_ADMIN, or PERFMON where kernel.perf_event_paranoid is below 3"
                }
                _ => "",
            };
            Error::failed(format!("cannot open the {buffer}: {e}{remedy}"))
        })
    }
}

impl<F: AsFd> Records<F> {
    /// How many bytes were read so far.
    pub fn position(&self) -> usize {
        match self {
            Records::Ring(ring) => ring.position(),
            Records::Perf(buffers) => buffers.position(),
        }
    }

    /// How many were written.
    pub fn end(&self) -> usize {
        match self {
            Records::Ring(ring) => ring.end(),
            Records::Perf(buffers) => buffers.end(),
        }
    }

    /// Calls `each` with the records that are there, `limit` at most; answers how many were.
    pub fn read(&mut self, limit: usize, each: impl FnMut(&[u8])) -> usize {
        match self {
            Records::Ring(ring) => ring.read(limit, each),
            Records::Perf(buffers) => buffers.read(limit, each),
        }
    }

    /// How long to wait at most for being told of records.
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

pub struct Ring<F> {
    map: F,
    size: usize,
    consumer: Mapping,
    /// The producer's page, and behind it the data.
    producer: Mapping,
    /// A record that wrapped.
    whole: Vec<u8>,
}

impl<F: AsFd> Ring<F> {
    /// `size` is the number of bytes the map was created with.
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

    fn positions(&self) -> (&AtomicUsize, &AtomicUsize) {
        // SAFETY: both pages are mapped as long as self lives, begin with an aligned unsigned long
        // (the kernel's type for positions), and are only accessed atomically on either side.
        unsafe {
            (
                &*self.consumer.at(0).cast(),
                &*self.producer.at(0).cast::<AtomicUsize>(),
            )
        }
    }

    /// `len` bytes of the data.
    fn data(&self, at: usize, len: usize) -> &[u8] {
        assert!(at + len <= self.size, "a piece of the ring");
        // SAFETY: the data is mapped as long as self lives; the caller takes bytes of a record that is complete,
        // which the kernel leaves alone until the consumer's position has passed it.
        unsafe { slice::from_raw_parts(self.producer.at(page_size()).add(at), len) }
    }

    pub fn position(&self) -> usize {
        self.positions().0.load(Ordering::Relaxed)
    }

    pub fn end(&self) -> usize {
        self.positions().1.load(Ordering::Acquire)
    }

    /// Calls `each` with the records that are there, `limit` at most; answers how many were. Whatever the buffer holds
    /// is read within its bounds: where it makes no sense, an empty record stands for all that waits.
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
