// SPDX-License-Identifier: MIT OR Apache-2.0
//! The listener of a running snoop, tested over raw sockets.

mod common;

use common::{
    Report, Sidecar, TestCgroup, exchange, get, helper, metrics, signal, snoop, status, wait_until,
};
use snoop::http::{IDLE_TIMEOUT, SLOTS};
use snoop::metrics::METRICS;
use snoop::sys::mapping::page_size;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

fn make_files(directory: &Path, n: usize) {
    for i in 0..n {
        fs::write(directory.join(format!("0-{i}")), "").unwrap();
    }
}

fn work(cgroup: &TestCgroup, arguments: &[&str]) {
    let status = cgroup.command(helper()).args(arguments).status();
    assert!(status.unwrap().success());
}

struct Setting {
    cgroup: TestCgroup,
    directory: tempfile::TempDir,
    sidecar: Sidecar,
}

fn set_up(name: &str, flags: &[&str]) -> Setting {
    let cgroup = TestCgroup::make(name);
    let directory = tempfile::tempdir().unwrap();
    let traced = format!("-cgroup={}", cgroup.path());
    let reports = directory.path().join("reports");
    fs::create_dir(&reports).unwrap();
    let sidecar = Sidecar::start(&[&[&traced[..]], flags].concat(), &reports.join("r.json"));
    Setting {
        cgroup,
        directory,
        sidecar,
    }
}

#[test]
fn metrics_add_up() {
    let Setting {
        cgroup,
        directory,
        sidecar,
    } = set_up("metrics", &[]);
    make_files(directory.path(), 1);
    let top = directory.path().to_str().unwrap();
    work(&cgroup, &["opens", "1", top]);
    let before = metrics(sidecar.port);
    work(&cgroup, &["opens", "1", top]);
    work(&cgroup, &["fails", "1009"]);
    let after = metrics(sidecar.port);

    let grown = |name: &str| after[name] - before.get(name).copied().unwrap_or(0.0);
    assert_eq!(grown("snoop_events_failed_total"), 1009.0);
    assert_eq!(grown("snoop_events_total{syscall=\"stat\"}"), 1009.0);
    assert_eq!(grown("snoop_events_total{syscall=\"execve\"}"), 2.0);
    assert_eq!(grown("snoop_events_processed_total"), 0.0);
    // Two executions and one open.
    assert_eq!(grown("snoop_events_duplicate_total"), 3.0);
    assert_eq!(after["snoop_unique_files"], 2.0);
    assert_eq!(after["snoop_containers"], 1.0);
    for scrape in [&before, &after] {
        let sum = |names: &[&str]| -> f64 {
            names
                .iter()
                .map(|n| scrape[&format!("snoop_events_{n}_total")])
                .sum()
        };
        let parts = sum(&["processed", "duplicate", "excluded", "failed", "dropped"]);
        let by_syscall = scrape
            .iter()
            .filter(|(name, _)| name.starts_with("snoop_events_total{"));
        assert_eq!(by_syscall.map(|(_, n)| n).sum::<f64>(), parts);
    }
    // The kernel's own number, which may change between the two looks.
    let statm = fs::read_to_string(format!("/proc/{}/statm", sidecar.child.id())).unwrap();
    let pages: f64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    let ratio = after["process_resident_memory_bytes"] / (pages * page_size() as f64);
    assert!((0.5..2.0).contains(&ratio), "{ratio}");
    assert!(after["process_open_fds"] > 5.0);

    // Every metric of the table is there, with its two lines of description.
    let (_, body) = get(sidecar.port, "/metrics");
    for metric in METRICS {
        assert!(body.contains(&format!(
            "# HELP {} {}\n# TYPE {} ",
            metric.name, metric.help, metric.name
        )));
        assert!(
            after
                .keys()
                .any(|name| name.split('{').next() == Some(metric.name))
        );
    }
}

