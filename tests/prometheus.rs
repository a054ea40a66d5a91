// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests with Prometheus itself: promtool has no complaints, and a server scrapes every metric.

mod common;

use common::{Sidecar, TestCgroup, get, helper, wait_until};
use serde_json::Value;
use snoop::metrics::METRICS;
use std::io::Write;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

struct Server {
    process: Child,
    port: u16,
}

impl Server {
    /// Starts a Prometheus that scrapes `target` every second.
    fn start(target: u16, directory: &std::path::Path) -> Server {
        let config = directory.join("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs:\n  - job_name: snoop\n    static_configs: [{{targets: ['127.0.0.1:{target}']}}]\n"
        );
        std::fs::write(&config, text).unwrap();
        let port = 9091;
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                directory.join("data").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus runs");
        wait_until(|| TcpStream::connect(("127.0.0.1", port)).is_ok());
        Server { process, port }
    }

    /// Returns the series that a query finds.
    fn query(&self, query: &str) -> Vec<Value> {
        let (_, body) = get(self.port, &format!("/api/v1/query?query={query}"));
        let answer: Value = serde_json::from_str(&body).unwrap_or_default();
        answer["data"]["result"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn prometheus_accepts_every_metric() {
    common::container::own_network();
    let cgroup = TestCgroup::make("prometheus");
    let directory = tempfile::tempdir().unwrap();
    let traced = format!("-cgroup={}", cgroup.path());
    let sidecar = Sidecar::start(&[&traced], &directory.path().join("report.json"));
    let work = cgroup.command(helper()).args(["fails", "7"]).status();
    assert!(work.unwrap().success());

    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool runs");
    let text = get(sidecar.port, "/metrics").1;
    promtool
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    assert!(output.status.success());

    let server = Server::start(sidecar.port, directory.path());
    let value = |query: &str| server.query(query).first().map(|s| s["value"][1].clone());
    wait_until(|| value("up") == Some("1".into()));
    for metric in METRICS {
        assert!(!server.query(metric.name).is_empty(), "{}", metric.name);
    }
    assert_eq!(
        value("snoop_events_total%7Bsyscall=%22stat%22%7D"),
        Some("7".into())
    );
    let parts = "snoop_events_processed_total%2Bsnoop_events_duplicate_total%2Bsnoop_events_excluded_total\
        %2Bsnoop_events_failed_total%2Bsnoop_events_dropped_total";
    assert_eq!(
        value("sum(snoop_events_total)"),
        value(&format!("sum({parts})"))
    );
}
