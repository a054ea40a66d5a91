// SPDX-License-Identifier: MIT OR Apache-2.0
//! The metrics: a table of all metrics, and their text in the Prometheus exposition format 0.0.4.

mod node;

use crate::bpf::counts::Counts;
use crate::bpf::syscalls;
use crate::collect::container::Container;
use crate::collect::{Collector, Totals};
use crate::node::Node;
use crate::report::schema::encode_name;
use crate::sys;
use std::fmt::Write;
use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The sources of the metrics at the time of a scrape.
pub struct Scrape<'a> {
    pub collector: &'a Collector,
    /// The reports of a node; the collector is empty then.
    pub node: Option<&'a Node>,
    pub counts: &'a Counts,
    pub report_writes: u64,
    pub report_write_errors: u64,
    pub started_at: SystemTime,
}

/// The resources that snoop's own process uses.
struct Process {
    cpu: Duration,
    resident_bytes: u64,
    virtual_bytes: u64,
    open_fds: u64,
    max_fds: u64,
}

impl Process {
    fn look() -> Process {
        let usage = sys::limits::usage();
        // The file counts in pages.
        let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let mut pages = statm.split(' ').map(|n| n.parse::<u64>().unwrap_or(0));
        let mut bytes = || pages.next().unwrap_or(0) * sys::mapping::page_size() as u64;
        Process {
            cpu: usage.cpu,
            virtual_bytes: bytes(),
            resident_bytes: bytes(),
            open_fds: fs::read_dir("/proc/self/fd").map_or(0, |fds| fds.count() as u64),
            max_fds: usage.max_fds,
        }
    }
}

/// The scrape, with the values that several metrics need.
struct Values<'a> {
    scrape: &'a Scrape<'a>,
    totals: Totals,
    process: Process,
}

enum Kind {
    Counter,
    Gauge,
}

/// How to compute a metric: one number, or a series for each value of a label.
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

impl Metric {
    /// Returns whether the metric is about the containers of a single report.
    fn needs_collector(&self) -> bool {
        let others = ["process_", "snoop_report_", "snoop_build_"];
        !others.iter().any(|prefix| self.name.starts_with(prefix))
    }
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
        "Accesses excluded by -exclude, made by the container runtime, or to pseudo file systems.",
        |v| v.totals.excluded as f64,
    ),
    counter("snoop_events_failed_total", "Accesses that failed.", |v| {
        v.totals.failed as f64
    }),
    counter(
        "snoop_events_dropped_total",
        "Accesses that were lost and are not in the report.",
        |v| v.totals.dropped as f64,
    ),
    counter(
        "snoop_events_evicted_total",
        "Files evicted because of -max-unique-files.",
        |v| v.totals.evicted as f64,
    ),
    gauge(
        "snoop_unique_files",
        "Files in the report; a file that several containers used counts once.",
        |v| v.scrape.collector.files() as f64,
    ),
    gauge(
        "snoop_last_new_file_timestamp_seconds",
        "When a file was used that had not been used before, since the epoch; 0 if there was none.",
        |v| {
            let last = v.scrape.collector.last_new_file_at();
            let since_epoch = last.and_then(|last| last.duration_since(UNIX_EPOCH).ok());
            since_epoch.unwrap_or_default().as_secs_f64()
        },
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
        Series::Labelled(|v| by_container(v, |c, _| c.files().len() as u64)),
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
        |v| v.process.cpu.as_secs_f64(),
    ),
    gauge(
        "process_resident_memory_bytes",
        "Resident memory in bytes.",
        |v| v.process.resident_bytes as f64,
    ),
    gauge(
        "process_virtual_memory_bytes",
        "Virtual memory in bytes.",
        |v| v.process.virtual_bytes as f64,
    ),
    gauge("process_open_fds", "Open file descriptors.", |v| {
        v.process.open_fds as f64
    }),
    gauge("process_max_fds", "Limit of open file descriptors.", |v| {
        v.process.max_fds as f64
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

/// Returns a series for each container in the report: those that are traced, and some that have ended.
fn by_container(values: &Values, value: fn(&Container, u64) -> u64) -> Vec<(String, f64)> {
    let Scrape {
        collector, counts, ..
    } = values.scrape;
    let series = collector.containers().map(|container| {
        let path = escaped(&encode_name(&container.cgroup().path));
        let events = container.events(counts);
        (
            format!("cgroup=\"{path}\""),
            value(container, events) as f64,
        )
    });
    series.collect()
}

/// Escapes the backslashes, quotes and newlines in the value of a label.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// Returns a series for each syscall that was seen.
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

/// Returns the text of all metrics.
pub fn render(scrape: &Scrape) -> String {
    render_with(scrape, Process::look())
}

fn render_with(scrape: &Scrape, process: Process) -> String {
    let values = Values {
        scrape,
        totals: scrape.collector.totals(scrape.counts),
        process,
    };
    let mut text = String::new();
    let metrics: Vec<&Metric> = match scrape.node {
        None => METRICS.iter().collect(),
        Some(_) => {
            let of_report = METRICS.iter().filter(|metric| !metric.needs_collector());
            node::METRICS.iter().chain(of_report).collect()
        }
    };
    for metric in metrics {
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
    use crate::collect::sample;
    use crate::report::golden::assert_golden;

    #[test]
    fn labels_may_contain_any_name() {
        assert_eq!(escaped("/a\"b\\c\nd"), "/a\\\"b\\\\c\\nd");
    }

    /// The table in the README has the same metrics in the same order and of the same types.
    #[test]
    fn the_readme_has_every_metric() {
        let readme = include_str!("../README.md");
        let (_, table) = readme
            .split_once("| metric | type | |\n| --- | --- | --- |\n")
            .unwrap();
        let rows = table.lines().take_while(|line| !line.is_empty());
        let found: Vec<_> = rows
            .map(|row| {
                let mut cells = row.split(" | ");
                let name = cells.next().unwrap().trim_matches(['|', ' ', '`']);
                (name.split('{').next().unwrap(), cells.next().unwrap())
            })
            .collect();
        let kind = |metric: &Metric| match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let expected: Vec<_> = METRICS.iter().map(|m| (m.name, kind(m))).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_text_is_the_golden_one() {
        let collector = sample::collector();
        let scrape = Scrape {
            collector: &collector,
            node: None,
            counts: &Counts::default(),
            report_writes: 12,
            report_write_errors: 1,
            started_at: UNIX_EPOCH + Duration::from_millis(1_768_473_000_250),
        };
        let process = Process {
            cpu: Duration::from_millis(1250),
            resident_bytes: 5 << 20,
            virtual_bytes: 9 << 20,
            open_fds: 23,
            max_fds: 1 << 20,
        };
        let text = render_with(&scrape, process);
        let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
        let text = text.replace(&version, "version=\"…\"");
        assert_golden("metrics.txt", &text);
        let of_syscalls = by_syscall(&Values {
            scrape: &scrape,
            totals: Totals::default(),
            process: Process::look(),
        });
        let sum: f64 = of_syscalls.iter().map(|(_, n)| n).sum();
        assert_eq!(sum, collector.totals(&Counts::default()).total as f64);
    }

    #[test]
    fn the_metrics_describe_this_process() {
        let process = Process::look();
        assert!(process.resident_bytes > 0 && process.virtual_bytes > process.resident_bytes);
        assert!(process.open_fds >= 3 && process.max_fds >= process.open_fds);
    }
}