#[test]
fn the_report_is_current_and_whole() {
    let Setting {
        cgroup,
        directory,
        sidecar,
    } = set_up("report", &[]);
    make_files(directory.path(), 1);
    let top = directory.path().to_str().unwrap();
    work(&cgroup, &["opens", "1", top]);
    let (head, body) = get(sidecar.port, "/report");
    assert_eq!(status(&head), 200);
    assert!(head.contains("Content-Type: application/json"));
    let report = Report::parse(body.as_bytes());
    assert_eq!(report.files.len(), 2);
    report.assert_complete();

    // Without its directory the report comes from memory, and health says why.
    let health = get(sidecar.port, "/healthz").1;
    assert!(health.starts_with("ok; hooks: "), "{health}");
    let (reports, away) = (
        directory.path().join("reports"),
        directory.path().join("away"),
    );
    fs::rename(&reports, &away).unwrap();
    work(&cgroup, &["nop"]);
    fs::write(directory.path().join("new"), "").unwrap();
    let script = format!(": < {top}/new");
    let shell = cgroup.command("/bin/sh").args(["-c", &script]).status();
    assert!(shell.unwrap().success());
    let report = Report::parse(get(sidecar.port, "/report").1.as_bytes());
    assert!(report.files.contains(format!("{top}/new").as_bytes()));
    let (head, body) = get(sidecar.port, "/healthz");
    assert_eq!(status(&head), 503);
    assert!(
        body.starts_with("the last report could not be written: No such file"),
        "{body}"
    );
    assert!(metrics(sidecar.port)["snoop_report_write_errors_total"] >= 1.0);
    fs::rename(&away, &reports).unwrap();
    get(sidecar.port, "/report");
    assert_eq!(status(&get(sidecar.port, "/healthz").0), 200);
}

/// strace makes the call fail by which snoop queries its programs, as if the programs were gone.
#[test]
fn health_notices_that_the_programs_are_not_running() {
    let sidecar = set_up("gone", &[]).sidecar;
    assert_eq!(status(&get(sidecar.port, "/healthz").0), 200);
    let mut strace = sidecar.inject("getcpu", "error=ENOSYS");
    wait_until(|| {
        let (head, body) = get(sidecar.port, "/healthz");
        status(&head) == 503
            && body == "the BPF programs are not running: nothing is being traced\n"
    });
    common::signal(&strace, "INT");
    strace.wait().unwrap();
    assert_eq!(status(&get(sidecar.port, "/healthz").0), 200);
}

/// `snoop health`, for images that contain no other program.
#[test]
fn health_as_a_command() {
    let Setting {
        sidecar,
        directory,
        cgroup: _cgroup,
    } = set_up("health", &["-interval=1s"]);
    let report = directory.path().join("reports/r.json");
    let ask = |address: &str| {
        let output = snoop()
            .args(["health", "-metrics-addr", address])
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    let port = sidecar.port;
    let ok = (Some(0), get(port, "/healthz").1, String::new());
    assert!(ok.1.starts_with("ok; hooks: "), "{}", ok.1);
    assert_eq!(ask(&format!(":{port}")), ok);
    assert_eq!(ask(&format!("localhost:{port}")), ok);
    let by_variable = snoop()
        .arg("health")
        .env("SNOOP_METRICS_ADDR", format!("127.0.0.1:{port}"))
        .env("SNOOP_LOG_LEVEL", "debug")
        .status();
    assert!(by_variable.unwrap().success());

    // The report can no longer be written.
    wait_until(|| report.exists());
    fs::remove_file(&report).unwrap();
    fs::create_dir(&report).unwrap();
    signal(&sidecar.child, "HUP");
    wait_until(|| ask(&format!(":{port}")).0 == Some(1));
    let (_, said, _) = ask(&format!(":{port}"));
    assert!(
        said.starts_with("the last report could not be written"),
        "{said}"
    );
    fs::remove_dir(&report).unwrap();

    let another = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = another.local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let speak = |greeting: &'static str| {
        let another = another.try_clone().unwrap();
        thread::spawn(move || another.accept().unwrap().0.write_all(greeting.as_bytes()))
    };
    let speaking = speak("220 mail server\r\n");
    let (status, _, said) = ask(&address);
    speaking.join().unwrap().unwrap();
    assert!(status == Some(1) && said.contains(&address), "{said}");
    drop(another);
    let (status, _, said) = ask(&address);
    assert!(
        status == Some(1) && said.contains("Connection refused"),
        "{said}"
    );
    sidecar.stop("TERM");
}

