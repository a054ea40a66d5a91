//! The BPF programs as the kernel has them: what they need to know of it, the bytes that are exchanged with them, and
//! how they are loaded.

pub mod btf;
pub mod kernel;
mod lz4;
pub mod probe;
pub mod syscalls;
#[allow(unsafe_code)]
pub mod wire;
