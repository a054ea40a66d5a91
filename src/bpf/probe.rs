// SPDX-License-Identifier: MIT OR Apache-2.0
//! Loads the programs, attaches them, and steers them. This is the only file that knows redbpf.

use crate::bpf::counts::Counts;
use crate::bpf::features::{self, Feature, Unavailable};
use crate::bpf::hooks::{self, BpfIter, Buffer, HOOKS, Hook, Rung, Tails};
use crate::bpf::maps::{self, Counters, FIRST, Maps, number_at_start};
use crate::bpf::object::Object;
use crate::bpf::offsets::OFFSET_NONE;
use crate::bpf::refusal::{Refusal, refused};
use crate::bpf::settings::{self, Settings};
use crate::bpf::syscalls;
use crate::bpf::wire::{
    CGROUP_DEPTH, CGROUP_NAME_BYTES, CONTAINERS, Config, Control, EXPECTED_BELOW, Expected,
    LISTED_CHILDREN, Outcome, Plain, RDONLY_CAST, SelfInfo, Target, until_nul,
};
use crate::error::{Error, Result};
use crate::sys;
use bpf_sys::direct::{self, Map};
use redbpf::Module;
use std::ffi::CString;
use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// The loaded programs. They run from [`Probe::attach`] on, as long as this lives.
pub struct Probe {
    /// The programs that are attached, with their names.
    programs: Vec<(&'static str, OwnedFd)>,
    /// The object, until the iterators have run.
    module: Option<Module>,
    /// Maps of programs. They are kept open, because the kernel empties such a map when its last descriptor is closed.
    _prog_arrays: Vec<Map>,
    links: Vec<OwnedFd>,
    rung: Rung,
    maps: Maps,
    /// How many entries of `expected_below` are in use.
    expected: u32,
    /// Whether [`Probe::list_children`] can work on this kernel.
    lists_children: bool,
    /// The events of each number of a container that [`Probe::release`] has returned.
    released: Vec<u64>,
    cookie: u64,
    known_mask: u32,
    lost: Vec<Unavailable>,
    /// The processes that waited for an ELF interpreter a minute ago.
    waited_before: Vec<[u8; 4]>,
    /// How many ELF interpreters were given up.
    given_up: u64,
    state: Control,
}

type Loaded<T> = std::result::Result<T, Refusal>;

impl Probe {
    /// Loads the programs; nothing is traced yet. Also returns the map that holds the records. Where the kernel refuses reads of
    /// its memory, the programs do without them if anything is left to see.
    pub fn load(settings: &Settings) -> Result<(Probe, Map)> {
        let lost = match settings.rung {
            // The resolver's layout has all that its programs need.
            Rung::Resolver => &Vec::new(),
            Rung::Syscall => &settings.layout.lost,
        };
        Probe::load_without(settings, lost.clone()).or_else(|refusal| {
            if !refusal.forbids_reads() || settings.rung == Rung::Resolver {
                return Err(refusal.into_error());
            }
            if !settings.quirks.bears_lockdown(settings.buffer) {
                return Err(features::locked_down());
            }
            let (feature, why) = (Feature::KernelMemory, features::LOCKED_DOWN.to_string());
            let lost = [lost.clone(), vec![Unavailable { feature, why }]].concat();
            Probe::load_without(settings, lost).map_err(Refusal::into_error)
        })
    }

    /// Loads programs that do without what is lost.
    fn load_without(settings: &Settings, lost: Vec<Unavailable>) -> Loaded<(Probe, Map)> {
        let loaded = Probe::load_all(settings, lost);
        if loaded.is_err() {
            // The notes hold a descriptor of each map, and with it the map's memory.
            direct::clear_notes();
        }
        loaded
    }

