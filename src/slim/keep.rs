// SPDX-License-Identifier: MIT OR Apache-2.0
//! What of the image stays: what the reports list, what runs the container, and what the user asks for.

use crate::error::{Error, Result};
use crate::image::{View, runtime};
use crate::path::fits;
use crate::report::reader::Paths;
use crate::report::schema::encode_name;
use crate::slim::layers::{Id, Item, Layers, ROOT, What};
use serde_json::Value;
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Why something stays. Of several reasons the first one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    Used,
    Configuration,
    MountPoint,
    Writable,
    Empty,
    Asked,
    Scanner,
}

impl Why {
    pub const ALL: [Why; 7] = [
        Why::Used,
        Why::Configuration,
        Why::MountPoint,
        Why::Writable,
        Why::Empty,
        Why::Asked,
        Why::Scanner,
    ];

    /// Returns its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Why::Used => "used",
            Why::Configuration => "configuration",
            Why::MountPoint => "mount_point",
            Why::Writable => "writable",
            Why::Empty => "empty",
            Why::Asked => "asked",
            Why::Scanner => "scanner",
        }
    }

    /// Returns what it is called in a sentence.
    pub fn sentence(self) -> &'static str {
        match self {
            Why::Used => "used, by the reports",
            Why::Configuration => "needed by the configuration",
            Why::MountPoint => "mount points",
            Why::Writable => "directories to write to",
            Why::Empty => "directories that were empty before",
            Why::Asked => "asked for by -keep",
            Why::Scanner => "read by scanners",
        }
    }
}

/// Where programs expect to be able to write.
const WRITABLE: [&str; 12] = [
    "/tmp",
    "/var/tmp",
    "/run",
    "/var/run",
    "/run/lock",
    "/var/lock",
    "/var/log",
    "/var/cache",
    "/var/lib",
    "/var/spool",
    "/root",
    "/home",
];
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Contents of the few files that are looked into, by their entries.
pub type Contents = HashMap<Item, Vec<u8>>;

/// The merged view, with what of it stays.
pub struct Keep<'a> {
    pub(super) layers: &'a mut Layers,
    why: Vec<Option<Why>>,
    /// What the person should know.
    pub(super) notes: Vec<String>,
    /// New contents of files.
    pub(super) replaced: HashMap<Item, Vec<u8>>,
}

