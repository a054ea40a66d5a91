//! Loads the programs, hands them their configuration, attaches them, reads their maps. The only
//! file that knows redbpf.

use crate::bpf::kernel::{
    self, BpfIter, Buffer, Feature, HOOKS, Hook, Layout, Quirks, Unavailable,
};
use crate::bpf::lz4;
use crate::bpf::syscalls;
use crate::bpf::wire::{
    self, CGROUP_DEPTH, CGROUP_NAME_BYTES, CONTAINERS, CgroupPath, Config, Container, Control,
    EXCLUDE_WORDS, EXCLUDES, EXPECTED_BELOW, Exclude, Expected, ExpectedBelow, KNOWN_BITS,
    LISTED_CHILDREN, OFFSET_NONE, OUTCOMES, Outcome, Plain, REQUESTS, ROWS, Request, SelfInfo,
    Target, until_nul,
};
use crate::error::{Error, Result};
use crate::path::Excludes;
use crate::sys;
use crate::sys::confinement::Confinement;
use bpf_sys::direct::{self, Failure, Map};
use redbpf::Module;
use std::ffi::CString;
use std::fmt::Debug;
use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

/// The compiled programs, packed by build.rs.
static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/snoop.bpf.o.lz4"));
static LEGACY_OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/snoop.legacy.bpf.o.lz4"));

/// An object, unpacked.
struct Object {
    /// The ELF reader looks at the bytes as if they were structures of eight-byte numbers.
    words: Vec<u64>,
    len: usize,
}

impl Object {
    fn unpack(packed: &[u8]) -> Object {
        let (len, block) = packed.split_at(8);
        let bytes = lz4::unpack(block, number_at_start(len) as usize).expect("build.rs packed it");
        let mut words = vec![0u64; bytes.len().div_ceil(8)];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks(8)) {
            let mut padded = [0; 8];
            padded[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_ne_bytes(padded);
        }
        Object {
            words,
            len: bytes.len(),
        }
    }

    #[allow(unsafe_code)]
    fn bytes(&self) -> &[u8] {
        // SAFETY: the words hold at least `len` initialised bytes, and the slice borrows them.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr().cast(), self.len) }
    }
}

pub struct Settings<'a> {
    pub layout: &'a Layout,
    pub quirks: Quirks,
    pub buffer: Buffer,
    pub excludes: &'a Excludes,
}

/// The loaded programs. They run from [`Probe::attach`] on, as long as this lives.
pub struct Probe {
    /// To be attached, with their names.
    programs: Vec<(&'static str, OwnedFd)>,
    /// Holds the iterators until they have run.
    module: Option<Module>,
    /// Of programs. Kept open: the kernel empties such a map when its last descriptor is closed.
    _tables: Vec<Map>,
    links: Vec<OwnedFd>,
    control: Map,
    known: Map,
    counts: Map,
    targets: Map,
    expected_cgroups: Map,
    expected_below: Map,
    /// Entries of it that are in use.
    expected: u32,
    /// Can [`Probe::list_children`] work on this kernel?
    lists_children: bool,
    containers: Map,
    /// By number of a container: its events that [`Probe::release`] handed out.
    released: Vec<u64>,
    /// Process -> where to find the name of its loader; and how many there are.
    interp_waits: Map,
    pending_interps: Map,
    self_info: Map,
    cookie: u64,
    lost: Vec<Unavailable>,
    waited_before: Vec<[u8; 4]>,
    given_up: u64,
    state: Control,
}

/// What the programs counted, summed over the CPUs: by row of the table and outcome, and by cgroup.
#[derive(Clone)]
pub struct Counts {
    rows: Vec<[u64; OUTCOMES]>,
    /// Events of each container, by the id of its cgroup.
    events: Vec<(u64, u64)>,
}

/// The same as the programs keep it: by row, and by number of a container.
struct Counters {
    rows: Vec<[u64; OUTCOMES]>,
    events: Vec<u64>,
}

impl Default for Counts {
    /// Nothing was counted.
    fn default() -> Counts {
        Counts {
            rows: vec![[0; OUTCOMES]; ROWS],
            events: Vec::new(),
        }
    }
}

impl Counts {
    /// The outcomes of one row.
    pub fn of(&self, row: u16) -> &[u64; OUTCOMES] {
        &self.rows[row as usize]
    }

