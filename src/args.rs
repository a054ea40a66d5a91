// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line: flags and environment become a [`Command`].

mod flags;
mod help;
mod values;

#[cfg(test)]
mod docs;
#[cfg(test)]
mod tests;

use crate::bpf::hooks::{Buffer, Rung};
use crate::error::{Error, Result};
use crate::export::{self, Export};
use crate::files::kinds::Kinds;
use crate::http::Address;
use crate::image::closure::{Closure, Format};
use crate::image::unused::{Output, Unused};
use crate::log::Level;
use crate::node;
use crate::node::filter::{Filter, Patterns};
use crate::path::Excludes;
use crate::preflight::Choices;
use crate::report::file::Destination;
use crate::report::metadata::Metadata;
use crate::report::schema::field;
use crate::reports::diff::Diff;
use crate::reports::merge::Merge;
use crate::show::Show;
use crate::slim::Slim;
use flags::{CLOSURE, DIFF, EXPORT, HEALTH, MERGE, NODE, RUN, SHOW, SLIM, TRACE, UNUSED};
pub use help::help;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;
use values::{Asked, Values};

/// A command of snoop: a row of [`VERBS`]. A new command needs a row there, a variant of [`Command`], its name in the
/// rows of its flags, and the line in main.rs that runs it.
struct Verb {
    /// The first word of the command line. Empty for tracing, which has no command word.
    name: &'static str,
    /// What the usage shows after the name.
    arguments: &'static str,
    /// What the command does, in a few words.
    summary: &'static str,
    /// The paragraphs at the end of its own help.
    notes: &'static [&'static str],
    /// Parses the words after its name.
    /// Splits its words into flags, with their values, and all others.
    split: fn(&Verb, Words) -> (Words, Words),
    parse: fn(&'static Verb, Words, Words, Environment) -> Result<Command>,
}

/// The words after a command's name.
type Words = Vec<OsString>;
type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// All commands, in the order of the help. Tracing comes first.
static VERBS: [Verb; 12] = [
    Verb {
        name: TRACE,
        arguments: "[flags]",
        summary: "in a pod: trace all other containers until SIGTERM",
        notes: &[],
        split: values::split_front,
        parse: trace,
    },
    Verb {
        name: RUN,
        arguments: "[flags] -- COMMAND...",
        summary: "trace a command, and exit with its status",
        notes: &[help::FORMS, help::RUN_STATUS],
        split: values::split_front,
        parse: run,
    },
    Verb {
        name: NODE,
        arguments: "[flags]",
        summary: "trace all containers of a node, with a report for each image",
        notes: &[help::FORMS, help::NODE_USE],
        split: values::split_front,
        parse: node,
    },
    Verb {
        name: "check",
        arguments: "",
        summary: "say whether this host can be traced",
        notes: &[],
        split: values::all_flags,
        parse: check,
    },
    Verb {
        name: HEALTH,
        arguments: "[flags]",
        summary: "ask the running snoop for its health: exit 0 if healthy, 1 if not",
        notes: &[help::HEALTH_USE],
        split: values::split,
        parse: health,
    },
    Verb {
        name: CLOSURE,
        arguments: "-root DIR REPORT...",
        summary: "list the paths an image needs from DIR, one per line, for tar -T, rsync --files-from or cpio",
        notes: &[help::REPORTS],
        split: values::split,
        parse: closure,
    },
    Verb {
        name: UNUSED,
        arguments: "-root DIR REPORT...",
        summary: "list what is in DIR but in no report",
        notes: &[help::REPORTS],
        split: values::split,
        parse: unused,
    },
    Verb {
        name: SLIM,
        arguments: "-o FILE IMAGE REPORT...",
        summary: "build a small image with only the files of IMAGE that the reports list",
        notes: &[help::IMAGES, help::REPORTS],
        split: values::split,
        parse: slim,
    },
    Verb {
        name: MERGE,
        arguments: "[flags] REPORT...",
        summary: "make one report of the reports of many pods, and say whether they are enough",
        notes: &[help::MERGE_USE, help::REPORTS],
        split: values::split,
        parse: merge,
    },
    Verb {
        name: DIFF,
        arguments: "[-json] REPORT REPORT",
        summary: "list the files that only one of two reports lists, by kind of use",
        notes: &[help::DIFF_STATUS, help::REPORTS],
        split: values::split,
        parse: diff,
    },
    Verb {
        name: EXPORT,
        arguments: "-format NAME REPORT...",
        summary: "write what reports list in the format of another program",
        notes: &[help::REPORTS],
        split: values::split,
        parse: export,
    },
    Verb {
        name: SHOW,
        arguments: "[flags] REPORT",
        summary: "show a report to people: as a tree of directories, or as a page for a browser",
        notes: &[help::REPORTS],
        split: values::split,
        parse: show,
    },
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
    Slim(Slim),
    Merge(Merge),
    Diff(Diff),
    Export(Export),
    Show(Show),
}