impl Keep<'_> {
    pub fn new(layers: &mut Layers) -> Keep<'_> {
        let mut why = vec![None; layers.nodes().len()];
        why[ROOT as usize] = Some(Why::Used);
        Keep {
            layers,
            why,
            notes: Vec::new(),
            replaced: HashMap::new(),
        }
    }

    pub fn why(&self, node: Id) -> Option<Why> {
        self.why[node as usize]
    }

    pub fn is_kept(&self, node: Id) -> bool {
        self.why(node).is_some()
    }

    /// Does the entry stay?
    pub fn is_item_kept(&self, item: Item) -> bool {
        self.layers.is_live(item) && self.is_kept(self.layers.node_of(item))
    }

    /// Keeps a place that is there, and the directories on the way to it.
    pub fn node(&mut self, node: Id, why: Why) {
        let mut at = node;
        while self.why[at as usize].is_none() {
            self.why[at as usize] = Some(why);
            at = self.layers.parent(at);
        }
    }

    /// Keeps paths of which no directory is a symlink.
    pub fn paths(&mut self, paths: &Paths, why: Why) {
        for path in paths {
            if let Some(node) = self.layers.find(path) {
                self.node(node, why);
            }
        }
    }

    /// Keeps a path, with the symlinks on its way and what they lead to. Returns where they end, if that is there.
    pub fn path(&mut self, path: &[u8], why: Why) -> Result<Option<Id>> {
        let mut needed = Paths::default();
        let target = self.layers.follow_if_there(path, &mut needed)?;
        self.paths(&needed, why);
        Ok(target.and_then(|target| self.layers.find(&target)))
    }

    /// Keeps a place and all that lies in it.
    pub fn tree(&mut self, top: Id, why: Why) -> Result<()> {
        let mut todo = vec![top];
        while let Some(node) = todo.pop() {
            self.node(node, why);
            let item = self.layers.visible(node);
            if item.is_some_and(|item| self.layers.what(item) == What::Symlink) {
                let path = self.layers.path(node);
                self.path(&path, why)?;
            }
            todo.extend(self.layers.children(node));
        }
        Ok(())
    }

    /// Finds what is at a path and is no directory, nor a symlink to one. Symlinks on its way are followed.
    pub fn file_at(&mut self, path: &[u8]) -> Result<Option<Id>> {
        let Some(located) = self.layers.locate(path)? else {
            return Ok(None);
        };
        let target = self.layers.target(path)?;
        let target = target.and_then(|path| self.layers.find(&path));
        let leads_to_directory = target.is_some_and(|target| self.layers.is_directory(target));
        let node = self.layers.find(&located);
        Ok(node.filter(|_| !leads_to_directory))
    }

    /// Keeps what makes a container of the image: its programs, its user, and what is mounted or written to.
    /// Further mount points are those that reports name.
    pub fn container(&mut self, config: &Value, mounts: &Paths, contents: &Contents) -> Result<()> {
        self.programs(config)?;
        self.user(config, contents)?;
        if let Some(directory) = config["WorkingDir"].as_str() {
            self.path(directory.as_bytes(), Why::Configuration)?;
        }
        let needed = runtime::mount_points(self.layers, mounts)?;
        self.paths(&needed, Why::MountPoint);
        for (path, _) in config["Volumes"].as_object().into_iter().flatten() {
            self.path(path.as_bytes(), Why::MountPoint)?;
        }
        for path in WRITABLE {
            self.path(path.as_bytes(), Why::Writable)?;
        }
        // A directory that holds nothing is there to be written to.
        for node in self.layers.nodes() {
            if self.layers.is_directory(node) && self.layers.children(node).next().is_none() {
                self.node(node, Why::Empty);
            }
        }
        Ok(())
    }

    fn programs(&mut self, config: &Value) -> Result<()> {
        let words = |value: &Value| -> Vec<String> {
            let words = value.as_array().into_iter().flatten();
            words
                .filter_map(|word| word.as_str().map(String::from))
                .collect()
        };
        let (entrypoint, cmd) = (words(&config["Entrypoint"]), words(&config["Cmd"]));
        let mut starts = entrypoint.first().or(cmd.first()).cloned();
        if let Some(program) = starts.take_if(|program| !program.is_empty()) {
            match self.program(&program, config)? {
                None => self.notes.push(format!(
                    "{program}, which the image starts, is not in it"
                )),
                Some(node) if self.why(node) != Some(Why::Used) => self.notes.push(format!(
                    "{program}, which the image starts, is in none of the reports: are they of this image?"
                )),
                Some(_) => (),
            }
        }
        // An entrypoint that is a script often runs its arguments.
        let mut others: Vec<_> = cmd.first().cloned().into_iter().collect();
        let shell = words(&config["Shell"]).first().cloned();
        let shell = shell.unwrap_or_else(|| "/bin/sh".into());
        match &words(&config["Healthcheck"]["Test"])[..] {
            [kind, program, ..] if kind == "CMD" => others.push(program.clone()),
            [kind, command, ..] if kind == "CMD-SHELL" => {
                others.push(shell);
                others.extend(command.split_whitespace().next().map(String::from));
            }
            _ => (),
        }
        for program in others {
            self.program(&program, config)?;
        }
        Ok(())
    }

    /// Keeps a program as execvp(3) finds it. Returns what its path leads to.
    fn program(&mut self, program: &str, config: &Value) -> Result<Option<Id>> {
        let workdir = config["WorkingDir"].as_str().unwrap_or_default();
        if program.contains('/') {
            let path = match program.starts_with('/') {
                true => program.into(),
                false => format!("{workdir}/{program}"),
            };
            return self.path(path.as_bytes(), Why::Configuration);
        }
        let environment = config["Env"].as_array().into_iter().flatten();
        let mut environment = environment.filter_map(|word| word.as_str());
        let path = environment.find_map(|word| word.strip_prefix("PATH="));
        for directory in path.unwrap_or(DEFAULT_PATH).split(':') {
            let path = format!("{directory}/{program}");
            let target = self.layers.target(path.as_bytes())?;
            let node = target.and_then(|target| self.layers.find(&target));
            if node.is_some_and(|node| !self.layers.is_directory(node)) {
                return self.path(path.as_bytes(), Why::Configuration);
            }
        }
        Ok(None)
    }

    /// Keeps what a name or number of a user is looked up in, and the user's home directory.
    fn user(&mut self, config: &Value, contents: &Contents) -> Result<()> {
        let passwd = self.path(runtime::PASSWD.as_bytes(), Why::Configuration)?;
        self.path(runtime::GROUP.as_bytes(), Why::Configuration)?;
        let user = config["User"].as_str().unwrap_or_default();
        let user = user.split(':').next().unwrap_or_default();
        let user = if user.is_empty() { "0" } else { user };
        let item = passwd.and_then(|node| self.layers.visible(node));
        let Some(text) = item.and_then(|item| contents.get(&item)) else {
            return Ok(());
        };
        for line in text.split(|b| *b == b'\n') {
            let fields: Vec<_> = line.split(|b| *b == b':').collect();
            if let [name, _, id, _, _, home, ..] = fields[..]
                && (name == user.as_bytes() || id == user.as_bytes())
                && home.starts_with(b"/")
            {
                self.path(home, Why::Configuration)?;
            }
        }
        Ok(())
    }

    /// Keeps what the user names, with all that lies in it.
    pub fn asked(&mut self, pattern: &[u8]) -> Result<()> {
        let names: Vec<_> = pattern
            .split(|b| *b == b'/')
            .filter(|name| !name.is_empty())
            .collect();
        let is_glob = |name: &&[u8]| name.iter().any(|b| matches!(b, b'*' | b'?' | b'['));
        let plain = names.iter().position(is_glob).unwrap_or(names.len());
        let beginning: Vec<u8> = names[..plain]
            .iter()
            .flat_map(|name| [b"/", *name].concat())
            .collect();
        // Of all paths only the root's leads through no name.
        let top = match &beginning[..] {
            b"" => Some(ROOT),
            path => {
                let target = self.layers.target(path)?;
                target.and_then(|target| self.layers.find(&target))
            }
        };
        let mut found = Vec::new();
        if let Some(top) = top {
            self.matching(top, &names[plain..], &mut found);
        }
        if !found.is_empty() {
            self.path(&beginning, Why::Asked)?;
        }
        if found.is_empty() {
            let pattern = encode_name(pattern);
            let pattern = pattern.escape_debug();
            self.notes.push(format!(
                "-keep={pattern}: nothing in the image has that name"
            ));
        }
        for node in found {
            self.tree(node, Why::Asked)?;
        }
        Ok(())
    }

    /// Finds what lies in a directory and fits patterns, one for each level.
    fn matching(&self, top: Id, patterns: &[&[u8]], found: &mut Vec<Id>) {
        let Some((first, rest)) = patterns.split_first() else {
            found.push(top);
            return;
        };
        if *first == b"**" {
            self.matching(top, rest, found);
        }
        for child in self.layers.children(top) {
            if *first == b"**" {
                self.matching(child, patterns, found);
            } else if fits(self.layers.name(child), first) {
                self.matching(child, rest, found);
            }
        }
    }
}

