"""A node is lost in the middle of a training: it goes on with a new one, or without it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from runner_programs import ask
from tiny_jobs import training_job

from boothline.settings import Settings

pytestmark = [pytest.mark.services, pytest.mark.faults]

Note = Callable[[str, str], None]


@pytest.mark.proves("F38/nodes")
def test_node_loss_resumes_on_two_nodes_bit_for_bit_and_on_one_within_a_millionth(
    store_settings: Settings, tiny_pipeline: Path, tmp_path: Path, measured: Note
) -> None:
    job = training_job(tmp_path / "data", tiny_pipeline, world_size=2, num_steps=20)
    job["config"]["base_model"] = {"source": str(tiny_pipeline)}
    result = ask(
        "warm_ranks", store_settings, scenario="nodes", folder=str(tmp_path / "jobs"), job=job
    )
    assert result["longest_seconds"] < 30
    assert result["num_different"] == 0
    assert result["one_differs"] <= 1e-6
    measured(
        "node loss",
        f"the other node ended within {result['longest_seconds']:.1f} s; 2 -> 2:"
        f" {result['num_different']} files differ;"
        f" 2 -> 1 differs by {result['one_differs']:.1e} at most",
    )
