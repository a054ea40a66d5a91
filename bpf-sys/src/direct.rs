//! What redbpf has no word for, as safe functions.
//!
//! redbpf keeps the descriptors of its maps to itself and hands the verifier's log to a logger.
//! While it loads an object, this module therefore takes notes, per thread: a descriptor of each
//! map it creates, and why the last call failed.

use crate::abi::*;
use crate::libbpf::{Command, ElemAttr, bpf};
use std::cell::RefCell;
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

#[derive(Default)]
struct Notes {
    maps: Vec<(String, Map)>,
    attach_ids: Vec<(String, u32)>,
    failure: Option<Failure>,
}

thread_local! {
    static NOTES: RefCell<Notes> = RefCell::default();
}

/// Why a map could not be created or a program not be loaded.
pub struct Failure {
    /// `map NAME` or `program HOOK/TARGET`.
    pub object: String,
    pub cause: io::Error,
    /// What the verifier said, empty if it was not asked.
    pub verifier_log: String,
}

pub(crate) fn remember_failure(object: String, verifier_log: String) {
    let cause = io::Error::last_os_error();
    let raw = cause.raw_os_error();
    NOTES.with_borrow_mut(|notes| {
        notes.failure = Some(Failure {
            object,
            cause,
            verifier_log,
        })
    });
    // redbpf looks at errno next; nothing above may have changed it for good.
    // SAFETY: errno is this thread's own.
    unsafe { *libc::__errno_location() = raw.unwrap_or(0) };
}

/// The last failure on this thread, handed out once.
pub fn take_failure() -> Option<Failure> {
    NOTES.with_borrow_mut(|notes| notes.failure.take())
}

/// Announces which kernel type (its BTF id) the program `HOOK/TARGET` attaches to. Must come before
/// the program is loaded.
pub fn set_attach_id(program: &str, btf_id: u32) {
    NOTES.with_borrow_mut(|notes| notes.attach_ids.push((program.to_string(), btf_id)));
}

pub(crate) fn attach_id(program: &str) -> u32 {
    NOTES.with_borrow(|notes| {
        let known = notes.attach_ids.iter().rev().find(|(p, _)| p == program);
        known.map_or(0, |(_, id)| *id)
    })
}

/// A map with the sizes it was created with, so that no call can read or write past a slice.
pub struct Map {
    fd: OwnedFd,
    key_size: usize,
    /// Bytes of a value as bpf(2) copies it: for a per-CPU map all CPUs' values in a row.
    value_size: usize,
}

pub(crate) fn remember_map(name: &str, fd: i32, attr: &bpf_create_map_attr) -> bool {
    // SAFETY: the descriptor was made by the caller just now and stays open during this call.
    let Ok(fd) = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned() else {
        return false;
    };
    let map = Map {
        fd,
        key_size: attr.key_size as usize,
        value_size: match attr.map_type {
            bpf_map_type_BPF_MAP_TYPE_PERCPU_ARRAY
            | bpf_map_type_BPF_MAP_TYPE_PERCPU_HASH
            | bpf_map_type_BPF_MAP_TYPE_LRU_PERCPU_HASH => {
                (attr.value_size as usize).next_multiple_of(8) * possible_cpus()
            }
            _ => attr.value_size as usize,
        },
    };
    NOTES.with_borrow_mut(|notes| notes.maps.push((name.to_string(), map)));
    true
}

/// The map of that section name, if this thread's last object had one; handed out once.
pub fn take_map(name: &str) -> Option<Map> {
    NOTES.with_borrow_mut(|notes| {
        let at = notes.maps.iter().rposition(|(n, _)| n == name)?;
        Some(notes.maps.swap_remove(at).1)
    })
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Map {
    /// Bytes of one value as [`Map::lookup`] and [`Map::update`] take it.
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

/// Attaches a program to a raw tracepoint; closing the answer detaches it. A BTF raw tracepoint's
/// program knows its target already and takes no name.
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
    // SAFETY: RAW_TRACEPOINT_OPEN's attribute; the name is null or a NUL-terminated string. The answer
    // is a new descriptor that nobody else owns.
    unsafe { owned(bpf(Command::RawTracepointOpen, &mut attr)) }
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

/// The descriptor that a call of bpf(2) answered, or why it did not.
///
/// # Safety
/// Nobody else may own it.
unsafe fn owned(fd: i32) -> io::Result<OwnedFd> {
    match fd {
        0.. => {
            // SAFETY: the caller vouches for it.
            Ok(unsafe { OwnedFd::from_raw_fd(fd) })
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// CONFIG_NR_CPUS at most: where the number is not known, no smaller one is safe to make room for.
const MOST_CPUS: usize = 8192;

/// How many CPUs the kernel keeps per-CPU values for: the possible ones, not those online.
pub fn possible_cpus() -> usize {
    let list = std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
    count_cpus(&list).unwrap_or(MOST_CPUS)
}

/// Counts a list such as `0-3,8-11`.
fn count_cpus(list: &str) -> Option<usize> {
    let mut count = 0;
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        count += last.checked_sub(first)? + 1;
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::count_cpus;

    #[test]
    fn cpu_lists() {
        assert_eq!(count_cpus("0\n"), Some(1));
        assert_eq!(count_cpus("0-127"), Some(128));
        assert_eq!(count_cpus("0-3,8-11,16"), Some(9));
        assert_eq!(count_cpus(""), None);
        assert_eq!(count_cpus("3-1"), None);
    }
}
