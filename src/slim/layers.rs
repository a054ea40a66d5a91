// SPDX-License-Identifier: MIT OR Apache-2.0
//! The layers of an image as one tree: what a container sees, and which entry of which layer it comes from.
//!
//! Whiteouts and opaque directories hide what layers below hold. Names are kept once, entries by their place; no content is.

use crate::archive::tar::Kind;
use crate::error::{Error, Result};
use crate::image::{Node, View};
use crate::report::schema::encode_name;
use hashbrown::HashTable;
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

/// A place in the tree.
pub type Id = u32;
/// An entry, by its place among those of all layers.
pub type Item = u32;

pub const ROOT: Id = 0;
const NONE: u32 = u32::MAX;
/// More names and entries than any image has; an archive made to take memory ends here.
const NAMES_MAX: usize = 8_000_000;
/// Bytes of names.
const TEXT_MAX: usize = 1 << 30;
/// As many symlinks as the kernel follows: path_resolution(7).
const LINKS_MAX: usize = 40;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Other names that begin so belong to the file system that made the layer.
const RESERVED: &[u8] = b".wh..wh.";

struct TreeNode {
    parent: Id,
    name: Text,
    first_child: Id,
    next_sibling: Id,
    /// It is among the children of its directory. What is seen always is; what was hidden may be.
    is_linked: bool,
    /// What a container sees there.
    visible: Visible,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Visible {
    Nothing,
    Item(Item),
    /// A directory that a layer has no entry of, but entries in it.
    Implied {
        layer: u32,
    },
}

/// A piece of [`Layers::text`].
#[derive(Clone, Copy)]
struct Text {
    start: u32,
    len: u16,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum What {
    File,
    /// Another name of that entry, which is a file.
    HardLink(Item),
    Symlink,
    /// A device or a named pipe.
    Special,
    Directory,
    /// Hides what lies below, in the directory that the item is of.
    Whiteout,
    /// Attributes of all entries behind it.
    Global,
}

struct ItemData {
    node: Id,
    what: What,
    /// The target of a symlink.
    link: Text,
    /// The entry that a hard link names, which may be a hard link too.
    named: Item,
    /// The directory's entry in a layer below, which this one stands over.
    below: Item,
    size: u64,
    /// A container does not see it, or anything of it.
    is_dead: bool,
    /// A name in the archive, its own or that of its target, leads through a symlink.
    is_moved: bool,
}

/// An entry, as its archive has it.
pub struct New<'a> {
    pub path: &'a [u8],
    pub kind: Kind,
    pub link: &'a [u8],
    pub size: u64,
}

pub struct Layers {
    nodes: Vec<TreeNode>,
    /// Places by parent and name. The hash has a secret: whoever makes an image cannot make names that meet.
    index: HashTable<Id>,
    hash: RandomState,
    text: Vec<u8>,
    items: Vec<ItemData>,
    /// The first item of each layer.
    starts: Vec<Item>,
    /// Where the layer has hidden all that lies below it: there is nothing more to hide there, however often it says so.
    hidden: HashSet<Id>,
    /// The directories that the layer has made opaque.
    opaque: HashSet<Id>,
}

impl Default for Layers {
    fn default() -> Layers {
        Layers {
            nodes: vec![TreeNode {
                parent: ROOT,
                name: Text { start: 0, len: 0 },
                first_child: NONE,
                next_sibling: NONE,
                is_linked: true,
                visible: Visible::Implied { layer: 0 },
            }],
            index: HashTable::new(),
            hash: RandomState::new(),
            text: Vec::new(),
            items: Vec::new(),
            starts: Vec::new(),
            hidden: HashSet::new(),
            opaque: HashSet::new(),
        }
    }
}

impl Layers {
    /// Begins a layer above those that are there.
    pub fn begin_layer(&mut self) {
        self.starts.push(self.items.len() as Item);
        // To clear a large set would take as long for each further layer.
        (self.hidden, self.opaque) = (HashSet::new(), HashSet::new());
    }

