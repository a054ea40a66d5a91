// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a kernel can do, and how the programs are adapted to it. The kernel's type information tells; its version does not,
//! because distributions bring newer BPF to older kernels.

use crate::bpf::btf;
use crate::bpf::hooks::Buffer;
use crate::error::Error;
use std::io::{Read, Seek};

/// A part of the work that snoop leaves out where something is missing. The report then lists it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Feature {
    /// Reading the kernel's memory: without it only absolute paths are known, and not what is executed.
    KernelMemory,
    /// Finding the names of directories and files: without it relative paths and real paths are not known.
    Paths,
    /// Finding the ELF interpreter of new programs.
    ElfInterp,
}

impl Feature {
    pub const ALL: [Feature; 3] = [Feature::KernelMemory, Feature::Paths, Feature::ElfInterp];

    /// The feature's name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Feature::KernelMemory => "kernel_memory",
            Feature::Paths => "paths",
            Feature::ElfInterp => "loader",
        }
    }

    /// The feature's bit in `config.features`.
    pub fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// A feature that this kernel does not allow, and the reason.
#[derive(Clone, Debug, PartialEq)]
pub struct Unavailable {
    pub feature: Feature,
    pub why: String,
}

/// What a kernel can do, as names in its type information tell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KernelFeatures {
    /// The kernel accepts the programs for the ring buffer: it has the buffer, tracepoints with types, and a verifier that
    /// does not forget bounds (see `within` in probes/kernel.h). Since Linux 5.10.
    pub ring: bool,
    /// The current task has a type. Since Linux 5.11.
    pub typed: bool,
    /// BPF objects count against RLIMIT_MEMLOCK. Before Linux 5.11.
    pub locks_memory: bool,
    /// Programs can find the registers of the current system call from everywhere in it. Since Linux 5.15.
    pub finds_registers: bool,
    /// FMODE_BACKING of include/linux/fs.h is bit 24, not 25. Since Linux 6.14.
    pub backing_is_bit_24: bool,
}

impl KernelFeatures {
    /// The features of the newest kernels.
    pub const ALL: KernelFeatures = KernelFeatures {
        ring: true,
        typed: true,
        locks_memory: false,
        finds_registers: true,
        backing_is_bit_24: true,
    };

    /// The names that tell, in the order in which [`KernelFeatures::read`] takes them.
    pub(super) const NAMES: [&str; 7] = [
        // 457f44363a88, "bpf: Implement BPF ring buffer and verifier support for it"
        "BPF_MAP_TYPE_RINGBUF",
        // e8c423fb31fa, "bpf: Add typecast to raw_tracepoints to help BTF generation"
        "btf_trace_sys_exit",
        // 9aa1206e8f48, "bpf: Add redirect_peer helper", came right behind what made the verifier keep bounds
        // (5689d49b71ad and 75748837b7e5), which has left no name.
        "BPF_FUNC_redirect_peer",
        // 3ca1032ab7ab, "bpf: Implement get_current_task_btf and RET_PTR_TO_BTF_ID"
        "BPF_FUNC_get_current_task_btf",
        // Until 80ee81e0403c, "bpf: Eliminate rlimit-based memory accounting infra for bpf maps"
        "bpf_map_memory",
        // dd6e10fbd9fb, "bpf: Add bpf_task_pt_regs() helper"
        "BPF_FUNC_task_pt_regs",
        // ebe559609d78, "fs: get rid of __FMODE_NONOTIFY kludge". The commit behind it, a94204f4d48e, moved the
        // bit and has left no name that stayed.
        "dentry_open_nonotify",
    ];

    /// Reads the features from a kernel's BTF.
    pub fn read<R: Read + Seek>(input: &mut R) -> Result<KernelFeatures, btf::Error> {
        let known = btf::find_known(input, &KernelFeatures::NAMES)?;
        let [
            ring,
            typed_tracepoints,
            keeps_bounds,
            typed,
            locks_memory,
            finds_registers,
            nonotify,
        ] = known[..]
        else {
            unreachable!("an answer for each name");
        };
        Ok(KernelFeatures {
            ring: ring && typed_tracepoints && keeps_bounds,
            typed,
            locks_memory,
            finds_registers,
            backing_is_bit_24: nonotify,
        })
    }
}

/// How the programs and their loader treat a kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quirks {
    /// Plain loads read what the current task points to.
    pub typed: bool,
    /// The limit of locked memory has to be lifted.
    pub locks_memory: bool,
    /// FMODE_BACKING, which is a bit of `file.f_mode`.
    pub mode_backing: u32,
}

impl Quirks {
    pub fn of(features: &KernelFeatures) -> Quirks {
        Quirks {
            typed: features.typed,
            locks_memory: features.locks_memory,
            mode_backing: if features.backing_is_bit_24 {
                1 << 24
            } else {
                1 << 25
            },
        }
    }

    /// Whether snoop sees anything where lockdown=confidentiality forbids programs to read the kernel's memory. Plain loads of
    /// what has a type are allowed there.
    pub fn bears_lockdown(&self, buffer: Buffer) -> bool {
        self.typed && buffer == Buffer::Ring
    }
}

pub const LOCKED_DOWN: &str =
    "lockdown=confidentiality forbids programs to read the kernel's memory";

/// The error where snoop would see nothing.
pub fn locked_down() -> Error {
    Error::failed(format!(
        "{LOCKED_DOWN}; with the ring buffer, on Linux 5.11 or newer, snoop can run with reduced coverage"
    ))
}
