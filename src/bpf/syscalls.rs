// SPDX-License-Identifier: MIT OR Apache-2.0
//! The syscalls that take a path: their names and numbers, which of their arguments are paths, and what success means. This one
//! table becomes the programs' tables ([`by_number`]) and names the counters.

use crate::bpf::wire::{
    ARG_NONE, REQUEST_KIND_SHIFT, ROW_ADDRESS, ROW_CHDIR, ROW_CHROOT, ROW_ELF_INTERP, ROW_EXEC,
    ROW_FLAGS, ROW_HOW, ROW_LINK, ROW_MESSAGE, ROW_OPENS, ROW_PIVOT, ROW_REBINDS, ROW_SELF,
    ROW_SOCKETCALL, ROW_UNTRACED, ROW_WRITES, ROWS, Row, SYSCALL_NUMBERS,
};
use libc::*;

pub struct Syscall {
    pub name: &'static str,
    number: c_long,
    /// The index of each argument that is a path.
    path: [u8; 2],
    /// The index of the descriptor that each path is relative to. Without one, a path is relative to the working directory.
    /// Without a path, it is the descriptor of the file that the call maps.
    dir: [u8; 2],
    kind: u16,
}

impl Syscall {
    const fn new(name: &'static str, number: c_long) -> Syscall {
        Syscall {
            name,
            number,
            path: [ARG_NONE; 2],
            dir: [ARG_NONE; 2],
            kind: 0,
        }
    }

    const fn is(mut self, kind: u16) -> Syscall {
        self.kind = kind;
        self
    }

    fn row(&self, id: u16) -> Row {
        Row {
            path: self.path,
            dir: self.dir,
            kind: self.kind,
            id,
        }
    }

    /// Returns whether this row counts accesses. Others only follow the process.
    pub fn is_counted(&self) -> bool {
        let names_file = self.path[0] != ARG_NONE || self.dir[0] != ARG_NONE;
        let is_access = names_file || self.kind & (ROW_OPENS | ROW_UNTRACED) != 0;
        is_access && self.number != NO_NUMBER
    }
}

/// A call with a path that is relative to the working directory.
const fn cwd(name: &'static str, number: c_long, path: u8) -> Syscall {
    let mut s = Syscall::new(name, number);
    s.path[0] = path;
    s
}

/// A call with two paths that are relative to the working directory.
const fn cwd2(name: &'static str, number: c_long) -> Syscall {
    let mut s = Syscall::new(name, number);
    s.path = [0, 1];
    s
}

/// A call with the descriptor of a directory, followed by a path.
const fn at(name: &'static str, number: c_long, dir: u8) -> Syscall {
    let mut s = Syscall::new(name, number);
    s.dir[0] = dir;
    s.path[0] = dir + 1;
    s
}

/// A call that maps the file behind a descriptor.
const fn maps(name: &'static str, number: c_long, descriptor: u8) -> Syscall {
    let mut s = Syscall::new(name, number);
    s.dir[0] = descriptor;
    s
}

/// A call with two pairs of a descriptor and a path.
const fn at2(name: &'static str, number: c_long) -> Syscall {
    let mut s = Syscall::new(name, number);
    s.dir = [0, 2];
    s.path = [1, 3];
    s
}

/// Numbers that libc does not have yet. They are the same on every architecture, like all since Linux 5.1.
const SYS_FCHMODAT2: c_long = 452;
const SYS_SETXATTRAT: c_long = 463;
const SYS_GETXATTRAT: c_long = 464;
const SYS_LISTXATTRAT: c_long = 465;
const SYS_REMOVEXATTRAT: c_long = 466;
const SYS_OPEN_TREE_ATTR: c_long = 467;
const SYS_FILE_GETATTR: c_long = 468;
const SYS_FILE_SETATTR: c_long = 469;

