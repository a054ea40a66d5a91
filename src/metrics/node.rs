// SPDX-License-Identifier: MIT OR Apache-2.0
//! The metrics of `snoop node`, in place of those about a single report.

use super::{Kind, Metric, Series, Values, counter, escaped, gauge, metric};
use crate::bpf::counts::Counts;
use crate::bpf::syscalls;
use crate::bpf::wire::Outcome;
use crate::collect::container::Container;
use crate::node::Node;
use std::collections::HashSet;

fn node<'a>(values: &Values<'a>) -> &'a Node {
    values.scrape.node.expect("these are the metrics of a node")
}

pub const METRICS: &[Metric] = &[
    metric(
        Kind::Counter,
        "snoop_events_total",
        "File accesses seen in traced cgroups.",
        Series::Labelled(|v| {
            let seen = syscalls::counted_rows().map(|(row, name)| (name, v.scrape.counts.of(row)));
            let seen = seen.map(|(name, outcomes)| (name, outcomes.iter().sum::<u64>()));
            let malformed = [("unknown", node(v).malformed)];
            let seen = seen.chain(malformed).filter(|(_, n)| *n > 0);
            seen.map(|(name, n)| (format!("syscall=\"{name}\""), n as f64))
                .collect()
        }),
    ),
    counter(
        "snoop_events_dropped_total",
        "Accesses that were lost and are not in a report.",
        |v| {
            let counts = Outcome::LOST.map(|outcome| v.scrape.counts.sum(outcome));
            (counts.iter().sum::<u64>() + node(v).malformed) as f64
        },
    ),
    counter(
        "snoop_known_displaced_total",
        "Accesses that were forgotten because -known is too small; each is sent again at its next use.",
        |v| v.scrape.counts.displaced as f64,
    ),
    gauge(
        "snoop_unique_files",
        "Files of the images that run; a file of several images counts several times.",
        |v| node(v).files() as f64,
    ),
    gauge("snoop_containers", "Containers traced.", |v| {
        node(v).running().count() as f64
    }),
    gauge(
        "snoop_containers_excluded",
        "Containers that run and are excluded by a filter, or only hold a pod's namespaces.",
        |v| node(v).excluded() as f64,
    ),
    gauge(
        "snoop_containers_withheld",
        "Containers in no report because a filter needs a name that is not known.",
        |v| node(v).withheld() as f64,
    ),
    gauge("snoop_reports", "Reports in the directory.", |v| {
        node(v).stored().0 as f64
    }),
    gauge("snoop_reports_bytes", "Size of all reports.", |v| {
        node(v).stored().1 as f64
    }),
    counter(
        "snoop_reports_removed_total",
        "Reports removed because of -max-bytes.",
        |v| node(v).removed as f64,
    ),
    metric(
        Kind::Counter,
        "snoop_container_events_total",
        "File accesses of a container.",
        Series::Labelled(|v| by_container(v, |c, counts| c.events(counts))),
    ),
    metric(
        Kind::Gauge,
        "snoop_container_unique_files",
        "Files of a container in the report of its image.",
        Series::Labelled(|v| by_container(v, |c, _| c.files().len() as u64)),
    ),
    gauge(
        "snoop_series_left_out",
        "Series of containers left out because of -max-series.",
        |v| {
            let all = node(v).running().count();
            (METRICS_OF_CONTAINERS * all.saturating_sub(most(v))) as f64
        },
    ),
];

/// How many of the metrics have a series for each container.
const METRICS_OF_CONTAINERS: usize = 2;

/// Returns the most containers that have series.
fn most(values: &Values) -> usize {
    node(values).max_series() / METRICS_OF_CONTAINERS
}

/// Returns a series for each container that runs, as many as are allowed.
fn by_container(values: &Values, value: fn(&Container, &Counts) -> u64) -> Vec<(String, f64)> {
    let mut seen = HashSet::new();
    let series = node(values).running().take(most(values)).map(|container| {
        let pod = container.pod();
        let namespace = escaped(pod.map_or("", |pod| &pod.namespace));
        let pod = escaped(pod.map_or("", |pod| &pod.name));
        let name = escaped(&container.name());
        (
            format!("namespace=\"{namespace}\",pod=\"{pod}\",container=\"{name}\""),
            value(container, values.scrape.counts) as f64,
        )
    });
    // A reader refuses a text with the same series twice.
    series
        .filter(|(label, _)| seen.insert(label.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Kind;

    #[test]
    fn the_page_has_every_metric() {
        let page = include_str!("../../docs/node.md");
        let (_, table) = page
            .split_once("| metric | type | |\n| --- | --- | --- |\n")
            .unwrap();
        let found: Vec<_> = table.lines().take_while(|line| !line.is_empty()).collect();
        let row = |metric: &Metric| {
            let labels = match metric.name {
                "snoop_events_total" => "{syscall=\"…\"}",
                name if name.starts_with("snoop_container_") => {
                    "{namespace=\"…\",pod=\"…\",container=\"…\"}"
                }
                _ => "",
            };
            let kind = match metric.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
            };
            format!("| `{}{labels}` | {kind} | {} |", metric.name, metric.help)
        };
        let expected: Vec<_> = METRICS.iter().map(row).collect();
        let shown = expected.join("\n");
        assert_eq!(found, expected, "docs/node.md should have\n{shown}\n");
    }
}
