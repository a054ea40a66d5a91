// SPDX-License-Identifier: MIT OR Apache-2.0
//! Images made layer by layer, and what `snoop slim` makes of them.

use super::snoop;
use serde_json::{Value, json};
use snoop::archive::digest::Digest;
use snoop::archive::tar::{self, Kind, Reader, entry};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// An entry of a layer: `dir/`, `file: content`, `link -> target`, `name = other name`.
pub fn layer(entries: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for text in entries {
        let mut content = "";
        let headers = if let Some((path, link)) = text.split_once(" -> ") {
            entry(path.as_bytes(), Kind::Symlink, link.as_bytes(), 0)
        } else if let Some((path, link)) = text.split_once(" = ") {
            entry(path.as_bytes(), Kind::HardLink, link.as_bytes(), 0)
        } else if text.ends_with('/') {
            entry(text.as_bytes(), Kind::Directory, b"", 0)
        } else {
            let (path, file) = text.split_once(": ").unwrap_or((text, ""));
            content = file;
            entry(path.as_bytes(), Kind::File, b"", content.len() as u64)
        };
        add(&mut bytes, &headers, content.as_bytes());
    }
    bytes.extend(tar::END);
    bytes
}

fn add(archive: &mut Vec<u8>, headers: &[u8], content: &[u8]) {
    archive.extend(headers);
    archive.extend(content);
    archive.resize(
        archive.len() + tar::padding(content.len() as u64) as usize,
        0,
    );
}

pub fn archive(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, content) in members {
        let headers = entry(name.as_bytes(), Kind::File, b"", content.len() as u64);
        add(&mut bytes, &headers, content);
    }
    bytes.extend(tar::END);
    bytes
}

/// Standard output of a program that reads these bytes; the bytes where there is no program.
pub fn through(program: &[&str], bytes: &[u8]) -> Vec<u8> {
    let Some((name, arguments)) = program.split_first() else {
        return bytes.into();
    };
    let mut child = Command::new(name)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(bytes).unwrap());
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success());
    output.stdout
}

/// The members of an archive that holds files only.
pub fn members(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let (mut reader, mut members) = (Reader::new(archive), BTreeMap::new());
    while let Some(entry) = reader.next_entry().unwrap() {
        let mut content = Vec::new();
        reader.read_to_end(&mut content).unwrap();
        members.insert(String::from_utf8(entry.path).unwrap(), content);
    }
    members
}

/// The layers of a small image by its manifest.json, which have to be those of its index.json, and its configuration.
pub fn layers_of(image: &[u8]) -> (Vec<Vec<u8>>, Value) {
    let members = members(image);
    let json = |name: &str| -> Value { serde_json::from_slice(&members[name]).unwrap() };
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap();
        let name = digest.replace("sha256:", "blobs/sha256/");
        assert_eq!(Digest::of(&members[&name]).to_string(), digest);
        assert_eq!(members[&name].len() as u64, descriptor["size"]);
        name
    };
    let saved = json("manifest.json")[0].clone();
    let manifest = json(&blob(&json("index.json")["manifests"][0]));
    assert_eq!(saved["Config"], blob(&manifest["config"]));
    let names: Vec<_> = manifest["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(blob)
        .collect();
    assert_eq!(saved["Layers"], json!(names));
    let layers = names.iter().map(|name| members[name].clone()).collect();
    (layers, json(saved["Config"].as_str().unwrap()))
}

pub struct Work(pub TempDir);

impl Work {
    pub fn new() -> Work {
        Work(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn report(&self, files: &[&str]) -> PathBuf {
        let report = json!({"schema": 1, "files": files, "complete": true, "missing": {}});
        self.write("report.json", report.to_string().as_bytes())
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Runs `snoop slim`, with -o out.tar.
    pub fn slim(&self, words: &[&str]) -> Output {
        let out = self.path("out.tar");
        let mut command = snoop();
        command.arg("slim").arg("-o").arg(out).args(words);
        command.current_dir(self.0.path()).output().unwrap()
    }

    /// The small image, and what was printed as JSON.
    pub fn made(&self, words: &[&str]) -> (Vec<u8>, Value) {
        let output = self.slim(&[&["-json"], words].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let printed = serde_json::from_slice(&output.stdout).unwrap();
        (fs::read(self.path("out.tar")).unwrap(), printed)
    }
}

/// Runs a program that has to succeed; returns what it printed.
pub fn run(words: &[&str]) -> String {
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// An archive of a directory, as tar writes it.
pub fn tar_of(directory: &Path, out: &Path) {
    run(&[
        "tar",
        "--xattrs",
        "--xattrs-include=*",
        "--sort=name",
        "-S",
        "-C",
        directory.to_str().unwrap(),
        "-cf",
        out.to_str().unwrap(),
        ".",
    ]);
}

/// Builds `docker save`'s archive of layers that are files.
pub fn save(out: &Path, layers: &[&Path], config: Value) {
    let digests: Vec<_> = layers
        .iter()
        .map(|layer| run(&["sha256sum", layer.to_str().unwrap()])[..64].to_string())
        .collect();
    let mut config = config;
    let ids: Vec<_> = digests
        .iter()
        .map(|digest| format!("sha256:{digest}"))
        .collect();
    config["rootfs"] = json!({"type": "layers", "diff_ids": ids});
    let config = config.to_string().into_bytes();
    let name = format!("{}.json", Digest::of(&config).hex());
    let names: Vec<_> = digests
        .iter()
        .map(|digest| format!("{digest}.tar"))
        .collect();
    let manifest = json!([{"Config": name, "RepoTags": ["localhost/app:1"], "Layers": names}]);
    let mut file = File::create(out).unwrap();
    for (name, layer) in names.iter().zip(layers) {
        let size = fs::metadata(layer).unwrap().len();
        file.write_all(&entry(name.as_bytes(), Kind::File, b"", size))
            .unwrap();
        std::io::copy(&mut File::open(layer).unwrap(), &mut file).unwrap();
        file.write_all(&vec![0; tar::padding(size) as usize])
            .unwrap();
    }
    let rest = [
        (name, config),
        ("manifest.json".into(), manifest.to_string().into_bytes()),
    ];
    file.write_all(&archive(&rest)).unwrap();
}
