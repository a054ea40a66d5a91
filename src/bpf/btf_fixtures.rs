// SPDX-License-Identifier: MIT OR Apache-2.0
//! Small BTF files of real kernels, in tests/fixtures/btf: NAME.btf has only what snoop asks of a kernel's BTF, and NAME.txt what
//! snoop makes of the whole of it.
//!
//! To add a kernel, take the BTF of a running one (/sys/kernel/btf/vmlinux) or out of its vmlinux (`objcopy --dump-section
//! .BTF=FILE vmlinux /dev/null`; the kernel's scripts/extract-vmlinux unpacks an image), and call
//!
//! ```sh
//! BTF=FILE NAME=6.18 cargo test --lib write_a_btf_fixture -- --ignored
//! ```
//!
//! When snoop asks for another member, the fixtures have to be written again from the same kernels.

use crate::bpf::btf::{self, KIND_FUNCTION, KIND_STRUCT, KIND_TYPEDEF, KIND_UNION};
use crate::bpf::features::{Feature, KernelFeatures};
use crate::bpf::hooks::{Buffer, HOOKS, ITERATORS};
use crate::bpf::layout::{self, Layout, layout};
use crate::bpf::offsets::OFFSET_NONE;
use crate::bpf::wire::ARG_NONE;
use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::path::PathBuf;

/// The largest fixture that may be in the tree.
const MOST_BYTES: usize = 20_000;

/// As much of a kernel's BTF as snoop asks for.
#[derive(Clone, Default)]
struct Reduced {
    structures: Vec<Structure>,
    /// Typedefs and functions: the kind and the name.
    types: Vec<(u32, String)>,
    /// Names that only have to be there.
    names: Vec<String>,
}

#[derive(Clone)]
struct Structure {
    kind: u32,
    name: String,
    members: Vec<StructMember>,
}

#[derive(Clone)]
struct StructMember {
    name: String,
    /// The index of the structure that a member without a name has as its type.
    anonymous: Option<usize>,
    bits: u32,
}

/// A structure of the whole BTF. Its members are name, id of the type, and offset in bits.
struct Whole {
    kind: u32,
    name: String,
    members: Vec<(String, u32, u32)>,
}

impl Reduced {
    fn of(bytes: &[u8]) -> Reduced {
        let (structures, mut reduced) = Reduced::read(bytes);
        let mut asked = BTreeMap::<&str, Vec<&str>>::new();
        for member in layout::members() {
            let names = asked.entry(member.structure).or_default();
            names.extend(member.names);
        }
        for whole in structures.values() {
            if let Some(names) = asked.get(whole.name.as_str()) {
                reduced.keep(whole, names, &structures);
            }
        }
        reduced
    }

    /// Reads all structures, and those types and names that snoop asks for.
    fn read(bytes: &[u8]) -> (BTreeMap<u32, Whole>, Reduced) {
        let mut input = Cursor::new(bytes);
        let header = btf::read_header(&mut input).unwrap();
        let names = &bytes[header.names_at as usize..][..header.names_len as usize];
        let name = |at: u32| {
            let name = names[at as usize..].split(|b| *b == 0).next().unwrap();
            String::from_utf8(name.to_vec()).unwrap()
        };
        let mut structures = BTreeMap::<u32, Whole>::new();
        let mut reduced = Reduced::default();
        let types = layout::type_names();
        btf::each_type(&mut input, &header, |t| match t.kind {
            KIND_STRUCT | KIND_UNION => {
                let whole = structures.entry(t.id).or_insert_with(|| Whole {
                    kind: t.kind,
                    name: name(t.name),
                    members: Vec::new(),
                });
                let members = t.members().map(|(at, id, bits)| (name(at), id, bits));
                whole.members.extend(members);
            }
            KIND_TYPEDEF | KIND_FUNCTION if types.contains(&name(t.name).as_str()) => {
                reduced.types.push((t.kind, name(t.name)));
            }
            _ => (),
        })
        .unwrap();
        let known = btf::find_known(&mut input, &KernelFeatures::NAMES).unwrap();
        let known = KernelFeatures::NAMES
            .iter()
            .zip(known)
            .filter(|(_, is)| *is);
        reduced.names = known.map(|(name, _)| name.to_string()).collect();
        (structures, reduced)
    }

