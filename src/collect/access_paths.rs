// SPDX-License-Identifier: MIT OR Apache-2.0
//! The paths of an access: turns the names in a record into absolute, normalised paths.

use crate::bpf::syscalls;
use crate::bpf::wire::{
    RECORD_BASE_REMOVED, RECORD_CHDIR, RECORD_HAS_BASE, RECORD_HAS_REAL, RECORD_IN_BASE,
    RECORD_IN_REAL, RECORD_NO_ROOT, RECORD_OWN_VIEW, RECORD_REAL_ONLY, Record,
};
use crate::path::{is_below, path_from_leaf, push};

/// The paths of one access. The value is kept so that the next record can reuse its buffers.
#[derive(Debug, Default)]
pub struct AccessPaths {
    has_requested: bool,
    has_real: bool,
    paths: Paths,
    /// The directories whose names are followed by `..` in the requested path.
    crossed: Vec<Vec<u8>>,
}

#[derive(Debug, Default)]
struct Paths {
    requested: Vec<u8>,
    real: Vec<u8>,
    mount: Vec<u8>,
    base: Vec<u8>,
    root: Vec<u8>,
}

/// Finds the directory to which a path leads in snoop's own view of the file system. `None` if that is unknown.
pub type Resolve<'a> = &'a dyn Fn(&[u8]) -> Option<Vec<u8>>;

/// Returns whether the text of a relative path leads out of the directory that the path is relative to.
fn climbs(path: &[u8]) -> bool {
    path.split(|b| *b == b'/').any(|name| name == b"..")
}

/// Returns the names behind the last `..` of a path, each with a slash before it.
fn behind_dots(path: &[u8]) -> Vec<u8> {
    let names: Vec<_> = path.split(|b| *b == b'/').collect();
    let dots = names.iter().rposition(|name| *name == b"..");
    let behind = &names[dots.map_or(0, |at| at + 1)..];
    let mut path = Vec::new();
    for name in behind.iter().filter(|name| !matches!(**name, b"" | b".")) {
        push(&mut path, name);
    }
    path
}

/// Appends the last name of a requested path to the real path of the directory that holds it. Returns false if that is not
/// the name of a file.
fn push_last(directory: &mut Vec<u8>, requested: &[u8]) -> bool {
    let mut names = requested.rsplit(|b| *b == b'/');
    match names.find(|name| !name.is_empty()) {
        None | Some(b"." | b"..") => false,
        Some(name) => {
            if directory == b"/" {
                directory.clear();
            }
            push(directory, name);
            true
        }
    }
}

impl AccessPaths {
    /// Returns the paths of one record, without resolving any name that is followed by `..`.
    pub fn of(record: &Record) -> AccessPaths {
        let mut paths = AccessPaths::default();
        paths.take(record, &|_| None);
        paths
    }

    /// Returns all paths that the access used.
    pub fn paths(&self) -> impl Iterator<Item = &[u8]> {
        self.crossed().chain(self.requested()).chain(self.real())
    }

    /// Returns the directories whose names are followed by `..` in the requested path.
    pub fn crossed(&self) -> impl Iterator<Item = &[u8]> {
        self.crossed.iter().map(Vec::as_slice)
    }

    /// Returns the root directory of the process.
    pub fn root(&self) -> &[u8] {
        &self.paths.root
    }

    /// Returns the path that the program asked for, made absolute. `None` if the program asked for no path, or the path
    /// cannot be made absolute.
    pub fn requested(&self) -> Option<&[u8]> {
        self.has_requested.then_some(&self.paths.requested[..])
    }

    /// Returns the real path of the file that the program reached.
    pub fn real(&self) -> Option<&[u8]> {
        self.has_real.then_some(&self.paths.real[..])
    }

    /// Returns the mount point of the file system that holds the real path.
    pub fn mount(&self) -> Option<&[u8]> {
        self.has_real.then_some(&self.paths.mount[..])
    }

