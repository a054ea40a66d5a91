//! Which of the kernel's structures the programs read, by name: the counterpart of
//! `probes/kernel.h`. Where a member was renamed, its names stand side by side; an optional one is
//! read only by kernels that have it.

use crate::bpf::btf::{self, Member};
use crate::bpf::syscalls;
use crate::bpf::wire::{ARG_NONE, OFFSET_NONE, Offsets, REQUESTS, Request};
use crate::error::Error;
use std::fmt;
use std::io::{Read, Seek};

/// How records come from the programs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Buffer {
    Ring,
    /// A buffer for each CPU, filled by programs that do with what Linux 5.4 has: see SNOOP_LEGACY in
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

/// A tracepoint of the kernel where a program of ours runs.
pub struct Hook {
    /// The program that is attached, by its section: the type of the program and the tracepoint's name.
    program: &'static str,
    legacy_program: &'static str,
    /// The type the kernel gives to the tracepoint's function (`btf_trace_NAME`, Linux 5.5).
    btf_type: &'static str,
    needed: Needed,
}

#[derive(Clone, Copy, PartialEq)]
enum Needed {
    Always,
    /// For requests of io_uring, which can be traced since Linux 6.4.
    ForRequests,
}

impl Hook {
    /// Is it of use only where requests of io_uring are traced?
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

/// The name to attach a plain raw tracepoint's program by; one with types knows where it belongs.
pub fn raw_tracepoint(program: &str) -> Option<&str> {
    program.strip_prefix("raw_tp/")
}

/// Programs that hooks' ones go on with, and the table that holds them: enum tail of probes/wire.h.
pub struct Tails {
    pub programs: [&'static str; 2],
    pub table: &'static str,
}

const TAILS: [Tails; 2] = [
    Tails {
        programs: ["raw_tp/dedup", "raw_tp/send"],
        table: "tails",
    },
    Tails {
        programs: ["tp_btf/sys_exit/dedup", "tp_btf/sys_exit/send"],
        table: "sys_exit_tails",
    },
];

pub fn tails(buffer: Buffer) -> &'static [Tails] {
    match buffer {
        Buffer::Ring => &TAILS,
        Buffer::Perf => &TAILS[..1],
    }
}

/// A kind of request of io_uring that takes a path: the syscall that does the same, the structure that begins
/// the request, and the members of it that hold each path and the directory it is relative to.
struct RequestKind {
    opcode: usize,
    like: &'static str,
    structure: &'static str,
    paths: &'static [&'static str],
    dirs: &'static [&'static str],
}

const fn kind(
    opcode: usize,
    like: &'static str,
    structure: &'static str,
    paths: &'static [&'static str],
    dirs: &'static [&'static str],
) -> RequestKind {
    RequestKind {
        opcode,
        like,
        structure,
        paths,
        dirs,
    }
}

/// enum io_uring_op of linux/io_uring.h.
const REQUEST_KINDS: [RequestKind; 10] = [
    kind(18, "openat", "io_open", &["filename"], &["dfd"]),
    kind(21, "statx", "io_statx", &["filename"], &["dfd"]),
    kind(28, "openat2", "io_open", &["filename"], &["dfd"]),
    kind(
        35,
        "renameat2",
        "io_rename",
        &["oldpath", "newpath"],
        &["old_dfd", "new_dfd"],
    ),
    kind(36, "unlinkat", "io_unlink", &["filename"], &["dfd"]),
    kind(37, "mkdirat", "io_mkdir", &["filename"], &["dfd"]),
    kind(38, "symlinkat", "io_link", &["newpath"], &["new_dfd"]),
    kind(
        39,
        "linkat",
        "io_link",
        &["oldpath", "newpath"],
        &["old_dfd", "new_dfd"],
    ),
    kind(42, "setxattr", "io_xattr", &["filename"], &[]),
    kind(44, "getxattr", "io_xattr", &["filename"], &[]),
];

impl RequestKind {
    fn members(&self) -> impl Iterator<Item = Member> {
        let names = self.paths.iter().chain(self.dirs);
        names.map(|name| Member {
            structure: self.structure,
            names: std::slice::from_ref(name),
        })
    }
}

