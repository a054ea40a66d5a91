// SPDX-License-Identifier: MIT OR Apache-2.0
//! What applications notice of being traced: throughput and latency of nginx, Redis and PostgreSQL under load. `make bench`.
//!
//! The server runs in a cgroup that is traced, untraced, or the neighbour of a traced one, by turns. The client runs outside.

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "ratios/mod.rs"]
mod ratios;

use common::TestCgroup;
use ratios::Measured;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const RUNS: usize = 7;
const SECONDS: &str = "3";

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Untraced,
    Traced,
    Neighbour,
}

const MODES: [Mode; 3] = [Mode::Untraced, Mode::Traced, Mode::Neighbour];

/// What the client saw of one run.
struct Seen {
    requests_per_second: f64,
    /// In milliseconds.
    p50: f64,
    p99: f64,
}

struct Application {
    name: &'static str,
    port: &'static str,
    /// Starts the server. Its files are in the directory.
    serve: fn(&TestCgroup, &Path) -> Child,
    load: fn(&Path) -> Seen,
}

const APPLICATIONS: [Application; 4] = [
    Application {
        name: "nginx: a file of 612 bytes, keep-alive, 2 connections",
        port: "18181",
        serve: nginx,
        load: wrk,
    },
    Application {
        name: "Redis: GET",
        port: "18182",
        serve: redis,
        load: |_| redis_benchmark("get"),
    },
    Application {
        name: "Redis: SET",
        port: "18182",
        serve: redis,
        load: |_| redis_benchmark("set"),
    },
    Application {
        name: "PostgreSQL: pgbench, 2 clients",
        port: "18183",
        serve: postgres,
        load: pgbench,
    },
];

fn main() {
    println!("| | | untraced | traced | neighbour | traced / untraced | neighbour / untraced |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let (here, elsewhere) = (TestCgroup::make("app"), TestCgroup::make("app-elsewhere"));
    for application in &APPLICATIONS {
        let mut seen = MODES.map(|_| Vec::new());
        for _ in 0..RUNS {
            for (mode, seen) in MODES.into_iter().zip(&mut seen) {
                seen.push(run(application, mode, &here, &elsewhere));
            }
        }
        type Value = fn(&Seen) -> f64;
        let values: [(&str, Value); 3] = [
            ("time a request", |seen| 1e3 / seen.requests_per_second),
            ("p50", |seen| seen.p50),
            ("p99", |seen| seen.p99),
        ];
        for (what, value) in values {
            print_row(
                application.name,
                what,
                seen.each_ref().map(|seen| seen.iter().map(value).collect()),
            );
        }
    }
}

/// Prints a row of milliseconds, and records its ratios.
fn print_row(application: &str, what: &str, [untraced, traced, neighbour]: [Vec<f64>; 3]) {
    let of_traced = Measured::ratio(&traced, &untraced);
    let of_neighbour = Measured::ratio(&neighbour, &untraced);
    of_traced.record("traced / untraced", &format!("{application}, {what}"));
    of_neighbour.record("neighbour / untraced", &format!("{application}, {what}"));
    let ms = |values| format!("{:.3} ms", Measured::of(values).value);
    let ratio = |Measured { value, noise }| format!("{value:.2} ± {noise:.2}");
    println!(
        "| {application} | {what} | {} | {} | {} | {} | {} |",
        ms(untraced),
        ms(traced),
        ms(neighbour),
        ratio(of_traced),
        ratio(of_neighbour)
    );
}

fn run(application: &Application, mode: Mode, here: &TestCgroup, elsewhere: &TestCgroup) -> Seen {
    let directory = tempfile::tempdir().unwrap();
    let everybody = fs::Permissions::from_mode(0o755);
    fs::set_permissions(directory.path(), everybody).unwrap();
    let report = directory.path().join("report.json");
    let traced = match mode {
        Mode::Untraced => None,
        Mode::Traced => Some(here),
        Mode::Neighbour => Some(elsewhere),
    };
    let sidecar = traced.map(|cgroup| {
        common::Sidecar::start(&["-cgroup", &cgroup.path(), "-interval=1s"], &report)
    });
    let mut server = (application.serve)(here, directory.path());
    wait_for(application.port);
    let seen = (application.load)(directory.path());
    common::signal(&server, "INT");
    server.wait().unwrap();
    if let Some(sidecar) = sidecar {
        sidecar.stop("TERM");
    }
    seen
}

fn wait_for(port: &str) {
    let start = Instant::now();
    while std::net::TcpStream::connect(format!("127.0.0.1:{port}")).is_err() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "nothing listens on port {port}"
        );
        sleep(Duration::from_millis(20));
    }
}

/// Returns what a client printed.
fn text(client: &mut Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = client.output().unwrap();
    let text = String::from_utf8(stdout).unwrap();
    assert!(
        status.success(),
        "{client:?}: {text}{}",
        String::from_utf8_lossy(&stderr)
    );
    text
}

