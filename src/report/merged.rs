// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes a report that was made of several reports.

use crate::files::path_tree::PathTree;
use crate::files::usage::Usages;
use crate::report::detail::{PathOrder, Use};
use crate::report::schema::{Fields, field};
use crate::report::{write_fields, write_files, write_usages};
use serde_json::Value;
use std::io::{self, Write};

/// The content of the report.
pub struct MergedReport<'a> {
    /// The fields before the files.
    pub head: Fields,
    pub tree: &'a PathTree,
    /// The fields and the files of each container.
    pub containers: Vec<(Fields, Vec<Use>)>,
    /// The fields after the containers.
    pub tail: Fields,
    /// The reasons why something is missing, each with a count.
    pub missing: Value,
}

impl MergedReport<'_> {
    pub fn write(mut self, out: &mut dyn Write) -> io::Result<()> {
        let all = self.containers.iter().flat_map(|(_, uses)| uses);
        let order = PathOrder::of(self.tree, all.map(|used| used.file));
        out.write_all(b"{\n")?;
        write_fields(out, "  ", &self.head)?;
        write_files(out, "  ", self.tree, order.sorted.iter().copied())?;
        write!(out, ",\n  \"{}\": [", field::CONTAINERS)?;
        for (at, (fields, uses)) in self.containers.iter_mut().enumerate() {
            out.write_all(if at == 0 { b"\n    {\n" } else { b",\n    {\n" })?;
            write_fields(out, "      ", fields)?;
            uses.sort_unstable_by_key(|used| order.place(used.file));
            let mut usages = Usages::default();
            for used in uses.iter() {
                usages.note(used.file, used.usage());
            }
            let files = uses.iter().map(|used| used.file);
            write_files(out, "      ", self.tree, files.clone())?;
            write_usages(out, "      ", &usages, files)?;
            out.write_all(b"\n    }")?;
        }
        out.write_all(b"\n  ],\n")?;
        write_fields(out, "  ", &self.tail)?;
        writeln!(out, "  \"{}\": {}\n}}", field::MISSING, self.missing)?;
        out.flush()
    }
}
