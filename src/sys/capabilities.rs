// SPDX-License-Identifier: MIT OR Apache-2.0
//! The capabilities of this process: capabilities(7).

use super::check;
use std::io;

// One bit for each capability that snoop refers to by name.
pub const CAP_DAC_OVERRIDE: u64 = 1 << 1;
pub const CAP_SYS_ADMIN: u64 = 1 << 21;
pub const CAP_PERFMON: u64 = 1 << 38;
pub const CAP_BPF: u64 = 1 << 39;

/// The header and the sets of capget(2) and capset(2) in version 3, which has 64 capabilities. First come the lower
/// halves of the effective, permitted and inheritable sets, then their upper halves.
type Capabilities = ([u32; 2], [[u32; 3]; 2]);
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// Returns the permitted capabilities of this process, one bit for each.
pub fn permitted_capabilities() -> io::Result<u64> {
    let (mut head, mut sets): Capabilities = ([CAPABILITY_VERSION_3, 0], Default::default());
    // SAFETY: the kernel reads and writes the header, and fills in two sets of three words.
    check(unsafe { libc::syscall(libc::SYS_capget, &mut head, &mut sets) } as i32)?;
    Ok(u64::from(sets[1][1]) << 32 | u64::from(sets[0][1]))
}

/// Sets the permitted and the effective capabilities of this process. A program that it executes inherits none.
pub fn set_capabilities(permitted: u64, effective: u64) -> io::Result<()> {
    let half = |shift: u32| [(effective >> shift) as u32, (permitted >> shift) as u32, 0];
    let (head, sets): Capabilities = ([CAPABILITY_VERSION_3, 0], [half(0), half(32)]);
    // SAFETY: the kernel reads the header and two sets of three words.
    check(unsafe { libc::syscall(libc::SYS_capset, &head, &sets) } as i32).map(|_| ())
}
