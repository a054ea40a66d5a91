// SPDX-License-Identifier: MIT OR Apache-2.0
//! An unpacked image: what is in its directory, and which paths are needed to reach a file. Absolute symlinks start at
//! that directory, and `..` never leads above it, so nothing outside is ever looked at.

pub mod closure;
pub mod packages;
pub mod runtime;
pub mod unused;

use crate::error::{Error, Result};
use crate::report::reader::Paths;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The number of symlinks that the kernel follows: path_resolution(7).
const LINKS_MAX: usize = 40;

/// What a path names if symlinks are not followed.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    Missing,
    Directory,
    /// A symlink and its target.
    Link(Vec<u8>),
    Other,
}

pub struct Image {
    root: PathBuf,
    known: HashMap<Vec<u8>, Node>,
}

/// The result of following a path.
#[derive(Debug, PartialEq)]
pub enum End {
    Exists,
    Missing,
    Loop,
}

/// The steps along a path.
struct Walk {
    /// The paths on the way that exist, in order.
    visited: Vec<Vec<u8>>,
    /// How many entries of `visited` lead to the path itself. The rest lead on to the target of its symlink.
    itself: Option<usize>,
    end: End,
}

/// A path of the image, and the metadata of the file there.
pub struct Entry {
    pub path: Vec<u8>,
    pub metadata: Metadata,
}

impl Image {
    pub fn open(root: &Path) -> Result<Image> {
        let wrong = |why: &str| Error::usage(format!("-root={}: {why}", root.display()));
        match fs::metadata(root) {
            Ok(found) if found.is_dir() => Ok(Image {
                root: root.into(),
                known: HashMap::default(),
            }),
            Ok(_) => Err(wrong(
                "this is not a directory; give the directory into which the image was unpacked",
            )),
            Err(e) => Err(wrong(&e.to_string())),
        }
    }

    /// Returns the path on this machine of a path in the image. The path must have no `..`, and no symlink except at
    /// its end.
    pub fn outside(&self, path: &[u8]) -> PathBuf {
        let inside = path.strip_prefix(b"/").unwrap_or(path);
        self.root.join(OsStr::from_bytes(inside))
    }

    /// Everything in the image except its root, sorted by path.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let (mut entries, mut directories) = (Vec::new(), vec![Vec::new()]);
        while let Some(directory) = directories.pop() {
            let outside = self.outside(&directory);
            let inner = fs::read_dir(&outside).map_err(|e| unreadable(&outside, e))?;
            for entry in inner {
                let entry = entry.map_err(|e| unreadable(&outside, e))?;
                let metadata = entry.metadata().map_err(|e| unreadable(&entry.path(), e))?;
                let path = [&directory, &b"/"[..], entry.file_name().as_bytes()].concat();
                if metadata.is_dir() {
                    directories.push(path.clone());
                }
                entries.push(Entry { path, metadata });
            }
        }
        entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    }
}

/// The files of an image, wherever it is stored. Says what each path names, and which paths are needed to reach a file.
pub trait View {
    /// Returns what is at a path. None of its directories may be a symlink.
    fn look(&mut self, path: &[u8]) -> Result<Node>;

    /// Returns the paths of all symlinks, sorted.
    fn links(&mut self) -> Result<Vec<Vec<u8>>>;

    /// Adds every path that `path` needs: its directories, itself, and the targets of symlinks on the way. If the path
    /// does not exist, only its directories are needed, because it was created in them at run time.
    fn follow(&mut self, path: &[u8], needed: &mut Paths) -> Result<End>
    where
        Self: Sized,
    {
        let walk = walk(self, path)?;
        // Most of them are in the set already.
        needed.extend(walk.visited);
        Ok(walk.end)
    }

    /// Adds every path that `path` needs, if it leads to something that is there. Returns what it leads to.
    fn follow_if_there(&mut self, path: &[u8], needed: &mut Paths) -> Result<Option<Vec<u8>>>
    where
        Self: Sized,
    {
        let walk = walk(self, path)?;
        let target = match walk.end {
            End::Exists => walk.visited.last().cloned(),
            _ => None,
        };
        if target.is_some() {
            needed.extend(walk.visited);
        }
        Ok(target)
    }

    /// Returns the path under which [`Image::entries`] lists the file that `path` names. It has no symlink on the way.
    fn locate(&mut self, path: &[u8]) -> Result<Option<Vec<u8>>>
    where
        Self: Sized,
    {
        let mut walk = walk(self, path)?;
        Ok(walk.itself.map(|n| walk.visited.swap_remove(n - 1)))
    }

    /// Returns the path to which a path finally leads, if that exists.
    fn target(&mut self, path: &[u8]) -> Result<Option<Vec<u8>>>
    where
        Self: Sized,
    {
        let mut walk = walk(self, path)?;
        Ok(walk.visited.pop().filter(|_| walk.end == End::Exists))
    }
}

