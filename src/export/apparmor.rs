// SPDX-License-Identifier: MIT OR Apache-2.0
//! An AppArmor profile that allows what the reports list. It is about files only.

use crate::export::{Used, in_order};
use crate::files::kinds::Kinds;
use crate::log;
use crate::report::schema::field;
use crate::reports::several::Several;

/// What a report does not say anything about.
const OTHERS: [&str; 9] = [
    "capability",
    "network",
    "signal",
    "ptrace",
    "unix",
    "dbus",
    "mount",
    "umount",
    "pivot_root",
];

/// Pseudo file systems, which reports leave out.
const PSEUDO: [&str; 3] = ["/dev/{,**} mrwk", "/proc/{,**} mrwk", "/sys/{,**} mrwk"];

pub fn text(several: &Several) -> Vec<u8> {
    let mut files = in_order(several);
    files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    let unknown = files
        .iter()
        .filter(|file| file.kinds == Kinds::UNKNOWN)
        .count();
    if unknown > 0 {
        log::tell(format_args!(
            "nothing says how {unknown} of {} files were used: the profile allows everything with them",
            files.len()
        ));
    }
    let image = several
        .heads
        .iter()
        .find_map(|head| head[field::IMAGE].as_str());
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let name = image.unwrap_or("container").replace(|c| !is_plain(c), "-");
    let mut text = format!(
        "# Allows what containers did with files while snoop watched, and denies all else.
profile snoop-{name} flags=(attach_disconnected,mediate_deleted) {{\n"
    );
    for other in OTHERS.iter().chain(&PSEUDO) {
        text += &format!("  {other},\n");
    }
    for file in &files {
        text += &rule(file);
    }
    text += "}\n";
    text.into_bytes()
}

/// Returns the rule for a file. The path of a directory ends with a slash for AppArmor, and a report does not say what is one.
fn rule(file: &Used) -> String {
    let slash = match &file.path[..] {
        b"/" => "",
        _ => "{,/}",
    };
    format!(
        "  \"{}{slash}\" {},\n",
        escaped(&file.path),
        permissions(file.kinds)
    )
}

/// Returns the permissions for kinds of use. Whoever writes a file may also lock it, and a program is read and mapped.
fn permissions(kinds: Kinds) -> String {
    if kinds == Kinds::UNKNOWN {
        return "mrwkix".into();
    }
    let executed = kinds.has(Kinds::EXECUTED);
    let written = kinds.has(Kinds::WRITTEN);
    let parts = [
        (executed || kinds.has(Kinds::MAPPED), "m"),
        (executed || kinds != Kinds::WRITTEN, "r"),
        (written, "wk"),
        (executed, "ix"),
    ];
    let parts = parts.iter().filter(|(has, _)| *has);
    parts.map(|(_, letters)| *letters).collect()
}

/// Escapes a path for the quotes of a profile, where patterns and variables would have a meaning.
fn escaped(path: &[u8]) -> String {
    let escape = |b: &u8| match *b {
        b if b"\\\"*?[]{}^,@$".contains(&b) => format!("\\{}", char::from(b)),
        b if b.is_ascii_graphic() || b == b' ' => char::from(b).to_string(),
        b => format!("\\{b:03o}"),
    };
    path.iter().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_follow_the_kinds() {
        for (kinds, expected) in [
            ("l", "r"),
            ("lr", "r"),
            ("rm", "mr"),
            ("w", "wk"),
            ("rw", "rwk"),
            ("lw", "rwk"),
            ("x", "mrix"),
            ("lrwxm", "mrwkix"),
            ("", "mrwkix"),
        ] {
            assert_eq!(
                permissions(Kinds::parse(kinds).unwrap()),
                expected,
                "{kinds}"
            );
        }
    }

    #[test]
    fn names_are_no_patterns() {
        assert_eq!(escaped(b"/a b#'"), "/a b#'");
        assert_eq!(escaped(b"/@{x}*"), "/\\@\\{x\\}\\*");
        assert_eq!(escaped(b"/\xff\n"), "/\\377\\012");
    }
}