/// The number of a call that newer architectures do not have.
#[cfg(target_arch = "x86_64")]
macro_rules! legacy {
    ($number:ident) => {
        $number
    };
}
#[cfg(not(target_arch = "x86_64"))]
macro_rules! legacy {
    ($number:ident) => {
        NO_NUMBER
    };
}

/// The number of a call that this architecture does not have.
const NO_NUMBER: c_long = -1;

/// The syscalls of Linux 6.17. The source of `mount` and the target of `symlink` are left out: what they name is not a file of
/// an image.
pub const SYSCALLS: &[Syscall] = &[
    // Opening and executing.
    cwd("open", legacy!(SYS_open), 0).is(ROW_OPENS | ROW_FLAGS),
    at("openat", SYS_openat, 0).is(ROW_OPENS | ROW_FLAGS),
    at("openat2", SYS_openat2, 0).is(ROW_OPENS | ROW_HOW),
    cwd("creat", legacy!(SYS_creat), 0).is(ROW_OPENS | ROW_WRITES),
    Syscall::new("open_by_handle_at", SYS_open_by_handle_at).is(ROW_OPENS),
    cwd("execve", SYS_execve, 0).is(ROW_EXEC),
    at("execveat", SYS_execveat, 0).is(ROW_EXEC),
    cwd("uselib", legacy!(SYS_uselib), 0),
    // Looking.
    cwd("stat", legacy!(SYS_stat), 0),
    cwd("lstat", legacy!(SYS_lstat), 0),
    at("newfstatat", SYS_newfstatat, 0),
    at("statx", SYS_statx, 0),
    cwd("access", legacy!(SYS_access), 0),
    at("faccessat", SYS_faccessat, 0),
    at("faccessat2", SYS_faccessat2, 0),
    cwd("readlink", legacy!(SYS_readlink), 0).is(ROW_LINK),
    at("readlinkat", SYS_readlinkat, 0).is(ROW_LINK),
    cwd("statfs", SYS_statfs, 0),
    at("name_to_handle_at", SYS_name_to_handle_at, 0),
    cwd("inotify_add_watch", SYS_inotify_add_watch, 1),
    at("fanotify_mark", SYS_fanotify_mark, 3),
    // Moving.
    cwd("chdir", SYS_chdir, 0).is(ROW_CHDIR),
    cwd("chroot", SYS_chroot, 0).is(ROW_CHROOT),
    Syscall::new("fchdir", SYS_fchdir).is(ROW_CHDIR),
    // Changing content and attributes.
    cwd("truncate", SYS_truncate, 0).is(ROW_WRITES),
    cwd("chmod", legacy!(SYS_chmod), 0).is(ROW_WRITES),
    at("fchmodat", SYS_fchmodat, 0).is(ROW_WRITES),
    at("fchmodat2", SYS_FCHMODAT2, 0).is(ROW_WRITES),
    cwd("chown", legacy!(SYS_chown), 0).is(ROW_WRITES),
    cwd("lchown", legacy!(SYS_lchown), 0).is(ROW_WRITES),
    at("fchownat", SYS_fchownat, 0).is(ROW_WRITES),
    cwd("utime", legacy!(SYS_utime), 0).is(ROW_WRITES),
    cwd("utimes", legacy!(SYS_utimes), 0).is(ROW_WRITES),
    at("futimesat", legacy!(SYS_futimesat), 0).is(ROW_WRITES),
    at("utimensat", SYS_utimensat, 0).is(ROW_WRITES),
    at("file_getattr", SYS_FILE_GETATTR, 0),
    at("file_setattr", SYS_FILE_SETATTR, 0).is(ROW_WRITES),
    // Extended attributes.
    cwd("setxattr", SYS_setxattr, 0).is(ROW_WRITES),
    cwd("lsetxattr", SYS_lsetxattr, 0).is(ROW_WRITES),
    at("setxattrat", SYS_SETXATTRAT, 0).is(ROW_WRITES),
    cwd("getxattr", SYS_getxattr, 0),
    cwd("lgetxattr", SYS_lgetxattr, 0),
    at("getxattrat", SYS_GETXATTRAT, 0),
    cwd("listxattr", SYS_listxattr, 0),
    cwd("llistxattr", SYS_llistxattr, 0),
    at("listxattrat", SYS_LISTXATTRAT, 0),
    cwd("removexattr", SYS_removexattr, 0).is(ROW_WRITES),
    cwd("lremovexattr", SYS_lremovexattr, 0).is(ROW_WRITES),
    at("removexattrat", SYS_REMOVEXATTRAT, 0).is(ROW_WRITES),
    // Making and removing names.
    cwd2("link", legacy!(SYS_link)).is(ROW_REBINDS | ROW_WRITES),
    at2("linkat", SYS_linkat).is(ROW_REBINDS | ROW_WRITES),
    cwd("symlink", legacy!(SYS_symlink), 1).is(ROW_REBINDS | ROW_WRITES),
    at("symlinkat", SYS_symlinkat, 1).is(ROW_REBINDS | ROW_WRITES),
    cwd2("rename", legacy!(SYS_rename)).is(ROW_REBINDS | ROW_WRITES),
    at2("renameat", SYS_renameat).is(ROW_REBINDS | ROW_WRITES),
    at2("renameat2", SYS_renameat2).is(ROW_REBINDS | ROW_WRITES),
    cwd("unlink", legacy!(SYS_unlink), 0).is(ROW_WRITES),
    at("unlinkat", SYS_unlinkat, 0).is(ROW_WRITES),
    cwd("mkdir", legacy!(SYS_mkdir), 0).is(ROW_WRITES),
    at("mkdirat", SYS_mkdirat, 0).is(ROW_WRITES),
    cwd("rmdir", legacy!(SYS_rmdir), 0).is(ROW_WRITES),
    cwd("mknod", legacy!(SYS_mknod), 0).is(ROW_WRITES),
    at("mknodat", SYS_mknodat, 0).is(ROW_WRITES),
    // Unix sockets.
    cwd("bind", SYS_bind, 1).is(ROW_ADDRESS | ROW_WRITES),
    cwd("connect", SYS_connect, 1).is(ROW_ADDRESS),
    cwd("sendto", SYS_sendto, 4).is(ROW_ADDRESS),
    cwd("sendmsg", SYS_sendmsg, 1).is(ROW_MESSAGE),
    cwd("sendmmsg", SYS_sendmmsg, 1).is(ROW_MESSAGE),
    // Mounts, swap, quota, accounting.
    cwd("mount", SYS_mount, 1).is(ROW_REBINDS),
    cwd("umount2", SYS_umount2, 0).is(ROW_REBINDS),
    cwd2("pivot_root", SYS_pivot_root).is(ROW_REBINDS | ROW_PIVOT),
    at("open_tree", SYS_open_tree, 0).is(ROW_OPENS),
    at("open_tree_attr", SYS_OPEN_TREE_ATTR, 0).is(ROW_OPENS),
    at2("move_mount", SYS_move_mount).is(ROW_REBINDS),
    at("fspick", SYS_fspick, 0),
    at("mount_setattr", SYS_mount_setattr, 0),
    cwd("swapon", SYS_swapon, 0),
    cwd("swapoff", SYS_swapoff, 0),
    cwd("quotactl", SYS_quotactl, 1),
    cwd("acct", SYS_acct, 0),
    // These take no path, but every ELF interpreter makes them first, and its name can be read by then. mmap(2) also maps
    // programs and libraries.
    Syscall::new("brk", SYS_brk).is(ROW_ELF_INTERP),
    maps("mmap", SYS_mmap, 4).is(ROW_ELF_INTERP),
    Syscall::new("mprotect", SYS_mprotect).is(ROW_ELF_INTERP),
    // The requests of such a ring pass no syscall. See `by_number`.
    Syscall::new("io_uring_setup", SYS_io_uring_setup).is(ROW_UNTRACED),
    // snoop asks its programs by this call.
    Syscall::new("getcpu", SYS_getcpu).is(ROW_SELF),
];

