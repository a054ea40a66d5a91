// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scans a report as a stream of JSON. It hands out the elements of the lists that have one for each file, and keeps the
//! rest as text.
//!
//! Only the structure matters, not the layout, because another tool may have rewritten the report with other whitespace
//! or another order of fields. The text that is kept is JSON with an empty list in place of each of these lists. This
//! module only counts brackets and finds strings. The caller finds out whether the text is valid JSON.

use crate::files::kinds::Kinds;
use crate::files::usage::TICKS_PER_MS;
use crate::report::reader;
use crate::report::schema::field;
use serde_json::Value;
use std::fmt;
use std::io::{BufRead, BufReader, Read};

/// Longer than any string in a report. The longest string is the longest path of a record with each byte escaped.
const STRING_MAX: usize = 1 << 20;
/// Longer than the names of files on any file system.
const NAME_MAX: usize = 4096;
/// The most bytes that there may be outside the lists of files.
const HEAD_MAX: usize = 8 << 20;
/// Longer than any number that snoop writes.
const NUMBER_MAX: usize = 64;

/// The owner of a list of files.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Owner {
    /// All containers together.
    All,
    /// The container at this place among the report's containers.
    Container(usize),
}

/// An element of a list that has one for each file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Element<'a> {
    File(&'a [u8]),
    Kinds(Kinds),
    /// The time of the first use, as [`Usage::first`](crate::files::usage::Usage::first) has it.
    FirstUse(Option<u64>),
}

/// What such a list holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    Files,
    Kinds,
    FirstUses,
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Column::Files => field::FILES,
            Column::Kinds => field::KINDS,
            Column::FirstUses => field::FIRST_USE_MS,
        })
    }
}

#[derive(Debug, PartialEq)]
pub struct List {
    pub of: Owner,
    pub column: Column,
    /// The number of its elements.
    pub len: u64,
}

#[derive(Debug)]
pub struct Scanned {
    /// The report with empty lists.
    pub head: String,
    /// The lists that have an element for each file, in the order of the report.
    pub lists: Vec<List>,
}

impl Scanned {
    /// Returns the length of a list. `None` if the report does not have it.
    pub fn len(&self, of: Owner, column: Column) -> Option<u64> {
        let mut lists = self.lists.iter();
        let list = lists.find(|list| list.of == of && list.column == column)?;
        Some(list.len)
    }
}

/// Takes the elements of the lists one by one.
pub type Each<'a> = &'a mut dyn FnMut(Owner, Element);

fn is_blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

type Result<T> = std::result::Result<T, String>;

/// Reads a report to its end and hands out each element with the list's owner. The error says why this is not a report.
pub fn scan(report: &mut dyn Read, each: Each) -> Result<Scanned> {
    let mut scanner = Scanner {
        input: BufReader::with_capacity(64 << 10, report),
        string: Vec::new(),
        head: Vec::new(),
        lists: Vec::new(),
        each,
    };
    scanner.report()?;
    Ok(Scanned {
        head: String::from_utf8(scanner.head).map_err(|e| e.to_string())?,
        lists: scanner.lists,
    })
}

struct Scanner<'a> {
    input: BufReader<&'a mut dyn Read>,
    /// The string that was read last, still escaped, with its quotes.
    string: Vec<u8>,
    head: Vec<u8>,
    lists: Vec<List>,
    each: Each<'a>,
}

/// The keys that the scanner has to know.
#[derive(Clone, Copy, PartialEq)]
enum Key {
    Column(Column),
    Containers,
    Other,
}

