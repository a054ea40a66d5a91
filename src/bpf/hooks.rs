// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the programs run: the kernel's tracepoints and iterators, and the programs that go on with a hook's work.

use crate::bpf::wire::TAILS;
use std::fmt;

/// How records come from the programs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Buffer {
    Ring,
    /// A buffer for each CPU. The programs that fill it use only what Linux 5.4 has; they are compiled with SNOOP_LEGACY of
    /// probes/kernel.h.
    Perf,
}

impl Buffer {
    pub fn parse(name: &str) -> Option<Buffer> {
        match name {
            "ring" => Some(Buffer::Ring),
            "perf" => Some(Buffer::Perf),
            _ => None,
        }
    }
}

impl fmt::Display for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Buffer::Ring => "ring buffer",
            Buffer::Perf => "perf buffers",
        })
    }
}

/// A tracepoint of the kernel at which one of the programs runs.
pub struct Hook {
    /// The section of the program that is attached: the type of the program and the name of the tracepoint.
    program: &'static str,
    legacy_program: &'static str,
    /// The type the kernel gives to the tracepoint's function (`btf_trace_NAME`, Linux 5.5).
    pub(crate) btf_type: &'static str,
    needed: Needed,
}

#[derive(Clone, Copy, PartialEq)]
enum Needed {
    Always,
    /// For requests of io_uring, which have this tracepoint since Linux 6.4.
    ForRequests,
}

impl Hook {
    /// Whether this hook is useful only where requests of io_uring are traced.
    pub fn is_for_requests(&self) -> bool {
        self.needed == Needed::ForRequests
    }

    pub fn program(&self, buffer: Buffer) -> &'static str {
        match buffer {
            Buffer::Ring => self.program,
            Buffer::Perf => self.legacy_program,
        }
    }
}

macro_rules! hook {
    ($kind:literal, $name:literal, $needed:ident) => {
        Hook {
            program: concat!($kind, "/", $name),
            legacy_program: concat!("raw_tp/", $name),
            btf_type: concat!("btf_trace_", $name),
            needed: Needed::$needed,
        }
    };
}

pub const HOOKS: [Hook; 6] = [
    hook!("tp_btf", "sys_exit", Always),
    hook!("raw_tp", "sched_process_exec", Always),
    hook!("raw_tp", "cgroup_mkdir", Always),
    hook!("raw_tp", "cgroup_rmdir", Always),
    hook!("raw_tp", "io_uring_submit_req", ForRequests),
    hook!("raw_tp", "io_uring_complete", ForRequests),
];

/// The name of the tracepoint that a program is attached to by name. A BTF raw tracepoint's program has none: it knows its
/// tracepoint.
pub fn raw_tracepoint(program: &str) -> Option<&str> {
    program.strip_prefix("raw_tp/")
}

/// The programs that the hooks' programs of one type go on with, and the map that holds them. They are in the order of `enum
/// tail` in probes/wire.h.
pub struct Tails {
    pub programs: [&'static str; TAILS],
    pub prog_array: &'static str,
}

const ALL_TAILS: [Tails; 2] = [
    Tails {
        programs: ["raw_tp/dedup", "raw_tp/send"],
        prog_array: "tails",
    },
    Tails {
        programs: ["tp_btf/sys_exit/dedup", "tp_btf/sys_exit/send"],
        prog_array: "sys_exit_tails",
    },
];

/// The tails that the programs for this buffer have. The perf buffer's programs have no BTF raw tracepoint.
pub fn tails(buffer: Buffer) -> &'static [Tails] {
    match buffer {
        Buffer::Ring => &ALL_TAILS,
        Buffer::Perf => &ALL_TAILS[..1],
    }
}

/// A program that user space runs once, for each object of a kind that the kernel iterates over.
pub struct BpfIter {
    pub program: &'static str,
    /// The kernel's function that the iterator belongs to.
    pub(crate) function: &'static str,
    /// Whether this iterator is run only where the kernel lacks the one before it, in whose place it finds less.
    pub stands_in: bool,
}

const fn iterator(program: &'static str, function: &'static str, stands_in: bool) -> BpfIter {
    BpfIter {
        program,
        function,
        stands_in,
    }
}

pub const ITERATORS: [BpfIter; 3] = [
    iterator("iter/task_vma", "bpf_iter_task_vma", false),
    iterator("iter/task", "bpf_iter_task", true),
    iterator("iter/task_file", "bpf_iter_task_file", false),
];