    /// Adds a structure with those of its members that have one of the names. Returns its index; `None` if there are none.
    fn keep(&mut self, whole: &Whole, names: &[&str], all: &BTreeMap<u32, Whole>) -> Option<usize> {
        let mut members = Vec::new();
        for (name, id, bits) in &whole.members {
            let anonymous = match name.as_str() {
                "" => match all.get(id).and_then(|whole| self.keep(whole, names, all)) {
                    None => continue,
                    index => index,
                },
                name if names.contains(&name) => None,
                _ => continue,
            };
            members.push(StructMember {
                name: name.clone(),
                anonymous,
                bits: *bits,
            });
        }
        if members.is_empty() {
            return None;
        }
        self.structures.push(Structure {
            kind: whole.kind,
            name: whole.name.clone(),
            members,
        });
        Some(self.structures.len() - 1)
    }

    fn bytes(&self) -> Vec<u8> {
        let mut names = vec![0];
        let mut places = BTreeMap::from([(String::new(), 0)]);
        let mut name = |name: &str| {
            *places.entry(name.to_string()).or_insert_with(|| {
                let at = names.len() as u32;
                names.extend(name.bytes().chain([0]));
                at
            })
        };
        let mut types = Vec::new();
        for structure in &self.structures {
            let members = structure.members.len() as u32;
            types.extend([name(&structure.name), structure.kind << 24 | members, 0]);
            for member in &structure.members {
                // Types are numbered from 1.
                let id = member.anonymous.map_or(0, |index| index as u32 + 1);
                types.extend([name(&member.name), id, member.bits]);
            }
        }
        for (kind, of) in &self.types {
            types.extend([name(of), kind << 24, 0]);
        }
        for of in &self.names {
            name(of);
        }
        let types_len = types.len() as u32 * 4;
        let header = [24, 0, types_len, types_len, names.len() as u32];
        // The magic number, version 1, no flags.
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        let words = header.iter().chain(&types);
        bytes.extend(words.flat_map(|word| word.to_le_bytes()));
        bytes.extend(names);
        bytes
    }

    /// The member of a structure, or of what it has without a name.
    fn member(&mut self, structure: &str, name: &str) -> &mut StructMember {
        let named = |s: &Structure| s.name == structure;
        let mut open = vec![self.structures.iter().position(named).unwrap()];
        while let Some(index) = open.pop() {
            let members = &self.structures[index].members;
            if let Some(at) = members.iter().position(|member| member.name == name) {
                return &mut self.structures[index].members[at];
            }
            open.extend(members.iter().filter_map(|member| member.anonymous));
        }
        panic!("there is no {structure}.{name}");
    }

    fn without_type(mut self, name: &str) -> Reduced {
        let before = self.types.len();
        self.types.retain(|(_, of)| of != name);
        assert!(self.types.len() < before, "{name}");
        self
    }

    fn without_member(mut self, structure: &str, name: &str) -> Reduced {
        self.member(structure, name).name = "other".into();
        self
    }

    fn layout(&self, buffer: Buffer) -> Result<Layout, String> {
        layout(&mut Cursor::new(self.bytes()), buffer)
    }
}

