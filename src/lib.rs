// SPDX-License-Identifier: MIT OR Apache-2.0
//! snoop records which files the containers of a pod use.
//!
//! Each room is a module and the folder of its name. The list begins with the lowest room: a room uses only rooms above
//! it in this list, as tests/rooms.rs checks. The blank lines keep rustfmt from sorting it.
//!
//! Unsafe code is denied, except in the modules that share memory with the kernel or call libc: an `allow` precedes their
//! declaration.

#![deny(unsafe_code)]

/// The one error type.
pub mod error;

/// Times as text.
pub mod time;

/// Paths as bytes.
pub mod path;

/// System calls, and what confines a process.
pub mod sys;

/// Log lines on standard error.
pub mod log;

/// The BPF programs: the kernel's structures, the records they send, loading.
pub mod bpf;

/// Where records come from.
#[allow(unsafe_code)]
pub mod ring;

/// Compact sets of files.
pub mod files;

/// Archives as streams: tar, compression, digests.
pub mod archive;

/// The report: its fields, and reports that were written earlier.
pub mod report;

/// Cgroups, and what is traced.
pub mod cgroup;

/// A directory that holds an image, compared with reports.
pub mod image;

/// An image and its reports to the small image.
pub mod slim;

/// Records become files of containers.
pub mod collect;

/// The HTTP listener, and the client that asks it.
pub mod http;

/// `/metrics`.
pub mod metrics;

/// What the host can do.
pub mod preflight;

/// The command line.
pub mod args;

/// The steps before the loop, and the loop.
pub mod tracer;
