// SPDX-License-Identifier: MIT OR Apache-2.0
//! A Dockerfile that makes an image of the files. `COPY --from` of each path would make a layer of each and follow no symlinks,
//! so the files come as an archive.

use crate::export::in_order;
use crate::files::kinds::Kinds;
use crate::report::schema::{encode_name, field};
use crate::reports::several::Several;
use std::ffi::OsString;

pub fn text(several: &Several, reports: &[OsString]) -> Vec<u8> {
    let files = in_order(several);
    let mut images = several
        .heads
        .iter()
        .filter_map(|head| head[field::IMAGE].as_str());
    let image = images.next().unwrap_or("IMAGE").escape_debug().to_string();
    let names = reports.iter().map(|name| quoted(&name.to_string_lossy()));
    let names = names.collect::<Vec<_>>().join(" ");
    let count = files.len();
    let program = files.iter().find(|file| file.kinds.has(Kinds::EXECUTED));
    let program = program.map_or("unknown".into(), |file| {
        encode_name(&file.path).escape_debug().to_string()
    });
    let text = format!(
        "\
# An image with the {count} files of {image} that the reports list. `snoop slim` makes one without a build, and keeps layers and
# configuration. To build this one, unpack the old image in a directory of the name old, and make rootfs.tar beside this file:
#
#   snoop closure -root old -0 {names} | \\
#     tar -C old --no-recursion --xattrs --xattrs-include='*' --null -T - -cf rootfs.tar
#   docker build -t app:slim .
#
# No build takes these from another image; `docker image inspect {image}` shows what they were: ENV, USER, WORKDIR, EXPOSE,
# VOLUME, STOPSIGNAL, ENTRYPOINT and CMD. Add them here. The first program that a container executed: {program}
FROM scratch
ADD rootfs.tar /
"
    );
    text.into_bytes()
}

/// Quotes a word for the shell, on one line.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    match word.chars().all(is_plain) {
        true => word.into(),
        false => format!(
            "'{}'",
            word.escape_debug().to_string().replace('\'', "'\\''")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_reports_are_words_of_a_shell() {
        assert_eq!(quoted("a/b-1.json"), "a/b-1.json");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("a\nb"), "'a\\nb'");
    }
}
