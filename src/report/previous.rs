// SPDX-License-Identifier: MIT OR Apache-2.0
//! The report of an earlier run. snoop resumes it if it belongs to the same pod and image, so that a sidecar that was
//! killed loses nothing.
//!
//! A report may list 100,000 files in 20 MB. It is read twice, as a stream ([`crate::report::scan`]): first to check
//! whether it is whole and to which pod it belongs, and for how the files were used; then for the files, because the order
//! of the fields may be any.

use crate::error::{Error, Result};
use crate::files::usage::{Usage, UsageList};
use crate::log;
use crate::report::file::ReportFile;
use crate::report::metadata::Metadata;
use crate::report::reader;
use crate::report::scan::{Column, Each, Element, List, Owner, Scanned, scan};
use crate::report::schema::{ContainerEntry, ReportTotals, field};
use crate::time::{parse_rfc3339, rfc3339};
use serde_json::Value;
use std::fs::File;
use std::io::{Read, Seek};
use std::time::SystemTime;

/// The content of a report without its files.
#[derive(Debug)]
pub struct PreviousReport {
    pub started_at: String,
    /// When the report was written.
    pub updated_at: SystemTime,
    pub totals: ReportTotals,
    /// The reasons why something is missing, each with a count.
    pub missing: Vec<(String, u64)>,
    pub containers: Vec<ContainerEntry>,
    pub events_since_new_file: u64,
    /// How the files of each container were used, in the order of its list.
    usages: Vec<UsageList>,
}

/// Why a report is not resumed.
#[derive(Debug)]
pub enum Refusal {
    /// The report is whole but belongs to another pod or image. The text says how it differs.
    Other(String),
    /// The file is not a report, or is no longer as it was written. The text says what is wrong.
    Damaged(String),
}

/// The fields that identify the pod and the image. In the report and in the metadata they must have the same values.
const IDENTITY: [&str; 5] = [
    field::POD_UID,
    field::POD_NAME,
    field::NAMESPACE,
    field::IMAGE,
    field::IMAGE_DIGEST,
];

/// Finds the report of an earlier run. A report that is damaged or belongs to another pod or image is moved aside.
/// `covers` says which cgroups are traced.
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
    let (what, ending, why) = match read {
        Ok(found) => return Ok(found),
        Err(Refusal::Other(why)) => ("belongs to another pod or image", ".previous", why),
        Err(Refusal::Damaged(why)) => ("is damaged", ".damaged", why),
    };
    let aside = report.move_aside(ending)?;
    log::warn(format_args!(
        "the existing report {what}: {why}; it was moved to {}",
        aside.display()
    ));
    Ok(None)
}

impl PreviousReport {
    /// Reads everything but the files of a report of any image. Returns also what it says about the image, and the number of its
    /// files.
    pub fn read_any(
        file: &mut (impl Read + Seek),
    ) -> std::result::Result<(PreviousReport, Metadata, u64), String> {
        let (earlier, head, files) = PreviousReport::read_whole(file)?;
        let mut metadata = Metadata::default();
        for key in [field::IMAGE, field::IMAGE_DIGEST] {
            if let Some(text) = head[key].as_str() {
                metadata.known.push((key, text.into()));
            }
        }
        Ok((earlier, metadata, files))
    }