#[test]
fn a_large_report_is_sent_while_records_come_in() {
    let Setting {
        cgroup,
        directory,
        sidecar,
    } = set_up("large", &[]);
    const FILES: usize = 100_000;
    let files = directory.path().join("files");
    fs::create_dir(&files).unwrap();
    make_files(&files, FILES);
    let top = files.to_str().unwrap();
    let open_all = format!("for f in {top}/*; do : < $f; done");
    let mut rounds = 0;
    // On a busy machine some accesses are lost, and reported again at their next use.
    let report = loop {
        let mut shell = cgroup
            .command("/bin/sh")
            .args(["-c", &open_all])
            .spawn()
            .unwrap();
        while shell.try_wait().unwrap().is_none() {
            Report::parse(get(sidecar.port, "/report").1.as_bytes());
            assert_eq!(status(&get(sidecar.port, "/healthz").0), 200);
        }
        let report = Report::parse(get(sidecar.port, "/report").1.as_bytes());
        if report.files.len() > FILES {
            break report;
        }
        rounds += 1;
        assert!(rounds < 10, "some accesses are always lost");
    };

    // A slow reader gets the report that it asked for, although another one is written meanwhile. snoop sends it in
    // pieces and never holds the whole report in memory.
    let before = metrics(sidecar.port)["process_resident_memory_bytes"];
    let mut slow = TcpStream::connect(("127.0.0.1", sidecar.port)).unwrap();
    slow.write_all(b"GET /report HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = vec![0; 1 << 16];
    slow.read_exact(&mut answer).unwrap();
    work(&cgroup, &["fails", "1"]);
    get(sidecar.port, "/report");
    for _ in 0..20 {
        let mut piece = vec![0; 1 << 17];
        slow.read_exact(&mut piece).unwrap();
        answer.extend(piece);
        std::thread::sleep(Duration::from_millis(20));
    }
    let after = metrics(sidecar.port)["process_resident_memory_bytes"];
    slow.read_to_end(&mut answer).unwrap();
    let body = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap()
        + 4;
    assert!(answer.len() > 6 << 20, "larger than the buffers");
    assert_eq!(Report::parse(&answer[body..]).files, report.files);
    assert!(after - before < 1e6, "{before} {after}");
}

#[test]
fn valid_and_invalid_requests() {
    let sidecar = set_up("clients", &[]).sidecar;
    let first = |bytes: &[u8]| status(&exchange(sidecar.port, bytes));
    assert_eq!(status(&get(sidecar.port, "/nothing").0), 404);
    assert_eq!(first(b"GET /healthz HTTP/1.0\r\n\r\n"), 200);
    assert_eq!(first(b"POST /metrics HTTP/1.1\r\nHost: x\r\n\r\n"), 405);
    assert_eq!(first(b"\x16\x03\x01 hello\n\n"), 400);
    assert_eq!(first(&[b'x'; 9000]), 431);
    let head = exchange(sidecar.port, b"HEAD /metrics HTTP/1.0\r\n\r\n");
    assert!(
        head.ends_with("\r\n\r\n") && head.contains("Content-Length: ") && !head.contains("# HELP")
    );

    // Several requests at once, and one in pieces, on a connection that is kept alive.
    let request = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    let last = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answers = exchange(sidecar.port, format!("{request}{request}{last}").as_bytes());
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 3);
    let mut stream = TcpStream::connect(("127.0.0.1", sidecar.port)).unwrap();
    for piece in last.as_bytes().chunks(7) {
        stream.write_all(piece).unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"));

    // The client closes its half after the request.
    let mut stream = TcpStream::connect(("127.0.0.1", sidecar.port)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"));
}

#[test]
fn a_thousand_slow_connections_do_not_block_others() {
    let Setting {
        cgroup,
        directory,
        sidecar,
    } = set_up("slow", &[]);
    make_files(directory.path(), 1);
    let top = directory.path().to_str().unwrap();
    let idle = metrics(sidecar.port);
    let before = idle["process_resident_memory_bytes"];
    let mut slow = Vec::new();
    for i in 0..1000 {
        let mut stream = TcpStream::connect(("127.0.0.1", sidecar.port)).unwrap();
        // snoop may have closed the connection already.
        let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: ");
        slow.push(stream);
        if i % 100 == 0 {
            work(&cgroup, &["opens", "1", top]);
            assert_eq!(status(&get(sidecar.port, "/healthz").0), 200);
        }
    }
    let after = metrics(sidecar.port);
    assert_eq!(after["snoop_events_dropped_total"], 0.0);
    assert_eq!(after["snoop_unique_files"], 2.0);
    assert!(after["process_open_fds"] <= idle["process_open_fds"] + SLOTS as f64);
    assert!(after["process_resident_memory_bytes"] - before < 1e6);
    drop(slow);
    // The slots are free again after their clients have gone.
    let idle = after["process_open_fds"];
    wait_until(|| metrics(sidecar.port)["process_open_fds"] < idle - 10.0);
}

#[test]
fn a_connection_without_progress_is_closed() {
    let sidecar = set_up("patience", &[]).sidecar;
    let start = std::time::Instant::now();
    let mut stream = TcpStream::connect(("127.0.0.1", sidecar.port)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    // A byte now and then does not help, because the whole request has to arrive in time.
    let mut byte = [0];
    for next in b"GET /healthz HTTP/1.1\r\nHost: much-too-slow"
        .iter()
        .cycle()
    {
        if stream.write_all(&[*next]).is_err() || matches!(stream.read(&mut byte), Ok(0)) {
            break;
        }
        assert!(start.elapsed() < IDLE_TIMEOUT * 2, "it is still open");
    }
    assert!(start.elapsed() >= IDLE_TIMEOUT);
    assert_eq!(status(&get(sidecar.port, "/healthz").0), 200);
}

#[test]
fn a_flood_of_requests_delays_no_record() {
    let Setting {
        cgroup,
        directory,
        sidecar,
    } = set_up("flood", &[]);
    let files = directory.path().join("files");
    fs::create_dir(&files).unwrap();
    make_files(&files, 20_000);
    let open_all = format!("for f in {}/*; do : < $f; done", files.display());
    let (over, requests) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let flood = || {
            while !over.load(Ordering::Relaxed) {
                assert_eq!(status(&get(sidecar.port, "/metrics").0), 200);
                requests.fetch_add(1, Ordering::Relaxed);
            }
        };
        (0..4).for_each(|_| _ = scope.spawn(flood));
        // The requests begin before the first record and continue until the last one.
        wait_until(|| requests.load(Ordering::Relaxed) > 20);
        let shell = cgroup.command("/bin/sh").args(["-c", &open_all]).status();
        over.store(true, Ordering::Relaxed);
        assert!(shell.unwrap().success());
    });
    let after = metrics(sidecar.port);
    assert_eq!(after["snoop_events_dropped_total"], 0.0);
    assert!(after["snoop_unique_files"] > 20_000.0);
    let container = format!(
        "snoop_container_unique_files{{cgroup=\"{}\"}}",
        cgroup.path()
    );
    assert_eq!(after[&container], after["snoop_unique_files"]);
}

#[test]
fn a_port_alone_means_all_ipv4_and_ipv6_addresses() {
    common::container::own_network();
    let directory = tempfile::tempdir().unwrap();
    let mut run = snoop();
    run.args([
        "run",
        "-report",
        "r.json",
        "-metrics-addr=:9090",
        "sleep",
        "1000",
    ]);
    let child = run.current_dir(directory.path()).spawn().unwrap();
    for host in ["127.0.0.1", "::1"] {
        wait_until(|| TcpStream::connect((host, 9090)).is_ok());
    }
    common::signal(&child, "TERM");
    assert_eq!(
        child.wait_with_output().unwrap().status.code(),
        Some(128 + 15)
    );
}

#[test]
fn an_address_that_cannot_be_used() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for (address, words) in [
        (
            format!("127.0.0.1:{port}"),
            ["in use", "choose another port"], // the C libraries word it differently
        ),
        (
            "192.0.2.1:9090".into(),
            ["ddress", "an address of this host"],
        ),
    ] {
        let flag = format!("-metrics-addr={address}");
        let output = snoop()
            .args(["run", "-report=-", &flag, "true"])
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(said.lines().count(), 1, "{said}");
        for word in [&flag[..], words[0], words[1]] {
            assert!(said.contains(word), "no {word:?} in: {said}");
        }
    }
}

