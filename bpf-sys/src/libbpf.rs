// SPDX-License-Identifier: MIT OR Apache-2.0
//! The functions redbpf calls, with the names and signatures of libbpf 0.x.
//!
//! All of them return a descriptor or 0, or -1 with `errno` set, as libbpf did.

use crate::abi::*;
use crate::cpus::possible_cpus;
use crate::notes;
use crate::syscall::{Command, ElemAttr, bpf};
use libc::{c_char, c_int, c_void};
use std::borrow::Cow;
use std::ffi::CStr;
use std::slice;

const NAME_LEN: usize = 16;

/// Returns a name that the kernel accepts for an object: up to 15 letters, digits and underscores.
fn object_name(name: &str) -> [u8; NAME_LEN] {
    let mut out = [0; NAME_LEN];
    for (to, from) in out[..NAME_LEN - 1].iter_mut().zip(name.bytes()) {
        *to = match from {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => from,
            _ => b'_',
        };
    }
    out
}

#[repr(C)]
#[derive(Default)]
struct MapCreateAttr {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    map_name: [u8; NAME_LEN],
}

/// Creates a map, and keeps a descriptor of it for [`take_map`](crate::direct::take_map), because redbpf's own is private.
///
/// # Safety
/// `attr.name` must point to a NUL-terminated string.
pub unsafe fn bpf_create_map_xattr(attr: &bpf_create_map_attr) -> c_int {
    // SAFETY: the caller vouches for the name.
    let name = unsafe { CStr::from_ptr(attr.name) }
        .to_string_lossy()
        .into_owned();
    let mut create = MapCreateAttr {
        map_type: attr.map_type,
        key_size: attr.key_size,
        value_size: attr.value_size,
        max_entries: match (attr.map_type, attr.max_entries) {
            // As in libbpf, 0 means one entry for each CPU.
            (bpf_map_type_BPF_MAP_TYPE_PERF_EVENT_ARRAY, 0) => possible_cpus() as u32,
            (_, max_entries) => notes::max_entries(&name).unwrap_or(max_entries),
        },
        map_flags: attr.map_flags,
        map_name: object_name(&name),
        ..Default::default()
    };
    // SAFETY: MAP_CREATE's attribute, without pointers.
    let fd = unsafe { bpf(Command::MapCreate, &mut create) };
    if fd < 0 {
        notes::remember_failure(format!("map {name}"), String::new());
    } else if !notes::remember_map(&name, fd, attr) {
        // SAFETY: the descriptor was made above and nobody else has seen it.
        unsafe { libc::close(fd) };
        return -1;
    }
    fd
}

#[repr(C)]
#[derive(Default)]
struct ProgLoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; NAME_LEN],
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_cnt: u32,
    attach_btf_id: u32,
}

/// Loads a program as its section name says.
///
/// redbpf knows no BTF raw tracepoints. snoop's programs are therefore in sections named `kprobe/HOOK/TARGET`, of which redbpf
/// passes on `HOOK/TARGET` as the name. Here `tp_btf/...` becomes a program of type TRACING for BPF_TRACE_RAW_TP,
/// `fexit/...` one for BPF_TRACE_FEXIT, and `iter/...` one for BPF_TRACE_ITER; each is attached to the kernel type that was announced with
/// [`set_attach_id`](crate::direct::set_attach_id). `raw_tp/...` becomes the program of a plain raw tracepoint. Programs with
/// other names are loaded as redbpf asks.
///
/// Calls of the helper that [`set_function`](crate::direct::set_function) names become calls of a function of the kernel.
///
/// # Safety
/// `attr` must hold valid pointers, and `log` must have room for `log_size` bytes or be null.
pub unsafe fn bpf_load_program_xattr(
    attr: &bpf_load_program_attr,
    log: *mut c_char,
    log_size: u64,
) -> c_int {
    // SAFETY: the caller vouches for the name.
    let section = unsafe { CStr::from_ptr(attr.name) }.to_string_lossy();
    let (hook, target) = section.split_once('/').unwrap_or(("", &section));
    // SAFETY: the caller vouches for the instructions.
    let code = unsafe { slice::from_raw_parts(attr.insns, attr.insns_cnt as usize) };
    let code = with_function(code);
    let mut load = ProgLoadAttr {
        prog_type: attr.prog_type,
        insn_cnt: code.len() as u32,
        insns: code.as_ptr() as u64,
        license: attr.license as u64,
        log_level: attr.log_level,
        log_size: log_size as u32,
        log_buf: log as u64,
        prog_name: object_name(target),
        expected_attach_type: attr.expected_attach_type,
        ..Default::default()
    };
    let mut trace = |attach_type| {
        load.prog_type = bpf_prog_type_BPF_PROG_TYPE_TRACING;
        load.expected_attach_type = attach_type;
        load.attach_btf_id = notes::attach_id(&section);
    };
    match hook {
        "tp_btf" => trace(bpf_attach_type_BPF_TRACE_RAW_TP),
        "fexit" => trace(bpf_attach_type_BPF_TRACE_FEXIT),
        "iter" => trace(bpf_attach_type_BPF_TRACE_ITER),
        "raw_tp" => load.prog_type = bpf_prog_type_BPF_PROG_TYPE_RAW_TRACEPOINT,
        _ => (),
    }
    if log.is_null() {
        (load.log_level, load.log_size) = (0, 0);
    }
    // SAFETY: PROG_LOAD's attribute; the caller vouches for the pointers in it.
    let fd = unsafe { bpf(Command::ProgLoad, &mut load) };
    if fd < 0 {
        let text = if log.is_null() || log_size == 0 {
            String::new()
        } else {
            // SAFETY: the kernel ends what it writes into the log with a NUL, and redbpf hands in a
            // buffer of zeroes.
            let text = unsafe { CStr::from_ptr(log) };
            text.to_string_lossy().into_owned()
        };
        notes::remember_failure(format!("program {section}"), text);
    }
    fd
}