/// What snoop makes of a kernel's BTF, in lines of text.
fn describe(bytes: &[u8]) -> String {
    let features = KernelFeatures::read(&mut Cursor::new(bytes)).unwrap();
    let mut lines = vec![format!("{features:?}")];
    let buffer = match features.ring {
        true => Buffer::Ring,
        false => Buffer::Perf,
    };
    let layout = layout(&mut Cursor::new(bytes), buffer).unwrap();
    for (name, offset) in layout.offsets.values() {
        lines.push(match offset {
            OFFSET_NONE => format!("{name} is missing"),
            offset => format!("{name} {offset}"),
        });
    }
    for (hook, id) in HOOKS.iter().zip(layout.hook_ids) {
        lines.push(format!("{} {}", hook.program(buffer), id.is_some()));
    }
    for (iterator, id) in ITERATORS.iter().zip(layout.iterator_ids) {
        lines.push(format!("{} {}", iterator.program, id.is_some()));
    }
    let requests = layout.requests.iter().flatten().enumerate();
    for (opcode, request) in requests.filter(|(_, request)| request.id != 0) {
        let shown = |at: [u8; 2]| {
            at.into_iter()
                .filter(|at| *at != ARG_NONE)
                .collect::<Vec<_>>()
        };
        let (paths, dirs) = (shown(request.path), shown(request.dir));
        let how = request.how;
        lines.push(format!(
            "request {opcode}: paths {paths:?}, dirs {dirs:?}, how {how}"
        ));
    }
    match &layout.resolver {
        Ok(hooks) => lines.extend(hooks.iter().map(|(program, _)| program.to_string())),
        Err(why) => lines.push(format!("no resolver: {why}")),
    }
    for lost in &layout.lost {
        lines.push(format!("lost {}: {}", lost.feature.name(), lost.why));
    }
    lines.join("\n") + "\n"
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/btf")
}

fn fixture(name: &str) -> Reduced {
    let bytes = fs::read(directory().join(format!("{name}.btf"))).unwrap();
    Reduced::of(&bytes)
}

#[test]
#[ignore = "writes a fixture from the kernel's BTF in the file BTF"]
fn write_a_btf_fixture() {
    let whole = fs::read(std::env::var_os("BTF").expect("BTF is set")).unwrap();
    let name = std::env::var("NAME").expect("NAME is set");
    let bytes = Reduced::of(&whole).bytes();
    assert!(bytes.len() <= MOST_BYTES, "{} bytes", bytes.len());
    fs::create_dir_all(directory()).unwrap();
    fs::write(directory().join(format!("{name}.btf")), bytes).unwrap();
    fs::write(directory().join(format!("{name}.txt")), describe(&whole)).unwrap();
}

#[test]
fn layouts_of_real_kernels() {
    let files = fs::read_dir(directory()).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    let fixtures: Vec<_> = paths.filter(|p| p.extension().unwrap() == "btf").collect();
    assert!(fixtures.len() >= 5, "{fixtures:?}");
    for path in fixtures {
        let bytes = fs::read(&path).unwrap();
        assert!(bytes.len() <= MOST_BYTES, "{}", path.display());
        let expected = fs::read_to_string(path.with_extension("txt")).unwrap();
        assert_eq!(describe(&bytes), expected, "{}", path.display());
    }
}

#[test]
fn a_member_that_snoop_needs() {
    let btf = fixture("6.18").without_member("task_struct", "cgroups");
    let error = btf.layout(Buffer::Ring).unwrap_err();
    assert_eq!(error, "it has no task_struct.cgroups");
    let btf = fixture("6.18").without_member("kernfs_node", "__parent");
    let error = btf.layout(Buffer::Ring).unwrap_err();
    assert_eq!(error, "it has no kernfs_node.parent|__parent");
}

#[test]
fn members_that_features_need() {
    let lost = |structure, member| {
        let btf = fixture("6.18").without_member(structure, member);
        let lost = btf.layout(Buffer::Ring).unwrap().lost;
        lost.into_iter()
            .map(|lost| (lost.feature, lost.why))
            .collect::<Vec<_>>()
    };
    let because = |why: &str| why.to_string();
    assert_eq!(
        lost("dentry", "d_hash"),
        [(Feature::Paths, because("it has no dentry.d_hash"))]
    );
    assert_eq!(
        lost("vm_area_struct", "vm_file"),
        [(
            Feature::ElfInterp,
            because("it has no vm_area_struct.vm_file")
        )]
    );
    assert_eq!(lost("css_set", "tasks"), []);
}

#[test]
fn containers_are_not_listed_without_all_members() {
    let listed = |btf: Reduced| btf.layout(Buffer::Ring).unwrap().offsets.task_cg_list;
    assert_ne!(listed(fixture("6.18")), OFFSET_NONE);
    assert_eq!(
        listed(fixture("6.18").without_member("css_set", "tasks")),
        OFFSET_NONE
    );
}

