# SPDX-License-Identifier: MIT OR Apache-2.0
"""As much of a Kubernetes API server as kubectl needs for pods. The argument is a directory: NAME.json is a pod, with the
containers that kubectl debug adds, and NAME.report what snoop's listener in it answers. Prints the port."""

import json
import pathlib
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlparse

directory = pathlib.Path(sys.argv[1])
RESOURCES = {
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": {
        "kind": "APIResourceList",
        "groupVersion": "v1",
        "resources": [
            {"name": name, "singularName": "", "namespaced": True, "kind": "Pod", "verbs": ["get", "list", "patch"]}
            for name in ("pods", "pods/ephemeralcontainers")
        ],
    },
}
PODS = "/api/v1/namespaces/shop/pods"


class Handler(BaseHTTPRequestHandler):
    def answer(self, text):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self):
        url = urlparse(self.path)
        below = url.path.removeprefix(PODS + "/")
        if url.path in RESOURCES:
            self.answer(json.dumps(RESOURCES[url.path]).encode())
        elif url.path == PODS:
            query = parse_qs(url.query)
            label, value = query["labelSelector"][0].split("=")
            assert query["fieldSelector"] == ["status.phase=Running"]
            pods = [json.loads(path.read_text()) for path in sorted(directory.glob("*.json"))]
            pods = [pod for pod in pods if pod["metadata"]["labels"].get(label) == value]
            self.answer(json.dumps({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods}).encode())
        elif below.endswith(":9090/proxy/report") and (directory / f"{below.split(':')[0]}.report").exists():
            self.answer((directory / f"{below.split(':')[0]}.report").read_bytes())
        elif (directory / f"{below}.json").exists():
            self.answer((directory / f"{below}.json").read_bytes())
        else:
            self.send_error(404)

    def do_PATCH(self):
        name, subresource = self.path.removeprefix(PODS + "/").split("?")[0].split("/")
        assert subresource == "ephemeralcontainers"
        path = directory / f"{name}.json"
        pod = json.loads(path.read_text())
        patch = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        pod["spec"]["ephemeralContainers"] = patch["spec"]["ephemeralContainers"]
        path.write_text(json.dumps(pod))
        self.answer(path.read_bytes())

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
