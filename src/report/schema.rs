//! What those who write and read reports agree on: the version, and names of files as JSON strings.

use std::borrow::Cow;

/// Version of the format; a change that a reader must know of counts it up.
pub const SCHEMA: u32 = 1;

/// A name as a JSON string. What is not UTF-8 is kept: each such byte becomes NUL and two hexadecimal
/// digits. No name holds a NUL, so nothing else looks like that.
pub fn encode_name(name: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(name) {
        return text.into();
    }
    let mut text = String::with_capacity(name.len() + 8);
    for chunk in name.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\0{byte:02x}"));
        }
    }
    text.into()
}

/// The name that [`encode_name`] made this string of; `None` if it is none.
pub fn decode_name(text: &str) -> Option<Vec<u8>> {
    let mut pieces = text.split('\0');
    let mut name = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(2)?;
        name.push(u8::from_str_radix(digits, 16).ok()?);
        name.extend(rest.as_bytes());
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_from_text() {
        for bytes in [&b"/plain"[..], b"", b"/a\xffb\xc3", b"\xe9\xe9"] {
            assert_eq!(decode_name(&encode_name(bytes)).unwrap(), bytes);
        }
        for wrong in ["/a\0", "\0e", "\0xy", "\0é"] {
            assert_eq!(decode_name(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn names_are_kept_whatever_their_bytes() {
        assert_eq!(encode_name(b"/plain"), "/plain");
        assert_eq!(encode_name("/é".as_bytes()), "/é");
        assert_eq!(encode_name(b"/a\xffb\xc3"), "/a\0ffb\0c3");
        assert_eq!(encode_name(b"\xe9"), "\0e9");
        assert_eq!(encode_name(b""), "");
    }
}
