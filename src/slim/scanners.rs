// SPDX-License-Identifier: MIT OR Apache-2.0
//! What scanners look at stays true: data bases of packages list those of which a file stays, and packages of languages
//! keep what says their names and versions.

use crate::error::Result;
use crate::image::packages;
use crate::slim::keep::{Contents, Keep, Why};
use crate::slim::layers::{Id, Item};
use std::collections::HashSet;

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
const DPKG_STATUS: &[u8] = b"/var/lib/dpkg/status";
const DPKG_INFO: &[u8] = b"/var/lib/dpkg/info";
/// Images without dpkg itself ("distroless") have a file for each package.
const DPKG_EACH: &[u8] = b"/var/lib/dpkg/status.d";
const APK: [&[u8]; 2] = [b"/lib/apk/db/installed", b"/usr/lib/apk/db/installed"];
/// rpm's data base is binary.
const RPM: [&[u8]; 3] = [b"/var/lib/rpm", b"/usr/lib/sysimage/rpm", b"/usr/share/rpm"];

/// Has the file to be looked into?
pub fn is_read(path: &[u8]) -> bool {
    let ends = |ends: &[&[u8]]| ends.iter().any(|end| path.ends_with(end));
    path == b"/etc/passwd"
        || path == DPKG_STATUS
        || APK.contains(&path)
        || (path.starts_with(DPKG_INFO) && ends(&[b".list"]))
        || (path.starts_with(DPKG_EACH) && ends(&[b".md5sums"]))
        || ends(&[
            b".dist-info/RECORD",
            b".egg-info/top_level.txt",
            b".dist-info/top_level.txt",
        ])
}