/// The calls of 32-bit programs, on i386 and on arm (arch/x86/entry/syscalls/syscall_32.tbl,
/// arch/arm64/tools/syscall_32.tbl, Linux 6.17): number, name, and the row above that takes the same arguments.
const TABLE32: &[(u16, &str, &str)] = &[
    (5, "open", "open"),
    (8, "creat", "creat"),
    (9, "link", "link"),
    (10, "unlink", "unlink"),
    (11, "execve", "execve"),
    (12, "chdir", "chdir"),
    (14, "mknod", "mknod"),
    (15, "chmod", "chmod"),
    (16, "lchown", "lchown"),
    (21, "mount", "mount"),
    (33, "access", "access"),
    (38, "rename", "rename"),
    (39, "mkdir", "mkdir"),
    (40, "rmdir", "rmdir"),
    (45, "brk", "brk"),
    (51, "acct", "acct"),
    (52, "umount2", "umount2"),
    (61, "chroot", "chroot"),
    (83, "symlink", "symlink"),
    (85, "readlink", "readlink"),
    (86, "uselib", "uselib"),
    (87, "swapon", "swapon"),
    (92, "truncate", "truncate"),
    (99, "statfs", "statfs"),
    (106, "stat", "stat"),
    (107, "lstat", "lstat"),
    (115, "swapoff", "swapoff"),
    (125, "mprotect", "mprotect"),
    (131, "quotactl", "quotactl"),
    (133, "fchdir", "fchdir"),
    (182, "chown", "chown"),
    (192, "mmap2", "mmap"),
    (193, "truncate64", "truncate"),
    (195, "stat64", "stat"),
    (196, "lstat64", "lstat"),
    (198, "lchown32", "lchown"),
    (212, "chown32", "chown"),
    (226, "setxattr", "setxattr"),
    (227, "lsetxattr", "lsetxattr"),
    (229, "getxattr", "getxattr"),
    (230, "lgetxattr", "lgetxattr"),
    (232, "listxattr", "listxattr"),
    (233, "llistxattr", "llistxattr"),
    (235, "removexattr", "removexattr"),
    (236, "lremovexattr", "lremovexattr"),
    (412, "utimensat_time64", "utimensat"),
];

