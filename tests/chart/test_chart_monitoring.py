"""Dashboard and alerts: each expression is read against what a server and steps really show."""

import json
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import promql_parser
import pytest
import uvicorn
import yaml
from observed_step import run_step
from otlp_receiver import Receiver
from prometheus_client.parser import text_string_to_metric_families

from boothline.errors import DataError
from boothline.launch import serve, serve_metrics
from boothline.launch.serve import application
from boothline.metering import GpuUse
from boothline.registry.versions import ModelVersion
from boothline.store import ManifestRef, Store
from boothline.store.memory import memory_store
from boothline.telemetry import meters, observing

FILES = Path(__file__).resolve().parents[2] / "charts" / "boothline" / "files"
DASHBOARD = json.loads((FILES / "dashboard.json").read_text())
ALERTS = yaml.safe_load((FILES / "alerts.yaml").read_text())
PROMTOOL = shutil.which("promtool")
GRAFANA = {"$__rate_interval": "5m", "$__range": "6h", "$run": ".*"}
UNITS = {"": "", "By": "_bytes", "s": "_seconds", "1": "_ratio"}
# Prometheus sets them when it takes a metric in.
OF_PROMETHEUS = {"instance": {"host:8080"}, "job": {"boothline"}, "le": {"1.0"}}
Recorded = dict[str, list[dict[str, str]]]


def expressions() -> list[tuple[str, str]]:
    panels = [
        (panel["title"], target["expr"])
        for panel in DASHBOARD["panels"]
        for target in panel.get("targets", [])
    ]
    rules = [(rule["alert"], rule["expr"]) for group in ALERTS["groups"] for rule in group["rules"]]
    return panels + rules


def plain(expression: str) -> str:
    """Return an expression as Grafana sends it."""
    for name, value in GRAFANA.items():
        expression = expression.replace(name, value)
    return expression


def parts(node: Any) -> Iterator[Any]:
    """Yield every part of a parsed expression."""
    yield node
    for name in ("lhs", "rhs", "expr", "param", "vector_selector", "args"):
        inner = getattr(node, name, None)
        for each in inner if isinstance(inner, list) else [inner]:
            if each is not None:
                yield from parts(each)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """The labels of every sample, by metric, of a scraped server and of what steps sent."""
    found: Recorded = {}
    gpus = [GpuUse(index=0, percent=50, used_bytes=1, total_bytes=2)]
    with pytest.MonkeyPatch.context() as patch:
        for module in (serve_metrics, meters):
            patch.setattr(module, "gpu_use", lambda: gpus)
        for family in text_string_to_metric_families(scraped(patch)):
            for sample in family.samples:
                found.setdefault(sample.name, []).append(sample.labels)
        with Receiver() as receiver:
            patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
            store = memory_store(tmp_path_factory.mktemp("store"))
            patch.setattr(Store, "connect", lambda settings, **_: store)
            with pytest.raises(DataError):
                run_step(run_id="another", fails=True)
            run_step()
            for process in ({"rank": 0}, {"node": 0}):
                with observing(run_id="another", step="train", **process):
                    pass
            names = {m.name: prometheus_name(m) for m in receiver.metrics}
            for name, labels, _ in receiver.points:
                shown = {key: str(value) for key, value in labels.items()}
                found.setdefault(names[name], []).append(shown)
    return found


