//! Consumer of the BPF ring buffer (Linux 5.8): hands out the bytes of each record, in order.
//!
//! The buffer is shared memory: a page with the consumer's position, one with the producer's, then
//! the data, mapped twice in a row so that a record never wraps. Each record begins with its length
//! and two flags (kernel/bpf/ringbuf.c, Documentation/bpf/ringbuf.rst).

use crate::sys::{self, Mapping};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::slice;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
const HEADER: usize = 8;

pub struct Ring<F> {
    map: F,
    size: usize,
    consumer: Mapping,
    /// The producer's page, and behind it the data.
    producer: Mapping,
}

impl<F: AsFd> Ring<F> {
    /// `size` is the number of bytes the map was created with.
    pub fn new(map: F, size: usize) -> io::Result<Ring<F>> {
        let page = sys::page_size();
        let consumer = Mapping::new(map.as_fd(), 0, page, true)?;
        let producer = Mapping::new(map.as_fd(), page, page + 2 * size, false)?;
        Ok(Ring {
            map,
            size,
            consumer,
            producer,
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

    /// Calls `each` with the records that are there, `limit` at most; answers how many were.
    pub fn read(&mut self, limit: usize, mut each: impl FnMut(&[u8])) -> usize {
        let (consumer, producer) = self.positions();
        let mut at = consumer.load(Ordering::Relaxed);
        let mut count = 0;
        while count < limit && at < producer.load(Ordering::Acquire) {
            let record = self.producer.at(sys::page_size() + (at & (self.size - 1)));
            // SAFETY: records begin at multiples of eight inside the data.
            let head = unsafe { &*record.cast::<AtomicU32>() }.load(Ordering::Acquire);
            if head & BUSY != 0 {
                break;
            }
            let len = (head & !DISCARDED) as usize;
            assert!(
                len <= self.size,
                "the kernel wrote a record larger than the ring"
            );
            if head & DISCARDED == 0 {
                // SAFETY: the second mapping of the data makes `len` bytes from any position
                // readable, and the kernel leaves them alone until the position below is stored.
                each(unsafe { slice::from_raw_parts(record.add(HEADER), len) });
                count += 1;
            }
            at += (len + HEADER).next_multiple_of(8);
            consumer.store(at, Ordering::Release);
        }
        count
    }
}

impl<F: AsFd> AsFd for Ring<F> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }
}
