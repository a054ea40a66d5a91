// SPDX-License-Identifier: MIT OR Apache-2.0
//! The page of a report. build.rs makes one text of `page.html`, `page.css` and `page.js`. The page has no report in it, and asks the
//! listener for one; a copy for a file has a report in the place of the word null.

use crate::archive::compression::Decoder;
use crate::image::unused::{Share, Size};
use crate::report::schema::encode_name;
use crate::show::contents::{Contents, ImageFile};
use serde_json::{Value, json};
use std::io::{self, Read, Write};

/// The page, compressed with gzip.
pub static COMPRESSED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/page.html.gz"));

/// The lines of an HTTP response that say how the page is compressed, and what a browser may load and run for it: its own script and
/// style, told by their digests, and `/report`. Each browser takes gzip.
pub const HEADERS: &str = concat!(
    "Content-Encoding: gzip\r\nContent-Security-Policy: ",
    env!("SNOOP_PAGE_POLICY"),
    "; frame-ancestors 'none'\r\n"
);

/// What stands around the data.
const BEFORE: &str = "id=\"data\">";
const AFTER: &str = "</script>";

/// Writes the page with a report and what is known of the image.
pub fn write(report: &Report, contents: Option<&Contents>, out: &mut dyn Write) -> io::Result<()> {
    let mut page = String::new();
    Decoder::new(COMPRESSED)?.read_to_string(&mut page)?;
    let at = page.find(BEFORE).expect("the page has a place for data") + BEFORE.len();
    let (before, rest) = page.split_at(at);
    let after = rest.find(AFTER).expect("the data ends");
    out.write_all(before.as_bytes())?;
    out.write_all(b"{\"report\":")?;
    out.write_all(&report.0)?;
    out.write_all(b",\"image\":")?;
    let contents = contents.map_or(Value::Null, of_image).to_string();
    out.write_all(&escaped(contents.as_bytes()))?;
    out.write_all(b"}")?;
    out.write_all(&rest.as_bytes()[after..])
}

/// The text of a report, as it stands in the page.
#[derive(Default)]
pub struct Report(Vec<u8>);

/// A reader that keeps the text of the report that is read through it.
pub struct Keeping<'a> {
    pub input: &'a mut dyn Read,
    pub report: Report,
}

impl Read for Keeping<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.input.read(buffer)?;
        self.report.0.extend(escaped(&buffer[..n]));
        Ok(n)
    }
}

/// Returns JSON that cannot end the element that it is in, nor begin a comment there: the character that would is in strings only.
fn escaped(json: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(json.len());
    for piece in json.split_inclusive(|b| *b == b'<') {
        match piece {
            [rest @ .., b'<'] => {
                text.extend(rest);
                text.extend(b"\\u003c");
            }
            rest => text.extend(rest),
        }
    }
    text
}

fn of_image(contents: &Contents) -> Value {
    let size = |size: &Size| json!({"files": size.files, "bytes": size.bytes});
    let package = |share: &Share| json!({"name": share.name, "used": size(&share.used), "unused": size(&share.unused)});
    let part = |is_used: bool| {
        let files = || contents.files.iter().filter(|file| file.is_used == is_used);
        let path = |file: &ImageFile| Value::from(encode_name(&file.path));
        let bytes = files().map(|file| Value::from(file.bytes));
        json!({"files": files().map(path).collect::<Value>(), "bytes": bytes.collect::<Value>()})
    };
    let packages = contents.packages.iter().map(package);
    json!({"used": part(true), "unused": part(false), "packages": packages.collect::<Value>()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_cannot_end_its_element() {
        let name = "/</script><script>alert(1)</script><!--\u{2028}";
        let text = json!({"files": [name]}).to_string();
        let mut input = text.as_bytes();
        let mut keeping = Keeping {
            input: &mut input,
            report: Report::default(),
        };
        io::copy(&mut keeping, &mut io::sink()).unwrap();
        let contents = Contents {
            files: vec![ImageFile {
                path: name.into(),
                bytes: 7,
                is_used: true,
            }],
            packages: Vec::new(),
        };
        let mut page = Vec::new();
        write(&keeping.report, Some(&contents), &mut page).unwrap();
        let page = String::from_utf8(page).unwrap();
        let (_, rest) = page.split_once(BEFORE).unwrap();
        let (data, _) = rest.split_once("</script>\n<script>").unwrap();
        assert!(!data.contains('<'), "{data}");
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["report"]["files"][0], name);
        assert_eq!(data["image"]["used"]["files"][0], name);
        assert_eq!(data["image"]["unused"]["bytes"], json!([]));
    }

    #[test]
    fn the_page_is_small_and_loads_nothing() {
        let mut page = Vec::new();
        write(&Report(b"null".into()), None, &mut page).unwrap();
        assert!(page.len() < 60_000, "{}", page.len());
        let page = String::from_utf8(page).unwrap();
        for loads in [
            "<link rel=\"stylesheet",
            " src=",
            "@import",
            "url(",
            "innerHTML",
            "style=\"",
        ] {
            assert!(!page.contains(loads), "{loads}");
        }
        assert!(page.contains(env!("SNOOP_PAGE_POLICY")));
    }
}