/// The calls whose numbers differ between the two, or that only one of them has.
#[cfg(target_arch = "x86_64")]
const TABLE32_HERE: &[(u16, &str, &str)] = &[
    (18, "oldstat", "stat"),
    (22, "umount", "umount2"),
    (30, "utime", "utime"),
    (102, "socketcall", "connect"),
    (84, "oldlstat", "lstat"),
    (90, "mmap", "mmap"),
    (217, "pivot_root", "pivot_root"),
    (268, "statfs64", "statfs"),
    (271, "utimes", "utimes"),
    (292, "inotify_add_watch", "inotify_add_watch"),
    (295, "openat", "openat"),
    (296, "mkdirat", "mkdirat"),
    (297, "mknodat", "mknodat"),
    (298, "fchownat", "fchownat"),
    (299, "futimesat", "futimesat"),
    (300, "fstatat64", "newfstatat"),
    (301, "unlinkat", "unlinkat"),
    (302, "renameat", "renameat"),
    (303, "linkat", "linkat"),
    (304, "symlinkat", "symlinkat"),
    (305, "readlinkat", "readlinkat"),
    (306, "fchmodat", "fchmodat"),
    (307, "faccessat", "faccessat"),
    (320, "utimensat", "utimensat"),
    (339, "fanotify_mark", "fanotify_mark"),
    (341, "name_to_handle_at", "name_to_handle_at"),
    (342, "open_by_handle_at", "open_by_handle_at"),
    (353, "renameat2", "renameat2"),
    (345, "sendmmsg", "sendmmsg"),
    (358, "execveat", "execveat"),
    (361, "bind", "bind"),
    (362, "connect", "connect"),
    (369, "sendto", "sendto"),
    (370, "sendmsg", "sendmsg"),
    (383, "statx", "statx"),
];
#[cfg(target_arch = "aarch64")]
const TABLE32_HERE: &[(u16, &str, &str)] = &[
    (218, "pivot_root", "pivot_root"),
    (266, "statfs64", "statfs"),
    (269, "utimes", "utimes"),
    (282, "bind", "bind"),
    (283, "connect", "connect"),
    (290, "sendto", "sendto"),
    (296, "sendmsg", "sendmsg"),
    (317, "inotify_add_watch", "inotify_add_watch"),
    (322, "openat", "openat"),
    (323, "mkdirat", "mkdirat"),
    (324, "mknodat", "mknodat"),
    (325, "fchownat", "fchownat"),
    (326, "futimesat", "futimesat"),
    (327, "fstatat64", "newfstatat"),
    (328, "unlinkat", "unlinkat"),
    (329, "renameat", "renameat"),
    (330, "linkat", "linkat"),
    (331, "symlinkat", "symlinkat"),
    (332, "readlinkat", "readlinkat"),
    (333, "fchmodat", "fchmodat"),
    (334, "faccessat", "faccessat"),
    (348, "utimensat", "utimensat"),
    (368, "fanotify_mark", "fanotify_mark"),
    (370, "name_to_handle_at", "name_to_handle_at"),
    (371, "open_by_handle_at", "open_by_handle_at"),
    (374, "sendmmsg", "sendmmsg"),
    (382, "renameat2", "renameat2"),
    (387, "execveat", "execveat"),
    (397, "statx", "statx"),
];

