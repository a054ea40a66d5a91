// SPDX-License-Identifier: MIT OR Apache-2.0
//! For tests: the bytes of records, and a collector that has taken some records.

use crate::bpf::wire::{
    FS_NAME_BYTES, KIND_READ, RECORD_CGROUP_REMOVED, RECORD_HAS_BASE, RECORD_HAS_REAL, RECORD_LATE,
    Record, RecordHeader,
};
use crate::cgroup::Cgroup;
use crate::collect::Collector;
use crate::path::Excludes;
use crate::time::KernelClock;
use std::mem::{offset_of, size_of};
use std::time::UNIX_EPOCH;

pub const CLOCK: KernelClock = KernelClock {
    monotonic: 1_000_000_000,
    wall: UNIX_EPOCH,
};

/// An empty record of container 1.
pub const NOTHING: Record = Record {
    container: 1,
    key: 0,
    time: 0,
    result: 0,
    pid: 1,
    row: 1,
    kinds: KIND_READ,
    flags: 0,
    requested: b"",
    base: b"",
    root: b"",
    real: b"",
    mount: b"",
    fs: b"",
    cgroup: b"",
};

/// Returns the bytes of a record. Its `mount` must be the end of `real`.
pub fn encode(record: &Record) -> Vec<u8> {
    let mut head = [0; size_of::<RecordHeader>()];
    let mut put = |at: usize, bytes: &[u8]| head[at..at + bytes.len()].copy_from_slice(bytes);
    let len = |part: &[u8]| (part.len() as u16).to_ne_bytes();
    put(
        offset_of!(RecordHeader, container),
        &record.container.to_ne_bytes(),
    );
    put(offset_of!(RecordHeader, key), &record.key.to_ne_bytes());
    put(
        offset_of!(RecordHeader, result),
        &record.result.to_ne_bytes(),
    );
    put(offset_of!(RecordHeader, pid), &record.pid.to_ne_bytes());
    put(offset_of!(RecordHeader, time), &record.time.to_ne_bytes());
    let row = u8::try_from(record.row).expect("a record has one byte for the row");
    put(offset_of!(RecordHeader, row), &[row]);
    put(offset_of!(RecordHeader, kinds), &[record.kinds]);
    put(offset_of!(RecordHeader, flags), &record.flags.to_ne_bytes());
    let parts = [record.requested, record.base, record.root, record.real];
    for (i, part) in parts.iter().enumerate() {
        put(offset_of!(RecordHeader, len) + 2 * i, &len(part));
    }
    let mount = record.real.len() - record.mount.len();
    put(
        offset_of!(RecordHeader, mount),
        &(mount as u16).to_ne_bytes(),
    );
    put(offset_of!(RecordHeader, cgroup), &len(record.cgroup));
    assert!(record.fs.len() < FS_NAME_BYTES);
    put(offset_of!(RecordHeader, fs), record.fs);
    [&head[..], &parts.concat(), record.cgroup].concat()
}

fn asking(requested: &[u8]) -> Record<'_> {
    Record {
        requested,
        ..NOTHING
    }
}

/// A collector with two containers: one to which snoop attached late, and one with an odd name that has ended. Of its
/// accesses, one was known, one excluded, one unresolved and one malformed.
pub fn collector() -> Collector {
    let cgroup = Cgroup {
        id: 1,
        path: b"/pod/web".to_vec(),
    };
    let mut collector = Collector::new(vec![cgroup], Excludes::parse(b"/tmp/"), 0, CLOCK);
    let link = Record {
        base: b"etc/",
        real: b"conf/etc/",
        mount: b"etc/",
        fs: b"ext4",
        row: 2,
        flags: RECORD_HAS_BASE | RECORD_HAS_REAL,
        ..asking(b"link")
    };
    let late = Record {
        row: 3,
        flags: RECORD_LATE,
        ..asking(b"/bin/sh")
    };
    let odd = Record {
        container: 2,
        cgroup: b"q\"u\\o\nte/pod",
        ..asking(b"/etc/conf")
    };
    let removed = Record {
        container: 2,
        flags: RECORD_CGROUP_REMOVED,
        ..NOTHING
    };
    for record in [
        asking(b"/etc/conf"),
        link,
        asking(b"/etc/.//conf"),
        asking(b"/tmp/x"),
        asking(b"relative"),
        late,
        odd,
        removed,
    ] {
        let bytes = encode(&record);
        assert_eq!(Record::decode(&bytes), Some(record));
        collector.record(&bytes);
    }
    collector.record(b"too short");
    collector.name_containers(|_| None);
    collector
}
