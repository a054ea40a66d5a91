//! snoop: which files do the containers of a pod use?
//!
//! `main.rs` tells the story; the modules depend on those above them only.

pub mod confinement;
pub mod error;
mod lz4;
mod mem;
pub mod sys;
pub mod time;

pub mod log;
pub mod wire;

pub mod btf;
pub mod cgroup;
pub mod format;
pub mod metadata;
pub mod path;
mod pending;
pub mod syscalls;
mod table;
pub mod tree;

pub mod http;

pub mod health;

pub mod kernel;
pub mod perf;
pub mod ring;
pub mod sandbox;
pub mod seen;

pub mod probe;

pub mod destination;
pub mod image;
pub mod packages;
pub mod reader;
pub mod scan;

pub mod resume;

pub mod closure;
pub mod unused;

pub mod container;

pub mod collect;

pub mod metrics;
pub mod report;

pub mod args;
pub mod preflight;
pub mod run;

pub mod aim;

pub mod tracer;
