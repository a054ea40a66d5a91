// SPDX-License-Identifier: MIT OR Apache-2.0
//! Structures and constants of `linux/bpf.h`, `linux/btf.h` and libbpf that redbpf names.

use libc::{c_char, c_void};

/// The code of a call: BPF_JMP | BPF_CALL.
const BPF_CALL: u8 = 0x85;
/// The source register of a call of one of the kernel's functions, since Linux 5.13.
const BPF_PSEUDO_KFUNC_CALL: u8 = 2;

/// One instruction: `linux/bpf.h`, `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct bpf_insn {
    pub code: u8,
    /// Destination register in the low half, source register in the high half.
    regs: u8,
    pub off: i16,
    pub imm: i32,
}

impl bpf_insn {
    /// Returns whether this calls the helper with that number.
    pub fn calls_helper(&self, number: i32) -> bool {
        self.code == BPF_CALL && self.regs >> 4 == 0 && self.imm == number
    }

    /// Returns the call of the kernel's function with that BTF id.
    pub fn call_of_function(btf_id: u32) -> bpf_insn {
        let mut call = bpf_insn {
            code: BPF_CALL,
            imm: btf_id as i32,
            ..Default::default()
        };
        call.set_src_reg(BPF_PSEUDO_KFUNC_CALL);
        call
    }

    pub fn set_dst_reg(&mut self, reg: u8) {
        self.regs = self.regs & 0xf0 | reg;
    }

    pub fn set_src_reg(&mut self, reg: u8) {
        self.regs = self.regs & 0x0f | reg << 4;
    }
}

/// A classic map definition, one per `maps/…` section.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct bpf_map_def {
    pub type_: u32,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    pub map_flags: u32,
}

// SAFETY: both are plain integers without padding, so every bit pattern is a value.
unsafe impl zero::Pod for bpf_insn {}
// SAFETY: as above.
unsafe impl zero::Pod for bpf_map_def {}

/// libbpf 0.x `struct bpf_load_program_attr`: what redbpf fills in to load a program.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct bpf_load_program_attr {
    pub prog_type: bpf_prog_type,
    pub expected_attach_type: u32,
    pub name: *const c_char,
    pub insns: *const bpf_insn,
    pub insns_cnt: u64,
    pub license: *const c_char,
    pub __bindgen_anon_1: version_or_target,
    pub __bindgen_anon_2: index_or_id,
    pub log_level: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub union version_or_target {
    pub kern_version: u32,
    pub attach_prog_fd: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub union index_or_id {
    pub prog_ifindex: u32,
    pub attach_btf_id: u32,
}

/// libbpf 0.x `struct bpf_create_map_attr`, without the members redbpf leaves alone.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct bpf_create_map_attr {
    pub name: *const c_char,
    pub map_type: u32,
    pub map_flags: u32,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    pub btf_fd: u32,
    pub btf_key_type_id: u32,
    pub btf_value_type_id: u32,
}

/// The head of `linux/bpf.h`, `struct bpf_map_info`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct bpf_map_info {
    pub type_: u32,
    pub id: u32,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    pub map_flags: u32,
    pub name: [c_char; 16],
}