    /// Takes the names of another record. Returns whether a path is unresolved: it is relative to an unknown directory,
    /// or the path of the file is unknown.
    pub fn take(&mut self, record: &Record, resolve: Resolve) -> bool {
        self.crossed.clear();
        (self.has_requested, self.has_real) = (false, record.has(RECORD_HAS_REAL));
        path_from_leaf(record.root, &mut self.paths.root);
        if self.has_real {
            path_from_leaf(record.real, &mut self.paths.real);
            path_from_leaf(record.mount, &mut self.paths.mount);
            if record.has(RECORD_IN_REAL) {
                self.has_real = push_last(&mut self.paths.real, record.requested);
            }
        }
        if record.has(RECORD_REAL_ONLY) {
            // The kernel opens a file by a handle, and does not always know its name.
            return !self.has_real && syscalls::takes_handle(record.row);
        }
        // A removed directory contains no file that an image could contain, but a path may lead out of it.
        let is_removed = record.has(RECORD_BASE_REMOVED) && !record.has(RECORD_HAS_BASE);
        if is_removed && !climbs(record.requested) {
            return false;
        }
        let is_resolved = self.join_requested(record, resolve);
        // If the real path ends with the names behind the last `..`, there was no symlink among them: it is the path. The text
        // may name something that nobody used.
        let is_real = !self.crossed.is_empty() && self.has_real;
        self.has_requested =
            is_resolved && !(is_real && self.paths.real.ends_with(&behind_dots(record.requested)));
        !is_resolved
    }

    /// Makes the requested path absolute. Returns false if the directory that it is relative to is unknown.
    fn join_requested(&mut self, record: &Record, resolve: Resolve) -> bool {
        let Paths {
            requested,
            real,
            base,
            root,
            ..
        } = &mut self.paths;
        let crossed = &mut self.crossed;
        let has_base = record.has(RECORD_HAS_BASE);
        path_from_leaf(record.base, base);
        let resolve: Resolve = match record.has(RECORD_OWN_VIEW) {
            true => resolve,
            false => &|_| None,
        };
        let mut join = |root: &[u8], base: &[u8]| {
            join(root, base, record.requested, requested, crossed, resolve)
        };
        if record.has(RECORD_IN_BASE) {
            // A base that is not in the record can only be the root with which the program started.
            let base = if has_base { &base[..] } else { b"/" };
            join(base, base);
        } else if record.requested.starts_with(b"/") {
            if record.has(RECORD_NO_ROOT) {
                return false;
            }
            join(root, root);
        } else if has_base {
            // A directory outside the root was opened before chroot(2). Nothing limits ".." there.
            let root = if is_below(base, root) {
                &root[..]
            } else {
                b"/"
            };
            join(root, base);
        } else {
            // A process changed its directory by a relative path from an unknown directory. If the real path ends with
            // the requested names, no symlink was on the way, and the real path is the path.
            join(b"/", b"/");
            crossed.clear();
            let is_it = requested == b"/" || real.ends_with(requested);
            if !(record.has(RECORD_CHDIR) && self.has_real && is_it) {
                return false;
            }
            requested.clone_from(real);
        }
        true
    }
}

