// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table of flags. The parser, the help, the man page, the shell completions and the tables in the READMEs are all
//! made from it. To add a flag, add its row here and the code that uses its value.

use crate::export;
use crate::image::closure::Format;
use crate::log::Level;

/// What kind of value a flag takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// No value: the flag is given or not.
    Switch,
    /// `true` or `false`. A flag without a value means `true`.
    Bool,
    /// Any text.
    Text,
    File,
    Directory,
    /// One of these names.
    OneOf(&'static [&'static str]),
}

/// The heading under which the help lists a flag.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Section {
    Cgroups,
    Node,
    Output,
    Metadata,
    Health,
    Images,
    Closure,
    Unused,
    Slim,
    Merge,
    Diff,
    Export,
    Show,
}

pub struct Flag {
    /// The name, without a dash.
    pub name: &'static str,
    /// The placeholder for the value in the help, such as `FILE`. Empty for a switch.
    pub value: &'static str,
    pub kind: Kind,
    /// The value if the flag is not given. Empty means that there is no default.
    pub default: &'static str,
    /// The default of `snoop run`, if it differs.
    pub run_default: Option<&'static str>,
    /// What the flag does, in one sentence. Backquotes mark code here and in `details`.
    pub summary: &'static str,
    /// What the man page, the README and the help of a single command add to the summary.
    pub details: &'static str,
    pub section: Section,
    /// The names of the commands that take the flag.
    pub verbs: &'static [&'static str],
}

impl Flag {
    /// Returns the default for a command.
    pub fn default_of(&self, verb: &str) -> &'static str {
        match self.run_default {
            Some(default) if verb == RUN => default,
            _ => self.default,
        }
    }

    /// Returns whether an empty value has a meaning of its own. For all other flags an empty environment variable counts
    /// as unset, because manifests often set variables to nothing.
    pub fn may_be_empty(&self) -> bool {
        matches!(self.name, "exclude" | "metrics-addr")
    }

    /// Returns the environment variable that sets the flag. The commands for images read no variables.
    pub fn variable(&self) -> Option<String> {
        let by_variable = [TRACE, RUN, NODE, HEALTH]
            .iter()
            .any(|verb| self.verbs.contains(verb));
        by_variable.then(|| format!("SNOOP_{}", self.name.to_uppercase().replace('-', "_")))
    }

    /// Returns the summary followed by the details.
    pub fn full_text(&self) -> String {
        [self.summary, self.details]
            .join(". ")
            .trim_end_matches(". ")
            .into()
    }

    /// Returns the flag with its placeholder, as the help shows it.
    pub fn usage(&self) -> String {
        match self.kind {
            Kind::Switch => format!("-{}", self.name),
            Kind::Bool => format!("-{}={}", self.name, self.value),
            _ => format!("-{} {}", self.name, self.value),
        }
    }
}

/// The name of the command that traces, which is what snoop does if no command is given.
pub const TRACE: &str = "";
pub const RUN: &str = "run";
pub const NODE: &str = "node";
pub const HEALTH: &str = "health";
pub const CLOSURE: &str = "closure";
pub const UNUSED: &str = "unused";
pub const SLIM: &str = "slim";
pub const MERGE: &str = "merge";
pub const DIFF: &str = "diff";
pub const EXPORT: &str = "export";
pub const SHOW: &str = "show";

/// Returns the row of a flag of `slim`.
const fn slim(
    name: &'static str,
    value: &'static str,
    kind: Kind,
    summary: &'static str,
    details: &'static str,
) -> Flag {
    Flag {
        name,
        value,
        kind,
        default: "",
        run_default: None,
        summary,
        details,
        section: Section::Slim,
        verbs: &[SLIM],
    }
}

/// Returns the row of the flag that chooses files by how they were used.
const fn kinds(section: Section, verbs: &'static [&'static str]) -> Flag {
    Flag {
        name: "kinds",
        value: "LETTERS",
        kind: Kind::Text,
        default: "lrwxm",
        run_default: None,
        summary: "the kinds of use that count: `l` looked at, `r` read, `w` written, `x` executed, `m` mapped as a program or library",
        details: "`-kinds=rwxm` leaves out what was only looked at. That may break a program that only asks whether a file exists. A \
            file counts if nothing says how it was used, as in reports of schema 1",
        section,
        verbs,
    }
}

