// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the programs are to run, and the constants that this makes for them.

use crate::bpf::features::{Feature, Quirks, Unavailable};
use crate::bpf::hooks::{Buffer, Rung};
use crate::bpf::layout::Layout;
use crate::bpf::syscalls;
use crate::bpf::wire::{Config, EXCLUDE_WORDS, EXCLUDES, Exclude, KNOWN_BITS, REQUESTS, Request};
use crate::error::{Result, cannot};
use crate::path::Excludes;
use crate::sys;
use bpf_sys::direct;

pub struct Settings<'a> {
    pub layout: &'a Layout,
    pub quirks: Quirks,
    pub rung: Rung,
    pub buffer: Buffer,
    pub excludes: &'a Excludes,
    /// How many bits of a key choose its bucket in the set of known accesses: at least [`KNOWN_BITS`].
    pub known_bits: u32,
}

/// Returns the bits of all features but those that are lost.
pub(crate) fn features_without(lost: &[Unavailable]) -> u32 {
    let is_there = |feature: &&Feature| lost.iter().all(|lost| lost.feature != **feature);
    Feature::ALL.iter().filter(is_there).map(|f| f.bit()).sum()
}

/// Returns whether requests of io_uring can be traced.
pub(crate) fn traces_requests(settings: &Settings, features: u32) -> bool {
    settings.layout.requests.is_some() && features & Feature::KernelMemory.bit() != 0
}

/// Returns what the programs take as constants. The seed and the cookie are new each time.
pub(crate) fn config(settings: &Settings, features: u32) -> Result<Config> {
    let plain_loads = settings
        .layout
        .rdonly_cast
        .is_some_and(direct::casts_to_no_type);
    let random = || sys::random::random().map_err(|e| cannot("get random bytes", e));
    Ok(Config {
        table: syscalls::by_number(traces_requests(settings, features)),
        request: settings
            .layout
            .requests
            .unwrap_or([Request::default(); REQUESTS]),
        exclude: excludes(settings.excludes),
        off: settings.layout.offsets,
        typed: settings.quirks.typed.into(),
        mode_backing: settings.quirks.mode_backing,
        features,
        other_id: syscalls::OTHER_ID,
        plain_loads: plain_loads.into(),
        known_bits: settings.known_bits.max(KNOWN_BITS),
        pad: 0,
        seed: random()?,
        cookie: random()?,
        exec_id: syscalls::id_of("execve").expect("execve is in the table"),
        script_interp_id: syscalls::SCRIPT_INTERP_ID,
        elf_interp_id: syscalls::ELF_INTERP_ID,
        late_id: syscalls::LATE_ID,
    })
}

/// Returns the prefixes that the programs test: those that are not too long, as many as fit. User space tests all prefixes.
fn excludes(excludes: &Excludes) -> [Exclude; EXCLUDES] {
    let mut out = [Exclude::default(); EXCLUDES];
    let short = |prefix: &&Vec<u8>| prefix.len() <= EXCLUDE_WORDS * 8;
    for (out, prefix) in out.iter_mut().zip(excludes.0.iter().filter(short)) {
        for (i, bytes) in prefix.chunks(8).enumerate() {
            let (mut word, mut mask) = ([0; 8], [0; 8]);
            word[..bytes.len()].copy_from_slice(bytes);
            mask[..bytes.len()].fill(0xff);
            out.word[i] = u64::from_ne_bytes(word);
            out.mask[i] = u64::from_ne_bytes(mask);
        }
    }
    out
}