/// From this number on, a number means the same call on every architecture (since Linux 5.1).
const SAME_EVERYWHERE: usize = 424;

/// The names of rows that are no syscall: the `#!` interpreter and the ELF interpreter, which the kernel itself opens at exec;
/// what was open or mapped already when tracing began; and what the kernel looks up for no syscall of the table, such as for a
/// request of io_uring.
const NO_SYSCALL: [&str; 4] = ["interpreter", "loader", "late", "other"];

pub const SCRIPT_INTERP_ID: u16 = SYSCALLS.len() as u16 + 1;
pub const ELF_INTERP_ID: u16 = SYSCALLS.len() as u16 + 2;
pub const LATE_ID: u16 = SYSCALLS.len() as u16 + 3;

pub const OTHER_ID: u16 = SYSCALLS.len() as u16 + 4;

const _: () = assert!((OTHER_ID as usize) < ROWS);

/// Returns the row of a syscall. Row 0 is not the row of any.
pub fn id_of(name: &str) -> Option<u16> {
    let at = SYSCALLS.iter().position(|s| s.name == name)?;
    Some(at as u16 + 1)
}

/// Returns whether the row is that of open_by_handle_at(2), which takes a handle in place of a path.
pub fn takes_handle(row: u16) -> bool {
    id_of("open_by_handle_at") == Some(row)
}

/// Returns what success of the syscall of a row means, for a request of io_uring that does the same.
pub fn request_kind(row: u16) -> u8 {
    let kind = SYSCALLS[row as usize - 1].kind & (ROW_REBINDS | ROW_WRITES);
    (kind >> REQUEST_KIND_SHIFT) as u8
}

/// Returns the rows that count accesses, with the name of each.
pub fn counted_rows() -> impl Iterator<Item = (u16, &'static str)> {
    let rows = SYSCALLS.iter().zip(1..);
    let counted = rows.filter_map(|(s, id)| s.is_counted().then_some((id, s.name)));
    counted.chain((SCRIPT_INTERP_ID..).zip(NO_SYSCALL))
}

pub fn name_of(row: u16) -> &'static str {
    let found = counted_rows().find(|(id, _)| *id == row);
    found.map_or("unknown", |(_, name)| name)
}