impl Scanner<'_> {
    fn report(&mut self) -> Result<()> {
        // The report has depth 1, its array of containers depth 2, and each container depth 3.
        let (mut depth, mut in_containers, mut containers) = (0usize, false, 0);
        // The key of the value that comes next.
        let mut key = Key::Other;
        loop {
            if self.skip_blanks()? {
                // Without the blank two numbers could become one.
                self.keep(b" ")?;
            }
            let Some(byte) = self.next()? else {
                return Ok(());
            };
            let owner = match depth {
                1 => Some(Owner::All),
                3 if in_containers => Some(Owner::Container(containers - 1)),
                _ => None,
            };
            match (byte, owner, key) {
                (b'"', ..) => {
                    self.read_string()?;
                    let string = std::mem::take(&mut self.string);
                    self.keep(&string)?;
                    self.string = string;
                    continue;
                }
                (b':', Some(_), _) => key = self.key(),
                (b'[', Some(owner), Key::Column(column)) => {
                    self.keep(b"[]")?;
                    self.list(owner, column)?;
                    continue;
                }
                (b'{' | b'[', ..) => {
                    in_containers |= depth == 1 && byte == b'[' && key == Key::Containers;
                    containers += usize::from(in_containers && depth == 2);
                    depth += 1;
                    key = Key::Other;
                }
                (b'}' | b']', ..) => {
                    depth = depth.saturating_sub(1);
                    in_containers &= depth > 1;
                }
                (b',', ..) => key = Key::Other,
                _ => (),
            }
            self.keep(&[byte])?;
        }
    }

    /// Reads the rest of a list, after its bracket.
    fn list(&mut self, of: Owner, column: Column) -> Result<()> {
        let mut len = 0;
        loop {
            match (self.next_but_blanks()?, column, len) {
                (b']', _, 0) => break,
                (b'"', Column::Files, _) => self.file(of)?,
                (b'"', Column::Kinds, _) => self.kinds(of)?,
                (first @ (b'n' | b'0'..=b'9'), Column::FirstUses, _) => {
                    self.first_use(of, first)?
                }
                _ => return Err("a list of its files holds something else".into()),
            }
            len += 1;
            match self.next_but_blanks()? {
                b',' => (),
                b']' => break,
                _ => return Err("a list of its files lacks a comma".into()),
            }
        }
        self.lists.push(List { of, column, len });
        Ok(())
    }

    fn file(&mut self, of: Owner) -> Result<()> {
        self.read_string()?;
        let value = serde_json::from_slice(&self.string).map_err(|e| e.to_string())?;
        let path = reader::path(&value)?;
        if path.split(|b| *b == b'/').any(|name| name.len() > NAME_MAX) {
            return Err("a name in it is too long".into());
        }
        (self.each)(of, Element::File(&path));
        Ok(())
    }

    fn kinds(&mut self, of: Owner) -> Result<()> {
        self.read_string()?;
        let value: Value = serde_json::from_slice(&self.string).map_err(|e| e.to_string())?;
        let kinds = value.as_str().and_then(Kinds::parse);
        let kinds = kinds.ok_or_else(|| format!("it has {value}, which is no kind of use"))?;
        (self.each)(of, Element::Kinds(kinds));
        Ok(())
    }

    /// Reads the rest of a number or null, after its first byte.
    fn first_use(&mut self, of: Owner, first: u8) -> Result<()> {
        self.string.clear();
        self.string.push(first);
        while let Some(byte) = self
            .peek()?
            .filter(|b| !is_blank(b) && !matches!(b, b',' | b']'))
        {
            self.string.push(byte);
            self.input.consume(1);
            if self.string.len() > NUMBER_MAX {
                return Err("a number in it is too long".into());
            }
        }
        let value: Value = serde_json::from_slice(&self.string).map_err(|e| e.to_string())?;
        let ticks = value.as_f64().map(|ms| (ms * TICKS_PER_MS as f64).round());
        let is_time = value.is_null() || ticks.is_some_and(|ticks| (0.0..1e18).contains(&ticks));
        if !is_time {
            return Err(format!("it has {value}, which is no time of a first use"));
        }
        (self.each)(of, Element::FirstUse(ticks.map(|ticks| ticks as u64)));
        Ok(())
    }

    /// Returns which key the string that was read last is.
    fn key(&self) -> Key {
        // A string that cannot be parsed is not a key either.
        let string: Value = serde_json::from_slice(&self.string).unwrap_or_default();
        match string.as_str() {
            Some(field::FILES) => Key::Column(Column::Files),
            Some(field::KINDS) => Key::Column(Column::Kinds),
            Some(field::FIRST_USE_MS) => Key::Column(Column::FirstUses),
            Some(field::CONTAINERS) => Key::Containers,
            _ => Key::Other,
        }
    }

    /// Reads the rest of a string, after its first quote.
    fn read_string(&mut self) -> Result<()> {
        self.string.clear();
        self.string.push(b'"');
        loop {
            let some = self.input.fill_buf().map_err(|e| e.to_string())?;
            if some.is_empty() {
                return Err(TRUNCATED.into());
            }
            let special = some.iter().position(|b| matches!(b, b'"' | b'\\'));
            let end = special.map_or(some.len(), |at| at + 1);
            self.string.extend(&some[..end]);
            self.input.consume(end);
            if self.string.len() > STRING_MAX {
                return Err("a string in it is too long".into());
            }
            match special.and(self.string.last()) {
                Some(b'"') => return Ok(()),
                // An escaped character does not end the string.
                Some(_) => {
                    let escaped = self.next()?.ok_or(TRUNCATED)?;
                    self.string.push(escaped);
                }
                None => (),
            }
        }
    }

    fn peek(&mut self) -> Result<Option<u8>> {
        let some = self.input.fill_buf().map_err(|e| e.to_string())?;
        Ok(some.first().copied())
    }

    fn next(&mut self) -> Result<Option<u8>> {
        let byte = self.peek()?;
        self.input.consume(usize::from(byte.is_some()));
        Ok(byte)
    }

    fn next_but_blanks(&mut self) -> Result<u8> {
        self.skip_blanks()?;
        self.next()?.ok_or_else(|| TRUNCATED.into())
    }

    /// Skips whitespace, which may stand between any two tokens. Returns whether there was any.
    fn skip_blanks(&mut self) -> Result<bool> {
        let mut skipped = false;
        loop {
            let some = self.input.fill_buf().map_err(|e| e.to_string())?;
            let blanks = some.iter().take_while(|b| is_blank(b)).count();
            let is_all = blanks == some.len();
            self.input.consume(blanks);
            skipped |= blanks > 0;
            if !is_all || blanks == 0 {
                return Ok(skipped);
            }
        }
    }

    fn keep(&mut self, text: &[u8]) -> Result<()> {
        self.head.extend(text);
        if self.head.len() > HEAD_MAX {
            return Err("there is too much data outside its lists of files".into());
        }
        Ok(())
    }
}

