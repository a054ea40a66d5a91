// SPDX-License-Identifier: MIT OR Apache-2.0
//! snoop records which files the containers of a pod use.
//!
//! The modules below are the rooms of the program, each with the folder of its name. The lowest room comes first: a room
//! uses only rooms above it in this list, as tests/rooms.rs checks. The blank lines keep rustfmt from sorting the list.
//!
//! Unsafe code is denied, except in the modules that share memory with the kernel or call libc. An `allow` precedes the
//! declaration of each of them.

#![deny(unsafe_code)]

/// The one error type.
pub mod error;

/// Points in time as text.
pub mod time;

/// Paths as bytes.
pub mod path;

/// Syscalls behind safe functions, and the sandbox.
pub mod sys;

/// Log lines on standard error.
pub mod log;

/// The BPF programs: the kernel's structures, the records that the programs send, loading and attaching.
pub mod bpf;

/// The ring buffer and the perf buffers, which carry the records from the kernel to snoop.
#[allow(unsafe_code)]
pub mod ring;

/// Compact sets of files.
pub mod files;

/// Archives as streams: tar, compression, digests.
pub mod archive;

/// The report: its fields, how it is written, and how earlier reports are read.
pub mod report;

/// Several reports: merged into one, compared, and whether they are enough.
pub mod reports;

/// Cgroups, and the selection of those to trace.
pub mod cgroup;

/// An unpacked image, compared with reports.
pub mod image;

/// `snoop export`: what reports list, in the formats of other programs.
pub mod export;

/// `snoop show`, which shows a report to people.
pub mod show;

/// `snoop slim`, which builds a small image from an image and its reports.
pub mod slim;

/// The collector, which turns records into the files of containers.
pub mod collect;

/// The containers of a whole node, with a report for each image.
pub mod node;

/// The HTTP listener, and the client of `snoop health`.
pub mod http;

/// The metrics, in the text format of Prometheus.
pub mod metrics;

/// What the host can do.
pub mod preflight;

/// The command line.
pub mod args;

/// The steps of starting, and the epoll loop.
pub mod tracer;