def scraped(patch: pytest.MonkeyPatch) -> str:
    """Return what a server shows after a picture, a failure, a full queue and a swap."""
    version = ModelVersion(
        name="m", version=1, digest="0" * 64, ref=ManifestRef(path="steps/x/y", digest="0" * 64)
    )
    followed = SimpleNamespace(
        model=SimpleNamespace(version=version), swaps={"swapped": 1, "failed": 1}
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        app = application(followed, queue_limit=1)
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        wanted = {"prompt": "a bear"}
        patch.setattr(serve, "_draw", lambda model, row: (b"png", "0" * 64))
        assert httpx.post(f"{url}/generate", json=wanted).status_code == 200
        patch.setattr(serve, "_draw", lambda model, row: 1 / 0)
        assert httpx.post(f"{url}/generate", json=wanted).status_code == 500
        drawing, go_on = threading.Event(), threading.Event()

        def slow(model: object, row: object) -> tuple[bytes, str]:
            drawing.set()
            assert go_on.wait(60)
            return b"png", "0" * 64

        patch.setattr(serve, "_draw", slow)
        client = threading.Thread(
            target=httpx.post, args=(f"{url}/generate",), kwargs={"json": wanted, "timeout": 60}
        )
        client.start()
        assert drawing.wait(60)
        assert httpx.post(f"{url}/generate", json=wanted).status_code == 429
        go_on.set()
        client.join()
        text = httpx.get(f"{url}/metrics").text
        server.should_exit = True
        thread.join()
    return text


def prometheus_name(metric: Any) -> str:
    """Return how Prometheus names a metric that it takes by OTLP."""
    name = metric.name.replace(".", "_") + UNITS[metric.unit]
    return name + ("_total" if metric.WhichOneof("data") == "sum" else "")


@pytest.mark.proves("F62/dashboard")
@pytest.mark.parametrize(("title", "expression"), expressions(), ids=lambda text: text[:40])
def test_expression_asks_for_metrics_and_labels_that_were_recorded(
    recorded: Recorded, title: str, expression: str
) -> None:
    selectors = []
    grouped: set[str] = set()
    for part in parts(promql_parser.parse(plain(expression))):
        if isinstance(part, promql_parser.VectorSelector):
            selectors.append(part)
        if getattr(part, "modifier", None) is not None and hasattr(part.modifier, "labels"):
            grouped |= set(part.modifier.labels)
    assert selectors
    known: dict[str, set[str]] = {name: set(values) for name, values in OF_PROMETHEUS.items()}
    for selector in selectors:
        assert selector.name in recorded, selector.name
        for labels in recorded[selector.name]:
            for name, value in labels.items():
                known.setdefault(name, set()).add(value)
        matching = [
            labels
            for labels in recorded[selector.name]
            if all(fits(labels, matcher) for matcher in selector.matchers.matchers)
        ]
        assert matching, f"{selector} fits none of {recorded[selector.name]}"
    assert grouped <= known.keys()


def fits(labels: dict[str, str], matcher: Any) -> bool:
    assert str(matcher.op) in ("MatchOp.Equal", "MatchOp.Re"), matcher.op
    value = labels.get(matcher.name, "")
    if str(matcher.op) == "MatchOp.Equal":
        return value == matcher.value
    return matcher.name in labels and bool(re.fullmatch(matcher.value, value))


@pytest.mark.proves("F62/dashboard")
def test_every_metric_of_ours_is_on_the_dashboard(recorded: Recorded) -> None:
    shown = " ".join(expression for _, expression in expressions())
    ours = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name in recorded}
    missing = {name for name in ours if name.startswith("boothline_") and name not in shown}
    assert missing == set()


def test_panels_lie_side_by_side_and_have_names_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
    titles = [panel["title"] for panel in DASHBOARD["panels"]]
    assert len(set(titles)) == len(titles)


@pytest.mark.proves("F62/dashboard")
@pytest.mark.skipif(PROMTOOL is None, reason="no `promtool` on the PATH")
def test_alerts_fire_when_they_should_and_not_before(tmp_path: Path) -> None:
    shutil.copy(FILES / "alerts.yaml", tmp_path)
    shutil.copy(Path(__file__).parent / "alerts-test.yaml", tmp_path)
    done = subprocess.run(
        [str(PROMTOOL), "test", "rules", "alerts-test.yaml"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    tested = yaml.safe_load((tmp_path / "alerts-test.yaml").read_text())["tests"]
    fired = {
        case["alertname"]
        for test in tested
        for case in test["alert_rule_test"]
        if case.get("exp_alerts")
    }
    assert fired == {rule["alert"] for group in ALERTS["groups"] for rule in group["rules"]}
