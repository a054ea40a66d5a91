// SPDX-License-Identifier: MIT OR Apache-2.0
//! What becomes of each entry of the layers: dropped, copied as it is, or written with another name or content.

use crate::slim::keep::Keep;
use crate::slim::layers::{Id, Item, Layers, ROOT, What};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Action {
    Drop,
    /// As it is, byte by byte.
    Copy,
    /// Under the name of what is seen, which its own leads to.
    Rename,
    /// A hard link to that entry, which stays.
    LinkTo(Item),
    /// A file whose first name goes: it gets the name of that hard link.
    NameOf(Item),
    /// A hard link that becomes a file: the content comes from that entry of another layer.
    ContentOf(Item),
    /// With another content.
    Replace,
}

#[derive(Debug, PartialEq)]
pub enum Fate {
    /// Nothing of it stays.
    Empty,
    /// It loses nothing.
    Same,
    Changed,
}

pub struct Plan {
    /// For each item the action, if it is neither [`Action::Copy`] nor [`Action::Drop`] by the rule.
    special: Vec<Option<Action>>,
    is_squashed: bool,
    /// Directories of which no layer has an entry, and nothing else that would bring them back.
    made: Vec<(u32, Id)>,
    /// Of each layer.
    pub fates: Vec<Fate>,
}

impl Plan {
    pub fn new(keep: &Keep, is_squashed: bool) -> Plan {
        let mut plan = Plan {
            special: vec![None; keep.layers.all_items().len()],
            is_squashed,
            made: Vec::new(),
            fates: Vec::new(),
        };
        plan.hard_links(keep);
        let layers = &*keep.layers;
        for node in layers
            .nodes()
            .filter(|node| *node != ROOT && keep.is_kept(*node))
        {
            let is_alone = !layers.children(node).any(|child| keep.is_kept(child));
            if let (Some(layer), true) = (layers.implied_by(node), is_alone) {
                plan.made.push((layer, node));
            }
        }
        for layer in 0..layers.layers() {
            for item in layers.items(layer) {
                if keep.is_item_kept(item) && plan.special[item as usize].is_none() {
                    if keep.replaced.contains_key(&item) {
                        plan.special[item as usize] = Some(Action::Replace);
                    } else if layers.is_moved(item) {
                        plan.special[item as usize] = Some(Action::Rename);
                    }
                }
            }
            let fate = plan.fate(keep, layer);
            plan.fates.push(fate);
        }
        plan
    }

    /// The directories to be made in a layer.
    pub fn made(&self, layer: usize) -> impl Iterator<Item = Id> {
        let made = self
            .made
            .iter()
            .filter(move |(by, _)| *by as usize == layer);
        made.map(|(_, node)| *node)
    }

    /// The first name that stays of a file becomes the file, and the others its names.
    fn hard_links(&mut self, keep: &Keep) {
        let layers = &*keep.layers;
        let mut names: Vec<(Item, Item)> = Vec::new();
        for item in layers.all_items() {
            if let What::HardLink(file) = layers.what(item)
                && keep.is_item_kept(item)
            {
                names.push((file, item));
            }
        }
        names.sort_unstable();
        for names in names.chunk_by(|a, b| a.0 == b.0) {
            let file = names[0].0;
            let (first, others) = if keep.is_item_kept(file) {
                (file, names)
            } else {
                // They are sorted by layer.
                let first = names[0].1;
                if layers.layer_of(first) == layers.layer_of(file) {
                    self.special[file as usize] = Some(Action::NameOf(first));
                    self.special[first as usize] = Some(Action::Drop);
                } else {
                    self.special[first as usize] = Some(Action::ContentOf(file));
                }
                (first, &names[1..])
            };
            for (_, link) in others {
                let named = layers.named(*link);
                let is_right = first == file
                    && keep.is_item_kept(named)
                    && !layers.is_moved(named)
                    && !layers.is_moved(*link);
                if !is_right {
                    self.special[*link as usize] = Some(Action::LinkTo(first));
                }
            }
        }
    }

    pub fn is_squashed(&self) -> bool {
        self.is_squashed
    }

    pub fn action(&self, keep: &Keep, item: Item) -> Action {
        if let Some(special) = self.special[item as usize] {
            return special;
        }
        let layers = &*keep.layers;
        let stays = match layers.what(item) {
            What::Global => true,
            // In one layer no entry stands over another.
            What::Directory if self.is_squashed => {
                keep.is_item_kept(item) && layers.visible(layers.node_of(item)) == Some(item)
            }
            _ => keep.is_item_kept(item),
        };
        match stays {
            true => Action::Copy,
            false => Action::Drop,
        }
    }

