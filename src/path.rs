//! Paths as bytes: what the programs send, to absolute normalised paths; exclusions. No I/O, and no
//! assumption about UTF-8.

use crate::wire::{
    Event, RECORD_HAS_BASE, RECORD_HAS_REAL, RECORD_IN_BASE, RECORD_MOVED, RECORD_REAL_ONLY,
};

/// The files an event names.
#[derive(Debug, Default, PartialEq)]
pub struct Named {
    /// The path the program gave, made absolute; `None` if it has none or cannot be made absolute.
    pub asked: Option<Vec<u8>>,
    /// The file it led to.
    pub real: Option<Vec<u8>>,
    /// Where the file system that holds it is mounted.
    pub mount: Option<Vec<u8>>,
    /// There is a path, and it is not known which directory it is relative to.
    pub unresolved: bool,
}

impl Named {
    pub fn of(event: &Event) -> Named {
        let real = event.has(RECORD_HAS_REAL).then(|| upward(event.real));
        let mount = real.is_some().then(|| upward(event.mount));
        if event.has(RECORD_REAL_ONLY) {
            return Named {
                asked: None,
                real,
                mount,
                unresolved: false,
            };
        }
        let absolute = event.asked.first() == Some(&b'/');
        let base = event.has(RECORD_HAS_BASE).then(|| upward(event.base));
        let asked = if event.has(RECORD_IN_BASE) {
            // Where the base is not known it can only be a root the program started with.
            let base = base.unwrap_or_default();
            Some(join(&base, &base, event.asked))
        } else if absolute {
            let root = upward(event.root);
            Some(join(&root, &root, event.asked))
        } else if let Some(base) = base {
            let root = upward(event.root);
            // A directory outside the root was opened before chroot; nothing holds ".." there.
            let root = if is_below(&base, &root) {
                root
            } else {
                Vec::new()
            };
            Some(join(&root, &base, event.asked))
        } else if event.has(RECORD_MOVED) {
            real.as_deref().and_then(|real| moved(real, event.asked))
        } else {
            None
        };
        Named {
            unresolved: asked.is_none(),
            asked,
            real,
            mount,
        }
    }
}

/// Names from the leaf up, each followed by a slash, to a path: `b/a/` is `/a/b`, nothing is `/`.
pub fn upward(part: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(part.len() + 1);
    for name in part.split(|b| *b == b'/').rev().filter(|n| !n.is_empty()) {
        path.push(b'/');
        path.extend(name);
    }
    if path.is_empty() {
        path.push(b'/');
    }
    path
}

