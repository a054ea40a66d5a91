// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the programs need to know about the running kernel, read from its BTF.

use crate::bpf::btf::{self, Member};
use crate::bpf::features::{Feature, Unavailable};
use crate::bpf::hooks::{Buffer, FunctionHook, HOOKS, ITERATORS, RESOLVER};
use crate::bpf::offsets::{self, MEMBERS, OFFSET_NONE, Offsets};
use crate::bpf::syscalls;
use crate::bpf::wire::{ARG_NONE, REQUESTS, Request};
use std::io::{Read, Seek};

/// A kind of io_uring request that takes a path: the syscall that does the same, the structure at the beginning of the
/// request, and its members that hold each path and the descriptor of the directory that the path is relative to.
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

/// The opcodes are enum io_uring_op of linux/io_uring.h.
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
    /// Returns the member that holds a struct open_how, if the request has one.
    fn how(&self) -> &'static [&'static str] {
        match self.structure {
            "io_open" => &["how"],
            _ => &[],
        }
    }

    fn members(&self) -> impl Iterator<Item = Member> {
        let names = self.paths.iter().chain(self.dirs).chain(self.how());
        names.map(|name| Member {
            structure: self.structure,
            names: std::slice::from_ref(name),
        })
    }
}

/// The table of requests; none if the kernel lacks any of their members.
fn requests(found: &[Option<u32>]) -> Option<[Request; REQUESTS]> {
    let mut table = [Request::default(); REQUESTS];
    let mut next = found.iter().map(|offset| u8::try_from((*offset)?).ok());
    for kind in &REQUEST_KINDS {
        let request = &mut table[kind.opcode];
        (request.path, request.dir) = ([ARG_NONE; 2], [ARG_NONE; 2]);
        request.id = syscalls::id_of(kind.like)?;
        request.kind = syscalls::request_kind(request.id);
        let paths = request.path.iter_mut().take(kind.paths.len());
        let dirs = request.dir.iter_mut().take(kind.dirs.len());
        let how = std::iter::once(&mut request.how).take(kind.how().len());
        for slot in paths.chain(dirs).chain(how) {
            *slot = next.next()??;
        }
    }
    Some(table)
}

/// What the programs need to know about a kernel.
#[derive(Debug)]
pub struct Layout {
    pub offsets: Offsets,
    /// The BTF id of each of [`HOOKS`]; none for a hook that is not to be attached.
    pub hook_ids: [Option<u32>; HOOKS.len()],
    /// How to read requests of io_uring, where they can be traced.
    pub requests: Option<[Request; REQUESTS]>,
    /// The programs of the resolver's rung, with the BTF ids of the functions that they run behind; or what is missing.
    pub resolver: Result<Vec<(&'static str, u32)>, String>,
    /// The BTF id of each of [`ITERATORS`] that the kernel has.
    pub iterator_ids: [Option<u32>; ITERATORS.len()],
    /// The BTF id of the function by which programs read any address with plain loads, if the kernel has it.
    pub rdonly_cast: Option<u32>,
    /// What the programs cannot do on this kernel.
    pub lost: Vec<Unavailable>,
}

/// Reads a kernel's layout from its BTF. The error says what is missing.
pub fn layout<R: Read + Seek>(input: &mut R, buffer: Buffer) -> Result<Layout, String> {
    let found = btf::find(input, &members(), &type_names())
        .map_err(|e| format!("its type information cannot be used: {e}"))?;
    let (of_offsets, of_requests) = found.members.split_at(MEMBERS.len());
    let (hooks, others) = found.types.split_at(HOOKS.len());
    let (iterators, functions) = others.split_at(ITERATORS.len());

    let (mut offsets, mut lost) =
        offsets::assemble(of_offsets).map_err(|member| format!("it has no {member}"))?;
    offsets.spread();
    if cannot_list(&offsets) {
        offsets.task_cg_list = OFFSET_NONE;
    }
    if lost.iter().all(|lost| lost.feature != Feature::Paths) {
        lost.extend(apart(&offsets).map(|why| Unavailable {
            feature: Feature::Paths,
            why: why.to_string(),
        }));
    }
    let has_hooks = HOOKS
        .iter()
        .zip(hooks)
        .all(|(hook, id)| !hook.is_for_requests() || id.is_some());
    let has_result = offsets.request_result != OFFSET_NONE;
    let requests = requests(of_requests).filter(|_| has_hooks && has_result);
    Ok(Layout {
        offsets,
        hook_ids: hook_ids(hooks, buffer, requests.is_some())?,
        requests,
        resolver: resolver(functions, &offsets, &lost),
        iterator_ids: std::array::from_fn(|i| iterators[i]),
        rdonly_cast: *found.types.last().expect("an answer for each type"),
        lost,
    })
}

/// Since Linux 6.2: a35b9af4ec2c, "bpf: Add a kfunc for generic type cast".
const RDONLY_CAST: &str = "bpf_rdonly_cast";

/// The types that [`layout`] asks for: those of the hooks, of the iterators, of the resolver's functions, and of the cast.
pub(super) fn type_names() -> Vec<&'static str> {
    let hooks = HOOKS.iter().map(|hook| hook.btf_type);
    let iterators = ITERATORS.iter().map(|iterator| iterator.function);
    let functions = functions().map(|hook| hook.function);
    let all = hooks.chain(iterators).chain(functions);
    all.chain([RDONLY_CAST]).collect()
}