#[test]
fn curl_and_python() {
    let sidecar = set_up("real", &[]).sidecar;
    let url = |path: &str| format!("http://127.0.0.1:{}{path}", sidecar.port);
    let curl = |arguments: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args([
            "-sS",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code} %{num_connects} ",
        ]);
        let output = curl.args(arguments).output().expect("curl runs");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        String::from_utf8(output.stdout).unwrap()
    };
    // The second request uses the connection of the first.
    let (metrics, health) = (url("/metrics"), url("/healthz"));
    assert_eq!(
        curl(&[&metrics, "-o", "/dev/null", &health]),
        "200 1 200 0 "
    );
    assert_eq!(curl(&["-I", &metrics]), "200 1 ");
    assert_eq!(curl(&["--http1.0", &metrics]), "200 1 ");
    assert_eq!(curl(&["-d", "body", &metrics]), "405 1 ");
    assert_eq!(curl(&[&url("/nothing")]), "404 1 ");

    let script = "import http.client, json, sys
c = http.client.HTTPConnection('127.0.0.1', int(sys.argv[1]))
for i in range(3):
    c.request('GET', '/report')
    assert json.load(c.getresponse())['schema'] == 2
    c.request('HEAD', '/metrics')
    r = c.getresponse()
    assert r.status == 200 and int(r.headers['Content-Length']) > 100 and r.read() == b''
