//! snoop: which files do the containers of a pod use?
//!
//! `main.rs` tells the story; the modules depend on those above them only.

pub mod error;
pub mod log;
mod mem;
pub mod sys;
pub mod time;

pub mod btf;
pub mod cgroup;
pub mod http;
pub mod path;
pub mod perf;
pub mod ring;
pub mod sandbox;
pub mod syscalls;
mod table;
pub mod tree;
pub mod wire;

pub mod seen;

pub mod kernel;
pub mod probe;

pub mod collect;
pub mod destination;
pub mod report;

pub mod metrics;

pub mod image;
pub mod packages;
pub mod reader;
pub mod resume;

pub mod closure;
pub mod unused;

pub mod args;
pub mod preflight;
pub mod run;

pub mod aim;

pub mod tracer;
