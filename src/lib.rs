//! snoop records which files the containers of a pod use.
//!
//! Each room is a module and the folder of its name. A room uses only rooms above it in this list.

/// The command line.
pub mod args;
/// The BPF programs: the kernel's structures, the records they send, loading.
pub mod bpf;
/// Cgroups, and what is traced.
pub mod cgroup;
/// Records become files of containers.
pub mod collect;
/// The one error type.
pub mod error;
/// Compact sets of files.
pub mod files;
/// The HTTP listener, and the client that asks it.
pub mod http;
/// A directory that holds an image, compared with reports.
pub mod image;
/// Log lines on standard error.
pub mod log;
/// `/metrics`.
pub mod metrics;
/// Paths as bytes.
pub mod path;
/// What the host can do.
pub mod preflight;
/// The report: its fields, and reports that were written earlier.
pub mod report;
/// Where records come from.
pub mod ring;
/// System calls, and what confines a process.
pub mod sys;
/// Times as text.
pub mod time;
/// The loop.
pub mod tracer;
