// SPDX-License-Identifier: MIT OR Apache-2.0
//! The BPF programs as the kernel has them: what they need to know about it, the bytes that are exchanged with them, and how
//! they are loaded.

pub mod btf;
// The registers in the fixtures are those of x86-64.
#[cfg(all(test, target_arch = "x86_64"))]
mod btf_fixtures;
pub mod counts;
pub mod features;
pub mod hooks;
pub mod layout;
mod maps;
mod object;
pub mod offsets;
pub mod probe;
mod refusal;
pub mod settings;
pub mod syscalls;
#[allow(unsafe_code)]
pub mod wire;