/// Replaces the calls that [`set_function`](crate::direct::set_function) names. Without it the calls are in code that is
/// never reached, which the verifier does not look at.
fn with_function(code: &[bpf_insn]) -> Cow<'_, [bpf_insn]> {
    let mut code = Cow::Borrowed(code);
    if let Some((helper, btf_id)) = notes::function() {
        let is_it = |instruction: &&mut bpf_insn| instruction.calls_helper(helper);
        for call in code.to_mut().iter_mut().filter(is_it) {
            *call = bpf_insn::call_of_function(btf_id);
        }
    }
    code
}

/// # Safety
/// `key` and `value` must be addresses of what `command` reads or writes, or null where it may be.
unsafe fn elem(command: Command, fd: c_int, key: u64, value: u64, flags: u64) -> c_int {
    let mut attr = ElemAttr {
        map_fd: fd as u32,
        pad: 0,
        key,
        value,
        flags,
    };
    // SAFETY: the element commands share this attribute; the caller vouches for the pointers.
    unsafe { bpf(command, &mut attr) }
}

/// # Safety
/// `key` and `value` must have the lengths the map was created with.
pub unsafe fn bpf_map_update_elem(
    fd: c_int,
    key: *const c_void,
    value: *const c_void,
    flags: u64,
) -> c_int {
    // SAFETY: as this function's own contract.
    unsafe { elem(Command::MapUpdateElem, fd, key as u64, value as u64, flags) }
}

/// # Safety
/// `key` and `value` must have the lengths the map was created with.
pub unsafe fn bpf_map_lookup_elem(fd: c_int, key: *const c_void, value: *mut c_void) -> c_int {
    // SAFETY: as this function's own contract.
    unsafe { elem(Command::MapLookupElem, fd, key as u64, value as u64, 0) }
}

/// # Safety
/// `key` must have the length the map was created with.
pub unsafe fn bpf_map_delete_elem(fd: c_int, key: *const c_void) -> c_int {
    // SAFETY: as this function's own contract.
    unsafe { elem(Command::MapDeleteElem, fd, key as u64, 0, 0) }
}

/// # Safety
/// `key`, unless null, and `next` must have the length the map was created with.
pub unsafe fn bpf_map_get_next_key(fd: c_int, key: *const c_void, next: *mut c_void) -> c_int {
    // SAFETY: as this function's own contract.
    unsafe { elem(Command::MapGetNextKey, fd, key as u64, next as u64, 0) }
}

/// # Safety
/// `data` must hold `size` bytes.
pub unsafe fn bpf_load_btf(
    data: *const c_void,
    size: u32,
    _log: *mut c_char,
    _log_size: u32,
    _do_log: bool,
) -> c_int {
    #[repr(C)]
    struct BtfLoadAttr {
        btf: u64,
        log_buf: u64,
        size: u32,
    }
    let mut attr = BtfLoadAttr {
        btf: data as u64,
        log_buf: 0,
        size,
    };
    // SAFETY: BTF_LOAD's attribute; the caller vouches for the data.
    unsafe { bpf(Command::BtfLoad, &mut attr) }
}

/// # Safety
/// `info` must have room for `*len` bytes.
pub unsafe fn bpf_obj_get_info_by_fd(fd: c_int, info: *mut c_void, len: *mut u32) -> c_int {
    #[repr(C)]
    struct InfoAttr {
        bpf_fd: u32,
        info_len: u32,
        info: u64,
    }
    let mut attr = InfoAttr {
        bpf_fd: fd as u32,
        // SAFETY: the caller vouches for both pointers.
        info_len: unsafe { *len },
        info: info as u64,
    };
    // SAFETY: OBJ_GET_INFO_BY_FD's attribute; the caller vouches for the room.
    unsafe { bpf(Command::ObjGetInfoByFd, &mut attr) }
}

/// The functions that redbpf can call, but does not call for snoop.
macro_rules! not_used {
    ($($name:ident($($argument:ty),*);)*) => {$(
        /// Fails with `ENOSYS`.
        ///
        /// # Safety
        /// None is needed.
        pub unsafe fn $name($(_: $argument),*) -> c_int {
            // SAFETY: errno is this thread's own.
            unsafe { *libc::__errno_location() = libc::ENOSYS };
            -1
        }
    )*};
}

not_used! {
    bpf_obj_pin(c_int, *const c_char);
    bpf_obj_get(*const c_char);
    bpf_prog_attach(c_int, c_int, u32, u32);
    bpf_link_create(c_int, c_int, u32, *const bpf_link_create_opts);
    bpf_iter_create(c_int);
    bpf_set_link_xdp_fd(c_int, c_int, u32);
}
