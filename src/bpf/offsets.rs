// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which members of the kernel's structures the programs read, and where each kernel has them.
//!
//! The table at the end of this file is the one list of them: it makes [`Offsets`], which mirrors `struct offsets` of
//! probes/wire.h. Where a member was renamed, its names stand side by side.

use crate::bpf::btf::Member;
use crate::bpf::features::{Feature, Unavailable};
use std::mem::offset_of;

/// The offset of a member that the kernel does not have.
pub const OFFSET_NONE: u32 = u32::MAX;

/// How many arguments a system call has at most.
const ARGUMENTS: usize = 6;

/// Makes the structure, and the code that fills it. The arrays hold one member for each argument of a system call. Every other
/// field is the sum of the offsets of its members, of which each is in the type of the one before. A label says what a
/// field is needed for; without a label snoop needs it in any case.
macro_rules! offsets {
    (
        { $($array:ident = $($array_structure:ident . $array_name:ident),+;)* }
        $($field:ident $(: $label:ident)? = $($structure:ident . $($name:ident)|+),+;)*
    ) => {
        /// The offsets of members of the kernel's structures, in bytes.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq)]
        pub struct Offsets {
            $(pub $array: [u32; ARGUMENTS],)*
            $(pub $field: u32,)*
        }

        impl Offsets {
            /// Each field's name, and where it is in the structure.
            pub const FIELDS: &[(&str, usize)] = &[
                $((stringify!($array), offset_of!(Offsets, $array)),)*
                $((stringify!($field), offset_of!(Offsets, $field)),)*
            ];

            /// Each field's name and its value; an array has one entry for each element.
            pub fn values(&self) -> Vec<(&'static str, u32)> {
                let mut values = Vec::new();
                $(values.extend(self.$array.map(|value| (stringify!($array), value)));)*
                $(values.push((stringify!($field), self.$field));)*
                values
            }
        }

        /// The members that the fields consist of, in the order of the fields.
        pub(crate) const MEMBERS: &[Member] = &[
            $($(Member { structure: stringify!($array_structure), names: &[stringify!($array_name)] },)+)*
            $($(Member { structure: stringify!($structure), names: &[$(stringify!($name)),+] },)+)*
        ];

        $(const _: () = assert!([$(stringify!($array_name)),+].len() == ARGUMENTS);)*

        /// Makes the offsets of those of [`MEMBERS`]. Also returns the features that lack a member. The error names a
        /// missing member that snoop needs in any case.
        pub(crate) fn assemble(found: &[Option<u32>]) -> Result<(Offsets, Vec<Unavailable>), String> {
            let mut unavailable = Vec::new();
            let mut offsets = Offsets::default();
            let mut next = MEMBERS.iter().zip(found);
            $(
                for offset in &mut offsets.$array {
                    *offset = add_up(next.by_ref().take(1), &[], &mut unavailable)?;
                }
            )*
            $(
                let members = [$(stringify!($structure)),+].len();
                let label: &[&str] = &[$(stringify!($label))?];
                offsets.$field = add_up(next.by_ref().take(members), label, &mut unavailable)?;
            )*
            Ok((offsets, unavailable))
        }
    };
}

/// What a label of the table means. A member with the label `optional` is read only by kernels that have it.
fn needed_for(label: &str) -> Option<Feature> {
    match label {
        "paths" => Some(Feature::Paths),
        "elf_interp" => Some(Feature::ElfInterp),
        _ => None,
    }
}

/// The offset of a field from those of its members. It is not inlined, because there are many fields.
#[inline(never)]
fn add_up<'a>(
    members: impl Iterator<Item = (&'a Member, &'a Option<u32>)>,
    label: &[&str],
    unavailable: &mut Vec<Unavailable>,
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
    unavailable.extend(needed_for(label).map(|feature| Unavailable {
        feature,
        why: format!("it has no {name}"),
    }));
    Ok(OFFSET_NONE)
}

/// Puts what differs between architectures first.
macro_rules! offsets_with {
    ($($common:tt)*) => {
        #[cfg(target_arch = "x86_64")]
        offsets! {
            {
                regs_arg = pt_regs.di, pt_regs.si, pt_regs.dx, pt_regs.r10, pt_regs.r8, pt_regs.r9;
                regs_arg32 = pt_regs.bx, pt_regs.cx, pt_regs.dx, pt_regs.si, pt_regs.di, pt_regs.bp;
            }
            regs_nr = pt_regs.orig_ax;
            task_status = task_struct.thread_info, thread_info.status;
            $($common)*
        }
        // The first register holds the result by then. The others are elements of an array; see [`Offsets::spread`].
        #[cfg(target_arch = "aarch64")]
        offsets! {
            {
                regs_arg = pt_regs.orig_x0, pt_regs.regs, pt_regs.regs, pt_regs.regs, pt_regs.regs, pt_regs.regs;
                regs_arg32 = pt_regs.orig_x0, pt_regs.regs, pt_regs.regs, pt_regs.regs, pt_regs.regs, pt_regs.regs;
            }
            regs_nr = pt_regs.syscallno;
            task_status = task_struct.thread_info, thread_info.flags;
            $($common)*
        }
    };
}

impl Offsets {
    /// On arm64, moves each argument from the beginning of the array of registers to its element.
    pub(crate) fn spread(&mut self) {
        if cfg!(target_arch = "aarch64") {
            for arguments in [&mut self.regs_arg, &mut self.regs_arg32] {
                for (i, offset) in (0..).zip(arguments).skip(1) {
                    *offset += 8 * i;
                }
            }
        }
    }
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
    backing_path: optional = backing_file.user_path; // since Linux 6.7
    inode_mode: paths = inode.i_mode;
    sb_magic: paths = super_block.s_magic;
    sb_type: paths = super_block.s_type;
    fs_type_name: paths = file_system_type.name;
    mm_exe_file: paths = mm_struct.exe_file;
    mm_saved_auxv: elf_interp = mm_struct.saved_auxv;
    mm_mt: optional = mm_struct.mm_mt; // since Linux 6.1
    mm_mmap: optional = mm_struct.mmap; // before
    vma_file: elf_interp = vm_area_struct.vm_file;
    vma_end: elf_interp = vm_area_struct.vm_end;
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
    open_flag: optional = open_flags.open_flag; // this one and the next three are for the resolver's hooks
    lookup_flags: optional = open_flags.lookup_flags;
    nameidata_name: optional = nameidata.name;
    nameidata_dfd: optional = nameidata.dfd;
    request_opcode: optional = io_kiocb.opcode;
    request_result: optional = io_kiocb.cqe, io_cqe.res; // since Linux 5.19
    request_flags: optional = io_kiocb.flags;
}