    fn fate(&self, keep: &Keep, layer: usize) -> Fate {
        let layers = &*keep.layers;
        let (mut is_empty, mut is_same) = (true, true);
        for item in layers.items(layer) {
            let action = self.action(keep, item);
            if layers.what(item) == What::Whiteout {
                // It hides nothing that is still there. It does no harm where its directory is.
                is_same &= is_kept_directory(keep, layers, item);
                continue;
            }
            is_same &= action == Action::Copy;
            is_empty &= action == Action::Drop || layers.what(item) == What::Global;
        }
        match (is_empty, is_same) {
            _ if self.made(layer).next().is_some() => Fate::Changed,
            (true, _) => Fate::Empty,
            (false, true) => Fate::Same,
            (false, false) => Fate::Changed,
        }
    }
}

fn is_kept_directory(keep: &Keep, layers: &Layers, whiteout: Item) -> bool {
    let node = layers.node_of(whiteout);
    keep.is_kept(node) && layers.is_directory(node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::tar::Kind;
    use crate::slim::keep::Why;
    use crate::slim::layers::New;

    /// Plans for layers of entries, of which these paths stay.
    fn planned(entries: &[&[(&str, &str)]], kept: &[&str]) -> (Vec<Action>, Vec<Fate>) {
        let mut layers = Layers::default();
        for layer in entries {
            layers.begin_layer();
            for (path, link) in *layer {
                let kind = match (link.is_empty(), path.ends_with('/')) {
                    (false, _) => Kind::HardLink,
                    (true, true) => Kind::Directory,
                    (true, false) => Kind::File,
                };
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
        }
        let mut keep = Keep::new(&mut layers);
        for path in kept {
            keep.path(path.as_bytes(), Why::Used).unwrap();
        }
        let plan = Plan::new(&keep, false);
        let items = (0..keep.layers.layers()).flat_map(|layer| keep.layers.items(layer));
        let actions = items.map(|item| plan.action(&keep, item)).collect();
        (actions, plan.fates)
    }

    use Action::{ContentOf, Copy, Drop, LinkTo, NameOf};

    #[test]
    fn the_first_name_that_stays_becomes_the_file() {
        let entries = [("a", ""), ("b", "a"), ("c", "b"), ("d", "")];
        let (actions, fates) = planned(&[&entries], &["/b", "/c"]);
        assert_eq!(actions, [NameOf(1), Drop, LinkTo(1), Drop]);
        assert_eq!(fates, [Fate::Changed]);
        let (actions, _) = planned(&[&entries], &["/a", "/c"]);
        assert_eq!(actions, [Copy, Drop, LinkTo(0), Drop]);
        let (actions, fates) = planned(&[&entries], &["/a", "/b", "/c", "/d"]);
        assert_eq!((actions, fates), (vec![Copy; 4], vec![Fate::Same]));
    }

    #[test]
    fn a_name_in_a_layer_above_takes_the_content_along() {
        let layers: [&[(&str, &str)]; 2] = [&[("a", "")], &[("b", "a"), ("c", "a"), (".wh.a", "")]];
        let (actions, fates) = planned(&layers, &["/b", "/c"]);
        assert_eq!(actions, [Drop, ContentOf(0), LinkTo(1), Drop]);
        assert_eq!(fates, [Fate::Empty, Fate::Changed]);
    }

    #[test]
    fn a_layer_that_loses_nothing_is_the_same() {
        let base: &[(&str, &str)] = &[("d/", ""), ("d/a", ""), ("d/x", "")];
        let (_, fates) = planned(
            &[base, &[("d/", ""), ("d/.wh.x", ""), ("d/b", "")]],
            &["/d/a", "/d/b"],
        );
        assert_eq!(fates, [Fate::Changed, Fate::Same]);
        let (_, fates) = planned(&[base, &[("d/.wh.a", "")]], &["/d/x"]);
        assert_eq!(fates, [Fate::Changed, Fate::Empty]);
        // Its whiteout would bring back a directory that is not kept.
        let (_, fates) = planned(&[base, &[("e", ""), ("d/.wh.x", "")]], &["/e"]);
        assert_eq!(fates, [Fate::Empty, Fate::Changed]);
    }
}