fn nginx(cgroup: &TestCgroup, directory: &Path) -> Child {
    fs::write(directory.join("index.html"), "x".repeat(612)).unwrap();
    let root = directory.display();
    let configuration = format!(
        "worker_processes 1; daemon off; pid {root}/pid; error_log {root}/error;
events {{}} http {{ access_log {root}/access; server {{ listen 127.0.0.1:18181; root {root}; }} }}"
    );
    fs::write(directory.join("nginx.conf"), configuration).unwrap();
    let file = directory.join("nginx.conf");
    let mut command = cgroup.command("nginx");
    command.arg("-c").arg(file).spawn().unwrap()
}

fn wrk(_: &Path) -> Seen {
    let url = "http://127.0.0.1:18181/index.html";
    let printed = text(Command::new("wrk").args(["-t1", "-c2", "--latency", "-d", SECONDS, url]));
    let after = |label: &str| {
        let line = printed
            .lines()
            .find_map(|line| line.trim().strip_prefix(label));
        line.unwrap_or_else(|| panic!("no {label} in {printed}"))
            .trim()
    };
    // Such as 91.00us or 1.20ms.
    let ms = |time: &str| match time.strip_suffix("us") {
        Some(us) => us.parse::<f64>().unwrap() / 1e3,
        None => time.trim_end_matches("ms").parse().unwrap(),
    };
    Seen {
        requests_per_second: after("Requests/sec:").parse().unwrap(),
        p50: ms(after("50%")),
        p99: ms(after("99%")),
    }
}

fn redis(cgroup: &TestCgroup, directory: &Path) -> Child {
    let words = ["--port", "18182", "--bind", "127.0.0.1", "--save", ""];
    let mut command = cgroup.command("redis-server");
    command.args(words).arg("--dir").arg(directory);
    command.stdout(Stdio::null()).spawn().unwrap()
}

fn redis_benchmark(test: &str) -> Seen {
    let words = [
        "-p", "18182", "-c", "2", "-n", "100000", "--csv", "-t", test,
    ];
    let printed = text(Command::new("redis-benchmark").args(words));
    // "test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms"
    let last = printed.lines().last().expect("a line for the test");
    let column = |at: usize| {
        let value = last.split(',').nth(at).expect("eight columns");
        value.trim_matches('"').parse::<f64>().unwrap()
    };
    Seen {
        requests_per_second: column(1),
        p50: column(4),
        p99: column(6),
    }
}

fn postgres_tool(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is installed");
    let newest = versions.map(|entry| entry.unwrap().path()).max();
    newest
        .expect("PostgreSQL is installed")
        .join("bin")
        .join(name)
}

fn as_postgres(mut command: Command) -> Command {
    // PostgreSQL does not run as root.
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    command
}

fn postgres(cgroup: &TestCgroup, directory: &Path) -> Child {
    let data = directory.join("data");
    fs::create_dir(&data).unwrap();
    text(Command::new("chown").arg("postgres").arg(&data));
    let mut initdb = as_postgres(Command::new("setpriv"));
    initdb
        .arg(postgres_tool("initdb"))
        .args(["-N", "-A", "trust", "-D"]);
    text(initdb.arg(&data));
    let mut server = as_postgres(cgroup.command("setpriv"));
    let socket = format!("unix_socket_directories={}", data.display());
    server.arg(postgres_tool("postgres")).arg("-D").arg(&data);
    server.args(["-p", "18183", "-h", "127.0.0.1", "-c", &socket, "-F"]);
    server.stderr(Stdio::null()).spawn().unwrap()
}

fn pgbench(directory: &Path) -> Seen {
    let pgbench = || {
        let mut command = Command::new(postgres_tool("pgbench"));
        command.current_dir(directory);
        command.args(["-h", "127.0.0.1", "-p", "18183", "-U", "postgres"]);
        command
    };
    // The server listens before it is ready.
    let is_ready = || {
        let words = ["-q", "-h", "127.0.0.1", "-p", "18183"];
        let status = Command::new(postgres_tool("pg_isready"))
            .args(words)
            .status();
        status.unwrap().success()
    };
    common::wait_until(is_ready);
    text(pgbench().args(["-i", "-q", "postgres"]));
    text(pgbench().args(["-n", "-c", "2", "-l", "-T", SECONDS, "postgres"]));
    // A line for each transaction; the third word is its time in microseconds.
    let logs = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let log = logs.filter(|path| path.to_string_lossy().contains("pgbench_log"));
    let log = fs::read_to_string(log.last().expect("pgbench wrote a log")).unwrap();
    let times = log
        .lines()
        .filter_map(|line| line.split(' ').nth(2)?.parse::<f64>().ok());
    let mut times: Vec<_> = times.map(|us| us / 1e3).collect();
    times.sort_by(f64::total_cmp);
    Seen {
        requests_per_second: times.len() as f64 / SECONDS.parse::<f64>().unwrap(),
        p50: times[times.len() / 2],
        p99: times[times.len() * 99 / 100],
    }
}
