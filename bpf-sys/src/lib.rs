// SPDX-License-Identifier: MIT OR Apache-2.0
//! bpf(2) in pure Rust, in the shape redbpf 2.3.0 expects of its C library.
//!
//! The crate of this name on crates.io compiles a libbpf of 2021 and needs libelf, zlib and an old
//! libclang; none of that goes into a static musl binary. This one replaces it through
//! `[patch.crates-io]`:
//!
//! * [`abi`] holds the structures and constants, laid out as `linux/bpf.h` and `linux/btf.h` say.
//! * [`libbpf`] holds the functions redbpf calls, with libbpf's names and signatures. It is also
//!   the one place where a program of type "kprobe", the only kind redbpf's ELF reader passes on,
//!   becomes what its section name says (see [`libbpf::bpf_load_program_xattr`]).
//! * [`direct`] holds what redbpf has no word for, as safe functions: freezing a map, raw
//!   tracepoints, the verifier's log.
//! * Below both are the modules for the call itself and for the notes that are taken while an object is loaded.
//!
//! Functions that redbpf names but snoop never reaches fail with `ENOSYS`.

#![allow(non_camel_case_types, non_upper_case_globals)]

pub mod abi;
mod cpus;
pub mod direct;
pub mod libbpf;
mod notes;
mod syscall;
pub mod uname;

pub use abi::*;
pub use libbpf::*;
