// SPDX-License-Identifier: MIT OR Apache-2.0
//! Paths as bytes, absolute and normalised. Nothing here does I/O, or assumes UTF-8.

/// Appends a slash and a name.
pub fn push(path: &mut Vec<u8>, name: &[u8]) {
    path.push(b'/');
    path.extend(name);
}

/// Appends the path whose names `part` lists from the leaf up, each followed by a slash: `b/a/` becomes `/a/b`, and an
/// empty `part` becomes `/`.
pub fn path_from_leaf(part: &[u8], path: &mut Vec<u8>) {
    path.clear();
    for name in part.split(|b| *b == b'/').rev().filter(|n| !n.is_empty()) {
        push(path, name);
    }
    if path.is_empty() {
        path.push(b'/');
    }
}

/// Returns whether `path` is the directory `root` or below it.
pub fn is_below(path: &[u8], root: &[u8]) -> bool {
    seen_from(root, path).is_some()
}

/// Returns the path as it looks to a process whose root directory is `root`. `None` if the path is not below `root`.
pub fn seen_from<'a>(root: &[u8], path: &'a [u8]) -> Option<&'a [u8]> {
    let below = path.strip_prefix(root.strip_suffix(b"/").unwrap_or(root))?;
    match below {
        b"" => Some(b"/"),
        [b'/', ..] => Some(below),
        _ => None,
    }
}

/// The prefixes of `-exclude`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Excludes(pub Vec<Vec<u8>>);

impl Excludes {
    /// Reads prefixes that are separated by commas. An empty list has none.
    pub fn parse(list: &[u8]) -> Excludes {
        let prefixes = list.split(|b| *b == b',').filter(|p| !p.is_empty());
        Excludes(prefixes.map(<[u8]>::to_vec).collect())
    }

    /// Returns whether the path begins with one of the prefixes.
    pub fn matches(&self, path: &[u8]) -> bool {
        self.0.iter().any(|prefix| path.starts_with(prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excludes_are_plain_prefixes() {
        let excludes = Excludes::parse(b"/proc/,,/tmp");
        assert_eq!(excludes.0.len(), 2);
        assert!(excludes.matches(b"/proc/1"));
        assert!(excludes.matches(b"/tmpfoo"));
        assert!(!excludes.matches(b"/proc"));
        assert!(!excludes.matches(b"/x/tmp"));
        assert!(!Excludes::parse(b"").matches(b"/"));
    }
}