/// The table of requests, if the kernel has all that they consist of.
fn requests(found: &[Option<u32>]) -> Option<[Request; REQUESTS]> {
    let mut table = [Request::default(); REQUESTS];
    let mut next = found.iter().map(|offset| u8::try_from((*offset)?).ok());
    for kind in &REQUEST_KINDS {
        let request = &mut table[kind.opcode];
        (request.path, request.dir) = ([ARG_NONE; 2], [ARG_NONE; 2]);
        request.id = syscalls::id_of(kind.like)?;
        let paths = request.path.iter_mut().take(kind.paths.len());
        for slot in paths.chain(request.dir.iter_mut().take(kind.dirs.len())) {
            *slot = next.next()??;
        }
    }
    Some(table)
}

/// A program that user space runs once, on each of some things that the kernel has.
pub struct BpfIter {
    pub program: &'static str,
    /// The kernel's function that it belongs to.
    function: &'static str,
    /// Stands in for the one before it, as well as it can, where the kernel does not have that.
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

/// A part of the work that may be left out where something is missing. The report then says so.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Feature {
    /// Reading the kernel's memory: without it only absolute names are known, and not what is executed.
    KernelMemory,
    /// Names of directories and files: without them relative names and real paths are not known.
    Paths,
    /// The loader of new programs.
    ElfInterp,
}

impl Feature {
    pub const ALL: [Feature; 3] = [Feature::KernelMemory, Feature::Paths, Feature::ElfInterp];

    /// What a field of the table below is needed for, if it can be done without; `optional` ones are not needed.
    fn of(label: &str) -> Option<Feature> {
        match label {
            "paths" => Some(Feature::Paths),
            "loader" => Some(Feature::ElfInterp),
            _ => None,
        }
    }

    /// As the report calls it.
    pub fn name(self) -> &'static str {
        match self {
            Feature::KernelMemory => "kernel_memory",
            Feature::Paths => "paths",
            Feature::ElfInterp => "loader",
        }
    }

    /// The bit in `config.able`.
    pub fn bit(self) -> u32 {
        1 << self as u32
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Unavailable {
    pub feature: Feature,
    pub why: String,
}

macro_rules! offsets {
    ($($field:ident $([$index:literal])? $(: $part:ident)? =
        $($structure:ident . $($name:ident)|+),+;)*) => {
        const MEMBERS: &[Member] = &[$($(
            Member { structure: stringify!($structure), names: &[$(stringify!($name)),+] },
        )+)*];

        /// Adds up the members of each field; names the first one that is missing and cannot be done without, and
        /// those that parts of the work need.
        fn assemble(found: &[Option<u32>]) -> Result<(Offsets, Vec<Unavailable>), String> {
            let mut lost = Vec::new();
            let mut offsets = Offsets::default();
            let mut next = MEMBERS.iter().zip(found);
            $(
                let members = [$(stringify!($structure)),+].len();
                let label: &[&str] = &[$(stringify!($part))?];
                offsets.$field $([$index])? = add_up(next.by_ref().take(members), label, &mut lost)?;
            )*
            Ok((offsets, lost))
        }
    };
}

/// The offset of a field of the table from those of its members. Out of line, because there are many fields.
#[inline(never)]
fn add_up<'a>(
    members: impl Iterator<Item = (&'a Member, &'a Option<u32>)>,
    label: &[&str],
    lost: &mut Vec<Unavailable>,
) -> Result<u32, String> {
    let (mut sum, mut missing) = (0, None);
    for (member, offset) in members {
        sum += offset.unwrap_or(0);
        missing = missing.or(offset.is_none().then_some(member));
    }
    let Some(missing) = missing else {
        return Ok(sum);
    };
    let name = format!("{}.{}", missing.structure, missing.names.join("|"));
    let [label] = label else {
        return Err(name);
    };
    lost.extend(Feature::of(label).map(|feature| Unavailable {
        feature,
        why: format!("it has no {name}"),
    }));
    Ok(OFFSET_NONE)
}

