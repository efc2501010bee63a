"""A model hub for tests: the part of its API that makes a repository and takes a commit."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

TOKEN = "hf_of_the_test"


@dataclass
class Repository:
    """What the hub was told.

    Attributes:
        url: of the hub.
        created: bodies of the requests that made repositories.
        header: of the last commit: summary and description.
        files: of the last commit, by path.
        large: content of what went to the store of large files, by sha256.
        refuses: whether it answers 403 to a commit.
    """

    url: str = ""
    created: list[dict[str, Any]] = field(default_factory=list)
    header: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    refuses: bool = False

    def commit(self, lines: bytes) -> None:
        """Take a commit: files in it, or named by a sha256 that was uploaded before."""
        for line in lines.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                self.header = value
            elif item["key"] == "file":
                assert value["encoding"] == "base64"
                self.files[value["path"]] = base64.b64decode(value["content"])
            else:
                assert item["key"] == "lfsFile"
                self.files[value["path"]] = self.large[value["oid"]]


class Handler(BaseHTTPRequestHandler):
    """Answers for one repository; see `hub_repository`."""

    protocol_version = "HTTP/1.1"
    name: str
    told: Repository

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.headers["Authorization"] == f"Bearer {TOKEN}"
        path = self.path.partition("?")[0]
        answers = {
            "/api/validate-yaml": lambda: {"errors": [], "warnings": []},
            "/api/repos/create": lambda: self._create(json.loads(body)),
            f"/api/models/{self.name}/preupload/main": lambda: self._modes(json.loads(body)),
            f"/{self.name}.git/info/lfs/objects/batch": lambda: self._places(json.loads(body)),
            f"/api/models/{self.name}/commit/main": lambda: self._commit(body),
        }
        if path not in answers:
            self.send_error(404)
        elif self.told.refuses and "/commit/" in path:
            self._send({"error": "no write access"}, status=403)
        else:
            self._send(answers[path]())

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.told.large[hashlib.sha256(body).hexdigest()] = body
        self._send({})

    def _create(self, wanted: dict[str, Any]) -> dict[str, Any]:
        self.told.created.append(wanted)
        return {"url": f"{self.told.url}/{self.name}", "id": "1", "name": self.name}

    def _modes(self, wanted: dict[str, Any]) -> dict[str, Any]:
        def mode(path: str) -> str:
            return "lfs" if path.endswith((".safetensors", ".png")) else "regular"

        paths = [file["path"] for file in wanted["files"]]
        return {"files": [{"path": p, "uploadMode": mode(p), "shouldIgnore": False} for p in paths]}

    def _places(self, wanted: dict[str, Any]) -> dict[str, Any]:
        objects = [
            {**each, "actions": {"upload": {"href": f"{self.told.url}/put/{each['oid']}"}}}
            for each in wanted["objects"]
        ]
        return {"transfer": "basic", "objects": objects}

    def _commit(self, body: bytes) -> dict[str, Any]:
        self.told.commit(body)
        url = f"{self.told.url}/{self.name}/commit/{'0' * 40}"
        return {"commitUrl": url, "commitOid": "0" * 40, "hookOutput": ""}

    def _send(self, value: object, *, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Be silent."""


@contextmanager
def hub_repository(name: str) -> Iterator[Repository]:
    """Serve a hub that takes one repository; yields what it was told."""
    told = Repository()
    handler = type("OfOne", (Handler,), {"name": name, "told": told})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    told.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
