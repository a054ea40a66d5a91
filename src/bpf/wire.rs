// SPDX-License-Identifier: MIT OR Apache-2.0
//! The mirror of `probes/wire.h`, which explains every field, and the decoder of records.
//!
//! `tests/wire.rs` compares the two through the type information of the compiled object.

use crate::bpf::offsets::Offsets;
use std::mem::{offset_of, size_of};

pub const SYSCALL_NUMBERS: usize = 512;
pub const REQUESTS: usize = 64;
pub const REQUEST_KIND_SHIFT: u32 = 8;
pub const EXCLUDES: usize = 8;
pub const EXCLUDE_WORDS: usize = 4;
pub const ARG_NONE: u8 = 0xff;
pub const CONTAINERS: usize = 2048;
pub const NUMBERS_TRIED: u64 = 16;
pub const ROWS: usize = 160;
pub const RDONLY_CAST: i32 = 0x534e;
pub const CGROUP_DEPTH: usize = 24;
pub const CGROUP_NAME_BYTES: usize = 256;
pub const EXPECTED_BELOW: usize = 64;
pub const LISTED_CHILDREN: u64 = 512;
pub const PARTS: usize = 4;
pub const FS_NAME_BYTES: usize = 16;
/// How many bits of a key choose its bucket.
pub const KNOWN_BITS: u32 = 15;
/// How many keys a bucket holds.
pub const KNOWN_WAYS: u32 = 8;
pub const RING_BYTES: usize = 4 << 20;
/// With this many bytes in the ring, records are taken at once.
pub const RING_URGENT: usize = RING_BYTES / 4;
/// How often [`Control::epoch`] counts up.
pub const EPOCH_SECONDS: u64 = 60;

pub const ROW_OPENS: u16 = 1 << 0;
pub const ROW_CHDIR: u16 = 1 << 1;
pub const ROW_CHROOT: u16 = 1 << 2;
pub const ROW_EXEC: u16 = 1 << 3;
pub const ROW_HOW: u16 = 1 << 4;
pub const ROW_ELF_INTERP: u16 = 1 << 5;
pub const ROW_SELF: u16 = 1 << 6;
pub const ROW_UNTRACED: u16 = 1 << 7;
pub const ROW_ADDRESS: u16 = 1 << 8;
pub const ROW_MESSAGE: u16 = 1 << 9;
pub const ROW_SOCKETCALL: u16 = 1 << 10;
pub const ROW_REBINDS: u16 = 1 << 11;
pub const ROW_LINK: u16 = 1 << 12;
pub const ROW_PIVOT: u16 = 1 << 13;
pub const ROW_WRITES: u16 = 1 << 14;
pub const ROW_FLAGS: u16 = 1 << 15;

pub const KIND_LOOKED_AT: u8 = 1 << 0;
pub const KIND_READ: u8 = 1 << 1;
pub const KIND_WRITTEN: u8 = 1 << 2;
pub const KIND_EXECUTED: u8 = 1 << 3;
pub const KIND_MAPPED: u8 = 1 << 4;