/// What differs between architectures comes first.
macro_rules! offsets_with {
    ($($common:tt)*) => {
        #[cfg(target_arch = "x86_64")]
        offsets! {
            regs_nr = pt_regs.orig_ax;
            regs_arg[0] = pt_regs.di;
            regs_arg[1] = pt_regs.si;
            regs_arg[2] = pt_regs.dx;
            regs_arg[3] = pt_regs.r10;
            regs_arg[4] = pt_regs.r8;
            regs_arg[5] = pt_regs.r9;
            regs_arg32[0] = pt_regs.bx;
            regs_arg32[1] = pt_regs.cx;
            regs_arg32[2] = pt_regs.dx;
            regs_arg32[3] = pt_regs.si;
            regs_arg32[4] = pt_regs.di;
            regs_arg32[5] = pt_regs.bp;
            task_status = task_struct.thread_info, thread_info.status;
            $($common)*
        }
        #[cfg(target_arch = "aarch64")]
        offsets! {
            regs_nr = pt_regs.syscallno;
            regs_arg[0] = pt_regs.orig_x0; // the first register has the result by then
            regs_arg[1] = pt_regs.regs;
            regs_arg[2] = pt_regs.regs;
            regs_arg[3] = pt_regs.regs;
            regs_arg[4] = pt_regs.regs;
            regs_arg[5] = pt_regs.regs;
            task_status = task_struct.thread_info, thread_info.flags;
            $($common)*
        }
    };
}

offsets_with! {
    task_fs = task_struct.fs;
    task_files: paths = task_struct.files;
    task_mm = task_struct.mm;
    task_nsproxy: paths = task_struct.nsproxy;
    task_cgroups = task_struct.cgroups;
    task_parent = task_struct.real_parent;
    task_tgid = task_struct.tgid;
    task_leader = task_struct.group_leader;
    task_start = task_struct.start_time;
    fs_root = fs_struct.root;
    fs_pwd = fs_struct.pwd;
    path_mnt: paths = path.mnt;
    path_dentry: paths = path.dentry;
    dentry_parent: paths = dentry.d_parent;
    dentry_name: paths = dentry.d_name;
    dentry_inode: paths = dentry.d_inode;
    dentry_sb: paths = dentry.d_sb;
    dentry_hash: paths = dentry.d_hash;
    qstr_hash_len: paths = qstr.hash_len;
    qstr_name: paths = qstr.name;
    vfsmount_root: paths = vfsmount.mnt_root;
    mount_mnt: paths = mount.mnt;
    mount_parent: paths = mount.mnt_parent;
    mount_mountpoint: paths = mount.mnt_mountpoint;
    mount_ns: paths = mount.mnt_ns;
    nsproxy_mnt_ns: paths = nsproxy.mnt_ns;
    files_fdt: paths = files_struct.fdt;
    fdt_fd: paths = fdtable.fd;
    fdt_max_fds: paths = fdtable.max_fds;
    file_path: paths = file.f_path;
    file_mode: paths = file.f_mode;
    backing_path: optional = backing_file.user_path; // since Linux 6.6
    inode_mode: paths = inode.i_mode;
    sb_magic: paths = super_block.s_magic;
    sb_type: paths = super_block.s_type;
    fs_type_name: paths = file_system_type.name;
    mm_exe_file: paths = mm_struct.exe_file;
    mm_saved_auxv: loader = mm_struct.saved_auxv;
    mm_mt: optional = mm_struct.mm_mt; // since Linux 6.1
    mm_mmap: optional = mm_struct.mmap; // before
    vma_file: loader = vm_area_struct.vm_file;
    vma_end: loader = vm_area_struct.vm_end;
    vma_next: optional = vm_area_struct.vm_next;
    maple_root: optional = maple_tree.ma_root;
    maple_pivots: optional = maple_range_64.pivot;
    maple_slots: optional = maple_range_64.slot;
    maple_apivots: optional = maple_arange_64.pivot;
    maple_aslots: optional = maple_arange_64.slot;
    bprm_filename = linux_binprm.filename;
    bprm_interp = linux_binprm.interp;
    task_cg_list: optional = task_struct.cg_list;
    css_set_tasks: optional = css_set.tasks;
    cgroup_self: optional = cgroup.self;
    css_parent: optional = cgroup_subsys_state.parent;
    css_children: optional = cgroup_subsys_state.children;
    css_sibling: optional = cgroup_subsys_state.sibling;
    cgroup_cset_links: optional = cgroup.cset_links;
    cset_link_node: optional = cgrp_cset_link.cset_link;
    cset_link_cset: optional = cgrp_cset_link.cset;
    cgroup_csets: optional = cgroup.nr_populated_csets;
    cgroup_domains: optional = cgroup.nr_populated_domain_children;
    css_set_dfl_cgrp = css_set.dfl_cgrp;
    cgroup_kn = cgroup.kn;
    kernfs_id = kernfs_node.id;
    kernfs_parent = kernfs_node.parent | __parent; // __parent since Linux 6.15
    kernfs_name = kernfs_node.name;
    filename_name = filename.name;
    request_opcode: optional = io_kiocb.opcode;
    request_result: optional = io_kiocb.cqe, io_cqe.res; // since Linux 6.0
}

