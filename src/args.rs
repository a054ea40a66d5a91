//! Flags and environment to a [`Command`]: one table of commands, one parse function.

use crate::bpf::hooks::Buffer;
use crate::error::{Error, Result};
use crate::http::Address;
use crate::image::closure::{Closure, Format};
use crate::image::unused::{Output, Unused};
use crate::log::Level;
use crate::path::Excludes;
use crate::report::file::Destination;
use crate::report::metadata::Metadata;
use crate::report::schema::field;
use lexopt::prelude::*;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

/// A command of snoop's, with all that the help says of it. A new one needs its row in [`VERBS`], a [`Command`], and
/// the line in main.rs that does it.
pub struct Verb {
    /// The first word of the command line; empty for tracing, which needs none.
    pub name: &'static str,
    arguments: &'static str,
    /// What it does, in lines that fit beside its usage.
    summary: &'static [&'static str],
    /// What its own help says besides.
    flags: &'static [&'static str],
    parse: fn(&'static Verb, Words, Environment) -> Result<Command>,
}

/// The words behind a command's name.
type Words = Vec<OsString>;
type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Tracing comes first, then the commands in the order of the help.
pub static VERBS: [Verb; 6] = [
    Verb {
        name: "",
        arguments: "[flags]",
        summary: &["in a pod: trace its other containers until SIGTERM"],
        flags: &[],
        parse: trace,
    },
    Verb {
        name: "run",
        arguments: "[flags] -- COMMAND...",
        summary: &["trace a command, exit with its status"],
        flags: &[OUTPUT_FLAGS, METADATA_FLAGS, FORMS, RUN_STATUS],
        parse: run,
    },
    Verb {
        name: "check",
        arguments: "",
        summary: &["say whether this host can be traced"],
        flags: &[],
        parse: check,
    },
    Verb {
        name: "health",
        arguments: "[-metrics-addr ADDRESS]",
        summary: &["ask the snoop that runs: exit 0 if it is healthy"],
        flags: &[HEALTH_FLAGS],
        parse: health,
    },
    Verb {
        name: "closure",
        arguments: "-root DIR REPORT...",
        summary: &[
            "list what an image needs from DIR, one path",
            "per line, for tar -T, rsync --files-from, cpio",
        ],
        flags: &[ROOT_FLAG, CLOSURE_FLAGS],
        parse: closure,
    },
    Verb {
        name: "unused",
        arguments: "-root DIR REPORT...",
        summary: &["list what is in DIR and in no report"],
        flags: &[ROOT_FLAG, UNUSED_FLAGS],
        parse: unused,
    },
];

