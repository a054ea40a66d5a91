// SPDX-License-Identifier: MIT OR Apache-2.0
//! An in-toto statement about a runtime trace: <https://in-toto.io/attestation/runtime-trace/v0.1>.

use crate::archive::digest::{Digest, Hashing};
use crate::error::{Error, Result, cannot};
use crate::export::{Used, in_order, is_utf8, retain};
use crate::image::{Image, View};
use crate::report::schema::field;
use crate::reports::several::Several;
use serde_json::{Value, json};
use std::fs::File;
use std::io;

pub fn text(several: &Several, root: Option<&mut Image>) -> Result<Vec<u8>> {
    let first = |key: &str| several.heads.iter().find_map(|head| head[key].as_str());
    let times = |key: &str| {
        let times = several.heads.iter().map(|head| head[key].as_str());
        times.collect::<Option<Vec<_>>>().unwrap_or_default()
    };
    let (image, digest) = (
        first(field::IMAGE).unwrap_or("image"),
        first(field::IMAGE_DIGEST),
    );
    // With a name in front, as Kubernetes writes it.
    let digest = digest.and_then(|text| Digest::parse(text.rsplit('@').next()?));
    let digest = digest.ok_or_else(|| {
        Error::failed("the statement is about an image, and no report has an image_digest; trace with -image-digest")
    })?;
    let accesses = accesses(several, root)?;
    let (kind, event) = process(several);
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": image, "digest": {"sha256": digest.hex()}}],
        "predicateType": "https://in-toto.io/attestation/runtime-trace/v0.1",
        "predicate": {
            "monitor": {"type": concat!("pkg:generic/snoop@", env!("CARGO_PKG_VERSION"))},
            "monitoredProcess": {
                "hostID": format!("dns:{}", first(field::NODE_NAME).unwrap_or("localhost")),
                "type": kind,
                "event": event,
            },
            "monitorLog": {"fileAccess": accesses},
            "metadata": {
                "buildStartedOn": times(field::STARTED_AT).iter().min(),
                "buildFinishedOn": times(field::LAST_UPDATED_AT).iter().max(),
            },
        },
    });
    Ok(format!("{statement:#}\n").into_bytes())
}

/// Returns the descriptors of all files.
fn accesses(several: &Several, mut root: Option<&mut Image>) -> Result<Vec<Value>> {
    let mut files = in_order(several);
    retain(&mut files, is_utf8);
    let accesses = files.iter().map(|file| {
        let digest = match &mut root {
            Some(root) => digest(root, &file.path)?,
            None => None,
        };
        Ok(access(file, digest))
    });
    accesses.collect()
}

/// Returns the type of what was traced, and its names.
fn process(several: &Several) -> (&'static str, String) {
    let pods = several.heads.iter().filter_map(|head| {
        let name = head[field::POD_NAME].as_str()?;
        let parts = [
            head[field::NAMESPACE].as_str(),
            Some(name),
            head[field::POD_UID].as_str(),
        ];
        Some(parts.into_iter().flatten().collect::<Vec<_>>().join("/"))
    });
    let pods: Vec<_> = pods.collect();
    if pods.is_empty() {
        let names = several.groups.iter().map(|group| group.name.as_str());
        let cgroups = "https://docs.kernel.org/admin-guide/cgroup-v2.html";
        return (cgroups, names.collect::<Vec<_>>().join(" "));
    }
    let kubernetes = "https://kubernetes.io/docs/concepts/workloads/pods/";
    (kubernetes, pods.join(" "))
}

/// Returns the descriptor of a file. It needs a digest or a URI.
fn access(file: &Used, digest: Option<Digest>) -> Value {
    let path = String::from_utf8_lossy(&file.path);
    let mut access = json!({"name": path, "uri": format!("file://{}", escaped(&file.path))});
    if let Some(digest) = digest {
        access["digest"] = json!({"sha256": digest.hex()});
    }
    let kinds: String = file.kinds.letters().collect();
    if !kinds.is_empty() {
        access["annotations"] = json!({"kinds": kinds});
    }
    access
}

/// Returns a path as it stands in a URI.
fn escaped(path: &[u8]) -> String {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~".contains(&b);
    let escape = |b: &u8| match is_plain(*b) {
        true => char::from(*b).to_string(),
        false => format!("%{b:02X}"),
    };
    path.iter().map(escape).collect()
}

/// Returns the digest of what the image has at a path, if that is a file.
fn digest(image: &mut Image, path: &[u8]) -> Result<Option<Digest>> {
    let Some(target) = image.target(path)? else {
        return Ok(None);
    };
    let outside = image.outside(&target);
    let read = |e| cannot(&format!("read {}", outside.display()), e);
    if !outside.symlink_metadata().map_err(read)?.is_file() {
        return Ok(None);
    }
    let mut content = Hashing::new(File::open(&outside).map_err(read)?);
    io::copy(&mut content, &mut io::sink()).map_err(read)?;
    Ok(Some(content.digest()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_in_uris() {
        assert_eq!(escaped(b"/a-b.c_d~e/f"), "/a-b.c_d~e/f");
        assert_eq!(escaped("/a b%?#:é".as_bytes()), "/a%20b%25%3F%23%3A%C3%A9");
    }
}
