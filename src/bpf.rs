//! The BPF programs as the kernel has them: what they need to know about it, the bytes that are exchanged with them, and how
//! they are loaded.

pub mod btf;
pub mod counts;
pub mod features;
pub mod hooks;
pub mod layout;
mod lz4;
mod maps;
mod object;
pub mod offsets;
pub mod probe;
mod refusal;
pub mod settings;
pub mod syscalls;
#[allow(unsafe_code)]
pub mod wire;