    /// Adds an entry to the layer that was begun last.
    pub fn add(&mut self, new: &New) -> Result<Item> {
        if self.items.len() >= NAMES_MAX {
            return Err(Error::failed(format!(
                "the image has more than {NAMES_MAX} entries"
            )));
        }
        if new.kind == Kind::Global {
            return Ok(self.push(ROOT, What::Global, new));
        }
        let names = names(new.path)?;
        let Some((name, directories)) = names.split_last() else {
            return match new.kind {
                Kind::Directory => self.put(ROOT, What::Directory, new, false),
                _ => Err(refused(new.path, "this is the root, and no directory")),
            };
        };
        let (directory, mut is_moved) = self.directory(directories, new.path)?;
        if name.starts_with(WHITEOUT) {
            return self.add_whiteout(directory, name, new);
        }
        self.imply(directory, new.path)?;
        let mut named_item = NONE;
        let what = match new.kind {
            Kind::File => What::File,
            Kind::HardLink => {
                let (file, named, through) = self.link_target(new)?;
                is_moved |= through;
                named_item = named;
                What::HardLink(file)
            }
            Kind::Symlink => What::Symlink,
            Kind::Directory => What::Directory,
            _ => What::Special,
        };
        let node = self.make_node(directory, name)?;
        let item = self.put(node, what, new, is_moved)?;
        self.items[item as usize].named = named_item;
        Ok(item)
    }

    fn add_whiteout(&mut self, directory: Id, name: &[u8], new: &New) -> Result<Item> {
        if self.is_in_hidden(directory) || name.starts_with(RESERVED) && name != OPAQUE {
            return Ok(self.push(directory, What::Whiteout, new));
        }
        let layer = self.current();
        if name == OPAQUE {
            let children: Vec<_> = self.children(directory).collect();
            for child in children {
                self.hide(child, layer);
            }
            self.unlink_hidden(directory);
            self.opaque.insert(directory);
        } else if let Some(hidden) = self.child(directory, &name[WHITEOUT.len()..]) {
            self.hide(hidden, layer);
        }
        Ok(self.push(directory, What::Whiteout, new))
    }

    /// Has the layer hidden all that layers below it have in a directory?
    fn is_in_hidden(&self, directory: Id) -> bool {
        let mut at = directory;
        loop {
            match self.opaque.contains(&at) || self.hidden.contains(&at) {
                false if at != ROOT => at = self.nodes[at as usize].parent,
                is_hidden => return is_hidden,
            }
        }
    }

    /// Takes what is not seen off the children of a directory, so that nobody comes by again.
    fn unlink_hidden(&mut self, directory: Id) {
        let mut next = std::mem::replace(&mut self.nodes[directory as usize].first_child, NONE);
        while next != NONE {
            let (child, node) = (next, &mut self.nodes[next as usize]);
            (next, node.is_linked) = (node.next_sibling, false);
            let visible = node.visible;
            self.show(child, visible);
        }
    }

    /// Makes this what a container sees at a place.
    fn show(&mut self, node: Id, visible: Visible) {
        let data = &mut self.nodes[node as usize];
        data.visible = visible;
        if visible == Visible::Nothing || data.is_linked {
            return;
        }
        data.is_linked = true;
        let parent = data.parent as usize;
        let first = std::mem::replace(&mut self.nodes[parent].first_child, node);
        self.nodes[node as usize].next_sibling = first;
    }

    fn push(&mut self, node: Id, what: What, new: &New) -> Item {
        self.items.push(ItemData {
            node,
            what,
            link: Text { start: 0, len: 0 },
            named: NONE,
            below: NONE,
            size: new.size,
            is_dead: false,
            is_moved: false,
        });
        self.items.len() as Item - 1
    }