#[derive(Debug, PartialEq)]
pub struct Config {
    /// The value as the user gave it: names, or @FILE. Empty means snoop's own pod.
    pub cgroups: OsString,
    pub report: Destination,
    pub interval: Duration,
    pub excludes: Excludes,
    /// Where to listen. `None` turns the listener off.
    pub metrics_addr: Option<Address>,
    pub log_level: Level,
    /// Whether to write nothing but errors.
    pub is_quiet: bool,
    pub max_unique_files: usize,
    pub choices: Choices,
    /// Whether to resume the existing report.
    pub resume: bool,
    pub metadata: Metadata,
    /// What `snoop node` is to do; the report is a directory then.
    pub node: Option<node::Options>,
}

/// Parses the words after the program's name, and the environment.
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
    let (flags, words) = (verb.split)(verb, words);
    match verb.asked(&flags) {
        Some(asked) => Ok(asked),
        None => (verb.parse)(verb, flags, words, &environment),
    }
}

/// Returns the command of that name.
fn verb(name: &OsStr) -> Option<&'static Verb> {
    VERBS
        .iter()
        .find(|verb| verb.name != TRACE && name == verb.name)
}

fn no_command(name: &OsStr) -> Error {
    let names: Vec<_> = VERBS[1..].iter().map(|verb| verb.name).collect();
    let (name, names) = (shown(name), names.join(", "));
    Error::usage(format!("help {name}: no such command; give one of {names}"))
}

/// Returns a word as an error message shows it, on one line.
fn shown(word: &OsStr) -> String {
    word.to_string_lossy().escape_debug().to_string()
}

impl Verb {
    /// Returns the text that `-help` or `-version` among its words asks for.
    fn asked(&self, words: &[OsString]) -> Option<Command> {
        values::asks_for(words).map(|asked| match asked {
            Asked::Help => Command::Help(self.help()),
            Asked::Version => Command::Version,
        })
    }

    fn unknown(&self, flag: &str) -> Error {
        let called = self.called();
        if self.name == RUN && flags::find(TRACE, flag).is_some() {
            return own_cgroup(&format!("-{flag}"));
        }
        Error::usage(format!(
            "-{flag}: unknown flag; {called} -help lists the flags"
        ))
    }

    fn unexpected(&self, word: &OsStr) -> Error {
        let (word, called) = (shown(word), self.called());
        Error::usage(format!(
            "{word}: unexpected argument; {called} -help shows the usage"
        ))
    }

    fn wrong(&self, e: lexopt::Error) -> Error {
        let called = self.called();
        Error::usage(format!("{e}; {called} -help shows the usage"))
    }
}

/// Returns the error for a cgroup that is given to `snoop run`, by a flag or a variable.
fn own_cgroup(source: &str) -> Error {
    Error::usage(format!(
        "{source}: snoop run creates its own cgroup; remove this"
    ))
}

fn trace(
    verb: &'static Verb,
    flags: Words,
    words: Words,
    environment: Environment,
) -> Result<Command> {
    let word = words.first();
    if let Some(command) = word.and_then(|word| self::verb(word)) {
        let (name, usage) = (command.name, command.usage());
        return Err(Error::usage(format!(
            "{name}: the command comes before its flags; write {usage}"
        )));
    }
    let values = Values::read(verb, flags, environment)?;
    if let Some(word) = word {
        return Err(verb.unexpected(word));
    }
    let cgroups = cgroups(&values)?;
    Ok(Command::Trace(config(&values, cgroups, environment)?))
}

fn run(
    verb: &'static Verb,
    flags: Words,
    command: Words,
    environment: Environment,
) -> Result<Command> {
    for variable in ["SNOOP_CGROUP", "SNOOP_CGROUPS"] {
        if environment(variable).is_some_and(|value| !value.is_empty()) {
            return Err(own_cgroup(variable));
        }
    }
    let values = Values::read(verb, flags, environment)?;
    let config = config(&values, OsString::new(), environment)?;
    if command.is_empty() {
        let usage = verb.usage();
        return Err(Error::usage(format!(
            "run: a command is missing; write {usage}"
        )));
    }
    Ok(Command::Run(config, command))
}

