// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is in an unpacked image, and what of it a report uses.

use crate::error::Result;
use crate::image::unused::{self, Share};
use crate::image::{Image, closure, packages};
use crate::report::reader::FileLists;
use std::path::Path;

pub struct Contents {
    /// Everything that is not a directory, sorted by path.
    pub files: Vec<ImageFile>,
    /// The ones with the most unused bytes first.
    pub packages: Vec<Share>,
}

pub struct ImageFile {
    pub path: Vec<u8>,
    /// The bytes of its content. Those of a file with several names count only for the first name.
    pub bytes: u64,
    pub is_used: bool,
}

impl Contents {
    /// Reads the image that is unpacked in a directory.
    pub fn read(root: &Path, listed: &FileLists) -> Result<Contents> {
        let mut image = Image::open(root)?;
        let needed = closure::needed(&mut image, listed)?;
        let entries = image.entries()?;
        let sizes = unused::sizes(&entries);
        let packages = packages::installed(&image);
        let packages = unused::shares(&mut image, &needed, &entries, &sizes, &packages)?;
        let files = entries.into_iter().zip(&sizes);
        let files = files.filter(|(entry, _)| !entry.metadata.is_dir());
        let files = files.map(|(entry, size)| ImageFile {
            bytes: size.bytes,
            is_used: needed.contains(&entry.path),
            path: entry.path,
        });
        Ok(Contents {
            files: files.collect(),
            packages,
        })
    }
}
