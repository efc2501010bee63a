"""A small Kubernetes API over HTTP: TrainJobs that walk through states, pods, logs."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

JOBS = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/ml/trainjobs"
PODS = "/api/v1/namespaces/ml/pods"


@dataclass
class FakeKubernetes:
    """What the server knows.

    Attributes:
        states: states that a TrainJob goes through, one more with every look at it.
        log: lines of node 0's log.
        refusals: status codes that the next requests get, by method.
        on_look: called with the state that a look shows.
    """

    states: Sequence[str] = ("Created", "Suspended", "Running", "Complete")
    log: Sequence[str] = ()
    refusals: dict[str, list[int]] = field(default_factory=dict)
    on_look: Callable[[str], None] = lambda state: None
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    looks: dict[str, int] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""

    def state(self, name: str) -> str:
        return self.states[min(self.looks.get(name, 0), len(self.states) - 1)]

    def seen(self, name: str) -> dict[str, Any]:
        """Return a TrainJob in its state and let it go on to the next."""
        state = self.state(name)
        self.looks[name] = self.looks.get(name, 0) + 1
        self.on_look(state)
        status: dict[str, Any] = {}
        if state in ("Suspended", "Complete", "Failed"):
            reason = {"Failed": "the pods ended with exit code 1"}.get(state, "")
            status["conditions"] = [{"type": state, "status": "True", "message": reason}]
        if state == "Running":
            status["jobsStatus"] = [{"name": "node", "active": 1}]
        return {**self.jobs[name], "status": status}

    def _deleted(self, name: str, options: dict[str, list[str]]) -> dict[str, Any]:
        """Delete a TrainJob as the real controller was seen to.

        With propagation Foreground, a TrainJob whose pods wait for a node never goes: each time the
        garbage collector has removed its JobSet, the controller makes it again.
        """
        waits = self.state(name) in ("Created", "Suspended")
        if waits and options.get("propagationPolicy") == ["Foreground"]:
            return self.jobs[name]
        return self.jobs.pop(name)

    def answer(self, method: str, target: str, body: Any) -> tuple[int, Any]:
        """Return the status and the JSON (or log lines) of a request."""
        url = urlsplit(target)
        self.requests.append((method, url.path))
        if self.refusals.get(method):
            return self.refusals[method].pop(0), {"message": "refused"}
        if url.path == JOBS and method == "POST":
            name = body["metadata"]["name"]
            if name in self.jobs:
                return 409, {"reason": "AlreadyExists"}
            self.jobs[name], self.looks[name] = body, 0
            return 201, body
        if url.path.startswith(f"{JOBS}/"):
            name = url.path.rsplit("/", 1)[-1]
            if name not in self.jobs:
                return 404, {"reason": "NotFound"}
            if method == "DELETE":
                return 200, self._deleted(name, parse_qs(url.query))
            return 200, self.seen(name)
        if url.path == PODS:
            selector = parse_qs(url.query)["labelSelector"][0]
            name = selector.split("jobset-name=")[1].split(",")[0]
            started = self.state(name) in ("Running", "Complete", "Failed")
            pod = {
                "metadata": {"name": f"{name}-0", "creationTimestamp": "2026-01-01T00:00:00Z"},
                "status": {"phase": "Running" if started else "Pending"},
            }
            return 200, {"items": [pod]}
        if url.path.startswith(PODS) and url.path.endswith("/log"):
            return 200, list(self.log)
        return 404, {"message": f"no such path {url.path}"}


@contextmanager
def served(fake: Any) -> Iterator[str]:
    """Serve a fake whose `answer(method, target, body)` gives status and JSON; yields the URL."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            """Stay quiet."""

        def body(self, raw: bytes) -> Any:
            """Return the JSON of a request, or the text of the one file that it uploads."""
            kind = self.headers.get("Content-Type") or ""
            if not kind.startswith("multipart/"):
                return json.loads(raw) if raw else None
            parts = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + raw)
            (file,) = parts.get_payload()
            return file.get_payload(decode=True).decode()  # type: ignore[union-attr]

        def handle_request(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            raw = self.rfile.read(length) if length else b""
            fake.headers = dict(self.headers)
            status, value = fake.answer(self.command, self.path, self.body(raw))
            is_log = isinstance(value, list)
            data = "".join(f"{line}\n" for line in value) if is_log else json.dumps(value)
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if is_log else "application/json")
            self.send_header("Content-Length", str(len(data.encode())))
            self.end_headers()
            self.wfile.write(data.encode())

        do_GET = do_POST = do_DELETE = do_PATCH = handle_request

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        fake.url = f"http://127.0.0.1:{server.server_port}"
        yield fake.url
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