    /// The events of a container, as far as [`Probe::release`] has not taken them.
    pub fn events_of(&self, container: u64) -> u64 {
        let of = self.events.iter().filter(|(id, _)| *id == container);
        of.map(|(_, n)| n).sum()
    }

    pub fn sum(&self, outcome: Outcome) -> u64 {
        self.rows.iter().map(|row| row[outcome as usize]).sum()
    }
}

impl Probe {
    /// Loads the programs; nothing is traced yet. Also answers the map that is the ring buffer.
    pub fn load(settings: &Settings) -> Result<(Probe, Map)> {
        let lost = &settings.layout.lost;
        Probe::load_with(settings, lost.clone()).or_else(|refusal| {
            if !refusal.forbids_reads {
                return Err(refusal.error);
            }
            if !settings.quirks.bears_lockdown(settings.buffer) {
                return Err(kernel::locked_down());
            }
            let (feature, why) = (Feature::KernelMemory, kernel::LOCKED_DOWN.to_string());
            let lost = [lost.clone(), vec![Unavailable { feature, why }]].concat();
            Probe::load_with(settings, lost).map_err(|refusal| refusal.error)
        })
    }

    /// Loads programs that do without what is lost.
    fn load_with(
        settings: &Settings,
        lost: Vec<Unavailable>,
    ) -> std::result::Result<(Probe, Map), Refusal> {
        let loaded = Probe::load_all(settings, lost);
        if loaded.is_err() {
            // The notes hold a descriptor of each map, and with it the map's memory.
            direct::clear_notes();
        }
        loaded
    }

    fn load_all(
        settings: &Settings,
        lost: Vec<Unavailable>,
    ) -> std::result::Result<(Probe, Map), Refusal> {
        let features = |part: &&Feature| lost.iter().all(|lost| lost.feature != **part);
        let features = Feature::ALL
            .iter()
            .filter(features)
            .map(|part| part.bit())
            .sum();
        let config = config(settings, features)?;

        let wanted = HOOKS.iter().zip(settings.layout.hook_ids);
        let wanted = wanted
            .filter(|(hook, _)| !hook.is_for_requests() || traces_requests(settings, features));
        let program_of = |hook: &'static Hook| hook.program(settings.buffer);
        let wanted = wanted.filter_map(|(hook, id)| Some((program_of(hook), id?)));
        let wanted: Vec<_> = wanted.collect();
        let tails = kernel::tails(settings.buffer);
        for (hook, id) in &wanted {
            direct::set_attach_id(hook, *id);
            let tails = tails.iter().flat_map(|tails| tails.programs);
            for program in tails.filter(|program| program.starts_with(hook)) {
                direct::set_attach_id(program, *id);
            }
        }
        // Perf buffers count against it on every kernel.
        if settings.quirks.locks_memory || settings.buffer == Buffer::Perf {
            // Where it fails there may be enough all the same.
            let _ = sys::limits::lift_memory_lock();
        }
        let object = match settings.buffer {
            Buffer::Ring => OBJECT,
            Buffer::Perf => LEGACY_OBJECT,
        };
        let mut module = Module::parse(Object::unpack(object).bytes()).map_err(why)?;

        let map = take_map(".rodata.config")?;
        map.update(&FIRST, config.as_bytes())
            .map_err(|e| refused("configure the BPF programs", e))?;
        // What is frozen counts as constant (since Linux 5.5), which the other object does not rely on.
        if settings.buffer == Buffer::Ring {
            map.freeze()
                .map_err(|e| refused("configure the BPF programs", e))?;
        }

        let mut tables = Vec::new();
        for tails in tails {
            let table = take_map(tails.table)?;
            for (i, program) in (0u32..).zip(tails.programs) {
                let program = load_program(&mut module, program)?;
                table
                    .update(&i.to_ne_bytes(), &program.as_raw_fd().to_ne_bytes())
                    .map_err(|e| refused("link the BPF programs", e))?;
            }
            tables.push(table);
        }
        let mut programs = Vec::new();
        for (hook, _) in wanted {
            programs.push((hook, load_program(&mut module, hook)?));
        }
        let probe = Probe {
            programs,
            module: Some(module),
            _tables: tables,
            links: Vec::new(),
            control: take_map(".data.control")?,
            known: take_map("known")?,
            counts: take_map("counts")?,
            targets: take_map("targets")?,
            expected_cgroups: take_map("expected_cgroups")?,
            expected_below: take_map("expected_below")?,
            expected: 0,
            lists_children: settings.layout.offsets.task_cg_list != OFFSET_NONE,
            containers: take_map("containers")?,
            released: vec![0; CONTAINERS],
            interp_waits: take_map("interp_waits")?,
            pending_interps: take_map(".data.pending_interps")?,
            self_info: take_map(".data.self")?,
            cookie: config.cookie,
            lost,
            waited_before: Vec::new(),
            given_up: 0,
            state: Control {
                generation: 0,
                epoch: 1,
                attached: 0,
                listed: 0,
            },
        };
        Ok((probe, take_map("ring")?))
    }

