// SPDX-License-Identifier: MIT OR Apache-2.0
//! The two sides of the wire agree: compares `src/bpf/wire.rs` with the type information of the compiled programs, and
//! with the constants in `probes/wire.h`.

use object::{Object, ObjectSection};
use snoop::bpf::btf::{self, Member};
use snoop::bpf::features::Feature;
use snoop::bpf::hooks::Tail;
use snoop::bpf::offsets::{OFFSET_NONE, Offsets};
use snoop::bpf::wire::{
    self, CgroupPath, Config, Container, Control, Exclude, Expected, ExpectedBelow, Outcome,
    RecordHeader, Request, Row, SelfInfo, Target,
};
use std::fs;
use std::io::Cursor;
use std::io::Write;
use std::mem::offset_of;
use std::process::{Command, Stdio};

/// Compares the offset of each named member with the offset that clang chose.
macro_rules! assert_layout {
    ($btf:expr, $($structure:literal $type:ident { $($field:ident),+ $(,)? })+) => {
        let members = [$($(Member { structure: $structure, names: &[stringify!($field)] },)+)+];
        let ours = [$($(offset_of!($type, $field),)+)+];
        let found = btf::find(&mut Cursor::new($btf), &members, &[]).unwrap();
        for ((member, theirs), ours) in members.iter().zip(found.members).zip(ours) {
            let name = format!("{}.{}", member.structure, member.names[0]);
            assert_eq!(theirs, Some(ours as u32), "{name}");
        }
    };
}

#[test]
fn structures() {
    let object = fs::read(env!("SNOOP_DEBUG_OBJECT")).unwrap();
    let object = object::File::parse(&*object).unwrap();
    let btf = object.section_by_name(".BTF").unwrap().data().unwrap();
    assert_layout!(btf,
        "row" Row { path, dir, kind, id }
        "request" Request { path, dir, how, kind, id }
        "exclude" Exclude { word, mask }
        "config" Config { table, request, exclude, seed, cookie, off, typed, exec_id, script_interp_id, elf_interp_id, late_id, mode_backing, features, other_id, plain_loads, known_bits, pad }
        "control" Control { generation, epoch, attached, listed }
        "container" Container { id, path_sent, pad, mntns, root }
        "cgroup_path" CgroupPath { parent, name }
        "expected" Expected { target, next }
        "expected_below" ExpectedBelow { then, name }
        "self" SelfInfo { now, tgid, listed, runtime, ns, id, name }
        "record" RecordHeader { container, key, time, result, pid, row, kinds, flags, len, mount, cgroup, fs }
    );
    let fields = Offsets::FIELDS
        .iter()
        .map(|(name, at)| (*name, Some(*at as u32)));
    let (names, ours): (Vec<_>, Vec<_>) = fields.unzip();
    let member = |name: &'static &'static str| Member {
        structure: "offsets",
        names: std::slice::from_ref(name),
    };
    let members: Vec<_> = Offsets::FIELDS
        .iter()
        .map(|(name, _)| member(name))
        .collect();
    let found = btf::find(&mut Cursor::new(btf), &members, &[]).unwrap();
    for ((name, theirs), ours) in names.iter().zip(found.members).zip(ours) {
        assert_eq!(theirs, ours, "offsets.{name}");
    }
}

