# SPDX-License-Identifier: MIT OR Apache-2.0
"""Checks a document on standard input by the rules of the program that reads its format, which the argument names. Prints what is wrong.

in-toto statements are checked by the library of those who define them. The other formats have no schema to download, so the types of
their readers stand here: mint's container report, and the ApplicationProfile of Kubescape's storage."""

import json
import re
import sys

TEXT, NUMBER, FLAG = str, int, bool
MINT = {
    "document": TEXT,
    "version": TEXT,
    "image": {
        "files": [
            {
                "file_type": TEXT,
                "file_path": TEXT,
                "mode": TEXT,
                "link_ref": TEXT,
                "flags": {"R": FLAG, "W": FLAG, "X": FLAG},
                "file_size": NUMBER,
                "uid": NUMBER,
                "gid": NUMBER,
            }
        ]
    },
}
KUBESCAPE = {
    "apiVersion": TEXT,
    "kind": TEXT,
    "metadata": {"name": TEXT, "namespace": TEXT},
    "spec": {
        "containers": [
            {
                "name": TEXT,
                "execs": [{"path": TEXT, "args": [TEXT], "envs": [TEXT]}],
                "opens": [{"path": TEXT, "flags": [TEXT]}],
            }
        ]
    },
}


def compare(value, kind, where):
    """Prints where a value is not of a kind. Each member of an object has to be known."""
    if isinstance(kind, dict):
        if not isinstance(value, dict):
            print(where, "is no object")
            return
        for name, member in value.items():
            if name not in kind:
                print(where, "has an unknown", name)
            else:
                compare(member, kind[name], f"{where}.{name}")
    elif isinstance(kind, list):
        if not isinstance(value, list):
            print(where, "is no list")
            return
        for at, element in enumerate(value):
            compare(element, kind[0], f"{where}[{at}]")
    elif type(value) is not kind:
        print(where, "is", value)


def mint(document):
    compare(document, MINT, "report")
    if document["document"] != "doc.report.container":
        print("this is no container report")
    for file in document["image"]["files"]:
        if not file["file_path"].startswith("/") or "\0" in file["file_path"]:
            print(file["file_path"], "is no path")
        if file.get("file_type", "file") not in ("file", "dir", "symlink", "unknown"):
            print(file["file_path"], "is a", file["file_type"])


def kubescape(document):
    compare(document, KUBESCAPE, "profile")
    if document["apiVersion"] != "spdx.softwarecomposition.kubescape.io/v1beta1":
        print(document["apiVersion"])
    if document["kind"] != "ApplicationProfile":
        print(document["kind"])
    names = [container["name"] for container in document["spec"]["containers"]]
    for name in [document["metadata"]["name"], *names]:
        if not re.fullmatch("[a-z0-9]([-a-z0-9.]*[a-z0-9])?", name):
            print(name, "is no name for Kubernetes")
    for container in document["spec"]["containers"]:
        for use in container["opens"]:
            if not use["flags"] or not set(use["flags"]) <= {"O_RDONLY", "O_WRONLY", "O_RDWR"}:
                print(use)


def intoto(document):
    from google.protobuf import json_format
    from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
    from in_toto_attestation.v1.resource_descriptor_pb2 import ResourceDescriptor as Descriptor
    from in_toto_attestation.v1.statement import Statement
    from in_toto_attestation.v1.statement_pb2 import Statement as Message

    Statement.copy_from_pb(json_format.ParseDict(document, Message())).validate()
    predicate = document["predicate"]
    uri = re.compile(r"[a-z][a-z0-9+.-]*:\S+")
    process = predicate["monitoredProcess"]
    for value in (predicate["monitor"]["type"], process["hostID"], process["type"]):
        if not uri.fullmatch(value):
            print(value, "is no URI")
    if not process["event"]:
        print("the event has no name")
    for access in predicate["monitorLog"]["fileAccess"]:
        ResourceDescriptor.copy_from_pb(json_format.ParseDict(access, Descriptor())).validate()
        if not re.fullmatch(r"file:///[A-Za-z0-9/._~%-]*", access["uri"]):
            print(access["uri"], "is no URI")


{"creport": mint, "kubescape": kubescape, "intoto": intoto}[sys.argv[1]](json.load(sys.stdin))
