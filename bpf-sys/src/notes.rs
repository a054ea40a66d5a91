// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is noted while redbpf loads an object, per thread. redbpf keeps the descriptors of its maps to itself and hands the
//! verifier's log to a logger. The notes hold a descriptor of each map that was created, and why the last call failed.

use crate::abi::*;
use crate::cpus::possible_cpus;
use std::cell::RefCell;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

#[derive(Default)]
struct Notes {
    maps: Vec<NotedMap>,
    attach_ids: Vec<(String, u32)>,
    function: Option<(i32, u32)>,
    sizes: Vec<(String, u32)>,
    failure: Option<Failure>,
}

/// A descriptor of a map, with the sizes that the map was created with.
pub(crate) struct NotedMap {
    name: String,
    pub(crate) fd: OwnedFd,
    pub(crate) key_size: usize,
    /// The bytes of a value as bpf(2) copies it: for a per-CPU map, all CPUs' values in a row.
    pub(crate) value_size: usize,
}

thread_local! {
    static NOTES: RefCell<Notes> = RefCell::default();
}

/// Why the kernel did not create a map or load a program.
pub struct Failure {
    /// `map NAME` or `program HOOK/TARGET`.
    pub object: String,
    pub cause: io::Error,
    /// What the verifier said; empty if it was not asked.
    pub verifier_log: String,
}

impl Failure {
    /// Returns whether the verifier refused the program because it may not call that helper. The log then says so in words that
    /// differ between kernels, with `NAME#NUMBER` at the end. An instruction that calls the helper is in the log of any
    /// failure.
    pub fn lacks_helper(&self, name: &str) -> bool {
        let mut lines = self.verifier_log.lines();
        lines.any(|line| {
            let (complaint, called) = line.trim_end().rsplit_once(' ').unwrap_or(("", line));
            let number = called.strip_prefix(name).and_then(|n| n.strip_prefix('#'));
            number.is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
                && !complaint.ends_with("call")
        })
    }
}

/// Forgets all notes, and closes the maps that were not taken. Call it when an object could not be loaded.
pub fn clear_notes() {
    NOTES.take();
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

/// Returns the last failure on this thread. It is returned once.
pub fn take_failure() -> Option<Failure> {
    NOTES.with_borrow_mut(|notes| notes.failure.take())
}

/// Announces the BTF id of the kernel type that the program `HOOK/TARGET` attaches to. Call it before the program is loaded.
pub fn set_attach_id(program: &str, btf_id: u32) {
    NOTES.with_borrow_mut(|notes| notes.attach_ids.push((program.to_string(), btf_id)));
}

pub(crate) fn attach_id(program: &str) -> u32 {
    NOTES.with_borrow(|notes| {
        let known = notes.attach_ids.iter().rev().find(|(p, _)| p == program);
        known.map_or(0, |(_, id)| *id)
    })
}

/// Announces that calls of the helper with that number are to become calls of the kernel's function with that BTF id. redbpf
/// would take a call of a function by its name for the use of a map. Call it before the programs are loaded.
pub fn set_function(helper: i32, btf_id: u32) {
    NOTES.with_borrow_mut(|notes| notes.function = Some((helper, btf_id)));
}

pub(crate) fn function() -> Option<(i32, u32)> {
    NOTES.with_borrow(|notes| notes.function)
}

/// Announces how many entries the map of that section name gets, in place of what the object says. Call it before the object is
/// parsed.
pub fn set_max_entries(map: &str, entries: u32) {
    NOTES.with_borrow_mut(|notes| notes.sizes.push((map.to_string(), entries)));
}

pub(crate) fn max_entries(map: &str) -> Option<u32> {
    NOTES.with_borrow(|notes| {
        let announced = notes.sizes.iter().rev().find(|(name, _)| name == map);
        announced.map(|(_, entries)| *entries)
    })
}

/// Notes a map that was just created. Returns false if its descriptor cannot be duplicated.
pub(crate) fn remember_map(name: &str, fd: i32, attr: &bpf_create_map_attr) -> bool {
    // SAFETY: the descriptor was made by the caller just now and stays open during this call.
    let Ok(fd) = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned() else {
        return false;
    };
    let map = NotedMap {
        name: name.to_string(),
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
    NOTES.with_borrow_mut(|notes| notes.maps.push(map));
    true
}

/// Returns the map of that section name, if this thread's last object had one. It is returned once.
pub(crate) fn take_noted_map(name: &str) -> Option<NotedMap> {
    NOTES.with_borrow_mut(|notes| {
        let at = notes.maps.iter().rposition(|map| map.name == name)?;
        Some(notes.maps.swap_remove(at))
    })
}