/// Is `path` in the directory `root`, or that directory itself?
pub fn is_below(path: &[u8], root: &[u8]) -> bool {
    let rest = path.strip_prefix(root.strip_suffix(b"/").unwrap_or(root));
    rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// `asked` from directory `base`, where `..` does not lead above `root`; `base` lies below `root`.
/// The result has no `.`, `..`, empty names or slash at its end.
///
/// `..` after a symlink is taken as "back again", which is what the user sees, though not always
/// where the kernel goes; for files that are opened or executed the real path is known besides.
fn join(root: &[u8], base: &[u8], asked: &[u8]) -> Vec<u8> {
    let names = |path: &[u8]| path.split(|b| *b == b'/').filter(|n| !n.is_empty()).count();
    let floor = names(root);
    let mut kept: Vec<&[u8]> = Vec::new();
    for name in base
        .split(|b| *b == b'/')
        .chain(asked.split(|b| *b == b'/'))
    {
        match name {
            b"" | b"." => (),
            b".." if kept.len() <= floor => (),
            b".." => {
                kept.pop();
            }
            name => kept.push(name),
        }
    }
    let mut path = Vec::with_capacity(base.len() + asked.len() + 1);
    for name in kept {
        path.push(b'/');
        path.extend(name);
    }
    if path.is_empty() {
        path.push(b'/');
    }
    path
}

/// A relative change of directory whose start is not known: if the asked names are the last ones of
/// where it led, no symlink was on the way and that is the path.
fn moved(real: &[u8], asked: &[u8]) -> Option<Vec<u8>> {
    let asked = join(b"/", b"/", asked);
    (asked == b"/" || real.ends_with(&asked)).then(|| real.to_vec())
}

/// The prefixes of `-exclude`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Excludes(pub Vec<Vec<u8>>);

impl Excludes {
    /// Prefixes separated by commas; none at all if the list is empty.
    pub fn parse(list: &[u8]) -> Excludes {
        let prefixes = list.split(|b| *b == b',').filter(|p| !p.is_empty());
        Excludes(prefixes.map(<[u8]>::to_vec).collect())
    }

    pub fn matches(&self, path: &[u8]) -> bool {
        self.0.iter().any(|prefix| path.starts_with(prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event<'a>(
        flags: u16,
        asked: &'a str,
        base: &'a str,
        root: &'a str,
        real: &'a str,
    ) -> Event<'a> {
        Event {
            container: 1,
            key: 2,
            result: 3,
            pid: 4,
            row: 5,
            flags,
            asked: asked.as_bytes(),
            base: base.as_bytes(),
            root: root.as_bytes(),
            real: real.as_bytes(),
            mount: b"",
            fs: b"",
            cgroup: b"",
        }
    }

    fn asked(flags: u16, asked: &str, base: &str, root: &str, real: &str) -> Option<String> {
        let named = Named::of(&event(flags, asked, base, root, real));
        assert_eq!(named.unresolved, named.asked.is_none());
        named.asked.map(|path| String::from_utf8(path).unwrap())
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
            assert_eq!(asked(0, given, "", "", "").unwrap(), path);
        }
    }

    #[test]
    fn relative_paths_start_at_the_base() {
        let base = RECORD_HAS_BASE;
        assert_eq!(asked(base, "x", "b/a/", "", "").unwrap(), "/a/b/x");
        assert_eq!(asked(base, "../x/.", "b/a/", "", "").unwrap(), "/a/x");
        assert_eq!(asked(base, "../../../x", "b/a/", "", "").unwrap(), "/x");
        assert_eq!(asked(base, ".", "", "", "").unwrap(), "/");
        assert_eq!(asked(0, "x", "", "", ""), None);
    }

    #[test]
    fn a_chroot_is_part_of_the_path_and_holds_dot_dot() {
        assert_eq!(asked(0, "/x", "", "jail/", "").unwrap(), "/jail/x");
        assert_eq!(asked(0, "/../x", "", "jail/", "").unwrap(), "/jail/x");
        let base = RECORD_HAS_BASE;
        assert_eq!(
            asked(base, "../../x", "d/jail/", "jail/", "").unwrap(),
            "/jail/x"
        );
        assert_eq!(
            asked(base, "../x", "jailbreak/", "jail/", "").unwrap(),
            "/x"
        );
        let inside = RECORD_HAS_BASE | RECORD_IN_BASE;
        assert_eq!(asked(inside, "/../x", "d/", "", "").unwrap(), "/d/x");
        assert_eq!(
            asked(RECORD_IN_BASE, "/jail", "", "jail/", "").unwrap(),
            "/jail"
        );
    }

    #[test]
    fn a_move_from_an_unknown_directory_is_known_without_symlinks() {
        let flags = RECORD_MOVED | RECORD_HAS_REAL;
        assert_eq!(asked(flags, "b/c", "", "", "c/b/a/").unwrap(), "/a/b/c");
        assert_eq!(asked(flags, "./c/", "", "", "c/b/a/").unwrap(), "/a/b/c");
        assert_eq!(asked(flags, "..", "", "", "c/b/a/").unwrap(), "/a/b/c");
        assert_eq!(asked(flags, "link", "", "", "c/b/a/"), None);
    }

    #[test]
    fn only_the_real_path_counts_where_the_name_is_excluded() {
        let named = Named::of(&event(
            RECORD_REAL_ONLY | RECORD_HAS_REAL,
            "",
            "",
            "",
            "sh/bin/",
        ));
        assert_eq!(named.asked, None);
        assert_eq!(named.real.as_deref(), Some(&b"/bin/sh"[..]));
        assert!(!named.unresolved);
    }

    #[test]
    fn excludes_are_plain_prefixes() {
        let excludes = Excludes::parse(b"/proc/,,/tmp");
        assert_eq!(excludes.0.len(), 2);
        assert!(excludes.matches(b"/proc/1") && excludes.matches(b"/tmpfoo"));
        assert!(!excludes.matches(b"/proc") && !excludes.matches(b"/x/tmp"));
        assert!(!Excludes::parse(b"").matches(b"/"));
    }
}
