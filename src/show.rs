// SPDX-License-Identifier: MIT OR Apache-2.0
//! `snoop show`: a report for people, as a tree of directories in the terminal or as a page for a browser.

mod contents;
mod name;
pub mod page;
mod tree;

use crate::error::{Result, cannot};
use crate::files::path_tree::PathTree;
use crate::report::detail::{Detailed, combine};
use crate::report::output;
use crate::report::reader::{self, FileLists};
use crate::report::schema::field;
use contents::Contents;
use page::Keeping;
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use tree::{Style, Tree};

#[derive(Debug, PartialEq)]
pub struct Show {
    pub report: OsString,
    /// Where to write a page instead; `-` is standard output.
    pub html: Option<OsString>,
    /// Where the image is unpacked, which tells the sizes of its files.
    pub root: Option<PathBuf>,
    /// How many levels of directories the tree shows.
    pub depth: usize,
    /// Whether the environment allows colours.
    pub allows_colour: bool,
}

impl Show {
    pub fn run(&self, out: &mut impl Write) -> Result<()> {
        match &self.html {
            Some(html) => self.write_page(html),
            None => self.print_tree(out),
        }
    }

    fn write_page(&self, html: &OsStr) -> Result<()> {
        output::check("html", html)?;
        let mut paths = PathTree::default();
        let ((report, text), _) = reader::open(&self.report, |input| {
            let report = page::Report::default();
            let mut keeping = Keeping { input, report };
            let report = Detailed::read(&mut keeping, &mut paths)?;
            Ok((report, keeping.report))
        })?;
        let contents = self.contents(&paths, &report)?;
        output::write(html, |out| page::write(&text, contents.as_ref(), out))
    }

    fn print_tree(&self, out: &mut impl Write) -> Result<()> {
        let mut paths = PathTree::default();
        let (report, _) = Detailed::open(&self.report, &mut paths)?;
        let contents = self.contents(&paths, &report)?;
        let mut uses = report.others;
        uses.extend(report.containers.into_iter().flatten());
        let uses = combine(&paths, uses);
        let files = uses.len();
        let tree = Tree::new(&mut paths, &uses, contents.as_ref());
        let style = Style {
            depth: self.depth,
            has_sizes: contents.is_some(),
            is_coloured: self.allows_colour && io::stdout().is_terminal(),
        };
        self.head(&report.head, files, out)
            .and_then(|()| tree.write(&paths, &style, out))
            .and_then(|()| out.flush())
            .map_err(|e| cannot("write to standard output", e))
    }

    /// Reads what is in the image, if one is given.
    fn contents(&self, paths: &PathTree, report: &Detailed) -> Result<Option<Contents>> {
        let Some(root) = &self.root else {
            return Ok(None);
        };
        let mut listed = FileLists::default();
        if let Some(missing) = listed.add_head(&report.head) {
            let name = self.report.to_string_lossy().into_owned();
            listed.incomplete.push((name, missing));
        }
        let uses = report.containers.iter().flatten().chain(&report.others);
        let mut path = Vec::new();
        for used in uses {
            paths.path(used.file, &mut path);
            if !listed.files.contains(&path) {
                listed.files.insert(path.clone());
            }
        }
        Contents::read(root, &listed).map(Some)
    }

    /// Writes what the report is about, and whether it is complete.
    fn head(&self, head: &Value, files: usize, out: &mut dyn Write) -> io::Result<()> {
        let about: String = [field::IMAGE, field::POD_NAME, field::NAMESPACE]
            .iter()
            .filter_map(|name| {
                let value = name::shown(head[name].as_str()?.as_bytes());
                Some(format!("; {} {value}", name.trim_end_matches("_name")))
            })
            .collect();
        let of_report = name::shown(self.report.as_encoded_bytes());
        writeln!(out, "{of_report}{about}")?;
        let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let containers = head[field::CONTAINERS].as_array().map_or(0, Vec::len);
        let (files, containers) = (count(files, "file"), count(containers, "container"));
        let time = |name: &str| name::shown(head[name].as_str().unwrap_or("unknown").as_bytes());
        writeln!(
            out,
            "{files} of {containers}, used from {} to {}; the last new file at {}",
            time(field::STARTED_AT),
            time(field::LAST_UPDATED_AT),
            time(field::LAST_NEW_FILE_AT),
        )?;
        match head[field::COMPLETE] == true {
            true => writeln!(out, "complete: nothing is missing"),
            false => writeln!(out, "not complete: {}", head[field::MISSING]),
        }
    }
}