fn functions() -> impl Iterator<Item = &'static FunctionHook> {
    RESOLVER.iter().flat_map(|group| *group)
}

/// Chooses the function of each group that is to be hooked. The error says what the kernel lacks.
fn resolver(
    found: &[Option<u32>],
    offsets: &Offsets,
    lost: &[Unavailable],
) -> Result<Vec<(&'static str, u32)>, String> {
    if let Some(lost) = lost.iter().find(|lost| lost.feature == Feature::Paths) {
        return Err(format!("this kernel cannot be read: {}", lost.why));
    }
    let members = [
        (offsets.open_flag, "open_flags.open_flag"),
        (offsets.lookup_flags, "open_flags.lookup_flags"),
        (offsets.nameidata_name, "nameidata.name"),
        (offsets.nameidata_dfd, "nameidata.dfd"),
    ];
    if let Some((_, name)) = members.iter().find(|(offset, _)| *offset == OFFSET_NONE) {
        return Err(format!("this kernel has no {name}"));
    }
    let mut found = found.iter();
    let mut chosen = Vec::new();
    for group in RESOLVER {
        // Each group takes as many answers as it has names.
        let ids: Vec<_> = found.by_ref().take(group.len()).collect();
        let hook = group
            .iter()
            .zip(ids)
            .find_map(|(hook, id)| Some((hook.program, (*id)?)));
        let names: Vec<_> = group.iter().map(|hook| hook.function).collect();
        chosen.push(
            hook.ok_or_else(|| format!("this kernel has no function {}", names.join(" or ")))?,
        );
    }
    Ok(chosen)
}

/// The members that [`layout`] asks for: those of the offsets, then those of the requests.
pub(super) fn members() -> Vec<Member> {
    let mut members = MEMBERS.to_vec();
    members.extend(REQUEST_KINDS.iter().flat_map(RequestKind::members));
    members
}

/// The BTF id of each hook that is to be attached.
fn hook_ids(
    found: &[Option<u32>],
    buffer: Buffer,
    traces_requests: bool,
) -> Result<[Option<u32>; HOOKS.len()], String> {
    let mut ids = [None; HOOKS.len()];
    for ((id, found), hook) in ids.iter_mut().zip(found).zip(HOOKS) {
        *id = match (hook.is_for_requests(), buffer) {
            (true, _) => found.filter(|_| traces_requests),
            // Plain raw tracepoints are attached by name, and are older than these types.
            (false, Buffer::Perf) => Some(found.unwrap_or(0)),
            (false, Buffer::Ring) => {
                Some(found.ok_or_else(|| format!("it has no {}", hook.btf_type))?)
            }
        };
    }
    Ok(ids)
}

/// Whether the kernel lacks a member that list_children() of probes/list.h reads.
fn cannot_list(o: &Offsets) -> bool {
    [
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
    ]
    .contains(&OFFSET_NONE)
}

/// Which members are not next to each other that functions of probes/kernel.h read at once.
fn apart(o: &Offsets) -> impl Iterator<Item = &'static str> {
    let dentry = (o.dentry_name, o.qstr_hash_len, o.qstr_name);
    let mount = (o.mount_mountpoint, o.mount_mnt, o.vfsmount_root);
    let parent = o.mount_parent;
    [
        (
            dentry != (o.dentry_parent.wrapping_add(8), 0, 8),
            "its dentry.d_name does not follow d_parent",
        ),
        (
            (o.path_mnt, o.path_dentry) != (0, 8),
            "its path.dentry does not follow mnt",
        ),
        (
            mount != (parent.wrapping_add(8), parent.wrapping_add(16), 0),
            "its mount.mnt does not follow mnt_parent and mnt_mountpoint",
        ),
    ]
    .into_iter()
    .filter_map(|(is_apart, why)| is_apart.then_some(why))
}