";
    let port = sidecar.port.to_string();
    let status = Command::new("/usr/bin/python3")
        .args(["-c", script, &port])
        .status();
    assert!(status.unwrap().success());
}

/// Bytes that are not a request, or hardly one. snoop answers with an error or not at all, and serves the next client.
#[test]
fn hostile_bytes() {
    let sidecar = set_up("hostile", &[]).sidecar;
    let long = |part: &str, n: usize| part.repeat(n).into_bytes();
    let corpus: Vec<Vec<u8>> = vec![
        b"\0\0\0\0\r\n\r\n".to_vec(),
        b"\r\n\r\n\r\n".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\n Host: x\r\n\r\n".to_vec(),
        b"GET /a\rb HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"GET /%0d%0aSet-Cookie:x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"\xff\xfe\xfd /metrics HTTP/1.1\r\n\r\n".to_vec(),
        b"GET /../../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_vec(),
        b"GET /nothing HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_vec(),
        long("GET / HTTP/1.1\r\n", 1000),
        long("a: b\r\n", 5000),
        long("\n", 20_000),
    ];
    for bytes in &corpus {
        let mut stream = TcpStream::connect(("127.0.0.1", sidecar.port)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        // snoop may close while the bytes are written, or reset the connection after its answer.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).unwrap();
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).to_string();
        assert!(
            answer.is_empty()
                || answer.starts_with("HTTP/1.1 4")
                || answer.starts_with("HTTP/1.1 505"),
            "{shown:?}: {answer}"
        );
        assert!(
            !answer.contains("Set-Cookie") && !answer.contains("root:"),
            "{shown:?}: {answer}"
        );
        assert_eq!(status(&get(sidecar.port, "/healthz").0), 200);
    }
}
