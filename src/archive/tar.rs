// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tar as a stream: POSIX (ustar, pax) and GNU, with long names and sparse files.
//!
//! An entry is a group of header blocks and the data behind them. The reader hands out both as they are, so that what
//! nobody changes is copied byte by byte: owners, times, extended attributes, sparse maps, and keys that nobody here
//! knows. Only names, links and sizes are understood, and written anew where they change.

use crate::archive::digest::Hashing;
use crate::archive::invalid;
use std::io::{self, Read};
use std::ops::Range;

pub const BLOCK: usize = 512;
/// What ends an archive.
pub const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];
/// Header blocks of one entry. Names have 4 KiB at most, extended attributes of a file 64 KiB; the rest is the map of a
/// sparse file.
const HEADERS_MAX: u64 = 4 << 20;
/// Names and targets of links, as the kernel takes them.
const PATH_MAX: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    File,
    HardLink,
    Symlink,
    Character,
    Block,
    Directory,
    Fifo,
    /// No file: attributes of all entries behind it.
    Global,
}

/// One entry: what its headers say.
#[derive(Clone, Debug)]
pub struct Entry {
    /// As the archive has it.
    pub path: Vec<u8>,
    pub kind: Kind,
    /// The target of a link.
    pub link: Vec<u8>,
    /// Bytes of data in the archive, without what fills up the last block.
    pub stored: u64,
    /// The file's size: for a sparse file more than what is stored.
    pub size: u64,
    /// All header blocks, and the data of those that are about another one.
    raw: Vec<u8>,
    /// Where in `raw` the last header begins, which is the file's own.
    own: usize,
    /// Attributes of pax: where their keys and values are in `raw`.
    attributes: Vec<(Range<usize>, Range<usize>)>,
}

/// A stream that can go forward without reading.
pub trait Skip: Read {
    /// Leaves out as many bytes; an error if there are fewer.
    fn skip(&mut self, bytes: u64) -> io::Result<()>;
}

/// Skips by reading, for streams that have no other way.
pub fn read_over(input: &mut dyn Read, bytes: u64) -> io::Result<()> {
    match io::copy(&mut input.take(bytes), &mut io::sink())? {
        skipped if skipped == bytes => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

impl Skip for &[u8] {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        read_over(self, bytes)
    }
}

impl<S: Skip + ?Sized> Skip for &mut S {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        (**self).skip(bytes)
    }
}

impl<S: Skip + ?Sized> Skip for Box<S> {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        (**self).skip(bytes)
    }
}

/// Every byte has to be hashed.
impl<S: Read> Skip for Hashing<S> {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        read_over(self, bytes)
    }
}

/// Any stream: one piece of code for all is smaller, and a call for each block costs nothing.
pub struct Reader<'a> {
    input: Box<dyn Skip + 'a>,
    /// Bytes from the beginning of the archive to where the input is.
    position: u64,
    /// Data of the entry that was read last, and what fills up its last block.
    data: u64,
    padding: u64,
    at_end: bool,
}

impl<'a> Reader<'a> {
    pub fn new(input: impl Skip + 'a) -> Reader<'a> {
        Reader {
            input: Box::new(input),
            position: 0,
            data: 0,
            padding: 0,
            at_end: false,
        }
    }

    /// Returns how many bytes of the archive are read: behind an entry, where its data begins.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Goes on to the next entry; what is left of the data of the one before is skipped.
    pub fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        self.input.skip(self.data + self.padding)?;
        self.position += self.data + self.padding;
        (self.data, self.padding) = (0, 0);
        let mut headers = Headers::default();
        while !self.at_end {
            let own = headers.raw.len();
            let Some(kind) = self.header(&mut headers)? else {
                self.at_end = true;
                break;
            };
            let size = number(field(&headers.raw[own..], SIZE))
                .ok_or_else(|| invalid("a size is not a number"))?;
            match kind {
                b'x' | b'L' | b'K' => {
                    let data = self.extension(&mut headers.raw, size)?;
                    headers.extend(kind, data)?;
                }
                b'g' => {
                    let data = self.extension(&mut headers.raw, size)?;
                    return headers.global(own, data).map(Some);
                }
                _ => {
                    let entry = headers.entry(own, kind, size, |raw| self.sparse_blocks(raw))?;
                    self.data = entry.stored;
                    self.padding = padding(entry.stored);
                    return Ok(Some(entry));
                }
            }
        }
        match headers.raw.is_empty() {
            true => Ok(None),
            false => Err(invalid("it ends behind the attributes of an entry")),
        }
    }

