// SPDX-License-Identifier: MIT OR Apache-2.0
//! What scanners look at stays true: databases of packages list those of which a file stays, and packages of languages
//! keep what says their names and versions. The packages that are found on the way are what an SBOM lists.

use crate::error::Result;
use crate::image::packages::{self, APK, DISTROLESS, DPKG};
use crate::image::runtime::PASSWD;
use crate::slim::keep::{Contents, Keep, Why};
use crate::slim::languages;
use crate::slim::layers::{Id, Item};

/// Which distribution it is, and what else scanners ask of the whole.
const RELEASE: [&str; 12] = [
    "/etc/os-release",
    "/usr/lib/os-release",
    "/etc/debian_version",
    "/etc/alpine-release",
    "/etc/apk/repositories",
    "/etc/lsb-release",
    "/etc/redhat-release",
    "/etc/centos-release",
    "/etc/system-release",
    "/etc/SuSE-release",
    "/var/lib/chisel/manifest.wall",
    "/var/lib/rpmmanifest",
];
const OS_RELEASE: [&[u8]; 2] = [b"/etc/os-release", b"/usr/lib/os-release"];
const DPKG_STATUS: &[u8] = b"/var/lib/dpkg/status";
/// rpm's database is binary.
const RPM: [&[u8]; 3] = [b"/var/lib/rpm", b"/usr/lib/sysimage/rpm", b"/usr/share/rpm"];

/// What kind of package it is, by the types of package URLs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Deb,
    Apk,
    PyPi,
    Npm,
    Gem,
}

/// A package of the image.
pub struct Package {
    pub kind: Kind,
    pub name: String,
    pub version: String,
    pub architecture: String,
    /// The package of sources that it was built from, if that has another name.
    pub source: String,
    /// Its files that the reports list; `None` if nothing says which files it has.
    pub used: Option<Vec<Id>>,
}

/// What was found in the image.
#[derive(Default)]
pub struct Inventory {
    pub packages: Vec<Package>,
    /// The text of os-release.
    pub os_release: Vec<u8>,
    /// Databases that snoop cannot read.
    pub unread: Vec<String>,
}

/// Returns whether the file has to be looked into, also for the packages' names and versions if those are asked for.
pub fn is_read(path: &[u8], with_packages: bool) -> bool {
    let ends = |ends: &[&[u8]]| ends.iter().any(|end| path.ends_with(end));
    path == PASSWD.as_bytes()
        || path == DPKG_STATUS
        || APK.contains(&path)
        || (path.starts_with(DPKG) && ends(&[b".list"]))
        || (path.starts_with(DISTROLESS) && (with_packages || ends(&[b".md5sums"])))
        || (with_packages && OS_RELEASE.contains(&path))
        || languages::is_read(path, with_packages)
}

/// Files of a package.
pub struct Files {
    /// One of them stays.
    pub stay: bool,
    /// Those that the reports list, if they are asked for.
    pub used: Vec<Id>,
}

/// The image while packages are looked for in it.
pub struct Scan<'a, 'l> {
    pub keep: &'a mut Keep<'l>,
    pub contents: &'a Contents,
    with_packages: bool,
    found: Inventory,
}

/// A place with a file that was looked into.
struct Text<'a> {
    node: Id,
    item: Item,
    text: &'a [u8],
}

/// Keeps what scanners look at. Returns what is in the image; its packages if they are asked for.
pub fn keep(keep: &mut Keep, contents: &Contents, with_packages: bool) -> Result<Inventory> {
    let mut scan = Scan {
        keep,
        contents,
        with_packages,
        found: Inventory::default(),
    };
    scan.release()?;
    scan.languages()?;
    scan.dpkg()?;
    scan.dpkg_each()?;
    for path in APK {
        scan.apk(path)?;
    }
    scan.rpm()?;
    Ok(scan.found)
}

