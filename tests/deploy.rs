// SPDX-License-Identifier: MIT OR Apache-2.0
//! The manifests in deploy/ by themselves: what kustomize, Helm, the admission policy, Prometheus and Grafana's types make of
//! them. tests/pods.rs and tests/engines.rs run them.

mod common;

use common::manifests::*;
use serde_json::{Value, json};
use snoop::metrics::METRICS;
use std::fs;
use std::path::{Path, PathBuf};

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

/// Every metric that a text of PromQL names is one of snoop's.
fn assert_metrics_exist(text: &str) {
    let names = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let mut names: Vec<_> = names
        .filter(|name| name.starts_with("snoop_") || name.starts_with("process_"))
        .collect();
    names.dedup();
    assert!(!names.is_empty(), "{text}");
    for name in names {
        assert!(METRICS.iter().any(|metric| metric.name == name), "{name}");
    }
}

#[test]
fn the_node_requests_no_more_than_two_capabilities() {
    let documents = kustomized(&top("deploy/node"), API);
    let spec = &of_kind(&documents, "DaemonSet")["spec"]["template"]["spec"];
    let (sidecar, _) = sidecar();
    let container = &spec["containers"][0];
    for key in [
        "image",
        "securityContext",
        "ports",
        "startupProbe",
        "livenessProbe",
    ] {
        assert_eq!(container[key], sidecar[key], "{key}");
    }
    for key in ["hostPID", "hostNetwork", "hostIPC"] {
        assert!(spec.get(key).is_none(), "{key}");
    }
    let mounts = container["volumeMounts"].as_array().unwrap();
    let writable: Vec<_> = mounts
        .iter()
        .filter(|mount| mount["readOnly"] != true)
        .collect();
    assert_eq!(
        writable,
        [&json!({"name": "reports", "mountPath": "/data"})]
    );
    // What is below /host has the path that it has on the node.
    for mount in mounts.iter().filter(|mount| mount["readOnly"] == true) {
        let mut volumes = spec["volumes"].as_array().unwrap().iter();
        let volume = volumes
            .find(|volume| volume["name"] == mount["name"])
            .unwrap();
        let path = volume["hostPath"]["path"].as_str().unwrap();
        assert_eq!(mount["mountPath"], format!("/host{path}"));
        assert!(!path.ends_with(".sock"));
    }
    let selected = &spec["containers"][0]["ports"][0]["name"];
    let monitor = &of_kind(&documents, "PodMonitor")["spec"];
    assert_eq!(&monitor["podMetricsEndpoints"][0]["port"], selected);
    let labels = &of_kind(&documents, "DaemonSet")["spec"]["template"]["metadata"]["labels"];
    let policy = &of_kind(&documents, "NetworkPolicy")["spec"];
    assert_eq!(&monitor["selector"]["matchLabels"], labels);
    assert_eq!(&policy["podSelector"]["matchLabels"], labels);
}

/// Prometheus accepts the alerts, and they fire when they should.
#[test]
fn prometheus_accepts_the_alerts() {
    let documents = manifests("node/prometheusrule.yaml");
    let spec = &of_kind(&documents, "PrometheusRule")["spec"];
    assert_metrics_exist(&spec.to_string());
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, value: &Value| {
        let path = directory.path().join(name);
        fs::write(&path, value.to_string()).unwrap();
        path.to_str().unwrap().to_string()
    };
    let rules = write("rules.json", spec);
    output("promtool", &["check", "rules", &rules]);
    let series = |name: &str, values: &str| json!({"series": format!("{name}{{job='snoop-system/snoop-node'}}"), "values": values});
    // The alerts that fire after this time, if the counters of faults grow by this many a minute.
    let case = |growth: u8, up: u8, time: &str, alerts: &[&str]| {
        let counted = format!("0+{growth}x1600");
        let fired = alerts
            .iter()
            .map(|name| json!({"labels": format!("{{alertname='{name}'}}"), "value": 1}));
        json!({
            "interval": "1m",
            "input_series": [
                series("up", &format!("{up}x1600")),
                series("snoop_events_dropped_total", &counted),
                series("snoop_events_evicted_total", &counted),
                series("snoop_report_write_errors_total", &counted),
                series("snoop_last_new_file_timestamp_seconds", "60x1600"),
            ],
            "promql_expr_test": [{
                "expr": "count by (alertname) (ALERTS{alertstate='firing'})",
                "eval_time": time,
                "exp_samples": fired.collect::<Vec<_>>(),
            }],
        })
    };
    let faults = [
        "SnoopCannotWriteReports",
        "SnoopEvictsFiles",
        "SnoopIsDown",
        "SnoopLosesAccesses",
    ];
    let cases = [
        case(0, 1, "1h", &[]),
        case(0, 1, "25h", &["SnoopReportsSettled"]),
        case(1, 0, "1h", &faults),
    ];
    let tests = write(
        "tests.json",
        &json!({"rule_files": [rules], "evaluation_interval": "1m", "tests": cases}),
    );
    output("promtool", &["test", "rules", &tests]);
}

