//! The metrics: one table, and its text in the Prometheus exposition format 0.0.4.

use crate::bpf::counts::Counts;
use crate::bpf::syscalls;
use crate::collect::container::Container;
use crate::collect::{Collector, Totals};
use crate::report::schema::encode_name;
use crate::sys;
use std::fmt::Write;
use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the metrics are about, at the time of a scrape.
pub struct Scrape<'a> {
    pub collector: &'a Collector,
    pub counts: &'a Counts,
    pub report_writes: u64,
    pub report_write_errors: u64,
    pub started_at: SystemTime,
}

/// The scrape, with what is the same for several metrics.
struct Values<'a> {
    scrape: &'a Scrape<'a>,
    totals: Totals,
    usage: sys::limits::Usage,
}

enum Kind {
    Counter,
    Gauge,
}

/// How a metric's value is found: one number, or a series for each value of a label.
enum Series {
    One(fn(&Values) -> f64),
    Labelled(fn(&Values) -> Vec<(String, f64)>),
}

pub struct Metric {
    pub name: &'static str,
    kind: Kind,
    pub help: &'static str,
    series: Series,
}

const fn metric(kind: Kind, name: &'static str, help: &'static str, series: Series) -> Metric {
    Metric {
        name,
        kind,
        help,
        series,
    }
}

const fn counter(name: &'static str, help: &'static str, value: fn(&Values) -> f64) -> Metric {
    metric(Kind::Counter, name, help, Series::One(value))
}

const fn gauge(name: &'static str, help: &'static str, value: fn(&Values) -> f64) -> Metric {
    metric(Kind::Gauge, name, help, Series::One(value))
}

pub const METRICS: &[Metric] = &[
    metric(
        Kind::Counter,
        "snoop_events_total",
        "File accesses seen in traced cgroups.",
        Series::Labelled(by_syscall),
    ),
    counter(
        "snoop_events_processed_total",
        "Accesses that added a file.",
        |v| v.totals.processed as f64,
    ),
    counter(
        "snoop_events_duplicate_total",
        "Accesses to a file already known.",
        |v| v.totals.duplicate as f64,
    ),
    counter(
        "snoop_events_excluded_total",
        "Accesses left out: by -exclude, of the container runtime, of files that show the kernel.",
        |v| v.totals.excluded as f64,
    ),
    counter(
        "snoop_events_failed_total",
        "Accesses that the kernel answered with an error.",
        |v| v.totals.failed as f64,
    ),
    counter(
        "snoop_events_dropped_total",
        "Accesses that were lost and are not in the report.",
        |v| v.totals.dropped as f64,
    ),
    counter(
        "snoop_events_evicted_total",
        "Files that left because of -max-unique-files.",
        |v| v.totals.evicted as f64,
    ),
    gauge(
        "snoop_unique_files",
        "Files in the report; one that several containers used counts once.",
        |v| v.scrape.collector.files() as f64,
    ),
    counter("snoop_report_writes_total", "Reports written.", |v| {
        v.scrape.report_writes as f64
    }),
    counter(
        "snoop_report_write_errors_total",
        "Reports that could not be written.",
        |v| v.scrape.report_write_errors as f64,
    ),
    gauge("snoop_containers", "Containers traced.", |v| {
        let containers = v.scrape.collector.containers();
        containers.filter(|container| !container.is_gone()).count() as f64
    }),
    metric(
        Kind::Counter,
        "snoop_container_events_total",
        "File accesses of a container.",
        Series::Labelled(|v| by_container(v, |_, events| events)),
    ),
    metric(
        Kind::Gauge,
        "snoop_container_unique_files",
        "Files of a container in the report.",
        Series::Labelled(|v| by_container(v, |c, _| c.files.len() as u64)),
    ),
    metric(
        Kind::Gauge,
        "snoop_build_info",
        "Always 1; the version is in the label.",
        Series::Labelled(|_| vec![(format!("version=\"{}\"", env!("CARGO_PKG_VERSION")), 1.0)]),
    ),
    counter(
        "process_cpu_seconds_total",
        "User and system CPU time in seconds.",
        |v| v.usage.cpu.as_secs_f64(),
    ),
    gauge(
        "process_resident_memory_bytes",
        "Resident memory in bytes.",
        |_| statm(1),
    ),
    gauge(
        "process_virtual_memory_bytes",
        "Virtual memory in bytes.",
        |_| statm(0),
    ),
    gauge("process_open_fds", "Open file descriptors.", |_| {
        fs::read_dir("/proc/self/fd").map_or(0.0, |fds| fds.count() as f64)
    }),
    gauge("process_max_fds", "Limit of open file descriptors.", |v| {
        v.usage.max_fds as f64
    }),
    gauge(
        "process_start_time_seconds",
        "Start since the epoch in seconds.",
        |v| {
            let since = v.scrape.started_at.duration_since(UNIX_EPOCH);
            since.unwrap_or(Duration::ZERO).as_secs_f64()
        },
    ),
];

