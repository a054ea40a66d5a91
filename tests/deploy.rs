// SPDX-License-Identifier: MIT OR Apache-2.0
//! The manifests in deploy/ by themselves: what kustomize and the admission policy make of them. tests/pods.rs and tests/engines.rs run them.

mod common;

use common::manifests::*;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;

/// The files that are applied as they are.
const FILES: [&str; 4] = [
    "podman.yaml",
    "kubernetes/rbac.yaml",
    "kubernetes/kyverno-exception.yaml",
    "kubernetes/openshift.yaml",
];

/// The directories of examples, which have the names of the files that are made from them.
fn examples() -> Vec<PathBuf> {
    let entries = fs::read_dir(top("deploy/kubernetes/examples")).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 6, "{paths:?}");
    paths
}

/// The sidecar's entry in the list of init containers, and its volume, as the component adds them.
fn sidecar() -> (Value, Value) {
    let documents = manifests("kubernetes/deployment.yaml");
    let spec = &of_kind(&documents, "Deployment")["spec"]["template"]["spec"];
    let (container, volume) = (&spec["initContainers"][0], &spec["volumes"][0]);
    assert!(container["args"].is_array() && volume.is_object());
    (container.clone(), volume.clone())
}

#[test]
fn the_examples_are_what_the_component_makes() {
    for directory in examples() {
        let rendered = rendered(&directory);
        let name = directory.file_name().unwrap().to_str().unwrap();
        let file =
            fs::read_to_string(top("deploy/kubernetes").join(format!("{name}.yaml"))).unwrap();
        let (header, file) = file.split_once('\n').unwrap();
        assert!(
            header.starts_with("# Written by make manifests"),
            "{header}"
        );
        assert_eq!(rendered, file, "{name}: make manifests writes it again");
    }
}

#[test]
fn manifests_are_valid_and_request_few_privileges() {
    let mut text: Vec<_> = FILES
        .iter()
        .map(|name| fs::read_to_string(top("deploy").join(name)).unwrap())
        .collect();
    text.extend(examples().iter().map(|path| rendered(path)));
    text.push(rendered(&top("deploy/kubernetes")));
    let mut all = validated(text.join("---\n").as_bytes(), API);
    all.extend(kustomized(&top("deploy/kubernetes/injection"), "1.36"));
    all.retain(|document| document["kind"] != "SecurityContextConstraints");
    for document in all {
        let text = document.to_string();
        for word in [
            "hostPath",
            "hostPID",
            "hostNetwork",
            "SYS_ADMIN",
            "Role",
            "/sys/fs/cgroup",
            "debugfs",
        ] {
            assert!(!text.contains(word), "{word}: {document:#}");
        }
    }
}

/// A workload of another kind, with an init container and a volume of its own.
const WORKLOAD: &str = "
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      initContainers: [{name: migrate, image: migrate}]
      containers: [{name: db, image: db}]
      volumes: [{name: db, emptyDir: {}}]
";

/// Renders WORKLOAD with these components of deploy/kubernetes.
fn with_components(components: &[&str]) -> Value {
    let directory = tempfile::tempdir_in(top("target")).unwrap();
    let components = components.iter();
    let components: Vec<_> = components
        .map(|name| format!("../../deploy/kubernetes/{name}"))
        .collect();
    let kustomization = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["app.yaml"],
        "components": components,
        "images": [{"name": "snoop", "newName": "registry.example/snoop", "newTag": "2"}],
    });
    fs::write(directory.path().join("app.yaml"), WORKLOAD).unwrap();
    let path = directory.path().join("kustomization.yaml");
    fs::write(path, kustomization.to_string()).unwrap();
    let documents = kustomized(directory.path(), API);
    of_kind(&documents, "StatefulSet")["spec"]["template"]["spec"].clone()
}

#[test]
fn the_component_adds_the_sidecar_first() {
    let (mut expected, volume) = sidecar();
    expected["image"] = "registry.example/snoop:2".into();
    let spec = with_components(&["sidecar"]);
    let migrate = json!({"name": "migrate", "image": "migrate"});
    assert_eq!(spec["initContainers"], json!([expected, migrate]));
    assert_eq!(spec["containers"].as_array().unwrap().len(), 1);
    let volumes = spec["volumes"].as_array().unwrap();
    assert!(volumes.contains(&volume) && volumes.len() == 2);

    let spec = with_components(&["sidecar", "selinux"]);
    expected["securityContext"]["seLinuxOptions"] = json!({"type": "spc_t"});
    assert_eq!(spec["initContainers"][0], expected);

    let spec = with_components(&["sidecar", "older"]);
    assert_eq!(spec["initContainers"], json!([migrate]));
    assert_eq!(spec["containers"][0]["name"], "snoop");
    assert!(spec["containers"][0].get("restartPolicy").is_none());
    assert!(spec["containers"][0].get("startupProbe").is_none());
}

/// The policy's expressions, evaluated by an implementation of CEL that is not the API server's.
#[test]
fn the_policy_injects_the_sidecar() {
    let documents = kustomized(&top("deploy/kubernetes/injection"), "1.36");
    let policy = of_kind(&documents, "MutatingAdmissionPolicy");
    let template = of_kind(&documents, "PodTemplate");
    let binding = of_kind(&documents, "MutatingAdmissionPolicyBinding");
    assert_eq!(binding["spec"]["policyName"], policy["metadata"]["name"]);
    for key in ["name", "namespace"] {
        assert_eq!(binding["spec"]["paramRef"][key], template["metadata"][key]);
    }
    let (container, volume) = sidecar();
    let app = json!([{"name": "app", "image": "app"}]);
    let pods = [
        json!({"spec": {"containers": app}}),
        json!({"spec": {"containers": app, "initContainers": [{"name": "first"}], "volumes": [{"name": "mine"}]}}),
        json!({"spec": {"containers": app, "initContainers": [{"name": "snoop"}]}}),
    ];
    let mut input = vec![policy.clone(), template.clone()];
    input.extend(pods);
    let made = python("admission.py", &[], json!(input).to_string().as_bytes());
    let made: Value = serde_json::from_slice(&made).unwrap();
    assert_eq!(
        made,
        json!([
            {"spec": {"containers": app, "initContainers": [container], "volumes": [volume]}},
            {"spec": {
                "containers": app,
                "initContainers": [container, {"name": "first"}],
                "volumes": [{"name": "mine"}, volume],
            }},
            null,
        ])
    );
}