const TRUNCATED: &str = "it is truncated";

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A reader that returns its bytes one by one, so that every pair of bytes is split once.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0
                .take(1)
                .read(buffer)
                .inspect(|n| self.0 = &self.0[*n..])
        }
    }

    type Files = Vec<(Owner, String)>;

    fn scanned(report: &str) -> Result<(Value, Files)> {
        let read = |input: &mut dyn Read| {
            let mut files = Files::new();
            let mut each = |owner, element: Element| {
                if let Element::File(path) = element {
                    files.push((owner, String::from_utf8(path.into()).unwrap()));
                }
            };
            let scanned = scan(input, &mut each)?;
            for list in scanned
                .lists
                .iter()
                .filter(|list| list.column == Column::Files)
            {
                let listed = files.iter().filter(|(of, _)| *of == list.of).count();
                assert_eq!(listed as u64, list.len);
            }
            Ok((scanned.head, files))
        };
        let at_once = read(&mut report.as_bytes());
        assert_eq!(at_once, read(&mut Slow(report.as_bytes())));
        at_once.map(|(head, files)| (serde_json::from_str(&head).unwrap_or_default(), files))
    }

    #[test]
    fn the_layout_does_not_matter() {
        let report = json!({
            "schema": 1,
            "labels": {"files": "[", "containers": "\"files\": ["},
            "files": ["/", "/a", "/é \"\\", "/files", "/[{]}:,"],
            "containers": [
                {"name": "files", "mounts": [{"files": ["/no"]}], "files": ["/a", "/files"]},
                {"name": "none", "files": [], "unique_files": 0},
                {"name": "last", "files": ["/", "/é \"\\", "/[{]}:,"]},
            ],
            "missing": {"files": 7},
        });
        let spread = |text: &str| text.replace("\"files\": [", "\n\"files\"\t:\r\n[ ");
        let pretty = serde_json::to_string_pretty(&report).unwrap();
        let escaped = pretty
            .replace("files\": [", "f\\u0069les\": [")
            .replace('é', "\\u00e9");
        let mut empty = report.clone();
        empty["files"] = json!([]);
        for container in empty["containers"].as_array_mut().unwrap() {
            container["files"] = json!([]);
        }
        for text in [report.to_string(), spread(&pretty), escaped, pretty] {
            let (head, files) = scanned(&text).unwrap();
            assert_eq!(head, empty);
            let of = |owner| {
                let files = files.iter().filter(|(of, _)| *of == owner);
                files.map(|(_, path)| path.as_str()).collect::<Vec<_>>()
            };
            assert_eq!(of(Owner::All), ["/", "/a", "/é \"\\", "/files", "/[{]}:,"]);
            assert_eq!(of(Owner::Container(0)), ["/a", "/files"]);
            assert_eq!(of(Owner::Container(1)), [""; 0]);
            assert_eq!(of(Owner::Container(2)), ["/", "/é \"\\", "/[{]}:,"]);
        }
    }

    #[test]
    fn kinds_and_times_are_handed_out() {
        let report = r#"{"kinds": ["x"], "containers": [
            {"first_use_ms": [ 0.07,null , 12e1,3 ], "kinds": [], "mounts": [{"kinds": [7]}]},
            {"kinds":["lrwxm" , ""], "first_use_ms": []}]}"#;
        let (mut kinds, mut firsts) = (Vec::new(), Vec::new());
        let mut each = |owner, element: Element| match element {
            Element::File(_) => panic!("there is no file"),
            Element::Kinds(found) => kinds.push((owner, found.letters().collect::<String>())),
            Element::FirstUse(first) => firsts.push((owner, first)),
        };
        let scanned = scan(&mut report.as_bytes(), &mut each).unwrap();
        let second = Owner::Container(1);
        let expected = [(Owner::All, "x"), (second, "lrwxm"), (second, "")];
        assert_eq!(
            kinds,
            expected.map(|(owner, letters)| (owner, letters.to_string()))
        );
        let expected = [Some(7), None, Some(12_000), Some(300)];
        assert_eq!(firsts, expected.map(|first| (Owner::Container(0), first)));
        assert_eq!(scanned.len(Owner::Container(0), Column::FirstUses), Some(4));
        assert_eq!(scanned.len(Owner::All, Column::FirstUses), None);
    }

    #[test]
    fn errors_in_kinds_and_times() {
        for (report, part) in [
            (r#"{"kinds": ["rq"]}"#, "no kind of use"),
            (r#"{"kinds": [1]}"#, "something else"),
            (r#"{"first_use_ms": ["1"]}"#, "something else"),
            (r#"{"first_use_ms": [-1]}"#, "something else"),
            (r#"{"first_use_ms": [nul]}"#, "parsing"),
            (r#"{"first_use_ms": [1e99]}"#, "no time"),
            (r#"{"first_use_ms": [1"#, "truncated"),
        ] {
            let said = scan(&mut report.as_bytes(), &mut |_, _| ()).unwrap_err();
            assert!(said.contains(part), "{report}: {said}");
        }
    }

    #[test]
    fn errors_in_lists_of_files() {
        for (report, part) in [
            (r#"{"files": ["/a""#, "truncated"),
            (r#"{"files": ["/a"#, "truncated"),
            (r#"{"files": ["/a\"#, "truncated"),
            (r#"{"files": ["/a" "/b"]}"#, "lacks a comma"),
            (r#"{"files": ["/a", ]}"#, "something else"),
            (r#"{"files": [, "/a"]}"#, "something else"),
            (r#"{"files": [7]}"#, "something else"),
            (r#"{"files": [["/a"]]}"#, "something else"),
            (r#"{"files": ["a"]}"#, "not an absolute path"),
            (r#"{"files": ["/\u00zz"]}"#, "invalid escape"),
        ] {
            let said = scanned(report).unwrap_err();
            assert!(said.contains(part), "{report}: {said}");
        }
    }

    /// Text that is not JSON does not become JSON because the scanner leaves something out.
    #[test]
    fn invalid_json_stays_invalid() {
        for report in [
            r#"{"a": 1 2}"#,
            r#"{"a": tr ue}"#,
            r#"{"files": [] []}"#,
            "[}",
            "]]]{",
        ] {
            assert_eq!(scanned(report).unwrap().0, Value::Null, "{report}");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let long = "n".repeat(STRING_MAX);
        let said = scanned(&format!("{{\"files\": [\"/{long}\"]}}")).unwrap_err();
        assert_eq!(said, "a string in it is too long");
        let name = "n".repeat(NAME_MAX + 1);
        let said = scanned(&format!("{{\"files\": [\"/{name}\"]}}")).unwrap_err();
        assert_eq!(said, "a name in it is too long");
        let said = scan(&mut std::io::repeat(b'['), &mut |_, _| ()).unwrap_err();
        assert_eq!(said, "there is too much data outside its lists of files");
        let mut blanks = std::io::repeat(b' ').take(9 << 20);
        assert_eq!(scan(&mut blanks, &mut |_, _| ()).unwrap().head, " ");
    }
}
