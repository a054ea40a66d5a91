// SPDX-License-Identifier: MIT OR Apache-2.0
//! The value of each flag, from the words of the command line and from the environment.

use super::flags::{self, Flag, Kind};
use super::{Environment, Verb, Words};
use crate::error::{Error, Result};
use crate::http::Address;
use lexopt::prelude::*;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::Duration;

/// The words that ask for a text. They take no value.
const ASKING: [&str; 6] = ["-help", "--help", "-h", "-version", "--version", "-V"];

/// The values of a command's flags.
pub struct Values {
    verb: &'static Verb,
    /// The flag, the source of its value (`-flag` or the variable), and the value. The last entry counts.
    given: Vec<(&'static str, String, OsString)>,
}

impl Values {
    /// Reads the environment, then the flags, which take precedence.
    pub fn read(verb: &'static Verb, flags: Words, environment: Environment) -> Result<Values> {
        let mut given = Vec::new();
        for flag in flags::of(verb.name) {
            let Some(variable) = flag.variable() else {
                continue;
            };
            let value = environment(&variable);
            if let Some(value) = value.filter(|v| flag.may_be_empty() || !v.is_empty()) {
                given.push((flag.name, variable, value));
            }
        }
        let mut parser = lexopt::Parser::from_args(flags);
        while let Some(arg) = parser.next().map_err(|e| verb.wrong(e))? {
            let name = match arg {
                Long(name) => name.to_string(),
                Short(letter) => letter.to_string(),
                Value(word) => return Err(verb.unexpected(&word)),
            };
            let flag = flags::find(verb.name, &name).ok_or_else(|| verb.unknown(&name))?;
            let value = value_of(flag, &mut parser)?;
            given.push((flag.name, format!("-{name}"), value));
        }
        Ok(Values { verb, given })
    }

    /// Returns the source and the value that were given for a flag. An error message names the source.
    pub fn given(&self, name: &str) -> Option<(&str, &OsStr)> {
        let found = self.given.iter().rev().find(|(flag, ..)| *flag == name)?;
        Some((&found.1, &found.2))
    }

    /// Returns all values that were given for a flag, in order.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &OsStr> {
        let given = self.given.iter().filter(move |(flag, ..)| *flag == name);
        given.map(|(.., value)| value.as_os_str())
    }

    /// Returns whether the flag was given, by name or by variable.
    pub fn is_given(&self, name: &str) -> bool {
        self.given(name).is_some()
    }

