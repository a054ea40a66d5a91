// SPDX-License-Identifier: MIT OR Apache-2.0
//! The names of a container: of its pod, itself and its image, from what container runtimes leave on the node's disk.
//!
//! Of a file only as much is read as its kind has at most, a name is cut where it is too long, and no name becomes part of a path: a
//! container's directory is found by the 64 hexadecimal digits of its id.

use crate::archive::digest::Digest;
use crate::cgroup::{container_id, pod_uid};
use crate::report::schema::PodEntry;
use serde_json::Value;
use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What is known about a container. Each name may be unknown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Identity {
    /// Its name in the pod.
    pub container: Option<String>,
    pub pod: Option<PodEntry>,
    pub image: Option<String>,
    pub digest: Option<Digest>,
    /// It only holds a pod's namespaces, or watches over a container.
    pub is_infrastructure: bool,
}

/// The most bytes of a file with a container's configuration. A seccomp profile in it has 50 KB.
const FILE_MAX: u64 = 4 << 20;

/// The most bytes of a name. Kubernetes allows 253 for a pod, and registries 255 for a repository.
const NAME_MAX: usize = 512;

/// Where runtimes keep the OCI configuration of a container: the directories of all containers, and the file in that of one.
const BUNDLES: [(&str, &str); 6] = [
    (
        "run/containerd/io.containerd.runtime.v2.task/k8s.io",
        "config.json",
    ),
    (
        "run/k3s/containerd/io.containerd.runtime.v2.task/k8s.io",
        "config.json",
    ),
    (
        "run/containers/storage/overlay-containers",
        "userdata/config.json",
    ),
    (
        "var/lib/containers/storage/overlay-containers",
        "userdata/config.json",
    ),
    (
        "run/containerd/io.containerd.runtime.v2.task/default",
        "config.json",
    ),
    ("var/lib/docker/containers", "config.v2.json"),
];

/// Where the kubelet keeps a directory `NAMESPACE_POD_UID` for each pod.
const POD_LOGS: &str = "var/log/pods";

/// The annotations that hold a name: containerd's first, then CRI-O's.
const CONTAINER: [&str; 2] = [
    "io.kubernetes.cri.container-name",
    "io.kubernetes.container.name",
];
const NAMESPACE: [&str; 2] = [
    "io.kubernetes.cri.sandbox-namespace",
    "io.kubernetes.pod.namespace",
];
const POD: [&str; 2] = ["io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"];
const UID: [&str; 2] = ["io.kubernetes.cri.sandbox-uid", "io.kubernetes.pod.uid"];
const IMAGE: [&str; 2] = [
    "io.kubernetes.cri.image-name",
    "io.kubernetes.cri-o.ImageName",
];
const KIND: [&str; 2] = [
    "io.kubernetes.cri.container-type",
    "io.kubernetes.cri-o.ContainerType",
];
/// The annotations that may name the image by its digest.
const REFERENCES: [&str; 4] = [
    "io.kubernetes.cri-o.ImageRepoDigests",
    "io.kubernetes.cri-o.ImageRef",
    IMAGE[0],
    IMAGE[1],
];

/// The node's disk, as far as it is mounted.
pub struct Host {
    root: PathBuf,
}

impl Host {
    pub fn new(root: &Path) -> Host {
        Host { root: root.into() }
    }

    /// Returns the directories from which the names come.
    pub fn directories(&self) -> impl Iterator<Item = PathBuf> {
        let bundles = BUNDLES.iter().map(|(directory, _)| *directory);
        bundles
            .chain([POD_LOGS])
            .map(|directory| self.root.join(directory))
    }

    /// Looks up what is known about the container in the cgroup at this path.
    pub fn look(&self, cgroup: &[u8]) -> Identity {
        let leaf = cgroup.rsplit(|b| *b == b'/').next().unwrap_or_default();
        let mut identity = container_id(leaf)
            .and_then(|id| self.configured(id))
            .unwrap_or_default();
        // Podman and CRI-O start a watcher in a cgroup of its own, which has the container's id too.
        identity.is_infrastructure |= leaf.windows(7).any(|part| part == b"conmon-");
        if identity.pod.is_none() {
            identity.pod = pod_uid(cgroup).and_then(|uid| self.logged(&uid));
        }
        identity
    }