/// Returns the indices of the arguments of a row's syscall that are paths.
pub fn paths(row: u16) -> impl Iterator<Item = usize> {
    let row = SYSCALLS.get((row as usize).wrapping_sub(1));
    let paths = row.map_or([ARG_NONE; 2], |s| s.path).into_iter();
    paths.filter(|path| *path != ARG_NONE).map(usize::from)
}

/// Returns the tables by number, as the programs index them: of 64-bit calls and of 32-bit calls. Where requests of io_uring
/// are traced, their ring does not count as lost.
pub fn by_number(traces_requests: bool) -> [[Row; SYSCALL_NUMBERS]; 2] {
    let mut tables = [table(), table32()];
    for row in tables.iter_mut().flatten() {
        if traces_requests && row.kind & ROW_UNTRACED != 0 {
            *row = Row::default();
        }
    }
    tables
}

fn table() -> [Row; SYSCALL_NUMBERS] {
    let mut rows = [Row::default(); SYSCALL_NUMBERS];
    for (s, id) in SYSCALLS
        .iter()
        .zip(1..)
        .filter(|(s, _)| s.number != NO_NUMBER)
    {
        rows[s.number as usize] = s.row(id);
    }
    rows
}

fn table32() -> [Row; SYSCALL_NUMBERS] {
    let mut rows = table();
    rows[..SAME_EVERYWHERE].fill(Row::default());
    for (number, name, like) in TABLE32.iter().chain(TABLE32_HERE) {
        let id = id_of(like).expect("the row is in the table");
        let s = &SYSCALLS[id as usize - 1];
        let row = &mut rows[*number as usize];
        *row = s.row(id);
        match *name {
            // Its mask has 64 bits and takes two registers.
            "fanotify_mark" => (row.dir[0], row.path[0]) = (4, 5),
            "socketcall" => row.kind |= ROW_SOCKETCALL,
            // On i386 its arguments are in memory. Programs of today make mmap2.
            "mmap" => row.dir = [ARG_NONE; 2],
            _ => (),
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_and_name_stands_once() {
        let rows = table();
        assert_eq!(
            rows.iter().filter(|row| row.id != 0).count(),
            SYSCALLS.len()
        );
        let mut names: Vec<_> = counted_rows().map(|(_, name)| name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), counted_rows().count());
    }

    /// Compares the numbers with those that the C library's headers have.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn numbers_of_32_bit_calls() {
        let header = "/usr/include/x86_64-linux-gnu/asm/unistd_32.h";
        let header = std::fs::read_to_string(header).unwrap();
        for (number, name, _) in TABLE32.iter().chain(TABLE32_HERE) {
            let line = format!("#define __NR_{name} {number}");
            assert!(header.lines().any(|l| l == line), "{line}");
        }
        // Every call with a path that 64-bit programs can make, 32-bit programs can too.
        let rows = table32();
        for (s, id) in SYSCALLS.iter().zip(1..) {
            let known = rows.iter().any(|row| row.id == id) || s.name == "getcpu";
            assert!(known, "{}", s.name);
        }
    }

    #[test]
    fn rings_of_requests_are_counted_where_requests_are_not_traced() {
        let id = id_of("io_uring_setup").unwrap();
        let rows = |traced| by_number(traced).map(|t| t.iter().filter(|row| row.id == id).count());
        assert_eq!((rows(false), rows(true)), ([1, 1], [0, 0]));
    }

    #[test]
    fn a_path_stands_behind_its_directory() {
        for s in SYSCALLS {
            for (path, dir) in s.path.into_iter().zip(s.dir) {
                let maps = path == ARG_NONE && s.kind & ROW_ELF_INTERP != 0;
                assert!(dir == ARG_NONE || dir + 1 == path || maps, "{}", s.name);
                assert!(path == ARG_NONE || path < 6, "{}", s.name);
            }
        }
    }
}
