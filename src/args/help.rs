// SPDX-License-Identifier: MIT OR Apache-2.0
//! The help texts, made from the tables of commands and flags.

use super::flags::{self, FLAGS, Flag, RUN, Section, TRACE};
use super::{VERBS, Verb};

/// The longest line, in characters.
const WIDTH: usize = 88;
/// The column in which the texts about flags begin.
const INDENT: usize = 25;
/// The column in which the texts about commands begin.
const USAGES: usize = 39;

pub const ABOUT: &str =
    "snoop records which files the containers of a pod use, and reports them as JSON.";

pub const FORMS: &str = "Flags are written -flag=v, -flag v, --flag=v or --flag v. The environment variable SNOOP_FLAG_NAME sets \
-flag-name; the command line takes precedence. POD_NAME, POD_NAMESPACE, POD_UID and NODE_NAME are copied into the report \
too.";

pub const STATUS: &str =
    "Exit status: 0 success, 1 failure at run time, 2 incorrect usage or configuration.";

pub const RUN_STATUS: &str = "snoop run exits with the command's status: 128 + N if signal N ended it, 127 if it was not \
found, 126 if it cannot be executed.";

pub const HEALTH_USE: &str =
    "Use it in HEALTHCHECK, Compose and exec probes, because the image contains no other program.";

pub const NODE_USE: &str = "Names of pods and images come from the node's directories, mounted read-only below -host: see docs/node.md.";

pub const REPORTS: &str = "A REPORT of - is standard input.";

pub const MERGE_USE: &str = "On standard error it says how likely the next pod is to use a file that none of the reports lists, and how that \
is estimated.";

pub const DIFF_STATUS: &str =
    "snoop diff exits with 0 if both list the same files, 1 if not, and 2 after any failure.";

pub const IMAGES: &str = "IMAGE is what docker save or podman save writes, an OCI archive, or a directory with an OCI layout; - is \
standard input.";

impl Section {
    pub const ALL: [Section; 13] = [
        Section::Cgroups,
        Section::Node,
        Section::Output,
        Section::Metadata,
        Section::Health,
        Section::Images,
        Section::Closure,
        Section::Unused,
        Section::Slim,
        Section::Merge,
        Section::Diff,
        Section::Export,
        Section::Show,
    ];

    pub fn title(self) -> &'static str {
        match self {
            Section::Cgroups => "Containers to trace (default: all in snoop's pod except its own)",
            Section::Node => "For node",
            Section::Output => "Output",
            Section::Metadata => "Copied into the report",
            Section::Health => "For health",
            Section::Images => "For closure and unused",
            Section::Closure => "For closure",
            Section::Unused => "For unused",
            Section::Slim => "For slim",
            Section::Merge => "For merge",
            Section::Diff => "For diff",
            Section::Export => "For export",
            Section::Show => "For show",
        }
    }
}

/// Returns the help about all commands and flags.
pub fn help() -> String {
    let mut text = format!("{ABOUT}\n\nUsage:\n");
    for verb in &VERBS {
        text += &entry(&verb.usage(), &[verb.summary], USAGES);
    }
    let summary = "print this text, or the help for one command";
    text += &entry("snoop help [COMMAND]", &[summary], USAGES);
    for section in Section::ALL {
        text += &format!("\n{}:\n", section.title());
        for flag in FLAGS.iter().filter(|flag| flag.section == section) {
            text += &of_flag(flag, None);
        }
    }
    text += "\nFor all commands:\n";
    let summary = "print this text; after a command, print the help for that command";
    text += &entry("-help", &[summary], INDENT);
    text += &entry("-version", &["print the version"], INDENT);
    for note in [REPORTS, IMAGES, FORMS, STATUS, RUN_STATUS, DIFF_STATUS] {
        text += &paragraph(note);
    }
    text
}

impl Verb {
    /// Returns the command as the user types it, without arguments.
    pub(super) fn called(&self) -> String {
        format!("snoop {}", self.name).trim_end().into()
    }

    pub(super) fn usage(&self) -> String {
        format!("{} {}", self.called(), self.arguments)
            .trim_end()
            .into()
    }

    /// Returns the help for this command alone. Tracing has no help of its own, because the general help covers it.
    pub(super) fn help(&self) -> String {
        if self.name == TRACE {
            return help();
        }
        let mut text = format!("Usage: {}\n", self.usage());
        text += &paragraph(self.summary);
        for (title, flags) in self.groups() {
            text += &format!("\n{title}:\n");
            for flag in flags {
                text += &of_flag(flag, Some(self));
            }
        }
        for note in self.notes {
            text += &paragraph(note);
        }
        text
    }

    /// Returns the flags under their titles. Only `run` has enough flags to need more than one title.
    fn groups(&self) -> Vec<(&'static str, Vec<&'static Flag>)> {
        let mut groups: Vec<(&str, Vec<&Flag>)> = Vec::new();
        for flag in flags::of(self.name) {
            let title = match self.name {
                RUN => flag.section.title(),
                _ => "Flags",
            };
            match groups.last_mut() {
                Some((last, flags)) if *last == title => flags.push(flag),
                _ => groups.push((title, vec![flag])),
            }
        }
        groups
    }
}

/// Returns the default as the help words it, for one command or for all that take the flag. Empty if there is none.
pub fn default_text(flag: &Flag, verb: Option<&Verb>) -> String {
    let named = |default: &'static str| match default {
        "" => "empty",
        default => default,
    };
    match (verb, flag.run_default) {
        (None, Some(run)) => format!("{}; run: {}", flag.default, named(run)),
        (Some(verb), _) if !flag.default.is_empty() => named(flag.default_of(verb.name)).into(),
        _ => flag.default.into(),
    }
}

/// Returns the help entry of a flag. Only the help for a single command has room for the details.
fn of_flag(flag: &Flag, verb: Option<&Verb>) -> String {
    let text = match verb {
        Some(_) => flag.full_text(),
        None => flag.summary.into(),
    };
    let default = match &*default_text(flag, verb) {
        "" => String::new(),
        default => format!("(default {default})"),
    };
    entry(&flag.usage(), &[&plain(&text), &default], INDENT)
}

/// Returns the text without the backquotes that mark code.
pub fn plain(text: &str) -> String {
    text.replace('`', "")
}

/// Returns a name with a text beside it, which is wrapped in a column of its own.
fn entry(name: &str, texts: &[&str], indent: usize) -> String {
    let lines = wrapped(&texts.join(" "), WIDTH - indent);
    let mut text = String::new();
    let mut name = format!("  {name}");
    for line in lines {
        text += &format!("{name:<indent$}{line}\n");
        name.clear();
    }
    text
}

/// Returns a paragraph with an empty line before it.
fn paragraph(text: &str) -> String {
    format!("\n{}\n", wrapped(text, WIDTH).join("\n"))
}

/// Wraps a text into lines of at most `width` characters.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there always is one");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.into());
        }
    }
    lines
}
