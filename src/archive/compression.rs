// SPDX-License-Identifier: MIT OR Apache-2.0
//! Streams that may be compressed: gzip (RFC 1952) and zstd (RFC 8878), told by their first bytes.
//!
//! The checksums that these formats carry are not looked at: what is decompressed here is compared with a SHA-256.

use crate::archive::invalid;
use crate::archive::tar::{Skip, read_over};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::io::{self, BufRead, Read};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// Returns how a stream that begins so is compressed.
    pub fn of(beginning: &[u8]) -> Compression {
        match beginning {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            // A frame of zstd to be skipped may come first.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            _ => Compression::None,
        }
    }
}

/// Any stream: one piece of code for all of them.
type Input<'a> = Box<dyn BufRead + 'a>;

/// The content of a stream, decompressed.
pub enum Decoder<'a> {
    Plain(Input<'a>),
    Gzip(Box<Gzip<'a>>),
    Zstd(Box<Zstd<'a>>),
}

impl<'a> Decoder<'a> {
    /// Looks at the stream's first bytes, which its buffer has to hold at once.
    pub fn new(input: impl BufRead + 'a) -> io::Result<Decoder<'a>> {
        let mut input: Input = Box::new(input);
        let compression = Compression::of(input.fill_buf()?);
        Ok(match compression {
            Compression::None => Decoder::Plain(input),
            Compression::Gzip => Decoder::Gzip(Box::new(Gzip::new(input))),
            Compression::Zstd => Decoder::Zstd(Box::new(Zstd {
                input,
                decoder: FrameDecoder::new(),
                in_frame: false,
            })),
        })
    }
}

impl Read for Decoder<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Decoder::Plain(input) => input.read(buffer),
            Decoder::Gzip(gzip) => gzip.read(buffer),
            Decoder::Zstd(zstd) => zstd.read(buffer),
        }
    }
}

impl Skip for Decoder<'_> {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        read_over(self, bytes)
    }
}

/// Deflate looks back 32 KiB; more makes for fewer calls. It has to be a power of two.
const WINDOW: usize = 128 << 10;

/// A gzip stream, of several members perhaps.
pub struct Gzip<'a> {
    input: Input<'a>,
    inflater: DecompressorOxide,
    window: Box<[u8]>,
    /// Where the next byte goes in the window.
    end: usize,
    /// What is decompressed and not handed out yet: it ends at `end`.
    ready: usize,
    in_member: bool,
}

impl<'a> Gzip<'a> {
    fn new(input: Input<'a>) -> Gzip<'a> {
        Gzip {
            input,
            inflater: DecompressorOxide::new(),
            window: vec![0; WINDOW].into(),
            end: 0,
            ready: 0,
            in_member: false,
        }
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.input.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    fn skip(&mut self, n: usize) -> io::Result<()> {
        for _ in 0..n {
            self.byte()?;
        }
        Ok(())
    }

    fn skip_text(&mut self) -> io::Result<()> {
        while self.byte()? != 0 {}
        Ok(())
    }

    /// Reads a member's header; returns false where the stream has ended. Zeros may fill it up.
    fn begin_member(&mut self) -> io::Result<bool> {
        const HEADER_CRC: u8 = 2;
        const EXTRA: u8 = 4;
        const NAME: u8 = 8;
        const COMMENT: u8 = 16;
        loop {
            match self.input.fill_buf()?.first() {
                None => return Ok(false),
                Some(0) => self.input.consume(1),
                Some(_) => break,
            }
        }
        let mut header = [0; 10];
        self.input.read_exact(&mut header)?;
        let [0x1f, 0x8b, 8, flags, ..] = header else {
            return Err(invalid("damaged gzip: this is no header of a member"));
        };
        if flags & EXTRA != 0 {
            let len = u16::from_le_bytes([self.byte()?, self.byte()?]);
            self.skip(len.into())?;
        }
        if flags & NAME != 0 {
            self.skip_text()?;
        }
        if flags & COMMENT != 0 {
            self.skip_text()?;
        }
        if flags & HEADER_CRC != 0 {
            self.skip(2)?;
        }
        self.inflater.init();
        self.in_member = true;
        Ok(true)
    }

    /// Decompresses until something is ready; returns false where the stream has ended.
    fn fill(&mut self) -> io::Result<bool> {
        while self.ready == 0 {
            if !self.in_member && !self.begin_member()? {
                return Ok(false);
            }
            self.end %= WINDOW;
            let input = self.input.fill_buf()?;
            let flags = match input.is_empty() {
                true => 0,
                false => TINFL_FLAG_HAS_MORE_INPUT,
            };
            let (status, read, written) =
                decompress(&mut self.inflater, input, &mut self.window, self.end, flags);
            self.input.consume(read);
            self.end += written;
            self.ready = written;
            match status {
                TINFLStatus::Done => {
                    self.in_member = false;
                    // A checksum and a length.
                    self.skip(8)?;
                }
                TINFLStatus::NeedsMoreInput | TINFLStatus::HasMoreOutput => (),
                TINFLStatus::FailedCannotMakeProgress => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                _ => return Err(invalid("damaged gzip: it cannot be decompressed")),
            }
        }
        Ok(true)
    }
}

impl Read for Gzip<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || !self.fill()? {
            return Ok(0);
        }
        let n = self.ready.min(buffer.len());
        let start = self.end - self.ready;
        buffer[..n].copy_from_slice(&self.window[start..start + n]);
        self.ready -= n;
        Ok(n)
    }
}

