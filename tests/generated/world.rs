// SPDX-License-Identifier: MIT OR Apache-2.0
//! A model of a tree of files and of the processes in it: what the kernel does with a call, and which names it resolves.

use std::collections::BTreeMap;

/// The number of symlinks that the kernel follows before it gives up: path_resolution(7).
const LINKS_MAX: usize = 40;

pub const SLOTS: usize = 2;
pub const WORKERS: usize = 8;

#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    Data,
    /// A program that exits at once.
    Program,
    /// A script whose interpreter is the file of this name.
    Script(String),
}

#[derive(Clone, Debug)]
enum Node {
    Directory {
        parent: usize,
        entries: BTreeMap<String, usize>,
    },
    Link(String),
    File(Content),
}

/// The working directory and the root directory of a process, or of several that share them.
#[derive(Clone, Copy, Debug)]
struct Fs {
    root: usize,
    cwd: usize,
}

#[derive(Clone, Debug)]
struct Worker {
    fs: usize,
    slots: [Option<usize>; SLOTS],
}

/// The directory that a relative path starts from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum From {
    Cwd,
    Slot(usize),
}

#[derive(Clone, Debug)]
pub enum Call {
    Process,
    Sharing,
    Thread,
    Apart,
    Open(From, String),
    Create(From, String),
    Nofollow(From, String),
    InRoot(From, String),
    Keep(From, String, usize),
    Stat(From, String),
    Lstat(From, String),
    Access(From, String),
    Readlink(From, String),
    Mkdir(From, String),
    Rmdir(From, String),
    Unlink(From, String),
    Symlink(From, String, String),
    Link(From, String, String),
    Rename(From, String, String),
    Chdir(String),
    Fchdir(usize),
    Chroot(String),
    Execute(String),
}

/// Why a call has no effect in the model: the kernel refuses it, or the model does not know its effect.
#[derive(Debug, PartialEq)]
pub enum Stop {
    Fails,
    Unknown,
}

type Result<T> = std::result::Result<T, Stop>;

/// The result of resolving a path.
struct Found {
    /// The node; `None` if only the last name does not exist.
    node: Option<usize>,
    /// The directory that contains it, and its name there.
    directory: usize,
    name: String,
}

#[derive(Clone, Debug)]
pub struct World {
    nodes: Vec<Node>,
    fs: Vec<Fs>,
    workers: Vec<Worker>,
    /// The path of the topmost directory.
    top: String,
    /// The paths that the calls so far have used.
    pub used: Vec<String>,
}

const TOP: usize = 0;

impl World {
    /// Creates an empty world: a directory with this absolute path, and worker 0 in it.
    pub fn new(top: &str) -> World {
        World {
            nodes: vec![Node::Directory {
                parent: TOP,
                entries: BTreeMap::new(),
            }],
            fs: vec![Fs {
                root: usize::MAX,
                cwd: TOP,
            }],
            workers: vec![Worker {
                fs: 0,
                slots: [None; SLOTS],
            }],
            top: top.into(),
            used: Vec::new(),
        }
    }

    /// Puts a file into the topmost directory.
    pub fn add_file(&mut self, name: &str, content: Content) {
        self.enter(TOP, name, Node::File(content));
    }

    fn enter(&mut self, directory: usize, name: &str, node: Node) -> usize {
        self.nodes.push(node);
        let id = self.nodes.len() - 1;
        self.entries(directory).insert(name.into(), id);
        id
    }

    fn entries(&mut self, directory: usize) -> &mut BTreeMap<String, usize> {
        match &mut self.nodes[directory] {
            Node::Directory { entries, .. } => entries,
            node => panic!("{node:?} is not a directory"),
        }
    }

    fn is_directory(&self, node: usize) -> bool {
        matches!(self.nodes[node], Node::Directory { .. })
    }

    /// Returns the root directory of a worker. `None` is the root of the machine, which is above the model.
    fn root_of(&self, worker: usize) -> Option<usize> {
        let root = self.fs[self.workers[worker].fs].root;
        (root != usize::MAX).then_some(root)
    }

    fn path_of(&self, directory: usize) -> String {
        if directory == TOP {
            return self.top.clone();
        }
        let Node::Directory { parent, .. } = self.nodes[directory] else {
            panic!("not a directory");
        };
        let Node::Directory { entries, .. } = &self.nodes[parent] else {
            panic!("a parent is a directory");
        };
        let entry = entries.iter().find(|(_, id)| **id == directory);
        format!("{}/{}", self.path_of(parent), entry.expect("it is there").0)
    }