impl<'a> Scan<'a, '_> {
    fn release(&mut self) -> Result<()> {
        for path in RELEASE {
            if let Some(node) = self.keep.path(path.as_bytes(), Why::Scanner)? {
                self.keep.tree(node, Why::Scanner)?;
            }
        }
        let mut texts = OS_RELEASE.into_iter().filter_map(|path| self.file(path));
        self.found.os_release = texts.next().map_or(Vec::new(), |file| file.text.into());
        Ok(())
    }

    fn rpm(&mut self) -> Result<()> {
        for path in RPM {
            let layers = &*self.keep.layers;
            let node = layers.find(path);
            let Some(node) = node.filter(|node| layers.children(*node).next().is_some()) else {
                continue;
            };
            self.keep.tree(node, Why::Scanner)?;
            let path = String::from_utf8_lossy(path).into_owned();
            self.keep.notes.push(format!(
                "{path} stays whole: to scanners, all packages of rpm are still there"
            ));
            self.found.unread.push(path);
        }
        Ok(())
    }

    fn file(&self, path: &[u8]) -> Option<Text<'a>> {
        let node = self.keep.layers.find(path)?;
        let item = self.keep.layers.visible(node)?;
        let text = self.contents.get(&item)?;
        Some(Text { node, item, text })
    }

    /// Returns the content of a file that was looked into.
    pub fn text(&self, path: &[u8]) -> Option<&'a [u8]> {
        self.file(path).map(|file| file.text)
    }

    /// Looks for the files of a package.
    pub fn files(&mut self, paths: &mut dyn Iterator<Item = Vec<u8>>) -> Result<Files> {
        let (mut stay, mut used) = (false, Vec::new());
        for path in paths {
            let Some(node) = self.keep.file_at(&path)? else {
                continue;
            };
            stay |= self.keep.is_kept(node);
            match self.with_packages {
                false if stay => break,
                true if self.keep.why(node) == Some(Why::Used) => used.push(node),
                _ => (),
            }
        }
        Ok(Files { stay, used })
    }

    /// Adds a package to those that were found, if they are asked for.
    pub fn add(&mut self, package: Package) {
        if self.with_packages && !package.name.is_empty() {
            self.found.packages.push(package);
        }
    }

    /// Keeps a database, with only those of its parts that stay. One that a container uses stays as it is.
    fn prune(&mut self, database: Text, parts: &[&[u8]], stays: &[bool]) {
        let (node, keep) = (database.node, &mut *self.keep);
        if keep.is_kept(node) {
            let path = keep.layers.path(node);
            let path = String::from_utf8_lossy(&path);
            keep.notes.push(format!(
                "{path} stays whole, because it is used or was asked for: to scanners, all its packages are still there"
            ));
            return;
        }
        keep.node(node, Why::Scanner);
        let parts = parts.iter().zip(stays).filter(|(_, stays)| **stays);
        let pruned: Vec<_> = parts.flat_map(|(part, _)| part.iter().copied()).collect();
        if pruned != database.text {
            keep.replaced.insert(database.item, pruned);
        }
    }

    fn dpkg(&mut self) -> Result<()> {
        let Some(status) = self.file(DPKG_STATUS) else {
            return Ok(());
        };
        let parts = parts(status.text);
        let stays = parts.iter().map(|part| self.dpkg_package(part));
        let stays = stays.collect::<Result<Vec<_>>>()?;
        self.prune(status, &parts, &stays);
        Ok(())
    }

    /// Returns whether a file of the package stays that is described by a part of dpkg's database.
    fn dpkg_package(&mut self, part: &[u8]) -> Result<bool> {
        let (name, architecture) = (field(part, b"Package:"), field(part, b"Architecture:"));
        // Of packages that may be installed for several architectures the name says which.
        let names = [[name, b":", architecture].concat(), name.to_vec()];
        let lists = names.map(|name| [DPKG, b"/", &name].concat());
        let mut lists = lists.into_iter().filter_map(|path| {
            let list = self.file(&[&path, &b".list"[..]].concat())?;
            Some((path, list))
        });
        let state = field(part, b"Status:").rsplit(|b| *b == b' ').next();
        // Of a package that was removed its configuration may be left.
        let is_installed = matches!(state, Some(b"installed" | b""));
        let Some((path, list)) = lists.next() else {
            // Which files belong to it is not known.
            if is_installed {
                self.add(debian(part, None));
            }
            return Ok(is_installed);
        };
        let files = self.files(&mut packages::dpkg(list.text).into_iter())?;
        if files.stay {
            self.keep.node(list.node, Why::Scanner);
            let sums = [&path, &b".md5sums"[..]].concat();
            self.keep.path(&sums, Why::Scanner)?;
        }
        if is_installed {
            self.add(debian(part, Some(files.used)));
        }
        Ok(files.stay)
    }

    fn dpkg_each(&mut self) -> Result<()> {
        let Some(directory) = self.keep.layers.find(DISTROLESS) else {
            return Ok(());
        };
        let entries: Vec<_> = self.keep.layers.children(directory).collect();
        for entry in entries {
            let name = self.keep.layers.name(entry).to_vec();
            if name.ends_with(b".md5sums") {
                continue;
            }
            let path = [DISTROLESS, b"/", &name].concat();
            let sums = self.file(&[&path, &b".md5sums"[..]].concat());
            let files = match &sums {
                Some(sums) => Some(self.files(&mut packages::checksummed(sums.text).into_iter())?),
                // Which files belong to it is not known.
                None => None,
            };
            if files.as_ref().is_none_or(|files| files.stay) {
                self.keep.node(entry, Why::Scanner);
                if let Some(sums) = sums {
                    self.keep.node(sums.node, Why::Scanner);
                }
            }
            if let Some(text) = self.text(&path) {
                self.add(debian(text, files.map(|files| files.used)));
            }
        }
        Ok(())
    }

    fn apk(&mut self, path: &[u8]) -> Result<()> {
        let Some(installed) = self.file(path) else {
            return Ok(());
        };
        let (parts, mut stays) = (parts(installed.text), Vec::new());
        for part in &parts {
            let described = packages::apk(part).into_iter();
            let files = self.files(&mut described.flat_map(|package| package.files))?;
            stays.push(files.stay);
            self.add(Package {
                kind: Kind::Apk,
                name: text_of(field(part, b"P:")),
                version: text_of(field(part, b"V:")),
                architecture: text_of(field(part, b"A:")),
                source: text_of(field(part, b"o:")),
                used: Some(files.used),
            });
        }
        self.prune(installed, &parts, &stays);
        Ok(())
    }
}