    /// Says what a cgroup is. The first time this is called, tracing begins.
    pub fn target(&mut self, cgroup: u64, what: Target) -> Result<()> {
        self.targets
            .update(&cgroup.to_ne_bytes(), &(what as u32).to_ne_bytes())
            .map_err(|e| refused("trace a further cgroup", e))?;
        if self.state.attached == 0 {
            // The kernel's own time: a container may have another one (time_namespaces(7)).
            let own = self.ask().map_err(|e| refused("ask the BPF programs", e))?;
            self.state.attached = number_at_start(&own);
            // Linux 5.4 loads programs under lockdown=confidentiality all the same; they read zeroes, also as the id
            // of snoop's cgroup.
            if self.state.attached != 0 && number_at_start(&own[offset_of!(SelfInfo, id)..]) == 0 {
                return Err(kernel::locked_down());
            }
        }
        // What was decided about a cgroup before may have changed.
        self.state.generation += 1;
        self.write_control()
    }

    /// Says what a cgroup is that will be created below `parent`, where `names` lead to it: one name, or more where
    /// the cgroups between the two do not exist yet.
    pub fn expect(&mut self, parent: u64, names: &[&[u8]], what: Target) -> Result<()> {
        let (first, below) = names.split_first().expect("a path has a name");
        let mut then = Expected {
            target: what as u32,
            next: 0,
        };
        for name in below.iter().rev() {
            self.expected += 1;
            if self.expected as usize >= EXPECTED_BELOW {
                return Err(Error::failed(format!(
                    "cannot wait for cgroups below more than {} others that do not exist; name those",
                    EXPECTED_BELOW - 1
                )));
            }
            let name = name_field(name);
            self.expected_below
                .update(
                    &self.expected.to_ne_bytes(),
                    ExpectedBelow { then, name }.as_bytes(),
                )
                .map_err(|e| refused("wait for a cgroup", e))?;
            then = Expected {
                target: 0,
                next: self.expected,
            };
        }
        let name = name_field(first);
        self.expected_cgroups
            .update(CgroupPath { parent, name }.as_bytes(), then.as_bytes())
            .map_err(|e| refused("wait for a cgroup", e))
    }

    /// Lists the children of a cgroup above our own in which a process is older than the tracing: a record comes of
    /// each. The BPF iterators do not show them to a container.
    pub fn list_children(&mut self, cgroup: u64) -> Result<()> {
        const PROGRAM: &str = "raw_tp/list_children";
        if !self.lists_children {
            return Err(Error::failed(
                "this kernel's cgroups are laid out in a way that snoop does not know",
            ));
        }
        let cannot = |e| refused("list the containers that run already", e);
        let module = self.module.as_mut().expect("nothing is loaded after this");
        let program = load_program(module, PROGRAM).map_err(|refusal| refusal.error)?;
        self.state.listed = cgroup;
        self.write_control()?;
        let _link =
            direct::raw_tracepoint_open(program.as_fd(), Some(c"sys_exit")).map_err(cannot)?;
        let mut own = vec![0; self.self_info.value_size()];
        for number in 1..=LISTED_CHILDREN {
            sys::process::own_call(self.cookie.wrapping_add(number));
            self.self_info.lookup(&FIRST, &mut own).map_err(cannot)?;
            let listed = &own[offset_of!(SelfInfo, listed)..][..size_of::<u32>()];
            if listed.iter().all(|b| *b == 0) {
                return Ok(());
            }
        }
        Err(Error::failed(format!(
            "there are more than {LISTED_CHILDREN} of them"
        )))
    }