fn node(
    verb: &'static Verb,
    flags: Words,
    words: Words,
    environment: Environment,
) -> Result<Command> {
    let values = Values::read(verb, flags, environment)?;
    if let Some(word) = words.first() {
        return Err(verb.unexpected(word));
    }
    let reports = PathBuf::from(values.get("reports"));
    let patterns = |name: &str| values.text(name).map(Patterns::parse);
    let number = |name: &str, most: u32| {
        let what = format!("a number from 0 to {most}");
        let parse = |text: &str| text.parse::<u32>().ok().filter(|n| *n <= most);
        values.parsed(name, &what, "a number, such as 1000000", parse)
    };
    let size = values.parsed(
        "max-bytes",
        "a size",
        "one such as 500M or 20G",
        values::size,
    )?;
    let options = node::Options {
        filter: Filter {
            namespaces: patterns("namespaces")?,
            not_namespaces: patterns("not-namespaces")?,
            pods: patterns("pods")?,
            images: patterns("images")?,
        },
        reports: reports.clone(),
        max_bytes: size,
        host: values.get("host").into(),
        max_series: number("max-series", 1_000_000)? as usize,
        known_bits: node::known_bits(number("known", node::KNOWN_MOST)?),
    };
    let cgroup = values.get("cgroup").to_os_string();
    let report = Destination::Directory(reports);
    Ok(Command::Trace(Config {
        node: Some(options),
        ..common(&values, cgroup, report)?
    }))
}

fn check(verb: &'static Verb, words: Words, _: Words, _: Environment) -> Result<Command> {
    match words.first() {
        Some(word) => Err(verb.unexpected(word)),
        None => Ok(Command::Check),
    }
}

fn health(
    verb: &'static Verb,
    flags: Words,
    words: Words,
    environment: Environment,
) -> Result<Command> {
    let values = Values::read(verb, flags, environment)?;
    if let Some(word) = words.first() {
        return Err(verb.unexpected(word));
    }
    let (why, remedy) = (
        "there is no listener to ask",
        "give the address of the running snoop",
    );
    let address = metrics_addr(&values)?;
    address
        .map(Command::Health)
        .ok_or_else(|| values.wrong("metrics-addr", why, remedy))
}

/// Returns the address to listen on, or the one on which the running snoop listens.
fn metrics_addr(values: &Values) -> Result<Option<Address>> {
    values.parsed(
        "metrics-addr",
        "an address with a port",
        "one such as :9090, 127.0.0.1:9090 or [::1]:9090; an empty value turns the listener off",
        values::address,
    )
}

/// Reads the words of a command about an image. Returns the values of its flags and the image's root.
fn image_words(verb: &'static Verb, flags: Words, reports: &Words) -> Result<(Values, PathBuf)> {
    let values = Values::read(verb, flags, &|_| None)?;
    let root = values.get("root");
    if root.is_empty() || reports.is_empty() {
        let (name, usage) = (verb.name, verb.usage());
        return Err(Error::usage(format!(
            "{name}: -root or the report is missing; write {usage}"
        )));
    }
    let root = root.into();
    Ok((values, root))
}

/// Returns the kinds of use that count.
fn kinds(values: &Values) -> Result<Kinds> {
    let parse = |letters: &str| Kinds::parse(letters).filter(|kinds| *kinds != Kinds::UNKNOWN);
    let letters = "some of the letters l, r, w, x and m, such as rwxm";
    values.parsed("kinds", "a list of kinds", letters, parse)
}

fn closure(verb: &'static Verb, flags: Words, reports: Words, _: Environment) -> Result<Command> {
    let (values, root) = image_words(verb, flags, &reports)?;
    let format = values.one_of("format", "a format", Format::parse)?;
    let format = match (values.is_given("0"), format) {
        (true, Format::Lines) => Format::Nul,
        (true, _) => {
            return Err(values.wrong(
                "format",
                "-0 is for -format=paths only",
                "remove one of the two",
            ));
        }
        (false, format) => format,
    };
    let with_runtime = values.parsed("runtime", "a yes or no", "true or false", values::boolean)?;
    Ok(Command::Closure(Closure {
        root,
        reports,
        format,
        kinds: kinds(&values)?,
        with_runtime,
    }))
}

