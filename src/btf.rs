//! BTF, the kernel's type information, to offsets of structure members and ids of types.
//!
//! The format is documented in the kernel's `Documentation/bpf/btf.rst`: a header, the types one
//! after the other, then their names. It is read as a stream, several times over (5 MB on a
//! distribution's kernel), so that it does not set the memory's peak. The input is not trusted:
//! whatever it holds, the answer is offsets or an error.

use std::io::{self, BufReader, Read, Seek, SeekFrom};

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

fn section<R: Read + Seek>(
    input: &mut R,
    at: u64,
    len: u64,
) -> Result<BufReader<io::Take<&mut R>>, Error> {
    input.seek(SeekFrom::Start(at))?;
    Ok(BufReader::with_capacity(64 << 10, input.take(len)))
}

/// The offset of each name in the section of names.
fn find_names<R: Read + Seek>(
    input: &mut R,
    header: &Header,
    names: &[&str],
) -> Result<Vec<Option<u32>>, Error> {
    use std::io::BufRead;
    let mut found = vec![None; names.len()];
    let mut section = section(input, header.names_at, header.names_len)?;
    let (mut at, mut name) = (0u32, Vec::new());
    loop {
        name.clear();
        // A name of the kernel is short; what is longer is cut and matches nothing.
        let n = (&mut section).take(4096).read_until(0, &mut name)?;
        if n == 0 {
            return Ok(found);
        }
        if name.pop() == Some(0) {
            for (slot, wanted) in found.iter_mut().zip(names) {
                if slot.is_none() && wanted.as_bytes() == name {
                    *slot = Some(at);
                }
            }
        }
        at = at
            .checked_add(n as u32)
            .ok_or(Error::Malformed("its names are too long"))?;
    }
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
    let mut section = section(input, header.types_at, header.types_len)?;
    let (mut left, mut members) = (header.types_len, Vec::new());
    for id in 1.. {
        if left == 0 {
            break;
        }
        let mut head = [0; 12];
        section.read_exact(&mut head)?;
        let info = u32_at(&head, 4);
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
        members.resize(extra as usize, 0);
        section.read_exact(&mut members)?;
        visit(Type {
            id,
            kind,
            name: u32_at(&head, 0),
            members: if matches!(kind, KIND_STRUCT | KIND_UNION) {
                &members
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

    // All names in one list: structures, their members' alternatives, types.
    let mut names: Vec<&str> = Vec::new();
    for member in members {
        names.push(member.structure);
        names.extend(member.names);
    }
    names.extend(types);
    names.sort_unstable();
    names.dedup();
    let at = find_names(input, &header, &names)?;
    let place = |name: &str| {
        at[names
            .binary_search(&name)
            .expect("every name is in the list")]
    };

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
            let name = Some(place(members[member].structure)?);
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
                for (slot, name) in found.types.iter_mut().zip(types) {
                    if slot.is_none() && place(name) == Some(t.name) {
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
                    } else if slot.is_none()
                        && members[o.member]
                            .names
                            .iter()
                            .any(|n| place(n) == Some(name))
                    {
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
