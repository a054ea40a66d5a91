// SPDX-License-Identifier: MIT OR Apache-2.0
//! Unpacks the block format of LZ4. build.rs packs the BPF objects in this format, to a quarter of their size.
//!
//! <https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md>: a block consists of sequences, and each of them of a
//! token, literals, and a match. A match is a distance back and a length. The last sequence ends with its literals.

/// A match has at least this length.
const MATCH_MIN: usize = 4;
/// A length of four bits that has this value continues in the bytes that follow.
const LONG: u8 = 15;

/// Unpacks a block that holds `len` bytes; `None` if it is damaged.
pub fn unpack(mut block: &[u8], len: usize) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(len);
    loop {
        let token = take(&mut block, 1)?[0];
        let literals = length(&mut block, token >> 4)?;
        out.extend_from_slice(take(&mut block, literals)?);
        if block.is_empty() {
            return (out.len() == len).then_some(out);
        }
        let distance = take(&mut block, 2)?;
        let distance = usize::from(u16::from_le_bytes([distance[0], distance[1]]));
        let matched = length(&mut block, token & 15)? + MATCH_MIN;
        let from = out.len().checked_sub(distance).filter(|_| distance > 0)?;
        if matched > len - out.len().min(len) {
            return None;
        }
        // The match may reach into what it appends.
        for at in from..from + matched {
            out.push(out[at]);
        }
    }
}

fn take<'a>(block: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (taken, rest) = block.split_at_checked(n)?;
    *block = rest;
    Some(taken)
}

/// Reads a length whose first four bits, from the token, are `start`.
fn length(block: &mut &[u8], start: u8) -> Option<usize> {
    let mut length = usize::from(start);
    let mut more = start == LONG;
    while more {
        let byte = take(block, 1)?[0];
        length += usize::from(byte);
        more = byte == u8::MAX;
    }
    Some(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_packed_comes_back(
            pieces in prop::collection::vec((0u8..8, 1usize..400), 0..60),
        ) {
            let bytes: Vec<u8> = pieces.iter().flat_map(|(byte, n)| vec![*byte; *n]).collect();
            let packed = lz4_flex::block::compress(&bytes);
            prop_assert_eq!(unpack(&packed, bytes.len()), Some(bytes));
        }

        #[test]
        fn anything_else_is_refused_or_has_the_length(
            block in prop::collection::vec(any::<u8>(), 0..200),
            len in 0usize..400,
        ) {
            if let Some(bytes) = unpack(&block, len) {
                prop_assert_eq!(bytes.len(), len);
            }
        }
    }
}