    fn is_in_use(&self, directory: usize) -> bool {
        let of_fs = self.fs.iter().flat_map(|fs| [fs.root, fs.cwd]);
        let mut of_slots = self.workers.iter().flat_map(|worker| worker.slots);
        of_fs.into_iter().any(|id| id == directory) || of_slots.any(|slot| slot == Some(directory))
    }

    /// Returns the directory that a path is relative to. For an absolute path it does not matter.
    fn start(&self, worker: usize, from: From, path: &str) -> Result<usize> {
        match from {
            _ if path.starts_with('/') => Ok(TOP),
            From::Cwd => Ok(self.fs[self.workers[worker].fs].cwd),
            From::Slot(slot) => self.workers[worker].slots[slot].ok_or(Stop::Fails),
        }
    }

    /// Returns the directory in which an absolute path starts, and the rest of the path.
    fn absolute<'a>(&self, root: Option<usize>, path: &'a str) -> Result<(usize, &'a str)> {
        match root {
            Some(root) => Ok((root, path)),
            None => {
                let rest = path.strip_prefix(&self.top).ok_or(Stop::Unknown)?;
                Ok((TOP, rest))
            }
        }
    }

    fn parent_of(&self, directory: usize, root: Option<usize>) -> Result<usize> {
        if Some(directory) == root {
            return Ok(directory);
        }
        if directory == TOP {
            return Err(Stop::Unknown);
        }
        match self.nodes[directory] {
            Node::Directory { parent, .. } => Ok(parent),
            _ => Err(Stop::Fails),
        }
    }

    /// Resolves a path as the kernel does.
    fn find(&self, start: usize, root: Option<usize>, path: &str, follow: bool) -> Result<Found> {
        self.find_with(start, root, path, follow, &mut 0)
    }

    fn find_with(
        &self,
        start: usize,
        root: Option<usize>,
        path: &str,
        follow: bool,
        links: &mut usize,
    ) -> Result<Found> {
        if path.is_empty() {
            return Err(Stop::Fails);
        }
        let (mut at, rest) = match path.starts_with('/') {
            true => self.absolute(root, path)?,
            false => (start, path),
        };
        let names: Vec<&str> = rest.split('/').filter(|name| !name.is_empty()).collect();
        let must_be_directory = path.ends_with('/');
        for (i, name) in names.iter().enumerate() {
            if !self.is_directory(at) {
                return Err(Stop::Fails);
            }
            at = match *name {
                "." => at,
                ".." => self.parent_of(at, root)?,
                name => {
                    let is_last = i == names.len() - 1;
                    let follow = !is_last || follow || must_be_directory;
                    let found = self.find_name(at, root, name, follow, links)?;
                    if is_last {
                        let is_directory = found.node.map(|id| self.is_directory(id));
                        // The target of a dangling symlink may be created.
                        return match is_directory == Some(true) || !must_be_directory {
                            true => Ok(found),
                            false => Err(Stop::Fails),
                        };
                    }
                    found.node.ok_or(Stop::Fails)?
                }
            };
        }
        match self.is_directory(at) {
            true => Ok(Found {
                node: Some(at),
                directory: at,
                name: String::new(),
            }),
            false => Err(Stop::Fails),
        }
    }

    /// Finds one name in a directory, and where it leads if it is a link and `follow` is set.
    fn find_name(
        &self,
        directory: usize,
        root: Option<usize>,
        name: &str,
        follow: bool,
        links: &mut usize,
    ) -> Result<Found> {
        let Node::Directory { entries, .. } = &self.nodes[directory] else {
            return Err(Stop::Fails);
        };
        let node = entries.get(name).copied();
        if follow && let Some(Node::Link(target)) = node.map(|id| &self.nodes[id]) {
            *links += 1;
            if *links > LINKS_MAX {
                return Err(Stop::Fails);
            }
            return self.find_with(directory, root, target, true, links);
        }
        Ok(Found {
            node,
            directory,
            name: name.into(),
        })
    }

    /// Returns the real path of the node that was found.
    fn real(&self, found: &Found) -> String {
        match found.name.is_empty() {
            true => self.path_of(found.directory),
            false => match found.node.is_some_and(|id| self.is_directory(id)) {
                true => self.path_of(found.node.unwrap()),
                false => format!("{}/{}", self.path_of(found.directory), found.name),
            },
        }
    }

    /// Returns the requested path, made absolute and without `.` and leading `..`. `None` if a `..` follows a name,
    /// because it depends on symlinks where that leads.
    fn requested(&self, start: usize, root: Option<usize>, path: &str) -> Result<Option<String>> {
        let (mut at, rest) = match path.starts_with('/') {
            true => self.absolute(root, path)?,
            false => (start, path),
        };
        let mut names = Vec::new();
        for name in rest.split('/').filter(|name| !matches!(*name, "" | ".")) {
            match (name, names.is_empty()) {
                ("..", true) => at = self.parent_of(at, root)?,
                ("..", false) => return Ok(None),
                (name, _) => names.push(name),
            }
        }
        let start = self.path_of(at);
        Ok(Some(
            names.iter().fold(start, |path, name| path + "/" + name),
        ))
    }

    /// Makes the call. An error says that the call fails or that the model does not know its effect. Then nothing has
    /// changed.
    pub fn make(&mut self, worker: usize, call: &Call) -> Result<()> {
        let fs = self.workers[worker].fs;
        match call {
            Call::Process | Call::Apart => {
                self.fs.push(self.fs[fs]);
                self.start_worker(self.fs.len() - 1)
            }
            Call::Sharing | Call::Thread => self.start_worker(fs),
            Call::Open(from, path) => self.open(worker, *from, path, true),
            Call::Nofollow(from, path) => self.open(worker, *from, path, false),
            Call::Create(from, path) => self.create(worker, *from, path),
            Call::InRoot(from, path) => self.open_in_root(worker, *from, path),
            Call::Keep(from, path, slot) => {
                let node = self.directory(worker, *from, path)?;
                self.open(worker, *from, path, true)?;
                self.workers[worker].slots[*slot] = Some(node);
                Ok(())
            }
            Call::Stat(from, path) | Call::Access(from, path) => {
                self.look(worker, *from, path, true).map(|_| ())
            }
            Call::Lstat(from, path) => self.look(worker, *from, path, false).map(|_| ()),
            Call::Readlink(from, path) => self.read_link(worker, *from, path),
            Call::Mkdir(from, path) => self.make_directory(worker, *from, path),
            Call::Rmdir(from, path) => self.remove_directory(worker, *from, path),
            Call::Unlink(from, path) => self.unlink(worker, *from, path),
            Call::Symlink(from, path, target) => self.symlink(worker, *from, path, target),
            Call::Link(from, old, new) => self.link(worker, *from, old, new),
            Call::Rename(from, old, new) => self.rename(worker, *from, old, new),
            Call::Chdir(path) => {
                self.fs[fs].cwd = self.change_directory(worker, path)?;
                Ok(())
            }
            Call::Fchdir(slot) => {
                self.fs[fs].cwd = self.start(worker, From::Slot(*slot), "")?;
                Ok(())
            }
            Call::Chroot(path) => {
                self.fs[fs].root = self.change_directory(worker, path)?;
                Ok(())
            }
            Call::Execute(path) => self.execute(worker, path, 0),
        }
    }

    fn directory(&self, worker: usize, from: From, path: &str) -> Result<usize> {
        let start = self.start(worker, from, path)?;
        let found = self.find(start, self.root_of(worker), path, true)?;
        let node = found.node.filter(|id| self.is_directory(*id));
        node.ok_or(Stop::Fails)
    }

    /// Returns the directory that a process is in after it has changed to `path`.
    fn change_directory(&mut self, worker: usize, path: &str) -> Result<usize> {
        let node = self.directory(worker, From::Cwd, path)?;
        self.use_name(worker, From::Cwd, path)?;
        self.used.push(self.path_of(node));
        Ok(node)
    }

    fn open_in_root(&mut self, worker: usize, from: From, path: &str) -> Result<()> {
        // The descriptor is the root, so an absolute path needs it too.
        let start = self.start(worker, from, "")?;
        let found = self.find(start, Some(start), path, true)?;
        found.node.ok_or(Stop::Fails)?;
        let name = self.requested(start, Some(start), path)?;
        self.used.extend(name);
        self.used.push(self.real(&found));
        Ok(())
    }

    fn read_link(&mut self, worker: usize, from: From, path: &str) -> Result<()> {
        let start = self.start(worker, from, path)?;
        let found = self.find(start, self.root_of(worker), path, false)?;
        // What is there and is not a link is known to the program too, by the error.
        found.node.ok_or(Stop::Fails)?;
        self.use_name(worker, from, path)?;
        match found.node.map(|id| &self.nodes[id]) {
            Some(Node::Link(_)) => Ok(()),
            _ => Err(Stop::Fails),
        }
    }

    fn make_directory(&mut self, worker: usize, from: From, path: &str) -> Result<()> {
        let found = self.free_place(worker, from, path)?;
        let node = Node::Directory {
            parent: found.directory,
            entries: BTreeMap::new(),
        };
        self.enter(found.directory, &found.name, node);
        self.use_name(worker, from, path)
    }

    fn remove_directory(&mut self, worker: usize, from: From, path: &str) -> Result<()> {
        let found = self.place(worker, from, path)?;
        let node = found.node.filter(|id| self.is_directory(*id));
        let node = node.ok_or(Stop::Fails)?;
        if !self.entries(node).is_empty() {
            return Err(Stop::Fails);
        }
        if self.is_in_use(node) {
            return Err(Stop::Unknown);
        }
        self.use_name(worker, from, path)?;
        self.entries(found.directory).remove(&found.name);
        Ok(())
    }

    fn unlink(&mut self, worker: usize, from: From, path: &str) -> Result<()> {
        let found = self.place(worker, from, path)?;
        let node = found.node.ok_or(Stop::Fails)?;
        if self.is_directory(node) {
            return Err(Stop::Fails);
        }
        self.use_name(worker, from, path)?;
        self.entries(found.directory).remove(&found.name);
        Ok(())
    }

    fn symlink(&mut self, worker: usize, from: From, path: &str, target: &str) -> Result<()> {
        let found = self.free_place(worker, from, path)?;
        self.enter(found.directory, &found.name, Node::Link(target.into()));
        self.use_name(worker, from, path)
    }

    fn link(&mut self, worker: usize, from: From, old: &str, new: &str) -> Result<()> {
        let node = self.place(worker, from, old)?.node.ok_or(Stop::Fails)?;
        if self.is_directory(node) {
            return Err(Stop::Fails);
        }
        let found = self.free_place(worker, from, new)?;
        self.use_name(worker, from, old)?;
        self.entries(found.directory).insert(found.name, node);
        self.use_name(worker, from, new)
    }

    /// Returns the place of a name that is not there yet. One that is there is known to the program, by the error.
    fn free_place(&mut self, worker: usize, from: From, path: &str) -> Result<Found> {
        let found = self.place(worker, from, path)?;
        if found.node.is_none() {
            return Ok(found);
        }
        self.use_name(worker, from, path)?;
        Err(Stop::Fails)
    }

    /// Returns the number of workers.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    fn start_worker(&mut self, fs: usize) -> Result<()> {
        if self.workers.len() == WORKERS {
            return Err(Stop::Unknown);
        }
        // The new worker has no directories open yet.
        let slots = [None; SLOTS];
        self.workers.push(Worker { fs, slots });
        Ok(())
    }

    fn use_name(&mut self, worker: usize, from: From, path: &str) -> Result<()> {
        let start = self.start(worker, from, path)?;
        let name = self.requested(start, self.root_of(worker), path)?;
        self.used.extend(name);
        Ok(())
    }

    fn look(&mut self, worker: usize, from: From, path: &str, follow: bool) -> Result<String> {
        let start = self.start(worker, from, path)?;
        let found = self.find(start, self.root_of(worker), path, follow)?;
        found.node.ok_or(Stop::Fails)?;
        self.use_name(worker, from, path)?;
        Ok(self.real(&found))
    }

    fn open(&mut self, worker: usize, from: From, path: &str, follow: bool) -> Result<()> {
        let real = self.look(worker, from, path, follow)?;
        self.used.push(real);
        Ok(())
    }

    fn create(&mut self, worker: usize, from: From, path: &str) -> Result<()> {
        if path.ends_with('/') {
            return Err(Stop::Unknown);
        }
        let start = self.start(worker, from, path)?;
        let found = self.find(start, self.root_of(worker), path, true)?;
        match found.node {
            Some(id) if self.is_directory(id) => return Err(Stop::Fails),
            Some(_) => (),
            None => _ = self.enter(found.directory, &found.name, Node::File(Content::Data)),
        }
        self.used.push(self.real(&found));
        self.use_name(worker, from, path)
    }

    /// Returns the place of a name that is created, moved or removed. Symlinks are followed, except the last name.
    fn place(&self, worker: usize, from: From, path: &str) -> Result<Found> {
        let last = path.rsplit('/').next().unwrap_or_default();
        if matches!(last, "" | "." | "..") {
            // The kernel refuses this; the error depends on the call.
            return Err(Stop::Unknown);
        }
        let start = self.start(worker, from, path)?;
        self.find(start, self.root_of(worker), path, false)
    }

    fn rename(&mut self, worker: usize, from: From, old: &str, new: &str) -> Result<()> {
        let old_found = self.place(worker, from, old)?;
        let node = old_found.node.ok_or(Stop::Fails)?;
        let new_found = self.place(worker, from, new)?;
        if new_found.node == Some(node) {
            // With two names of one file, or the same name twice, rename succeeds and does nothing.
            self.use_name(worker, from, old)?;
            return self.use_name(worker, from, new);
        }
        let mut above = Some(new_found.directory);
        while let Some(directory) = above {
            if directory == node {
                return Err(Stop::Fails);
            }
            above = self.parent_of(directory, None).ok();
        }
        if let Some(there) = new_found.node {
            let is_directory = self.is_directory(there);
            if is_directory != self.is_directory(node) {
                return Err(Stop::Fails);
            }
            if is_directory && (!self.entries(there).is_empty() || self.is_in_use(there)) {
                return Err(Stop::Unknown);
            }
        }
        self.use_name(worker, from, old)?;
        self.use_name(worker, from, new)?;
        self.entries(old_found.directory).remove(&old_found.name);
        self.entries(new_found.directory)
            .insert(new_found.name, node);
        if let Node::Directory { parent, .. } = &mut self.nodes[node] {
            *parent = new_found.directory;
        }
        Ok(())
    }

    fn execute(&mut self, worker: usize, path: &str, depth: usize) -> Result<()> {
        let start = self.start(worker, From::Cwd, path)?;
        let found = self.find(start, self.root_of(worker), path, true)?;
        let node = found.node.ok_or(Stop::Fails)?;
        let interpreter = match &self.nodes[node] {
            Node::File(Content::Program) => None,
            Node::File(Content::Script(interpreter)) if depth == 0 => Some(interpreter.clone()),
            // The model covers neither scripts that interpret scripts nor the shell's rules for files without a header.
            Node::File(_) => return Err(Stop::Unknown),
            _ => return Err(Stop::Fails),
        };
        let before = self.used.len();
        let real = self.real(&found);
        self.used.push(real);
        self.use_name(worker, From::Cwd, path)?;
        if let Some(interpreter) = interpreter
            && let Err(stop) = self.execute(worker, &interpreter, depth + 1)
        {
            self.used.truncate(before);
            return Err(stop);
        }
        Ok(())
    }
}

