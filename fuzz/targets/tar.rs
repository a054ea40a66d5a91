// SPDX-License-Identifier: MIT OR Apache-2.0
//! The layer of an image: an archive that is compressed or not, and holds anything.
#![no_main]

use libfuzzer_sys::fuzz_target;
use snoop::archive::compression::Decoder;
use snoop::archive::digest::Hashing;
use snoop::archive::tar::{Change, Entry, Kind, Reader};
use snoop::image::View;
use snoop::slim::layers::{Layers, New};
use std::io::Read;

/// What a small input can be decompressed to is a thousand times as much.
const CONTENT_MAX: u64 = 4 << 20;

fuzz_target!(|bytes: &[u8]| {
    let Ok(decoder) = Decoder::new(bytes) else {
        return;
    };
    let mut reader = Reader::new(Hashing::new(decoder.take(CONTENT_MAX)));
    let mut layers = Layers::default();
    layers.begin_layer();
    let mut entries = 0;
    while let Ok(Some(entry)) = reader.next_entry() {
        check(&entry);
        entries += 1;
        // As if each third entry began another layer.
        if entries % 3 == 0 {
            layers.begin_layer();
        }
        let new = New {
            path: &entry.path,
            kind: entry.kind,
            link: &entry.link,
            size: entry.size,
        };
        if layers.add(&new).is_err() {
            break;
        }
    }
    for node in layers.nodes().filter(|node| layers.is_there(*node)) {
        let path = layers.path(node);
        assert_eq!(layers.find(&path), Some(node));
        assert!(layers.is_directory(layers.parent(node)));
    }
    for link in layers.links().unwrap() {
        let _ = layers.target(&link);
    }
});

/// Headers that are written anew say the same.
fn check(entry: &Entry) {
    assert_eq!(entry.headers().len() % 512, 0);
    if entry.kind == Kind::Global {
        return;
    }
    let written = entry.changed(Change::default());
    let again = Reader::new(&written[..]).next_entry();
    let again = again.expect("it was read before").expect("it is there");
    let said = |entry: &Entry| {
        (
            entry.path.clone(),
            entry.kind,
            entry.link.clone(),
            entry.stored,
            entry.size,
        )
    };
    assert_eq!(said(&again), said(entry));
}