    /// Reads a header block and returns the type that it states; `None` at the end of the archive.
    fn header(&mut self, headers: &mut Headers) -> io::Result<Option<u8>> {
        let mut block = [0; BLOCK];
        let mut read = 0;
        while read < BLOCK {
            match self.input.read(&mut block[read..])? {
                0 if read == 0 => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => read += n,
            }
        }
        if block == [0; BLOCK] {
            return Ok(None);
        }
        if !is_checksum_right(&block) {
            return Err(invalid(
                "a header's checksum is wrong: this is not a tar archive, or it is damaged",
            ));
        }
        self.position += BLOCK as u64;
        headers.raw.extend(block);
        match headers.raw.len() as u64 {
            n if n <= HEADERS_MAX => Ok(Some(block[TYPE])),
            _ => Err(too_long()),
        }
    }

    /// Reads the data of a header that is about the next one; returns where it is.
    fn extension(&mut self, raw: &mut Vec<u8>, size: u64) -> io::Result<Range<usize>> {
        let start = raw.len();
        if size > HEADERS_MAX || start as u64 + size > HEADERS_MAX {
            return Err(too_long());
        }
        raw.resize(start + (size + padding(size)) as usize, 0);
        self.input.read_exact(&mut raw[start..])?;
        self.position += size + padding(size);
        Ok(start..start + size as usize)
    }

    /// Reads the blocks that go on with the map of a GNU sparse file.
    fn sparse_blocks(&mut self, raw: &mut Vec<u8>) -> io::Result<()> {
        const MORE_IN_HEADER: usize = 482;
        const MORE: usize = 504;
        let mut more = raw[raw.len() - BLOCK + MORE_IN_HEADER];
        while more != 0 {
            let start = self.extension(raw, BLOCK as u64)?.start;
            more = raw[start + MORE];
        }
        Ok(())
    }
}

/// The data of the entry that was read last; what fills up its last block is not a part of it.
impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let max = buffer
            .len()
            .min(usize::try_from(self.data).unwrap_or(usize::MAX));
        if max == 0 {
            return Ok(0);
        }
        match self.input.read(&mut buffer[..max])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                self.data -= n as u64;
                self.position += n as u64;
                Ok(n)
            }
        }
    }
}

fn too_long() -> io::Error {
    invalid("the attributes of an entry are too long")
}

fn check_name(name: &[u8]) -> io::Result<()> {
    match name.len() > PATH_MAX || name.contains(&0) {
        true => Err(invalid("a name is too long, or holds a NUL")),
        false => Ok(()),
    }
}

/// Returns how many bytes fill up the last block of data.
pub fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

/// What the headers read so far say about the next entry.
#[derive(Default)]
struct Headers {
    raw: Vec<u8>,
    long_path: Option<Range<usize>>,
    long_link: Option<Range<usize>>,
    attributes: Vec<(Range<usize>, Range<usize>)>,
}

impl Headers {
    fn extend(&mut self, kind: u8, data: Range<usize>) -> io::Result<()> {
        match kind {
            b'x' => self.attributes = attributes(&self.raw, data)?,
            b'L' => self.long_path = Some(data),
            _ => self.long_link = Some(data),
        }
        Ok(())
    }

    /// The path and the link of a header, or those that stand in front of it because they are long.
    fn names(&self, header: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let long = |at: &Option<Range<usize>>| Some(until_nul(&self.raw[at.clone()?]).to_vec());
        (
            long(&self.long_path).unwrap_or_else(|| short_path(header)),
            long(&self.long_link).unwrap_or_else(|| until_nul(field(header, LINK)).into()),
        )
    }