impl Call {
    /// Returns the call as a line for tests/helper/generated.c. A worker that the call starts has the number `new`.
    pub fn line(&self, worker: usize, new: usize) -> String {
        let from = |from: &From| match from {
            From::Cwd => "-".into(),
            From::Slot(slot) => slot.to_string(),
        };
        let one = |name: &str, f: &From, path: &str| format!("{name} {} {path}", from(f));
        let text = match self {
            Call::Process => format!("process {new}"),
            Call::Sharing => format!("sharing {new}"),
            Call::Thread => format!("thread {new}"),
            Call::Apart => format!("apart {new}"),
            Call::Open(f, path) => one("open", f, path),
            Call::Create(f, path) => one("create", f, path),
            Call::Nofollow(f, path) => one("nofollow", f, path),
            Call::InRoot(f, path) => one("in_root", f, path),
            Call::Keep(f, path, slot) => format!("keep {} {path} {slot}", from(f)),
            Call::Stat(f, path) => one("stat", f, path),
            Call::Lstat(f, path) => one("lstat", f, path),
            Call::Access(f, path) => one("access", f, path),
            Call::Readlink(f, path) => one("readlink", f, path),
            Call::Mkdir(f, path) => one("mkdir", f, path),
            Call::Rmdir(f, path) => one("rmdir", f, path),
            Call::Unlink(f, path) => one("unlink", f, path),
            Call::Symlink(f, path, target) => format!("symlink {} {path} {target}", from(f)),
            Call::Link(f, old, new) => format!("link {} {old} {new}", from(f)),
            Call::Rename(f, old, new) => format!("rename {} {old} {new}", from(f)),
            Call::Chdir(path) => one("chdir", &From::Cwd, path),
            Call::Fchdir(slot) => format!("fchdir {slot} ."),
            Call::Chroot(path) => one("chroot", &From::Cwd, path),
            Call::Execute(path) => one("execute", &From::Cwd, path),
        };
        format!("{worker} {text}\n")
    }
}