#[test]
fn constants() {
    let mut source = String::from("#include \"probes/wire.h\"\n");
    let mut equal = |name: &str, value: usize| {
        source += &format!("_Static_assert({name} == {value}, \"{name}\");\n");
    };
    equal("sizeof(struct config)", size_of::<Config>());
    equal("sizeof(struct control)", size_of::<Control>());
    equal("sizeof(struct offsets)", size_of::<Offsets>());
    equal("sizeof(struct record)", size_of::<RecordHeader>());
    equal("sizeof(struct container)", size_of::<Container>());
    equal("sizeof(struct cgroup_path)", size_of::<CgroupPath>());
    equal("sizeof(struct self)", size_of::<SelfInfo>());
    equal("TARGET_PROCESSES", Target::Processes as usize);
    equal("TARGET_CONTAINER", Target::Container as usize);
    equal("TARGET_POD", Target::Pod as usize);
    equal("TARGET_IGNORED", Target::Ignored as usize);
    equal("TARGET_PARENT", Target::Parent as usize);
    equal("TARGET_NODE", Target::Node as usize);
    equal("EXPECTED_BELOW", wire::EXPECTED_BELOW);
    equal("LISTED_CHILDREN", wire::LISTED_CHILDREN as usize);
    equal("sizeof(struct expected_below)", size_of::<ExpectedBelow>());
    equal("CGROUP_DEPTH", wire::CGROUP_DEPTH);
    equal("CGROUP_NAME_BYTES", wire::CGROUP_NAME_BYTES);
    equal("SYSCALL_NUMBERS", wire::SYSCALL_NUMBERS);
    equal("EXCLUDES", wire::EXCLUDES);
    equal("EXCLUDE_WORDS", wire::EXCLUDE_WORDS);
    equal("ARG_NONE", wire::ARG_NONE.into());
    equal("OFFSET_NONE", OFFSET_NONE as usize);
    equal("ROWS", wire::ROWS);
    equal("CONTAINERS", wire::CONTAINERS);
    equal("NUMBERS_TRIED", wire::NUMBERS_TRIED as usize);
    equal("sizeof(struct counts)", size_of::<wire::Counts>());
    equal("PARTS", wire::PARTS);
    equal("TAILS", Tail::Send as usize + 1);
    equal("TAIL_DEDUP", Tail::Dedup as usize);
    equal("TAIL_SEND", Tail::Send as usize);
    equal(
        "FEATURE_KERNEL_MEMORY",
        Feature::KernelMemory.bit() as usize,
    );
    equal("FEATURE_PATHS", Feature::Paths.bit() as usize);
    equal("FEATURE_ELF_INTERP", Feature::ElfInterp.bit() as usize);
    equal("KNOWN_BITS", wire::KNOWN_BITS as usize);
    equal("KNOWN_WAYS", wire::KNOWN_WAYS as usize);
    equal("RING_BYTES", wire::RING_BYTES);
    equal("RING_URGENT", wire::RING_URGENT);
    equal("EPOCH_SECONDS", wire::EPOCH_SECONDS as usize);
    equal("ROW_OPENS", wire::ROW_OPENS.into());
    equal("ROW_CHDIR", wire::ROW_CHDIR.into());
    equal("ROW_CHROOT", wire::ROW_CHROOT.into());
    equal("ROW_EXEC", wire::ROW_EXEC.into());
    equal("ROW_HOW", wire::ROW_HOW.into());
    equal("ROW_ELF_INTERP", wire::ROW_ELF_INTERP.into());
    equal("ROW_SELF", wire::ROW_SELF.into());
    equal("FS_NAME_BYTES", wire::FS_NAME_BYTES);
    equal("RECORD_HAS_BASE", wire::RECORD_HAS_BASE.into());
    equal("RECORD_HAS_REAL", wire::RECORD_HAS_REAL.into());
    equal("RECORD_IN_BASE", wire::RECORD_IN_BASE.into());
    equal("RECORD_CHDIR", wire::RECORD_CHDIR.into());
    equal("RECORD_REAL_ONLY", wire::RECORD_REAL_ONLY.into());
    equal("RECORD_CGROUP_CREATED", wire::RECORD_CGROUP_CREATED.into());
    equal("RECORD_CGROUP_REMOVED", wire::RECORD_CGROUP_REMOVED.into());
    equal("RECORD_OTHER_MNTNS", wire::RECORD_OTHER_MNTNS.into());
    equal("RECORD_OTHER_ROOT", wire::RECORD_OTHER_ROOT.into());
    equal("RECORD_IN_REAL", wire::RECORD_IN_REAL.into());
    equal("RECORD_BASE_REMOVED", wire::RECORD_BASE_REMOVED.into());
    equal("RECORD_NO_ROOT", wire::RECORD_NO_ROOT.into());
    equal("RECORD_LATE", wire::RECORD_LATE.into());
    equal("OUTCOME_FAILED", Outcome::Failed as usize);
    equal("OUTCOME_EXCLUDED", Outcome::Excluded as usize);
    equal("OUTCOME_DUPLICATE", Outcome::Duplicate as usize);
    equal("OUTCOME_SUBMITTED", Outcome::Submitted as usize);
    equal("OUTCOME_FULL", Outcome::Full as usize);
    equal("OUTCOME_UNREADABLE", Outcome::Unreadable as usize);
    equal("RECORD_PENDING", wire::RECORD_PENDING.into());
    equal("RECORD_COMPLETE", wire::RECORD_COMPLETE.into());
    equal("RECORD_OWN_VIEW", wire::RECORD_OWN_VIEW.into());
    equal("REQUESTS", wire::REQUESTS);
    equal("ROW_UNTRACED", wire::ROW_UNTRACED.into());
    equal("ROW_ADDRESS", wire::ROW_ADDRESS.into());
    equal("ROW_MESSAGE", wire::ROW_MESSAGE.into());
    equal("ROW_SOCKETCALL", wire::ROW_SOCKETCALL.into());
    equal("ROW_REBINDS", wire::ROW_REBINDS.into());
    equal("ROW_LINK", wire::ROW_LINK.into());
    equal("ROW_PIVOT", wire::ROW_PIVOT.into());
    equal("RDONLY_CAST", wire::RDONLY_CAST as usize);
    equal("ROW_WRITES", wire::ROW_WRITES.into());
    equal("ROW_FLAGS", wire::ROW_FLAGS.into());
    equal("REQUEST_KIND_SHIFT", wire::REQUEST_KIND_SHIFT as usize);
    equal("KIND_LOOKED_AT", wire::KIND_LOOKED_AT.into());
    equal("KIND_READ", wire::KIND_READ.into());
    equal("KIND_WRITTEN", wire::KIND_WRITTEN.into());
    equal("KIND_EXECUTED", wire::KIND_EXECUTED.into());
    equal("KIND_MAPPED", wire::KIND_MAPPED.into());
    equal("OUTCOME_UNTRACED", Outcome::Untraced as usize);
    equal("OUTCOME_TOO_LONG", Outcome::TooLong as usize);
    equal("OUTCOME_PREEMPTED", Outcome::Preempted as usize);
    equal("OUTCOMES", wire::OUTCOMES);

    let mut compiler = Command::new("cc")
        .args(["-fsyntax-only", "-I.", "-x", "c", "-"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .spawn()
        .expect("the C compiler runs");
    compiler
        .stdin
        .take()
        .unwrap()
        .write_all(source.as_bytes())
        .unwrap();
    assert!(compiler.wait().unwrap().success(), "the constants differ");
}