    /// Makes an entry what is seen at a place.
    fn put(&mut self, node: Id, what: What, new: &New, is_moved: bool) -> Result<Item> {
        let layer = self.current();
        let mut below = NONE;
        match self.nodes[node as usize].visible {
            Visible::Item(there) => {
                let both = (self.items[there as usize].what, what);
                let same_layer = self.layer_of(there) == layer;
                if both == (What::Directory, What::Directory) {
                    below = there;
                } else if same_layer {
                    return Err(refused(new.path, "the layer has it twice"));
                } else {
                    self.hide(node, layer);
                    below = NONE;
                }
            }
            Visible::Implied { layer: by } if what != What::Directory => {
                if by == layer && node != ROOT && self.has_visible_child(node) {
                    return Err(refused(
                        new.path,
                        "the layer has entries in it too, and it is no directory",
                    ));
                }
                self.hide(node, layer);
            }
            _ => (),
        }
        if what != What::Directory && self.has_visible_child(node) {
            return Err(refused(
                new.path,
                "the layer has entries in it too, and it is no directory",
            ));
        }
        let item = self.push(node, what, new);
        let link = match what {
            What::Symlink => self.store(new.link)?,
            _ => Text { start: 0, len: 0 },
        };
        let data = &mut self.items[item as usize];
        (data.link, data.below, data.is_moved) = (link, below, is_moved);
        self.show(node, Visible::Item(item));
        Ok(item)
    }

    fn has_visible_child(&self, node: Id) -> bool {
        self.children(node).next().is_some()
    }

    /// Hides what layers below `layer` have at a place and below it.
    fn hide(&mut self, top: Id, layer: u32) {
        if !self.hidden.insert(top) {
            return;
        }
        let (mut nodes, mut at) = (vec![top], 0);
        while let Some(node) = nodes.get(at).copied() {
            if !self.opaque.contains(&node) {
                let children = self.children(node);
                nodes.extend(children.filter(|child| !self.hidden.contains(child)));
            }
            at += 1;
        }
        // What is in a directory comes before it.
        for node in nodes.into_iter().rev() {
            match self.nodes[node as usize].visible {
                Visible::Nothing => (),
                Visible::Implied { layer: by } if by >= layer => (),
                Visible::Implied { .. } => self.nodes[node as usize].visible = Visible::Nothing,
                Visible::Item(item) => self.hide_items(node, item, layer),
            }
            self.unlink_hidden(node);
            // The layer may have had entries in it before it said what it hides.
            if !self.is_there(node) && self.has_visible_child(node) {
                self.show(node, Visible::Implied { layer });
            }
        }
    }

    /// Hides the entries of a place that layers below `layer` have: the topmost one, and those it stands over.
    fn hide_items(&mut self, node: Id, top: Item, layer: u32) {
        let (mut at, mut lowest_left) = (top, NONE);
        while at != NONE {
            let below = self.items[at as usize].below;
            if self.layer_of(at) < layer {
                self.items[at as usize].is_dead = true;
            } else {
                lowest_left = at;
            }
            at = below;
        }
        match lowest_left {
            NONE => self.nodes[node as usize].visible = Visible::Nothing,
            left => self.items[left as usize].below = NONE,
        }
    }

    /// Finds the directory of these names, and whether symlinks led to it. It need not be there.
    fn directory(&mut self, names: &[&[u8]], path: &[u8]) -> Result<(Id, bool)> {
        let mut todo: Vec<Vec<u8>> = names.iter().rev().map(|name| name.to_vec()).collect();
        let (mut at, mut links) = (ROOT, 0);
        while let Some(name) = todo.pop() {
            if name == b".." {
                at = self.nodes[at as usize].parent;
                continue;
            }
            let next = self.make_node(at, &name)?;
            let Some(link) = self.symlink(next) else {
                at = next;
                continue;
            };
            links += 1;
            if links > LINKS_MAX {
                return Err(refused(
                    path,
                    "too many levels of symbolic links lead to it",
                ));
            }
            if link.starts_with(b"/") {
                at = ROOT;
            }
            let further = link.split(|b| *b == b'/').rev();
            let further = further.filter(|name| !matches!(*name, b"" | b"."));
            todo.extend(further.map(<[u8]>::to_vec));
        }
        Ok((at, links > 0))
    }