/// Writes to `path` where `requested` leads from the directory `base`. `..` does not lead above `root`. `base` is below
/// `root`, and both are normalised. The result has no `.`, `..`, empty names or trailing slash.
///
/// If `..` follows a name, the name may be a symlink. The kernel then takes the parent of its target, not the directory
/// that holds the symlink. `resolve` finds the target. If it cannot, the name is assumed to be a directory. Each such
/// name is added to `crossed`, because the path leads nowhere without it.
fn join(
    root: &[u8],
    base: &[u8],
    requested: &[u8],
    path: &mut Vec<u8>,
    crossed: &mut Vec<Vec<u8>>,
    resolve: Resolve,
) {
    let floor = root.strip_suffix(b"/").unwrap_or(root).len();
    path.clear();
    path.extend(base.strip_suffix(b"/").unwrap_or(base));
    let mut ends_in_requested_name = false;
    for name in requested.split(|b| *b == b'/') {
        match name {
            b"" | b"." => continue,
            b".." => {
                if ends_in_requested_name {
                    crossed.push(path.clone());
                    if let Some(real) = resolve(path) {
                        path.clear();
                        path.extend(real.strip_suffix(b"/").unwrap_or(&real));
                    }
                }
                if path.len() > floor {
                    path.truncate(path.iter().rposition(|b| *b == b'/').unwrap_or(0));
                }
                ends_in_requested_name = false;
            }
            name => {
                push(path, name);
                ends_in_requested_name = true;
            }
        }
    }
    if path.is_empty() {
        path.push(b'/');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record<'a>(
        flags: u16,
        requested: &'a str,
        base: &'a str,
        root: &'a str,
        real: &'a str,
    ) -> Record<'a> {
        Record {
            container: 1,
            key: 2,
            result: 3,
            time: 0,
            pid: 4,
            row: 5,
            kinds: 0,
            flags,
            requested: requested.as_bytes(),
            base: base.as_bytes(),
            root: root.as_bytes(),
            real: real.as_bytes(),
            mount: b"",
            fs: b"",
            cgroup: b"",
        }
    }

    fn requested(
        flags: u16,
        requested: &str,
        base: &str,
        root: &str,
        real: &str,
    ) -> Option<String> {
        let mut paths = AccessPaths::default();
        let is_unresolved = paths.take(&record(flags, requested, base, root, real), &|_| None);
        assert_eq!(is_unresolved, paths.requested().is_none());
        paths
            .requested()
            .map(|path| String::from_utf8(path.to_vec()).unwrap())
    }

    #[test]
    fn absolute_paths_are_normalised() {
        for (given, path) in [
            ("/", "/"),
            ("/a", "/a"),
            ("//a///b/", "/a/b"),
            ("/a/./b/.", "/a/b"),
            ("/a/../b", "/b"),
            ("/../../a", "/a"),
            ("/..a/b..", "/..a/b.."),
        ] {
            assert_eq!(requested(0, given, "", "", "").unwrap(), path);
        }
    }

    #[test]
    fn relative_paths_start_at_the_base() {
        let base = RECORD_HAS_BASE;
        assert_eq!(requested(base, "x", "b/a/", "", "").unwrap(), "/a/b/x");
        assert_eq!(requested(base, "../x/.", "b/a/", "", "").unwrap(), "/a/x");
        assert_eq!(requested(base, "../../../x", "b/a/", "", "").unwrap(), "/x");
        assert_eq!(requested(base, ".", "", "", "").unwrap(), "/");
        assert_eq!(requested(0, "x", "", "", ""), None);
    }

    /// In this test /a/link leads to /b/c.
    #[test]
    fn dot_dot_starts_from_the_target_of_the_name_before_it() {
        let resolve = |path: &[u8]| match path {
            b"/a/link" => Some(b"/b/c".to_vec()),
            b"/gone" => None,
            path => Some(path.to_vec()),
        };
        let names = |flags: u16, requested: &str| {
            let mut paths = AccessPaths::default();
            paths.take(&record(flags, requested, "", "", ""), &resolve);
            let paths = paths
                .paths()
                .map(|path| String::from_utf8_lossy(path).into_owned());
            paths.collect::<Vec<_>>()
        };
        let view = RECORD_OWN_VIEW;
        assert_eq!(names(view, "/a/link/../x"), ["/a/link", "/b/x"]);
        assert_eq!(names(view, "/a/link/../../x/y"), ["/a/link", "/x/y"]);
        assert_eq!(
            names(view, "/a/d/../link/.././x"),
            ["/a/d", "/a/link", "/b/x"]
        );
        assert_eq!(names(view, "/gone/../x"), ["/gone", "/x"]);
        assert_eq!(names(view, "/../x/.."), ["/x", "/"]);
        // Files in another mount namespace are not visible to snoop.
        assert_eq!(names(0, "/a/link/../x"), ["/a/link", "/a/x"]);
        // But the real path is known of what was found.
        let found = |requested: &str, real: &str| {
            let paths = AccessPaths::of(&record(RECORD_HAS_REAL, requested, "", "", real));
            let paths = paths
                .paths()
                .map(|path| String::from_utf8_lossy(path).into_owned());
            paths.collect::<Vec<_>>()
        };
        assert_eq!(found("/a/link/../x/./y", "y/x/b/"), ["/a/link", "/b/x/y"]);
        assert_eq!(found("/a/link/..", "b/"), ["/a/link", "/b"]);
        assert_eq!(found("/a/d/../link", "c/b/"), ["/a/d", "/a/link", "/b/c"]);
    }

    #[test]
    fn a_chroot_is_part_of_the_path_and_limits_dot_dot() {
        assert_eq!(requested(0, "/x", "", "jail/", "").unwrap(), "/jail/x");
        assert_eq!(requested(0, "/../x", "", "jail/", "").unwrap(), "/jail/x");
        let base = RECORD_HAS_BASE;
        assert_eq!(
            requested(base, "../../x", "d/jail/", "jail/", "").unwrap(),
            "/jail/x"
        );
        assert_eq!(
            requested(base, "../x", "jailbreak/", "jail/", "").unwrap(),
            "/x"
        );
        let inside = RECORD_HAS_BASE | RECORD_IN_BASE;
        assert_eq!(requested(inside, "/../x", "d/", "", "").unwrap(), "/d/x");
        assert_eq!(
            requested(RECORD_IN_BASE, "/jail", "", "jail/", "").unwrap(),
            "/jail"
        );
    }

    #[test]
    fn a_chdir_from_an_unknown_directory_is_resolved_if_it_follows_no_symlink() {
        let flags = RECORD_CHDIR | RECORD_HAS_REAL;
        assert_eq!(requested(flags, "b/c", "", "", "c/b/a/").unwrap(), "/a/b/c");
        assert_eq!(
            requested(flags, "./c/", "", "", "c/b/a/").unwrap(),
            "/a/b/c"
        );
        assert_eq!(requested(flags, "..", "", "", "c/b/a/").unwrap(), "/a/b/c");
        assert_eq!(requested(flags, "link", "", "", "c/b/a/"), None);
    }

    #[test]
    fn nothing_is_below_a_directory_that_was_removed() {
        let mut paths = AccessPaths::default();
        let mut is_unresolved = |requested: &str| {
            paths.take(&record(RECORD_BASE_REMOVED, requested, "", "", ""), &|_| {
                None
            })
        };
        assert!(!is_unresolved(".") && !is_unresolved("x/y"));
        // But a file above the directory may exist.
        assert!(is_unresolved("../x"));
        assert_eq!(paths.paths().count(), 0);
    }

    /// The real part is the directory in which a name was made, moved or removed.
    #[test]
    fn a_name_is_appended_to_the_directory_that_holds_it() {
        let flags = RECORD_HAS_REAL | RECORD_IN_REAL;
        let real = |requested: &str, directory: &str| {
            let paths = AccessPaths::of(&record(flags, requested, "", "", directory));
            paths
                .real()
                .map(|real| String::from_utf8(real.to_vec()).unwrap())
        };
        assert_eq!(real("/link/new//", "b/a/").unwrap(), "/a/b/new");
        assert_eq!(real("/new", "").unwrap(), "/new");
        for no_name in ["/", "/link/.", "/link/.."] {
            assert_eq!(real(no_name, "b/a/"), None);
        }
    }

    #[test]
    fn without_a_known_root_no_absolute_name_is_known() {
        let mut paths = AccessPaths::default();
        let flags = RECORD_NO_ROOT | RECORD_HAS_REAL;
        assert!(paths.take(&record(flags, "/etc/x", "", "", "y/b/"), &|_| None));
        assert_eq!(
            (paths.requested(), paths.real()),
            (None, Some(&b"/b/y"[..]))
        );
    }

    #[test]
    fn only_the_real_path_counts_if_the_name_is_excluded() {
        let mut paths = AccessPaths::default();
        let flags = RECORD_REAL_ONLY | RECORD_HAS_REAL;
        assert!(!paths.take(&record(flags, "", "", "", "sh/bin/"), &|_| None));
        assert_eq!(paths.requested(), None);
        assert_eq!(paths.real(), Some(&b"/bin/sh"[..]));
    }

    /// Names from the leaf up, as in records.
    fn from_leaf() -> impl Strategy<Value = String> {
        let name = prop::sample::select(vec!["a/", "b/", "jail/"]);
        prop::collection::vec(name, 0..4).prop_map(|names| names.concat())
    }

    fn any_requested() -> impl Strategy<Value = String> {
        let part = prop::sample::select(vec!["/", ".", "..", "a", "b", "jail", "..a"]);
        prop::collection::vec(part, 1..9).prop_map(|parts| parts.concat())
    }

    fn is_normal(path: &[u8]) -> bool {
        let mut names = path[1..].split(|b| *b == b'/');
        let is_name = |name: &[u8]| !matches!(name, b"" | b"." | b"..");
        path[0] == b'/' && (path == b"/" || names.all(is_name))
    }

    proptest! {
        #[test]
        fn every_path_is_absolute_and_normalised(
            requested in any_requested(),
            (base, root, real) in (from_leaf(), from_leaf(), from_leaf()),
            flags in 0u16..1 << 11,
        ) {
            let paths = AccessPaths::of(&record(flags, &requested, &base, &root, &real));
            for path in paths.paths().chain([paths.root()]).chain(paths.mount()) {
                prop_assert!(is_normal(path), "{}", String::from_utf8_lossy(path));
            }
        }

        #[test]
        fn no_name_leads_out_of_the_root(requested in any_requested(), below in from_leaf(), root in from_leaf()) {
            let base = format!("{below}{root}");
            let paths = AccessPaths::of(&record(RECORD_HAS_BASE, &requested, &base, &root, ""));
            prop_assert!(is_below(paths.requested().unwrap(), paths.root()));
        }

        /// A name that is already normalised is only appended to its directory.
        #[test]
        fn a_plain_name_is_joined(name in "[a-z]{1,3}(/[a-z]{1,3}){0,2}", base in from_leaf()) {
            let paths = AccessPaths::of(&record(RECORD_HAS_BASE, &name, &base, "", ""));
            let mut expected = Vec::new();
            path_from_leaf(base.as_bytes(), &mut expected);
            if expected != b"/" {
                expected.push(b'/');
            }
            expected.extend(name.as_bytes());
            prop_assert_eq!(paths.requested().unwrap(), expected);
        }
    }
}
