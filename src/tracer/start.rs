// SPDX-License-Identifier: MIT OR Apache-2.0
//! The steps of starting. Each step returns a state, and the next step is a method of that state, so that the order
//! cannot be changed: [`Loaded`], [`Attached`], [`Resumed`], [`Listed`], [`Confined`].

use super::{FIRST_CONNECTION, SIGNALS, Tracer};
use crate::args::Config;
use crate::bpf::features::Feature;
use crate::bpf::hooks::ITERATORS;
use crate::bpf::probe::Probe;
use crate::bpf::wire::{CONTAINERS, KNOWN_BITS, KNOWN_WAYS, RING_BYTES};
use crate::cgroup::selection::{Scope, Selection};
use crate::collect::Collector;
use crate::error::{Error, Result, cannot};
use crate::http::Server;
use crate::log;
use crate::node::{self, Node};
use crate::preflight::{self, Attached as Programs, Plan};
use crate::report::file::Destination;
use crate::report::previous;
use crate::ring::Records;
use crate::sys::capabilities::{CAP_BPF, CAP_DAC_OVERRIDE, CAP_SYS_ADMIN};
use crate::sys::signals::SignalFd;
use crate::sys::{files, limits, sandbox};
use crate::time::KernelClock;
use std::os::unix::ffi::OsStrExt;
use std::time::SystemTime;

/// Blocks the signals of the loop. From now on they are received through a descriptor and do not end the process.
pub fn receive_signals() -> Result<SignalFd> {
    SignalFd::new(&SIGNALS).map_err(|e| cannot("receive signals", e))
}

/// The ids of [`ITERATORS`] in the kernel's type information. An iterator that the kernel lacks has none.
type IteratorIds = [Option<u32>; ITERATORS.len()];

/// The programs are attached and the listener is open. Nothing is traced yet.
pub struct Loaded {
    pub(super) probe: Probe,
    pub(super) records: Records<bpf_sys::direct::Map>,
    pub(super) server: Option<Server>,
    iterator_ids: IteratorIds,
    pub(super) plan: Plan,
}

impl Loaded {
    pub fn load(config: &Config, mut plan: Plan) -> Result<Loaded> {
        let node = config.node.as_ref();
        let known_bits = node.map_or(KNOWN_BITS, |node| node.known_bits);
        let Programs {
            probe,
            records,
            layout,
        } = preflight::attach(&mut plan, &config.excludes, known_bits)?;
        let records = Records::open(records, plan.buffer)?;
        let listen = |address| Server::listen(address, FIRST_CONNECTION);
        Ok(Loaded {
            probe,
            records,
            server: config.metrics_addr.as_ref().map(listen).transpose()?,
            iterator_ids: layout.iterator_ids,
            plan,
        })
    }

    /// Starts to trace the selection, and starts the command if there is one.
    pub fn attach(mut self, config: Config, selection: Selection) -> Result<Attached> {
        let earlier = config.node.as_ref().map(node::Options::open_reports);
        let earlier = earlier.transpose()?;
        let scope = selection.apply(&mut self.probe)?;
        if config.node.is_some() && !can_list(&self.probe) {
            return Err(Error::failed(
                "snoop node needs a kernel that lets it read the names of cgroups, and this one does not; snoop check says why",
            ));
        }
        let clock = KernelClock {
            monotonic: self.probe.now()?,
            wall: SystemTime::now(),
        };
        log::info(format_args!(
            "attached: hooks {}; {} of {} MiB; tracing {}; listening on {}",
            self.plan.hooks,
            self.plan.buffer,
            RING_BYTES >> 20,
            scope.label,
            self.server
                .as_ref()
                .map_or("nothing".into(), Server::address)
        ));
        if let Some(warning) = scope.warning {
            log::warn(warning);
        }
        let running = selection.start()?;
        // This comes after the start of the command, because the command would inherit it.
        limits::outlive_file_size_limit();
        let (excludes, capacity) = (config.excludes.clone(), config.max_unique_files);
        let mut collector = Collector::new(scope.containers.clone(), excludes, capacity, clock);
        for lost in self.probe.lost() {
            let (feature, why) = (lost.feature.name(), &lost.why);
            log::warn(format_args!(
                "{feature} is not available on this kernel: {why}"
            ));
        }
        if running.is_some() {
            // The command's container is the only one.
            for path in files::inherited().map_err(|e| cannot("list open files", e))? {
                collector.add_inherited(0, path.as_os_str().as_bytes());
            }
        }
        collector.mark_late(&scope.late);
        let unable: Vec<_> = self.probe.lost().iter().map(|lost| lost.feature).collect();
        collector.set_unable(unable.clone());
        let iterator_ids = self.iterator_ids;
        let node = config.node.clone().zip(earlier).map(|(options, earlier)| {
            let settings = node::Settings {
                excludes: config.excludes.clone(),
                capacity,
                clock,
                unable,
                hooks: self.plan.hooks.rung.name(),
            };
            log::info(format_args!(
                "the BPF programs have numbers for {CONTAINERS} containers and remember {} accesses",
                KNOWN_WAYS << options.known_bits
            ));
            Node::new(options, settings, earlier)
        });
        let mut tracer = Tracer::new(config, self, collector, running);
        tracer.node = node;
        Ok(Attached {
            tracer,
            scope,
            iterator_ids,
        })
    }
}