    /// The entry whose own header, of that type and size, was read last.
    fn entry(
        mut self,
        own: usize,
        kind: u8,
        size: u64,
        sparse_blocks: impl FnOnce(&mut Vec<u8>) -> io::Result<()>,
    ) -> io::Result<Entry> {
        let is_sparse = kind == b'S';
        let kind = kind_of(kind)?;
        let header = &self.raw[own..];
        let (mut path, mut link) = self.names(header);
        let (mut stored, mut real_size, mut sparse_name) = (size, None, None);
        if is_sparse {
            const REAL_SIZE: Range<usize> = 483..495;
            real_size = number(field(header, REAL_SIZE));
        }
        for (key, value) in &self.attributes {
            let value = &self.raw[value.clone()];
            let number = || decimal(value).ok_or_else(|| invalid("a size is not a number"));
            match &self.raw[key.clone()] {
                b"path" => path = value.into(),
                b"linkpath" => link = value.into(),
                b"size" => stored = number()?,
                SPARSE_NAME => sparse_name = Some(value.to_vec()),
                b"GNU.sparse.size" | b"GNU.sparse.realsize" => real_size = Some(number()?),
                _ => (),
            }
        }
        let path = sparse_name.unwrap_or(path);
        // Old archives know a directory by its slash.
        let kind = match kind {
            Kind::File if path.ends_with(b"/") => Kind::Directory,
            kind => kind,
        };
        // As archive/tar of Go has it, which engines use: what is no file has no data, whatever its size says.
        if kind != Kind::File {
            stored = 0;
        }
        // Far beyond what any disk has, and sums of it do not overflow.
        if stored > 1 << 60 {
            return Err(invalid("an entry is too large"));
        }
        check_name(&path)?;
        check_name(&link)?;
        if is_sparse {
            sparse_blocks(&mut self.raw)?;
        }
        Ok(Entry {
            path,
            kind,
            link,
            stored,
            size: real_size.unwrap_or(stored),
            raw: self.raw,
            own,
            attributes: self.attributes,
        })
    }

    /// Attributes of all entries; they may not say where each of these is or how long.
    fn global(self, own: usize, data: Range<usize>) -> io::Result<Entry> {
        for (key, _) in attributes(&self.raw, data)? {
            let key = &self.raw[key];
            if matches!(key, b"path" | b"linkpath" | b"size") || key.starts_with(SPARSE) {
                return Err(invalid(
                    "one attribute is said to be the path or size of all entries",
                ));
            }
        }
        Ok(Entry {
            path: Vec::new(),
            kind: Kind::Global,
            link: Vec::new(),
            stored: 0,
            size: 0,
            raw: self.raw,
            own,
            attributes: Vec::new(),
        })
    }
}

/// What a type in a header stands for.
fn kind_of(letter: u8) -> io::Result<Kind> {
    Ok(match letter {
        b'0' | b'7' | 0 | b'S' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::Character,
        b'4' => Kind::Block,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        other => {
            return Err(invalid(format!(
                "an entry is of a type that is not known: {:?}",
                other as char
            )));
        }
    })
}

/// What is written anew about an entry.
#[derive(Clone, Copy, Default)]
pub struct Change<'a> {
    pub path: Option<&'a [u8]>,
    pub link: Option<&'a [u8]>,
    /// Of a file that is not sparse.
    pub size: Option<u64>,
}

impl Entry {
    /// Returns the header blocks as they were read.
    pub fn headers(&self) -> &[u8] {
        &self.raw
    }

    /// Is the file's content stored as pieces and a map?
    pub fn is_sparse(&self) -> bool {
        self.raw[self.own + TYPE] == b'S' || self.keys().any(|key| key.starts_with(SPARSE))
    }

    fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.attributes
            .iter()
            .map(|(key, _)| &self.raw[key.clone()])
    }

    /// Returns header blocks that say the same but for the change: its other attributes stay, and so does a sparse map.
    pub fn changed(&self, change: Change) -> Vec<u8> {
        let path = change.path.unwrap_or(&self.path);
        let link = change.link.unwrap_or(&self.link);
        let mut own = self.raw[self.own..].to_vec();
        let mut records = Vec::new();
        let sparse_name = self.keys().any(|key| key == SPARSE_NAME);
        for (key, value) in &self.attributes {
            let (key, value) = (&self.raw[key.clone()], &self.raw[value.clone()]);
            match key {
                b"linkpath" => (),
                // The name of a sparse file is made up, and its own one an attribute.
                b"path" if !sparse_name => (),
                b"size" if change.size.is_some() => (),
                SPARSE_NAME => record(&mut records, key, path),
                _ => record(&mut records, key, value),
            }
        }
        if !sparse_name && !set_text(&mut own, NAME, path) {
            record(&mut records, b"path", path);
        }
        if !sparse_name && own[MAGIC].starts_with(b"ustar\0") {
            own[PREFIX].fill(0);
        }
        if !set_text(&mut own, LINK, link) {
            record(&mut records, b"linkpath", link);
        }
        if let Some(size) = change.size {
            set_number(&mut own, SIZE, size);
        }
        set_checksum(&mut own);
        with_records(records, &own)
    }
}

/// Returns the header blocks of an entry that belongs to root, is from the beginning of 1970, and has the mode that
/// such things have.
pub fn entry(path: &[u8], kind: Kind, link: &[u8], size: u64) -> Vec<u8> {
    let mut own = vec![0; BLOCK];
    let (letter, mode) = match kind {
        Kind::File => (b'0', 0o644),
        Kind::HardLink => (b'1', 0o644),
        Kind::Symlink => (b'2', 0o777),
        Kind::Character => (b'3', 0o644),
        Kind::Block => (b'4', 0o644),
        Kind::Directory => (b'5', 0o755),
        Kind::Fifo => (b'6', 0o644),
        Kind::Global => (b'g', 0o644),
    };
    own[TYPE] = letter;
    own[MAGIC].copy_from_slice(b"ustar\x0000");
    for (at, value) in [(MODE, mode), (UID, 0), (GID, 0), (MTIME, 0), (SIZE, size)] {
        set_number(&mut own, at, value);
    }
    let mut records = Vec::new();
    for (at, key, text) in [(NAME, &b"path"[..], path), (LINK, b"linkpath", link)] {
        if !set_text(&mut own, at, text) {
            record(&mut records, key, text);
        }
    }
    set_checksum(&mut own);
    with_records(records, &own)
}

/// The header block, behind one of pax if there are attributes.
fn with_records(records: Vec<u8>, own: &[u8]) -> Vec<u8> {
    if records.is_empty() {
        return own.into();
    }
    let size = records.len() as u64;
    let mut raw = entry(b"PaxHeaders/0", Kind::File, b"", size);
    raw[TYPE] = b'x';
    set_checksum(&mut raw);
    raw.extend(records);
    raw.resize(raw.len() + padding(size) as usize, 0);
    raw.extend(own);
    raw
}

const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const MTIME: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const TYPE: usize = 156;
const LINK: Range<usize> = 157..257;
const MAGIC: Range<usize> = 257..265;
const PREFIX: Range<usize> = 345..500;
const SPARSE: &[u8] = b"GNU.sparse.";
const SPARSE_NAME: &[u8] = b"GNU.sparse.name";

fn field(block: &[u8], at: Range<usize>) -> &[u8] {
    &block[at]
}

fn until_nul(text: &[u8]) -> &[u8] {
    text.split(|b| *b == 0).next().unwrap_or_default()
}

/// The name in the header block; ustar may have put its directories into another field.
fn short_path(block: &[u8]) -> Vec<u8> {
    let name = until_nul(field(block, NAME));
    let prefix = match block[MAGIC].starts_with(b"ustar\0") {
        true => until_nul(field(block, PREFIX)),
        false => b"",
    };
    match prefix {
        b"" => name.into(),
        prefix => [prefix, b"/", name].concat(),
    }
}

/// A number in octal digits, or as a large one in binary. `None` for a negative one too.
fn number(field: &[u8]) -> Option<u64> {
    if let [0x80, rest @ ..] = field {
        let (high, low) = rest.split_last_chunk::<8>()?;
        return high
            .iter()
            .all(|b| *b == 0)
            .then(|| u64::from_be_bytes(*low));
    }
    let digits = until_nul(field).trim_ascii();
    let digit = |b: &u8| matches!(b, b'0'..=b'7').then(|| u64::from(b - b'0'));
    digits
        .iter()
        .try_fold(0_u64, |n, b| n.checked_mul(8)?.checked_add(digit(b)?))
}

