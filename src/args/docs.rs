// SPDX-License-Identifier: MIT OR Apache-2.0
//! The man page, the shell completions and the READMEs' tables of flags, made from the tables of commands and flags. The
//! test fails if one of them is stale. If SNOOP_DOCS is `write`, as `make docs` sets it, the test writes them instead.

use super::flags::{self, FLAGS, Flag, Kind, RUN, Section, TRACE};
use super::{VERBS, Verb, help};
use std::env;
use std::fs;
use std::path::Path;

/// The date of the man page. Change it together with the texts.
const DATE: &str = "2026-12-01";

/// A file, and the function that turns its present text into the text it should have.
type Page = (&'static str, fn(&str) -> String);

const PAGES: &[Page] = &[
    ("docs/snoop.1", |_| man()),
    ("docs/completions/snoop.bash", |_| bash()),
    ("docs/completions/_snoop", |_| zsh()),
    ("docs/completions/snoop.fish", |_| fish()),
    ("README.md", readme),
    ("docs/slim.md", slim),
    ("docs/node.md", node),
    ("docs/merge.md", merge),
    ("docs/export.md", export),
    ("docs/show.md", show),
    ("deploy/kubernetes/README.md", deploy_readme),
];

#[test]
fn docs_are_up_to_date() {
    let write = env::var_os("SNOOP_DOCS").is_some_and(|value| value == "write");
    for (name, page) in PAGES {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        let is = fs::read_to_string(&path).unwrap_or_default();
        let expected = page(&is);
        if write {
            fs::create_dir_all(path.parent().expect("it is in the project")).unwrap();
            fs::write(&path, expected).unwrap();
        } else if is != expected {
            let mut lines = is.lines().zip(expected.lines()).enumerate();
            let first = lines.find(|(_, (is, expected))| is != expected);
            panic!(
                "{name} is stale; run `make docs`. First difference (line, is, expected): {first:?}"
            );
        }
    }
}

const SWITCHES: [(&str, &str); 2] = [("help", "print the help"), ("version", "print the version")];

/// Returns the text with the rows of the table after `head` replaced.
fn with_table(text: &str, head: &str, rows: &[String]) -> String {
    let at = text.find(head).unwrap_or_else(|| panic!("no table {head}"));
    let rows_at = at + head.len();
    let end = text[rows_at..].find("\n\n").expect("an empty line") + rows_at + 1;
    format!("{}{}\n{}", &text[..rows_at], rows.join("\n"), &text[end..])
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

fn defaults(flag: &Flag, verb: Option<&Verb>) -> String {
    let code = |default: &str| match default {
        "empty" => "empty".to_string(),
        default => format!("`{default}`"),
    };
    let text = help::default_text(flag, verb);
    match text.split_once("; run: ") {
        _ if text.is_empty() => String::new(),
        Some((default, run)) => format!("{}; `run`: {}", code(default), code(run)),
        None => code(&text),
    }
}

fn row(flag: &Flag, defaults: &str, text: &str) -> String {
    let usage = match flag.kind {
        Kind::Bool => format!("-{}", flag.name),
        _ => flag.usage(),
    };
    format!("| `{usage}` | {defaults} | {text} |").replace("|  |", "| |")
}

/// Returns the rows of all flags in these sections.
fn rows(sections: &[Section]) -> Vec<String> {
    let flags = FLAGS.iter().filter(|flag| sections.contains(&flag.section));
    flags
        .map(|flag| row(flag, &defaults(flag, None), &flag.full_text()))
        .collect()
}

fn readme(text: &str) -> String {
    let mut tracing = rows(&[Section::Cgroups, Section::Output]);
    tracing.push(metadata_row());
    let text = with_table(
        text,
        "| flag | default | meaning |\n| --- | --- | --- |\n",
        &tracing,
    );
    let head = "| flag of `closure` or `unused` | default | meaning |\n| --- | --- | --- |\n";
    with_table(
        &text,
        head,
        &rows(&[Section::Images, Section::Closure, Section::Unused]),
    )
}

fn node(text: &str) -> String {
    let head = "| flag of `node` | default | meaning |\n| --- | --- | --- |\n";
    with_table(text, head, &rows(&[Section::Node]))
}

fn slim(text: &str) -> String {
    let head = "| flag of `slim` | default | meaning |\n| --- | --- | --- |\n";
    with_table(text, head, &rows(&[Section::Slim]))
}

fn export(text: &str) -> String {
    let head = "| flag of `export` | default | meaning |\n| --- | --- | --- |\n";
    with_table(text, head, &rows(&[Section::Export]))
}

fn merge(text: &str) -> String {
    let head = "| flag of `merge` | default | meaning |\n| --- | --- | --- |\n";
    let text = with_table(text, head, &rows(&[Section::Merge]));
    let head = "| flag of `diff` | default | meaning |\n| --- | --- | --- |\n";
    with_table(&text, head, &rows(&[Section::Diff]))
}

fn show(text: &str) -> String {
    let head = "| flag of `show` | default | meaning |\n| --- | --- | --- |\n";
    with_table(text, head, &rows(&[Section::Show]))
}

/// Returns the one row for all flags whose values are only copied into the report.
fn metadata_row() -> String {
    let flags = FLAGS
        .iter()
        .filter(|flag| flag.section == Section::Metadata);
    let usages: Vec<_> = flags.map(|flag| format!("`{}`", flag.usage())).collect();
    let text = "copied into the report";
    format!("| {} | | {text} |", usages.join(", "))
}

fn deploy_readme(text: &str) -> String {
    let verb = &VERBS[0];
    let flags = flags::of(TRACE).filter(|flag| flag.section != Section::Metadata);
    let mut rows: Vec<_> = flags
        .map(|flag| row(flag, &defaults(flag, Some(verb)), flag.summary))
        .collect();
    rows.push(metadata_row());
    with_table(
        text,
        "| flag | default | meaning |\n| --- | --- | --- |\n",
        &rows,
    )
}

/// Returns the text as roff: each sentence begins a new line, and no line is too long.
fn roff(text: &str) -> String {
    let mut out = Vec::new();
    for sentence in text.replace(". ", ".\n").lines() {
        out.extend(help::wrapped(sentence, 66));
    }
    roff_line(&out.join("\n"))
}

/// Returns the text as roff within a line. What Markdown marks as code becomes bold.
fn roff_line(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    let mut parts = text.split('`');
    let mut out = parts.next().unwrap_or_default().to_string();
    for (at, part) in parts.enumerate() {
        let font = if at % 2 == 0 { "\\fB" } else { "\\fR" };
        out += &format!("{font}{part}");
    }
    out
}

fn man_flag(flag: &Flag, verb: Option<&Verb>) -> String {
    let value = match flag.kind {
        Kind::Switch => String::new(),
        Kind::Bool => format!("=\\fI{}\\fR", roff(flag.value)),
        _ => format!(" \\fI{}\\fR", roff(flag.value)),
    };
    let default = match &*help::default_text(flag, verb) {
        "" => String::new(),
        default => format!("\nThe default is {}.", roff(default)),
    };
    let details = match flag.details {
        "" => String::new(),
        details => format!("\n{}.", roff(&sentence(details))),
    };
    let text = roff(&sentence(flag.summary));
    format!(
        ".TP\n\\fB\\-{}\\fR{value}\n{text}.{details}{default}\n",
        roff(flag.name)
    )
}

fn man() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut page = format!(".TH SNOOP 1 {DATE} \"snoop {version}\"\n");
    page += ".SH NAME\nsnoop \\- record which files the containers of a pod use\n.SH SYNOPSIS\n";
    for (at, verb) in VERBS.iter().enumerate() {
        let br = if at == 0 { "" } else { ".br\n" };
        page += &format!(
            "{br}\\fB{}\\fR {}\n",
            roff(&verb.called()),
            roff(verb.arguments)
        )
        .replace(" \n", "\n");
    }
    page += ".br\n\\fBsnoop help\\fR [COMMAND]\n.SH DESCRIPTION\n";
    page += &format!("{}\n", roff(help::ABOUT));
    page += "The report shows which files an image needs.\n.SH COMMANDS\n";
    for verb in &VERBS {
        let text = roff(&sentence(verb.summary));
        page += &format!(".TP\n\\fB{}\\fR\n{text}.\n", roff(&verb.called()));
    }
    page += ".SH OPTIONS\n";
    for section in Section::ALL {
        page += &format!(".SS {}\n", roff(section.title()));
        for flag in FLAGS.iter().filter(|flag| flag.section == section) {
            page += &man_flag(flag, None);
        }
    }
    page += ".SS For all commands\n";
    for (name, summary) in SWITCHES {
        page += &format!(".TP\n\\fB\\-{name}\\fR\n{}.\n", sentence(summary));
    }
    page += &format!(".SH ENVIRONMENT\n{}\n", roff(help::FORMS));
    page += ".SH SIGNALS\nSIGHUP writes the report at once.\nSIGTERM and SIGINT write a final report and end snoop.\n\
        A second one ends snoop at once, without writing.\n";
    page += &format!(
        ".SH EXIT STATUS\n{}\n.PP\n{}\n.PP\n{}\n",
        roff(&help::STATUS.replace("Exit status: ", "")),
        roff(help::RUN_STATUS),
        roff(help::DIFF_STATUS)
    );
    page
}

/// Returns the names of all commands.
fn commands() -> String {
    let names: Vec<_> = VERBS[1..].iter().map(|verb| verb.name).collect();
    format!("{} help", names.join(" "))
}

fn dashed(names: impl Iterator<Item = &'static str>) -> String {
    names
        .map(|name| format!("-{name}"))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Returns what bash completes after a flag that takes a value.
fn bash_values() -> String {
    let mut values = String::new();
    let mut others = Vec::new();
    for flag in FLAGS {
        match flag.kind {
            Kind::OneOf(names) => {
                // Commands may have different flags of one name. Tracing has no word that says so.
                let of_verb = |verb: &&str| match *verb {
                    TRACE => format!("*\" -{}\"", flag.name),
                    verb => format!("\"{verb} -{}\"", flag.name),
                };
                let patterns: Vec<_> = match flag.verbs.contains(&TRACE) {
                    true => vec![of_verb(&TRACE)],
                    false => flag.verbs.iter().map(of_verb).collect(),
                };
                let (names, patterns) = (names.join(" "), patterns.join(" | "));
                values += &format!(
                    "\t{patterns}) mapfile -t COMPREPLY < <(compgen -W \"{names}\" -- \"$word\") && return ;;\n"
                );
            }
            Kind::Text if !others.contains(&flag.name) => others.push(flag.name),
            _ => {}
        }
    }
    let texts: Vec<_> = others.iter().map(|name| format!("*\" -{name}\"")).collect();
    let texts = texts.join(" | ");
    format!("{values}\t{texts}) return ;;\n")
}

fn bash() -> String {
    let mut by_verb = String::new();
    for verb in VERBS[1..].iter().filter(|verb| verb.name != "check") {
        let names = dashed(flags::of(verb.name).map(|flag| flag.name));
        by_verb += &format!("\t{}) flags=\"{names}\" ;;\n", verb.name);
    }
    let tracing = dashed(flags::of(TRACE).map(|flag| flag.name));
    let values = bash_values();
    format!(
        "# Completion of snoop for bash. Made by `make docs`.

_snoop() {{
	local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD - 1]}} command=${{COMP_WORDS[1]}} flags
	case \"$command $before\" in
{values}	*\" -root\") mapfile -t COMPREPLY < <(compgen -d -- \"$word\") && return ;;
	*\" -report\") mapfile -t COMPREPLY < <(compgen -f -- \"$word\") && return ;;
	esac
	case $command in
{by_verb}	check) flags= ;;
	help) mapfile -t COMPREPLY < <(compgen -W \"{commands}\" -- \"$word\") && return ;;
	*) flags=\"{tracing}\" ;;
	esac
	case $word in
	-*) mapfile -t COMPREPLY < <(compgen -W \"$flags -help -version\" -- \"$word\") ;;
	*)
		if [ \"$COMP_CWORD\" = 1 ]; then
			mapfile -t COMPREPLY < <(compgen -W \"{commands}\" -- \"$word\")
		elif [ \"$command\" = run ]; then
			mapfile -t COMPREPLY < <(compgen -c -f -- \"$word\")
		else
			mapfile -t COMPREPLY < <(compgen -f -- \"$word\")
		fi
		;;
	esac
}}
complete -F _snoop snoop
",
        commands = commands(),
    )
}

/// Escapes a text for the single quotes of a shell.
fn quoted(text: &str) -> String {
    text.replace('\'', "'\\''")
}

/// Returns a flag as zsh's _arguments takes it.
fn zsh_flag(flag: &Flag) -> String {
    let summary = quoted(&help::plain(flag.summary))
        .replace('[', "\\[")
        .replace(']', "\\]");
    let summary = summary.replace(':', "\\:");
    let value = flag.value.to_lowercase().replace(':', "\\:");
    let action = match flag.kind {
        Kind::Switch => return format!("\t\t'-{}[{summary}]'", flag.name),
        Kind::Bool => "(true false)".to_string(),
        Kind::Text => " ".to_string(),
        Kind::File => "_files".to_string(),
        Kind::Directory => "_files -/".to_string(),
        Kind::OneOf(names) => format!("({})", names.join(" ")),
    };
    let sign = match flag.kind {
        Kind::Bool => "=-",
        _ => "",
    };
    format!("\t\t'-{}{sign}[{summary}]:{value}:{action}'", flag.name)
}

fn zsh() -> String {
    let mut page = "#compdef snoop
# Completion of snoop for zsh. Made by `make docs`.

_snoop() {
	local -a verbs flags
	verbs=(
"
    .to_string();
    for verb in &VERBS[1..] {
        page += &format!("\t\t'{}:{}'\n", verb.name, quoted(verb.summary));
    }
    page += "\t\t'help:print the help'\n\t)\n\tcase ${words[2]} in\n";
    for verb in VERBS[1..].iter().chain(&VERBS[..1]) {
        let pattern = if verb.name == TRACE { "*" } else { verb.name };
        page += &format!("\t{pattern}) flags=(\n");
        for flag in flags::of(verb.name) {
            page += &format!("{}\n", zsh_flag(flag));
        }
        for (name, summary) in SWITCHES {
            page += &format!("\t\t'-{name}[{summary}]'\n");
        }
        page += match verb.name {
            TRACE => "",
            RUN => "\t\t'*::command:_normal'\n",
            "check" | "health" => "",
            _ => "\t\t'*:report:_files'\n",
        };
        page += "\t) ;;\n";
    }
    page += "\tesac
	if (( CURRENT == 2 )) && [[ ${words[2]} != -* ]]; then
		_describe command verbs
		return
	fi
	if [[ ${words[2]} = help ]]; then
		_describe command verbs
		return
	fi
	if (( ${verbs[(I)${words[2]}:*]} )); then
		shift words
		(( CURRENT-- ))
	fi
	_arguments $flags
}

_snoop \"$@\"
";
    page
}

fn fish() -> String {
    let names = commands();
    let mut page = format!(
        "# Completion of snoop for fish. Made by `make docs`.\n\ncomplete -c snoop -f\nset -l commands {names}\n"
    );
    for verb in &VERBS[1..] {
        let text = verb.summary.replace('\'', "\\'");
        page += &format!(
            "complete -c snoop -n \"not __fish_seen_subcommand_from $commands\" -a {} -d '{text}'\n",
            verb.name
        );
    }
    page += "complete -c snoop -n \"not __fish_seen_subcommand_from $commands\" -a help -d 'print the help'\n\
        complete -c snoop -n \"__fish_seen_subcommand_from help\" -a \"$commands\"\n\
        complete -c snoop -n \"__fish_seen_subcommand_from closure unused slim merge diff export show\" -F\n\
        complete -c snoop -n \"__fish_seen_subcommand_from run\" -a \"(__fish_complete_subcommand)\"\n";
    for verb in &VERBS {
        let condition = match verb.name {
            TRACE => "not __fish_seen_subcommand_from $commands".to_string(),
            name => format!("__fish_seen_subcommand_from {name}"),
        };
        for flag in flags::of(verb.name) {
            let action = match flag.kind {
                Kind::Switch => String::new(),
                Kind::Bool => " -a 'true false'".to_string(),
                Kind::Text => " -x".to_string(),
                Kind::File => " -r -F".to_string(),
                Kind::Directory => " -x -a '(__fish_complete_directories)'".to_string(),
                Kind::OneOf(names) => format!(" -x -a '{}'", names.join(" ")),
            };
            let text = help::plain(flag.summary).replace('\'', "\\'");
            page += &format!(
                "complete -c snoop -n \"{condition}\" -o {}{action} -d '{text}'\n",
                flag.name
            );
        }
    }
    for (name, summary) in SWITCHES {
        page += &format!("complete -c snoop -o {name} -d '{summary}'\n");
    }
    page
}
