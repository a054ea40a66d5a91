// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tree of directories in the terminal.

use crate::files::kinds::Kinds;
use crate::files::path_tree::{Id, PathTree, ROOT};
use crate::image::unused::human;
use crate::report::detail::Use;
use crate::show::contents::Contents;
use crate::show::name;
use std::io::{self, Write};

/// How the tree is written.
pub struct Style {
    /// How many levels of directories are shown.
    pub depth: usize,
    pub has_sizes: bool,
    pub is_coloured: bool,
}

/// A file or directory, with the sums of everything in it.
#[derive(Clone, Default)]
struct Node {
    is_shown: bool,
    /// How many paths the report lists.
    files: u64,
    kinds: Kinds,
    /// The bytes in the image, and how many of them are used.
    all: u64,
    used: u64,
    children: Vec<Id>,
}

pub struct Tree {
    /// The nodes by the ids of their paths.
    nodes: Vec<Node>,
}

impl Tree {
    pub fn new(paths: &mut PathTree, uses: &[Use], contents: Option<&Contents>) -> Tree {
        let mut tree = Tree { nodes: Vec::new() };
        for used in uses {
            tree.show(paths, used.file);
            tree.add(paths, used.file, |node| {
                node.files += 1;
                node.kinds = node.kinds.and(used.kinds);
            });
        }
        for file in contents.into_iter().flat_map(|contents| &contents.files) {
            let id = paths.hold(&file.path);
            let used = if file.is_used { file.bytes } else { 0 };
            tree.add(paths, id, |node| {
                node.all += file.bytes;
                node.used += used;
            });
        }
        for node in &mut tree.nodes {
            node.children.sort_unstable_by_key(|id| paths.name(*id));
        }
        tree
    }

    fn node(&mut self, id: Id) -> &mut Node {
        let at = id as usize;
        if at >= self.nodes.len() {
            self.nodes.resize_with(at + 1, Node::default);
        }
        &mut self.nodes[at]
    }

    /// Makes a path visible, and the directories that lead to it.
    fn show(&mut self, paths: &PathTree, mut id: Id) {
        while !std::mem::replace(&mut self.node(id).is_shown, true) && id != ROOT {
            let parent = paths.parent(id);
            self.node(parent).children.push(id);
            id = parent;
        }
    }

    /// Adds to the sums of a path and of the directories that it is in.
    fn add(&mut self, paths: &PathTree, mut id: Id, add: impl Fn(&mut Node)) {
        loop {
            add(self.node(id));
            if id == ROOT {
                return;
            }
            id = paths.parent(id);
        }
    }

    pub fn write(&self, paths: &PathTree, style: &Style, out: &mut dyn Write) -> io::Result<()> {
        let letters = Kinds::ALL.map(|(_, letter, name)| format!("{letter} {name}"));
        let sizes = match style.has_sizes {
            true => format!("  {:>10}  {:>10}", "used", "in image"),
            false => String::new(),
        };
        writeln!(out, "{}\n", letters.join(", "))?;
        writeln!(out, "{:>8}  {:5}{sizes}  path", "files", "kinds")?;
        if self.nodes.first().is_some_and(|root| root.is_shown) {
            self.line(ROOT, "", "/", style, out)?;
            self.directory(paths, style, out)?;
        }
        Ok(())
    }

    /// Writes everything below the root. The depth of a path has no small limit, so there is no recursion.
    fn directory(&self, paths: &PathTree, style: &Style, out: &mut dyn Write) -> io::Result<()> {
        let mut lines = String::new();
        let mut todo = vec![self.nodes[ROOT as usize].children.iter()];
        loop {
            let is_shown = todo.len() <= style.depth;
            let Some(rest) = todo.last_mut() else {
                return Ok(());
            };
            let Some(id) = rest.next().filter(|_| is_shown) else {
                todo.pop();
                // The lines of a level take four characters.
                let end = lines.char_indices().rev().nth(3).map_or(0, |(at, _)| at);
                lines.truncate(end);
                continue;
            };
            let is_last = rest.as_slice().is_empty();
            let children = &self.nodes[*id as usize].children;
            let mut name = name::shown(paths.name(*id));
            name += if children.is_empty() { "" } else { "/" };
            let branch = if is_last { "└── " } else { "├── " };
            self.line(*id, &format!("{lines}{branch}"), &name, style, out)?;
            if !children.is_empty() {
                lines += if is_last { "    " } else { "│   " };
                todo.push(children.iter());
            }
        }
    }

