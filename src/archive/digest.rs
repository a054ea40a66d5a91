// SPDX-License-Identifier: MIT OR Apache-2.0
//! SHA-256 of what is read or written.

use sha2::{Digest as _, Sha256};
use std::fmt;
use std::io::{self, Read, Write};

/// A digest as images name it: `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
    }

    /// Returns the digest that a text names; `None` if it names none, or one of another algorithm.
    pub fn parse(text: &str) -> Option<Digest> {
        Digest::from_hex(text.strip_prefix("sha256:")?)
    }

    /// Returns the digest of 64 hexadecimal digits in lower case.
    pub fn from_hex(hex: &str) -> Option<Digest> {
        let is_digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if hex.len() != 64 || !hex.bytes().all(is_digit) {
            return None;
        }
        let mut digest = [0; 32];
        for (byte, digits) in digest.iter_mut().zip(hex.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(Digest(digest))
    }

    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

/// A stream whose bytes are counted and hashed on their way.
pub struct Hashing<S> {
    pub inner: S,
    hash: Sha256,
    pub bytes: u64,
}

impl<S> Hashing<S> {
    pub fn new(inner: S) -> Hashing<S> {
        Hashing {
            inner,
            hash: Sha256::new(),
            bytes: 0,
        }
    }

    /// Returns the digest of what went through so far.
    pub fn digest(&self) -> Digest {
        Digest(self.hash.clone().finalize().into())
    }
}

impl<S: Read> Read for Hashing<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hash.update(&buffer[..n]);
        self.bytes += n as u64;
        Ok(n)
    }
}

impl<S: Write> Write for Hashing<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.hash.update(&bytes[..n]);
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn digests_are_text_and_back() {
        assert_eq!(Digest::of(b"abc").to_string(), ABC);
        assert_eq!(Digest::parse(ABC), Some(Digest::of(b"abc")));
        let (upper, sha512) = (ABC.to_uppercase(), ABC.replace("256", "512"));
        for wrong in ["", "sha256:", &ABC[..70], &ABC[7..], &upper, &sha512] {
            assert_eq!(Digest::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn streams_are_hashed_on_their_way() {
        let mut read = Hashing::new(&b"abc"[..]);
        io::copy(&mut read, &mut io::sink()).unwrap();
        assert_eq!((read.digest().to_string(), read.bytes), (ABC.into(), 3));
        let mut written = Hashing::new(Vec::new());
        written.write_all(b"ab").unwrap();
        written.write_all(b"c").unwrap();
        assert_eq!(written.digest(), read.digest());
    }
}
