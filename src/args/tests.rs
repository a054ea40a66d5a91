// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the command line is parsed, and the help texts.

use super::*;
use serde_json::json;

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

fn refused(words: &[&str]) -> String {
    let error = parsed(words, &[]).unwrap_err();
    assert_eq!(error.status, crate::error::USAGE);
    error.to_string()
}

/// The shortest flags with which a command is accepted.
fn minimal(verb: &str) -> &'static [&'static str] {
    match verb {
        TRACE => &["-cgroup=/c"],
        RUN => &["run", "-report=r"],
        HEALTH => &["health"],
        NODE => &["node"],
        CLOSURE => &["closure", "-root=/d"],
        SLIM => &["slim", "-o=/o", "i"],
        MERGE => &["merge"],
        DIFF => &["diff", "q"],
        EXPORT => &["export", "-format=paths"],
        SHOW => &["show"],
        _ => &["unused", "-root=/d"],
    }
}

/// The words that follow the flags of [`minimal`].
fn rest(verb: &str) -> &'static [&'static str] {
    match verb {
        TRACE | HEALTH | NODE => &[],
        _ => &["r"],
    }
}

#[test]
fn each_command_takes_its_flags_and_no_others() {
    for verb in VERBS.iter().filter(|verb| verb.name != "check") {
        for flag in flags::FLAGS {
            let known = flags::find(verb.name, flag.name);
            let word = match flag.kind {
                flags::Kind::Switch => format!("-{}", flag.name),
                _ => format!("-{}=x", flag.name),
            };
            let words = [minimal(verb.name), &[&word], rest(verb.name)].concat();
            let said = parsed(&words, &[]).map_or_else(|e| e.to_string(), |_| String::new());
            let refused =
                said.ends_with(" lists the flags") || said.contains("creates its own cgroup");
            assert_eq!(refused, known.is_none(), "{words:?}: {said}");
        }
    }
}

/// Every default passes through the parser as well.
#[test]
fn every_value_in_the_table_is_accepted() {
    for flag in flags::FLAGS {
        for verb in flag.verbs {
            let mut values = match flag.kind {
                flags::Kind::OneOf(names) => names.to_vec(),
                flags::Kind::Bool => vec!["true", "false"],
                _ => vec![],
            };
            values.extend(Some(flag.default_of(verb)).filter(|value| !value.is_empty()));
            for value in values {
                let word = format!("-{}={value}", flag.name);
                let words = [minimal(verb), &[&word], rest(verb)].concat();
                let done = parsed(&words, &[]);
                assert!(done.is_ok(), "{words:?}: {}", done.unwrap_err());
            }
        }
    }
}

#[test]
fn the_help_is_narrow_and_lists_each_flag() {
    for text in VERBS.iter().map(Verb::help) {
        let longest = text.lines().map(|line| line.chars().count()).max();
        assert!(longest.unwrap() <= 88, "{text}");
    }
    for flag in flags::FLAGS {
        let line = format!("\n  {}  ", flag.usage());
        assert!(help().contains(&line), "{line}");
        for verb in flag.verbs {
            let verb = VERBS.iter().find(|v| v.name == *verb).expect("a command");
            assert!(verb.help().contains(&line), "{line} of {}", verb.name);
        }
    }
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
        let usage = format!("Usage: {}\n\n{}", verb.usage(), &verb.summary[..30]);
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
        ("slim", "-squash", "-root"),
        ("merge", "-any-image", "-json"),
        ("diff", "-json", "-o"),
        ("export", "-format", "-json"),
        ("show", "-depth N", "-json"),
    ] {
        let own = said(&["help", name]);
        assert!(own.contains(has) && !own.contains(lacks), "{own}");
    }
    // After the traced command's name, the flag belongs to that command.
    let traced = parsed(&["run", "ls", "-help"], &[]).unwrap();
    assert!(matches!(traced, Command::Run(_, words) if words == ["ls", "-help"]));
    let said = refused(&["help", "chekc"]);
    assert_eq!(
        said,
        "help chekc: no such command; give one of run, node, check, health, closure, unused, slim, merge, diff, export, show"
    );
}