fn decimal(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The sum of a header's bytes, with blanks for the sum itself. Some programs of old added them as signed ones.
fn is_checksum_right(block: &[u8; BLOCK]) -> bool {
    let stated = number(field(block, CHECKSUM));
    let byte = |(at, byte): (usize, &u8)| match CHECKSUM.contains(&at) {
        true => b' ',
        false => *byte,
    };
    let bytes = || block.iter().enumerate().map(byte);
    let unsigned: u64 = bytes().map(u64::from).sum();
    let signed: i64 = bytes().map(|byte| i64::from(byte as i8)).sum();
    stated == Some(unsigned) || stated.and_then(|n| i64::try_from(n).ok()) == Some(signed)
}

fn set_checksum(own: &mut [u8]) {
    own[CHECKSUM].fill(b' ');
    let sum: u64 = own[..BLOCK].iter().map(|byte| u64::from(*byte)).sum();
    own[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// Digits in octal, or binary if there are too many.
fn set_number(own: &mut [u8], at: Range<usize>, value: u64) {
    let width = at.len() - 1;
    let digits = format!("{value:0width$o}\0");
    let field = &mut own[at];
    if digits.len() == field.len() {
        field.copy_from_slice(digits.as_bytes());
    } else {
        field.fill(0);
        let start = field.len() - 8;
        field[start..].copy_from_slice(&value.to_be_bytes());
        field[0] = 0x80;
    }
}

/// Puts a text into a field if it fits; else as much of it as fits, and returns false.
fn set_text(own: &mut [u8], at: Range<usize>, text: &[u8]) -> bool {
    let field = &mut own[at];
    field.fill(0);
    let n = text.len().min(field.len());
    field[..n].copy_from_slice(&text[..n]);
    // Readers may take other bytes for those of their own character set.
    n == text.len() && text.is_ascii()
}

/// Adds a record of pax: its length, which counts its own digits, a key and a value.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest;
    while len != rest + len.to_string().len() {
        len = rest + len.to_string().len();
    }
    records.extend(len.to_string().as_bytes());
    records.push(b' ');
    records.extend(key);
    records.push(b'=');
    records.extend(value);
    records.push(b'\n');
}

/// Where keys and values of the records of pax are.
fn attributes(raw: &[u8], data: Range<usize>) -> io::Result<Vec<(Range<usize>, Range<usize>)>> {
    let wrong = || invalid("the attributes of an entry cannot be read");
    let mut found = Vec::new();
    let (mut at, end) = (data.start, data.end);
    while at < end {
        let rest = &raw[at..end];
        let space = rest.iter().position(|b| *b == b' ').ok_or_else(wrong)?;
        let len = decimal(&rest[..space]).ok_or_else(wrong)?;
        let len = usize::try_from(len).map_err(|_| wrong())?;
        let text = rest.get(space + 1..len).ok_or_else(wrong)?;
        let equals = text.iter().position(|b| *b == b'=').ok_or_else(wrong)?;
        if text.last() != Some(&b'\n') {
            return Err(wrong());
        }
        let key = at + space + 1..at + space + 1 + equals;
        let value = key.end + 1..at + len - 1;
        found.push((key, value));
        at += len;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;
    use std::process::Command;

    fn all(archive: &[u8]) -> io::Result<Vec<(Entry, Vec<u8>)>> {
        let mut reader = Reader::new(archive);
        let mut found = Vec::new();
        while let Some(entry) = reader.next_entry()? {
            let mut data = Vec::new();
            reader.read_to_end(&mut data)?;
            found.push((entry, data));
        }
        Ok(found)
    }

    /// An archive of header blocks and data.
    fn archive(entries: &[(Vec<u8>, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (headers, data) in entries {
            bytes.extend(headers);
            bytes.extend(*data);
            bytes.resize(bytes.len() + padding(data.len() as u64) as usize, 0);
        }
        bytes.extend(END);
        bytes
    }

    fn name() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![1_u8..=255, Just(b'/'), Just(b'a'), Just(b'\n'), Just(b'=')];
        let length = prop_oneof![1_usize..20, 95..105_usize, 250..300_usize];
        length.prop_flat_map(move |n| prop::collection::vec(byte.clone(), n))
    }

    proptest! {
        #[test]
        fn names_and_links_come_back(path in name(), link in name(), other in name(), data in prop::collection::vec(0_u8..4, 0..1200)) {
            prop_assume!(!path.ends_with(b"/") && !other.ends_with(b"/"));
            let written = archive(&[
                (entry(&path, Kind::File, b"", data.len() as u64), &data),
                (entry(&other, Kind::Symlink, &link, 0), b""),
            ]);
            let read = all(&written).unwrap();
            prop_assert_eq!(read.len(), 2);
            let (file, content) = &read[0];
            prop_assert_eq!((&file.path, file.kind, file.size, content), (&path, Kind::File, data.len() as u64, &data));
            let (symlink, _) = &read[1];
            prop_assert_eq!((&symlink.path, symlink.kind, &symlink.link), (&other, Kind::Symlink, &link));
            // Another name: all else stays.
            let change = Change { path: Some(&other), ..Change::default() };
            let again = all(&archive(&[(file.changed(change), &data)])).unwrap();
            prop_assert_eq!((&again[0].0.path, &again[0].1), (&other, &data));
            let change = Change { link: Some(&path), ..Change::default() };
            let again = all(&archive(&[(symlink.changed(change), b"")])).unwrap();
            prop_assert_eq!((&again[0].0.path, &again[0].0.link), (&other, &path));
        }

        #[test]
        fn any_bytes_are_read_or_refused(at in 0_usize..3000, byte in 0_u8..=255, cut in 0_usize..4000) {
            let mut bytes = archive(&[(entry(&[b'n'; 300], Kind::File, b"", 700), &[b'x'; 700]), (entry(b"d/", Kind::Directory, b"", 0), b"")]);
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(cut);
            let _ = all(&bytes);
        }
    }

    #[test]
    fn large_sizes_come_back() {
        for size in [0, 1, 0o77777777777, 0o100000000000, 1 << 50] {
            let headers = entry(b"large", Kind::File, b"", size);
            let found = Reader::new(&headers[..]).next_entry().unwrap().unwrap();
            assert_eq!((found.stored, found.size), (size, size));
            let change = Change {
                size: Some(3),
                ..Change::default()
            };
            let found = Reader::new(&found.changed(change)[..])
                .next_entry()
                .unwrap()
                .unwrap();
            assert_eq!(found.stored, 3);
        }
    }

    /// Files of each kind, as tar writes them in each of its formats; what was renamed is what tar then unpacks.
    #[test]
    fn what_tar_writes_is_read_and_renamed() {
        let directory = tempfile::tempdir().unwrap();
        let run = |script: &str| {
            let done = Command::new("sh")
                .args(["-euc", script])
                .current_dir(directory.path())
                .status();
            assert!(done.unwrap().success(), "{script}");
        };
        let long = "l".repeat(120);
        run(&format!(
            "mkdir -p in/dir && cd in && echo content >dir/file && ln dir/file hard && ln -s dir/file soft
             mkfifo fifo && printf x >{long} && ln -s {long} longlink
             truncate -s 3000000 sparse && for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30
             do printf $i | dd of=sparse bs=1 seek=$((i * 90000)) conv=notrunc status=none; done"
        ));
        for format in [
            "v7",
            "ustar",
            "gnu",
            "pax",
            "pax --sparse-version=0.0",
            "pax --sparse-version=0.1",
        ] {
            let names = match format {
                "v7" => "dir hard soft sparse",
                "ustar" => "dir hard soft fifo sparse",
                _ => "dir hard soft fifo sparse longlink",
            };
            let sparse = match format {
                "v7" | "ustar" => "",
                _ => "-S",
            };
            let longest = if names.ends_with("longlink") {
                &long[..]
            } else {
                "soft"
            };
            run(&format!(
                "cd in && tar {sparse} --sort=name --format={format} -cf ../a.tar {names} {longest} 2>/dev/null"
            ));
            let bytes = fs::read(directory.path().join("a.tar")).unwrap();
            let (mut found, mut renamed) = (Vec::new(), Vec::new());
            for (entry, data) in all(&bytes).unwrap() {
                let new = [b"new/", &entry.path[..]].concat();
                let link = [b"new/", &entry.link[..]].concat();
                let change = Change {
                    path: Some(&new),
                    link: (entry.kind == Kind::HardLink).then_some(&link),
                    ..Change::default()
                };
                renamed.push((entry.changed(change), data));
                found.push(entry);
            }
            let by_name = |name: &str| found.iter().find(|e| e.path == name.as_bytes()).unwrap();
            assert_eq!(by_name("dir/").kind, Kind::Directory, "{format}");
            assert_eq!(by_name("dir/file").size, 8);
            let hard = by_name("hard");
            assert_eq!(
                (hard.kind, &hard.link[..]),
                (Kind::HardLink, &b"dir/file"[..])
            );
            assert_eq!(by_name("soft").link, b"dir/file");
            if format != "v7" {
                assert_eq!(by_name("fifo").kind, Kind::Fifo);
            }
            let sparse = by_name("sparse");
            assert_eq!(sparse.size, 3_000_000, "{format}");
            assert_eq!(
                sparse.is_sparse(),
                !matches!(format, "v7" | "ustar"),
                "{format}"
            );
            if longest != "soft" {
                assert_eq!(by_name(longest).size, 1);
                assert_eq!(by_name("longlink").link, long.as_bytes());
            }
            let renamed: Vec<_> = renamed.iter().map(|(h, d)| (h.clone(), &d[..])).collect();
            fs::write(directory.path().join("b.tar"), archive(&renamed)).unwrap();
            run("rm -rf out && mkdir out && tar -C out -xf b.tar && cd out/new && for f in *; do
                 [ $f = fifo ] || [ $f = dir ] || cmp $f ../../in/$f; done; cmp dir/file ../../in/dir/file; [ dir/file -ef hard ]");
        }
    }

    #[test]
    fn attributes_stay_when_an_entry_changes() {
        let mut records = Vec::new();
        record(
            &mut records,
            b"SCHILY.xattr.security.capability",
            b"\x01\0\0\x02",
        );
        record(&mut records, b"path", b"old");
        record(&mut records, b"mtime", b"1.5");
        let own = entry(b"old", Kind::File, b"", 2);
        let headers = with_records(records, &own);
        let (read, _) = all(&archive(&[(headers, b"ab")])).unwrap().remove(0);
        let change = Change {
            path: Some(b"new"),
            size: Some(1),
            ..Change::default()
        };
        let (read, data) = all(&archive(&[(read.changed(change), b"c")]))
            .unwrap()
            .remove(0);
        assert_eq!((&read.path[..], &data[..]), (&b"new"[..], &b"c"[..]));
        let keys: Vec<_> = read.keys().collect();
        assert_eq!(keys, [&b"SCHILY.xattr.security.capability"[..], b"mtime"]);
        let (_, value) = &read.attributes[0];
        assert_eq!(&read.raw[value.clone()], b"\x01\0\0\x02");
    }

    #[test]
    fn what_is_damaged_is_named() {
        let good = archive(&[(entry(b"a", Kind::File, b"", 3), b"abc")]);
        let mut records = Vec::new();
        record(&mut records, b"size", b"1");
        let mut global = with_records(records, &entry(b"a", Kind::File, b"", 0));
        global[TYPE] = b'g';
        set_checksum(&mut global);
        let mut unknown = entry(b"a", Kind::File, b"", 0);
        unknown[TYPE] = b'V';
        set_checksum(&mut unknown);
        let mut lone = with_records(b"12 path=abc\n".to_vec(), &[]);
        let mut broken = with_records(b"99 path=abc\n".to_vec(), &[]);
        lone.truncate(2 * BLOCK);
        broken.extend(entry(b"a", Kind::File, b"", 0));
        for (bytes, words) in [
            (&good[..100], "end of file"),
            (&good[..BLOCK + 2], "end of file"),
            (&[b'x'; BLOCK][..], "checksum"),
            (&global, "of all entries"),
            (&unknown, "type that is not known"),
            (&lone, "ends behind the attributes"),
            (&broken, "cannot be read"),
        ] {
            let said = all(bytes).unwrap_err().to_string();
            assert!(said.contains(words), "{words}: {said}");
        }
    }
}