    fn symlink(&self, node: Id) -> Option<Vec<u8>> {
        let item = self.visible(node)?;
        let data = &self.items[item as usize];
        (data.what == What::Symlink).then(|| self.read(data.link).to_vec())
    }

    /// Makes sure that a place is a directory, because the layer has an entry in it.
    fn imply(&mut self, directory: Id, path: &[u8]) -> Result<()> {
        let layer = self.current();
        let mut at = directory;
        loop {
            match self.nodes[at as usize].visible {
                Visible::Implied { .. } => return Ok(()),
                Visible::Item(item) if self.items[item as usize].what == What::Directory => {
                    return Ok(());
                }
                Visible::Item(item) if self.layer_of(item) == layer => {
                    return Err(refused(
                        path,
                        "the layer has something else in the place of its directory",
                    ));
                }
                Visible::Item(_) => self.hide(at, layer),
                Visible::Nothing => (),
            }
            self.show(at, Visible::Implied { layer });
            at = self.nodes[at as usize].parent;
        }
    }

    /// The file that a hard link is another name of, the entry that it names, and whether symlinks lead there.
    fn link_target(&mut self, new: &New) -> Result<(Item, Item, bool)> {
        let said = |why: &str| {
            let target = encode_name(new.link).into_owned();
            refused(new.path, &format!("it is a hard link to {target}, {why}"))
        };
        // Some programs write them from the root.
        let target = new.link.strip_prefix(b"/").unwrap_or(new.link);
        let names = names(target).map_err(|_| said("which leads out of the image"))?;
        let (name, directories) = names.split_last().ok_or_else(|| said("the root"))?;
        let (directory, through) = self.directory(directories, new.path)?;
        let node = self.child(directory, name);
        let item = node.and_then(|node| self.visible(node));
        let item = item.ok_or_else(|| said("which is not there"))?;
        match self.items[item as usize].what {
            What::HardLink(file) => Ok((file, item, through)),
            What::Directory => Err(said("a directory")),
            _ => Ok((item, item, through)),
        }
    }

    fn current(&self) -> u32 {
        self.starts.len() as u32 - 1
    }

    fn store(&mut self, text: &[u8]) -> Result<Text> {
        let start = self.text.len();
        if start + text.len() > TEXT_MAX || text.len() > usize::from(u16::MAX) {
            return Err(Error::failed("the names in the image are too long"));
        }
        self.text.extend(text);
        Ok(Text {
            start: start as u32,
            len: text.len() as u16,
        })
    }

    fn read(&self, text: Text) -> &[u8] {
        &self.text[text.start as usize..][..text.len.into()]
    }

    fn child(&self, parent: Id, name: &[u8]) -> Option<Id> {
        let is_it = |id: &Id| {
            let node = &self.nodes[*id as usize];
            node.parent == parent && self.read(node.name) == name
        };
        self.index
            .find(self.hash.hash_one((parent, name)), is_it)
            .copied()
    }

    fn make_node(&mut self, parent: Id, name: &[u8]) -> Result<Id> {
        if let Some(id) = self.child(parent, name) {
            return Ok(id);
        }
        if self.nodes.len() >= NAMES_MAX {
            return Err(Error::failed(format!(
                "the image has more than {NAMES_MAX} names"
            )));
        }
        let name = self.store(name)?;
        let id = self.nodes.len() as Id;
        self.nodes.push(TreeNode {
            parent,
            name,
            first_child: NONE,
            next_sibling: NONE,
            is_linked: false,
            visible: Visible::Nothing,
        });
        let (nodes, text, secret) = (&self.nodes, &self.text, &self.hash);
        let hash = |id: &Id| {
            let node = &nodes[*id as usize];
            let name = &text[node.name.start as usize..][..node.name.len.into()];
            secret.hash_one((node.parent, name))
        };
        self.index.insert_unique(hash(&id), id, hash);
        Ok(id)
    }
}

/// What is known once all layers are there.
impl Layers {
    pub fn layers(&self) -> usize {
        self.starts.len()
    }