/// The package that a paragraph of dpkg's describes.
fn debian(paragraph: &[u8], used: Option<Vec<Id>>) -> Package {
    // openssl (3.0.9-1), where the versions differ.
    let source = text_of(field(paragraph, b"Source:"));
    Package {
        kind: Kind::Deb,
        name: text_of(field(paragraph, b"Package:")),
        version: text_of(field(paragraph, b"Version:")),
        architecture: text_of(field(paragraph, b"Architecture:")),
        source: source.replace(" (", "@").replace(')', ""),
        used,
    }
}

/// Returns the value of the first line that begins with `name`; nothing if no line does.
pub fn field<'t>(text: &'t [u8], name: &[u8]) -> &'t [u8] {
    let mut lines = text.split(|b| *b == b'\n');
    let value = lines.find_map(|line| line.strip_prefix(name));
    value.unwrap_or_default().trim_ascii()
}

pub fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The parts of a database, each with the empty line behind it.
fn parts(text: &[u8]) -> Vec<&[u8]> {
    let (mut parts, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let end = rest.windows(2).position(|two| two == b"\n\n");
        let (part, further) = rest.split_at(end.map_or(rest.len(), |end| end + 2));
        parts.push(part);
        rest = further;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::tar;
    use crate::slim::layers::{Layers, New};

    /// Layers of one with these files, and the contents of those that are looked into.
    fn read(files: &[(&str, &str)], with_packages: bool) -> (Layers, Contents) {
        let mut layers = Layers::default();
        layers.begin_layer();
        let mut contents = Contents::default();
        for (path, content) in files {
            let (inside, size) = (&path.as_bytes()[1..], content.len() as u64);
            let new = New {
                path: inside,
                kind: tar::Kind::File,
                link: b"",
                size,
            };
            let item = layers.add(&new).unwrap();
            if is_read(path.as_bytes(), with_packages) {
                contents.insert(item, content.as_bytes().to_vec());
            }
        }
        (layers, contents)
    }

    /// Keeps what scanners need of an image of which these files stay: what is kept, and the pruned databases.
    fn scanned(files: &[(&str, &str)], used: &[&str]) -> (Vec<String>, Vec<String>) {
        let (mut layers, contents) = read(files, false);
        let mut keep = Keep::new(&mut layers);
        for path in used {
            keep.path(path.as_bytes(), Why::Used).unwrap();
        }
        let found = super::keep(&mut keep, &contents, false).unwrap();
        assert!(found.packages.is_empty());
        let nodes = keep.layers.nodes();
        let scanner = nodes.filter(|node| {
            keep.why(*node) == Some(Why::Scanner) && !keep.layers.is_directory(*node)
        });
        let mut kept: Vec<_> = scanner
            .map(|node| String::from_utf8(keep.layers.path(node)).unwrap())
            .collect();
        kept.sort();
        let replaced = keep.replaced.into_values();
        (
            kept,
            replaced
                .map(|text| String::from_utf8(text).unwrap())
                .collect(),
        )
    }

    /// What stays without being used, as by `-keep`, is not used.
    #[test]
    fn packages_are_found_with_what_is_used_of_them() {
        let installed =
            "P:musl\nV:1\nA:x86_64\no:libc\nF:lib\nR:ld.so\n\nP:tool\nV:2\nF:bin\nR:tool\n\n";
        let files = [
            ("/usr/lib/os-release", "ID=alpine\n"),
            ("/lib/apk/db/installed", installed),
            ("/lib/ld.so", ""),
            ("/bin/tool", ""),
            (
                "/var/lib/dpkg/status.d/base",
                "Package: base\nVersion: 3\nArchitecture: all\n",
            ),
            (
                "/var/lib/dpkg/status.d/base.md5sums",
                "d41d8cd9  etc/issue\n",
            ),
            (
                "/var/lib/dpkg/status.d/other",
                "Package: other\nVersion: 4\n",
            ),
            ("/etc/issue", ""),
            ("/var/lib/rpm/rpmdb.sqlite", ""),
        ];
        let (mut layers, contents) = read(&files, true);
        let mut keep = Keep::new(&mut layers);
        keep.path(b"/lib/ld.so", Why::Used).unwrap();
        keep.path(b"/bin/tool", Why::Asked).unwrap();
        keep.path(b"/etc/issue", Why::Used).unwrap();
        let found = super::keep(&mut keep, &contents, true).unwrap();
        assert_eq!(found.os_release, b"ID=alpine\n");
        assert_eq!(found.unread, ["/var/lib/rpm"]);
        let places = |used: &[Id]| {
            let places = used.iter().map(|node| text_of(&keep.layers.path(*node)));
            places.collect::<Vec<_>>().join(" ")
        };
        let mut packages: Vec<_> = found
            .packages
            .iter()
            .map(|package| {
                let used = package.used.as_deref().map_or("unknown".into(), places);
                let Package {
                    name,
                    version,
                    architecture,
                    source,
                    ..
                } = package;
                [name, version, architecture, source, &used]
                    .map(String::as_str)
                    .join(",")
            })
            .collect();
        packages.sort();
        let expected = [
            "base,3,all,,/etc/issue",
            "musl,1,x86_64,libc,/lib/ld.so",
            "other,4,,,unknown",
            "tool,2,,,",
        ];
        assert_eq!(packages, expected);
    }

    #[test]
    fn packages_of_which_a_file_stays_are_listed() {
        let status = "Package: libc6\nArchitecture: amd64\n\nPackage: gone\nArchitecture: all\n\nPackage: app\nArchitecture: all\n\n";
        let (kept, replaced) = scanned(
            &[
                ("/etc/debian_version", ""),
                ("/var/lib/dpkg/status", status),
                (
                    "/var/lib/dpkg/info/libc6:amd64.list",
                    "/.\n/lib\n/lib/libc.so.6\n",
                ),
                ("/var/lib/dpkg/info/libc6:amd64.md5sums", ""),
                ("/var/lib/dpkg/info/libc6:amd64.postinst", ""),
                ("/var/lib/dpkg/info/gone.list", "/.\n/lib\n/lib/gone\n"),
                ("/var/lib/dpkg/info/app.list", "/app\n"),
                ("/lib/libc.so.6", ""),
                ("/lib/gone", ""),
                ("/app", ""),
            ],
            &["/lib/libc.so.6", "/app"],
        );
        assert_eq!(
            kept,
            [
                "/etc/debian_version",
                "/var/lib/dpkg/info/app.list",
                "/var/lib/dpkg/info/libc6:amd64.list",
                "/var/lib/dpkg/info/libc6:amd64.md5sums",
                "/var/lib/dpkg/status"
            ]
        );
        assert_eq!(
            replaced,
            [status.replace("Package: gone\nArchitecture: all\n\n", "")]
        );

        let installed = "P:musl\nV:1\nF:lib\nR:ld.so\n\nP:gone\nF:bin\nR:gone\n\n";
        let files = [
            ("/lib/apk/db/installed", installed),
            ("/lib/ld.so", ""),
            ("/bin/gone", ""),
        ];
        let (kept, replaced) = scanned(&files, &["/lib/ld.so"]);
        assert_eq!(kept, ["/lib/apk/db/installed"]);
        assert_eq!(replaced, ["P:musl\nV:1\nF:lib\nR:ld.so\n\n"]);
        // One that the container reads is not touched.
        let (_, replaced) = scanned(&files, &["/lib/ld.so", "/lib/apk/db/installed"]);
        assert_eq!(replaced, [""; 0]);

        let files = [
            ("/var/lib/dpkg/status.d/base", ""),
            (
                "/var/lib/dpkg/status.d/base.md5sums",
                "d41d8cd9  etc/issue\n",
            ),
            ("/var/lib/dpkg/status.d/other", ""),
            (
                "/var/lib/dpkg/status.d/other.md5sums",
                "d41d8cd9  etc/other\n",
            ),
            ("/etc/issue", ""),
            ("/var/lib/rpm/rpmdb.sqlite", ""),
        ];
        let (kept, _) = scanned(&files, &["/etc/issue"]);
        assert_eq!(
            kept,
            [
                "/var/lib/dpkg/status.d/base",
                "/var/lib/dpkg/status.d/base.md5sums",
                "/var/lib/rpm/rpmdb.sqlite"
            ]
        );
    }

    #[test]
    fn packages_of_languages_keep_their_metadata() {
        let (kept, _) = scanned(
            &[
                (
                    "/s/one-1.dist-info/RECORD",
                    "one/__init__.py,sha256=x,3\none-1.dist-info/METADATA,,\n",
                ),
                ("/s/one-1.dist-info/METADATA", ""),
                ("/s/one-1.dist-info/LICENSE", ""),
                ("/s/one/__init__.py", ""),
                ("/s/two-1.egg-info/top_level.txt", "deux\n"),
                ("/s/two-1.egg-info/PKG-INFO", ""),
                ("/s/deux.py", ""),
                ("/s/three-1.egg-info", ""),
                ("/s/three/x.py", ""),
                ("/s/four-1.dist-info/RECORD", "four.py,,\n"),
                ("/s/four.py", ""),
                ("/app/node_modules/@a/b/package.json", ""),
                ("/app/node_modules/@a/b/lib/x.js", ""),
                ("/app/node_modules/c/package.json", ""),
                ("/app/node_modules/c/x.js", ""),
                ("/g/specifications/d-1.gemspec", ""),
                ("/g/gems/d-1/lib/d.rb", ""),
                ("/g/specifications/e-1.gemspec", ""),
                ("/g/gems/e-1/lib/e.rb", ""),
            ],
            &[
                "/s/one/__init__.py",
                "/s/deux.py",
                "/s/three/x.py",
                "/app/node_modules/@a/b/lib/x.js",
                "/g/gems/d-1/lib/d.rb",
            ],
        );
        assert_eq!(
            kept,
            [
                "/app/node_modules/@a/b/package.json",
                "/g/specifications/d-1.gemspec",
                "/s/one-1.dist-info/METADATA",
                "/s/one-1.dist-info/RECORD",
                "/s/three-1.egg-info",
                "/s/two-1.egg-info/PKG-INFO",
                "/s/two-1.egg-info/top_level.txt"
            ]
        );
    }
}