/// Number `field` of /proc/self/statm, which counts pages.
fn statm(field: usize) -> f64 {
    let text = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text
        .split(' ')
        .nth(field)
        .and_then(|n| n.parse::<f64>().ok());
    pages.unwrap_or(0.0) * sys::mapping::page_size() as f64
}

/// A series for each container that the report lists: each that is traced, and some that ended.
fn by_container(values: &Values, value: fn(&Container, u64) -> u64) -> Vec<(String, f64)> {
    let Scrape {
        collector, counts, ..
    } = values.scrape;
    let series = collector.containers().map(|container| {
        let path = escaped(&encode_name(&container.cgroup.path));
        let events = container.events(counts);
        (
            format!("cgroup=\"{path}\""),
            value(container, events) as f64,
        )
    });
    series.collect()
}

/// A label's value: backslash, quote and newline are escaped.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// Every syscall that was seen.
fn by_syscall(values: &Values) -> Vec<(String, f64)> {
    let Scrape {
        collector, counts, ..
    } = values.scrape;
    let rows =
        syscalls::counted_rows().map(|(row, name)| (name, collector.accesses_of(row, counts)));
    let seen = rows
        .chain([("unknown", collector.malformed())])
        .filter(|(_, n)| *n > 0);
    seen.map(|(name, n)| (format!("syscall=\"{name}\""), n as f64))
        .collect()
}

pub fn render(scrape: &Scrape) -> String {
    let values = Values {
        scrape,
        totals: scrape.collector.totals(scrape.counts),
        usage: sys::limits::usage(),
    };
    let mut text = String::new();
    for metric in METRICS {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let name = metric.name;
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "# HELP {name} {}\n# TYPE {name} {kind}\n",
            metric.help
        );
        let _ = match metric.series {
            Series::One(value) => writeln!(text, "{name} {}", value(&values)),
            Series::Labelled(series) => series(&values)
                .into_iter()
                .try_for_each(|(label, value)| writeln!(text, "{name}{{{label}}} {value}")),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_hold_any_name() {
        assert_eq!(escaped("/a\"b\\c\nd"), "/a\\\"b\\\\c\\nd");
    }

    #[test]
    fn the_readme_names_every_metric() {
        let readme = include_str!("../README.md");
        let rows: Vec<_> = readme
            .lines()
            .filter(|line| line.starts_with("| `"))
            .collect();
        for metric in METRICS {
            let name = |row: &&&str| row[3..].starts_with(metric.name);
            let row = rows
                .iter()
                .find(name)
                .unwrap_or_else(|| panic!("{}", metric.name));
            let kind = match metric.kind {
                Kind::Counter => "| counter |",
                Kind::Gauge => "| gauge |",
            };
            assert!(row.contains(kind), "{row}");
        }
    }
}