    /// Reads everything but the files of a report, if it belongs to this pod and image.
    pub fn read(
        file: &mut (impl Read + Seek),
        metadata: &Metadata,
        covers: impl Fn(&[u8]) -> bool,
    ) -> std::result::Result<PreviousReport, Refusal> {
        let (earlier, head, _) = PreviousReport::read_whole(file).map_err(Refusal::Damaged)?;
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
                Err(Refusal::Other(format!(
                    "it covers the cgroup {path}, which is not traced"
                )))
            }
        }
    }

    /// Reads everything but the files. Returns also the report with empty lists, and the number of its files.
    fn read_whole(
        file: &mut (impl Read + Seek),
    ) -> std::result::Result<(PreviousReport, Value, u64), String> {
        let mut usages: Vec<UsageList> = Vec::new();
        let mut each = |owner, element: Element| {
            if let Owner::Container(at) = owner {
                usages.resize_with(usages.len().max(at + 1), UsageList::default);
                match element {
                    Element::File(_) => (),
                    Element::Kinds(kinds) => usages[at].push_kinds(kinds),
                    Element::FirstUse(first) => usages[at].push_first(first),
                }
            }
        };
        let scanned = from_start(file, &mut each)?;
        let head = reader::report(scanned.head.as_bytes())?;
        let mut earlier = PreviousReport::of(&head).ok_or("it lacks fields")?;
        earlier.check(&scanned)?;
        earlier.usages = usages;
        let files = scanned.len(Owner::All, Column::Files).unwrap_or(0);
        Ok((earlier, head, files))
    }

    /// Checks that each list is as long as the report says. A resumed report is replaced, so a file that is overlooked now
    /// is lost.
    fn check(&self, scanned: &Scanned) -> std::result::Result<(), String> {
        let of_files = |list: &&List| list.column == Column::Files;
        let (all, containers) = (
            scanned.lists.iter().filter(of_files).count(),
            self.containers.len(),
        );
        if all != containers + 1 {
            return Err(format!(
                "it has {all} lists of files instead of one for each of its {containers} containers and one for all"
            ));
        }
        for (i, container) in self.containers.iter().enumerate() {
            let (name, said) = (&container.name, container.unique_files);
            let owner = Owner::Container(i);
            let found = scanned.len(owner, Column::Files).unwrap_or(0);
            if found != said {
                return Err(format!(
                    "its container {name:?} lists {found} files, but {} says {said}",
                    field::UNIQUE_FILES
                ));
            }
            let mut others = scanned
                .lists
                .iter()
                .filter(|list| list.of == owner && !of_files(list));
            if let Some(list) = others.find(|list| list.len != said) {
                let (column, len) = (list.column, list.len);
                return Err(format!(
                    "its container {name:?} has {len} {column} for {said} files"
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
            started_at: rfc3339(parse_rfc3339(head[field::STARTED_AT].as_str()?)?),
            updated_at: parse_rfc3339(head[field::LAST_UPDATED_AT].as_str()?)?,
            totals: ReportTotals::from_json(head)?,
            missing: missing
                .map(|(reason, n)| Some((reason.clone(), n.as_u64()?)))
                .collect::<Option<_>>()?,
            containers: containers
                .map(ContainerEntry::from_json)
                .collect::<Option<_>>()?,
            events_since_new_file: head[field::EVENTS_SINCE_NEW_FILE].as_u64().unwrap_or(0),
            usages: Vec::new(),
        })
    }

    /// Calls `each` with each file: the place of its container in [`PreviousReport::containers`], its path and how it was
    /// used.
    pub fn files(
        &self,
        file: &mut (impl Read + Seek),
        mut each: impl FnMut(usize, &[u8], Usage),
    ) -> Result<()> {
        let mut next = vec![0; self.containers.len()];
        let scanned = from_start(file, &mut |owner, element| {
            let (Owner::Container(of), Element::File(path)) = (owner, element) else {
                return;
            };
            if let Some(at) = next.get_mut(of) {
                let usage = self.usages.get(of).map(|usages| usages.get(*at));
                each(of, path, usage.unwrap_or_default());
                *at += 1;
            }
        });
        let changed = |e| Error::failed(format!("the report changed while it was read: {e}"));
        scanned
            .and_then(|scanned| self.check(&scanned))
            .map_err(changed)
    }
}

/// Scans a file from its beginning.
fn from_start(file: &mut (impl Read + Seek), each: Each) -> std::result::Result<Scanned, String> {
    file.rewind().map_err(|e| e.to_string())?;
    scan(file, each)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::kinds::Kinds;
    use crate::report::golden::{self, Sample};
    use crate::report::schema::encode_name;
    use serde_json::json;
    use std::io::Cursor;

    /// Returns a small report that is whole.
    fn small() -> Value {
        json!({
            "schema": 1,
            "pod_name": "web-0",
            "image": "nginx:1",
            "started_at": golden::STARTED_AT,
            "last_updated_at": golden::STARTED_AT,
            "files": ["/a", "/b"],
            "containers": [{
                "name": "web",
                "cgroup_id": 7,
                "cgroup_path": "/web",
                "mounts": [],
                "total_events": 3,
                "unique_files": 2,
                "files": ["/a", "/b"],
            }],
            "total_events": 3,
            "dropped_events": 0,
            "evicted_files": 0,
            "complete": true,
            "missing": {},
        })
    }

    fn metadata(known: &[(&'static str, &str)]) -> Metadata {
        let known = known.iter().map(|(name, value)| (*name, value.to_string()));
        Metadata {
            known: known.collect(),
            ..Metadata::default()
        }
    }

    fn of_small() -> Metadata {
        metadata(&[("pod_name", "web-0"), ("image", "nginx:1")])
    }

    fn read(
        report: &str,
        metadata: &Metadata,
        covers: impl Fn(&[u8]) -> bool,
    ) -> std::result::Result<PreviousReport, Refusal> {
        PreviousReport::read(&mut Cursor::new(report), metadata, covers)
    }

    /// Reads the small report after `change`. Returns why it is damaged.
    fn damage(change: impl FnOnce(&mut Value)) -> String {
        let mut report = small();
        change(&mut report);
        damage_of(&report.to_string())
    }

    fn damage_of(report: &str) -> String {
        match read(report, &of_small(), |_| true) {
            Err(Refusal::Damaged(why)) => why,
            other => panic!("not damaged: {other:?}"),
        }
    }

    /// Reads the small report with other metadata or cgroups. Returns why it is not resumed.
    fn other(metadata: &Metadata, covers: impl Fn(&[u8]) -> bool) -> String {
        match read(&small().to_string(), metadata, covers) {
            Err(Refusal::Other(why)) => why,
            other => panic!("not another's: {other:?}"),
        }
    }

    #[test]
    fn the_golden_report_is_read_back() {
        let sample = Sample::make();
        let mut file = File::open(golden::path("report.json")).unwrap();
        let earlier = PreviousReport::read(&mut file, &sample.metadata, |_| false).unwrap();
        assert_eq!(earlier.started_at, golden::STARTED_AT);
        assert_eq!(earlier.totals, golden::TOTALS);
        assert_eq!(earlier.containers, sample.entries);
        let mut missing = golden::MISSING.map(|(reason, n)| (reason.to_string(), n));
        missing.sort();
        assert_eq!(earlier.missing, missing);

        let mut files = vec![Vec::new(); 2];
        let each = |at: usize, path: &[u8], _| files[at].push(path.to_vec());
        earlier.files(&mut file, each).unwrap();
        let sorted = golden::FILES.map(|files| {
            let mut files: Vec<_> = files.iter().map(|path| path.to_vec()).collect();
            files.sort();
            files
        });
        assert_eq!(files, sorted);
    }

    #[test]
    fn a_report_of_the_same_pod_and_image_is_resumed() {
        let earlier = read(&small().to_string(), &of_small(), |_| false).unwrap();
        assert_eq!(earlier.containers.len(), 1);
    }

    #[test]
    fn another_image_is_another_report() {
        let newer = metadata(&[("pod_name", "web-0"), ("image", "nginx:2")]);
        assert_eq!(
            other(&newer, |_| true),
            r#"its image is "nginx:1", not "nginx:2""#
        );
    }

    #[test]
    fn an_unknown_image_is_another_report() {
        let unknown = metadata(&[("pod_name", "web-0")]);
        assert_eq!(
            other(&unknown, |_| true),
            r#"its image is "nginx:1", not null"#
        );
    }

    #[test]
    fn another_pod_is_another_report() {
        let pod = metadata(&[("pod_name", "web-1"), ("image", "nginx:1")]);
        let why = other(&pod, |_| true);
        assert!(why.contains("its pod_name is \"web-0\""), "{why}");
    }

    #[test]
    fn another_namespace_is_another_report() {
        let known = [
            ("pod_name", "web-0"),
            ("image", "nginx:1"),
            ("namespace", "shop"),
        ];
        let why = other(&metadata(&known), |_| true);
        assert_eq!(why, "its namespace is null, not \"shop\"");
    }

    #[test]
    fn fields_that_do_not_identify_a_pod_do_not_matter() {
        let known = [
            ("pod_name", "web-0"),
            ("image", "nginx:1"),
            ("node_name", "elsewhere"),
        ];
        assert!(read(&small().to_string(), &metadata(&known), |_| false).is_ok());
    }

    #[test]
    fn without_a_pod_the_cgroups_have_to_be_traced() {
        let mut report = small();
        report.as_object_mut().unwrap().remove("pod_name");
        let (report, image) = (report.to_string(), metadata(&[("image", "nginx:1")]));
        assert!(read(&report, &image, |cgroup| cgroup == b"/web").is_ok());
        match read(&report, &image, |_| false) {
            Err(Refusal::Other(why)) => {
                assert_eq!(why, "it covers the cgroup /web, which is not traced");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_empty_file_is_damaged() {
        assert!(damage_of("").contains("truncated"));
    }

    #[test]
    fn half_a_report_is_damaged() {
        let whole = small().to_string();
        assert!(damage_of(&whole[..whole.len() / 2]).contains("truncated"));
    }

    #[test]
    fn a_file_that_is_not_json_is_damaged() {
        assert!(damage_of("root:x:0:0").contains("not JSON"));
    }

    #[test]
    fn another_schema_is_damaged() {
        let why = damage(|report| report["schema"] = json!(3));
        assert!(why.contains("its schema is 3"), "{why}");
    }

    /// Without one of these fields a report is damaged.
    #[test]
    fn a_report_without_a_required_field_is_damaged() {
        for name in [
            "started_at",
            "last_updated_at",
            "total_events",
            "dropped_events",
            "evicted_files",
            "missing",
            "containers",
        ] {
            damage(|report| report[name] = Value::Null);
        }
    }

    #[test]
    fn a_report_with_a_reason_without_a_count_is_damaged() {
        let why = damage(|report| report["missing"] = json!({"evicted": "some"}));
        assert_eq!(why, "it lacks fields");
    }

    #[test]
    fn a_report_that_lists_fewer_files_than_it_counts_is_damaged() {
        let why = damage(|report| report["containers"][0]["files"] = json!(["/a"]));
        assert_eq!(
            why,
            "its container \"web\" lists 1 files, but unique_files says 2"
        );
    }

    #[test]
    fn a_report_that_lists_more_files_than_it_counts_is_damaged() {
        let why = damage(|report| report["containers"][0]["unique_files"] = json!(1));
        assert!(
            why.contains("lists 2 files, but unique_files says 1"),
            "{why}"
        );
    }

    /// Returns the files of a report, with their kinds and times.
    fn usages(report: &Value) -> Vec<(String, Usage)> {
        let report = report.to_string();
        let earlier = read(&report, &of_small(), |_| true).unwrap();
        let mut files = Vec::new();
        let each = |_, path: &[u8], usage| {
            files.push((String::from_utf8(path.into()).unwrap(), usage));
        };
        earlier.files(&mut Cursor::new(report), each).unwrap();
        files
    }

    #[test]
    fn files_are_resumed_with_how_they_were_used() {
        let mut report = small();
        report["schema"] = json!(2);
        // serde_json sorts the fields by their names: the times come before the list, the kinds come after it.
        report["containers"][0]["first_use_ms"] = json!([1234.56, null]);
        report["containers"][0]["kinds"] = json!(["rm", ""]);
        let used = Usage {
            kinds: Kinds::READ.and(Kinds::MAPPED),
            first: Some(123_456),
        };
        let expected = [
            ("/a".to_string(), used),
            ("/b".to_string(), Usage::default()),
        ];
        assert_eq!(usages(&report), expected);
    }

    #[test]
    fn nothing_is_known_of_the_files_of_schema_1() {
        let expected = ["/a", "/b"].map(|path| (path.to_string(), Usage::default()));
        assert_eq!(usages(&small()), expected);
    }

    #[test]
    fn a_report_with_too_few_kinds_or_times_is_damaged() {
        for (name, short) in [("kinds", json!(["r"])), ("first_use_ms", json!([1, 2, 3]))] {
            let why = damage(|report| report["containers"][0][name] = short);
            assert!(why.contains(&format!("{name} for 2 files")), "{why}");
        }
    }

    #[test]
    fn a_report_without_a_list_is_damaged() {
        let why = damage(|report| report["containers"][0]["files"] = json!(7));
        assert_eq!(why, "it lacks fields");
        let why = damage(|report| report["files"] = Value::Null);
        assert_eq!(why, "it lacks fields");
    }

    #[test]
    fn a_report_with_a_list_twice_is_damaged() {
        let whole = small().to_string();
        let twice = whole.replacen("\"files\":", "\"files\":[],\"files\":", 1);
        let why = damage_of(&twice);
        assert!(why.contains("it has 3 lists of files"), "{why}");
    }

    #[test]
    fn a_report_with_a_path_that_is_not_absolute_is_damaged() {
        for path in ["a", "/a/", "/a//b", "/a/../b", "/./a", ""] {
            let why = damage(|report| report["files"] = json!([path]));
            assert!(why.contains("not an absolute path"), "{why}");
        }
    }

    #[test]
    fn a_report_that_shrinks_between_the_two_readings_is_an_error() {
        let earlier = read(&small().to_string(), &of_small(), |_| true).unwrap();
        let mut report = small();
        report["containers"][0]["files"] = json!(["/a"]);
        let failed = earlier.files(&mut Cursor::new(report.to_string()), |_, _, _| ());
        let why = failed.unwrap_err().to_string();
        assert!(why.contains("changed while it was read"), "{why}");
    }

    #[test]
    fn cgroup_paths_may_contain_any_bytes() {
        let mut report = small();
        report["containers"][0]["cgroup_path"] = json!(encode_name(b"/w\xffb"));
        let earlier = read(&report.to_string(), &of_small(), |_| true).unwrap();
        assert_eq!(earlier.containers[0].cgroup_path, b"/w\xffb");
    }
}
