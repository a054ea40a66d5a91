# SPDX-License-Identifier: MIT OR Apache-2.0
"""Reads the dashboard on standard input with the types that Grafana generates from its schema, and fails if they know less
than what it says."""

import json
import sys

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from manifest import without_loss

register_default_plugins()
given = json.load(sys.stdin)
without_loss(given, json.loads(JSONEncoder().encode(Dashboard.from_json(given))), "dashboard")