fn unused(verb: &'static Verb, flags: Words, reports: Words, _: Environment) -> Result<Command> {
    let (values, root) = image_words(verb, flags, &reports)?;
    let form = match values.last_of(&["paths", "json"]) {
        Some("json") => Output::Json,
        Some(_) => Output::Paths,
        None => Output::Summary,
    };
    Ok(Command::Unused(Unused {
        root,
        reports,
        form,
        kinds: kinds(&values)?,
    }))
}

fn slim(verb: &'static Verb, flags: Words, words: Words, _: Environment) -> Result<Command> {
    let values = Values::read(verb, flags, &|_| None)?;
    let mut words = words.into_iter();
    let (output, sbom, image) = (values.get("o"), values.get("sbom"), words.next());
    let (Some(image), false, true) = (image, output.is_empty(), words.len() > 0) else {
        let usage = verb.usage();
        return Err(Error::usage(format!(
            "slim: -o, the image or the report is missing; write {usage}"
        )));
    };
    let reports: Vec<_> = words.collect();
    check_inputs(reports.iter().chain([&image]))?;
    let text = |name: &str| {
        let text = values.text(name)?;
        Ok((!text.is_empty()).then(|| text.to_string()))
    };
    let max_size = values.parsed(
        "max-size",
        "a size",
        "one such as 500M or 20G",
        values::size,
    )?;
    Ok(Command::Slim(Slim {
        output: output.into(),
        image,
        reports,
        tag: text("tag")?,
        name: text("image")?,
        platform: text("platform")?,
        keep: values.all("keep").map(OsString::from).collect(),
        keep_from: values.all("keep-from").map(PathBuf::from).collect(),
        kinds: kinds(&values)?,
        takes_incomplete: values.is_given("incomplete"),
        takes_other_image: values.is_given("any-image"),
        is_squashed: values.is_given("squash"),
        max_size,
        sbom: (!sbom.is_empty()).then(|| sbom.into()),
        is_json: values.is_given("json"),
    }))
}

/// Checks that at most one of the inputs is standard input.
fn check_inputs<'a>(inputs: impl IntoIterator<Item = &'a OsString>) -> Result<()> {
    match inputs.into_iter().filter(|name| *name == "-").count() {
        0 | 1 => Ok(()),
        _ => Err(Error::usage(
            "-: several inputs are standard input; give it for only one of them",
        )),
    }
}

fn merge(verb: &'static Verb, flags: Words, reports: Words, _: Environment) -> Result<Command> {
    let values = Values::read(verb, flags, &|_| None)?;
    let output = values.get("o");
    if reports.is_empty() || output.is_empty() {
        let usage = verb.usage();
        return Err(Error::usage(format!(
            "merge: a report or the file of -o is missing; write {usage}"
        )));
    }
    check_inputs(&reports)?;
    Ok(Command::Merge(Merge {
        output: output.into(),
        takes_any_image: values.is_given("any-image"),
        reports,
    }))
}

fn diff(verb: &'static Verb, flags: Words, reports: Words, _: Environment) -> Result<Command> {
    let values = Values::read(verb, flags, &|_| None)?;
    check_inputs(&reports)?;
    let reports = reports.try_into().map_err(|_| {
        let usage = verb.usage();
        Error::usage(format!("diff: give two reports; write {usage}"))
    })?;
    Ok(Command::Diff(Diff {
        reports,
        is_json: values.is_given("json"),
    }))
}

fn export(verb: &'static Verb, flags: Words, reports: Words, _: Environment) -> Result<Command> {
    let values = Values::read(verb, flags, &|_| None)?;
    let (root, output) = (values.get("root"), values.get("o"));
    if values.get("format").is_empty() || output.is_empty() || reports.is_empty() {
        let usage = verb.usage();
        return Err(Error::usage(format!(
            "export: -format, the file of -o or the report is missing; write {usage}"
        )));
    }
    check_inputs(&reports)?;
    Ok(Command::Export(Export {
        format: values.one_of("format", "a format", export::Format::parse)?,
        root: (!root.is_empty()).then(|| root.into()),
        output: output.into(),
        takes_any_image: values.is_given("any-image"),
        reports,
    }))
}

