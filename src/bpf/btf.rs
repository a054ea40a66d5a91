// SPDX-License-Identifier: MIT OR Apache-2.0
//! BTF, the kernel's type information, to offsets of structure members and ids of types.
//!
//! The format is documented in the kernel's `Documentation/bpf/btf.rst`: a header, the types one
//! after the other, then their names. It is read as a stream, several times over (5 MB on a
//! distribution's kernel), so that it does not set the memory's peak. The input is not trusted:
//! whatever it holds, the result is offsets or an error.
//!
//! Linux 7.1 may add a section that says how long each kind of type is, so that kinds which are not known here can be
//! skipped. Linux 7.2 widens two fields of each type (f7a6b9eaff3e, merged by 552ad802cad9): the number of members from
//! 16 bits to 24, and the kind from 5 to 7. Neither the header's length nor that section tells which of the two was
//! written, nor need it: an older kernel refuses type information in which the bits between the fields are not zero
//! (BTF_INFO_MASK of kernel/bpf/btf.c), so that the wider fields read both.

use fxhash::FxBuildHasher;
use hashbrown::HashMap;
use std::io::{self, Read, Seek, SeekFrom};

/// A member to look for. Kernels rename members; the first of the names that exists counts.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    pub structure: &'static str,
    pub names: &'static [&'static str],
}

#[derive(Debug, Default, PartialEq)]
pub struct Found {
    /// Byte offset of each member asked for, `None` if the kernel has no such member.
    pub members: Vec<Option<u32>>,
    /// Id of each typedef or function asked for.
    pub types: Vec<Option<u32>>,
}

#[derive(Debug)]
pub enum Error {
    Io(io::Error),
    /// The data is not BTF, or is damaged. The text says in which way.
    Malformed(&'static str),
    /// The data has a kind of type that is not known here, and does not say how long such a type is.
    UnknownKind(u32),
}

impl From<io::Error> for Error {
    fn from(e: io::Error) -> Error {
        match e.kind() {
            io::ErrorKind::UnexpectedEof => Error::Malformed("it ends too early"),
            _ => Error::Io(e),
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Error::Io(e) => e.fmt(f),
            Error::Malformed(what) => f.write_str(what),
            Error::UnknownKind(kind) => write!(
                f,
                "it has types of kind {kind}, which this snoop does not know, and does not say how long they are; use a newer snoop"
            ),
        }
    }
}

const MAGIC: u16 = 0xeb9f;
pub(super) const KIND_STRUCT: u32 = 4;
pub(super) const KIND_UNION: u32 = 5;
pub(super) const KIND_TYPEDEF: u32 = 8;
pub(super) const KIND_FUNCTION: u32 = 12;

/// Members of members without a name are looked into this deep; the kernel nests three at most.
const ANONYMOUS_DEPTH: usize = 8;

/// Where the sections are in the input.
pub(super) struct Header {
    types_at: u64,
    types_len: u64,
    pub(super) names_at: u64,
    pub(super) names_len: u64,
    /// How long a type is, by its kind, for the kinds that the input describes.
    lengths: Vec<Length>,
}

/// The length of what follows the twelve bytes that each type begins with.
#[derive(Clone, Copy)]
struct Length {
    once: u8,
    for_each_member: u8,
}

impl Length {
    const fn new(once: u8, for_each_member: u8) -> Length {
        Length {
            once,
            for_each_member,
        }
    }

