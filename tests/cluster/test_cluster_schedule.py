"""A retraining by the clock: it trains, skips, trains for a new picture, and nothing kills it."""

from pathlib import Path
from typing import Any

import pytest
from kubernetes_here import ROOT, Cluster, until

pytestmark = pytest.mark.cluster

ENDED = ("SUCCEEDED", "FAILED", "CANCELED")
EVERY_THREE_MINUTES = "0 */3 * * * *"
PICTURES = sorted((ROOT / "examples" / "subjects" / "toy-robot").glob("*.jpg"))


@pytest.fixture(scope="module")
def plain(cluster: Cluster) -> Path:
    """The deployment without a trainer."""
    return cluster.deployment("scheduled", trainer=None)


def recurring(cluster: Cluster) -> list[dict[str, Any]]:
    """Return the runs that a recurring run has started, oldest first."""
    return [run for run in cluster.listed("runs") if run.get("recurring_run_id")]


def ended(cluster: Cluster, number: int) -> dict[str, Any]:
    """Wait for the end of the n-th run of the clock and return it."""
    (run,) = until(
        lambda: [r for r in recurring(cluster)[number : number + 1] if r["state"] in ENDED],
        seconds=2400, what=f"the end of run {number + 1} of the clock", pause=5,
    )  # fmt: skip
    return dict(run)


def trained(cluster: Cluster, run: dict[str, Any], deployment: Path) -> bool:
    """Return whether a run of the clock trained."""
    shown = cluster.state(f"nightly-{run['run_id']}", deployment)
    assert shown, run
    done = {step["name"] for step in shown["steps"] if step["status"] in ("done", "reused")}
    return "train" in done


@pytest.mark.proves("F36/cron", "F65/schedule")
def test_recurring_run_trains_skips_and_trains_for_a_new_picture(
    cluster: Cluster, plain: Path, figure: Any
) -> None:
    """By the clock: trains, skips, trains for a new picture; an upgrade in between kills none"""
    images = cluster.upload("data/nightly", PICTURES[:4])
    config = cluster.configuration("nightly", images)
    words = ("schedule", config, "--name", "nightly", "--deployment", plain)
    made = cluster.boothline(*words, "--cron", EVERY_THREE_MINUTES)
    assert made.code == 0, made.said
    until(lambda: recurring(cluster), seconds=400, what="the first run of the clock", pause=3)
    # While it runs: the chart is upgraded, and the schedule replaced by a slightly different one.
    cluster.release.upgrade(cluster.folder, "commonLabels.upgraded=once")
    assert cluster.boothline(*words, "--cron", "30 */3 * * * *").code == 0
    first = ended(cluster, 0)
    assert first["state"] == "SUCCEEDED", first
    assert trained(cluster, first, plain)
    second = ended(cluster, 1)
    assert second["state"] == "SUCCEEDED", second
    assert not trained(cluster, second, plain)
    cluster.upload("data/nightly", PICTURES)
    number = len(recurring(cluster)) - 1
    while True:  # one that had begun before the picture came may still skip
        number += 1
        assert number < 6
        third = ended(cluster, number)
        assert third["state"] == "SUCCEEDED", third
        if trained(cluster, third, plain):
            break
    removal = cluster.boothline("schedule", "--name", "nightly", "--remove", "--deployment", plain)
    assert removal.code == 0, removal.said
    figure(f"{number + 1} runs of the clock, all succeeded; trained: the first and the last")
