# SPDX-License-Identifier: MIT OR Apache-2.0
"""Validates the manifests on standard input against the schemas of the Kubernetes API, whose version is the argument, and of
custom resources, and prints them as a JSON list."""

import importlib
import json
import sys

import kubernetes_validate
import yaml

# Models that are made from the custom resources' definitions.
MODELS = {
    "kyverno.io/v2": "cloudcoil.models.kyverno.v2",
    "monitoring.coreos.com/v1": "cloudcoil.models.prometheus_operator.v1",
}
# No package has a schema of OpenShift's. These are the fields of its definition.
SCC_REQUIRED = {
    "allowHostDirVolumePlugin", "allowHostIPC", "allowHostNetwork", "allowHostPID", "allowHostPorts",
    "allowPrivilegedContainer", "allowedCapabilities", "defaultAddCapabilities", "priority", "readOnlyRootFilesystem",
    "requiredDropCapabilities", "volumes",
}  # fmt: skip
SCC_OPTIONAL = {
    "allowPrivilegeEscalation", "allowedFlexVolumes", "allowedUnsafeSysctls", "apiVersion",
    "defaultAllowPrivilegeEscalation", "forbiddenSysctls", "fsGroup", "groups", "kind", "metadata", "runAsUser",
    "seLinuxContext", "seccompProfiles", "supplementalGroups", "userNamespaceLevel", "users",
}  # fmt: skip


def without_loss(given, kept, place="manifest"):
    """Fails if the model has dropped a field, which means that it does not know it."""
    if isinstance(given, dict):
        for key, value in given.items():
            assert key in kept, f"{place}.{key} is unknown"
            without_loss(value, kept[key], f"{place}.{key}")
    elif isinstance(given, list):
        assert len(given) == len(kept), place
        for at, (one, other) in enumerate(zip(given, kept)):
            without_loss(one, other, f"{place}[{at}]")
    else:
        assert given == kept, f"{place}: {given!r} became {kept!r}"


def validate(document, version):
    api, kind = document["apiVersion"], document["kind"]
    if api in MODELS:
        model = getattr(importlib.import_module(MODELS[api]), kind).model_validate(document)
        without_loss(document, model.model_dump(mode="json", by_alias=True, exclude_unset=True))
    elif api == "security.openshift.io/v1":
        fields = set(document)
        assert SCC_REQUIRED <= fields, SCC_REQUIRED - fields
        assert fields <= SCC_REQUIRED | SCC_OPTIONAL, fields - SCC_REQUIRED - SCC_OPTIONAL
    elif not api.startswith("kustomize."):
        kubernetes_validate.validate(document, version, strict=True)


if __name__ == "__main__":
    documents = [document for document in yaml.safe_load_all(sys.stdin) if document]
    for document in documents:
        validate(document, sys.argv[1])
    json.dump(documents, sys.stdout)