/// Reads files of patterns: one per line, with comments behind `#`.
pub fn patterns(keep: &[OsString], files: &[PathBuf]) -> Result<Vec<Vec<u8>>> {
    let mut patterns: Vec<_> = keep.iter().map(|p| p.as_bytes().to_vec()).collect();
    for file in files {
        let text = fs::read(file);
        let text = text.map_err(|e| Error::usage(format!("-keep-from={}: {e}", file.display())))?;
        let lines = text.split(|b| *b == b'\n').map(<[u8]>::trim_ascii);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with(b"#"));
        patterns.extend(lines.map(<[u8]>::to_vec));
    }
    Ok(patterns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::tar::Kind;
    use crate::slim::layers::New;
    use serde_json::json;

    /// Keeps by some rule; returns what stays, sorted, and the notes.
    fn kept(rule: impl FnOnce(&mut Keep)) -> (Vec<String>, Vec<String>) {
        let mut layers = Layers::default();
        layers.begin_layer();
        for (path, kind, link) in [
            ("usr/bin/", Kind::Directory, ""),
            ("usr/bin/app", Kind::File, ""),
            ("usr/bin/sh", Kind::Symlink, "busybox"),
            ("usr/bin/busybox", Kind::File, ""),
            ("bin", Kind::Symlink, "usr/bin"),
            ("etc/passwd", Kind::File, ""),
            ("srv/home", Kind::Directory, ""),
            ("srv/data/a.txt", Kind::File, ""),
            ("srv/data/b/c.txt", Kind::File, ""),
            ("srv/data/link", Kind::Symlink, "/usr/bin/app"),
            ("tmp", Kind::Directory, ""),
            ("opt/run.sh", Kind::File, ""),
        ] {
            let (path, link) = (path.as_bytes(), link.as_bytes());
            layers
                .add(&New {
                    path,
                    kind,
                    link,
                    size: 1,
                })
                .unwrap();
        }
        let mut keep = Keep::new(&mut layers);
        rule(&mut keep);
        let nodes = keep.layers.nodes().filter(|node| keep.is_kept(*node));
        let mut kept: Vec<_> = nodes
            .map(|node| String::from_utf8(keep.layers.path(node)).unwrap())
            .collect();
        kept.sort();
        kept.remove(0);
        (kept, keep.notes)
    }

    #[test]
    fn what_runs_the_container_stays() {
        let config = json!({"Entrypoint": ["./run.sh"], "Cmd": ["sh", "-c", "x"], "WorkingDir": "/opt",
            "Env": ["A=b", "PATH=/none:/bin"], "User": "app:staff", "Volumes": {"/srv/data/b": {}},
            "Healthcheck": {"Test": ["CMD-SHELL", "app --ping"]}});
        let (kept, notes) = kept(|keep| {
            let passwd = keep.layers.find(b"/etc/passwd").unwrap();
            let item = keep.layers.visible(passwd).unwrap();
            let text = b"root:x:0:0::/root:/bin/sh\napp:x:7:7::/srv/home:\n".to_vec();
            let mounts = Paths::from([b"/srv/data/a.txt".to_vec(), b"/none".to_vec()]);
            keep.container(&config, &mounts, &[(item, text)].into())
                .unwrap();
        });
        let expected = [
            "/bin",
            "/etc",
            "/etc/passwd",
            "/opt",
            "/opt/run.sh",
            "/srv",
            "/srv/data",
            "/srv/data/a.txt",
            "/srv/data/b",
            "/srv/home",
            "/tmp",
            "/usr",
            "/usr/bin",
            "/usr/bin/app",
            "/usr/bin/busybox",
            "/usr/bin/sh",
        ];
        assert_eq!(kept, expected);
        assert!(
            notes[0].contains("./run.sh") && notes.len() == 1,
            "{notes:?}"
        );
    }

    #[test]
    fn what_is_asked_for_stays_with_all_that_is_in_it() {
        let asked = |pattern: &str| kept(|keep| keep.asked(pattern.as_bytes()).unwrap()).0;
        assert_eq!(
            asked("/srv/data"),
            [
                "/srv",
                "/srv/data",
                "/srv/data/a.txt",
                "/srv/data/b",
                "/srv/data/b/c.txt",
                "/srv/data/link",
                "/usr",
                "/usr/bin",
                "/usr/bin/app"
            ]
        );
        assert_eq!(
            asked("bin/[r-s]?"),
            [
                "/bin",
                "/usr",
                "/usr/bin",
                "/usr/bin/busybox",
                "/usr/bin/sh"
            ]
        );
        assert_eq!(
            asked("/srv/**/*.txt"),
            [
                "/srv",
                "/srv/data",
                "/srv/data/a.txt",
                "/srv/data/b",
                "/srv/data/b/c.txt"
            ]
        );
        let all = asked("/**");
        assert_eq!((asked("/"), all.len()), (all.clone(), 18), "{all:?}");
        let (kept, notes) = kept(|keep| keep.asked(b"/srv/*.none").unwrap());
        assert_eq!(kept, [""; 0]);
        assert_eq!(
            notes,
            ["-keep=/srv/*.none: nothing in the image has that name"]
        );
    }

    #[test]
    fn patterns_of_names() {
        for (pattern, name, expected) in [
            ("*", "a", true),
            ("a*b*c", "axxbxbxc", true),
            ("a*b*c", "axxbxb", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[]]x", "]x", true),
            ("[a", "[a", false),
            ("a*", "a", true),
            ("", "", true),
            ("**a", "bca", true),
        ] {
            assert_eq!(
                fits(name.as_bytes(), pattern.as_bytes()),
                expected,
                "{pattern} {name}"
            );
        }
    }
}
