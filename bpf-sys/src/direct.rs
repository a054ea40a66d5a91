// SPDX-License-Identifier: MIT OR Apache-2.0
//! What redbpf has no word for, as safe functions.

use crate::abi::*;
pub use crate::cpus::possible_cpus;
use crate::libbpf::{bpf_load_program_xattr, bpf_obj_get_info_by_fd};
use crate::notes;
pub use crate::notes::{
    Failure, clear_notes, set_attach_id, set_function, set_max_entries, take_failure,
};
use crate::syscall::{Command, ElemAttr, bpf, owned};
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A map, with the sizes that it was created with, so that no call can read or write past a slice.
pub struct Map {
    fd: OwnedFd,
    key_size: usize,
    /// The bytes of a value as bpf(2) copies it: for a per-CPU map, all CPUs' values in a row.
    value_size: usize,
}

/// Returns the map of that section name, if this thread's last object had one. It is returned once.
pub fn take_map(name: &str) -> Option<Map> {
    let map = notes::take_noted_map(name)?;
    Some(Map {
        fd: map.fd,
        key_size: map.key_size,
        value_size: map.value_size,
    })
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Map {
    /// Returns the bytes of one value as [`Map::lookup`] and [`Map::update`] take it.
    pub fn value_size(&self) -> usize {
        self.value_size
    }

    fn elem(&self, command: Command, key: &[u8], value: u64) -> io::Result<()> {
        assert_eq!(key.len(), self.key_size, "key of another size");
        let mut attr = ElemAttr {
            map_fd: self.fd.as_raw_fd() as u32,
            pad: 0,
            key: key.as_ptr() as u64,
            value,
            flags: 0,
        };
        // SAFETY: the element commands' attribute; the key has the map's size, the callers below
        // see to the value.
        match unsafe { bpf(command, &mut attr) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    pub fn update(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        assert_eq!(value.len(), self.value_size, "value of another size");
        self.elem(Command::MapUpdateElem, key, value.as_ptr() as u64)
    }

    pub fn lookup(&self, key: &[u8], value: &mut [u8]) -> io::Result<()> {
        assert_eq!(value.len(), self.value_size, "value of another size");
        self.elem(Command::MapLookupElem, key, value.as_mut_ptr() as u64)
    }

    pub fn delete(&self, key: &[u8]) -> io::Result<()> {
        self.elem(Command::MapDeleteElem, key, 0)
    }

    /// Writes the key that follows `key` (the first one after `None`) over `next`; false at the end.
    pub fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> bool {
        assert_eq!(next.len(), self.key_size, "key of another size");
        let mut attr = ElemAttr {
            map_fd: self.fd.as_raw_fd() as u32,
            pad: 0,
            key: key.map_or(0, |key| {
                assert_eq!(key.len(), self.key_size, "key of another size");
                key.as_ptr() as u64
            }),
            value: next.as_mut_ptr() as u64,
            flags: 0,
        };
        // SAFETY: MAP_GET_NEXT_KEY's attribute; both keys have the map's size.
        unsafe { bpf(Command::MapGetNextKey, &mut attr) == 0 }
    }

    /// Makes the map read-only for bpf(2), so that the verifier takes a read-only map's content as
    /// constants (kernel 5.2, constants since 5.5).
    pub fn freeze(&self) -> io::Result<()> {
        let mut fd = self.fd.as_raw_fd() as u32;
        // SAFETY: MAP_FREEZE's attribute is the descriptor alone.
        match unsafe { bpf(Command::MapFreeze, &mut fd) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Returns whether the kernel lets programs read any address through bpf_rdonly_cast(), the function with that BTF id. It has
/// to know casts to no type: f2362a57aeff, "bpf: allow void* cast using bpf_rdonly_cast()", Linux 6.17.
pub fn casts_to_no_type(rdonly_cast: u32) -> bool {
    let instruction = |code, register, imm| {
        let mut instruction = bpf_insn::default();
        (instruction.code, instruction.imm) = (code, imm);
        instruction.set_dst_reg(register);
        instruction
    };
    const MOVE_IMMEDIATE: u8 = 0xb7;
    const LOAD_LONG: u8 = 0x79;
    const EXIT: u8 = 0x95;
    // r1 = 0; r2 = 0; r0 = bpf_rdonly_cast(r1, r2); r0 = *(u64 *)r0; exit
    let code = [
        instruction(MOVE_IMMEDIATE, 1, 0),
        instruction(MOVE_IMMEDIATE, 2, 0),
        bpf_insn::call_of_function(rdonly_cast),
        instruction(LOAD_LONG, 0, 0),
        instruction(EXIT, 0, 0),
    ];
    let attr = bpf_load_program_attr {
        prog_type: 0,
        expected_attach_type: 0,
        name: c"raw_tp/cast".as_ptr(),
        insns: code.as_ptr(),
        insns_cnt: code.len() as u64,
        license: c"GPL".as_ptr(),
        __bindgen_anon_1: version_or_target { kern_version: 0 },
        __bindgen_anon_2: index_or_id { prog_ifindex: 0 },
        log_level: 0,
    };
    // SAFETY: the strings and the instructions are alive during the call, and there is no log. The descriptor is new.
    unsafe {
        let fd = bpf_load_program_xattr(&attr, std::ptr::null_mut(), 0);
        let program = (fd >= 0).then(|| OwnedFd::from_raw_fd(fd));
        take_failure();
        program.is_some()
    }
}

/// Attaches a program to a raw tracepoint. Closing the descriptor that is returned detaches it. The program of a BTF raw
/// tracepoint knows its tracepoint already and takes no name.
pub fn raw_tracepoint_open(program: BorrowedFd, name: Option<&CStr>) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attr {
        name: u64,
        prog_fd: u32,
        pad: u32,
    }
    let mut attr = Attr {
        name: name.map_or(0, |n| n.as_ptr() as u64),
        prog_fd: program.as_raw_fd() as u32,
        pad: 0,
    };
    // SAFETY: RAW_TRACEPOINT_OPEN's attribute; the name is null or a NUL-terminated string. The result
    // is a new descriptor that nobody else owns.
    unsafe { owned(bpf(Command::RawTracepointOpen, &mut attr)) }
}

/// Returns how often the kernel skipped a program because it had not ended yet on the same CPU. Linux 5.12.
pub fn recursion_misses(program: BorrowedFd) -> io::Result<u64> {
    /// The words of `struct bpf_prog_info` up to `recursion_misses`, which is the last one.
    const WORDS: usize = 27;
    let mut info = [0u64; WORDS];
    let mut len = size_of_val(&info) as u32;
    // SAFETY: the array has the room that `len` says.
    match unsafe { bpf_obj_get_info_by_fd(program.as_raw_fd(), info.as_mut_ptr().cast(), &mut len) }
    {
        0 => Ok(info[WORDS - 1]),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Runs an iterator's program on everything it iterates over; what it prints is dropped. Linux 5.8.
pub fn iterate(program: BorrowedFd) -> io::Result<()> {
    #[repr(C)]
    struct LinkAttr {
        prog_fd: u32,
        target_fd: u32,
        attach_type: u32,
        flags: u32,
    }
    #[repr(C)]
    struct IterAttr {
        link_fd: u32,
        flags: u32,
    }
    let mut attr = LinkAttr {
        prog_fd: program.as_raw_fd() as u32,
        target_fd: 0,
        attach_type: bpf_attach_type_BPF_TRACE_ITER,
        flags: 0,
    };
    // SAFETY: LINK_CREATE's attribute, without pointers; a new descriptor that nobody else owns.
    let link = unsafe { owned(bpf(Command::LinkCreate, &mut attr))? };
    let mut attr = IterAttr {
        link_fd: link.as_raw_fd() as u32,
        flags: 0,
    };
    // SAFETY: ITER_CREATE's attribute, without pointers; a new descriptor that nobody else owns.
    let mut iterator = File::from(unsafe { owned(bpf(Command::IterCreate, &mut attr))? });
    let mut printed = [0; 4096];
    loop {
        match iterator.read(&mut printed) {
            Ok(0) => return Ok(()),
            Ok(_) => (),
            // The kernel pauses after a million objects.
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => (),
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::libbpf::{bpf_create_map_xattr, bpf_load_program_xattr};
    use std::os::fd::FromRawFd;

    /// How many maps this process holds open.
    fn open_maps() -> usize {
        let links = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let targets = links.filter_map(|link| std::fs::read_link(link.path()).ok());
        targets
            .filter(|to| to.as_os_str() == "anon_inode:bpf-map")
            .count()
    }

    fn create(name: &CStr, key_size: u32) -> i32 {
        let attr = bpf_create_map_attr {
            name: name.as_ptr(),
            map_type: bpf_map_type_BPF_MAP_TYPE_ARRAY,
            key_size,
            value_size: 8,
            max_entries: 1,
            map_flags: 0,
            btf_fd: 0,
            btf_key_type_id: 0,
            btf_value_type_id: 0,
        };
        // SAFETY: the name ends with a NUL and is alive during the call.
        unsafe { bpf_create_map_xattr(&attr) }
    }

    #[test]
    fn a_failed_load_leaves_no_map_open() {
        // What redbpf gets is closed by its drop; here it is ours.
        let close = |fd: i32| {
            assert!(fd >= 0, "{}", io::Error::last_os_error());
            // SAFETY: the descriptor was made just now, and nobody else has it.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
        };
        close(create(c"first", 4));
        close(create(c"second", 4));
        // Keys of an array have four bytes.
        assert_eq!(create(c"third", 5), -1);
        let taken = take_map("second").unwrap();
        assert_eq!(open_maps(), 2, "the one that was taken, and the note");
        clear_notes();
        assert_eq!(open_maps(), 1);
        assert!(take_map("first").is_none() && take_failure().is_none());
        drop(taken);
        assert_eq!(open_maps(), 0);
    }

    /// The running kernel's own words.
    #[test]
    fn a_helper_that_the_kernel_refuses() {
        let instruction = |code, imm| {
            let mut instruction = bpf_insn::default();
            (instruction.code, instruction.imm) = (code, imm);
            instruction
        };
        // Calls bpf_skb_store_bytes(), which is for packets; r0 = 0; ends.
        let code = [
            instruction(0x85, 9),
            instruction(0xb7, 0),
            instruction(0x95, 0),
        ];
        let attr = bpf_load_program_attr {
            prog_type: 0,
            expected_attach_type: 0,
            name: c"raw_tp/sys_exit".as_ptr(),
            insns: code.as_ptr(),
            insns_cnt: code.len() as u64,
            license: c"GPL".as_ptr(),
            __bindgen_anon_1: version_or_target { kern_version: 0 },
            __bindgen_anon_2: index_or_id { prog_ifindex: 0 },
            log_level: 1,
        };
        let mut log = vec![0; 4096];
        // SAFETY: strings and instructions are alive during the call, and the log has its size and is all zero.
        let fd = unsafe { bpf_load_program_xattr(&attr, log.as_mut_ptr(), log.len() as u64) };
        assert_eq!(fd, -1);
        let failure = take_failure().unwrap();
        assert!(
            failure.lacks_helper("bpf_skb_store_bytes"),
            "{}",
            failure.verifier_log
        );
        assert!(!failure.lacks_helper("bpf_probe_read_kernel"));
    }

    #[test]
    fn a_helper_that_is_not_there() {
        let failure = |log: &str| Failure {
            object: String::new(),
            cause: ErrorKind::InvalidInput.into(),
            verifier_log: log.into(),
        };
        let name = "bpf_probe_read_kernel";
        for said in [
            "unknown func bpf_probe_read_kernel#113",
            "program of this type cannot use helper bpf_probe_read_kernel#113",
        ] {
            let log = format!("0: (85) call bpf_probe_read_kernel#113\n{said}\nprocessed 1 insns");
            assert!(failure(&log).lacks_helper(name));
            assert!(!failure(&log).lacks_helper("bpf_probe_read"));
        }
        for log in [
            "",
            "0: (85) call bpf_probe_read_kernel#113\nR1 type=scalar expected=fp",
            "12: (85) call bpf_probe_read_kernel#113       ; R0=scalar()",
            "unknown func bpf_probe_read_kernel_str#115",
        ] {
            assert!(!failure(log).lacks_helper(name), "{log}");
        }
    }
}