    fn load_all(settings: &Settings, lost: Vec<Unavailable>) -> Loaded<(Probe, Map)> {
        let features = settings::features_without(&lost);
        let config = settings::config(settings, features)?;
        let wanted = wanted(settings, features)?;
        announce(&wanted, settings);
        if let Some(function) = settings
            .layout
            .rdonly_cast
            .filter(|_| config.plain_loads == 1)
        {
            direct::set_function(RDONLY_CAST, function);
        }
        // On every kernel, perf buffers count against this limit.
        if settings.quirks.locks_memory || settings.buffer == Buffer::Perf {
            // If it cannot be lifted, it may be high enough.
            let _ = sys::limits::lift_memory_lock();
        }
        let object = Object::of(settings.rung, settings.buffer);
        direct::set_max_entries("known", 1 << config.known_bits);
        let mut module = Module::parse(object.bytes()).map_err(Refusal::of)?;
        configure(&config, settings.buffer)?;
        let prog_arrays = load_tails(&mut module, settings, &wanted)?;
        let mut programs = Vec::new();
        for (hook, _) in wanted {
            programs.push((hook, load_program(&mut module, hook)?));
        }
        let probe = Probe {
            programs,
            module: Some(module),
            _prog_arrays: prog_arrays,
            links: Vec::new(),
            rung: settings.rung,
            maps: Maps::take()?,
            expected: 0,
            lists_children: settings.layout.offsets.task_cg_list != OFFSET_NONE,
            released: vec![0; CONTAINERS],
            cookie: config.cookie,
            known_mask: (1 << config.known_bits) - 1,
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
        Ok((probe, maps::take("ring")?))
    }

    /// Tells the programs what a cgroup is. Tracing begins with the first call.
    pub fn target(&mut self, cgroup: u64, what: Target) -> Result<()> {
        self.maps
            .set_target(cgroup, what)
            .map_err(|e| refused("add a cgroup to trace", e))?;
        if self.state.attached == 0 {
            // This is the kernel's own time; a container may have another one (time_namespaces(7)).
            let own = self
                .ask()
                .map_err(|e| refused("query the BPF programs", e))?;
            self.state.attached = number_at_start(&own);
            // Linux 5.4 loads programs under lockdown=confidentiality all the same; they read zeroes, also as the id
            // of snoop's cgroup.
            if self.state.attached != 0 && number_at_start(&own[offset_of!(SelfInfo, id)..]) == 0 {
                return Err(features::locked_down());
            }
        }
        // What was decided about a cgroup before may have changed.
        self.state.generation += 1;
        self.write_control()
    }

    /// Tells the programs what a cgroup is that will be created below `parent`. `names` lead to it: one name, or more if the
    /// cgroups between the two do not exist yet.
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
                    "cannot wait for these cgroups: more than {} of their parents do not exist; name the parents instead",
                    EXPECTED_BELOW - 1
                )));
            }
            self.maps
                .expect_below(self.expected, name, then)
                .map_err(|e| refused("wait for a cgroup", e))?;
            then = Expected {
                target: 0,
                next: self.expected,
            };
        }
        self.maps
            .expect(parent, first, then)
            .map_err(|e| refused("wait for a cgroup", e))
    }

    /// Lists the children of a cgroup above snoop's own in which a process is older than the tracing: the programs send a record
    /// of each. The BPF iterators do not show them to a container.
    pub fn list_children(&mut self, cgroup: u64) -> Result<()> {
        const PROGRAM: &str = "raw_tp/list_children";
        if !self.lists_children {
            return Err(Error::failed(
                "snoop does not know how this kernel stores the children of a cgroup",
            ));
        }
        let cannot = |e| refused("list the containers that are already running", e);
        let program = self.load_now(PROGRAM)?;
        self.state.listed = cgroup;
        self.write_control()?;
        let _link =
            direct::raw_tracepoint_open(program.as_fd(), Some(c"sys_exit")).map_err(cannot)?;
        for number in 1..=LISTED_CHILDREN {
            sys::process::own_call(self.cookie.wrapping_add(number));
            let own = self.maps.self_info().map_err(cannot)?;
            let listed = &own[offset_of!(SelfInfo, listed)..][..size_of::<u32>()];
            if listed.iter().all(|b| *b == 0) {
                return Ok(());
            }
        }
        Err(Error::failed(format!(
            "there are more than {LISTED_CHILDREN} containers"
        )))
    }

    /// Forgets a container whose cgroup was removed. Returns its events.
    pub fn release(&mut self, container: u64) -> Result<u64> {
        let mut release = || {
            let mut events = 0;
            let counters = self.maps.counters()?;
            for number in self.maps.numbers_of(container).collect::<Vec<_>>() {
                let now = counters.events[number as usize];
                events += now - self.released[number as usize];
                self.released[number as usize] = now;
                self.maps.remove_container(number)?;
            }
            self.maps.remove_target(container);
            Ok(events)
        };
        release().map_err(|e| refused("forget a cgroup", e))
    }

    /// Makes the programs send the access with that key again. The lower half of the key is enough. Another access with the same
    /// lower half, or one that becomes known at the same time, may be sent once more than needed.
    pub fn reoffer(&self, key: u32) -> Result<()> {
        self.maps
            .remove_known(key, self.known_mask)
            .map_err(|e| refused("make the BPF programs forget a file", e))
    }

    /// Runs the iterator with that BTF id, so that it sends records of what the traced processes have open or mapped.
    pub fn list(&mut self, iterator: &BpfIter, id: Option<u32>) -> Result<()> {
        let program = iterator.program;
        let id = id.ok_or_else(|| {
            Error::failed(format!("this kernel has no BPF iterator for {program}"))
        })?;
        direct::set_attach_id(program, id);
        let program = self.load_now(program)?;
        direct::iterate(program.as_fd()).map_err(|e| refused("run a BPF iterator", e))
    }

    fn load_now(&mut self, program: &str) -> Result<OwnedFd> {
        let module = self.module.as_mut().expect("nothing is loaded after this");
        load_program(module, program).map_err(Refusal::into_error)
    }

    /// Releases what only loading needs.
    pub fn all_loaded(&mut self) {
        self.module = None;
    }

    /// Returns id and name of the cgroup of this process and of those above it. The programs tell, because a container does not
    /// see them.
    pub fn own_cgroups(&self) -> Result<Vec<(u64, Vec<u8>)>> {
        let own = self
            .ask()
            .map_err(|e| refused("query the BPF programs", e))?;
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

    /// Makes the call that the programs recognise, and returns what they write then.
    fn ask(&self) -> io::Result<Vec<u8>> {
        match self.rung {
            Rung::Resolver => sys::process::own_lookup(self.cookie),
            Rung::Syscall => sys::process::own_call(self.cookie),
        }
        self.maps.self_info()
    }

    /// Returns what the programs cannot do on this kernel.
    pub fn lost(&self) -> &[Unavailable] {
        &self.lost
    }

    /// Returns the time of the kernel's monotonic clock in nanoseconds, as the programs tell it.
    pub fn now(&self) -> Result<u64> {
        let own = self
            .ask()
            .map_err(|e| refused("query the BPF programs", e))?;
        Ok(number_at_start(&own))
    }

    /// Returns the names of the programs that are attached.
    pub fn programs(&self) -> impl Iterator<Item = &'static str> {
        self.programs.iter().map(|(name, _)| *name)
    }

    /// Attaches the programs. They run as long as this lives.
    pub fn attach(&mut self) -> Result<()> {
        for (name, program) in &self.programs {
            let tracepoint = hooks::raw_tracepoint(name);
            let tracepoint = tracepoint.map(|t| CString::new(t).expect("names hold no NUL"));
            let link = direct::raw_tracepoint_open(program.as_fd(), tracepoint.as_deref())
                .map_err(|e| refused(&format!("attach the BPF program {name}"), e))?;
            self.links.push(link);
        }
        Ok(())
    }

    /// Returns whether the programs run. They note the time of each of our calls.
    pub fn is_alive(&self) -> bool {
        let seen_at = || self.ask().map(|own| number_at_start(&own));
        matches!((seen_at(), seen_at()), (Ok(before), Ok(after)) if before != after)
    }

    /// Ages what the programs know. Call it every [`EPOCH_SECONDS`](crate::bpf::wire::EPOCH_SECONDS).
    pub fn next_epoch(&mut self) -> Result<()> {
        self.state.epoch = self.state.epoch.wrapping_add(1);
        self.write_control()?;
        self.give_up_interps()
            .map_err(|e| refused("update the settings of the BPF programs", e))
    }

    /// Gives up each ELF interpreter that the programs have waited for since the last call: its process ended before its name
    /// was read.
    fn give_up_interps(&mut self) -> io::Result<()> {
        let mut waits = self.maps.interp_waits();
        let is_old = |process: &[u8; 4]| self.waited_before.contains(process);
        for process in waits.iter().filter(|process| is_old(process)) {
            // It is false if the name was read just now.
            self.given_up += u64::from(self.maps.end_interp_wait(process));
        }
        waits.retain(|process| !is_old(process));
        if waits.is_empty() {
            self.maps.reset_interp_waits()?;
        }
        self.waited_before = waits;
        Ok(())
    }

    /// Gives up all ELF interpreters that the programs still wait for.
    pub fn give_up_all_interps(&mut self) {
        for process in self.maps.interp_waits() {
            self.given_up += u64::from(self.maps.end_interp_wait(&process));
        }
    }

    fn write_control(&self) -> Result<()> {
        self.maps
            .set_control(&self.state)
            .map_err(|e| refused("update the settings of the BPF programs", e))
    }

    /// Returns how often the kernel skipped a program, because it had interrupted another run of it.
    fn skipped_runs(&self) -> io::Result<u64> {
        let of = |(name, program): &(&str, OwnedFd)| match hooks::raw_tracepoint(name) {
            // Tracepoints are not interrupted.
            Some(_) => Ok(0),
            None => direct::recursion_misses(program.as_fd()),
        };
        match self.rung {
            Rung::Resolver => self.programs.iter().map(of).sum(),
            Rung::Syscall => Ok(0),
        }
    }

    /// Returns what the programs have counted so far.
    pub fn counts(&self) -> Result<Counts> {
        self.read_counts()
            .map_err(|e| refused("read the BPF programs' counters", e))
    }

    fn read_counts(&self) -> io::Result<Counts> {
        let Counters {
            mut rows,
            events,
            displaced,
        } = self.maps.counters()?;
        rows[syscalls::ELF_INTERP_ID as usize][Outcome::Unreadable as usize] += self.given_up;
        rows[syscalls::OTHER_ID as usize][Outcome::Preempted as usize] = self.skipped_runs()?;
        let of = |(number, id)| {
            let number = number as usize;
            (id, events[number] - self.released[number])
        };
        let events = self.maps.containers()?.into_iter().map(of).collect();
        Ok(Counts::new(rows, events, displaced))
    }
}