    fn of(self, members: u32) -> u64 {
        u64::from(self.once) + u64::from(self.for_each_member) * u64::from(members)
    }
}

/// The length of a type, for the kinds that are known here.
fn known_length(kind: u32) -> Option<Length> {
    match kind {
        1 | 14 | 17 => Some(Length::new(4, 0)), // int, variable, declaration tag
        3 => Some(Length::new(12, 0)),          // array
        4 | 5 | 15 | 19 => Some(Length::new(0, 12)), // struct, union, data section, 64-bit enum
        6 | 13 => Some(Length::new(0, 8)),      // enum, function prototype
        2 | 7..=12 | 16 | 18 => Some(Length::new(0, 0)),
        _ => None,
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

const HEADER_LEN: u64 = 24;
/// The length of a header that says where the section with the lengths of types is.
const HEADER_LEN_7_1: u64 = 32;
/// The length of `struct btf_layout`.
const LENGTH_LEN: u64 = 4;
const KINDS: u64 = 128;

pub(super) fn read_header<R: Read + Seek>(input: &mut R) -> Result<Header, Error> {
    input.seek(SeekFrom::Start(0))?;
    let mut head = [0; HEADER_LEN as usize];
    input.read_exact(&mut head)?;
    if u16::from_ne_bytes([head[0], head[1]]) != MAGIC {
        return Err(Error::Malformed(
            "it does not begin with BTF's magic number",
        ));
    }
    let header_len = u64::from(u32_at(&head, 4));
    if header_len < HEADER_LEN {
        return Err(Error::Malformed("its header is too short"));
    }
    let mut lengths = Vec::new();
    if header_len >= HEADER_LEN_7_1 {
        let mut more = [0; (HEADER_LEN_7_1 - HEADER_LEN) as usize];
        input.read_exact(&mut more)?;
        let at = header_len + u64::from(u32_at(&more, 0));
        let kinds = (u64::from(u32_at(&more, 4)) / LENGTH_LEN).min(KINDS);
        let mut bytes = vec![0; (kinds * LENGTH_LEN) as usize];
        input.seek(SeekFrom::Start(at))?;
        input.read_exact(&mut bytes)?;
        let lengths_of = bytes.chunks_exact(LENGTH_LEN as usize);
        lengths.extend(lengths_of.map(|length| Length::new(length[0], length[1])));
    }
    Ok(Header {
        types_at: header_len + u64::from(u32_at(&head, 8)),
        types_len: u32_at(&head, 12).into(),
        names_at: header_len + u64::from(u32_at(&head, 16)),
        names_len: u32_at(&head, 20).into(),
        lengths,
    })
}

/// A section of the input, seen through a window. Its millions of small pieces are looked at where they are.
struct Section<'a, R> {
    input: io::Take<&'a mut R>,
    window: Vec<u8>,
    /// The part of the window that was not returned yet.
    from: usize,
    to: usize,
}

const WINDOW: usize = 64 << 10;

impl<R: Read + Seek> Section<'_, R> {
    fn new(input: &mut R, at: u64, len: u64) -> Result<Section<'_, R>, Error> {
        input.seek(SeekFrom::Start(at))?;
        Ok(Section {
            input: input.take(len),
            window: vec![0; WINDOW],
            from: 0,
            to: 0,
        })
    }

    /// Reads more input behind what is left in the window, which is less than a window. Returns whether there was any.
    fn read_on(&mut self) -> Result<bool, Error> {
        self.window.copy_within(self.from..self.to, 0);
        (self.from, self.to) = (0, self.to - self.from);
        let n = self.input.read(&mut self.window[self.to..])?;
        self.to += n;
        Ok(n > 0)
    }

    /// Returns the next `len` bytes, which are a window at most.
    fn take(&mut self, len: usize) -> Result<&[u8], Error> {
        while self.to - self.from < len {
            if !self.read_on()? {
                return Err(Error::Malformed("it ends too early"));
            }
        }
        self.from += len;
        Ok(&self.window[self.from - len..self.from])
    }

    fn skip(&mut self, mut len: u64) -> Result<(), Error> {
        loop {
            let there = len.min((self.to - self.from) as u64);
            self.from += there as usize;
            len -= there;
            if len == 0 {
                return Ok(());
            }
            if !self.read_on()? {
                return Err(Error::Malformed("it ends too early"));
            }
        }
    }

    /// Returns the bytes up to the next NUL, without it; `None` at the end. No name of the kernel is as long as the window. A
    /// name that is so long is returned in pieces.
    fn name(&mut self) -> Result<Option<&[u8]>, Error> {
        loop {
            let left = &self.window[self.from..self.to];
            let end = left.iter().position(|b| *b == 0);
            let end = end.or((left.len() == self.window.len()).then(|| left.len() - 1));
            if let Some(end) = end {
                let from = self.from;
                self.from += end + 1;
                return Ok(Some(&self.window[from..from + end]));
            }
            if !self.read_on()? {
                return Ok(None);
            }
        }
    }
}

/// Names, and where each is in the section of names.
type Places<'a> = HashMap<&'a [u8], Option<u32>, FxBuildHasher>;

fn find_names<R: Read + Seek>(
    input: &mut R,
    header: &Header,
    places: &mut Places,
) -> Result<(), Error> {
    let mut section = Section::new(input, header.names_at, header.names_len)?;
    let mut at = 0u32;
    while let Some(name) = section.name()? {
        if let Some(place) = places.get_mut(name) {
            *place = place.or(Some(at));
        }
        at = u32::try_from(name.len() + 1)
            .ok()
            .and_then(|len| at.checked_add(len))
            .ok_or(Error::Malformed("its names are too long"))?;
    }
    Ok(())
}