    /// Forgets a container whose cgroup was removed; answers its events.
    pub fn release(&mut self, container: u64) -> Result<u64> {
        let mut release = || {
            let mut events = 0;
            let counters = self.counters()?;
            for (number, _) in self.numbers()?.iter().filter(|(_, id)| *id == container) {
                let now = counters.events[*number as usize];
                events += now - self.released[*number as usize];
                self.released[*number as usize] = now;
                self.containers.delete(&number.to_ne_bytes())?;
            }
            // It is there only if it was named by itself.
            let _ = self.targets.delete(&container.to_ne_bytes());
            Ok(events)
        };
        release().map_err(|e| refused("forget a cgroup", e))
    }

    /// Makes the programs offer the access with that key again, of which the lower half is enough: it has the bucket
    /// and 16 bits of the slot. Another access that looks the same, or that the programs enter meanwhile, may be
    /// offered once more than needed.
    pub fn reoffer(&self, key: u32) -> Result<()> {
        let reoffer = || {
            let bucket = (key & ((1 << KNOWN_BITS) - 1)).to_ne_bytes();
            let mut slots = vec![0; self.known.value_size()];
            self.known.lookup(&bucket, &mut slots)?;
            let is_it =
                |slot: &&mut [u8]| (number_at_start(slot) >> 16) as u16 == (key >> 16) as u16;
            for slot in slots.chunks_exact_mut(8).filter(is_it) {
                slot.fill(0);
            }
            self.known.update(&bucket, &slots)
        };
        reoffer().map_err(|e| refused("make the BPF programs forget a file", e))
    }

    /// Runs the iterator with that BTF id, so that it lists what the traced processes have open or mapped.
    pub fn list(&mut self, iterator: &BpfIter, id: Option<u32>) -> Result<()> {
        let program = iterator.program;
        let id = id.ok_or_else(|| {
            Error::failed(format!("this kernel has no BPF iterator for {program}"))
        })?;
        direct::set_attach_id(program, id);
        let module = self.module.as_mut().expect("nothing is loaded after this");
        let program = load_program(module, program).map_err(|refusal| refusal.error)?;
        direct::iterate(program.as_fd()).map_err(|e| refused("run a BPF iterator", e))
    }

    /// Lets go of what only loading needs.
    pub fn all_loaded(&mut self) {
        self.module = None;
    }

    /// The cgroup of this process and those above it: id and name. The programs tell, because a container
    /// does not see them.
    pub fn own_cgroups(&self) -> Result<Vec<(u64, Vec<u8>)>> {
        let own = self.ask().map_err(|e| refused("ask the BPF programs", e))?;
        let ids = own[offset_of!(SelfInfo, id)..]
            .chunks_exact(8)
            .take(CGROUP_DEPTH);
        let names = own[offset_of!(SelfInfo, name)..].chunks_exact(CGROUP_NAME_BYTES);
        let all = ids.map(number_at_start).zip(names);
        Ok(all
            .take_while(|(id, _)| *id != 0)
            .map(|(id, name)| (id, until_nul(name).to_vec()))
            .collect())
    }

    /// Makes the call that the programs answer.
    fn ask(&self) -> io::Result<Vec<u8>> {
        let mut own = vec![0; self.self_info.value_size()];
        sys::process::own_call(self.cookie);
        self.self_info.lookup(&FIRST, &mut own)?;
        Ok(own)
    }

    /// What they cannot do on this kernel.
    pub fn lost(&self) -> &[Unavailable] {
        &self.lost
    }

