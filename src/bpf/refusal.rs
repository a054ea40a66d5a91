// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why the kernel refused something, in the words of an [`Error`].

use crate::error::Error;
use crate::sys::confinement::Confinement;
use bpf_sys::direct::{self, Failure};
use std::fmt::Debug;
use std::io;
use std::path::Path;

/// Why the programs could not be loaded.
pub(crate) enum Refusal {
    /// The kernel refused a map or a program.
    Kernel(Failure),
    Other(Error),
}

impl Refusal {
    /// Returns the reason for an error of redbpf. Our own bpf-sys has noted what redbpf does not tell.
    pub(crate) fn of(e: impl Debug) -> Refusal {
        direct::take_failure().map_or_else(
            || {
                Refusal::Other(Error::failed(format!(
                    "cannot load the BPF programs: {e:?}"
                )))
            },
            Refusal::Kernel,
        )
    }

    pub(crate) fn into_error(self) -> Error {
        match self {
            Refusal::Kernel(failure) => failed(failure),
            Refusal::Other(error) => error,
        }
    }

    /// Returns whether the programs may not read the kernel's memory.
    pub(crate) fn forbids_reads(&self) -> bool {
        // Where plain loads read the kernel's memory, only strings are read by a helper.
        let helpers = ["bpf_probe_read_kernel", "bpf_probe_read_kernel_str"];
        let lacks_one = |failure: &Failure| helpers.iter().any(|name| failure.lacks_helper(name));
        matches!(self, Refusal::Kernel(failure) if lacks_one(failure))
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal::Other(error)
    }
}

/// Returns the error for a call that the kernel refused, with a remedy where there is one.
pub(crate) fn refused(what: &str, e: io::Error) -> Error {
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

/// How many lines of the verifier's log an error shows. The last ones hold the reason.
const LOG_LINES: usize = 12;

fn failed(failure: Failure) -> Error {
    let log = failure.verifier_log.trim_end();
    if log.is_empty() {
        return refused(&format!("load the BPF {}", failure.object), failure.cause);
    }
    let lines: Vec<_> = log.lines().collect();
    let tail = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n  ");
    Error::failed(format!(
        "the kernel's verifier rejects the BPF {}: {}; please report this with the kernel's version and these lines:\n  {tail}",
        failure.object, failure.cause
    ))
}