const CGROUP_FLAGS: &str = "
Which containers (default: all containers of the pod but snoop's own):
  -cgroup PATH           one cgroup: a directory, or a path as /proc/PID/cgroup shows
                         it; one that does not exist yet is waited for.
                         @FILE: a file that holds the path.
                         @parent: the parent of snoop's own container, whose other
                         children are the containers; for engines without pods
  -cgroups PATHS         several, separated by commas; @FILE: one path per line
";

const OUTPUT_FLAGS: &str = "
Output:
  -report FILE           where the report goes, - for standard output
                         (default /data/snoop-report.json; run: snoop-report.json)
  -resume=BOOL           resume the report that is there, if it is of the same pod
                         and image (default true; run: false)
  -interval TIME         time between two writes, at least 1s, such as 1s, 30s or
                         1m30s (default 30s)
  -exclude PREFIXES      leave out paths that begin with one of these
                         (default /proc/,/sys/,/dev/)
  -buffer NAME           how records leave the kernel: ring, perf (before Linux 5.10),
                         or auto (default)
  -max-unique-files N    keep at most N files per container; 0 is no limit (default 0)
  -metrics-addr ADDRESS  where to serve /metrics, /healthz and /report, such as :9090,
                         127.0.0.1:9090 or [::1]:9090; empty turns the listener off
                         (default :9090; run: empty)
  -log-level LEVEL       debug, info, warn or error (default info; run: warn)
";

const METADATA_FLAGS: &str = "
Copied into the report:
  -container-id ID       -image NAME            -image-digest DIGEST
  -pod-name NAME         -namespace NAME        -labels KEY=VALUE,...
";

const HEALTH_FLAGS: &str = "
  -metrics-addr ADDRESS  the one that the running snoop was given (default
                         SNOOP_METRICS_ADDR if that is set, else :9090)

For HEALTHCHECK, Compose and exec probes: the image holds no other program.
";

const ROOT_FLAG: &str = "
A REPORT may be - for standard input.
  -root DIR              the directory into which the image was unpacked
";

const CLOSURE_FLAGS: &str = "  \
  -0                     end each path with a NUL
  -format NAME           paths (from DIR), absolute (from the image's root)
                         or creport (JSON for slimmers); default paths
";

const UNUSED_FLAGS: &str = "  \
  -paths                 print every path in place of a summary
  -json                  print everything as JSON in place of a summary
";

const FORMS: &str = "
Flags are written -flag=v, -flag v, --flag=v or --flag v. The environment variable
SNOOP_FLAG_NAME does the same; a flag takes precedence. POD_NAME, POD_NAMESPACE,
POD_UID and NODE_NAME are copied into the report too.
";

const STATUS: &str = "
Exit status: 0 done, 1 failed while running, 2 wrong usage or configuration.
";

const RUN_STATUS: &str = "
snoop run exits with the command's status: 128 + N if signal N ended it, 127 if it
was not found, 126 if it cannot be executed.
";

/// The help about everything.
pub fn help() -> String {
    let mut text =
        "snoop watches which files the containers of a pod use and keeps a JSON report of them.

Usage:
"
        .to_string();
    for verb in &VERBS {
        let mut usage = verb.usage();
        for line in verb.summary {
            text += &format!("  {usage:<33}  {line}\n");
            usage.clear();
        }
    }
    text += "  snoop help [COMMAND]               this text, or the help about one command\n";
    // Each text once: commands share some.
    for flags in [
        CGROUP_FLAGS,
        OUTPUT_FLAGS,
        METADATA_FLAGS,
        "\nFor closure and unused:",
        ROOT_FLAG,
        "\nFor closure:\n",
        CLOSURE_FLAGS,
        "\nFor unused:\n",
        UNUSED_FLAGS,
        OTHER_FLAGS,
        FORMS,
        STATUS,
        RUN_STATUS,
    ] {
        text += flags;
    }
    text
}

const OTHER_FLAGS: &str = "
  -help                  this text; behind a command, the help about it
  -version               the version
";

impl Verb {
    /// As it is called, without arguments.
    fn called(&self) -> String {
        format!("snoop {}", self.name).trim_end().into()
    }

    fn usage(&self) -> String {
        format!("{} {}", self.called(), self.arguments)
            .trim_end()
            .into()
    }

    /// The help about this command alone; tracing is what the whole help is about.
    fn help(&self) -> String {
        if self.name.is_empty() {
            return help();
        }
        let summary = self.summary.join(" ");
        format!(
            "Usage: {}\n\n{summary}\n{}",
            self.usage(),
            self.flags.concat()
        )
    }

    /// What `-help` or `-version` among its words asks for, whatever else stands there.
    fn asked(&self, words: &[OsString]) -> Option<Command> {
        words.iter().find_map(|word| match word.as_bytes() {
            b"-help" | b"--help" | b"-h" => Some(Command::Help(self.help())),
            b"-version" | b"--version" | b"-V" => Some(Command::Version),
            _ => None,
        })
    }

    fn unknown(&self, flag: &str) -> Error {
        let called = self.called();
        Error::usage(format!(
            "-{flag}: unknown flag; {called} -help lists the flags"
        ))
    }

    fn unexpected(&self, word: &OsStr) -> Error {
        let called = self.called();
        Error::usage(format!(
            "unexpected argument {word:?}; {called} -help shows the usage"
        ))
    }

    fn wrong(&self, e: lexopt::Error) -> Error {
        let called = self.called();
        Error::usage(format!("{e}; {called} -help shows the usage"))
    }
}

/// The command of that name.
fn verb(name: &OsStr) -> Option<&'static Verb> {
    VERBS
        .iter()
        .find(|verb| !verb.name.is_empty() && name == verb.name)
}

/// Flags of tracing, which take a value; it may be left out of `-resume=true`. [`help`] names each of them.
const FLAGS: &[&str] = &[
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
    /// Print this text.
    Help(String),
    Version,
    Check,
    /// Ask the listener at this address.
    Health(Address),
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

    /// The value as something that can be read from text. Of another value the error says that it is not `what`, and to
    /// give `remedy`.
    fn parsed<T>(
        &self,
        flag: &str,
        (what, remedy): (&str, &str),
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some((source, text)) = self.text(flag)? else {
            return Ok(None);
        };
        let value = parse(text);
        value
            .map(Some)
            .ok_or_else(|| is_not(source, text, what, remedy))
    }

    /// Where to listen, or where that is done; `default` where nothing is given.
    fn metrics_addr(&self, default: Option<Address>) -> Result<Option<Address>> {
        let given = self.parsed(
            "metrics-addr",
            (
                "an address with a port",
                "one such as :9090, 127.0.0.1:9090 or [::1]:9090; nothing turns the listener off",
            ),
            address,
        )?;
        Ok(given.unwrap_or(default))
    }
}

/// Where snoop listens by default.
const DEFAULT_ADDRESS: Address = Address {
    host: String::new(),
    port: 9090,
};

fn is_not(source: &str, value: &str, what: &str, remedy: &str) -> Error {
    let value = value.escape_debug();
    Error::usage(format!("{source}={value}: not {what}; give {remedy}"))
}

/// Reads the words after the program's name, and the environment.
pub fn parse(
    words: impl IntoIterator<Item = OsString>,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<Command> {
    let mut words: Vec<_> = words.into_iter().collect();
    if words.first().is_some_and(|word| word == "help") {
        return Ok(Command::Help(match words.get(1) {
            None => help(),
            Some(name) => verb(name).ok_or_else(|| no_command(name))?.help(),
        }));
    }
    let named = words.first().and_then(|word| verb(word));
    if named.is_some() {
        words.remove(0);
    }
    let verb = named.unwrap_or(&VERBS[0]);
    (verb.parse)(verb, words, &environment)
}

fn no_command(name: &OsStr) -> Error {
    let names: Vec<_> = VERBS[1..].iter().map(|verb| verb.name).collect();
    let names = names.join(", ");
    Error::usage(format!(
        "help {name:?}: no such command; give one of {names}"
    ))
}

fn check(verb: &'static Verb, words: Words, _: Environment) -> Result<Command> {
    match (verb.asked(&words), words.first()) {
        (Some(asked), _) => Ok(asked),
        (None, Some(word)) => Err(verb.unexpected(word)),
        (None, None) => Ok(Command::Check),
    }
}

fn health(verb: &'static Verb, words: Words, environment: Environment) -> Result<Command> {
    if let Some(asked) = verb.asked(&words) {
        return Ok(asked);
    }
    let values = values(
        verb,
        words.into_iter().map(two_dashes).collect(),
        environment,
    )?;
    let other = values
        .0
        .iter()
        .find(|(flag, source, _)| *flag != "metrics-addr" && source.starts_with('-'));
    if let Some((flag, ..)) = other {
        return Err(verb.unknown(flag));
    }
    match values.metrics_addr(Some(DEFAULT_ADDRESS))? {
        Some(address) => Ok(Command::Health(address)),
        None => Err(Error::usage(
            "-metrics-addr=: snoop does not listen there; give the address of the running snoop",
        )),
    }
}

fn trace(verb: &'static Verb, words: Words, environment: Environment) -> Result<Command> {
    let (flags, words) = flags(words);
    if let Some(asked) = verb.asked(&flags) {
        return Ok(asked);
    }
    let word = words.first();
    if let Some(command) = word.and_then(|word| self::verb(word)) {
        let (name, usage) = (command.name, command.usage());
        return Err(Error::usage(format!(
            "{name}: a command stands before its flags; write {usage}"
        )));
    }
    let values = values(verb, flags, environment)?;
    match word {
        Some(word) => Err(verb.unexpected(word)),
        None => Ok(Command::Trace(config(&values, environment, false)?)),
    }
}

fn run(verb: &'static Verb, words: Words, environment: Environment) -> Result<Command> {
    let (flags, command) = flags(words);
    if let Some(asked) = verb.asked(&flags) {
        return Ok(asked);
    }
    let config = config(&values(verb, flags, environment)?, environment, true)?;
    if command.is_empty() {
        let usage = verb.usage();
        return Err(Error::usage(format!("snoop run needs a command: {usage}")));
    }
    Ok(Command::Run(config, command))
}

/// The values of the flags of tracing.
fn values(verb: &Verb, flags: Vec<OsString>, environment: Environment) -> Result<Values> {
    let mut values = Values(Vec::new());
    for flag in FLAGS {
        let name = format!("SNOOP_{}", flag.to_uppercase().replace('-', "_"));
        if let Some(value) = environment(&name) {
            // Manifests set variables to nothing; only these mean something by it.
            if !value.is_empty() || matches!(*flag, "exclude" | "metrics-addr") {
                values.0.push((flag, name, value));
            }
        }
    }
    let mut parser = lexopt::Parser::from_args(flags);
    while let Some(arg) = parser.next().map_err(|e| verb.wrong(e))? {
        match arg {
            Long(name) => {
                let flag = FLAGS.iter().find(|flag| **flag == name);
                let flag = flag.ok_or_else(|| verb.unknown(name))?;
                let value = match *flag {
                    "resume" => Ok(parser.optional_value().unwrap_or("true".into())),
                    _ => parser.value(),
                };
                let value = value.map_err(|_| {
                    Error::usage(format!("-{flag}: it needs a value; write -{flag}=VALUE"))
                })?;
                values.0.push((flag, format!("-{flag}"), value));
            }
            Short(letter) => return Err(verb.unknown(&letter.to_string())),
            Value(word) => return Err(verb.unexpected(&word)),
        }
    }
    Ok(values)
}

/// The words of a command about an image: its root, reports, and flags of its own.
struct ImageWords {
    root: PathBuf,
    reports: Vec<OsString>,
    /// Of `closure`.
    format: Format,
    /// Of `unused`.
    form: Output,
}

fn image_words(verb: &'static Verb, words: Vec<OsString>) -> Result<ImageWords> {
    let is_closure = verb.name == "closure";
    let (mut root, mut reports, mut format, mut nul) = (None, Vec::new(), None, false);
    let mut form = Output::Summary;
    let mut parser =
        lexopt::Parser::from_args(words.into_iter().map(two_dashes).collect::<Words>());
    while let Some(arg) = parser.next().map_err(|e| verb.wrong(e))? {
        match arg {
            Long("root") => root = Some(parser.value().map_err(|e| verb.wrong(e))?),
            Long("format") if is_closure => {
                let name = parser.value().map_err(|e| verb.wrong(e))?;
                let known = name.to_str().and_then(Format::parse);
                format = Some(known.ok_or_else(|| {
                    let names = format!("one of {}", Format::NAMES.join(", "));
                    is_not("-format", &name.to_string_lossy(), "a format", &names)
                })?);
            }
            Short('0') if is_closure => nul = true,
            Long("paths") if !is_closure => form = Output::Paths,
            Long("json") if !is_closure => form = Output::Json,
            Value(report) => reports.push(report),
            Long(flag) => return Err(verb.unknown(flag)),
            Short(letter) => return Err(verb.unknown(&letter.to_string())),
        }
    }
    let format = match (nul, format) {
        (true, None | Some(Format::Lines)) => Format::Nul,
        (true, Some(_)) => return Err(Error::usage("-0 is for -format=paths only")),
        (false, format) => format.unwrap_or(Format::Lines),
    };
    match root {
        Some(root) if !root.is_empty() && !reports.is_empty() => Ok(ImageWords {
            root: root.into(),
            reports,
            format,
            form,
        }),
        _ => Err(Error::usage(format!(
            "{} needs an image and reports: {}",
            verb.called(),
            verb.usage()
        ))),
    }
}

fn closure(verb: &'static Verb, words: Words, _: Environment) -> Result<Command> {
    if let Some(asked) = verb.asked(&words) {
        return Ok(asked);
    }
    let words = image_words(verb, words)?;
    Ok(Command::Closure(Closure {
        root: words.root,
        reports: words.reports,
        format: words.format,
    }))
}

fn unused(verb: &'static Verb, words: Words, _: Environment) -> Result<Command> {
    if let Some(asked) = verb.asked(&words) {
        return Ok(asked);
    }
    let words = image_words(verb, words)?;
    Ok(Command::Unused(Unused {
        root: words.root,
        reports: words.reports,
        form: words.form,
    }))
}

/// The flags at the front, with their values; and the words behind them and a `--`, which are the command of
/// `snoop run`.
fn flags(words: Words) -> (Words, Words) {
    let (mut flags, mut words) = (Vec::new(), words.into_iter().peekable());
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
    (flags, words.collect())
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

fn config(values: &Values, environment: Environment, run: bool) -> Result<Config> {
    let interval = values.parsed(
        "interval",
        (
            "a time of at least 1s",
            "numbers with units, such as 1s, 30s or 1m30s",
        ),
        |text| duration(text).filter(|d| *d >= Duration::from_secs(1)),
    )?;
    let max_unique_files = values.parsed(
        "max-unique-files",
        (
            &format!("a number of files from 0 to {}", u32::MAX),
            "a limit, such as 100000; 0 is no limit",
        ),
        |text| text.parse::<u32>().ok(),
    )?;
    let buffer = values.parsed(
        "buffer",
        ("a buffer", "auto, ring or perf"),
        |name| match name {
            "auto" => Some(None),
            name => Buffer::parse(name).map(Some),
        },
    )?;
    let resume = values.parsed(
        "resume",
        ("a yes or no", "true or false"),
        |text| match text {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        },
    )?;
    let levels = format!("one of {}", Level::NAMES.join(", "));
    let log_level = values.parsed("log-level", ("a level", &levels), Level::parse)?;
    let metrics_addr = values.metrics_addr((!run).then_some(DEFAULT_ADDRESS))?;
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
        metrics_addr,
        log_level: log_level.unwrap_or(if run { Level::Warn } else { Level::Info }),
        max_unique_files: max_unique_files.unwrap_or(0) as usize,
        buffer: buffer.flatten(),
        resume: resume.unwrap_or(!run),
        metadata: metadata(values, environment)?,
    })
}

fn metadata(values: &Values, environment: Environment) -> Result<Metadata> {
    // Name in the report, flag, variable that the Kubernetes downward API usually sets.
    let sources = [
        (field::CONTAINER_ID, "container-id", ""),
        (field::IMAGE, "image", ""),
        (field::IMAGE_DIGEST, "image-digest", ""),
        (field::POD_NAME, "pod-name", "POD_NAME"),
        (field::NAMESPACE, "namespace", "POD_NAMESPACE"),
        (field::POD_UID, "", "POD_UID"),
        (field::NODE_NAME, "", "NODE_NAME"),
    ];
    let mut metadata = Metadata::default();
    for (field, flag, variable) in sources {
        let given = values.text(flag)?.map(|(_, text)| text.to_string());
        let set = || environment(variable).and_then(|v| v.into_string().ok());
        if let Some(value) = given.or_else(set).filter(|v| !v.is_empty()) {
            metadata.known.push((field, value));
        }
    }
    let wanted = (
        "a list of labels",
        "keys with values, such as app=web,tier=front",
    );
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
        let help = help();
        let named = |flag: &str| {
            let flag = format!("-{flag}");
            help.split([' ', '\n', '=']).any(|word| word == flag)
        };
        for flag in FLAGS {
            assert!(named(flag), "-{flag} is not in the help");
        }
        let words = help
            .split([' ', '\n'])
            .filter_map(|word| word.strip_prefix('-'));
        for word in words.filter(|w| w.starts_with(|c: char| c.is_ascii_lowercase())) {
            let flag = word.split(['=', ',', '.', ';']).next().unwrap();
            let known = FLAGS.contains(&flag) || TOOL_FLAGS.contains(&flag);
            assert!(known, "-{flag} is in the help only");
        }
        assert!(
            help.lines().all(|line| line.chars().count() <= 88),
            "{help}"
        );
    }

    #[test]
    fn each_command_has_a_help_of_its_own() {
        let said = |words: &[&str]| match parsed(words, &[("SNOOP_INTERVAL", "wrong")]).unwrap() {
            Command::Help(text) => text,
            other => panic!("{words:?}: {other:?}"),
        };
        for words in [
            &["help"][..],
            &["-help"],
            &["-report", "x", "--help"],
            &["-x", "-h"],
        ] {
            assert_eq!(said(words), help());
        }
        for verb in &VERBS[1..] {
            let (name, own) = (verb.name, said(&["help", verb.name]));
            let usage = format!("Usage: {}\n\n{}", verb.usage(), verb.summary[0]);
            assert!(own.starts_with(&usage), "{own}");
            assert!(
                help().contains(&format!("\n  {}  ", verb.usage())),
                "{name}"
            );
            for flag in ["-help", "--help", "-h"] {
                assert_eq!(said(&[name, flag]), own);
            }
            for flag in ["-version", "--version", "-V"] {
                assert_eq!(parsed(&[name, flag], &[]).unwrap(), Command::Version);
            }
        }
        for (name, has, lacks) in [
            ("run", "-interval TIME", "-cgroup"),
            ("check", "host", "-"),
            ("health", "-metrics-addr", "-report"),
            ("closure", "-format NAME", "-json"),
            ("unused", "-json", "-format"),
        ] {
            let own = said(&["help", name]);
            assert!(own.contains(has) && !own.contains(lacks), "{own}");
        }
        // Behind the command's name it is the traced command's own.
        let traced = parsed(&["run", "ls", "-help"], &[]).unwrap();
        assert!(matches!(traced, Command::Run(_, words) if words == ["ls", "-help"]));
        let said = refused(&["help", "chekc"]);
        assert_eq!(
            said,
            "help \"chekc\": no such command; give one of run, check, health, closure, unused"
        );
    }

    /// The examples in a text: what stands behind "such as".
    fn examples(text: &str) -> Vec<String> {
        let text = text.replace('`', "");
        let behind = text.split("such as ").skip(1).flat_map(|text| {
            let end = text.find([';', '(', '|']).unwrap_or(text.len());
            let list = text[..end].trim().replace(" or ", ", ");
            list.split(", ").map(String::from).collect::<Vec<_>>()
        });
        behind.collect()
    }

    #[test]
    fn every_example_is_a_value_that_is_taken() {
        let readme = include_str!("../README.md");
        let help = help();
        let mut found = Vec::new();
        for flag in FLAGS {
            let name = format!("-{flag}");
            let row = readme
                .lines()
                .find(|line| line.starts_with(&format!("| `{name}`")));
            // The flag's line of the help and those that go on with it.
            let mut lines = help.lines();
            let first = lines.find(|line| line.trim_start().starts_with(&format!("{name} ")));
            let more = lines.take_while(|line| line.starts_with("            "));
            let of_help: Vec<_> = first.into_iter().chain(more).map(str::trim).collect();
            let wrong = format!("{name}=\u{1}?");
            let error = parsed(&["-cgroup=/c", &wrong], &[]).err();
            let error = error.map_or(String::new(), |e| e.to_string());
            for (at, text) in [row.unwrap_or_default(), &of_help.join(" "), &error]
                .iter()
                .enumerate()
            {
                for example in examples(text) {
                    let words = ["-cgroup=/c", &format!("{name}={example}")];
                    let done = parsed(&words, &[]);
                    assert!(done.is_ok(), "{example} of {text}: {}", done.unwrap_err());
                    found.push((*flag, at, example));
                }
            }
        }
        for (flag, at, example) in [
            ("interval", 0, "1m30s"),
            ("interval", 1, "1m30s"),
            ("interval", 2, "1m30s"),
            ("max-unique-files", 2, "100000"),
            ("metrics-addr", 1, "[::1]:9090"),
            ("metrics-addr", 2, "[::1]:9090"),
            ("labels", 2, "app=web,tier=front"),
        ] {
            let looked_at = (flag, at, example.to_string());
            assert!(found.contains(&looked_at), "{looked_at:?} in {found:?}");
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
        assert!(
            error
                .to_string()
                .starts_with("SNOOP_INTERVAL=soon: not a time")
        );
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
            (
                &["-frobnicate"][..],
                "-frobnicate: unknown flag; snoop -help",
            ),
            (&["run", "-frob"], "-frob: unknown flag; snoop run -help"),
            (&["-x"], "-x: unknown flag"),
            (&["-report"], "-report: it needs a value"),
            (&["stray"], "unexpected argument \"stray\""),
            (&["check", "stray"], "unexpected argument \"stray\""),
            (
                &["-report", "x", "check"],
                "check: a command stands before its flags; write snoop check",
            ),
            (
                &["-root", "d", "closure", "r"],
                "write snoop closure -root DIR REPORT...",
            ),
            (&["-cgroup=/a,/b"], "give them as -cgroups"),
            (
                &[cgroup, "-interval=30"],
                "-interval=30: not a time of at least 1s; give",
            ),
            (
                &[cgroup, "-interval=500ms"],
                "-interval=500ms: not a time of at least 1s",
            ),
            (&[cgroup, "-interval=-3s"], "at least 1s"),
            (&[cgroup, "-interval=a\nb"], "-interval=a\\nb: not a time"),
            (
                &[cgroup, "-max-unique-files=-5"],
                "-max-unique-files=-5: not a number",
            ),
            (&[cgroup, "-max-unique-files=many"], "many: not a number"),
            (
                &[cgroup, "-max-unique-files=5000000000"],
                "-max-unique-files=5000000000: not a number of files from 0 to 4294967295",
            ),
            (
                &[cgroup, "-log-level=loud"],
                "give one of debug, info, warn, error",
            ),
            (&[cgroup, "-metrics-addr=9090"], "not an address"),
            (&[cgroup, "-metrics-addr=:70000"], "not an address"),
            (&[cgroup, "-labels=app"], "not a list of labels"),
            (&[cgroup, "-report="], "-report: it is empty"),
            (
                &[cgroup, "-resume=maybe"],
                "-resume=maybe: not a yes or no; give true or false",
            ),
            (
                &[cgroup, "-buffer=big"],
                "-buffer=big: not a buffer; give auto, ring or perf",
            ),
        ] {
            let said = refused(words);
            assert!(said.contains(part), "{words:?}: {said}");
        }
        let largest = traced(&["-max-unique-files=4294967295"], &[]);
        assert_eq!(largest.max_unique_files, u32::MAX as usize);
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
            form: Output::Json,
        };
        let words = ["unused", "--root=/d", "-json", "-"];
        assert_eq!(parsed(&words, &[]).unwrap(), Command::Unused(expected));
        for (words, part) in [
            (&["closure", "r"][..], "closure -root DIR REPORT"),
            (&["unused", "-root=/d"], "unused -root DIR REPORT"),
            (
                &["closure", "-root=/d", "-format=tar", "r"],
                "-format=tar: not a format; give one of paths, absolute, creport",
            ),
            (
                &["closure", "-root=/d", "-0", "-format=creport", "r"],
                "-0 is for",
            ),
            (
                &["unused", "-root=/d", "-0", "r"],
                "-0: unknown flag; snoop unused -help",
            ),
            (
                &["closure", "-paths", "r"],
                "-paths: unknown flag; snoop closure -help",
            ),
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
