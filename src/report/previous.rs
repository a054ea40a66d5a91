//! The report of an earlier run, which is gone on with where it is of the same pod and image: a sidecar that was
//! killed loses nothing.
//!
//! A report may list 100,000 files in 20 MB. It is read twice, as a stream ([`crate::report::scan`]): first to see whether it is
//! whole and whose it is, then for its files.

use crate::error::{Error, Result};
use crate::log;
use crate::report::file::ReportFile;
use crate::report::metadata::Metadata;
use crate::report::reader;
use crate::report::scan::{List, Owner, Scanned, scan};
use crate::report::schema::{ContainerEntry, ReportTotals, field};
use serde_json::Value;
use std::fs::File;
use std::io::{Read, Seek};

/// What a report says beside its files.
#[derive(Debug)]
pub struct PreviousReport {
    pub started_at: String,
    pub totals: ReportTotals,
    /// What it lacks: reason and count.
    pub missing: Vec<(String, u64)>,
    pub containers: Vec<ContainerEntry>,
}

/// Why a report is not gone on with.
#[derive(Debug)]
pub enum Refusal {
    /// It is whole, and of another pod or image.
    Other(String),
    /// It is no report, or not as it was written.
    Damaged(String),
}

/// What tells pods and images apart, in the report and in the metadata.
const IDENTITY: [&str; 5] = [
    field::POD_UID,
    field::POD_NAME,
    field::NAMESPACE,
    field::IMAGE,
    field::IMAGE_DIGEST,
];

/// Finds the report of an earlier run, and what it says beside its files. One that is damaged, or of something else, is
/// moved aside. `covers` tells which cgroups are traced.
pub fn find(
    report: &ReportFile,
    metadata: &Metadata,
    covers: impl Fn(&[u8]) -> bool,
) -> Result<Option<(PreviousReport, File)>> {
    let opened = report.open_earlier();
    let read = opened
        .map_err(|e| Refusal::Damaged(e.to_string()))
        .and_then(|opened| {
            let Some(mut file) = opened else {
                return Ok(None);
            };
            let earlier = PreviousReport::read(&mut file, metadata, covers)?;
            Ok(Some((earlier, file)))
        });
    let (ending, what, why) = match read {
        Ok(found) => return Ok(found),
        Err(Refusal::Other(why)) => (".previous", "of something else", why),
        Err(Refusal::Damaged(why)) => (".damaged", "damaged", why),
    };
    let aside = report.move_aside(ending)?;
    log::warn(format_args!(
        "the report that was there is {what}: {why}; it is now {}",
        aside.display()
    ));
    Ok(None)
}

impl PreviousReport {
    /// Reads all but the files.
    pub fn read(
        file: &mut (impl Read + Seek),
        metadata: &Metadata,
        covers: impl Fn(&[u8]) -> bool,
    ) -> std::result::Result<PreviousReport, Refusal> {
        let Scanned { head, lists } = from_start(file, &mut |_, _| ()).map_err(Refusal::Damaged)?;
        let head = reader::report(head.as_bytes()).map_err(Refusal::Damaged)?;
        let earlier = PreviousReport::of(&head);
        let earlier =
            earlier.ok_or_else(|| Refusal::Damaged("its fields are not all there".into()))?;
        earlier.check(&lists).map_err(Refusal::Damaged)?;

        let other = IDENTITY
            .iter()
            .find(|key| head[**key].as_str() != metadata.get(key));
        if let Some(key) = other {
            let (then, now) = (&head[*key], Value::from(metadata.get(key)));
            return Err(Refusal::Other(format!("its {key} is {then}, not {now}")));
        }
        let is_named = [field::POD_UID, field::POD_NAME]
            .iter()
            .any(|key| metadata.get(key).is_some());
        let foreign = |c: &&ContainerEntry| !is_named && !covers(&c.cgroup_path);
        match earlier.containers.iter().find(foreign) {
            None => Ok(earlier),
            Some(container) => {
                let path = String::from_utf8_lossy(&container.cgroup_path);
                Err(Refusal::Other(format!("it tells of the cgroup {path}")))
            }
        }
    }

    /// Do the lists of files hold what the report says they hold? Whoever goes on with a report replaces it, so a file
    /// that is overlooked now is lost.
    fn check(&self, lists: &[List]) -> std::result::Result<(), String> {
        let (all, containers) = (lists.len(), self.containers.len());
        if all != containers + 1 {
            return Err(format!(
                "it has {all} lists of files, not one for each of its {containers} containers and one for all"
            ));
        }
        let mut lists = lists.iter().filter(|list| list.of != Owner::All);
        for (i, container) in self.containers.iter().enumerate() {
            let (name, said) = (&container.name, container.unique_files);
            let found = lists.next().filter(|list| list.of == Owner::Container(i));
            let found = found.map_or(0, |list| list.files);
            if found != said {
                return Err(format!(
                    "its container {name:?} lists {found} files, and {} says {said}",
                    field::UNIQUE_FILES
                ));
            }
        }
        Ok(())
    }

    fn of(head: &Value) -> Option<PreviousReport> {
        head[field::FILES].as_array()?;
        let containers = head[field::CONTAINERS].as_array()?.iter();
        let missing = head[field::MISSING].as_object()?.iter();
        Some(PreviousReport {
            started_at: head[field::STARTED_AT].as_str()?.into(),
            totals: ReportTotals::from_json(head)?,
            missing: missing
                .map(|(reason, n)| Some((reason.clone(), n.as_u64()?)))
                .collect::<Option<_>>()?,
            containers: containers
                .map(ContainerEntry::from_json)
                .collect::<Option<_>>()?,
        })
    }

    /// Hands out the files: at which place in [`PreviousReport::containers`], and the path.
    pub fn files(
        &self,
        file: &mut (impl Read + Seek),
        mut each: impl FnMut(usize, &[u8]),
    ) -> Result<()> {
        let scanned = from_start(file, &mut |owner, path| match owner {
            Owner::Container(at) if at < self.containers.len() => each(at, path),
            _ => (),
        });
        let changed = |e| Error::failed(format!("the report changed while it was read: {e}"));
        scanned
            .and_then(|scanned| self.check(&scanned.lists))
            .map_err(changed)
    }
}

/// [`scan`] from the beginning of a file.
fn from_start(
    file: &mut (impl Read + Seek),
    each: &mut dyn FnMut(Owner, &[u8]),
) -> std::result::Result<Scanned, String> {
    file.rewind().map_err(|e| e.to_string())?;
    scan(file, each)
}