    /// The items of a layer, in the order of its archive.
    pub fn items(&self, layer: usize) -> Range<Item> {
        let end = self.starts.get(layer + 1).copied();
        self.starts[layer]..end.unwrap_or(self.items.len() as Item)
    }

    /// The items of all layers.
    pub fn all_items(&self) -> Range<Item> {
        0..self.items.len() as Item
    }

    pub fn layer_of(&self, item: Item) -> u32 {
        self.starts.partition_point(|start| *start <= item) as u32 - 1
    }

    pub fn nodes(&self) -> Range<Id> {
        ROOT..self.nodes.len() as Id
    }

    pub fn parent(&self, node: Id) -> Id {
        self.nodes[node as usize].parent
    }

    pub fn node_of(&self, item: Item) -> Id {
        self.items[item as usize].node
    }

    pub fn what(&self, item: Item) -> What {
        self.items[item as usize].what
    }

    /// The entry that a hard link names, which may be a hard link too.
    pub fn named(&self, link: Item) -> Item {
        self.items[link as usize].named
    }

    pub fn size(&self, item: Item) -> u64 {
        self.items[item as usize].size
    }

    /// Does a container see the entry, or at least what lies in it? Not so for a whiteout.
    pub fn is_live(&self, item: Item) -> bool {
        let data = &self.items[item as usize];
        !data.is_dead && data.what != What::Whiteout
    }

    /// Does a name in the archive, the entry's own or its target's, lead through a symlink?
    pub fn is_moved(&self, item: Item) -> bool {
        self.items[item as usize].is_moved
    }

    /// The entry that is seen at a place, if any layer has one.
    pub fn visible(&self, node: Id) -> Option<Item> {
        match self.nodes[node as usize].visible {
            Visible::Item(item) => Some(item),
            _ => None,
        }
    }

    /// The layer that has entries in a directory of which no layer has an entry.
    pub fn implied_by(&self, node: Id) -> Option<u32> {
        match self.nodes[node as usize].visible {
            Visible::Implied { layer } => Some(layer),
            _ => None,
        }
    }

    pub fn is_there(&self, node: Id) -> bool {
        self.nodes[node as usize].visible != Visible::Nothing
    }

    pub fn is_directory(&self, node: Id) -> bool {
        match self.nodes[node as usize].visible {
            Visible::Nothing => false,
            Visible::Implied { .. } => true,
            Visible::Item(item) => self.items[item as usize].what == What::Directory,
        }
    }

    /// What is seen in a directory.
    pub fn children(&self, node: Id) -> impl Iterator<Item = Id> {
        let mut next = self.nodes[node as usize].first_child;
        let all = std::iter::from_fn(move || {
            let child = (next != NONE).then_some(next)?;
            next = self.nodes[child as usize].next_sibling;
            Some(child)
        });
        all.filter(|child| self.is_there(*child))
    }

    pub fn name(&self, node: Id) -> &[u8] {
        self.read(self.nodes[node as usize].name)
    }

    /// The absolute path of a place.
    pub fn path(&self, node: Id) -> Vec<u8> {
        let (mut names, mut at) = (Vec::new(), node);
        while at != ROOT {
            names.push(self.name(at));
            at = self.parent(at);
        }
        let mut path = Vec::new();
        for name in names.iter().rev() {
            path.push(b'/');
            path.extend(*name);
        }
        if path.is_empty() {
            path.push(b'/');
        }
        path
    }

    /// The place of an absolute path, of whose directories none is a symlink, if something is seen there.
    pub fn find(&self, path: &[u8]) -> Option<Id> {
        let mut names = path.split(|b| *b == b'/').filter(|name| !name.is_empty());
        let node = names.try_fold(ROOT, |at, name| self.child(at, name))?;
        self.is_there(node).then_some(node)
    }
}

impl View for Layers {
    fn look(&mut self, path: &[u8]) -> Result<Node> {
        let Some(node) = self.find(path) else {
            return Ok(Node::Missing);
        };
        Ok(match self.symlink(node) {
            Some(target) => Node::Link(target),
            None if self.is_directory(node) => Node::Directory,
            None => Node::Other,
        })
    }

