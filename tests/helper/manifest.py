# SPDX-License-Identifier: MIT OR Apache-2.0
"""Validates a manifest against the Kubernetes API's schemas and prints its documents as a JSON list."""

import json
import sys

import kubernetes_validate
import yaml

documents = [d for d in yaml.safe_load_all(open(sys.argv[1])) if d]
for document in documents:
    if not document["apiVersion"].startswith("kustomize."):
        kubernetes_validate.validate(document, sys.argv[2], strict=True)
json.dump(documents, sys.stdout)
