//! Flags and environment to a [`Command`]: one help text, one parse function.

use crate::closure::{Closure, Format};
use crate::destination::Destination;
use crate::error::{Error, Result};
use crate::http::Address;
use crate::kernel::Buffer;
use crate::log::Level;
use crate::metadata::Metadata;
use crate::path::Excludes;
use crate::unused::{Form, Unused};
use lexopt::prelude::*;
use std::ffi::{OsStr, OsString};
use std::iter::Peekable;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

pub const HELP: &str = "\
snoop watches which files the containers of a pod use and keeps a JSON report of them.

Usage:
  snoop [flags]                      in a pod: trace its other containers until SIGTERM
  snoop run [flags] -- COMMAND...    trace a command, exit with its status
  snoop check                        say whether this host can be traced
  snoop closure -root DIR REPORT...  what an image needs of DIR: a path a line,
                                     for tar -T, rsync --files-from, cpio
  snoop unused -root DIR REPORT...   what DIR has and no report lists

Which containers (neither flag: all of the own pod, but snoop's):
  -cgroup PATH           one cgroup: a directory, a path below the cgroup mount,
                         or @FILE that holds it
  -cgroups PATHS         several, separated by commas; @FILE may hold a path a line

Output:
  -report FILE           where the report goes, - for standard output
                         (default /data/snoop-report.json; run: snoop-report.json)
  -resume=BOOL           go on with the report that is there, if it is of the same pod
                         and image (default true; run: false)
  -interval TIME         between two writes, at least 1s, like 500ms, 30s, 1m30s
                         (default 30s)
  -exclude PREFIXES      leave out paths that begin so (default /proc/,/sys/,/dev/)
  -buffer NAME           how records leave the kernel: ring, perf (before Linux 5.8),
                         or auto (default)
  -max-unique-files N    keep at most N files per container; 0 is no limit (default 0)
  -metrics-addr ADDRESS  :port, host:port or [v6]:port; empty turns the listener off
                         (default :9090; run: empty). GET /metrics, /healthz, /report
  -log-level LEVEL       debug, info, warn or error (default info; run: warn)

Copied into the report:
  -container-id ID       -image NAME            -image-digest DIGEST
  -pod-name NAME         -namespace NAME        -labels KEY=VALUE,...

For closure and unused; a REPORT may be - for standard input:
  -root DIR              the directory that the image was unpacked into
  -0                     closure: end each path with a NUL
  -format NAME           closure: paths (from DIR), absolute (from the image's root)
                         or creport (JSON for slimmers); default paths
  -paths  -json          unused: all paths, or all findings, in place of a summary

  -help                  this text
  -version               version

Flags are written -flag=v, -flag v, --flag=v or --flag v. The environment variable
SNOOP_FLAG_NAME sets the same; a flag wins over it. POD_NAME, POD_NAMESPACE, POD_UID
and NODE_NAME are copied into the report too.

Exit status: 0 done, 1 failed while running, 2 wrong usage or configuration;
snoop run exits with the command's status, 128 + N if signal N ended it.
";

/// Flags that take a value, which may be left out of `-resume=true`; [`HELP`] names each of them.
const FLAGS: [&str; 16] = [
    "buffer",
    "resume",
    "cgroup",
    "cgroups",
    "report",
    "interval",
    "exclude",
    "max-unique-files",
    "metrics-addr",
    "log-level",
    "container-id",
    "image",
    "image-digest",
    "pod-name",
    "namespace",
    "labels",
];

#[derive(Debug, PartialEq)]
pub enum Command {
    Help,
    Version,
    Check,
    /// Trace the cgroups named in the configuration.
    Trace(Config),
    /// Trace a command.
    Run(Config, Vec<OsString>),
    Closure(Closure),
    Unused(Unused),
}

#[derive(Debug, PartialEq)]
pub struct Config {
    /// As given: names, or @FILE; empty means the own pod.
    pub cgroups: OsString,
    pub report: Destination,
    pub interval: Duration,
    pub excludes: Excludes,
    /// Where to listen; nowhere if `None`.
    pub metrics_addr: Option<Address>,
    pub log_level: Level,
    pub max_unique_files: usize,
    /// `None` is what suits the kernel.
    pub buffer: Option<Buffer>,
    /// Go on with the report that is there.
    pub resume: bool,
    pub metadata: Metadata,
}

/// Values of the flags, and where each came from: `-flag` or the variable.
struct Values(Vec<(&'static str, String, OsString)>);

impl Values {
    /// The value of a flag and how to call it in an error.
    fn get(&self, flag: &str) -> Option<(&str, &OsStr)> {
        let found = self.0.iter().rev().find(|(name, ..)| *name == flag)?;
        Some((&found.1, &found.2))
    }

    /// The value as text.
    fn text(&self, flag: &str) -> Result<Option<(&str, &str)>> {
        self.get(flag)
            .map(|(source, value)| {
                let text = value.to_str().ok_or_else(|| {
                    Error::usage(format!("{source}: {value:?} is not valid UTF-8"))
                })?;
                Ok((source, text))
            })
            .transpose()
    }

    /// The value as something that can be read from text; `wanted` says what would be right.
    fn parsed<T>(
        &self,
        flag: &str,
        wanted: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some((source, text)) = self.text(flag)? else {
            return Ok(None);
        };
        let value = parse(text);
        let wrong = || Error::usage(format!("{source}: {text:?} is not {wanted}"));
        value.map(Some).ok_or_else(wrong)
    }
}

/// Reads the words after the program's name, and the environment.
pub fn parse(
    words: impl IntoIterator<Item = OsString>,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<Command> {
    let mut words = words.into_iter().peekable();
    if words.next_if(|word| word == "check").is_some() {
        return match words.next() {
            None => Ok(Command::Check),
            Some(word) => Err(unexpected(&word)),
        };
    }
    for name in ["closure", "unused"] {
        if words.next_if(|word| word == name).is_some() {
            return tool(name, words);
        }
    }
    let run = words.next_if(|word| word == "run").is_some();

    let mut values = Values(Vec::new());
    for flag in FLAGS {
        let name = format!("SNOOP_{}", flag.to_uppercase().replace('-', "_"));
        if let Some(value) = environment(&name) {
            // Manifests set variables to nothing; only these mean something by it.
            if !value.is_empty() || matches!(flag, "exclude" | "metrics-addr") {
                values.0.push((flag, name, value));
            }
        }
    }
    let mut parser = lexopt::Parser::from_args(flags(&mut words));
    while let Some(arg) = parser.next().map_err(wrong)? {
        match arg {
            Long("help") | Short('h') => return Ok(Command::Help),
            Long("version") | Short('V') => return Ok(Command::Version),
            Long(name) => {
                let flag = FLAGS.into_iter().find(|flag| *flag == name);
                let flag = flag.ok_or_else(|| unknown(name))?;
                let value = match flag {
                    "resume" => Ok(parser.optional_value().unwrap_or("true".into())),
                    _ => parser.value(),
                };
                let value = value
                    .map_err(|_| Error::usage(format!("-{flag} needs a value: -{flag}=VALUE")))?;
                values.0.push((flag, format!("-{flag}"), value));
            }
            Short(letter) => return Err(unknown(&letter.to_string())),
            Value(word) => return Err(unexpected(&word)),
        }
    }
    let command: Vec<_> = words.collect();
    if let (false, Some(word)) = (run, command.first()) {
        return Err(unexpected(word));
    }
    let config = config(&values, &environment, run)?;
    match (run, command.is_empty()) {
        (true, true) => Err(Error::usage(
            "snoop run needs a command: snoop run [flags] -- COMMAND...",
        )),
        (true, false) => Ok(Command::Run(config, command)),
        (false, _) => Ok(Command::Trace(config)),
    }
}

/// The words behind `closure` or `unused`: a root, reports, and flags of each one's own.
fn tool(name: &str, words: impl Iterator<Item = OsString>) -> Result<Command> {
    let is_closure = name == "closure";
    let (mut root, mut reports, mut format, mut nul) = (None, Vec::new(), None, false);
    let mut form = Form::Summary;
    let mut parser = lexopt::Parser::from_args(words.map(two_dashes));
    while let Some(arg) = parser.next().map_err(wrong)? {
        match arg {
            Long("help") | Short('h') => return Ok(Command::Help),
            Long("root") => root = Some(parser.value().map_err(wrong)?),
            Long("format") if is_closure => {
                let name = parser.value().map_err(wrong)?;
                let known = name.to_str().and_then(Format::parse);
                format = Some(known.ok_or_else(|| {
                    let names = Format::NAMES.join(", ");
                    Error::usage(format!("-format: {name:?} is not one of {names}"))
                })?);
            }
            Short('0') if is_closure => nul = true,
            Long("paths") if !is_closure => form = Form::Paths,
            Long("json") if !is_closure => form = Form::Json,
            Value(report) => reports.push(report),
            Long(flag) => return Err(unknown(flag)),
            Short(letter) => return Err(unknown(&letter.to_string())),
        }
    }
    let format = match (nul, format) {
        (true, None | Some(Format::Lines)) => Format::Nul,
        (true, Some(_)) => return Err(Error::usage("-0 is for -format=paths only")),
        (false, format) => format.unwrap_or(Format::Lines),
    };
    let root: PathBuf = match root {
        Some(root) if !root.is_empty() && !reports.is_empty() => root.into(),
        _ => {
            return Err(Error::usage(format!(
                "snoop {name} needs an image and reports: snoop {name} -root DIR REPORT..."
            )));
        }
    };
    Ok(if is_closure {
        Command::Closure(Closure {
            root,
            reports,
            format,
        })
    } else {
        Command::Unused(Unused {
            root,
            reports,
            form,
        })
    })
}

/// Takes the flags and their values from the front of `words`, and a `--` behind them; what is left is
/// the command of `snoop run`.
fn flags(words: &mut Peekable<impl Iterator<Item = OsString>>) -> Vec<OsString> {
    let mut flags = Vec::new();
    let is_flag = |word: &OsString| word != "--" && matches!(word.as_bytes(), [b'-', _, ..]);
    while let Some(flag) = words.next_if(is_flag) {
        let alone = [
            "-help",
            "--help",
            "-h",
            "-version",
            "--version",
            "-V",
            "-resume",
            "--resume",
        ];
        let alone = alone.iter().any(|word| flag == *word) || flag.as_bytes().contains(&b'=');
        flags.push(two_dashes(flag));
        if !alone {
            flags.extend(words.next());
        }
    }
    words.next_if(|word| word == "--");
    flags
}

/// `-flag` is what Go programs take and manifests say; lexopt wants `--flag`.
fn two_dashes(word: OsString) -> OsString {
    match word.as_bytes() {
        [b'-', letter, _, ..] if letter.is_ascii_alphabetic() => {
            OsString::from_vec([b"-", word.as_bytes()].concat())
        }
        _ => word,
    }
}

fn unknown(flag: &str) -> Error {
    Error::usage(format!("unknown flag -{flag}; snoop -help lists all flags"))
}

fn unexpected(word: &OsStr) -> Error {
    Error::usage(format!(
        "unexpected argument {word:?}; snoop -help shows the usage"
    ))
}

fn wrong(e: lexopt::Error) -> Error {
    Error::usage(format!("{e}; snoop -help shows the usage"))
}

fn config(
    values: &Values,
    environment: &impl Fn(&str) -> Option<OsString>,
    run: bool,
) -> Result<Config> {
    let interval = values.parsed(
        "interval",
        "a time of at least 1s, like 500ms, 30s or 1m30s",
        |text| duration(text).filter(|d| *d >= Duration::from_secs(1)),
    )?;
    let max_unique_files = values.parsed(
        "max-unique-files",
        "a number of files, like 100000, or 0 for no limit",
        |text| text.parse::<u32>().ok(),
    )?;
    let buffer = values.parsed("buffer", "auto, ring or perf", |name| match name {
        "auto" => Some(None),
        name => Buffer::parse(name).map(Some),
    })?;
    let resume = values.parsed("resume", "true or false", |text| match text {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    })?;
    let levels = format!("one of {}", Level::NAMES.join(", "));
    let log_level = values.parsed("log-level", &levels, Level::parse)?;
    let metrics_addr = values.parsed(
        "metrics-addr",
        "an address like :9090, 127.0.0.1:9090 or [::1]:9090, or empty",
        address,
    )?;
    let default_addr = (!run).then(|| Address {
        host: String::new(),
        port: 9090,
    });
    let cgroups = match (values.get("cgroup"), values.get("cgroups")) {
        (Some((one, _)), Some((several, _))) => {
            return Err(Error::usage(format!(
                "{one} and {several}: give one of them"
            )));
        }
        (None, None) if run => OsString::new(),
        (Some((source, _)), _) | (_, Some((source, _))) if run => {
            return Err(Error::usage(format!(
                "{source}: snoop run makes a cgroup of its own; leave the flag out"
            )));
        }
        (Some((source, value)), None)
            if value.as_bytes().contains(&b',') && !value.as_bytes().starts_with(b"@") =>
        {
            return Err(Error::usage(format!(
                "{source}: {value:?} names several cgroups; give them as -cgroups"
            )));
        }
        (Some((_, value)), None) | (None, Some((_, value))) => value.to_os_string(),
        (None, None) => OsString::new(),
    };
    let default_report = if run {
        "snoop-report.json"
    } else {
        "/data/snoop-report.json"
    };
    let report = values
        .get("report")
        .map_or(OsStr::new(default_report), |(_, v)| v);
    if report.is_empty() {
        return Err(Error::usage(
            "-report: it is empty; give the name of a file",
        ));
    }
    let excludes = values
        .get("exclude")
        .map_or(&b"/proc/,/sys/,/dev/"[..], |(_, v)| v.as_bytes());
    Ok(Config {
        cgroups,
        report: Destination::parse(report),
        interval: interval.unwrap_or(Duration::from_secs(30)),
        excludes: Excludes::parse(excludes),
        metrics_addr: metrics_addr.unwrap_or(default_addr),
        log_level: log_level.unwrap_or(if run { Level::Warn } else { Level::Info }),
        max_unique_files: max_unique_files.unwrap_or(0) as usize,
        buffer: buffer.flatten(),
        resume: resume.unwrap_or(!run),
        metadata: metadata(values, environment)?,
    })
}

fn metadata(values: &Values, environment: &impl Fn(&str) -> Option<OsString>) -> Result<Metadata> {
    // Name in the report, flag, variable that the Kubernetes downward API usually sets.
    let sources = [
        ("container_id", "container-id", ""),
        ("image", "image", ""),
        ("image_digest", "image-digest", ""),
        ("pod_name", "pod-name", "POD_NAME"),
        ("namespace", "namespace", "POD_NAMESPACE"),
        ("pod_uid", "", "POD_UID"),
        ("node_name", "", "NODE_NAME"),
    ];
    let mut metadata = Metadata::default();
    for (field, flag, variable) in sources {
        let given = values.text(flag)?.map(|(_, text)| text.to_string());
        let set = || environment(variable).and_then(|v| v.into_string().ok());
        if let Some(value) = given.or_else(set).filter(|v| !v.is_empty()) {
            metadata.known.push((field, value));
        }
    }
    let wanted = "a list like app=web,tier=front";
    metadata.labels = values
        .parsed("labels", wanted, |text| {
            let pairs = text.split(',').filter(|pair| !pair.is_empty());
            pairs
                .map(|pair| pair.split_once('=').map(|(k, v)| (k.into(), v.into())))
                .collect::<Option<Vec<_>>>()
        })?
        .unwrap_or_default();
    Ok(metadata)
}

/// A duration as Go writes it: numbers, each with a unit, no blanks.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        let end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        total = total.checked_add(part)?;
        rest = tail;
    }
    Some(total)
}

/// Empty, or host and port, where the host may be empty and IPv6 stands in brackets.
fn address(text: &str) -> Option<Option<Address>> {
    if text.is_empty() {
        return Some(None);
    }
    let (host, port) = text.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(v6) => {
            let v6 = v6.strip_suffix(']')?;
            v6.parse::<std::net::Ipv6Addr>().ok()?;
            v6
        }
        None if host.contains([':', ' ', '[', ']']) => return None,
        None => host,
    };
    let port = port.parse().ok()?;
    Some(Some(Address {
        host: host.into(),
        port,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str], environment: &[(&str, &str)]) -> Result<Command> {
        parse(words.iter().map(OsString::from), |name| {
            let found = environment.iter().find(|(n, _)| *n == name);
            found.map(|(_, value)| value.into())
        })
    }

    fn traced(words: &[&str], environment: &[(&str, &str)]) -> Config {
        match parsed(&[&["-cgroup=/c"], words].concat(), environment).unwrap() {
            Command::Trace(config) => config,
            other => panic!("{other:?}"),
        }
    }

    /// Flags that are not among [`FLAGS`]: of the tools, and the pattern itself.
    const TOOL_FLAGS: [&str; 7] = ["help", "version", "flag", "root", "format", "paths", "json"];

    fn refused(words: &[&str]) -> String {
        let error = parsed(words, &[]).unwrap_err();
        assert_eq!(error.status, crate::error::USAGE);
        error.to_string()
    }

    #[test]
    fn help_and_parser_agree() {
        let named = |flag: &str| {
            let flag = format!("-{flag}");
            HELP.split([' ', '\n', '=']).any(|word| word == flag)
        };
        for flag in FLAGS {
            assert!(named(flag), "-{flag} is not in the help");
        }
        let words = HELP
            .split([' ', '\n'])
            .filter_map(|word| word.strip_prefix('-'));
        for word in words.filter(|w| w.starts_with(|c: char| c.is_ascii_lowercase())) {
            let flag = word.split(['=', ',', '.']).next().unwrap();
            let known = FLAGS.contains(&flag) || TOOL_FLAGS.contains(&flag);
            assert!(known, "-{flag} is in the help only");
        }
    }

    #[test]
    fn every_form_of_a_flag_means_the_same() {
        for words in [
            &["-interval=90s"][..],
            &["-interval", "90s"],
            &["--interval=90s"],
            &["--interval", "1m30s"],
        ] {
            assert_eq!(traced(words, &[]).interval, Duration::from_secs(90));
        }
    }

    #[test]
    fn defaults() {
        let config = traced(&[], &[]);
        assert_eq!(
            config.report,
            Destination::parse("/data/snoop-report.json".as_ref())
        );
        assert_eq!(config.interval, Duration::from_secs(30));
        assert_eq!(config.excludes, Excludes::parse(b"/proc/,/sys/,/dev/"));
        assert_eq!(config.max_unique_files, 0);
        assert_eq!(config.log_level, Level::Info);
        assert_eq!(config.metrics_addr.unwrap().to_string(), ":9090");
        assert_eq!(config.metadata, Metadata::default());
    }

    #[test]
    fn a_flag_that_is_true_or_false() {
        assert!(traced(&[], &[]).resume && traced(&["-resume"], &[]).resume);
        assert!(!traced(&["-resume=false"], &[]).resume);
        assert!(!traced(&[], &[("SNOOP_RESUME", "0")]).resume);
        let Command::Run(config, command) = parsed(&["run", "-resume", "ls"], &[]).unwrap() else {
            panic!("not a run");
        };
        assert!(config.resume && command == ["ls"]);
        let Command::Run(config, _) = parsed(&["run", "ls"], &[]).unwrap() else {
            panic!("not a run");
        };
        assert!(!config.resume);
    }

    #[test]
    fn a_flag_wins_over_the_environment() {
        let environment = [("SNOOP_MAX_UNIQUE_FILES", "5"), ("SNOOP_LOG_LEVEL", "")];
        assert_eq!(traced(&[], &environment).max_unique_files, 5);
        assert_eq!(
            traced(&["-max-unique-files=6"], &environment).max_unique_files,
            6
        );
        let error = parsed(&["-cgroup=/c"], &[("SNOOP_INTERVAL", "soon")]).unwrap_err();
        assert!(error.to_string().starts_with("SNOOP_INTERVAL: \"soon\""));
        let error = parsed(&[], &[("SNOOP_CGROUP", "/a"), ("SNOOP_CGROUPS", "/b")]);
        assert!(error.unwrap_err().to_string().contains("give one of them"));
    }

    #[test]
    fn metadata_comes_from_flags_and_the_downward_api() {
        let config = traced(
            &["-image=nginx:1", "-namespace=web", "-labels=a=1,b=x=y"],
            &[
                ("POD_NAME", "p-1"),
                ("POD_NAMESPACE", "other"),
                ("POD_UID", ""),
            ],
        );
        let fields = serde_json::to_string(&config.metadata.fields()).unwrap();
        assert_eq!(
            fields,
            r#"[["image","nginx:1"],["pod_name","p-1"],["namespace","web"],["labels",{"a":"1","b":"x=y"}]]"#
        );
    }

    #[test]
    fn a_command_keeps_its_own_words() {
        for words in [
            &["run", "-report=-", "--", "ls", "-la", "--", "-x"][..],
            &["run", "-report", "-", "ls", "-la", "--", "-x"],
        ] {
            let Command::Run(config, command) = parsed(words, &[]).unwrap() else {
                panic!("not a run");
            };
            assert_eq!(command, ["ls", "-la", "--", "-x"]);
            assert_eq!(config.report, Destination::Stdout);
            assert_eq!(config.log_level, Level::Warn);
            assert_eq!(config.metrics_addr, None);
        }
        assert!(refused(&["run", "-report=-"]).contains("needs a command"));
        assert!(refused(&["run", "-cgroup=/x", "ls"]).contains("of its own"));
    }

    #[test]
    fn bad_input_is_named() {
        let cgroup = "-cgroup=/c";
        for (words, part) in [
            (&["-frobnicate"][..], "unknown flag -frobnicate"),
            (&["-x"], "unknown flag -x"),
            (&["-report"], "-report needs a value"),
            (&["stray"], "unexpected argument \"stray\""),
            (&["check", "stray"], "unexpected argument \"stray\""),
            (&["-cgroup=/a,/b"], "give them as -cgroups"),
            (&[cgroup, "-interval=30"], "-interval: \"30\" is not a time"),
            (&[cgroup, "-interval=500ms"], "at least 1s"),
            (&[cgroup, "-interval=-3s"], "at least 1s"),
            (&[cgroup, "-max-unique-files=-5"], "\"-5\" is not a number"),
            (
                &[cgroup, "-max-unique-files=many"],
                "\"many\" is not a number",
            ),
            (&[cgroup, "-log-level=loud"], "debug, info, warn, error"),
            (&[cgroup, "-metrics-addr=9090"], "is not an address"),
            (&[cgroup, "-metrics-addr=:70000"], "is not an address"),
            (&[cgroup, "-labels=app"], "is not a list like"),
            (&[cgroup, "-report="], "-report: it is empty"),
            (&[cgroup, "-resume=maybe"], "\"maybe\" is not true or false"),
        ] {
            let said = refused(words);
            assert!(said.contains(part), "{words:?}: {said}");
        }
    }

    #[test]
    fn tools_for_images() {
        let words = ["closure", "-root", "/d", "a", "-0", "b"];
        let expected = Closure {
            root: "/d".into(),
            reports: vec!["a".into(), "b".into()],
            format: Format::Nul,
        };
        assert_eq!(parsed(&words, &[]).unwrap(), Command::Closure(expected));
        let expected = Unused {
            root: "/d".into(),
            reports: vec!["-".into()],
            form: Form::Json,
        };
        let words = ["unused", "--root=/d", "-json", "-"];
        assert_eq!(parsed(&words, &[]).unwrap(), Command::Unused(expected));
        for (words, part) in [
            (&["closure", "r"][..], "closure -root DIR REPORT"),
            (&["unused", "-root=/d"], "unused -root DIR REPORT"),
            (
                &["closure", "-root=/d", "-format=tar", "r"],
                "\"tar\" is not one of paths, absolute, creport",
            ),
            (
                &["closure", "-root=/d", "-0", "-format=creport", "r"],
                "-0 is for",
            ),
            (&["unused", "-root=/d", "-0", "r"], "unknown flag -0"),
            (&["closure", "-paths", "r"], "unknown flag -paths"),
        ] {
            let said = refused(words);
            assert!(said.contains(part), "{words:?}: {said}");
        }
    }

    #[test]
    fn durations_as_go_writes_them() {
        for (text, ms) in [
            ("500ms", Some(500)),
            ("30s", Some(30_000)),
            ("1m30s", Some(90_000)),
            ("1.5h", Some(5_400_000)),
            ("1h0m0.5s", Some(3_600_500)),
            ("", None),
            ("s", None),
            ("1", None),
            ("1 s", None),
            ("1d", None),
            ("1.2.3s", None),
            ("99999999999999999999h", None),
        ] {
            assert_eq!(duration(text), ms.map(Duration::from_millis), "{text:?}");
        }
    }

    #[test]
    fn addresses() {
        let at = |host: &str, port| {
            Some(Some(Address {
                host: host.into(),
                port,
            }))
        };
        assert_eq!(address(""), Some(None));
        assert_eq!(address(":9090"), at("", 9090));
        assert_eq!(address("127.0.0.1:1"), at("127.0.0.1", 1));
        assert_eq!(address("localhost:80"), at("localhost", 80));
        assert_eq!(address("[::1]:9090"), at("::1", 9090));
        for wrong in [
            "9090", "::1:9090", "[::1]", "a b:1", "[x]:1", ":", ":-1", ":70000",
        ] {
            assert_eq!(address(wrong), None, "{wrong}");
        }
    }
}
