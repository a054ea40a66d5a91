// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was done, for people and as JSON.

use crate::error::{Result, cannot};
use crate::image::unused::{Size, human};
use crate::log;
use crate::report::schema::encode_name;
use crate::slim::input::Found;
use crate::slim::keep::{Keep, Why};
use crate::slim::layers::{Id, Item, What};
use crate::slim::plan::{Action, Fate, Plan};
use crate::slim::write::object;
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{self, Write};

/// Lines of what went.
const SHOWN: usize = 15;

pub struct Summary {
    source: String,
    pub digest: String,
    pub tag: Option<String>,
    pub archive_bytes: u64,
    layers: Vec<LayerChange>,
    /// The largest directories and files that went, of those in no such one.
    gone: Vec<(String, Size)>,
    /// How many others went.
    gone_more: usize,
    kept: Vec<(Why, Places)>,
    notes: Vec<String>,
}

/// Files and directories.
#[derive(Clone, Copy, Default)]
struct Places {
    count: u64,
    bytes: u64,
}

struct LayerChange {
    diff_id: String,
    fate: &'static str,
    before: Size,
    after: Size,
}

impl Summary {
    pub fn new(image: &Found, keep: &Keep, plan: &Plan) -> Summary {
        let changes = image.layers.iter().enumerate().map(|(at, layer)| {
            let (mut before, mut after) = (Size::default(), Size::default());
            for item in keep.layers.items(at) {
                before.add(size_before(keep, item));
                after.add(size_after(keep, plan, item));
            }
            LayerChange {
                diff_id: layer.diff_id.to_string(),
                fate: match plan.fates[at] {
                    Fate::Empty => "empty",
                    Fate::Same => "same",
                    Fate::Changed => "changed",
                },
                before,
                after,
            }
        });
        let layers = changes.collect();
        let mut gone = gone(keep);
        let gone_more = gone.len().saturating_sub(SHOWN);
        gone.truncate(SHOWN);
        Summary {
            source: image.digest.to_string(),
            digest: String::new(),
            tag: None,
            archive_bytes: 0,
            layers,
            gone,
            gone_more,
            kept: kept(keep),
            notes: keep.notes.clone(),
        }
    }

    /// Prints it on standard output, unless the image is there. Doubts go to standard error.
    pub fn tell(&self, is_json: bool, has_image_on_stdout: bool) -> Result<()> {
        for note in &self.notes {
            log::tell(note);
        }
        let text = match is_json {
            true => format!("{:#}\n", self.as_json()),
            false => self.text(),
        };
        let done = match has_image_on_stdout {
            true => io::stderr().write_all(text.as_bytes()),
            false => io::stdout().write_all(text.as_bytes()),
        };
        done.map_err(|e| cannot("write what was done", e))
    }

    fn total(&self) -> (Size, Size) {
        let (mut before, mut after) = (Size::default(), Size::default());
        for layer in &self.layers {
            before.add(layer.before);
            after.add(layer.after);
        }
        (before, after)
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let line = |text: &mut String, name: &str, before: Size, after: Size, end: &str| {
            let (was, is) = (human(before.bytes), human(after.bytes));
            let (files, left) = (before.files, after.files);
            let line = format!("{name:<20}{files:>8} files {was:>10}  ->{left:>8} files {is:>10}");
            // Writing to a string does not fail.
            let _ = writeln!(text, "{line}{end}");
        };
        for layer in &self.layers {
            let name = layer.diff_id.get(..19).unwrap_or_default();
            let end = match layer.fate {
                "changed" => "",
                "same" => "  same digest",
                fate => &format!("  {fate}"),
            };
            line(&mut text, name, layer.before, layer.after, end);
        }
        let (before, after) = self.total();
        line(&mut text, "all layers", before, after, "");
        let mut add = |line: &str| text.push_str(&format!("{line}\n"));
        add("\nKept without being used:");
        for (why, places) in &self.kept {
            let (count, bytes) = (places.count, human(places.bytes));
            if *why != Why::Used && count > 0 {
                add(&format!("{bytes:>10} {count:>8} paths  {}", why.sentence()));
            }
        }
        if !self.gone.is_empty() {
            add("\nThe largest of what went:");
        }
        for (path, size) in &self.gone {
            let (files, bytes) = (size.files, human(size.bytes));
            add(&format!(
                "{bytes:>10} {files:>8} files  {}",
                path.escape_debug()
            ));
        }
        if self.gone_more > 0 {
            add(&format!("{:>10} {} more", "…", self.gone_more));
        }
        let name = self.tag.as_deref().unwrap_or("no name");
        let bytes = human(self.archive_bytes);
        add(&format!("\n{name}, {}: {bytes}", self.digest));
        text
    }

