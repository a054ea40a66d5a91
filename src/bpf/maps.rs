// SPDX-License-Identifier: MIT OR Apache-2.0
//! The programs' maps, and the bytes in them.

use crate::bpf::wire::{
    CGROUP_NAME_BYTES, CONTAINERS, CgroupPath, Container, Control, Counts, Expected, ExpectedBelow,
    NUMBERS_TRIED, OUTCOMES, Plain, ROWS, Target,
};
use crate::error::{Error, Result};
use bpf_sys::direct::{self, Map};
use std::io;

/// The key of an array's only element.
pub(crate) const FIRST: [u8; 4] = 0u32.to_ne_bytes();

/// The maps that are used while the programs run.
pub(crate) struct Maps {
    control: Map,
    self_info: Map,
    known: Map,
    counts: Map,
    containers: Map,
    targets: Map,
    expected_cgroups: Map,
    expected_below: Map,
    /// The processes whose ELF interpreter's name was not read yet, and how many there are. Only system calls' hooks have
    /// to wait for it.
    interps: Option<(Map, Map)>,
}

/// The programs' counters, as they keep them: by row, and by the number of a container.
pub(crate) struct Counters {
    pub(crate) rows: Vec<[u64; OUTCOMES]>,
    pub(crate) events: Vec<u64>,
    pub(crate) displaced: u64,
}

/// Takes the map with this name, which an object has just created.
pub(crate) fn take(name: &str) -> Result<Map> {
    direct::take_map(name).ok_or_else(|| missing("map", name))
}

pub(crate) fn missing(what: &str, name: &str) -> Error {
    Error::failed(format!(
        "this build of snoop has no BPF {what} {name}; build it again"
    ))
}

impl Maps {
    pub(crate) fn take() -> Result<Maps> {
        Ok(Maps {
            control: take(".data.control")?,
            self_info: take(".data.self")?,
            known: take("known")?,
            counts: take("counts")?,
            containers: take("containers")?,
            targets: take("targets")?,
            expected_cgroups: take("expected_cgroups")?,
            expected_below: take("expected_below")?,
            interps: direct::take_map("interp_waits")
                .zip(direct::take_map(".data.pending_interps")),
        })
    }

    pub(crate) fn set_control(&self, control: &Control) -> io::Result<()> {
        self.control.update(&FIRST, control.as_bytes())
    }

    /// Returns the bytes of a [`SelfInfo`](crate::bpf::wire::SelfInfo).
    pub(crate) fn self_info(&self) -> io::Result<Vec<u8>> {
        let mut info = vec![0; self.self_info.value_size()];
        self.self_info.lookup(&FIRST, &mut info)?;
        Ok(info)
    }

    pub(crate) fn set_target(&self, cgroup: u64, target: Target) -> io::Result<()> {
        let target = (target as u32).to_ne_bytes();
        self.targets.update(&cgroup.to_ne_bytes(), &target)
    }

    /// Enters what becomes of the cgroup with that name below `parent`.
    pub(crate) fn expect(&self, parent: u64, name: &[u8], then: Expected) -> io::Result<()> {
        let path = CgroupPath {
            parent,
            name: name_field(name),
        };
        self.expected_cgroups
            .update(path.as_bytes(), then.as_bytes())
    }

    /// Enters what becomes of the cgroup with that name, whose parent does not exist yet.
    pub(crate) fn expect_below(&self, index: u32, name: &[u8], then: Expected) -> io::Result<()> {
        let below = ExpectedBelow {
            then,
            name: name_field(name),
        };
        self.expected_below
            .update(&index.to_ne_bytes(), below.as_bytes())
    }

    /// Takes the key with that lower half out of the known ones. The lower half has the bucket and 16 bits of the slot.
    pub(crate) fn remove_known(&self, key: u32, known_mask: u32) -> io::Result<()> {
        let bucket = (key & known_mask).to_ne_bytes();
        let mut slots = vec![0; self.known.value_size()];
        self.known.lookup(&bucket, &mut slots)?;
        let is_it = |slot: &&mut [u8]| (number_at_start(slot) >> 16) as u16 == (key >> 16) as u16;
        for slot in slots.chunks_exact_mut(8).filter(is_it) {
            slot.fill(0);
        }
        self.known.update(&bucket, &slots)
    }