/// Returns the programs that are to be attached, with the BTF id of each hook.
fn wanted(settings: &Settings, features: u32) -> Result<Vec<(&'static str, u32)>> {
    let traces_requests = settings::traces_requests(settings, features);
    let hooks = HOOKS.iter().zip(settings.layout.hook_ids);
    let hooks = hooks.filter(|(hook, _)| traces_requests || !hook.is_for_requests());
    let hooks = hooks.filter(|(hook, _)| hook.is_on(settings.rung));
    let program = |hook: &'static Hook| hook.program(settings.buffer);
    let mut wanted: Vec<_> = hooks
        .filter_map(|(hook, id)| Some((program(hook), id?)))
        .collect();
    if settings.rung == Rung::Resolver {
        let resolver = settings.layout.resolver.clone();
        wanted.extend(resolver.map_err(Error::failed)?);
    }
    Ok(wanted)
}

/// Returns the tails that go on with the work of these hooks.
fn tails_of<'a>(
    settings: &Settings,
    wanted: &'a [(&'static str, u32)],
) -> impl Iterator<Item = &'static Tails> + use<'a> {
    let is_wanted = |program: &str| {
        let hook = hooks::hook_of(program);
        wanted.iter().any(|(wanted, _)| *wanted == hook)
    };
    let tails = hooks::tails(settings.rung, settings.buffer).iter();
    // A plain raw tracepoint's tails are for all hooks of that type.
    tails.filter(move |tails| {
        let mut programs = tails.programs.iter();
        programs.any(|(_, program)| program.starts_with("raw_tp/") || is_wanted(program))
    })
}

