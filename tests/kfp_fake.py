"""A small Kubeflow Pipelines API over HTTP: the real paths, bodies of kfp-server-api's models."""

import json
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import kfp_server_api as api
import yaml

BASE = "/apis/v2beta1"
_MODELS = {
    "runs": (api.V2beta1Run, "run_id"),
    "recurringruns": (api.V2beta1RecurringRun, "recurring_run_id"),
    "experiments": (api.V2beta1Experiment, "experiment_id"),
    "pipelines": (api.V2beta1Pipeline, "pipeline_id"),
    "versions": (api.V2beta1PipelineVersion, "pipeline_version_id"),
}
_VERSIONS = re.compile(rf"{BASE}/pipelines/[^/]+/versions")
_FINAL = {"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"}
_LISTS = {
    "runs": "runs", "recurringruns": "recurringRuns", "experiments": "experiments",
    "pipelines": "pipelines", "versions": "pipeline_versions",
}  # fmt: skip


@dataclass
class FakePipelines:
    """What the server knows.

    Attributes:
        states: states that a run goes through, one more with every look at it.
        tasks: tasks that a run shows, as JSON.
        token: bearer token that every request needs; empty: none.
        refusals: status codes that the next requests get, by method.
        page_size: most items of one answer.
        killed: runs whose workflows went away with the recurring run that owned them; the API shows
            them in their last state for ever.
    """

    states: Sequence[str] = ("PENDING", "RUNNING", "SUCCEEDED")
    tasks: Sequence[dict[str, Any]] = ()
    token: str = ""
    refusals: dict[str, list[int]] = field(default_factory=dict)
    kept: dict[str, dict[str, dict[str, Any]]] = field(
        default_factory=lambda: {name: {} for name in _MODELS}
    )
    looks: dict[str, int] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    url: str = ""
    page_size: int = 100
    killed: set[str] = field(default_factory=set)

    def fire(self, recurring_run_id: str) -> str:
        """Start a run of a recurring run as the real one does, and return its id.

        Its parameters are those registered, to the letter: macros are not filled in.
        """
        recurring = self.kept["recurringruns"][recurring_run_id]
        assert recurring["mode"] == "ENABLE"
        identity = str(uuid.uuid4())
        self.requests.append(("FIRE", identity))
        self.kept["runs"][identity] = {
            "run_id": identity,
            "display_name": f"Run of {recurring['display_name']} ({identity[:5]})",
            "recurring_run_id": recurring_run_id,
            "runtime_config": recurring["runtime_config"],
            "pipeline_spec": recurring.get("pipeline_spec"),
            "pipeline_version_reference": recurring.get("pipeline_version_reference"),
            "created_at": f"2026-01-01T00:00:{len(self.requests):02d}Z",
        }
        self.looks[identity] = 0
        return identity

    def answer(self, method: str, target: str, body: Any) -> tuple[int, Any]:
        """Return status and JSON of a request."""
        url = urlsplit(target)
        self.requests.append((method, url.path))
        if self.token and self.headers.get("authorization") != f"Bearer {self.token}":
            return 401, {"message": "Request header error: there is no user identity header."}
        if self.refusals.get(method):
            return self.refusals[method].pop(0), {"message": "refused"}
        if url.path == f"{BASE}/pipelines/upload_version":
            return self._upload(body, parse_qs(url.query))
        kind, _, rest = _VERSIONS.sub(f"{BASE}/versions", url.path)[len(BASE) + 1 :].partition("/")
        if kind not in self.kept:
            return 404, {"message": f"no such path {url.path}"}
        if not rest:
            return self._make(kind, body) if method == "POST" else self._list(kind, url.query)
        identity, _, verb = unquote(rest).partition(":")
        if identity not in self.kept[kind]:
            return 404, {"message": f"{kind} {identity} not found"}
        if verb == "terminate":
            self.states = ("CANCELING", "FAILED")  # as Kubeflow Pipelines 2.17 was seen to do
            self.looks[identity] = 0
            return 200, {}
        if verb in ("enable", "disable"):
            self.kept[kind][identity]["mode"] = verb.upper()
            return 200, {}
        if method == "DELETE":
            del self.kept[kind][identity]
            self.killed |= {
                name
                for name, run in self.kept["runs"].items()
                if run.get("recurring_run_id") == identity and self._state(name) not in _FINAL
            }
            return 200, {}
        return 200, self._seen(kind, identity)

    def _make(self, kind: str, body: dict[str, Any]) -> tuple[int, Any]:
        model, key = _MODELS[kind]
        unknown = set(body) - set(model.openapi_types)
        if unknown:
            return 400, {"message": f"unknown fields {sorted(unknown)}"}
        identity = f"{kind}-{len(self.kept[kind])}-{len(self.requests)}"
        order = f"2026-01-01T00:00:{len(self.requests):02d}Z"
        self.kept[kind][identity] = {**body, key: identity, "created_at": order}
        self.looks[identity] = 0
        return 200, self.kept[kind][identity]

    def _upload(self, text: str, options: dict[str, list[str]]) -> tuple[int, Any]:
        """Keep a version; a name can be had once, and its text has a pipeline first."""
        (name,), (pipeline,) = options["name"], options["pipelineid"]
        if any(item["display_name"] == name for item in self.kept["versions"].values()):
            return 409, {"message": f"Already exist error: the name {name} exists"}
        spec, *platforms = yaml.safe_load_all(text)
        document = {"pipeline_spec": spec, "platform_spec": platforms[0]} if platforms else spec
        return self._make(
            "versions",
            {"display_name": name, "pipeline_id": pipeline, "pipeline_spec": document},
        )

    def _list(self, kind: str, query: str) -> tuple[int, Any]:
        options = parse_qs(query)
        items = [dict(item) for item in self.kept[kind].values()]
        for predicate in json.loads(options.get("filter", ["{}"])[0]).get("predicates", []):
            assert (predicate["key"], predicate["operation"]) == ("name", "EQUALS")
            items = [item for item in items if item["display_name"] == predicate["stringValue"]]
        if options.get("sort_by") == ["created_at desc"]:
            items.sort(key=lambda item: item["created_at"], reverse=True)
        if experiment := options.get("experiment_id"):
            items = [item for item in items if item.get("experiment_id") == experiment[0]]
        if kind == "runs":
            items = [{**item, "state": self._state(item["run_id"])} for item in items]
        first = int(options.get("page_token", ["0"])[0])
        last = first + self.page_size
        following = {"next_page_token": str(last)} if last < len(items) else {}
        return 200, {_LISTS[kind]: items[first:last], "total_size": len(items), **following}

    def _state(self, identity: str) -> str:
        return self.states[min(self.looks[identity], len(self.states) - 1)]

    def _seen(self, kind: str, identity: str) -> dict[str, Any]:
        item = dict(self.kept[kind][identity])
        if kind == "runs":
            item["state"] = self._state(identity)
            item["run_details"] = {"task_details": list(self.tasks)}
            past = self.states[: self.looks[identity] + 1]
            item["state_history"] = [{"state": state} for state in past]
            self.looks[identity] += 1
        return item
