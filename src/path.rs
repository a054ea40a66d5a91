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

/// Returns whether a name fits a pattern of `*`, `?` and `[…]`.
pub fn fits(name: &[u8], pattern: &[u8]) -> bool {
    // Where to go on if the last star has to take one more byte.
    let (mut at, mut next, mut star) = (0, 0, None);
    loop {
        if pattern.get(next) == Some(&b'*') {
            star = Some((at, next));
            next += 1;
            continue;
        }
        if at == name.len() && next == pattern.len() {
            return true;
        }
        let one = name
            .get(at)
            .and_then(|byte| fits_one(*byte, &pattern[next..]));
        if let Some(len) = one {
            (at, next) = (at + 1, next + len);
            continue;
        }
        match star {
            Some((from, pattern_at)) if from < name.len() => {
                star = Some((from + 1, pattern_at));
                (at, next) = (from + 1, pattern_at + 1);
            }
            _ => return false,
        }
    }
}

/// Returns how long the beginning of the pattern is that a byte fits, if it fits.
fn fits_one(byte: u8, pattern: &[u8]) -> Option<usize> {
    match pattern {
        [b'?', ..] => Some(1),
        [b'[', set @ ..] => {
            let is_not = matches!(set, [b'!' | b'^', ..]);
            let start = usize::from(is_not);
            // A bracket that comes first is one of the set.
            let len = set.iter().skip(start + 1).position(|b| *b == b']')? + start + 1;
            let (mut members, mut fits) = (&set[start..len], false);
            while let [first, rest @ ..] = members {
                members = rest;
                fits |= *first == byte;
                if let [b'-', last, rest @ ..] = members {
                    fits |= (*first..=*last).contains(&byte);
                    members = rest;
                }
            }
            (fits != is_not).then_some(len + 2)
        }
        [first, ..] => (*first == byte).then_some(1),
        [] => None,
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
