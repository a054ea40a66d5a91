//! BTF, the kernel's type information, to offsets of structure members and ids of types.
//!
//! The format is documented in the kernel's `Documentation/bpf/btf.rst`: a header, the types one
//! after the other, then their names. It is read as a stream, several times over (5 MB on a
//! distribution's kernel), so that it does not set the memory's peak. The input is not trusted:
//! whatever it holds, the answer is offsets or an error.

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
    /// What is wrong with the data.
    Malformed(&'static str),
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
        }
    }
}

const MAGIC: u16 = 0xeb9f;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_TYPEDEF: u32 = 8;
const KIND_FUNCTION: u32 = 12;

/// Members of members without a name are looked into this deep; the kernel nests three at most.
const ANONYMOUS_DEPTH: usize = 8;

/// Where the two sections are in the input.
struct Header {
    types_at: u64,
    types_len: u64,
    names_at: u64,
    names_len: u64,
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn read_header(input: &mut impl Read) -> Result<Header, Error> {
    let mut head = [0; 24];
    input.read_exact(&mut head)?;
    if u16::from_ne_bytes([head[0], head[1]]) != MAGIC {
        return Err(Error::Malformed(
            "it does not begin with BTF's magic number",
        ));
    }
    let header_len = u64::from(u32_at(&head, 4));
    Ok(Header {
        types_at: header_len + u64::from(u32_at(&head, 8)),
        types_len: u32_at(&head, 12).into(),
        names_at: header_len + u64::from(u32_at(&head, 16)),
        names_len: u32_at(&head, 20).into(),
    })
}

/// A section of the input, seen through a window. Its millions of small pieces are looked at where they are.
struct Section<'a, R> {
    input: io::Take<&'a mut R>,
    window: Vec<u8>,
    /// What of the window was not handed out yet.
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

    /// Reads on behind what is left, of which there is less than a window; answers whether there was more.
    fn read_on(&mut self) -> Result<bool, Error> {
        self.window.copy_within(self.from..self.to, 0);
        (self.from, self.to) = (0, self.to - self.from);
        let n = self.input.read(&mut self.window[self.to..])?;
        self.to += n;
        Ok(n > 0)
    }

    /// The next `len` bytes.
    fn take(&mut self, len: usize) -> Result<&[u8], Error> {
        if self.window.len() < len {
            self.window.resize(len, 0);
        }
        while self.to - self.from < len {
            if !self.read_on()? {
                return Err(Error::Malformed("it ends too early"));
            }
        }
        self.from += len;
        Ok(&self.window[self.from - len..self.from])
    }

    /// The bytes up to the next NUL, and without it; `None` at the end. No name of the kernel is as long as the
    /// window, and one that is comes in pieces.
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

/// Where names are in the section of names.
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

/// One type as the stream shows it: its id, kind, name and, for a structure or union, the members.
struct Type<'a> {
    id: u32,
    kind: u32,
    name: u32,
    /// Name, type id, offset in bits; twelve bytes each.
    members: &'a [u8],
    bitfields: bool,
}

impl Type<'_> {
    fn members(&self) -> impl Iterator<Item = (u32, u32, u32)> + '_ {
        self.members.chunks_exact(12).map(|member| {
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

fn each_type<R: Read + Seek>(
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
        let (kind, vlen) = (info >> 24 & 0x1f, (info & 0xffff) as u64);
        let extra = match kind {
            1 | 14 | 17 => 4,             // int, variable, declaration tag
            3 => 12,                      // array
            4 | 5 | 15 | 19 => 12 * vlen, // struct, union, data section, 64-bit enum
            6 | 13 => 8 * vlen,           // enum, function prototype
            2 | 7..=12 | 16 | 18 => 0,
            _ => return Err(Error::Malformed("it has a kind of type that is not known")),
        };
        left = left
            .checked_sub(12 + extra)
            .ok_or(Error::Malformed("a type reaches past the end"))?;
        let members = section.take(extra as usize)?;
        visit(Type {
            id,
            kind,
            name,
            members: if matches!(kind, KIND_STRUCT | KIND_UNION) {
                members
            } else {
                &[]
            },
            bitfields: info >> 31 == 1,
        });
    }
    Ok(())
}

/// Looks up members, and typedefs and functions, by name.
pub fn find<R: Read + Seek>(
    input: &mut R,
    members: &[Member],
    types: &[&str],
) -> Result<Found, Error> {
    input.seek(SeekFrom::Start(0))?;
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
    // What is left to look into: a type, by name or by id, and how far it is from the start of the
    // structure that member number `member` is looked for in.
    struct Open {
        member: usize,
        name: Option<u32>,
        id: u32,
        bits: u32,
    }
    let mut open: Vec<Open> = (0..members.len())
        .filter_map(|member| {
            let name = Some(place(&members[member].structure)?);
            Some(Open {
                member,
                name,
                id: 0,
                bits: 0,
            })
        })
        .collect();
    for depth in 0..ANONYMOUS_DEPTH {
        let mut deeper = Vec::new();
        each_type(input, &header, |t| {
            if matches!(t.kind, KIND_TYPEDEF | KIND_FUNCTION) && depth == 0 {
                for (slot, name) in found.types.iter_mut().zip(&types) {
                    if slot.is_none() && *name == Some(t.name) {
                        *slot = Some(t.id);
                    }
                }
            }
            if !matches!(t.kind, KIND_STRUCT | KIND_UNION) {
                return;
            }
            let is = |o: &&Open| o.name.map_or(o.id == t.id, |name| name == t.name);
            for o in open.iter().filter(is) {
                let slot = &mut found.members[o.member];
                for (name, id, bits) in t.members() {
                    let bits = o.bits.saturating_add(bits);
                    if name == 0 {
                        deeper.push(Open {
                            member: o.member,
                            name: None,
                            id,
                            bits,
                        });
                    } else if slot.is_none() && names[o.member].contains(&name) {
                        *slot = Some(bits / 8);
                    }
                }
            }
        })?;
        deeper.retain(|o| found.members[o.member].is_none());
        if deeper.is_empty() {
            break;
        }
        open = deeper;
    }
    Ok(found)
}