    /// Returns all counters, summed over the CPUs.
    pub(crate) fn counters(&self) -> io::Result<Counters> {
        let mut values = vec![0; self.counts.value_size()];
        self.counts.lookup(&FIRST, &mut values)?;
        let mut sums = vec![0; size_of::<Counts>() / 8];
        for of_cpu in values.chunks_exact(size_of::<Counts>()) {
            for (sum, value) in sums.iter_mut().zip(of_cpu.chunks_exact(8)) {
                *sum += number_at_start(value);
            }
        }
        let displaced = sums.pop().expect("it is the last counter");
        let events = sums.split_off(ROWS * OUTCOMES);
        Ok(Counters {
            rows: sums.as_chunks().0.to_vec(),
            events,
            displaced,
        })
    }

    /// Returns the number of each container, and the id of its cgroup.
    pub(crate) fn containers(&self) -> io::Result<Vec<(u32, u64)>> {
        let id_of = |number: [u8; 4]| {
            let mut container = [0; size_of::<Container>()];
            self.containers.lookup(&number, &mut container)?;
            Ok((u32::from_ne_bytes(number), number_at_start(&container)))
        };
        keys(&self.containers).into_iter().map(id_of).collect()
    }

    /// Returns the numbers of a container. Several CPUs may have given it one each.
    pub(crate) fn numbers_of(&self, id: u64) -> impl Iterator<Item = u32> {
        let is_its = move |number: &u32| {
            let mut container = [0; size_of::<Container>()];
            let found = self
                .containers
                .lookup(&number.to_ne_bytes(), &mut container);
            found.is_ok() && number_at_start(&container) == id
        };
        let candidates =
            (0..NUMBERS_TRIED).map(move |i| ((id + i) % (CONTAINERS as u64 - 1)) as u32);
        candidates.filter(is_its)
    }

    /// Takes the number from a container.
    pub(crate) fn remove_container(&self, number: u32) -> io::Result<()> {
        self.containers.delete(&number.to_ne_bytes())
    }

    /// Ends that a cgroup is a target, if it was one.
    pub(crate) fn remove_target(&self, cgroup: u64) {
        // It is there only if it was named by itself.
        let _ = self.targets.delete(&cgroup.to_ne_bytes());
    }

    /// Returns the processes whose ELF interpreter's name was not read yet.
    pub(crate) fn interp_waits(&self) -> Vec<[u8; 4]> {
        self.interps
            .iter()
            .flat_map(|(waits, _)| keys(waits))
            .collect()
    }

    /// Ends the wait for a process's ELF interpreter. Returns false if it has ended already.
    pub(crate) fn end_interp_wait(&self, process: &[u8; 4]) -> bool {
        let waits = self.interps.as_ref();
        waits.is_some_and(|(waits, _)| waits.delete(process).is_ok())
    }

    /// Sets the number of waits to 0, of which there seem to be none, so that the programs stop looking for them.
    pub(crate) fn reset_interp_waits(&self) -> io::Result<()> {
        let Some((waits, pending)) = &self.interps else {
            return Ok(());
        };
        pending.update(&FIRST, &0u64.to_ne_bytes())?;
        if waits.next_key(None, &mut [0; 4]) {
            // One came meanwhile. A number that is too high does no harm until the next minute.
            pending.update(&FIRST, &(1u64 << 32).to_ne_bytes())?;
        }
        Ok(())
    }
}

/// Returns the keys of a map whose keys have four bytes.
fn keys(map: &Map) -> Vec<[u8; 4]> {
    let (mut keys, mut next) = (Vec::<[u8; 4]>::new(), [0; 4]);
    while map.next_key(keys.last().map(|key| &key[..]), &mut next) {
        keys.push(next);
    }
    keys
}

/// Returns a cgroup's name as the programs compare it. No file system has longer names.
fn name_field(name: &[u8]) -> [u8; CGROUP_NAME_BYTES] {
    let mut field = [0; CGROUP_NAME_BYTES];
    let len = name.len().min(CGROUP_NAME_BYTES - 1);
    field[..len].copy_from_slice(&name[..len]);
    field
}

/// Returns the eight-byte number that `bytes` begins with.
pub(crate) fn number_at_start(bytes: &[u8]) -> u64 {
    u64::from_ne_bytes(bytes[..8].try_into().expect("eight bytes"))
}