/// A zstd stream, of several frames perhaps. The decoder takes no frame that looks back more than 100 MiB.
pub struct Zstd<'a> {
    input: Input<'a>,
    decoder: FrameDecoder,
    in_frame: bool,
}

impl Zstd<'_> {
    /// Begins a frame; returns false where the stream has ended.
    fn begin_frame(&mut self) -> io::Result<bool> {
        while !self.in_frame {
            if self.input.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.decoder.reset(&mut self.input) {
                Ok(()) => self.in_frame = true,
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let mut frame = (&mut self.input).take(length.into());
                    if io::copy(&mut frame, &mut io::sink())? < length.into() {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(e) => return Err(invalid(format!("damaged zstd: {e}"))),
            }
        }
        Ok(true)
    }
}

impl Read for Zstd<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while self.begin_frame()? {
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                let done = self.decoder.decode_blocks(&mut self.input, one);
                done.map_err(|e| invalid(format!("damaged zstd: {e}")))?;
            }
            let n = self.decoder.read(buffer)?;
            if n > 0 {
                return Ok(n);
            }
            self.in_frame = false;
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufReader, Write};
    use std::process::{Command, Stdio};

    /// Standard output of a program that reads these bytes.
    fn through(program: &[&str], bytes: &[u8]) -> Vec<u8> {
        let mut child = Command::new(program[0])
            .args(&program[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || stdin.write_all(bytes).unwrap());
        });
        child.wait_with_output().unwrap().stdout
    }

    fn content() -> Vec<u8> {
        let mut state = 1_u32;
        let random = (0..40_000).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        });
        let random: Vec<_> = random.collect();
        [&random[..], &vec![b'x'; 300_000], &random].concat()
    }

    fn decoded(bytes: &[u8], buffer: usize) -> io::Result<Vec<u8>> {
        let mut decoder = Decoder::new(BufReader::with_capacity(buffer, bytes))?;
        let mut content = Vec::new();
        decoder.read_to_end(&mut content)?;
        Ok(content)
    }

    #[test]
    fn members_follow_each_other() {
        let content = content();
        let one = through(&["gzip", "-c"], &content);
        let two = [&one[..], &one, &[0; 100]].concat();
        for buffer in [64, 4096, 1 << 20] {
            assert_eq!(decoded(&one, buffer).unwrap(), content);
            assert_eq!(decoded(&two, buffer).unwrap(), content.repeat(2));
            assert_eq!(decoded(&content, buffer).unwrap(), content);
        }
        for cut in [9, 10, 11, 1000, one.len() - 1] {
            let kind = decoded(&one[..cut], 4096).unwrap_err().kind();
            assert_eq!(kind, io::ErrorKind::UnexpectedEof, "{cut}");
        }
        let mut damaged = one.clone();
        damaged.truncate(100);
        damaged.extend([0xff; 1000]);
        assert!(decoded(&damaged, 4096).is_err());
    }

    #[test]
    fn frames_follow_each_other() {
        use ruzstd::encoding::{CompressionLevel, compress_to_vec};
        let content = content();
        let one = compress_to_vec(&content[..], CompressionLevel::Fastest);
        let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        let all = [&skipped[..], &one, &skipped, &one].concat();
        assert_eq!(decoded(&all, 4096).unwrap(), content.repeat(2));
        for cut in [5, 9, 12, 20, all.len() - 1] {
            assert!(decoded(&all[..cut], 4096).is_err(), "{cut}");
        }
    }
}
