// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the programs run: the kernel's tracepoints, functions and iterators, and the programs that go on with a hook's work.

use std::fmt;

/// Which hooks see the accesses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rung {
    /// The kernel's functions that look names up. The programs are those of probes/resolver.bpf.c.
    Resolver,
    /// The end of every system call, and what the kernel does besides. The programs are those of probes/snoop.bpf.c.
    Syscall,
}

impl Rung {
    pub fn parse(name: &str) -> Option<Rung> {
        [Rung::Resolver, Rung::Syscall]
            .into_iter()
            .find(|rung| rung.name() == name)
    }

    /// The name of the rung in the report.
    pub fn name(self) -> &'static str {
        match self {
            Rung::Resolver => "resolver",
            Rung::Syscall => "syscall",
        }
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

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
    /// Only where system calls are hooked.
    OnSyscalls,
    /// For requests of io_uring, which have this tracepoint since Linux 6.4.
    ForRequests,
}

impl Hook {
    /// Whether this hook is useful only where requests of io_uring are traced.
    pub fn is_for_requests(&self) -> bool {
        self.needed == Needed::ForRequests
    }

    /// Whether this rung has the hook.
    pub fn is_on(&self, rung: Rung) -> bool {
        rung == Rung::Syscall || self.needed == Needed::Always
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
    hook!("tp_btf", "sys_exit", OnSyscalls),
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

/// A program of the resolver's rung, and the kernel's function that it runs behind.
pub struct FunctionHook {
    pub program: &'static str,
    pub(crate) function: &'static str,
}

const fn behind(program: &'static str, function: &'static str) -> FunctionHook {
    FunctionHook { program, function }
}

/// The hooks of the resolver's rung. A kernel has at least one function of each group, and the first one is hooked: functions
/// were renamed, and where the compiler has inlined one, the function around it has to do. Those that begin with `do_` have
/// their present names since Linux 7.0.
pub const RESOLVER: &[&[FunctionHook]] = &[
    &[
        behind("fexit/open", "do_filp_open"),
        behind("fexit/open", "do_file_open"),
    ],
    &[behind("fexit/lookup", "filename_lookup")],
    &[
        behind("fexit/parent", "path_parentat"),
        behind("fexit/filename_parent", "__filename_parentat"),
    ],
    &[
        behind("fexit/mkdirat", "do_mkdirat"),
        behind("fexit/mkdirat", "filename_mkdirat"),
    ],
    &[
        behind("fexit/mknodat", "do_mknodat"),
        behind("fexit/mknodat", "filename_mknodat"),
    ],
    &[
        behind("fexit/unlinkat", "do_unlinkat"),
        behind("fexit/unlinkat", "filename_unlinkat"),
    ],
    &[
        behind("fexit/rmdir", "do_rmdir"),
        behind("fexit/rmdir", "filename_rmdir"),
    ],
    &[
        behind("fexit/renameat2", "do_renameat2"),
        behind("fexit/renameat2", "filename_renameat2"),
    ],
    &[
        behind("fexit/linkat", "do_linkat"),
        behind("fexit/linkat", "filename_linkat"),
    ],
    &[
        behind("fexit/symlinkat", "do_symlinkat"),
        behind("fexit/symlinkat", "filename_symlinkat"),
    ],
    &[behind("fexit/unix_bind", "unix_bind")],
    &[behind("fexit/handle", "do_file_open_root")],
    &[behind("fexit/mapped", "security_mmap_file")],
    &[behind("fexit/mount", "path_mount")],
    &[behind("fexit/umount", "path_umount")],
    &[
        behind("fexit/move_mount", "__x64_sys_move_mount"),
        behind("fexit/move_mount", "__arm64_sys_move_mount"),
    ],
    &[
        behind("fexit/pivot_root", "__x64_sys_pivot_root"),
        behind("fexit/pivot_root", "__arm64_sys_pivot_root"),
    ],
];

/// The stages of a hook's work that follow its own program: the index of each in the map of programs.
#[derive(Clone, Copy)]
pub enum Tail {
    Dedup,
    Send,
}

/// The programs that the hooks' programs of one type go on with, and the map that holds them.
pub struct Tails {
    pub programs: &'static [(Tail, &'static str)],
    pub prog_array: &'static str,
}

macro_rules! tails {
    ($prog_array:literal: $(($tail:ident, $program:literal)),+) => {
        Tails {
            programs: &[$((Tail::$tail, $program)),+],
            prog_array: $prog_array,
        }
    };
}

const SYSCALL_TAILS: [Tails; 2] = [
    tails!("tails": (Dedup, "raw_tp/dedup"), (Send, "raw_tp/send")),
    tails!("sys_exit_tails": (Dedup, "tp_btf/sys_exit/dedup"), (Send, "tp_btf/sys_exit/send")),
];

/// The hooks of the resolver find out by themselves what is new.
const RESOLVER_TAILS: [Tails; 4] = [
    tails!("open_tails": (Send, "fexit/open/send")),
    tails!("lookup_tails": (Send, "fexit/lookup/send")),
    tails!("parent_tails": (Send, "fexit/parent/send")),
    tails!("filename_parent_tails": (Send, "fexit/filename_parent/send")),
];

/// The tails that the programs of a rung for this buffer have. The perf buffer's programs have no BTF raw tracepoint.
pub fn tails(rung: Rung, buffer: Buffer) -> &'static [Tails] {
    match (rung, buffer) {
        (Rung::Resolver, _) => &RESOLVER_TAILS,
        (Rung::Syscall, Buffer::Ring) => &SYSCALL_TAILS,
        (Rung::Syscall, Buffer::Perf) => &SYSCALL_TAILS[..1],
    }
}

/// Returns the hook that a program belongs to: its own name, less that of a stage.
pub fn hook_of(program: &str) -> &str {
    let stage = program
        .rsplit_once('/')
        .filter(|(hook, _)| hook.contains('/'));
    stage.map_or(program, |(hook, _)| hook)
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