/// Options of `bpf_link_create`; redbpf passes a null pointer.
pub type bpf_link_create_opts = c_void;

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct btf_header {
    pub magic: u16,
    pub version: u8,
    pub flags: u8,
    pub hdr_len: u32,
    pub type_off: u32,
    pub type_len: u32,
    pub str_off: u32,
    pub str_len: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct btf_type {
    pub name_off: u32,
    pub info: u32,
    pub __bindgen_anon_1: size_or_type,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub union size_or_type {
    pub size: u32,
    pub type_: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct btf_array {
    pub type_: u32,
    pub index_type: u32,
    pub nelems: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct btf_enum {
    pub name_off: u32,
    pub val: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct btf_member {
    pub name_off: u32,
    pub type_: u32,
    pub offset: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct btf_param {
    pub name_off: u32,
    pub type_: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct btf_var {
    pub linkage: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct btf_var_secinfo {
    pub type_: u32,
    pub offset: u32,
    pub size: u32,
}

pub type bpf_prog_type = u32;
pub type bpf_attach_type = u32;

pub const BPF_ANY: u32 = 0;
pub const BPF_F_RDONLY_PROG: u32 = 1 << 7;
pub const BPF_PSEUDO_MAP_FD: u32 = 1;
pub const BPF_PSEUDO_MAP_VALUE: u32 = 2;

pub const bpf_map_type_BPF_MAP_TYPE_HASH: u32 = 1;
pub const bpf_map_type_BPF_MAP_TYPE_ARRAY: u32 = 2;
pub const bpf_map_type_BPF_MAP_TYPE_PERF_EVENT_ARRAY: u32 = 4;
pub const bpf_map_type_BPF_MAP_TYPE_PERCPU_HASH: u32 = 5;
pub const bpf_map_type_BPF_MAP_TYPE_PERCPU_ARRAY: u32 = 6;
pub const bpf_map_type_BPF_MAP_TYPE_LRU_HASH: u32 = 9;
pub const bpf_map_type_BPF_MAP_TYPE_LRU_PERCPU_HASH: u32 = 10;
pub const bpf_map_type_BPF_MAP_TYPE_DEVMAP: u32 = 14;

pub const bpf_prog_type_BPF_PROG_TYPE_SOCKET_FILTER: bpf_prog_type = 1;
pub const bpf_prog_type_BPF_PROG_TYPE_KPROBE: bpf_prog_type = 2;
pub const bpf_prog_type_BPF_PROG_TYPE_TRACEPOINT: bpf_prog_type = 5;
pub const bpf_prog_type_BPF_PROG_TYPE_XDP: bpf_prog_type = 6;
pub const bpf_prog_type_BPF_PROG_TYPE_SK_SKB: bpf_prog_type = 14;
pub const bpf_prog_type_BPF_PROG_TYPE_RAW_TRACEPOINT: bpf_prog_type = 17;
pub const bpf_prog_type_BPF_PROG_TYPE_TRACING: bpf_prog_type = 26;
pub const bpf_prog_type_BPF_PROG_TYPE_SK_LOOKUP: bpf_prog_type = 30;

pub const bpf_attach_type_BPF_SK_SKB_STREAM_PARSER: bpf_attach_type = 4;
pub const bpf_attach_type_BPF_SK_SKB_STREAM_VERDICT: bpf_attach_type = 5;
pub const bpf_attach_type_BPF_TRACE_RAW_TP: bpf_attach_type = 23;
pub const bpf_attach_type_BPF_TRACE_FEXIT: bpf_attach_type = 25;
pub const bpf_attach_type_BPF_TRACE_ITER: bpf_attach_type = 28;
pub const bpf_attach_type_BPF_SK_LOOKUP: bpf_attach_type = 36;

pub const XDP_FLAGS_UPDATE_IF_NOEXIST: u32 = 1 << 0;
pub const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
pub const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
pub const XDP_FLAGS_HW_MODE: u32 = 1 << 3;
pub const XDP_FLAGS_MODES: u32 = XDP_FLAGS_SKB_MODE | XDP_FLAGS_DRV_MODE | XDP_FLAGS_HW_MODE;
pub const XDP_FLAGS_MASK: u32 = XDP_FLAGS_UPDATE_IF_NOEXIST | XDP_FLAGS_MODES;

pub const BTF_MAGIC: u32 = 0xeb9f;
pub const BTF_KIND_UNKN: u32 = 0;
pub const BTF_KIND_INT: u32 = 1;
pub const BTF_KIND_PTR: u32 = 2;
pub const BTF_KIND_ARRAY: u32 = 3;
pub const BTF_KIND_STRUCT: u32 = 4;
pub const BTF_KIND_UNION: u32 = 5;
pub const BTF_KIND_ENUM: u32 = 6;
pub const BTF_KIND_FWD: u32 = 7;
pub const BTF_KIND_TYPEDEF: u32 = 8;
pub const BTF_KIND_VOLATILE: u32 = 9;
pub const BTF_KIND_CONST: u32 = 10;
pub const BTF_KIND_RESTRICT: u32 = 11;
pub const BTF_KIND_FUNC: u32 = 12;
pub const BTF_KIND_FUNC_PROTO: u32 = 13;
pub const BTF_KIND_VAR: u32 = 14;
pub const BTF_KIND_DATASEC: u32 = 15;
pub const BTF_KIND_FLOAT: u32 = 16;
pub const BTF_INT_SIGNED: u32 = 1 << 0;
pub const BTF_INT_CHAR: u32 = 1 << 1;
pub const BTF_INT_BOOL: u32 = 1 << 2;
pub const BTF_VAR_STATIC: u32 = 0;