    /// The programs by their names.
    pub fn programs(&self) -> impl Iterator<Item = &'static str> {
        self.programs.iter().map(|(name, _)| *name)
    }

    pub fn attach(&mut self) -> Result<()> {
        for (name, program) in &self.programs {
            let tracepoint = kernel::raw_tracepoint(name);
            let tracepoint = tracepoint.map(|t| CString::new(t).expect("names hold no NUL"));
            let link = direct::raw_tracepoint_open(program.as_fd(), tracepoint.as_deref())
                .map_err(|e| refused(&format!("attach the BPF program {name}"), e))?;
            self.links.push(link);
        }
        Ok(())
    }

    /// Do the programs run? They note the time of each call of ours.
    pub fn is_alive(&self) -> bool {
        let seen_at = || self.ask().map(|own| number_at_start(&own));
        matches!((seen_at(), seen_at()), (Ok(before), Ok(after)) if before != after)
    }

    /// Ages what the programs know; to be called once a minute.
    pub fn next_epoch(&mut self) -> Result<()> {
        self.state.epoch = self.state.epoch.wrapping_add(1);
        self.write_control()?;
        self.give_up_interps()
            .map_err(|e| refused("steer the BPF programs", e))
    }

    /// Gives up the loaders that are awaited for a minute: their processes ended before they told.
    /// With none left the programs stop looking for them.
    fn give_up_interps(&mut self) -> io::Result<()> {
        let mut awaited = keys(&self.interp_waits);
        let old = |process: &[u8; 4]| self.waited_before.contains(process);
        for process in awaited.iter().filter(|process| old(process)) {
            // It fails if the process has told just now.
            self.given_up += u64::from(self.interp_waits.delete(process).is_ok());
        }
        awaited.retain(|process| !old(process));
        if awaited.is_empty() {
            self.pending_interps.update(&FIRST, &0u64.to_ne_bytes())?;
            if self.interp_waits.next_key(None, &mut [0; 4]) {
                // One came meanwhile. More than there are does no harm until the next minute.
                self.pending_interps
                    .update(&FIRST, &(1u64 << 32).to_ne_bytes())?;
            }
        }
        self.waited_before = awaited;
        Ok(())
    }

    fn write_control(&self) -> Result<()> {
        self.control
            .update(&FIRST, self.state.as_bytes())
            .map_err(|e| refused("steer the BPF programs", e))
    }

    pub fn counts(&self) -> Result<Counts> {
        self.read_counts()
            .map_err(|e| refused("read the BPF programs' counters", e))
    }

    fn read_counts(&self) -> io::Result<Counts> {
        let Counters { mut rows, events } = self.counters()?;
        rows[syscalls::ELF_INTERP_ID as usize][Outcome::Unreadable as usize] += self.given_up;
        let of = |(number, id)| {
            let number = number as usize;
            (id, events[number] - self.released[number])
        };
        let events = self.numbers()?.into_iter().map(of).collect();
        Ok(Counts { rows, events })
    }

    /// All counters, each CPU's added up.
    fn counters(&self) -> io::Result<Counters> {
        let mut values = vec![0; self.counts.value_size()];
        self.counts.lookup(&FIRST, &mut values)?;
        let mut sums = vec![0; size_of::<wire::Counts>() / 8];
        for of_cpu in values.chunks_exact(size_of::<wire::Counts>()) {
            for (sum, value) in sums.iter_mut().zip(of_cpu.chunks_exact(8)) {
                *sum += number_at_start(value);
            }
        }
        let (rows, events) = sums.split_at(ROWS * OUTCOMES);
        Ok(Counters {
            rows: rows.as_chunks().0.to_vec(),
            events: events.to_vec(),
        })
    }

    /// The numbers that containers have, and the containers' ids.
    fn numbers(&self) -> io::Result<Vec<(u32, u64)>> {
        let id_of = |number: [u8; 4]| {
            let mut container = [0; size_of::<Container>()];
            self.containers.lookup(&number, &mut container)?;
            Ok((u32::from_ne_bytes(number), number_at_start(&container)))
        };
        keys(&self.containers).into_iter().map(id_of).collect()
    }
}