/// What a kernel can do, told by names in its type information. Its version does not tell: distributions bring newer BPF
/// to older kernels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KernelFeatures {
    /// It takes the programs for the ring buffer: has the buffer, tracepoints with types, and a verifier that does
    /// not forget bounds (see `within` in probes/kernel.h). Linux 5.10.
    pub ring: bool,
    /// Pointers of the current task carry types. Linux 5.11.
    pub typed: bool,
    /// BPF objects count against RLIMIT_MEMLOCK. Before Linux 5.11.
    pub locks_memory: bool,
    /// FMODE_BACKING of include/linux/fs.h is bit 24, not 25. Linux 6.14.
    pub backing_is_bit_24: bool,
}

impl KernelFeatures {
    /// Of the newest kernels.
    pub const ALL: KernelFeatures = KernelFeatures {
        ring: true,
        typed: true,
        locks_memory: false,
        backing_is_bit_24: true,
    };

    pub fn read<R: Read + Seek>(input: &mut R) -> Result<KernelFeatures, btf::Error> {
        let names = [
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
            // ebe559609d78, "fs: get rid of __FMODE_NONOTIFY kludge". The commit behind it, a94204f4d48e, moved the
            // bit and has left no name that stayed.
            "dentry_open_nonotify",
        ];
        let known = btf::find_known(input, &names)?;
        let [
            ring,
            typed_tracepoints,
            keeps_bounds,
            typed,
            locks_memory,
            nonotify,
        ] = known[..]
        else {
            unreachable!("an answer for each name");
        };
        Ok(KernelFeatures {
            ring: ring && typed_tracepoints && keeps_bounds,
            typed,
            locks_memory,
            backing_is_bit_24: nonotify,
        })
    }
}

/// How to treat a kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quirks {
    /// Read what hangs off the current task by plain loads.
    pub typed: bool,
    /// Lift the limit of locked memory.
    pub locks_memory: bool,
    /// FMODE_BACKING, a bit of `file.f_mode`.
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

    /// Is anything left to see where lockdown=confidentiality forbids programs to read the kernel's memory? Plain loads of what has a
    /// type are allowed all the same.
    pub fn bears_lockdown(&self, buffer: Buffer) -> bool {
        self.typed && buffer == Buffer::Ring
    }
}

pub const LOCKED_DOWN: &str =
    "lockdown=confidentiality forbids programs to read the kernel's memory";

/// Where nothing is left to see.
pub fn locked_down() -> Error {
    Error::failed(format!(
        "{LOCKED_DOWN}; with the ring buffer, on Linux 5.11 or newer, snoop can do with less"
    ))
}