#[test]
fn members_that_are_read_at_once() {
    let why = |structure, member| {
        let mut btf = fixture("6.18");
        btf.member(structure, member).bits += 64;
        let lost = btf.layout(Buffer::Ring).unwrap().lost;
        lost.into_iter().map(|lost| lost.why).collect::<Vec<_>>()
    };
    assert_eq!(
        why("path", "dentry"),
        ["its path.dentry does not follow mnt"]
    );
    assert_eq!(
        why("mount", "mnt"),
        ["its mount.mnt does not follow mnt_parent and mnt_mountpoint"]
    );
    assert_eq!(
        why("dentry", "d_parent"),
        ["its dentry.d_name does not follow d_parent"]
    );
}

#[test]
fn a_hook_that_is_missing() {
    let btf = fixture("6.18").without_type("btf_trace_sched_process_exec");
    let error = btf.layout(Buffer::Ring).unwrap_err();
    assert_eq!(error, "it has no btf_trace_sched_process_exec");
    // Plain raw tracepoints need no type.
    let ids = btf.layout(Buffer::Perf).unwrap().hook_ids;
    assert!(
        ids.iter()
            .zip(HOOKS)
            .all(|(id, hook)| hook.is_for_requests() || id.is_some())
    );
}

#[test]
fn requests_are_traced_from_end_to_end_or_not_at_all() {
    let whole = fixture("6.18").layout(Buffer::Ring).unwrap();
    assert!(whole.requests.is_some() && whole.hook_ids.iter().all(Option::is_some));
    for less in [
        fixture("6.18").without_type("btf_trace_io_uring_complete"),
        fixture("6.18").without_member("io_cqe", "res"),
        fixture("6.18").without_member("io_statx", "filename"),
    ] {
        let layout = less.layout(Buffer::Ring).unwrap();
        assert!(layout.requests.is_none());
        for (hook, id) in HOOKS.iter().zip(layout.hook_ids) {
            assert_eq!(id.is_some(), !hook.is_for_requests());
        }
    }
}

#[test]
fn another_function_takes_the_place_of_one_that_is_missing() {
    let programs = |btf: Reduced| {
        let resolver = btf.layout(Buffer::Ring).unwrap().resolver;
        resolver.map(|hooks| {
            hooks
                .into_iter()
                .map(|(program, _)| program)
                .collect::<Vec<_>>()
        })
    };
    let whole = programs(fixture("6.1")).unwrap();
    assert!(whole.contains(&"fexit/parent") && !whole.contains(&"fexit/filename_parent"));
    let without_one = fixture("6.1").without_type("path_parentat");
    let other = programs(without_one.clone()).unwrap();
    assert_eq!(other.len(), whole.len());
    assert!(other.contains(&"fexit/filename_parent"));
    let without_both = without_one.without_type("__filename_parentat");
    assert_eq!(
        programs(without_both),
        Err("this kernel has no function path_parentat or __filename_parentat".into())
    );
    let error = programs(fixture("6.1").without_member("nameidata", "dfd"));
    assert_eq!(error, Err("this kernel has no nameidata.dfd".into()));
    let error = programs(fixture("6.1").without_member("dentry", "d_hash")).unwrap_err();
    assert!(error.contains("it has no dentry.d_hash"), "{error}");
}

#[test]
fn features_are_told_by_names() {
    let read = |btf: &Reduced| KernelFeatures::read(&mut Cursor::new(btf.bytes())).unwrap();
    let whole = fixture("6.18");
    assert_eq!(read(&whole), KernelFeatures::ALL);
    let without = |name: &str| {
        let mut less = whole.clone();
        less.names.retain(|known| known != name);
        less.types.retain(|(_, known)| known != name);
        read(&less)
    };
    for name in [
        "BPF_MAP_TYPE_RINGBUF",
        "btf_trace_sys_exit",
        "BPF_FUNC_redirect_peer",
    ] {
        let ring = false;
        assert_eq!(
            without(name),
            KernelFeatures {
                ring,
                ..KernelFeatures::ALL
            },
            "{name}"
        );
    }
    assert!(!without("BPF_FUNC_get_current_task_btf").typed);
    assert!(!without("dentry_open_nonotify").backing_is_bit_24);
}
