// SPDX-License-Identifier: MIT OR Apache-2.0
//! Perf events: perf_event_open(2).

use super::check;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// Opens the perf event of one CPU, to which BPF programs write. The descriptor becomes ready when `wakeup_bytes` are
/// waiting. The samples carry the time of a clock that all CPUs share.
pub fn open_bpf_output(cpu: u32, wakeup_bytes: usize) -> io::Result<OwnedFd> {
    /// struct perf_event_attr of linux/perf_event.h, as Linux 4.1 has it (PERF_ATTR_SIZE_VER4).
    #[repr(C)]
    #[derive(Default)]
    struct Attr {
        kind: u32,
        size: u32,
        config: u64,
        sample_period: u64,
        sample_type: u64,
        read_format: u64,
        flags: u64,
        wakeup: u32,
        breakpoint: u32,
        config1: u64,
        config2: u64,
        branch_sample_type: u64,
        sample_regs_user: u64,
        sample_stack_user: u32,
        clock: i32,
        sample_regs_intr: u64,
    }
    const SOFTWARE: u32 = 1;
    const BPF_OUTPUT: u64 = 10;
    const SAMPLE_TIME: u64 = 1 << 2;
    const SAMPLE_RAW: u64 = 1 << 10;
    const WATERMARK: u64 = 1 << 14;
    const USE_CLOCK: u64 = 1 << 25;
    const FD_CLOEXEC: u64 = 8;
    let attr = Attr {
        kind: SOFTWARE,
        size: size_of::<Attr>() as u32,
        config: BPF_OUTPUT,
        sample_type: SAMPLE_TIME | SAMPLE_RAW,
        flags: WATERMARK | USE_CLOCK,
        wakeup: wakeup_bytes as u32,
        // By default each CPU uses its own clock.
        clock: libc::CLOCK_MONOTONIC_RAW,
        ..Attr::default()
    };
    // SAFETY: the kernel reads as many bytes as the attribute says it has; no process and no group are given. The
    // descriptor is new, and nothing else owns it.
    unsafe {
        let (call, process, group) = (libc::SYS_perf_event_open, -1, -1);
        let fd = libc::syscall(call, &attr, process, cpu as i32, group, FD_CLOEXEC);
        Ok(OwnedFd::from_raw_fd(check(fd as i32)?))
    }
}