/// The keys of a map whose keys have four bytes.
fn keys(map: &Map) -> Vec<[u8; 4]> {
    let (mut keys, mut next) = (Vec::<[u8; 4]>::new(), [0; 4]);
    while map.next_key(keys.last().map(|key| &key[..]), &mut next) {
        keys.push(next);
    }
    keys
}

/// A cgroup's name as the programs compare it. No file system has longer ones.
fn name_field(name: &[u8]) -> [u8; CGROUP_NAME_BYTES] {
    let mut field = [0; CGROUP_NAME_BYTES];
    let len = name.len().min(CGROUP_NAME_BYTES - 1);
    field[..len].copy_from_slice(&name[..len]);
    field
}

/// The key of an array's only element.
const FIRST: [u8; 4] = 0u32.to_ne_bytes();

/// The eight-byte number that `bytes` begins with.
fn number_at_start(bytes: &[u8]) -> u64 {
    u64::from_ne_bytes(bytes[..8].try_into().expect("eight bytes"))
}

/// Can requests of io_uring be traced?
fn traces_requests(settings: &Settings, features: u32) -> bool {
    settings.layout.requests.is_some() && features & Feature::KernelMemory.bit() != 0
}

fn config(settings: &Settings, features: u32) -> Result<Config> {
    let random = || sys::random::random().map_err(|e| refused("get random bytes", e));
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
        seed: random()?,
        cookie: random()?,
        exec_id: syscalls::id_of("execve").expect("execve is in the table"),
        script_interp_id: syscalls::SCRIPT_INTERP_ID,
        elf_interp_id: syscalls::ELF_INTERP_ID,
        late_id: syscalls::LATE_ID,
    })
}

/// The prefixes that the programs test: as many and as long as fit. User space tests all of them.
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

/// Why the programs could not be loaded.
struct Refusal {
    error: Error,
    /// They may not read the kernel's memory.
    forbids_reads: bool,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal {
            error,
            forbids_reads: false,
        }
    }
}

fn load_program(module: &mut Module, name: &str) -> std::result::Result<OwnedFd, Refusal> {
    let (version, license) = (module.version, module.license.clone());
    let program = module.program_mut(name);
    let program = program.ok_or_else(|| missing("program", name))?;
    program.load(version, license).map_err(why)?;
    let fd = program.fd().expect("a loaded program has a descriptor");
    Ok(sys::files::duplicate(fd).map_err(|e| refused("keep a BPF program", e))?)
}

fn take_map(name: &str) -> Result<Map> {
    direct::take_map(name).ok_or_else(|| missing("map", name))
}

fn missing(what: &str, name: &str) -> Error {
    Error::failed(format!(
        "this build of snoop has no BPF {what} {name}; build it again"
    ))
}

fn refused(what: &str, e: io::Error) -> Error {
    let remedy = match e.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            format!(": {}", Confinement::look(Path::new("/")).suspect())
        }
        Some(libc::ENOMEM) => ": raise the memory limit".into(),
        Some(libc::ENOSPC | libc::E2BIG) => ": trace fewer cgroups".into(),
        _ => String::new(),
    };
    Error::failed(format!("cannot {what}: {e}{remedy}"))
}

/// Lines of the verifier's log that an error shows: the last ones hold the reason.
const LOG_LINES: usize = 12;

/// What redbpf could not do; the notes of our own bpf-sys know why.
fn why(e: impl Debug) -> Refusal {
    let Some(failure) = direct::take_failure() else {
        return Error::failed(format!("cannot load the BPF programs: {e:?}")).into();
    };
    Refusal {
        forbids_reads: failure.lacks_helper("bpf_probe_read_kernel"),
        error: failed(failure),
    }
}

fn failed(failure: Failure) -> Error {
    let log = failure.verifier_log.trim_end();
    if log.is_empty() {
        return refused(&format!("load the BPF {}", failure.object), failure.cause);
    }
    let lines: Vec<_> = log.lines().collect();
    let tail = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n  ");
    Error::failed(format!(
        "the kernel's verifier refuses the BPF {}: {}; please report this with the kernel's version and these lines:\n  {tail}",
        failure.object, failure.cause
    ))
}