    fn configured(&self, id: &str) -> Option<Identity> {
        BUNDLES.iter().find_map(|(directory, file)| {
            let path = self.root.join(directory).join(id).join(file);
            let config: Value = serde_json::from_slice(&read(&path)?).ok()?;
            Some(match config["annotations"].is_object() {
                true => of_annotations(&config["annotations"]),
                false => of_docker(&config),
            })
        })
    }

    /// Finds the pod's directory of logs.
    fn logged(&self, uid: &str) -> Option<PodEntry> {
        let entries = fs::read_dir(self.root.join(POD_LOGS)).ok()?.flatten();
        let mut names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.find_map(|name| {
            let (pod, found) = name.rsplit_once('_')?;
            let (namespace, name) = pod.split_once('_').filter(|_| found == uid)?;
            Some(PodEntry {
                namespace: namespace.into(),
                name: name.into(),
                uid: uid.into(),
            })
        })
    }
}

/// Reads a small file that is a regular one.
fn read(path: &Path) -> Option<Vec<u8>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .ok()?;
    let metadata = file.metadata().ok()?;
    if !metadata.is_file() || metadata.len() > FILE_MAX {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(FILE_MAX).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Returns a name if it is text that is not empty. A name that is too long is cut.
fn name(value: &Value) -> Option<String> {
    let text = value.as_str().filter(|text| !text.is_empty())?;
    let ends = (0..=NAME_MAX.min(text.len())).rev();
    let mut ends = ends.filter(|end| text.is_char_boundary(*end));
    Some(text[..ends.next()?].to_string())
}

fn of_annotations(annotations: &Value) -> Identity {
    let first = |keys: &[&str]| keys.iter().find_map(|key| name(&annotations[*key]));
    let (namespace, pod) = (first(&NAMESPACE), first(&POD));
    let pod = namespace.zip(pod).map(|(namespace, name)| PodEntry {
        namespace,
        name,
        uid: first(&UID).unwrap_or_default(),
    });
    let references = REFERENCES.iter().filter_map(|key| name(&annotations[*key]));
    Identity {
        container: first(&CONTAINER),
        pod,
        image: first(&IMAGE),
        digest: references.into_iter().find_map(|text| digest_in(&text)),
        is_infrastructure: first(&KIND).is_some_and(|kind| kind == "sandbox"),
    }
}

/// Returns the digest at the end of a reference like `quay.io/app@sha256:…`. There may be several, separated by commas.
fn digest_in(references: &str) -> Option<Digest> {
    let mut references = references.split(',');
    references.find_map(|one| Digest::parse(one.rsplit('@').next()?))
}

/// Reads what Docker writes about a container.
fn of_docker(config: &Value) -> Identity {
    Identity {
        container: name(&config["Name"]).map(|name| name.trim_start_matches('/').into()),
        image: name(&config["Config"]["Image"]),
        ..Identity::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    const UID: &str = "11b2c3d4-0000-1111-2222-333344445555";

    fn id() -> String {
        "0123456789abcdef".repeat(4)
    }

    fn hex() -> String {
        "ab".repeat(32)
    }

    /// A node on which one file was written about the container.
    fn node(directory: &str, file: &str, content: &[u8]) -> (TempDir, Host) {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(directory).join(id()).join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        let host = Host::new(root.path());
        (root, host)
    }

    fn cgroup() -> Vec<u8> {
        let uid = UID.replace('-', "_");
        let id = id();
        format!("/kubepods.slice/kubepods-pod{uid}.slice/cri-containerd-{id}.scope").into()
    }

    fn web(digest: Option<&str>) -> Identity {
        Identity {
            container: Some("web".into()),
            pod: Some(PodEntry {
                namespace: "shop".into(),
                name: "web-0".into(),
                uid: UID.into(),
            }),
            image: Some("docker.io/library/nginx:1.27".into()),
            digest: digest.map(|hex| Digest::from_hex(hex).unwrap()),
            is_infrastructure: false,
        }
    }

    #[test]
    fn containerd_and_k3s_annotate_the_configuration() {
        let config = json!({"ociVersion": "1.2.0", "annotations": {
            "io.kubernetes.cri.container-name": "web",
            "io.kubernetes.cri.container-type": "container",
            "io.kubernetes.cri.image-name": "docker.io/library/nginx:1.27",
            "io.kubernetes.cri.sandbox-name": "web-0",
            "io.kubernetes.cri.sandbox-namespace": "shop",
            "io.kubernetes.cri.sandbox-uid": UID,
        }});
        for (directory, file) in &BUNDLES[..2] {
            let (_root, host) = node(directory, file, config.to_string().as_bytes());
            assert_eq!(host.look(&cgroup()), web(None));
        }
    }

    #[test]
    fn cri_o_annotates_the_digest_too() {
        let mut config = json!({"annotations": {
            "io.kubernetes.container.name": "web",
            "io.kubernetes.cri-o.ContainerType": "container",
            "io.kubernetes.cri-o.ImageName": "docker.io/library/nginx:1.27",
            "io.kubernetes.cri-o.ImageRef": hex(),
            "io.kubernetes.cri-o.ImageRepoDigests": format!("docker.io/library/nginx@sha256:{}", hex()),
            "io.kubernetes.pod.name": "web-0",
            "io.kubernetes.pod.namespace": "shop",
            "io.kubernetes.pod.uid": UID,
        }});
        let (directory, file) = BUNDLES[2];
        let (_root, host) = node(directory, file, config.to_string().as_bytes());
        assert_eq!(host.look(&cgroup()), web(Some(&hex())));
        config["annotations"]["io.kubernetes.cri-o.ContainerType"] = json!("sandbox");
        let (_root, host) = node(directory, file, config.to_string().as_bytes());
        assert!(host.look(&cgroup()).is_infrastructure);
    }

    #[test]
    fn docker_knows_no_pods() {
        let config =
            json!({"Name": "/web", "Config": {"Image": "nginx:1.27"}, "Image": "sha256:12"});
        let (directory, file) = BUNDLES[5];
        let (_root, host) = node(directory, file, config.to_string().as_bytes());
        let found = host.look(format!("/system.slice/docker-{}.scope", id()).as_bytes());
        assert_eq!(found.container.as_deref(), Some("web"));
        assert_eq!(found.image.as_deref(), Some("nginx:1.27"));
        assert_eq!((found.pod, found.digest), (None, None));
    }

    #[test]
    fn the_logs_name_the_pod_if_nothing_else_does() {
        let root = tempfile::tempdir().unwrap();
        let logs = root.path().join(POD_LOGS);
        for pod in ["kube-system_dns_0", &format!("shop_web-0_{UID}"), "x"] {
            fs::create_dir_all(logs.join(pod)).unwrap();
        }
        let found = Host::new(root.path()).look(&cgroup());
        let expected = Identity {
            pod: web(None).pod,
            ..Identity::default()
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn without_mounts_nothing_is_known() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path());
        assert_eq!(host.look(&cgroup()), Identity::default());
        let conmon = format!("/machine.slice/libpod-conmon-{}.scope", id());
        assert!(host.look(conmon.as_bytes()).is_infrastructure);
    }

    /// What is no name, too large or no regular file is not taken; a name that is too long is cut.
    #[test]
    fn hostile_files_are_bounded() {
        let (directory, file) = BUNDLES[0];
        let long = json!({"annotations": {
            "io.kubernetes.cri.container-name": "\u{e9}".repeat(1 << 20),
            "io.kubernetes.cri.image-name": {"a": [1, 2]},
            "io.kubernetes.cri.sandbox-name": 7,
        }});
        let (_root, host) = node(directory, file, long.to_string().as_bytes());
        let found = host.look(&cgroup());
        assert_eq!(found.container.unwrap().len(), NAME_MAX);
        assert_eq!((found.image, found.pod), (None, None));

        let (_root, host) = node(directory, file, &vec![b' '; FILE_MAX as usize + 1]);
        assert_eq!(host.look(&cgroup()), Identity::default());
        let (root, host) = node(directory, "other", b"{\"annotations\": {}}");
        let bundle = root.path().join(directory).join(id());
        symlink(bundle.join("other"), bundle.join(file)).unwrap();
        assert_eq!(host.look(&cgroup()), Identity::default());
    }

    proptest! {
        #[test]
        fn any_cgroup_and_any_file_can_be_looked_at(cgroup: Vec<u8>, content: Vec<u8>) {
            let (directory, file) = BUNDLES[0];
            let (_root, host) = node(directory, file, &content);
            host.look(&cgroup);
            host.look(&self::cgroup());
        }
    }
}
