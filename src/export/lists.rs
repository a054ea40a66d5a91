// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lists of files in the order of first use. Programs that load an image lazily fetch what is listed before anything asks for
//! it: eStargz and zstd:chunked, nydus, SOCI and overlaybd.

use crate::error::Result;
use crate::export::{Format, Used, directories, in_order, is_utf8, retain};
use crate::files::kinds::Kinds;
use crate::image::closure::check_lines;
use crate::image::{Image, Node, View};
use crate::log;
use crate::report::reader::Paths;
use crate::reports::several::Several;
use serde_json::{Value, json};

/// Nobody reads the content of a file that was only looked at, and the image does not have what was only written.
const CONTENT: Kinds = Kinds::READ.and(Kinds::EXECUTED).and(Kinds::MAPPED);

pub fn text(format: Format, several: &Several, image: Option<&mut Image>) -> Result<Vec<u8>> {
    let mut files = in_order(several);
    let is_prefetched = format != Format::Paths;
    if is_prefetched {
        // A directory would stand for all that lies in it.
        let directories = directories(files.iter().map(|file| &file.path[..]));
        files.retain(|file| !directories.contains(&file.path) && file.kinds.is_wanted(CONTENT));
    }
    match image {
        Some(image) => files = in_image(files, image, is_prefetched)?,
        None if is_prefetched => log::tell(
            "without -root, files that the image does not have are listed too, and directories in which nothing was used",
        ),
        None => (),
    }
    match format {
        Format::Paths => {
            let paths: Vec<_> = files.iter().map(|file| &file.path).collect();
            check_lines(&paths, "-format=creport")?;
        }
        Format::Nydus | Format::Overlaybd => retain(&mut files, is_line),
        Format::Soci => retain(&mut files, |path| is_utf8(path) && is_line(path)),
        _ => retain(&mut files, is_utf8),
    }
    Ok(written(format, &files))
}

/// Returns whether a path is a line that stays as it is when its reader removes whitespace at its ends.
fn is_line(path: &[u8]) -> bool {
    !path.contains(&b'\n') && path.trim_ascii_end() == path
}

/// Replaces each file by what its path leads through in the image: symlinks, and the file itself. What the image does not
/// have is left out.
fn in_image(files: Vec<Used>, image: &mut Image, without_directories: bool) -> Result<Vec<Used>> {
    let (mut seen, mut found, mut missing) = (Paths::default(), Vec::new(), 0);
    let all = files.len();
    for file in files {
        let mut needed = Paths::default();
        if image.follow_if_there(&file.path, &mut needed)?.is_none() {
            missing += usize::from(file.path != b"/");
            continue;
        }
        let mut needed: Vec<_> = needed.into_iter().collect();
        needed.sort_unstable();
        for path in needed {
            let is_directory = image.look(&path)? == Node::Directory;
            let is_listed = !is_directory || (!without_directories && path == file.path);
            if is_listed && seen.insert(path.clone()) {
                let kinds = file.kinds;
                found.push(Used { path, kinds });
            }
        }
    }
    if missing > 0 {
        log::tell(format_args!(
            "{missing} of {all} files are not in the image and are left out"
        ));
    }
    Ok(found)
}

fn written(format: Format, files: &[Used]) -> Vec<u8> {
    let text = |file: &Used| Value::from(String::from_utf8_lossy(&file.path));
    match format {
        Format::Estargz => {
            let line = |file: &Used| {
                let path = String::from_utf8_lossy(&file.path[1..]);
                format!("{}\n", json!({"path": path}))
            };
            files.iter().map(line).collect::<String>().into_bytes()
        }
        Format::Soci => {
            let files: Value = files.iter().map(text).collect();
            format!("{files:#}\n").into_bytes()
        }
        Format::NydusV1 => {
            let file = |file: &Used| json!({"path": text(file), "ranges": null});
            let files: Value = files.iter().map(file).collect();
            let document = json!({"version": "v1", "files": files});
            format!("{document:#}\n").into_bytes()
        }
        _ => {
            let lines = files.iter().flat_map(|file| [&file.path, &b"\n"[..]]);
            lines.collect::<Vec<_>>().concat()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_as_they_are() {
        for (path, stays) in [
            (&b"/a b"[..], true),
            (b"/a\nb", false),
            (b"/a ", false),
            (b"/a\r", false),
            (b"/a\xff", true),
        ] {
            assert_eq!(is_line(path), stays, "{path:?}");
        }
    }
}
