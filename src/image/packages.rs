// SPDX-License-Identifier: MIT OR Apache-2.0
//! The packages of an image and their files, read from the databases of dpkg and apk.

use crate::image::Image;
use std::fs;
use std::path::Path;

pub struct Package {
    pub name: String,
    /// The paths as the package lists them. A directory on the way may be a symlink in the image.
    pub files: Vec<Vec<u8>>,
}

/// dpkg has a list of paths for each package, beside its other control files.
pub const DPKG: &[u8] = b"/var/lib/dpkg/info";
/// Images without dpkg itself ("distroless") have files with checksums and paths.
pub const DISTROLESS: &[u8] = b"/var/lib/dpkg/status.d";
/// apk has one file for all packages. The second path is that of apk 3.
pub const APK: [&[u8]; 2] = [b"/lib/apk/db/installed", b"/usr/lib/apk/db/installed"];

/// Returns the packages that are installed in the image. The list is empty if the image has no known database.
pub fn installed(image: &Image) -> Vec<Package> {
    let mut packages = each_file(&image.outside(DPKG), ".list", dpkg);
    packages.extend(each_file(
        &image.outside(DISTROLESS),
        ".md5sums",
        checksummed,
    ));
    for path in APK {
        packages.extend(apk(&fs::read(image.outside(path)).unwrap_or_default()));
    }
    packages
}

/// Returns a package for each file of a directory whose name has that suffix.
fn each_file(
    directory: &Path,
    suffix: &str,
    paths: impl Fn(&[u8]) -> Vec<Vec<u8>>,
) -> Vec<Package> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let packages = entries.filter_map(|entry| {
        let file = entry.file_name();
        let name = file.to_str()?.strip_suffix(suffix)?;
        let files = paths(&fs::read(entry.path()).ok()?);
        // dpkg's names may include the architecture: libc6:amd64.
        let name = name.split(':').next().unwrap_or(name).to_string();
        Some(Package { name, files })
    });
    packages.collect()
}

/// Returns the paths in dpkg's list of a package, which has one path per line. The first one is `/.`.
pub fn dpkg(text: &[u8]) -> Vec<Vec<u8>> {
    let paths = text.split(|b| *b == b'\n').filter(|path| path.len() > 2);
    paths.map(<[u8]>::to_vec).collect()
}

/// Returns the paths from lines that hold a checksum and a path without its leading slash.
pub fn checksummed(text: &[u8]) -> Vec<Vec<u8>> {
    let lines = text.split(|b| *b == b'\n');
    lines
        .filter_map(|line| {
            let at = line.iter().position(|b| *b == b' ')?;
            Some([b"/", line[at..].trim_ascii()].concat())
        })
        .collect()
}

/// Returns the packages in apk's database. The first letter of a line says what it holds: P is a package, F a directory,
/// and R a file in that directory.
pub fn apk(text: &[u8]) -> Vec<Package> {
    let mut packages: Vec<Package> = Vec::new();
    let mut directory = Vec::new();
    for line in text.split(|b| *b == b'\n') {
        match (line, packages.last_mut()) {
            ([b'P', b':', name @ ..], _) => packages.push(Package {
                name: String::from_utf8_lossy(name).into_owned(),
                files: Vec::new(),
            }),
            ([b'F', b':'], _) => directory.clear(),
            ([b'F', b':', name @ ..], _) => directory = [b"/", name].concat(),
            ([b'R', b':', name @ ..], Some(package)) => {
                package.files.push([&directory, &b"/"[..], name].concat());
            }
            _ => (),
        }
    }
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_of_dpkg_and_apk() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(
            "var/lib/dpkg/info/libc6:amd64.list",
            "/.\n/lib\n/lib/libc.so.6\n",
        );
        write("var/lib/dpkg/info/libc6:amd64.postinst", "#!/bin/sh\n");
        write(
            "var/lib/dpkg/status.d/base.md5sums",
            "d41d8cd9  etc/issue\n",
        );
        write(
            "lib/apk/db/installed",
            "C:Q1\nP:musl\nV:1.2\nF:lib\nR:ld-musl.so.1\nZ:Q1\nF:\nR:top\n\nP:busybox\nF:bin\nR:busybox\n",
        );
        let mut found: Vec<_> = installed(&Image::open(root).unwrap())
            .into_iter()
            .map(|package| {
                let files = package.files.iter();
                let files = files.map(|path| String::from_utf8_lossy(path).into_owned());
                (package.name, files.collect::<Vec<_>>().join(" "))
            })
            .collect();
        found.sort();
        let expected = [
            ("base", "/etc/issue"),
            ("busybox", "/bin/busybox"),
            ("libc6", "/lib /lib/libc.so.6"),
            ("musl", "/lib/ld-musl.so.1 /top"),
        ];
        assert_eq!(found, expected.map(|(a, b)| (a.into(), b.into())));
    }
}