#[test]
fn grafanas_types_accept_the_dashboard() {
    let text = fs::read(top("deploy/node/dashboard.json")).unwrap();
    python("dashboard.py", &[], &text);
    let dashboard: Value = serde_json::from_slice(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    for target in panels.flat_map(|panel| panel["targets"].as_array().unwrap()) {
        assert_metrics_exist(target["expr"].as_str().unwrap());
    }
}

/// Renders a chart.
fn chart(directory: &Path, flags: &[&str]) -> Vec<Value> {
    let mut words = vec![
        "template",
        "snoop",
        directory.to_str().unwrap(),
        "--namespace",
        "snoop-system",
    ];
    words.extend(flags);
    validated(&output(&tool("helm"), &words), API)
}

#[test]
fn the_chart_gives_what_kustomize_gives() {
    let directory = top("deploy/chart");
    output(
        &tool("helm"),
        &["lint", "--strict", directory.to_str().unwrap()],
    );
    let made = chart(
        &directory,
        &["--set", "node.monitoring=true,node.dashboard=true"],
    );
    for document in kustomized(&top("deploy/node"), API) {
        assert_eq!(
            of_kind(&made, document["kind"].as_str().unwrap()),
            &document
        );
    }
    let dashboard = &of_kind(&made, "ConfigMap")["data"]["snoop.json"];
    assert_eq!(
        dashboard.as_str().unwrap(),
        fs::read_to_string(top("deploy/node/dashboard.json")).unwrap()
    );

    let settings = "image=registry.example/snoop:2,seLinuxOptions.type=spc_t,node.args={node,-images=nginx*},node.nodeSelector.disk=fast";
    let made = chart(&directory, &["--set", settings]);
    let spec = &of_kind(&made, "DaemonSet")["spec"]["template"]["spec"];
    let container = &spec["containers"][0];
    assert_eq!(container["image"], "registry.example/snoop:2");
    assert_eq!(container["args"], json!(["node", "-images=nginx*"]));
    assert_eq!(
        container["securityContext"]["seLinuxOptions"],
        json!({"type": "spc_t"})
    );
    assert_eq!(spec["nodeSelector"], json!({"disk": "fast"}));
    assert!(made.iter().all(|document| document["kind"] != "PodMonitor"));
}

/// A chart that has this one as a dependency gets the sidecar of the component.
#[test]
fn the_charts_template_adds_the_sidecar() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write(
        "Chart.yaml",
        "{apiVersion: v2, name: web, version: 1.0.0, dependencies: [{name: snoop, version: 0.1.0}]}",
    );
    write(
        "values.yaml",
        "snoop: {image: 'registry.example/snoop:2', node: {enabled: false}}",
    );
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers: [{name: web, image: web}]\n";
    let readme = include_str!("../deploy/kubernetes/README.md");
    let lines = readme.lines().skip_while(|line| *line != "initContainers:");
    let lines: Vec<_> = lines
        .take_while(|line| *line != "```")
        .map(|line| format!("  {line}\n"))
        .collect();
    write(
        "templates/pod.yaml",
        &(pod.to_string() + &lines.concat().replace("nindent 2", "nindent 4")),
    );
    fs::create_dir(directory.path().join("charts")).unwrap();
    std::os::unix::fs::symlink(top("deploy/chart"), directory.path().join("charts/snoop")).unwrap();
    let made = chart(directory.path(), &[]);
    let spec = &of_kind(&made, "Pod")["spec"];
    let (mut container, volume) = sidecar();
    container["image"] = "registry.example/snoop:2".into();
    assert_eq!(spec["initContainers"], json!([container]));
    assert_eq!(spec["volumes"], json!([volume]));
    assert_eq!(made.len(), 1);
}