    fn line(
        &self,
        id: Id,
        lines: &str,
        name: &str,
        style: &Style,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let node = &self.nodes[id as usize];
        let is_directory = !node.children.is_empty();
        let files = match is_directory {
            true => node.files.to_string(),
            false => String::new(),
        };
        let kinds: String = node.kinds.letters().collect();
        write!(out, "{files:>8}  {kinds:5}")?;
        if style.has_sizes {
            let size = |bytes| match node.all {
                0 => String::new(),
                _ => human(bytes),
            };
            write!(out, "  {:>10}  {:>10}", size(node.used), size(node.all))?;
        }
        let colour = match () {
            () if is_directory => "1;34",
            () if node.kinds.has(Kinds::EXECUTED) => "1;32",
            () if node.kinds.has(Kinds::MAPPED) => "36",
            () if node.kinds.has(Kinds::WRITTEN) => "33",
            () => "0",
        };
        match style.is_coloured {
            true => writeln!(out, "  \x1b[2m{lines}\x1b[0;{colour}m{name}\x1b[0m"),
            false => writeln!(out, "  {lines}{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::detail::{Detailed, combine};
    use crate::show::contents::ImageFile;
    use serde_json::json;

    fn written(style: &Style, contents: Option<&Contents>) -> Vec<String> {
        let report = json!({"schema": 2, "files": ["/a/x", "/a-b", "/a/y\nz", "/c/d/e"], "containers": [
            {"files": ["/a/x", "/a-b"], "kinds": ["x", "l"], "first_use_ms": [1, 2]},
            {"files": ["/a/x", "/c/d/e"], "kinds": ["r", "m"], "first_use_ms": [1, 2]},
        ]});
        let mut paths = PathTree::default();
        let read = Detailed::read(&mut report.to_string().as_bytes(), &mut paths).unwrap();
        let uses = [read.containers.concat(), read.others].concat();
        let uses = combine(&paths, uses);
        let tree = Tree::new(&mut paths, &uses, contents);
        let mut text = Vec::new();
        tree.write(&paths, style, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        text.lines().skip(2).map(String::from).collect()
    }

    const PLAIN: Style = Style {
        depth: usize::MAX,
        has_sizes: false,
        is_coloured: false,
    };

    #[test]
    fn directories_have_the_sums_of_their_files() {
        let expected = [
            "   files  kinds  path",
            "       4  lrxm   /",
            "       2  rx     ├── a/",
            "          rx     │   ├── x",
            "                 │   └── y\\nz",
            "          l      ├── a-b",
            "       1  m      └── c/",
            "       1  m          └── d/",
            "          m              └── e",
        ];
        assert_eq!(written(&PLAIN, None), expected);
        let shallow = Style { depth: 1, ..PLAIN };
        let expected = [
            "   files  kinds  path",
            "       4  lrxm   /",
            "       2  rx     ├── a/",
            "          l      ├── a-b",
            "       1  m      └── c/",
        ];
        assert_eq!(written(&shallow, None), expected);
        assert_eq!(written(&Style { depth: 0, ..PLAIN }, None), expected[..2]);
    }

    #[test]
    fn sizes_are_those_of_the_image() {
        let file = |path: &str, bytes, is_used| ImageFile {
            path: path.into(),
            bytes,
            is_used,
        };
        let files = vec![
            file("/a/x", 100, true),
            file("/b/unused", 7, false),
            file("/c/d/f", 2048, false),
        ];
        let contents = Contents {
            files,
            packages: Vec::new(),
        };
        let style = Style {
            has_sizes: true,
            is_coloured: true,
            ..PLAIN
        };
        let lines = written(&style, Some(&contents));
        assert_eq!(
            lines[1],
            "       4  lrxm        100 B     2.1 KiB  \x1b[2m\x1b[0;1;34m/\x1b[0m"
        );
        assert!(lines.iter().all(|line| !line.contains("unused")));
        assert!(lines[5].starts_with("          l                              \x1b[2m├"));
        assert!(lines[6].starts_with("       1  m             0 B     2.0 KiB"));
    }
}