fn walk(view: &mut dyn View, path: &[u8]) -> Result<Walk> {
    let names = |path: &[u8]| {
        let names = path.split(|b| *b == b'/').rev();
        names.map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    let (mut at, mut links, mut todo) = (Vec::new(), 0, names(path));
    let mut walk = Walk {
        visited: Vec::new(),
        itself: None,
        end: End::Exists,
    };
    while let Some(name) = todo.pop() {
        let parent = at.len();
        match &name[..] {
            b"" | b"." => continue,
            b".." => {
                at.truncate(at.iter().rposition(|b| *b == b'/').unwrap_or(0));
                continue;
            }
            name => {
                at.push(b'/');
                at.extend(name);
            }
        }
        let node = view.look(&at)?;
        if node == Node::Missing {
            walk.end = End::Missing;
            break;
        }
        walk.visited.push(at.clone());
        let is_last = todo.iter().all(Vec::is_empty);
        if is_last && walk.itself.is_none() {
            walk.itself = Some(walk.visited.len());
        }
        match node {
            Node::Link(_) if links == LINKS_MAX => {
                walk.end = End::Loop;
                break;
            }
            Node::Link(target) => {
                links += 1;
                at.truncate(if target.starts_with(b"/") { 0 } else { parent });
                todo.extend(names(&target));
            }
            Node::Other if !is_last => {
                walk.end = End::Missing;
                break;
            }
            _ => (),
        }
    }
    Ok(walk)
}

impl View for Image {
    fn look(&mut self, path: &[u8]) -> Result<Node> {
        if let Some(node) = self.known.get(path) {
            return Ok(node.clone());
        }
        let outside = self.outside(path);
        let node = match fs::symlink_metadata(&outside) {
            Ok(found) if found.is_symlink() => fs::read_link(&outside)
                .map(|target| Node::Link(target.into_os_string().into_vec()))
                .map_err(|e| unreadable(&outside, e))?,
            Ok(found) if found.is_dir() => Node::Directory,
            Ok(_) => Node::Other,
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                Node::Missing
            }
            Err(e) if e.raw_os_error() == Some(libc::ENAMETOOLONG) => Node::Missing,
            Err(e) => return Err(unreadable(&outside, e)),
        };
        self.known.insert(path.into(), node.clone());
        Ok(node)
    }

    fn links(&mut self) -> Result<Vec<Vec<u8>>> {
        let entries = self.entries()?.into_iter();
        let links = entries.filter(|entry| entry.metadata.is_symlink());
        Ok(links.map(|entry| entry.path).collect())
    }
}

fn unreadable(path: &Path, e: std::io::Error) -> Error {
    Error::failed(format!("cannot read {}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// Follows a path in a small image. Returns the paths that it needs, sorted, and the result.
    fn followed(path: &str) -> (Vec<String>, End) {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir_all(root.join("usr/lib/deep")).unwrap();
        fs::write(root.join("usr/lib/deep/file"), "").unwrap();
        for (target, link) in [
            ("usr/lib", "lib"),
            ("/usr/lib/deep", "usr/abs"),
            ("../../../../../lib/deep/./file", "usr/out"),
            ("round", "usr/around"),
            ("around", "usr/round"),
            ("nowhere", "usr/dangling"),
            ("..", "usr/lib/deep/up"),
        ] {
            symlink(target, root.join(link)).unwrap();
        }
        let mut needed = Paths::default();
        let end = Image::open(root)
            .unwrap()
            .follow(path.as_bytes(), &mut needed);
        let mut needed: Vec<_> = needed
            .into_iter()
            .map(|path| String::from_utf8(path).unwrap())
            .collect();
        needed.sort();
        (needed, end.unwrap())
    }

    #[test]
    fn every_hop_and_parent_is_needed() {
        for (path, needed) in [
            ("/", &[][..]),
            ("/usr/lib", &["/usr", "/usr/lib"]),
            (
                "/lib/deep/file",
                &[
                    "/lib",
                    "/usr",
                    "/usr/lib",
                    "/usr/lib/deep",
                    "/usr/lib/deep/file",
                ],
            ),
            (
                "/usr/abs/file",
                &[
                    "/usr",
                    "/usr/abs",
                    "/usr/lib",
                    "/usr/lib/deep",
                    "/usr/lib/deep/file",
                ],
            ),
            (
                "/usr/out",
                &[
                    "/lib",
                    "/usr",
                    "/usr/lib",
                    "/usr/lib/deep",
                    "/usr/lib/deep/file",
                    "/usr/out",
                ],
            ),
            (
                "/lib/deep/up/deep",
                &[
                    "/lib",
                    "/usr",
                    "/usr/lib",
                    "/usr/lib/deep",
                    "/usr/lib/deep/up",
                ],
            ),
            ("/usr/dangling", &["/usr", "/usr/dangling"]),
        ] {
            let (found, end) = followed(path);
            assert_eq!(found, needed, "{path}");
            let expected = if path == "/usr/dangling" {
                End::Missing
            } else {
                End::Exists
            };
            assert_eq!(end, expected, "{path}");
        }
    }

    #[test]
    fn a_missing_file_needs_the_directory_it_was_created_in() {
        for (path, needed) in [
            ("/none", &[][..]),
            ("/usr/none/x", &["/usr"]),
            ("/lib/x/y", &["/lib", "/usr", "/usr/lib"]),
            ("/usr/dangling/x", &["/usr", "/usr/dangling"]),
        ] {
            let (found, end) = followed(path);
            assert_eq!(
                (found, end),
                (needed.iter().map(|s| s.to_string()).collect(), End::Missing),
                "{path}"
            );
        }
    }

    #[test]
    fn loops_are_reported_and_kept() {
        let (found, end) = followed("/usr/round");
        assert_eq!(end, End::Loop);
        assert_eq!(found, ["/usr", "/usr/around", "/usr/round"]);
    }
}
