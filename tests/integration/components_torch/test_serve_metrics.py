"""What a server shows Prometheus, from a real scrape."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from integration.components_torch.serving import NAME, ask, promote, served
from prometheus_client.parser import text_string_to_metric_families

from boothline.errors import StoreError
from boothline.launch import serve
from boothline.launch.local.session import Session
from boothline.launch.serve import Followed
from boothline.registry.loaded import LoadedModel
from boothline.registry.versions import ModelVersion

pytestmark = pytest.mark.services
Publish = Callable[[float], ModelVersion]


def scrape(url: str) -> dict[tuple[str, ...], float]:
    """Return every sample by its name and the values of its labels, in the labels' order."""
    answer = httpx.get(f"{url}/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    families = text_string_to_metric_families(answer.text)
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


@pytest.mark.proves("F53/metrics")
def test_requests_are_counted_by_outcome_and_digest_and_their_latency_is_kept(
    session: Session, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = publish(1.5)
    promote(session, version)
    drawing, go_on = threading.Event(), threading.Event()
    draw = serve._draw

    def slow(*arguments):
        drawing.set()
        assert go_on.wait(60)
        return draw(*arguments)

    with (
        served(Followed(session, NAME, "champion"), queue_limit=1) as url,
        ThreadPoolExecutor(1) as pool,
    ):
        assert ask(url, size="9x9").status_code == 422
        monkeypatch.setattr(serve, "_draw", slow)
        inside = pool.submit(ask, url)
        assert drawing.wait(60)
        assert ask(url).status_code == 429
        meanwhile = scrape(url)
        go_on.set()
        assert inside.result().status_code == 200
        monkeypatch.setattr(serve, "_draw", lambda model, row: 1 / 0)
        assert ask(url).status_code == 500
        found = scrape(url)

    assert meanwhile["boothline_serve_queue_depth",] == 1
    assert found["boothline_serve_queue_depth",] == 0
    assert found["boothline_serve_queue_limit",] == 1
    outcomes = {
        key[1:]: count for key, count in found.items() if key[0] == "boothline_serve_requests_total"
    }
    once = ("invalid", "full", "drawn", "failed")
    assert outcomes == {(version.digest, outcome): 1 for outcome in once}
    assert found["boothline_serve_request_seconds_count",] == 1
    assert found["boothline_serve_request_seconds_sum",] > 0
    assert found["boothline_serve_request_seconds_bucket", "+Inf"] == 1
    assert found["process_resident_memory_bytes",] > 2**20


@pytest.mark.proves("F53/metrics")
def test_swaps_and_failed_looks_are_counted_and_the_version_that_answers_is_shown(
    session: Session, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = publish(1.5), publish(2.0)
    promote(session, first)
    followed = Followed(session, NAME, "champion", interval_seconds=0.01)
    looked = threading.Event()

    def failing(*arguments, **loaded):
        looked.set()
        raise StoreError("the store is away")

    with served(followed) as url:
        before = scrape(url)
        promote(session, second)
        followed.look()
        after = scrape(url)
        monkeypatch.setattr(LoadedModel, "load", failing)
        promote(session, first)
        with followed.following():
            assert looked.wait(60)
        failed = scrape(url)

    assert before["boothline_serve_model_info", first.digest, NAME, str(first.version)] == 1
    shown = [key for key in after if key[0] == "boothline_serve_model_info"]
    assert shown == [("boothline_serve_model_info", second.digest, NAME, str(second.version))]
    swaps = "boothline_serve_swaps_total"
    assert (before[swaps, "swapped"], after[swaps, "swapped"]) == (0, 1)
    assert (after[swaps, "failed"], failed[swaps, "swapped"]) == (0, 1)
    assert failed[swaps, "failed"] >= 1
    received = "boothline_store_received_bytes_total"
    assert after[received,] - before[received,] > 10_000  # the weights of the second version
