// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a file was used: looked at, read, written, executed, mapped as a program or library, or several of these.

use crate::bpf::wire::{KIND_EXECUTED, KIND_LOOKED_AT, KIND_MAPPED, KIND_READ, KIND_WRITTEN};

/// A set of kinds of use. It is empty if nobody knows how the file was used, as in reports of schema 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Kinds(u8);

impl Kinds {
    pub const LOOKED_AT: Kinds = Kinds(KIND_LOOKED_AT);
    pub const READ: Kinds = Kinds(KIND_READ);
    pub const WRITTEN: Kinds = Kinds(KIND_WRITTEN);
    pub const EXECUTED: Kinds = Kinds(KIND_EXECUTED);
    pub const MAPPED: Kinds = Kinds(KIND_MAPPED);
    pub const UNKNOWN: Kinds = Kinds(0);
    pub const EVERY: Kinds = Kinds((1 << Kinds::BITS) - 1);

    /// The number of kinds. Each is one of the lowest bits.
    pub const BITS: u32 = Kinds::ALL.len() as u32;

    /// Each kind with its letter and its name, in the order of the letters in a report.
    pub const ALL: [(Kinds, char, &str); 5] = [
        (Kinds::LOOKED_AT, 'l', "looked at"),
        (Kinds::READ, 'r', "read"),
        (Kinds::WRITTEN, 'w', "written"),
        (Kinds::EXECUTED, 'x', "executed"),
        (Kinds::MAPPED, 'm', "mapped"),
    ];

    /// Returns the kinds with these bits. Bits that are no kind are ignored.
    pub fn from_bits(bits: u8) -> Kinds {
        Kinds(bits & ((1 << Kinds::BITS) - 1))
    }

    pub fn bits(self) -> u8 {
        self.0
    }

    /// Parses letters. `None` if one of them stands for no kind.
    pub fn parse(letters: &str) -> Option<Kinds> {
        letters.chars().try_fold(Kinds::UNKNOWN, |kinds, letter| {
            let (kind, ..) = Kinds::ALL.iter().find(|(_, of, _)| *of == letter)?;
            Some(kinds.and(*kind))
        })
    }

    /// Returns the letters of these kinds.
    pub fn letters(self) -> impl Iterator<Item = char> {
        let has = Kinds::ALL
            .into_iter()
            .filter(move |(kind, ..)| self.has(*kind));
        has.map(|(_, letter, _)| letter)
    }

    /// Returns the names of these kinds.
    pub fn names(self) -> String {
        if self == Kinds::UNKNOWN {
            return "unknown".into();
        }
        let has = Kinds::ALL.iter().filter(|(kind, ..)| self.has(*kind));
        has.map(|(.., name)| *name).collect::<Vec<_>>().join(", ")
    }

    /// Returns the kinds that are in one of the two sets.
    pub const fn and(self, other: Kinds) -> Kinds {
        Kinds(self.0 | other.0)
    }

    /// Returns whether the two sets have a kind in common.
    pub fn has(self, other: Kinds) -> bool {
        self.0 & other.0 != 0
    }

    /// Returns whether a file of these kinds is one of those that `wanted` asks for. It is, too, if nobody knows how it was
    /// used.
    pub fn is_wanted(self, wanted: Kinds) -> bool {
        self == Kinds::UNKNOWN || self.has(wanted)
    }

    /// Returns whether each kind of the other set is in this one.
    pub fn cover(self, other: Kinds) -> bool {
        other.0 & !self.0 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_parsed_and_written_in_order() {
        let kinds = Kinds::parse("mxl").unwrap();
        assert_eq!(kinds.letters().collect::<String>(), "lxm");
        assert_eq!(kinds.names(), "looked at, executed, mapped");
        assert_eq!(Kinds::UNKNOWN.names(), "unknown");
        assert_eq!(Kinds::parse(""), Some(Kinds::UNKNOWN));
        assert_eq!(Kinds::parse("ry"), None);
    }

    #[test]
    fn a_file_of_unknown_kind_is_always_wanted() {
        let wanted = Kinds::parse("rw").unwrap();
        for (letters, is_wanted) in [("", true), ("l", false), ("lr", true), ("x", false)] {
            assert_eq!(Kinds::parse(letters).unwrap().is_wanted(wanted), is_wanted);
        }
    }

    #[test]
    fn each_kind_is_one_of_the_lowest_bits() {
        for (at, (kind, ..)) in Kinds::ALL.into_iter().enumerate() {
            assert_eq!(kind.bits(), 1 << at);
        }
        assert_eq!(
            Kinds::from_bits(0xff).letters().collect::<String>(),
            "lrwxm"
        );
        assert!(Kinds::from_bits(0xff).cover(Kinds::READ) && !Kinds::READ.cover(Kinds::MAPPED));
    }
}