/// One type of the stream: its id, kind, name and, for a structure or union, its members. A type with many members is visited
/// several times, with some of its members each time.
pub(super) struct Type<'a> {
    pub(super) id: u32,
    pub(super) kind: u32,
    pub(super) name: u32,
    members: &'a [u8],
    bitfields: bool,
}

/// A member consists of its name, the id of its type, and its offset in bits.
const MEMBER_LEN: usize = 12;
const MEMBERS_IN_A_PIECE: usize = 256;

impl Type<'_> {
    pub(super) fn members(&self) -> impl Iterator<Item = (u32, u32, u32)> + '_ {
        self.members.chunks_exact(MEMBER_LEN).map(|member| {
            let offset = u32_at(member, 8);
            let bits = if self.bitfields {
                offset & 0xff_ffff
            } else {
                offset
            };
            (u32_at(member, 0), u32_at(member, 4), bits)
        })
    }
}

pub(super) fn each_type<R: Read + Seek>(
    input: &mut R,
    header: &Header,
    mut visit: impl FnMut(Type),
) -> Result<(), Error> {
    let mut section = Section::new(input, header.types_at, header.types_len)?;
    let mut left = header.types_len;
    for id in 1.. {
        if left == 0 {
            break;
        }
        let head = section.take(12)?;
        let (name, info) = (u32_at(head, 0), u32_at(head, 4));
        // The last bit says that there are bitfields.
        let (kind, members) = (info >> 24 & 0x7f, info & 0xff_ffff);
        let length = match kind {
            0 => return Err(Error::Malformed("it has a type of no kind")),
            _ => known_length(kind).or(header.lengths.get(kind as usize).copied()),
        };
        let extra = length.ok_or(Error::UnknownKind(kind))?.of(members);
        left = left
            .checked_sub(12 + extra)
            .ok_or(Error::Malformed("a type reaches past the end"))?;
        let is_structure = matches!(kind, KIND_STRUCT | KIND_UNION);
        let mut members = if is_structure { members as usize } else { 0 };
        loop {
            let piece = members.min(MEMBERS_IN_A_PIECE);
            visit(Type {
                id,
                kind,
                name,
                members: section.take(piece * MEMBER_LEN)?,
                bitfields: info >> 31 == 1,
            });
            members -= piece;
            if members == 0 {
                break;
            }
        }
        if !is_structure {
            section.skip(extra)?;
        }
    }
    Ok(())
}

/// Returns for each of these names whether a type, member, enumerator or the like has it.
pub fn find_known<R: Read + Seek>(input: &mut R, names: &[&str]) -> Result<Vec<bool>, Error> {
    let header = read_header(input)?;
    let mut places = Places::default();
    places.extend(names.iter().map(|name| (name.as_bytes(), None)));
    find_names(input, &header, &mut places)?;
    let is_known = |name: &&str| places[name.as_bytes()].is_some();
    Ok(names.iter().map(is_known).collect())
}

/// What is left to look into: a structure by its name, or one without a name by its id.
struct Open {
    /// The index of the member that is looked for.
    member: usize,
    name: Option<u32>,
    id: u32,
    /// How far this structure is from the start of the one that the member is looked for in.
    bits: u32,
}

impl Open {
    fn is(&self, structure: &Type) -> bool {
        self.name
            .map_or(self.id == structure.id, |name| name == structure.name)
    }
}

/// Looks up members, and typedefs and functions, by name.
pub fn find<R: Read + Seek>(
    input: &mut R,
    members: &[Member],
    types: &[&str],
) -> Result<Found, Error> {
    let header = read_header(input)?;
    let mut places = Places::default();
    for member in members {
        places.insert(member.structure.as_bytes(), None);
        places.extend(member.names.iter().map(|name| (name.as_bytes(), None)));
    }
    places.extend(types.iter().map(|name| (name.as_bytes(), None)));
    find_names(input, &header, &mut places)?;
    let place = |name: &&str| places[name.as_bytes()];
    let types: Vec<_> = types.iter().map(place).collect();
    let names_of = |member: &Member| member.names.iter().filter_map(place).collect();
    let names: Vec<Vec<u32>> = members.iter().map(names_of).collect();

    let mut found = Found {
        members: vec![None; members.len()],
        types: vec![None; types.len()],
    };
    let by_name = |member: usize| {
        let name = Some(place(&members[member].structure)?);
        let (id, bits) = (0, 0);
        Some(Open {
            member,
            name,
            id,
            bits,
        })
    };
    let mut open: Vec<Open> = (0..members.len()).filter_map(by_name).collect();
    for depth in 0..ANONYMOUS_DEPTH {
        let mut deeper = Vec::new();
        each_type(input, &header, |t| match t.kind {
            KIND_TYPEDEF | KIND_FUNCTION if depth == 0 => {
                for (slot, name) in found.types.iter_mut().zip(&types) {
                    if slot.is_none() && *name == Some(t.name) {
                        *slot = Some(t.id);
                    }
                }
            }
            KIND_STRUCT | KIND_UNION => {
                for open in open.iter().filter(|open| open.is(&t)) {
                    let slot = &mut found.members[open.member];
                    deeper.extend(look_into(&t, open, &names[open.member], slot));
                }
            }
            _ => (),
        })?;
        deeper.retain(|open| found.members[open.member].is_none());
        if deeper.is_empty() {
            break;
        }
        open = deeper;
    }
    Ok(found)
}

