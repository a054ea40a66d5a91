// SPDX-License-Identifier: MIT OR Apache-2.0
//! The running kernel's version, as redbpf asks for it.

/// `LINUX_VERSION_CODE` of the running kernel: `major << 16 | minor << 8 | patch`.
///
/// Only programs that carry a `version` section of 0xfffffffe need it; snoop's have none.
pub fn get_kernel_internal_version() -> Option<u32> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|n| n.parse::<u32>().ok());
    let (major, minor) = (numbers.next()??, numbers.next()??);
    let patch = numbers.next().flatten().unwrap_or(0);
    Some(major << 16 | minor << 8 | patch.min(255))
}