/// What the programs need to know of a kernel.
#[derive(Debug)]
pub struct Layout {
    pub offsets: Offsets,
    /// BTF id of each of [`HOOKS`]; none for those that are not to be attached.
    pub hook_ids: [Option<u32>; HOOKS.len()],
    /// How to read requests of io_uring, where they can be traced.
    pub requests: Option<[Request; REQUESTS]>,
    /// And of each of [`ITERATORS`] that the kernel has.
    pub iterator_ids: [Option<u32>; ITERATORS.len()],
    /// What cannot be done.
    pub lost: Vec<Unavailable>,
}

/// Reads a kernel's layout from its BTF; the error says what is missing.
pub fn layout<R: Read + Seek>(input: &mut R, buffer: Buffer) -> Result<Layout, String> {
    let mut types = HOOKS.map(|hook| hook.btf_type).to_vec();
    types.extend(ITERATORS.map(|iterator| iterator.function));
    let mut members = MEMBERS.to_vec();
    members.extend(REQUEST_KINDS.iter().flat_map(RequestKind::members));
    let found = btf::find(input, &members, &types)
        .map_err(|e| format!("its type information cannot be used: {e}"))?;
    let (offsets, of_requests) = found.members.split_at(MEMBERS.len());
    let (mut offsets, mut lost) =
        assemble(offsets).map_err(|member| format!("it has no {member}"))?;
    if cfg!(target_arch = "aarch64") {
        // Registers in a row; 32-bit programs use the same ones.
        for (i, offset) in (0..).zip(&mut offsets.regs_arg).skip(1) {
            *offset += 8 * i;
        }
        offsets.regs_arg32 = offsets.regs_arg;
    }
    let (hooks, iterators) = found.types.split_at(HOOKS.len());
    let has_hooks = HOOKS
        .iter()
        .zip(hooks)
        .all(|(hook, id)| hook.needed == Needed::Always || id.is_some());
    let has_result = offsets.request_result != OFFSET_NONE;
    let requests = requests(of_requests).filter(|_| has_hooks && has_result);
    let mut hook_ids = [None; HOOKS.len()];
    for ((id, found), hook) in hook_ids.iter_mut().zip(hooks).zip(HOOKS) {
        *id = match hook.needed {
            // Plain raw tracepoints are attached by name, and are older than these types.
            Needed::Always if buffer == Buffer::Perf => Some(found.unwrap_or(0)),
            Needed::Always => Some(found.ok_or_else(|| format!("it has no {}", hook.btf_type))?),
            Needed::ForRequests => found.filter(|_| requests.is_some()),
        };
    }
    let iterator_ids = std::array::from_fn(|i| iterators[i]);
    let o = &mut offsets;
    let of_list = [
        o.css_set_tasks,
        o.cgroup_self,
        o.css_parent,
        o.css_children,
        o.css_sibling,
        o.cgroup_cset_links,
        o.cset_link_node,
        o.cset_link_cset,
        o.cgroup_csets,
        o.cgroup_domains,
    ];
    if of_list.contains(&OFFSET_NONE) {
        o.task_cg_list = OFFSET_NONE;
    }
    // Some functions of probes/kernel.h read neighbours at once.
    let o = &offsets;
    let apart = [
        (
            (o.dentry_name, o.qstr_hash_len, o.qstr_name)
                != (o.dentry_parent.wrapping_add(8), 0, 8),
            "its dentry.d_name does not follow d_parent",
        ),
        (
            (o.path_mnt, o.path_dentry) != (0, 8),
            "its path.dentry does not follow mnt",
        ),
        (
            (o.mount_mountpoint, o.mount_mnt, o.vfsmount_root)
                != (
                    o.mount_parent.wrapping_add(8),
                    o.mount_parent.wrapping_add(16),
                    0,
                ),
            "its mount.mnt does not follow mnt_parent and mnt_mountpoint",
        ),
    ];
    if lost.iter().all(|lost| lost.feature != Feature::Paths) {
        let apart = apart.iter().filter(|(is_apart, _)| *is_apart);
        lost.extend(apart.map(|(_, why)| Unavailable {
            feature: Feature::Paths,
            why: why.to_string(),
        }));
    }
    Ok(Layout {
        offsets,
        hook_ids,
        requests,
        iterator_ids,
        lost,
    })
}