    fn links(&mut self) -> Result<Vec<Vec<u8>>> {
        let is_link = |node: &Id| {
            let item = self.visible(*node);
            item.is_some_and(|item| self.what(item) == What::Symlink)
        };
        let mut links: Vec<_> = self.nodes().filter(is_link).map(|n| self.path(n)).collect();
        links.sort_unstable();
        Ok(links)
    }
}

/// The names of an entry's path, which leads from the root.
fn names(path: &[u8]) -> Result<Vec<&[u8]>> {
    if path.starts_with(b"/") {
        return Err(refused(path, "its name is absolute"));
    }
    let names: Vec<_> = path
        .split(|b| *b == b'/')
        .filter(|name| !matches!(*name, b"" | b"."))
        .collect();
    match names.contains(&&b".."[..]) {
        true => Err(refused(path, "its name holds \"..\"")),
        false => Ok(names),
    }
}

fn refused(path: &[u8], why: &str) -> Error {
    let path = encode_name(path);
    Error::failed(format!("{}: {why}", path.escape_debug()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Layers of entries: `dir/`, `file`, `link -> target`, `name = first name`.
    fn built(layers: &[&[&str]]) -> Result<Layers> {
        let mut built = Layers::default();
        for layer in layers {
            built.begin_layer();
            for text in *layer {
                let (path, kind, link) = if let Some((path, link)) = text.split_once(" -> ") {
                    (path, Kind::Symlink, link)
                } else if let Some((path, link)) = text.split_once(" = ") {
                    (path, Kind::HardLink, link)
                } else if text.ends_with('/') {
                    (*text, Kind::Directory, "")
                } else {
                    (*text, Kind::File, "")
                };
                built.add(&New {
                    path: path.as_bytes(),
                    kind,
                    link: link.as_bytes(),
                    size: 1,
                })?;
            }
        }
        Ok(built)
    }

    /// What a container sees: each path, with the layer that it comes from.
    fn seen(layers: &[&[&str]]) -> Vec<String> {
        let built = built(layers).unwrap();
        let nodes = built.nodes().filter(|node| built.is_there(*node));
        let mut seen: Vec<_> = nodes
            .map(|node| {
                let path = String::from_utf8(built.path(node)).unwrap();
                match built.visible(node) {
                    Some(item) => format!("{path} {}", built.layer_of(item)),
                    None => path,
                }
            })
            .collect();
        seen.sort();
        seen
    }

    #[test]
    fn upper_layers_stand_over_lower_ones() {
        assert_eq!(
            seen(&[&["./a/", "./a/b", "c"], &["a/", "a/d", "c -> a"]]),
            ["/", "/a 1", "/a/b 0", "/a/d 1", "/c 1"]
        );
        assert_eq!(seen(&[&["a/", "a/b"], &["a"]]), ["/", "/a 1"]);
        assert_eq!(seen(&[&["a"], &["a/b"]]), ["/", "/a", "/a/b 1"]);
    }

    #[test]
    fn whiteouts_hide_what_is_below() {
        let base: &[&str] = &["a/", "a/b/", "a/b/c", "a/d"];
        assert_eq!(seen(&[base, &["a/.wh.b"]]), ["/", "/a 0", "/a/d 0"]);
        assert_eq!(seen(&[base, &[".wh.a"]]), ["/"]);
        assert_eq!(seen(&[base, &[".wh.none", "x/.wh.y"]]).len(), 5);
        // In whichever order, the layer's own entries stay.
        for layer in [
            &["a/", "a/.wh..wh..opq", "a/e"][..],
            &["a/", "a/e", "a/.wh..wh..opq"],
            &[".wh.a", "a/", "a/e"],
            &["a/", "a/e", ".wh.a"],
        ] {
            assert_eq!(seen(&[base, layer]), ["/", "/a 1", "/a/e 1"], "{layer:?}");
        }
        assert_eq!(
            seen(&[base, &["a/b/e", ".wh.a"]]),
            ["/", "/a", "/a/b", "/a/b/e 1"]
        );
        assert_eq!(seen(&[base, &[".wh.a"], &["a/b/"]]), ["/", "/a", "/a/b 2"]);
        assert_eq!(seen(&[base, &["a/.wh..wh.plnk", ".wh..wh.aufs"]]).len(), 5);
    }

    /// Before a layer knew what it has hidden, these took the product of the two numbers: minutes.
    #[test]
    fn whiteouts_that_say_the_same_take_no_time() {
        let names: Vec<_> = (0..100_000).map(|n| format!("a/b/{n}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        for whiteout in ["a/.wh.b", "a/b/.wh..wh..opq"] {
            let whiteouts = vec![whiteout; names.len()];
            // Of the layer's own entries, and of those below.
            let own = [&names[..], &whiteouts, &[".wh.a"]].concat();
            let built = built(&[&names, &whiteouts, &own]).unwrap();
            let seen = built.nodes().filter(|node| built.is_there(*node));
            assert_eq!(seen.count(), names.len() + 3, "{whiteout}");
        }
    }

    #[test]
    fn a_directory_lives_as_long_as_something_of_it_is_seen() {
        let live = |layers: &[&[&str]]| {
            let built = built(layers).unwrap();
            let items = 0..built.items.len() as Item;
            items.map(|item| built.is_live(item)).collect::<Vec<_>>()
        };
        assert_eq!(live(&[&["a/", "a/b"], &["a/"]]), [true, true, true]);
        assert_eq!(
            live(&[&["a/", "a/b"], &["a/", "a/.wh..wh..opq"]]),
            [true, false, true, false]
        );
        assert_eq!(
            live(&[&["a/"], &["a/", ".wh.a"], &["a/"]]),
            [false, true, false, true]
        );
    }

    #[test]
    fn names_that_lead_through_symlinks_are_those_of_what_is_there() {
        let built = built(&[
            &["usr/", "usr/lib/", "lib -> usr/lib", "abs -> /usr"],
            &["lib/x", "abs/y", "lib/"],
        ]);
        // The directory itself takes the link's place.
        let built = built.unwrap();
        let found = |path: &str| built.find(path.as_bytes()).and_then(|n| built.visible(n));
        assert_eq!(
            found("/usr/lib/x").map(|item| built.is_moved(item)),
            Some(true)
        );
        assert_eq!(found("/usr/y").map(|item| built.is_moved(item)), Some(true));
        assert!(built.is_directory(built.find(b"/lib").unwrap()));
    }

    #[test]
    fn hard_links_name_the_first_entry_in_any_layer() {
        let built = built(&[&["a", "b = a", "c = /b"], &["d = c", ".wh.a"]]).unwrap();
        let whats: Vec<_> = (0..4).map(|item| built.what(item)).collect();
        assert_eq!(whats[1..], [What::HardLink(0); 3]);
        assert!(!built.is_live(0) && built.is_live(3));
    }

    #[test]
    fn what_cannot_be_a_layer_is_named() {
        for (layer, words) in [
            (&["/a"][..], "/a: its name is absolute"),
            (&["a/../../b"], "a/../../b: its name holds"),
            (&["a", "a"], "a: the layer has it twice"),
            (&["a/b", "a"], "a: the layer has entries in it too"),
            (&["a", "a/b"], "a/b: the layer has something else"),
            (&["a = b"], "a: it is a hard link to b, which is not there"),
            (&["a = ../b"], "which leads out of the image"),
            (&["a/", "b = a"], "a directory"),
            (&["l -> l", "l/x"], "too many levels"),
            (&["./", "."], "this is the root"),
        ] {
            let said = match built(&[layer]) {
                Err(said) => said.to_string(),
                Ok(_) => panic!("{layer:?}"),
            };
            assert!(said.contains(words), "{layer:?}: {said}");
        }
        assert!(built(&[&["a/", "a/", "./"]]).is_ok());
    }
}