/// The programs trace, and records arrive.
pub struct Attached {
    tracer: Tracer,
    scope: Scope,
    iterator_ids: IteratorIds,
}

impl Attached {
    /// Resumes the report of an earlier run, if the user wants that and the report belongs to the same pod and image.
    pub fn resume(mut self) -> Result<Resumed> {
        let tracer = &mut self.tracer;
        let Destination::File(report) = &tracer.config.report else {
            return Ok(Resumed(self));
        };
        if !tracer.config.resume {
            return Ok(Resumed(self));
        }
        // Each command has its own cgroup, so earlier commands had other cgroups.
        let any = tracer.running.is_some();
        let covers = |cgroup: &[u8]| any || self.scope.covers(cgroup);
        let found = previous::find(report, &tracer.config.metadata, covers)?;
        if let Some((earlier, mut file)) = found {
            let collector = &mut tracer.collector;
            let since = tracer.started_at.duration_since(earlier.updated_at);
            // If the clock was set back, the time is unknown. Between two commands there was nothing to watch.
            let not_watched = match any {
                true => None,
                false => Some(since.unwrap_or_default()),
            };
            let places = collector.resume(&earlier, not_watched);
            earlier.files(&mut file, |i, path, usage| {
                collector.add_file(places[i], path, usage)
            })?;
            log::info(format_args!(
                "resuming the report started at {}: {} files",
                earlier.started_at,
                collector.files()
            ));
            tracer.first_started_at = earlier.started_at;
        }
        Ok(Resumed(self))
    }
}

/// The report of an earlier run has been taken over.
pub struct Resumed(Attached);

impl Resumed {
    /// Lists the files that the traced processes already have open, as far as they are visible. A command has opened
    /// nothing yet.
    pub fn list_open(mut self) -> Result<Listed> {
        let Attached {
            tracer,
            scope,
            iterator_ids,
        } = &mut self.0;
        if tracer.running.is_none() && can_list(&tracer.probe) {
            list_children(tracer, &scope.parents)?;
            // The iterators show only snoop's pid namespace. If snoop is the first process in it, there are no processes
            // of others to list.
            if std::process::id() != 1 {
                list_files(tracer, iterator_ids)?;
            }
        }
        tracer.probe.all_loaded();
        Ok(Listed(self.0.tracer))
    }
}

/// Returns whether the iterators work. They read the kernel's memory and need paths.
fn can_list(probe: &Probe) -> bool {
    let needed = [Feature::KernelMemory, Feature::Paths];
    let is_lost = |feature| probe.lost().iter().any(|lost| lost.feature == feature);
    !needed.into_iter().any(is_lost)
}

/// Lists the containers that are already running below `parents`, which are cgroups above snoop's own.
fn list_children(tracer: &mut Tracer, parents: &[u64]) -> Result<()> {
    for parent in parents {
        if let Err(e) = tracer.probe.list_children(*parent) {
            log::warn(format_args!(
                "cannot list all containers that were already running: {e}"
            ));
        }
        tracer.take_all()?;
    }
    Ok(())
}

fn list_files(tracer: &mut Tracer, ids: &IteratorIds) -> Result<()> {
    let mut failed = false;
    for (iterator, id) in ITERATORS.iter().zip(ids) {
        if iterator.stands_in && !failed {
            continue;
        }
        let listed = tracer.probe.list(iterator, *id);
        failed = listed.is_err();
        if let Err(e) = listed {
            log::warn(format_args!(
                "cannot list all files that were already open: {e}"
            ));
        }
        // Loading an iterator takes time, and records arrive meanwhile.
        tracer.take_all()?;
    }
    Ok(())
}

/// Everything that can be known from before tracing began is listed. No program is loaded from now on.
pub struct Listed(Tracer);

impl Listed {
    /// Gives up the capabilities and syscalls that the loop does not need. With a command snoop keeps everything,
    /// because the command would lose it too.
    pub fn confine(self) -> Result<Confined> {
        let tracer = &self.0;
        if tracer.running.is_none() {
            let kept = sandbox::drop_capabilities(&[
                // For map lookups before Linux 5.19, if unprivileged users may not use bpf(2).
                (&[CAP_BPF, CAP_SYS_ADMIN], &|| tracer.probe.counts().is_ok()),
                // For a report in a directory of another user.
                (&[CAP_DAC_OVERRIDE], &|| tracer.config.report.is_permitted()),
            ])?;
            log::debug(format_args!("capabilities kept: {kept:#x}"));
            if let Some(Err(e)) = tracer.node.as_ref().map(Node::confine) {
                log::info(format_args!(
                    "this kernel cannot confine snoop to directories: {e}"
                ));
            }
            sandbox::confine()?;
        }
        Ok(Confined(self.0))
    }
}

/// The process can do only what the loop does.
pub struct Confined(Tracer);

impl Confined {
    /// Traces until the end, and writes the final report whatever the cause of the end. Returns the exit status.
    pub fn run(self, signals: &SignalFd) -> Result<u8> {
        self.0.run(signals)
    }
}