pub const RECORD_HAS_BASE: u16 = 1 << 0;
pub const RECORD_HAS_REAL: u16 = 1 << 1;
pub const RECORD_IN_BASE: u16 = 1 << 2;
pub const RECORD_CHDIR: u16 = 1 << 3;
pub const RECORD_REAL_ONLY: u16 = 1 << 4;
pub const RECORD_CGROUP_CREATED: u16 = 1 << 5;
pub const RECORD_CGROUP_REMOVED: u16 = 1 << 6;
pub const RECORD_LATE: u16 = 1 << 7;
pub const RECORD_PENDING: u16 = 1 << 8;
pub const RECORD_COMPLETE: u16 = 1 << 9;
pub const RECORD_OWN_VIEW: u16 = 1 << 10;
pub const RECORD_OTHER_MNTNS: u16 = 1 << 11;
pub const RECORD_OTHER_ROOT: u16 = 1 << 12;
pub const RECORD_IN_REAL: u16 = 1 << 13;
pub const RECORD_BASE_REMOVED: u16 = 1 << 14;
pub const RECORD_NO_ROOT: u16 = 1 << 15;

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Row {
    pub path: [u8; 2],
    pub dir: [u8; 2],
    pub kind: u16,
    pub id: u16,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Request {
    pub path: [u8; 2],
    pub dir: [u8; 2],
    pub how: u8,
    pub kind: u8,
    pub id: u16,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Exclude {
    pub word: [u64; EXCLUDE_WORDS],
    pub mask: [u64; EXCLUDE_WORDS],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Config {
    pub table: [[Row; SYSCALL_NUMBERS]; 2],
    pub request: [Request; REQUESTS],
    pub exclude: [Exclude; EXCLUDES],
    pub seed: u64,
    pub cookie: u64,
    pub off: Offsets,
    pub typed: u32,
    pub exec_id: u16,
    pub script_interp_id: u16,
    pub elf_interp_id: u16,
    pub late_id: u16,
    pub mode_backing: u32,
    pub features: u32,
    pub other_id: u16,
    pub plain_loads: u16,
    pub known_bits: u32,
    pub pad: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Control {
    pub generation: u32,
    pub epoch: u32,
    pub attached: u64,
    pub listed: u64,
}

/// What a cgroup that snoop names means to the programs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    Processes = 1,
    Container = 2,
    Pod = 3,
    Ignored = 4,
    Parent = 5,
    Node = 6,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Container {
    pub id: u64,
    pub path_sent: u32,
    pub pad: u32,
    pub mntns: u64,
    pub root: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct CgroupPath {
    pub parent: u64,
    pub name: [u8; CGROUP_NAME_BYTES],
}

/// What a cgroup becomes when it is created: a target, or the parent of another one that is expected.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Expected {
    pub target: u32,
    pub next: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct ExpectedBelow {
    pub then: Expected,
    pub name: [u8; CGROUP_NAME_BYTES],
}

#[repr(C)]
pub struct SelfInfo {
    pub now: u64,
    pub tgid: u32,
    pub listed: u32,
    pub runtime: u64,
    pub ns: u64,
    pub id: [u64; CGROUP_DEPTH],
    pub name: [[u8; CGROUP_NAME_BYTES]; CGROUP_DEPTH],
}

/// What became of an access: it was sent, or why it was not. These are the columns of [`Counts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Failed,
    Excluded,
    Duplicate,
    Submitted,
    Full,
    Unreadable,
    Untraced,
    TooLong,
    Preempted,
}

impl Outcome {
    /// The outcomes of accesses that are not in a report.
    pub const LOST: [Outcome; 5] = [
        Outcome::Full,
        Outcome::Unreadable,
        Outcome::Untraced,
        Outcome::TooLong,
        Outcome::Preempted,
    ];
}

pub const OUTCOMES: usize = Outcome::Preempted as usize + 1;

#[repr(C)]
pub struct Counts {
    pub of: [[u64; OUTCOMES]; ROWS],
    pub events: [u64; CONTAINERS],
    pub displaced: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct RecordHeader {
    pub container: u64,
    pub key: u64,
    pub time: u64,
    pub result: i32,
    pub pid: u32,
    pub row: u8,
    pub kinds: u8,
    pub flags: u16,
    pub len: [u16; PARTS],
    pub mount: u16,
    pub cgroup: u16,
    pub fs: [u8; FS_NAME_BYTES],
}

// The C side asserts these sizes too: a field that is added on one side alone does not compile.
const _: () = assert!(size_of::<Row>() == 8);
const _: () = assert!(size_of::<RecordHeader>() == 64);
const _: () = assert!(
    size_of::<Config>()
        == size_of::<[[Row; SYSCALL_NUMBERS]; 2]>()
            + size_of::<[Request; REQUESTS]>()
            + size_of::<[Exclude; EXCLUDES]>()
            + 2 * size_of::<u64>()
            + size_of::<Offsets>()
            + 5 * size_of::<u32>()
            + 6 * size_of::<u16>()
);

/// A structure of integers without padding.
///
/// # Safety
/// Every byte of the type must belong to a field.
pub unsafe trait Plain: Copy {
    fn as_bytes(&self) -> &[u8] {
        // SAFETY: without padding every byte is initialised; the slice borrows self.
        unsafe { std::slice::from_raw_parts((self as *const Self).cast(), size_of::<Self>()) }
    }
}

// SAFETY: the assertions above pin the sizes to the sums of the fields'.
unsafe impl Plain for Config {}
// SAFETY: two u32 and two u64.
unsafe impl Plain for Control {}
// SAFETY: two u32.
unsafe impl Plain for Expected {}
// SAFETY: two u32 and bytes.
unsafe impl Plain for ExpectedBelow {}
// SAFETY: a u64 and bytes.
unsafe impl Plain for CgroupPath {}

/// A decoded record. The programs make its parts, so that wire.h explains them.
#[derive(Debug, PartialEq)]
pub struct Record<'a> {
    pub container: u64,
    pub key: u64,
    pub time: u64,
    pub result: i32,
    pub pid: u32,
    pub row: u16,
    pub kinds: u8,
    pub flags: u16,
    pub requested: &'a [u8],
    pub base: &'a [u8],
    pub root: &'a [u8],
    pub real: &'a [u8],
    /// The end of the real part: the name of the mount point that the file lies on.
    pub mount: &'a [u8],
    /// The type of the file system that is mounted there; empty if it is not known.
    pub fs: &'a [u8],
    /// The names of the container's cgroup, from the leaf up; empty if they were sent before.
    pub cgroup: &'a [u8],
}

/// Returns the bytes before the first NUL.
pub fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|b| *b == 0).next().unwrap_or_default()
}

impl<'a> Record<'a> {
    pub fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// Decodes a record; `None` if the bytes are too few for the header, or have another length than it says.
    pub fn decode(bytes: &'a [u8]) -> Option<Record<'a>> {
        let (head, mut data) = bytes.split_at_checked(size_of::<RecordHeader>())?;
        let u64_at = |at: usize| Some(u64::from_ne_bytes(head.get(at..at + 8)?.try_into().ok()?));
        let u32_at = |at: usize| Some(u32::from_ne_bytes(head.get(at..at + 4)?.try_into().ok()?));
        let u16_at = |at: usize| Some(u16::from_ne_bytes(head.get(at..at + 2)?.try_into().ok()?));
        let mut parts = [&data[..0]; PARTS];
        for (i, part) in parts.iter_mut().enumerate() {
            let len = u16_at(offset_of!(RecordHeader, len) + 2 * i)?;
            (*part, data) = data.split_at_checked(len.into())?;
        }
        let [requested, base, root, real] = parts;
        let (cgroup, data) =
            data.split_at_checked(u16_at(offset_of!(RecordHeader, cgroup))?.into())?;
        let fs = &head[offset_of!(RecordHeader, fs)..][..FS_NAME_BYTES];
        let mount = u16_at(offset_of!(RecordHeader, mount))?;
        // A perf buffer pads records to multiples of eight bytes.
        (data.len() < 8).then_some(Record {
            container: u64_at(offset_of!(RecordHeader, container))?,
            key: u64_at(offset_of!(RecordHeader, key))?,
            time: u64_at(offset_of!(RecordHeader, time))?,
            result: u32_at(offset_of!(RecordHeader, result))? as i32,
            pid: u32_at(offset_of!(RecordHeader, pid))?,
            row: head[offset_of!(RecordHeader, row)].into(),
            kinds: head[offset_of!(RecordHeader, kinds)],
            flags: u16_at(offset_of!(RecordHeader, flags))?,
            requested,
            base,
            root,
            real,
            mount: real.get(mount.into()..).unwrap_or_default(),
            fs: until_nul(fs),
            cgroup,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The bytes of a record: its header, then the parts, then the names of the cgroup.
    fn encode(header: &RecordHeader, parts: [&[u8]; PARTS], cgroup: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(header.container.to_ne_bytes());
        bytes.extend(header.key.to_ne_bytes());
        bytes.extend(header.time.to_ne_bytes());
        bytes.extend(header.result.to_ne_bytes());
        bytes.extend(header.pid.to_ne_bytes());
        bytes.extend([header.row, header.kinds]);
        bytes.extend(header.flags.to_ne_bytes());
        for part in parts {
            bytes.extend((part.len() as u16).to_ne_bytes());
        }
        bytes.extend(header.mount.to_ne_bytes());
        bytes.extend((cgroup.len() as u16).to_ne_bytes());
        bytes.extend(header.fs);
        assert_eq!(bytes.len(), size_of::<RecordHeader>());
        bytes.extend(parts.concat());
        bytes.extend(cgroup);
        bytes
    }

    fn header() -> RecordHeader {
        RecordHeader {
            container: 0x0123_4567_89ab_cdef,
            key: 0xfedc_ba98_7654_3210,
            time: 0x1122_3344_5566_7788,
            result: -2,
            pid: 4_000_000_000,
            row: 65,
            kinds: KIND_READ | KIND_MAPPED,
            flags: 0,
            len: [0; PARTS],
            mount: 4,
            cgroup: 0,
            fs: *b"overlay\0after it",
        }
    }

    const REQUESTED: &[u8] = b"conf";
    const BASE: &[u8] = b"etc/";
    const ROOT: &[u8] = b"rootfs/run/";
    const REAL: &[u8] = b"conf/etc/data/";
    const CGROUP: &[u8] = b"pod/slice/";

    #[test]
    fn every_part_is_found() {
        let bytes = encode(&header(), [REQUESTED, BASE, ROOT, REAL], CGROUP);
        let expected = Record {
            container: 0x0123_4567_89ab_cdef,
            key: 0xfedc_ba98_7654_3210,
            time: 0x1122_3344_5566_7788,
            result: -2,
            pid: 4_000_000_000,
            row: 65,
            kinds: KIND_READ | KIND_MAPPED,
            flags: 0,
            requested: REQUESTED,
            base: BASE,
            root: ROOT,
            real: REAL,
            mount: b"/etc/data/",
            fs: b"overlay",
            cgroup: CGROUP,
        };
        assert_eq!(Record::decode(&bytes), Some(expected));
    }

    #[test]
    fn every_flag_is_told_apart() {
        let all = [
            RECORD_HAS_BASE,
            RECORD_HAS_REAL,
            RECORD_IN_BASE,
            RECORD_CHDIR,
            RECORD_REAL_ONLY,
            RECORD_CGROUP_CREATED,
            RECORD_CGROUP_REMOVED,
            RECORD_LATE,
            RECORD_PENDING,
            RECORD_COMPLETE,
            RECORD_OWN_VIEW,
        ];
        for flags in all {
            let header = RecordHeader { flags, ..header() };
            let bytes = encode(&header, [&[]; PARTS], &[]);
            let record = Record::decode(&bytes).unwrap();
            let set: Vec<_> = all.into_iter().filter(|flag| record.has(*flag)).collect();
            assert_eq!(set, [flags]);
        }
    }

    #[test]
    fn a_mount_point_that_is_not_in_the_real_part() {
        // MOUNT_NONE of probes/path.h, and one past the end.
        for (mount, name) in [(0xffff, &b""[..]), (15, b""), (14, b""), (0, REAL)] {
            let header = RecordHeader { mount, ..header() };
            let bytes = encode(&header, [REQUESTED, BASE, ROOT, REAL], &[]);
            assert_eq!(Record::decode(&bytes).unwrap().mount, name);
        }
    }

    #[test]
    fn the_name_of_a_file_system_may_fill_its_field() {
        let fs = *b"sixteen letters!";
        let bytes = encode(&RecordHeader { fs, ..header() }, [&[]; PARTS], &[]);
        assert_eq!(Record::decode(&bytes).unwrap().fs, fs);
    }

    #[test]
    fn bytes_behind_a_record() {
        let whole = encode(&header(), [REQUESTED, BASE, ROOT, REAL], CGROUP);
        let record = Record::decode(&whole);
        // A perf buffer pads to multiples of eight bytes.
        for padding in 1..8 {
            let padded = [&whole[..], &vec![0; padding]].concat();
            assert_eq!(Record::decode(&padded), record, "{padding}");
        }
        assert_eq!(Record::decode(&[&whole[..], &[0; 8]].concat()), None);
    }

    proptest! {
        #[test]
        fn a_truncated_record_is_refused(
            parts in prop::array::uniform4(prop::collection::vec(any::<u8>(), 0..300)),
            cgroup in prop::collection::vec(any::<u8>(), 0..100),
            cut: prop::sample::Index,
        ) {
            let bytes = encode(&header(), std::array::from_fn(|i| &parts[i][..]), &cgroup);
            let record = Record::decode(&bytes).unwrap();
            let found = [record.requested, record.base, record.root, record.real, record.cgroup];
            let sent = [&parts[0], &parts[1], &parts[2], &parts[3], &cgroup];
            for (found, sent) in found.iter().zip(sent) {
                prop_assert_eq!(found, sent);
            }
            prop_assert_eq!(Record::decode(&bytes[..cut.index(bytes.len())]), None);
        }

        #[test]
        fn any_bytes_are_a_record_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(record) = Record::decode(&bytes) {
                let parts = [record.requested, record.base, record.root, record.real, record.cgroup];
                let len: usize = parts.iter().map(|part| part.len()).sum();
                prop_assert!(bytes.len() - size_of::<RecordHeader>() - len < 8);
            }
        }
    }
}
