# SPDX-License-Identifier: MIT OR Apache-2.0
"""Evaluates a MutatingAdmissionPolicy as the API server does. Standard input has a list of the policy, the object that its
parameters are read from, and pods. Prints the pods with what the policy adds, and null for those that it does not match."""

import json
import sys

import celpy
from celpy.adapter import json_to_cel
from celpy.celtypes import BoolType, MapType

environment = celpy.Environment(annotations={"JSONPatch": MapType})


def plain(value):
    """Turns a value of CEL into one of JSON."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return bool(value) if isinstance(value, BoolType) else int(value) if isinstance(value, int) else str(value)


def evaluate(expression, context):
    return plain(environment.program(environment.compile(expression)).evaluate(context))


def apply(pod, patch):
    assert patch["op"] == "add"
    *path, last = patch["path"].split("/")[1:]
    place = pod
    for name in path:
        place = place[int(name)] if isinstance(place, list) else place[name]
    if isinstance(place, dict):
        place[last] = patch["value"]
    else:
        place.insert(len(place) if last == "-" else int(last), patch["value"])


def admit(policy, params, pod):
    context = {"object": json_to_cel(pod), "params": json_to_cel(params)}
    if not all(evaluate(condition["expression"], context) for condition in policy["matchConditions"]):
        return None
    for mutation in policy["mutations"]:
        for patch in evaluate(mutation["jsonPatch"]["expression"], context):
            apply(pod, patch)
    return pod


policy, params, *pods = json.load(sys.stdin)
json.dump([admit(policy["spec"], params, pod) for pod in pods], sys.stdout)