fn show(
    verb: &'static Verb,
    flags: Words,
    reports: Words,
    environment: Environment,
) -> Result<Command> {
    let values = Values::read(verb, flags, &|_| None)?;
    let [report] = <[OsString; 1]>::try_from(reports).map_err(|_| {
        let usage = verb.usage();
        Error::usage(format!("show: give one report; write {usage}"))
    })?;
    let depth = values.parsed(
        "depth",
        "a number of levels",
        "one such as 3",
        |text| match text {
            "" => Some(usize::MAX),
            text => text.parse().ok(),
        },
    )?;
    let (html, root) = (values.get("html"), values.get("root"));
    Ok(Command::Show(Show {
        report,
        html: (!html.is_empty()).then(|| html.into()),
        root: (!root.is_empty()).then(|| root.into()),
        depth,
        // https://no-color.org
        allows_colour: environment("NO_COLOR").is_none_or(|value| value.is_empty()),
    }))
}

/// Returns the value of `-cgroup` or `-cgroups`. Empty means snoop's own pod.
fn cgroups(values: &Values) -> Result<OsString> {
    match (values.given("cgroup"), values.given("cgroups")) {
        (Some((source, _)), Some(_)) => {
            let why = format!("{source} is given as well");
            Err(values.wrong("cgroups", &why, "give only one of them"))
        }
        (Some((_, one)), None)
            if one.as_bytes().contains(&b',') && !one.as_bytes().starts_with(b"@") =>
        {
            let remedy = "give them as -cgroups";
            Err(values.wrong("cgroup", "these are several cgroups", remedy))
        }
        (Some((_, cgroups)), None) | (None, Some((_, cgroups))) => Ok(cgroups.into()),
        (None, None) => Ok(OsString::new()),
    }
}

/// Returns the configuration for a single report.
fn config(values: &Values, cgroups: OsString, environment: Environment) -> Result<Config> {
    let report = values.get("report");
    if report.is_empty() {
        return Err(values.wrong("report", "it is empty", "give the name of a file"));
    }
    Ok(Config {
        resume: values.parsed("resume", "a boolean", "true or false", values::boolean)?,
        metadata: metadata(values, environment)?,
        ..common(values, cgroups, Destination::parse(report))?
    })
}

/// Returns the configuration by the flags that all commands have that trace.
fn common(values: &Values, cgroups: OsString, report: Destination) -> Result<Config> {
    let interval = values.parsed(
        "interval",
        "a time of at least 1s",
        "numbers with units, such as 1s, 30s or 1m30s",
        |text| values::duration(text).filter(|d| *d >= Duration::from_secs(1)),
    )?;
    let max_unique_files = values.parsed(
        "max-unique-files",
        &format!("a number of files from 0 to {}", u32::MAX),
        "a limit, such as 100000; 0 means no limit",
        |text| text.parse::<u32>().ok(),
    )?;
    let buffer = values.one_of("buffer", "a buffer", |name| match name {
        "auto" => Some(None),
        name => Buffer::parse(name).map(Some),
    })?;
    let hooks = values.one_of("hooks", "a kind of hooks", |name| match name {
        "auto" => Some(None),
        name => Rung::parse(name).map(Some),
    })?;
    let log_level = values.one_of("log-level", "a level", Level::parse)?;
    let is_quiet = values.is_given("quiet")
        && values.parsed("quiet", "a boolean", "true or false", values::boolean)?;
    let metrics_addr = metrics_addr(values)?;
    Ok(Config {
        cgroups,
        report,
        interval,
        excludes: Excludes::parse(values.get("exclude").as_bytes()),
        metrics_addr,
        log_level: if is_quiet { Level::Error } else { log_level },
        is_quiet,
        max_unique_files: max_unique_files as usize,
        choices: Choices { buffer, hooks },
        resume: true,
        metadata: Metadata::default(),
        node: None,
    })
}

fn metadata(values: &Values, environment: Environment) -> Result<Metadata> {
    // The name in the report, the flag, and the variable that manifests usually set from the Kubernetes downward API.
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
        let given = match flag {
            "" => "",
            flag => values.text(flag)?,
        };
        let value = match given {
            "" if values.is_given(flag) => None,
            "" => environment(variable).and_then(|value| value.into_string().ok()),
            given => Some(given.into()),
        };
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            metadata.known.push((field, value));
        }
    }
    let what = "a list of labels";
    let examples = "keys with values, such as app=web,tier=front";
    metadata.labels = values.parsed("labels", what, examples, values::labels)?;
    Ok(metadata)
}
