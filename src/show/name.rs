// SPDX-License-Identifier: MIT OR Apache-2.0
//! Names of files as a terminal may show them.

/// Returns a name on one line. What would control the terminal, or deceive its reader, is escaped as in Rust; a byte that is
/// not part of valid UTF-8 is `\x` and two digits.
pub fn shown(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\'' => text.push(c),
                c => text.extend(c.escape_debug()),
            }
        }
        for byte in chunk.invalid() {
            text += &format!("\\x{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_control_the_terminal() {
        for (name, expected) in [
            (&b"plain \"name\" it's"[..], "plain \"name\" it's"),
            ("é 日本".as_bytes(), "é 日本"),
            (b"a\nb\t\x1b[31m", "a\\nb\\t\\u{1b}[31m"),
            ("\u{202e}gnp\u{9b}".as_bytes(), "\\u{202e}gnp\\u{9b}"),
            (b"back\\slash", "back\\\\slash"),
            (b"caf\xe9", "caf\\xe9"),
        ] {
            assert_eq!(shown(name), expected);
        }
    }
}