/// Returns the row of a flag of `node`.
const fn node(
    name: &'static str,
    value: &'static str,
    default: &'static str,
    summary: &'static str,
    details: &'static str,
) -> Flag {
    Flag {
        name,
        value,
        kind: Kind::Text,
        default,
        run_default: None,
        summary,
        details,
        section: Section::Node,
        verbs: &[NODE],
    }
}

/// Returns the row of a flag whose value is only copied into the report.
const fn metadata(name: &'static str, value: &'static str, summary: &'static str) -> Flag {
    Flag {
        name,
        value,
        kind: Kind::Text,
        default: "",
        run_default: None,
        summary,
        details: "",
        section: Section::Metadata,
        verbs: &[TRACE, RUN],
    }
}

/// Every flag, in the order in which the help lists them.
pub static FLAGS: &[Flag] = &[
    Flag {
        name: "cgroup",
        value: "PATH",
        kind: Kind::Text,
        default: "",
        run_default: None,
        summary: "the cgroup to trace, with all its descendants: a directory, a path as in `/proc/PID/cgroup`, `@FILE` to read \
            the path from a file, or `@parent` for everything that runs beside snoop's container",
        details: "`0::/path` and `@/proc/PID/cgroup` work too. snoop waits for a cgroup that does not exist yet. \
            `@parent` is the parent of snoop's own cgroup; it is for engines without pods and needs no mount",
        section: Section::Cgroups,
        verbs: &[TRACE],
    },
    Flag {
        name: "cgroups",
        value: "PATHS",
        kind: Kind::Text,
        default: "",
        run_default: None,
        summary: "several cgroups, separated by commas; `@FILE` may list one path per line",
        details: "",
        section: Section::Cgroups,
        verbs: &[TRACE],
    },
    node(
        "cgroup",
        "PATH",
        "",
        "trace the containers below this cgroup, at any depth; the default is the kubelet's, found from snoop's own",
        "`/` means all containers of the machine. A cgroup above snoop's own needs no mount",
    ),
    node(
        "namespaces",
        "NAMES",
        "",
        "trace only pods of these namespaces",
        "`NAMES` are patterns, separated by commas; `*`, `?` and `[abc]` match parts of a name, of an image's too. A container whose name \
            is not known is in no report until it is",
    ),
    node(
        "not-namespaces",
        "NAMES",
        "",
        "do not trace pods of these namespaces",
        "",
    ),
    node("pods", "NAMES", "", "trace only pods of these names", ""),
    node(
        "images",
        "NAMES",
        "",
        "trace only containers of these images",
        "",
    ),
    Flag {
        kind: Kind::Directory,
        ..node(
            "reports",
            "DIR",
            "/data",
            "the directory for the reports, one for each image",
            "An earlier run's reports in it are resumed",
        )
    },
    node(
        "max-bytes",
        "SIZE",
        "256M",
        "the most bytes of all reports, such as `500M` or `20G`",
        "To stay below it, containers that have ended are merged into one entry of their image's report, the oldest report \
            first; then the oldest reports of images that no longer run are removed",
    ),
    Flag {
        kind: Kind::Directory,
        ..node(
            "host",
            "DIR",
            "/",
            "where the node's directories are mounted, read-only, from which the names come",
            "",
        )
    },
    node(
        "known",
        "N",
        "1048576",
        "how many accesses the kernel remembers, so that they are sent only once: at most 16777216",
        "Each takes 8 bytes of kernel memory, and the number is rounded up to a power of two",
    ),
    node(
        "max-series",
        "N",
        "2000",
        "the most series of the metrics of containers",
        "",
    ),
    Flag {
        name: "report",
        value: "FILE",
        kind: Kind::File,
        default: "/data/snoop-report.json",
        run_default: Some("snoop-report.json"),
        summary: "where to write the report; `-` is standard output",
        details: "",
        section: Section::Output,
        verbs: &[TRACE, RUN],
    },
    Flag {
        name: "resume",
        value: "BOOL",
        kind: Kind::Bool,
        default: "true",
        run_default: Some("false"),
        summary: "resume the existing report if it belongs to the same pod and image",
        details: "",
        section: Section::Output,
        verbs: &[TRACE, RUN],
    },
    Flag {
        name: "interval",
        value: "TIME",
        kind: Kind::Text,
        default: "30s",
        run_default: None,
        summary: "how often to write the report if it has changed: at least 1s, such as `1s`, `30s` or `1m30s`",
        details: "",
        section: Section::Output,
        verbs: &[TRACE, RUN, NODE],
    },
    Flag {
        name: "exclude",
        value: "PREFIXES",
        kind: Kind::Text,
        default: "/proc/,/sys/,/dev/",
        run_default: None,
        summary: "exclude paths that begin with one of these prefixes; empty excludes nothing",
        details: "",
        section: Section::Output,
        verbs: &[TRACE, RUN, NODE],
    },
    Flag {
        name: "max-unique-files",
        value: "N",
        kind: Kind::Text,
        default: "0",
        run_default: None,
        summary: "keep at most `N` files per container; `0` means no limit",
        details: "The largest limit is 4294967295. When the limit is reached, the least recently used file is evicted and \
            counted; it reappears on its next use. Recency is approximate, because repeated use of a known file is \
            reported only every five minutes",
        section: Section::Output,
        verbs: &[TRACE, RUN, NODE],
    },
    Flag {
        name: "buffer",
        value: "NAME",
        kind: Kind::OneOf(&["auto", "ring", "perf"]),
        default: "auto",
        run_default: None,
        summary: "how records get from the kernel to snoop: `ring`, `perf`, or `auto` for the best one that the kernel has",
        details: "`perf` selects the programs for kernels before 5.10, which also run on newer ones",
        section: Section::Output,
        verbs: &[TRACE, RUN, NODE],
    },
    Flag {
        name: "hooks",
        value: "NAME",
        kind: Kind::OneOf(&["auto", "resolver", "syscall"]),
        default: "auto",
        run_default: None,
        summary: "where snoop sees accesses: `resolver`, `syscall`, or `auto` for the better one that misses nothing",
        details: "`resolver` hooks the kernel's functions that look names up, on Linux 5.15 and newer; `syscall` hooks the end of \
            every system call",
        section: Section::Output,
        verbs: &[TRACE, RUN, NODE],
    },
    Flag {
        name: "metrics-addr",
        value: "ADDRESS",
        kind: Kind::Text,
        default: ":9090",
        run_default: Some(""),
        summary: "where to serve `/metrics`, `/healthz`, `/report` and a page at `/`, such as `:9090`, `127.0.0.1:9090` or `[::1]:9090`; \
            empty turns the listener off",
        details: "`:PORT` listens on IPv6 and IPv4",
        section: Section::Output,
        verbs: &[TRACE, RUN, NODE],
    },
    Flag {
        name: "log-level",
        value: "LEVEL",
        kind: Kind::OneOf(&Level::NAMES),
        default: "info",
        run_default: Some("warn"),
        summary: "`debug`, `info`, `warn` or `error`; `debug` logs each new access",
        details: "",
        section: Section::Output,
        verbs: &[TRACE, RUN, NODE],
    },
    Flag {
        name: "quiet",
        value: "BOOL",
        kind: Kind::Bool,
        default: "false",
        run_default: None,
        summary: "write errors only: no status line, no summary and no warnings; for `run`",
        details: "Without it, `run` shows in the last row of a terminal how many files were used, while the command writes nothing, and \
            ends with a line that sums up",
        section: Section::Output,
        verbs: &[RUN],
    },
    metadata("container-id", "ID", "the container's id"),
    metadata("image", "NAME", "the image's name"),
    metadata("image-digest", "DIGEST", "the image's digest"),
    metadata("pod-name", "NAME", "the pod's name"),
    metadata("namespace", "NAME", "the pod's namespace"),
    metadata("labels", "KEY=VALUE,...", "your own labels"),
    Flag {
        name: "metrics-addr",
        value: "ADDRESS",
        kind: Kind::Text,
        default: ":9090",
        run_default: None,
        summary: "the address on which the running snoop listens; `SNOOP_METRICS_ADDR` sets it too",
        details: "",
        section: Section::Health,
        verbs: &[HEALTH],
    },
    Flag {
        name: "root",
        value: "DIR",
        kind: Kind::Directory,
        default: "",
        run_default: None,
        summary: "the directory into which the image was unpacked; required",
        details: "",
        section: Section::Images,
        verbs: &[CLOSURE, UNUSED],
    },
    kinds(Section::Images, &[CLOSURE, UNUSED]),
    Flag {
        name: "0",
        value: "",
        kind: Kind::Switch,
        default: "",
        run_default: None,
        summary: "end each path with a NUL instead of a newline",
        details: "File names may contain newlines, so prefer this",
        section: Section::Closure,
        verbs: &[CLOSURE],
    },
    Flag {
        name: "format",
        value: "NAME",
        kind: Kind::OneOf(&Format::NAMES),
        default: "paths",
        run_default: None,
        summary: "`paths` (from DIR) or `absolute` (from the image's root)",
        details: "`paths` lists each path after its directory, in the order that `tar -T`, `rsync --files-from` and \
            `cpio -o` need. `absolute` adds a leading slash, which image minifiers expect in an include list",
        section: Section::Closure,
        verbs: &[CLOSURE],
    },
    Flag {
        name: "runtime",
        value: "BOOL",
        kind: Kind::Bool,
        default: "true",
        run_default: None,
        summary: "add what a container runtime reads and mounts by itself, as far as DIR has it",
        details: "These are `/etc/passwd` and `/etc/group`; the mount points that every container has, such as `/proc` and \
            `/etc/hosts`, and those in the reports; and `/tmp`",
        section: Section::Closure,
        verbs: &[CLOSURE],
    },
    Flag {
        name: "paths",
        value: "",
        kind: Kind::Switch,
        default: "",
        run_default: None,
        summary: "print every unused path instead of a summary",
        details: "",
        section: Section::Unused,
        verbs: &[UNUSED],
    },
    Flag {
        name: "json",
        value: "",
        kind: Kind::Switch,
        default: "",
        run_default: None,
        summary: "print everything as JSON instead of a summary",
        details: "",
        section: Section::Unused,
        verbs: &[UNUSED],
    },
    slim(
        "o",
        "FILE",
        Kind::File,
        "where to write the small image; `-` is standard output; required",
        "It is a docker-archive and an OCI archive in one, for `docker load`, `podman load`, `skopeo copy` and `ctr images \
            import`. The file appears when it is whole",
    ),
    slim(
        "tag",
        "NAME",
        Kind::Text,
        "the name of the small image, such as `app:1-slim`",
        "The default is the image's name with `-slim` appended",
    ),
    slim(
        "image",
        "NAME",
        Kind::Text,
        "the name or the digest of the image, if the archive contains several",
        "",
    ),
    slim(
        "platform",
        "NAME",
        Kind::Text,
        "the platform of the image, such as `linux/arm64`, if the archive contains several",
        "",
    ),
    slim(
        "keep",
        "PATTERN",
        Kind::Text,
        "also keep this path and everything in it; may be given several times",
        "`*`, `?` and `[abc]` match parts of a name, `**` any number of directories",
    ),
    slim(
        "keep-from",
        "FILE",
        Kind::File,
        "also keep the paths and patterns in this file, one per line; may be given several times",
        "A line that begins with `#` is a comment",
    ),
    kinds(Section::Slim, &[SLIM]),
    slim(
        "incomplete",
        "",
        Kind::Switch,
        "accept incomplete reports",
        "Files that such a report lacks may be missing from the small image",
    ),
    slim(
        "any-image",
        "",
        Kind::Switch,
        "accept reports whose `image_digest` is that of another image",
        "snoop compares digests only if the archive holds compressed layers, because what engines save uncompressed has \
            another manifest than the registry",
    ),
    slim("squash", "", Kind::Switch, "merge all layers into one", ""),
    Flag {
        default: "64G",
        ..slim(
            "max-size",
            "SIZE",
            Kind::Text,
            "refuse an image whose layers are larger than this, such as `500M` or `20G`",
            "",
        )
    },
    slim(
        "sbom",
        "FILE",
        Kind::File,
        "write the packages that were in the image as CycloneDX 1.6, with what was used of each",
        "The `scope` of a package is `required` if a file of it was used, else `excluded`; it is missing if nobody knows. \
            `evidence.occurrences` has the files that were used",
    ),
    slim("json", "", Kind::Switch, "print a summary as JSON", ""),
    Flag {
        name: "o",
        value: "FILE",
        kind: Kind::File,
        default: "-",
        run_default: None,
        summary: "where to write the report of all pods; `-` is standard output",
        details: "",
        section: Section::Merge,
        verbs: &[MERGE],
    },
    Flag {
        name: "any-image",
        value: "",
        kind: Kind::Switch,
        default: "",
        run_default: None,
        summary: "accept reports whose `image_digest` or `image` differ",
        details: "",
        section: Section::Merge,
        verbs: &[MERGE],
    },
    Flag {
        name: "json",
        value: "",
        kind: Kind::Switch,
        default: "",
        run_default: None,
        summary: "print the difference as JSON",
        details: "",
        section: Section::Diff,
        verbs: &[DIFF],
    },
    Flag {
        name: "format",
        value: "NAME",
        kind: Kind::OneOf(&export::Format::NAMES),
        default: "",
        run_default: None,
        summary: "the program that is to read it, or the kind of text; required",
        details: "",
        section: Section::Export,
        verbs: &[EXPORT],
    },
    Flag {
        name: "root",
        value: "DIR",
        kind: Kind::Directory,
        default: "",
        run_default: None,
        summary: "the directory into which the image was unpacked",
        details: "Symlinks are followed in it, what it does not have is left out, and `intoto` gets digests from it. `nydus-v1` needs \
            it; `kubescape`, `dockerfile` and `apparmor` do not take it",
        section: Section::Export,
        verbs: &[EXPORT],
    },
    Flag {
        name: "o",
        value: "FILE",
        kind: Kind::File,
        default: "-",
        run_default: None,
        summary: "where to write it; `-` is standard output",
        details: "",
        section: Section::Export,
        verbs: &[EXPORT],
    },
    Flag {
        name: "any-image",
        value: "",
        kind: Kind::Switch,
        default: "",
        run_default: None,
        summary: "accept reports whose `image_digest` or `image` differ",
        details: "",
        section: Section::Export,
        verbs: &[EXPORT],
    },
    Flag {
        name: "root",
        value: "DIR",
        kind: Kind::Directory,
        default: "",
        run_default: None,
        summary: "the directory into which the image was unpacked: show how many bytes of it are used",
        details: "",
        section: Section::Show,
        verbs: &[SHOW],
    },
    Flag {
        name: "html",
        value: "FILE",
        kind: Kind::File,
        default: "",
        run_default: None,
        summary: "write a page for a browser instead, in one file that needs no network; `-` is standard output",
        details: "",
        section: Section::Show,
        verbs: &[SHOW],
    },
    Flag {
        name: "depth",
        value: "N",
        kind: Kind::Text,
        default: "",
        run_default: None,
        summary: "show at most `N` levels of directories; the numbers count everything below",
        details: "",
        section: Section::Show,
        verbs: &[SHOW],
    },
];

/// Returns the flags of a command.
pub fn of(verb: &str) -> impl Iterator<Item = &'static Flag> {
    FLAGS.iter().filter(move |flag| flag.verbs.contains(&verb))
}

/// Returns the flag of that name if the command takes it.
pub fn find(verb: &str, name: &str) -> Option<&'static Flag> {
    of(verb).find(|flag| flag.name == name)
}