/// Returns the examples in a text: what follows "such as".
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
fn every_example_in_the_texts_is_accepted() {
    let mut found = Vec::new();
    for flag in flags::of(TRACE) {
        let wrong = format!("-{}=\u{1}?", flag.name);
        let error = parsed(&["-cgroup=/c", &wrong], &[]).err();
        let error = error.map_or(String::new(), |e| e.to_string());
        for text in [flag.summary, flag.details, &error] {
            for example in examples(text) {
                let words = ["-cgroup=/c", &format!("-{}={example}", flag.name)];
                let done = parsed(&words, &[]);
                assert!(done.is_ok(), "{example} of {text}: {}", done.unwrap_err());
                found.push((flag.name, text == error, example));
            }
        }
    }
    for (flag, in_error, example) in [
        ("interval", false, "1m30s"),
        ("interval", true, "1m30s"),
        ("max-unique-files", true, "100000"),
        ("metrics-addr", false, "[::1]:9090"),
        ("metrics-addr", true, "[::1]:9090"),
        ("labels", true, "app=web,tier=front"),
    ] {
        let looked_at = (flag, in_error, example.to_string());
        assert!(found.contains(&looked_at), "{looked_at:?} in {found:?}");
    }
}

#[test]
fn all_ways_to_write_a_flag_are_equivalent() {
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
fn boolean_flags() {
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
fn a_flag_takes_precedence_over_the_environment() {
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
    assert_eq!(
        error.unwrap_err().to_string(),
        "SNOOP_CGROUPS=/b: SNOOP_CGROUP is given as well; give only one of them"
    );
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
    let expected = json!([
        [field::IMAGE, "nginx:1"],
        [field::POD_NAME, "p-1"],
        [field::NAMESPACE, "web"],
        [field::LABELS, {"a": "1", "b": "x=y"}],
    ]);
    assert_eq!(json!(config.metadata.fields()), expected);
}

#[test]
fn quiet_means_errors_only() {
    for (flags, environment, is_quiet) in [
        (&["-quiet"][..], &[][..], true),
        (&["-quiet", "-log-level=debug"], &[], true),
        (&[], &[("SNOOP_QUIET", "true")], true),
        (&["-quiet=false"], &[("SNOOP_QUIET", "true")], false),
        (&[], &[], false),
    ] {
        let words = [&["run"], flags, &["ls"]].concat();
        let Command::Run(config, _) = parsed(&words, environment).unwrap() else {
            panic!("not a run");
        };
        assert_eq!(config.is_quiet, is_quiet, "{flags:?} {environment:?}");
        assert_eq!(config.log_level == Level::Error, is_quiet);
    }
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
    assert_eq!(
        refused(&["run", "-report=-"]),
        "run: a command is missing; write snoop run [flags] -- COMMAND..."
    );
    assert_eq!(
        refused(&["run", "-cgroup=/x", "ls"]),
        "-cgroup: snoop run creates its own cgroup; remove this"
    );
    let error = parsed(&["run", "ls"], &[("SNOOP_CGROUPS", "/x")]).unwrap_err();
    assert!(error.to_string().starts_with("SNOOP_CGROUPS: snoop run "));
}

/// Long, because it lists everything that the parser refuses.
#[test]
fn errors_name_the_wrong_input() {
    let cgroup = "-cgroup=/c";
    for (words, part) in [
        (
            &["-frobnicate"][..],
            "-frobnicate: unknown flag; snoop -help",
        ),
        (&["run", "-frob"], "-frob: unknown flag; snoop run -help"),
        (&["-x"], "-x: unknown flag"),
        (
            &["-report"],
            "-report: the value is missing; write -report=FILE",
        ),
        (&["stray"], "stray: unexpected argument; snoop"),
        (&["check", "stray"], "stray: unexpected argument; snoop"),
        (
            &["-report", "x", "check"],
            "check: the command comes before its flags; write snoop check",
        ),
        (
            &["-root", "d", "closure", "r"],
            "write snoop closure -root DIR REPORT...",
        ),
        (
            &["-cgroup=/a,/b"],
            "-cgroup=/a,/b: these are several cgroups; give them as -cgroups",
        ),
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
        (
            &[cgroup, "-metrics-addr=9090"],
            "-metrics-addr=9090: not an address with a port; give one such as",
        ),
        (
            &["health", "-metrics-addr="],
            "-metrics-addr=: there is no listener to ask; give the address",
        ),
        (&["health", "-report=r"], "-report: unknown flag"),
        (&[cgroup, "-metrics-addr=:70000"], "not an address"),
        (&[cgroup, "-labels=app"], "not a list of labels"),
        (
            &[cgroup, "-report="],
            "-report=: it is empty; give the name of a file",
        ),
        (
            &[cgroup, "-resume=maybe"],
            "-resume=maybe: not a boolean; give true or false",
        ),
        (
            &[cgroup, "-buffer=big"],
            "-buffer=big: not a buffer; give one of auto, ring, perf",
        ),
    ] {
        let said = refused(words);
        assert!(said.contains(part), "{words:?}: {said}");
    }
    let largest = traced(&["-max-unique-files=4294967295"], &[]);
    assert_eq!(largest.max_unique_files, u32::MAX as usize);
}

#[test]
fn commands_for_images() {
    let words = ["closure", "-root", "/d", "a", "-0", "b"];
    let expected = Closure {
        root: "/d".into(),
        reports: vec!["a".into(), "b".into()],
        format: Format::Nul,
        kinds: Kinds::EVERY,
        with_runtime: true,
    };
    assert_eq!(parsed(&words, &[]).unwrap(), Command::Closure(expected));
    let expected = Unused {
        root: "/d".into(),
        reports: vec!["-".into()],
        form: Output::Json,
        kinds: Kinds::READ.and(Kinds::EXECUTED),
    };
    let words = ["unused", "--root=/d", "-json", "-kinds=xr", "-"];
    assert_eq!(parsed(&words, &[]).unwrap(), Command::Unused(expected));
    for (words, part) in [
        (
            &["closure", "r"][..],
            "closure: -root or the report is missing; write snoop closure -root DIR",
        ),
        (&["unused", "-root=/d"], "unused -root DIR REPORT"),
        (
            &["closure", "-root=/d", "-format=tar", "r"],
            "-format=tar: not a format; give one of paths, absolute",
        ),
        (
            &["closure", "-root=/d", "-0", "-format=absolute", "r"],
            "-format=absolute: -0 is for -format=paths only; remove one",
        ),
        (
            &["unused", "-root=/d", "-0", "r"],
            "-0: unknown flag; snoop unused -help",
        ),
        (
            &["closure", "-paths", "r"],
            "-paths: unknown flag; snoop closure -help",
        ),
        (
            &["unused", "-root=/d", "-kinds=", "r"],
            "-kinds=: not a list of kinds; give some of the letters l, r, w, x and m, such as rwxm",
        ),
        (
            &["closure", "-root=/d", "-kinds=rz", "r"],
            "-kinds=rz: not a list of kinds",
        ),
        (
            &["unused", "-root=/d", "-json=1", "r"],
            "-json=1: the flag takes no value; write -json",
        ),
    ] {
        let said = refused(words);
        assert!(said.contains(part), "{words:?}: {said}");
    }
}

#[test]
fn an_image_and_its_reports() {
    let words = [
        "slim",
        "-keep=/a",
        "-o",
        "out.tar",
        "-",
        "-keep",
        "/b*",
        "r.json",
        "-max-size=2K",
        "-squash",
        "-keep-from=f",
        "s.json",
        "-tag=x:1",
    ];
    let expected = Slim {
        image: "-".into(),
        reports: vec!["r.json".into(), "s.json".into()],
        output: "out.tar".into(),
        tag: Some("x:1".into()),
        keep: vec!["/a".into(), "/b*".into()],
        keep_from: vec!["f".into()],
        kinds: Kinds::EVERY,
        is_squashed: true,
        max_size: 2048,
        ..Slim::default()
    };
    assert_eq!(parsed(&words, &[]).unwrap(), Command::Slim(expected));
    for (words, part) in [
        (
            &["slim", "-o=o", "i"][..],
            "write snoop slim -o FILE IMAGE REPORT...",
        ),
        (
            &["slim", "i", "r"],
            "slim: -o, the image or the report is missing",
        ),
        (
            &["slim", "-o=o", "-", "r", "-"],
            "give it for only one of them",
        ),
        (
            &["slim", "-o=o", "-max-size=big", "i", "r"],
            "-max-size=big: not a size; give one such as 500M or 20G",
        ),
        (
            &["slim", "-o=o", "-max-size=0", "i", "r"],
            "-max-size=0: not a size",
        ),
        (
            &["slim", "-root=x", "i", "r"],
            "-root: unknown flag; snoop slim -help",
        ),
    ] {
        let said = refused(words);
        assert!(said.contains(part), "{words:?}: {said}");
    }
    assert_eq!(values::size("3M"), Some(3 << 20));
    assert_eq!(values::size("99999999999T"), None);
}