/// Looks for a member with one of these names in a structure, and writes its offset to `slot`. Returns the members without a
/// name, which may hold it too.
fn look_into(structure: &Type, open: &Open, names: &[u32], slot: &mut Option<u32>) -> Vec<Open> {
    let mut deeper = Vec::new();
    for (name, id, bits) in structure.members() {
        let bits = open.bits.saturating_add(bits);
        if name == 0 {
            deeper.push(Open {
                member: open.member,
                name: None,
                id,
                bits,
            });
        } else if slot.is_none() && names.contains(&name) {
            *slot = Some(bits / 8);
        }
    }
    deeper
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// Type information in the making.
    #[derive(Default)]
    struct Blob {
        types: Vec<u8>,
        names: Vec<u8>,
        /// Bytes for each kind: `info_sz`, `elem_sz` and flags.
        layout: Option<Vec<[u8; 4]>>,
    }

    const KIND_INT: u32 = 1;
    const KIND_ENUM: u32 = 6;
    /// One that no kernel has.
    const KIND_NEW: u32 = 100;

    impl Blob {
        /// Where that name is. Each stands there once, as in the kernel's.
        fn name(&mut self, name: &str) -> u32 {
            if self.names.is_empty() {
                self.names.push(0); // no name
            }
            let with_ends: Vec<_> = [0].into_iter().chain(name.bytes()).chain([0]).collect();
            let there = self
                .names
                .windows(with_ends.len())
                .position(|w| w == with_ends);
            let before = there.unwrap_or_else(|| {
                self.names.extend(&with_ends[1..]);
                self.names.len() - with_ends.len()
            });
            before as u32 + 1
        }

        fn words(&mut self, words: &[u32]) {
            self.types
                .extend(words.iter().flat_map(|word| word.to_ne_bytes()));
        }

        /// A type with as many members; they are to be added.
        fn begin(&mut self, kind: u32, name: &str, members: u32) {
            let name = self.name(name);
            self.words(&[name, kind << 24 | members, 8]);
        }

        fn member(&mut self, name: &str, bits: u32) {
            let name = self.name(name);
            self.words(&[name, 1, bits]);
        }

        /// `struct task_struct { void *fs; }`
        fn end_with_structure(mut self) -> Vec<u8> {
            self.begin(KIND_STRUCT, "task_struct", 1);
            self.member("fs", 64);
            self.bytes()
        }

        /// The names come first, so that they are whole where the end is cut off.
        fn bytes(&self) -> Vec<u8> {
            let layout = self.layout.as_ref().map(|layout| layout.concat());
            let header_len = if layout.is_some() { 32 } else { 24 };
            let layout_len = layout.as_ref().map_or(0, |layout| layout.len() as u32);
            let (names, types) = (self.names.len() as u32, self.types.len() as u32);
            let mut bytes = MAGIC.to_ne_bytes().to_vec();
            bytes.extend([1, 0]); // version, flags
            let mut header = vec![header_len, names + layout_len, types, 0, names];
            header.extend(layout.iter().flat_map(|_| [names, layout_len]));
            bytes.extend(header.iter().flat_map(|word: &u32| word.to_ne_bytes()));
            bytes.extend(&self.names);
            bytes.extend(layout.unwrap_or_default());
            bytes.extend(&self.types);
            bytes
        }
    }

    /// `elem_sz` and `info_sz` of [`KIND_NEW`], and nothing about the others.
    fn layout() -> Option<Vec<[u8; 4]>> {
        let mut layout = vec![[0; 4]; KIND_NEW as usize + 1];
        layout[KIND_NEW as usize] = [4, 20, 0, 0];
        Some(layout)
    }

    fn find_fs(bytes: &[u8]) -> Result<Option<u32>, Error> {
        let member = Member {
            structure: "task_struct",
            names: &["fs"],
        };
        Ok(find(&mut Cursor::new(bytes), &[member], &[])?.members[0])
    }

    fn with_unknown_kind(layout: Option<Vec<[u8; 4]>>) -> Vec<u8> {
        let mut blob = Blob {
            layout,
            ..Blob::default()
        };
        blob.begin(KIND_NEW, "news", 3);
        blob.words(&[u32::MAX; 1 + 3 * 5]);
        blob.end_with_structure()
    }

    /// More than fit into the 16 bits that their number had before Linux 7.2.
    fn with_many_members() -> Vec<u8> {
        const MEMBERS: u32 = 70_000;
        let mut blob = Blob::default();
        blob.begin(KIND_STRUCT, "task_struct", MEMBERS);
        let other = blob.name("other");
        for at in 1..MEMBERS {
            blob.words(&[other, 1, at * 64]);
        }
        blob.member("fs", MEMBERS * 64);
        blob.begin(KIND_ENUM, "many", MEMBERS);
        blob.words(&[0; 2 * MEMBERS as usize]);
        blob.begin(KIND_STRUCT, "behind", 1);
        blob.member("fs", 128);
        blob.bytes()
    }

    #[test]
    fn many_members() {
        let fs = |structure| Member {
            structure,
            names: &["fs"],
        };
        let members = [fs("task_struct"), fs("behind")];
        let found = find(&mut Cursor::new(with_many_members()), &members, &[]).unwrap();
        assert_eq!(found.members, [Some(8 * 70_000), Some(16)]);
    }

    #[test]
    fn unknown_kinds() {
        assert_eq!(find_fs(&with_unknown_kind(layout())).unwrap(), Some(8));
        let too_short = layout().map(|layout| layout[..KIND_NEW as usize].to_vec());
        for layout in [None, Some(Vec::new()), too_short] {
            let error = find_fs(&with_unknown_kind(layout)).unwrap_err().to_string();
            assert!(error.contains("kind 100"), "{error}");
            assert!(error.contains("use a newer snoop"), "{error}");
        }
    }

    #[test]
    fn a_layout_changes_nothing_for_known_kinds() {
        let mut blob = Blob {
            layout: layout(),
            ..Blob::default()
        };
        blob.begin(KIND_INT, "int", 0);
        blob.words(&[32]);
        assert_eq!(find_fs(&blob.end_with_structure()).unwrap(), Some(8));
    }

    #[test]
    fn broken_headers() {
        let whole = with_unknown_kind(layout());
        for len in 0..whole.len() {
            assert!(
                matches!(find_fs(&whole[..len]), Err(Error::Malformed(_))),
                "{len}"
            );
        }
        // It says that it is shorter than any.
        let mut short = whole.clone();
        short[4..8].copy_from_slice(&8u32.to_ne_bytes());
        assert!(matches!(find_fs(&short), Err(Error::Malformed(_))));
        // The layout is said to be behind the end.
        let mut behind = whole.clone();
        behind[24..28].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert!(matches!(find_fs(&behind), Err(Error::Malformed(_))));
        let mut no_kind = Blob::default();
        no_kind.begin(0, "", 0);
        assert!(matches!(
            find_fs(&no_kind.end_with_structure()),
            Err(Error::Malformed(_))
        ));
    }

    #[test]
    fn names() {
        let mut blob = Blob::default();
        blob.begin(KIND_ENUM, "bpf_map_type", 1);
        let name = blob.name("BPF_MAP_TYPE_HASH");
        blob.words(&[name, 1]);
        let names = ["BPF_MAP_TYPE_HASH", "BPF_MAP_TYPE_HAS", "HASH"];
        let found = find_known(&mut Cursor::new(blob.bytes()), &names).unwrap();
        assert_eq!(found, [true, false, false]);
    }

    /// The fuzzer begins with these. It takes 16 KiB of each at most.
    #[test]
    fn seeds() {
        let seeds = [
            ("many-members", with_many_members()),
            ("unknown-kind", with_unknown_kind(None)),
            ("unknown-kind-with-layout", with_unknown_kind(layout())),
        ];
        for (name, mut bytes) in seeds {
            bytes.truncate(16 << 10);
            let path = format!("{}/fuzz/seeds/btf/{name}", env!("CARGO_MANIFEST_DIR"));
            if std::env::var_os("WRITE_SEEDS").is_some() {
                std::fs::write(&path, &bytes).unwrap();
            }
            assert!(
                std::fs::read(&path).unwrap() == bytes,
                "{path}: WRITE_SEEDS=1 makes it anew"
            );
        }
    }
}