    /// Returns which of these flags was given last.
    pub fn last_of(&self, names: &[&'static str]) -> Option<&'static str> {
        let mut given = self.given.iter().rev().map(|(flag, ..)| *flag);
        given.find(|flag| names.contains(flag))
    }

    /// Returns the value of a flag, or its default.
    pub fn get(&self, name: &str) -> &OsStr {
        let default = || flag(self.verb, name).default_of(self.verb.name).as_ref();
        self.given(name).map_or_else(default, |(_, value)| value)
    }

    /// Returns the value of a flag as text.
    pub fn text(&self, name: &str) -> Result<&str> {
        let text = self.get(name).to_str();
        text.ok_or_else(|| self.wrong(name, "not valid UTF-8", "give text in UTF-8"))
    }

    /// Parses the value of a flag. The error for an invalid value says that it is not `what`, and asks the user to give
    /// `examples`.
    pub fn parsed<T>(
        &self,
        name: &str,
        what: &str,
        examples: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T> {
        parse(self.text(name)?)
            .ok_or_else(|| self.wrong(name, &format!("not {what}"), &format!("give {examples}")))
    }

    /// Parses the value of a flag that takes one of a few names, like [`Values::parsed`].
    pub fn one_of<T>(
        &self,
        name: &str,
        what: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T> {
        let Kind::OneOf(names) = flag(self.verb, name).kind else {
            unreachable!("-{name} takes a name");
        };
        self.parsed(name, what, &format!("one of {}", names.join(", ")), parse)
    }

    /// Returns the error for the value of a flag.
    pub fn wrong(&self, name: &str, why: &str, remedy: &str) -> Error {
        let flag = format!("-{name}");
        let (source, value) = self.given(name).unwrap_or((&flag, self.get(name)));
        let value = value.to_string_lossy();
        Error::usage(format!(
            "{source}={}: {why}; {remedy}",
            value.escape_debug()
        ))
    }
}

/// Returns the row of a flag that a command is known to take.
fn flag(verb: &Verb, name: &str) -> &'static Flag {
    flags::find(verb.name, name).expect("the command takes the flag")
}

/// Reads the value that follows a flag.
fn value_of(flag: &Flag, parser: &mut lexopt::Parser) -> Result<OsString> {
    let name = flag.name;
    match flag.kind {
        Kind::Switch => match parser.optional_value() {
            None => Ok(OsString::new()),
            Some(value) => Err(Error::usage(format!(
                "-{name}={}: the flag takes no value; write -{name}",
                value.to_string_lossy().escape_debug()
            ))),
        },
        Kind::Bool => Ok(parser.optional_value().unwrap_or("true".into())),
        _ => parser.value().map_err(|_| {
            let value = flag.value;
            Error::usage(format!(
                "-{name}: the value is missing; write -{name}={value}"
            ))
        }),
    }
}

/// Returns what `-help` or `-version` among the words asks for. The other words do not matter.
pub fn asks_for(words: &[OsString]) -> Option<Asked> {
    words.iter().find_map(|word| match word.as_bytes() {
        b"-help" | b"--help" | b"-h" => Some(Asked::Help),
        b"-version" | b"--version" | b"-V" => Some(Asked::Version),
        _ => None,
    })
}

pub enum Asked {
    Help,
    Version,
}

/// Splits the words into the flags at the front, with their values, and the words after them. Drops a `--` between the
/// two.
pub fn split_front(verb: &Verb, words: Words) -> (Words, Words) {
    let (mut flags, mut words) = (Vec::new(), words.into_iter().peekable());
    while let Some(word) = words.next_if(is_flag) {
        take_flag(verb, word, &mut words, &mut flags);
    }
    words.next_if(|word| word == "--");
    (flags, words.collect())
}

/// Takes all words for flags: of a command that has none, each word is one too many.
pub fn all_flags(_: &Verb, words: Words) -> (Words, Words) {
    (words, Vec::new())
}

/// Splits the words into flags, with their values, and all other words. After a `--` there are no flags.
pub fn split(verb: &Verb, words: Words) -> (Words, Words) {
    let (mut flags, mut others) = (Vec::new(), Vec::new());
    let mut words = words.into_iter().peekable();
    while let Some(word) = words.next() {
        if word == "--" {
            others.extend(words.by_ref());
        } else if is_flag(&word) {
            take_flag(verb, word, &mut words, &mut flags);
        } else {
            others.push(word);
        }
    }
    (flags, others)
}

/// Parses a number of bytes. `20G` is 20 times 1024³.
pub fn size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(['K', 'M', 'G', 'T']);
    let shift = match &text[digits.len()..] {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    let number: u64 = digits.parse().ok()?;
    number.checked_mul(1 << shift).filter(|size| *size > 0)
}

fn is_flag(word: &OsString) -> bool {
    word != "--" && matches!(word.as_bytes(), [b'-', _, ..])
}

/// Moves a flag to `flags`, together with the next word if that is its value.
fn take_flag(
    verb: &Verb,
    word: OsString,
    words: &mut impl Iterator<Item = OsString>,
    flags: &mut Words,
) {
    let name = word.to_string_lossy();
    let known = flags::find(verb.name, name.trim_start_matches('-'));
    let takes_no_word = known.is_some_and(|flag| matches!(flag.kind, Kind::Switch | Kind::Bool));
    let alone = takes_no_word || ASKING.contains(&&*name) || name.contains('=');
    flags.push(two_dashes(word));
    if !alone {
        flags.extend(words.next());
    }
}

/// Turns `-flag`, the form that Go programs take and manifests use, into the `--flag` that lexopt expects.
fn two_dashes(word: OsString) -> OsString {
    match word.as_bytes() {
        [b'-', letter, _, ..] if letter.is_ascii_alphabetic() => {
            OsString::from_vec([b"-", word.as_bytes()].concat())
        }
        _ => word,
    }
}

/// Parses a duration as Go writes it: numbers, each with a unit, without blanks.
pub fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        let end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        total = total.checked_add(part)?;
        rest = tail;
    }
    Some(total)
}

/// Parses an address: nothing, or a host and a port. The host may be empty; an IPv6 address is in brackets.
pub fn address(text: &str) -> Option<Option<Address>> {
    if text.is_empty() {
        return Some(None);
    }
    let (host, port) = text.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(v6) => {
            let v6 = v6.strip_suffix(']')?;
            v6.parse::<std::net::Ipv6Addr>().ok()?;
            v6
        }
        None if host.contains([':', ' ', '[', ']']) => return None,
        None => host,
    };
    let port = port.parse().ok()?;
    Some(Some(Address {
        host: host.into(),
        port,
    }))
}

/// Parses `true` or `false`. As in Go, 1 and 0 work too.
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// Parses labels: `key=value`, separated by commas.
pub fn labels(text: &str) -> Option<Vec<(String, String)>> {
    let pairs = text.split(',').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').map(|(k, v)| (k.into(), v.into())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_go_writes_them() {
        for (text, ms) in [
            ("500ms", Some(500)),
            ("30s", Some(30_000)),
            ("1m30s", Some(90_000)),
            ("1.5h", Some(5_400_000)),
            ("1h0m0.5s", Some(3_600_500)),
            ("", None),
            ("s", None),
            ("1", None),
            ("1 s", None),
            ("1d", None),
            ("1.2.3s", None),
            ("99999999999999999999h", None),
        ] {
            assert_eq!(duration(text), ms.map(Duration::from_millis), "{text:?}");
        }
    }

    #[test]
    fn addresses() {
        let at = |host: &str, port| {
            Some(Some(Address {
                host: host.into(),
                port,
            }))
        };
        assert_eq!(address(""), Some(None));
        assert_eq!(address(":9090"), at("", 9090));
        assert_eq!(address("127.0.0.1:1"), at("127.0.0.1", 1));
        assert_eq!(address("localhost:80"), at("localhost", 80));
        assert_eq!(address("[::1]:9090"), at("::1", 9090));
        for wrong in [
            "9090", "::1:9090", "[::1]", "a b:1", "[x]:1", ":", ":-1", ":70000",
        ] {
            assert_eq!(address(wrong), None, "{wrong}");
        }
    }
}