    fn as_json(&self) -> Value {
        let counted = |name, count: u64, bytes: u64| {
            object(vec![(name, count.into()), ("bytes", bytes.into())])
        };
        let size = |size: &Size| counted("files", size.files, size.bytes);
        let (before, after) = self.total();
        let layer = |layer: &LayerChange| {
            object(vec![
                ("diff_id", layer.diff_id.as_str().into()),
                ("result", layer.fate.into()),
                ("before", size(&layer.before)),
                ("after", size(&layer.after)),
            ])
        };
        let gone = |(path, of): &(String, Size)| {
            let mut gone = size(of);
            gone["path"] = path.as_str().into();
            gone
        };
        let kept = self.kept.iter().map(|(why, places)| {
            let places = counted("paths", places.count, places.bytes);
            (why.name().into(), places)
        });
        object(vec![
            ("source", self.source.as_str().into()),
            ("digest", self.digest.as_str().into()),
            ("tag", self.tag.clone().into()),
            ("archive_bytes", self.archive_bytes.into()),
            ("before", size(&before)),
            ("after", size(&after)),
            ("layers", self.layers.iter().map(layer).collect()),
            ("kept", Value::Object(kept.collect())),
            ("gone", self.gone.iter().map(gone).collect()),
            ("notes", self.notes.clone().into()),
        ])
    }
}

/// A file counts once, and its content with its first name.
fn size_before(keep: &Keep, item: Item) -> Size {
    match keep.layers.what(item) {
        What::File => Size {
            files: 1,
            bytes: keep.layers.size(item),
        },
        What::HardLink(_) | What::Symlink | What::Special => Size { files: 1, bytes: 0 },
        What::Directory | What::Whiteout | What::Global => Size::default(),
    }
}

fn size_after(keep: &Keep, plan: &Plan, item: Item) -> Size {
    match plan.action(keep, item) {
        Action::Drop => Size::default(),
        Action::Copy | Action::Rename | Action::NameOf(_) => size_before(keep, item),
        Action::LinkTo(_) => Size { files: 1, bytes: 0 },
        Action::ContentOf(file) => size_before(keep, file),
        Action::Replace => Size {
            files: 1,
            bytes: keep.replaced[&item].len() as u64,
        },
    }
}

/// What a container sees, by the reason why it stays.
fn kept(keep: &Keep) -> Vec<(Why, Places)> {
    let mut kept: Vec<_> = Why::ALL.map(|why| (why, Places::default())).into();
    for node in keep.layers.nodes() {
        if let (Some(why), true) = (keep.why(node), keep.layers.is_there(node)) {
            let places = &mut kept[why as usize].1;
            places.count += 1;
            let item = keep.layers.visible(node);
            places.bytes += item.map_or(0, |item| size_before(keep, item).bytes);
        }
    }
    kept
}

/// What a container saw and sees no more, the largest first: each is in a directory that stays.
fn gone(keep: &Keep) -> Vec<(String, Size)> {
    let layers = &*keep.layers;
    let is_top = |node: &Id| {
        layers.is_there(*node) && !keep.is_kept(*node) && keep.is_kept(layers.parent(*node))
    };
    let mut gone: Vec<_> = layers
        .nodes()
        .filter(is_top)
        .map(|top| {
            let (mut size, mut todo) = (Size::default(), vec![top]);
            while let Some(node) = todo.pop() {
                todo.extend(layers.children(node));
                if let Some(item) = layers.visible(node) {
                    size.add(size_before(keep, item));
                }
            }
            (top, size)
        })
        .collect();
    gone.sort_by_key(|(_, size)| std::cmp::Reverse(size.bytes));
    let named = gone.into_iter().map(|(top, size)| {
        let path = layers.path(top);
        (encode_name(&path).into_owned(), size)
    });
    named.collect()
}
