"""`make bench-gpu` at toy size: every program of it runs, on this CPU, without the network."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
LIMIT_SECONDS = 1500


@pytest.mark.slow
def test_toy_measures_every_training_and_sampling(tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    command = [
        sys.executable, "-m", "benchmarks.one_gpu", "--size", "toy", "--pairs", "1",
        "--threads", "1", "--minutes", "24", "--output", str(output), "--scratch", str(tmp_path),
    ]  # fmt: skip
    # Without a proxy and a hub nothing can be fetched.
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "CUDA_VISIBLE_DEVICES": ""}
    ended = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
        timeout=LIMIT_SECONDS,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]
    kept = json.loads(ended.stdout.splitlines()[-1])
    assert kept == json.loads(output.read_text())
    assert kept["flops_per_second"] > 0
    rows = kept["rows"]
    told = [(row["model"], row["what"].split()[0], row["unit"]) for row in rows]
    assert told == [
        ("sd15", "train", "steps/s"), ("sd15", "sample", "pictures/s"),
        ("sdxl", "train", "steps/s"), ("sdxl", "sample", "pictures/s"),
        ("flux", "train", "steps/s"),
    ]  # fmt: skip
    for row in rows:
        assert row["ours"], (row, ended.stderr[-3000:])
        assert 0 < row["ours %"] < 100
        assert row["ours GiB"] > 0
        if row["unit"] == "pictures/s":
            assert row["ratio"] > 0
            assert not row["not measured"]
        else:
            assert row["not measured"].startswith("peer: no checkout of diffusers")
    assert list(tmp_path.iterdir()) == [output]