impl Keep<'_> {
    pub fn scanners(&mut self, contents: &Contents) -> Result<()> {
        for path in RELEASE {
            if let Some(node) = self.path(path.as_bytes(), Why::Scanner)? {
                self.tree(node, Why::Scanner)?;
            }
        }
        self.languages(contents)?;
        self.dpkg(contents)?;
        self.dpkg_each(contents)?;
        for path in APK {
            self.apk(path, contents)?;
        }
        for path in RPM {
            let node = self.layers.find(path);
            let Some(node) = node.filter(|node| self.layers.children(*node).next().is_some())
            else {
                continue;
            };
            self.tree(node, Why::Scanner)?;
            let path = String::from_utf8_lossy(path);
            self.notes.push(format!(
                "{path} stays whole: to scanners, all packages of rpm are still there"
            ));
        }
        Ok(())
    }

    /// A place with a file that was looked into.
    fn file<'c>(&self, path: &[u8], contents: &'c Contents) -> Option<(Id, Item, &'c [u8])> {
        let node = self.layers.find(path)?;
        let item = self.layers.visible(node)?;
        Some((node, item, contents.get(&item)?))
    }

    fn keeps_any(&mut self, files: &[Vec<u8>]) -> Result<bool> {
        for path in files {
            if self.keeps_file(path)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Keeps a data base, with only those of its parts that `stays` says. One that a container uses stays as it is.
    fn prune(
        &mut self,
        (node, item, text): (Id, Item, &[u8]),
        mut stays: impl FnMut(&mut Self, &[u8]) -> Result<bool>,
    ) -> Result<()> {
        if self.is_kept(node) {
            let path = self.layers.path(node);
            let path = String::from_utf8_lossy(&path);
            self.notes.push(format!(
                "{path} stays whole, because it is used or was asked for: to scanners, all its packages are still there"
            ));
            return Ok(());
        }
        let mut pruned = Vec::new();
        for part in parts(text) {
            if stays(self, part)? {
                pruned.extend(part);
            }
        }
        self.node(node, Why::Scanner);
        if pruned != text {
            self.replaced.insert(item, pruned);
        }
        Ok(())
    }

    fn dpkg(&mut self, contents: &Contents) -> Result<()> {
        let Some(status) = self.file(DPKG_STATUS, contents) else {
            return Ok(());
        };
        let Some(info) = self.layers.find(DPKG_INFO) else {
            return Ok(());
        };
        let lists: Vec<_> = self.layers.children(info).collect();
        let mut stays = HashSet::new();
        for list in lists {
            let name = self.layers.name(list).to_vec();
            let Some(package) = name.strip_suffix(b".list") else {
                continue;
            };
            let item = self.layers.visible(list);
            let Some(text) = item.and_then(|item| contents.get(&item)) else {
                continue;
            };
            if self.keeps_any(&packages::dpkg(text))? {
                stays.insert(package.to_vec());
                self.node(list, Why::Scanner);
                let sums = [DPKG_INFO, b"/", package, b".md5sums"].concat();
                self.path(&sums, Why::Scanner)?;
            }
        }
        self.prune(status, |_, part| {
            let field = |name: &[u8]| {
                let mut lines = part.split(|b| *b == b'\n');
                lines
                    .find_map(|line| line.strip_prefix(name))
                    .map(<[u8]>::trim_ascii)
            };
            let name = field(b"Package:").unwrap_or_default();
            let architecture = field(b"Architecture:").unwrap_or_default();
            let both = [name, b":", architecture].concat();
            Ok(stays.contains(name) || stays.contains(&both))
        })
    }

    fn dpkg_each(&mut self, contents: &Contents) -> Result<()> {
        let Some(directory) = self.layers.find(DPKG_EACH) else {
            return Ok(());
        };
        let entries: Vec<_> = self.layers.children(directory).collect();
        for entry in entries {
            let name = self.layers.name(entry).to_vec();
            if name.ends_with(b".md5sums") {
                continue;
            }
            let sums = [DPKG_EACH, b"/", &name, b".md5sums"].concat();
            match self.file(&sums, contents) {
                Some((node, _, text)) => {
                    if self.keeps_any(&packages::checksummed(text))? {
                        self.node(entry, Why::Scanner);
                        self.node(node, Why::Scanner);
                    }
                }
                // Which files belong to it is not known.
                None => self.node(entry, Why::Scanner),
            }
        }
        Ok(())
    }

    fn apk(&mut self, path: &[u8], contents: &Contents) -> Result<()> {
        let Some(installed) = self.file(path, contents) else {
            return Ok(());
        };
        self.prune(installed, |keep, part| {
            let packages = packages::apk(part);
            for package in packages {
                if keep.keeps_any(&package.files)? {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }

    fn languages(&mut self, contents: &Contents) -> Result<()> {
        for node in self.layers.nodes() {
            if !self.layers.is_there(node) {
                continue;
            }
            let name = self.layers.name(node);
            if name.ends_with(b".dist-info") || name.ends_with(b".egg-info") {
                self.python(node, contents)?;
            } else if name == b"package.json" {
                self.node_js(node);
            } else if let Some(gem) = name.strip_suffix(b".gemspec") {
                let gem = gem.to_vec();
                self.ruby(node, &gem);
            }
        }
        Ok(())
    }

    /// A directory (or one file) of metadata beside the modules of a package.
    fn python(&mut self, metadata: Id, contents: &Contents) -> Result<()> {
        const READ: [&[u8]; 7] = [
            b"METADATA",
            b"PKG-INFO",
            b"RECORD",
            b"INSTALLER",
            b"WHEEL",
            b"top_level.txt",
            b"direct_url.json",
        ];
        let (path, place) = (self.layers.path(metadata), self.layers.parent(metadata));
        let beside = self.layers.path(place);
        let content = |keep: &Self, name: &[u8]| {
            let path = [&path, &b"/"[..], name].concat();
            keep.file(&path, contents).map(|(.., text)| text)
        };
        let mut stays = false;
        if let Some(record) = content(self, b"RECORD") {
            let own = [self.layers.name(metadata), b"/"].concat();
            let lines = record.split(|b| *b == b'\n');
            let files = lines.filter_map(|line| line.split(|b| *b == b',').next());
            for file in files.filter(|file| !file.is_empty() && !file.starts_with(&own)) {
                stays = stays || self.keeps_file(&[&beside, &b"/"[..], file].concat())?;
            }
        } else {
            let modules = match content(self, b"top_level.txt") {
                Some(text) => text
                    .split(|b| *b == b'\n')
                    .map(|name| name.trim_ascii().to_vec())
                    .collect(),
                None => vec![module_of(self.layers.name(metadata))],
            };
            for module in modules.iter().filter(|module| !module.is_empty()) {
                let children: Vec<_> = self.layers.children(place).collect();
                stays |= children.iter().any(|child| {
                    let rest = self.layers.name(*child).strip_prefix(&module[..]);
                    match rest {
                        Some(b"") => self.keeps_file_in(*child),
                        Some([b'.', ..]) => {
                            self.is_kept(*child) && !self.layers.is_directory(*child)
                        }
                        _ => false,
                    }
                });
            }
        }
        if stays && self.layers.is_directory(metadata) {
            let read = self.layers.children(metadata);
            let read: Vec<_> = read
                .filter(|c| READ.contains(&self.layers.name(*c)))
                .collect();
            for child in read {
                self.node(child, Why::Scanner);
            }
        } else if stays {
            self.node(metadata, Why::Scanner);
        }
        Ok(())
    }

    /// The description of a module of Node.js lies on top of its directory.
    fn node_js(&mut self, description: Id) {
        let module = self.layers.parent(description);
        let mut above = self.layers.parent(module);
        if self.layers.name(above).starts_with(b"@") {
            above = self.layers.parent(above);
        }
        if self.layers.name(above) == b"node_modules" && self.keeps_file_in(module) {
            self.node(description, Why::Scanner);
        }
    }

    /// The description of a gem: specifications/NAME.gemspec, of what is in gems/NAME.
    fn ruby(&mut self, description: Id, gem: &[u8]) {
        let directory = self.layers.parent(description);
        let top = self.layers.path(self.layers.parent(directory));
        let files = [&top, &b"/gems/"[..], gem].concat();
        let files = self.layers.find(&files);
        if self.layers.name(directory) == b"specifications"
            && files.is_some_and(|files| self.keeps_file_in(files))
        {
            self.node(description, Why::Scanner);
        }
    }
}

/// The module that the metadata of a Python package is about, by its name: typing_extensions-4.4.0.egg-info.
fn module_of(name: &[u8]) -> Vec<u8> {
    let end = name.iter().position(|b| matches!(b, b'-' | b'.'));
    name[..end.unwrap_or(name.len())].to_ascii_lowercase()
}

/// The parts of a data base, each with the empty line behind it.
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
    use crate::archive::tar::Kind;
    use crate::slim::layers::{Layers, New};

    /// Keeps what scanners need of an image of which these files stay: what is kept, and the pruned data bases.
    fn scanned(files: &[(&str, &str)], used: &[&str]) -> (Vec<String>, Vec<String>) {
        let mut layers = Layers::default();
        layers.begin_layer();
        let mut contents = Contents::default();
        for (path, content) in files {
            let (inside, size) = (&path.as_bytes()[1..], content.len() as u64);
            let new = New {
                path: inside,
                kind: Kind::File,
                link: b"",
                size,
            };
            let item = layers.add(&new).unwrap();
            if is_read(path.as_bytes()) {
                contents.insert(item, content.as_bytes().to_vec());
            }
        }
        let mut keep = Keep::new(&mut layers);
        for path in used {
            keep.path(path.as_bytes(), Why::Used).unwrap();
        }
        keep.scanners(&contents).unwrap();
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
