# SPDX-License-Identifier: MIT OR Apache-2.0
"""Checks a bill of materials on standard input: by the strict JSON schema of CycloneDX 1.6, which knows no other fields, and
each package URL by the library of those who define them. Prints what is wrong."""

import json
import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

text = sys.stdin.read()
error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
if error:
    print(error)
references = [component.get("bom-ref") for component in json.loads(text)["components"]]
references = [reference for reference in references if reference]
if len(set(references)) < len(references):
    print("a bom-ref is there twice")
for component in json.loads(text)["components"]:
    purl = component.get("purl")
    if purl and PackageURL.from_string(purl).to_string() != purl:
        print(purl, "is", PackageURL.from_string(purl).to_string())