/// Tells bpf-sys which type of the kernel each program belongs to.
fn announce(wanted: &[(&'static str, u32)], settings: &Settings) {
    for (hook, id) in wanted {
        direct::set_attach_id(hook, *id);
        let tails = hooks::tails(settings.rung, settings.buffer).iter();
        let programs = tails.flat_map(|tails| tails.programs);
        for (_, program) in programs.filter(|(_, program)| hooks::hook_of(program) == *hook) {
            direct::set_attach_id(program, *id);
        }
    }
}

/// Hands the programs their constants.
fn configure(config: &Config, buffer: Buffer) -> Result<()> {
    let cannot = |e| refused("configure the BPF programs", e);
    let map = maps::take(".rodata.config")?;
    map.update(&FIRST, config.as_bytes()).map_err(cannot)?;
    match buffer {
        // A verifier takes the content of a frozen map as constants since Linux 5.5. The other object does not rely on it.
        Buffer::Ring => map.freeze().map_err(cannot),
        Buffer::Perf => Ok(()),
    }
}

/// Loads the programs that the hooks' programs go on with, and fills the maps that hold them.
fn load_tails(
    module: &mut Module,
    settings: &Settings,
    wanted: &[(&'static str, u32)],
) -> Loaded<Vec<Map>> {
    let mut prog_arrays = Vec::new();
    for tails in tails_of(settings, wanted) {
        let prog_array = maps::take(tails.prog_array)?;
        for (tail, program) in tails.programs {
            let program = load_program(module, program)?;
            prog_array
                .update(
                    &(*tail as u32).to_ne_bytes(),
                    &program.as_raw_fd().to_ne_bytes(),
                )
                .map_err(|e| refused("link the BPF programs", e))?;
        }
        prog_arrays.push(prog_array);
    }
    Ok(prog_arrays)
}

fn load_program(module: &mut Module, name: &str) -> Loaded<OwnedFd> {
    let (version, license) = (module.version, module.license.clone());
    let program = module.program_mut(name);
    let program = program.ok_or_else(|| maps::missing("program", name))?;
    program.load(version, license).map_err(Refusal::of)?;
    let fd = program.fd().expect("a loaded program has a descriptor");
    Ok(sys::files::duplicate(fd).map_err(|e| refused("keep a BPF program", e))?)
}
