"""Multi-user Kubeflow: the hook that registers a schedule may do what it does there."""

import re
from collections.abc import Iterator
from typing import Any

from kfp_deployment import CONFIG, api_of, deployment
from kfp_fake import BASE, FakePipelines
from kubernetes_fake import served

from boothline.launch.cluster import runs

GROUP = "pipelines.kubeflow.org"
_REQUEST = re.compile(
    rf"{BASE}/(?P<kind>\w+)(?P<upload>/upload_version)?(/(?P<id>[^/:]+))?(?P<versions>/versions)?"
    r"(:(?P<verb>\w+))?"
)


def asked(method: str, path: str) -> tuple[str, str]:
    """Return the resource and the verb that Kubeflow Pipelines 2.17 looks a request up by."""
    found = _REQUEST.fullmatch(path)
    assert found, path
    resource = {"recurringruns": "jobs"}.get(found["kind"], found["kind"])
    if found["verb"]:
        return resource, found["verb"]
    whole = found["id"] and not found["versions"]
    return resource, {"POST": "create", "DELETE": "delete"}.get(method, "get" if whole else "list")


def allowed(role: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for rule in role["rules"]:
        if GROUP in rule["apiGroups"]:
            yield from (
                (resource, verb) for resource in rule["resources"] for verb in rule["verbs"]
            )


def test_scheduler_may_register_replace_and_remove_a_recurring_run(rendered: Any) -> None:
    (role,) = (
        item
        for item in rendered("production-values")
        if item["kind"] == "Role" and item["metadata"]["name"].endswith("-scheduler")
    )
    nightly = runs.Schedule(name="nightly", cron="0 0 2 * * *", pipeline="retrain")
    server = FakePipelines()
    with served(server):
        for _ in range(2):
            runs.register(api_of(server), deployment(server), CONFIG, schedule=nightly)
        runs.unregister(api_of(server), "nightly")
    needed = {asked(method, path) for method, path in server.requests}
    assert ("pipelines", "create") in needed
    assert needed - set(allowed(role)) == set()
