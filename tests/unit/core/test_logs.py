"""Log lines as JSON: what they hold, and that every reader of logs reads them as text."""

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from unit.core.test_step_in_a_pod import EXECUTOR

from boothline.launch.cluster.pods import _progress, own_lines
from boothline.launch.local.reading import readable
from boothline.logs import JsonFormatter, as_text
from boothline.notifying import _last_lines
from boothline.runs import StepRecord
from boothline.settings import Settings


def line(message: str, *, name: str = "boothline.progress", exc_info: object = None) -> str:
    record = logging.LogRecord(name, logging.INFO, "x.py", 1, message, None, exc_info)
    return JsonFormatter(run="run-1", step="train", rank=0).format(record)


def started(program: list[str], **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *program],
        env={**os.environ, "BOOTHLINE_LOG_FORMAT": "json", **variables},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_json_line_holds_time_level_run_step_rank_and_message() -> None:
    values = json.loads(line("it's “half” done\n50 %"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", values.pop("time"))
    assert values == {
        "level": "INFO",
        "logger": "boothline.progress",
        "run": "run-1",
        "step": "train",
        "rank": 0,
        "message": "it's “half” done\n50 %",
    }


@pytest.mark.proves("F62/logs")
def test_step_logs_json_by_one_setting_and_the_cluster_reads_its_own_lines(tmp_path: Path) -> None:
    done = started(
        ["-c", EXECUTOR, str(tmp_path)],
        BOOTHLINE_JOB_ID="1f6e",
        PYTHONPATH=os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
    )
    first, *_ = done.stderr.splitlines()
    values = json.loads(first)
    assert (values["run"], values["step"], values["rank"]) == ("r", "validate_data", None)
    assert values["message"] == "validate_data started"
    own = own_lines(f"I0131 launcher\n{done.stderr}").splitlines()
    assert own[0].endswith("INFO boothline.progress validate_data started")
    assert own[-1] == "Copy it again."


def test_progress_of_a_pod_is_read_from_json_and_from_text() -> None:
    said = "train progress 3/10 steps loss 0.0410"
    text = f"2026-01-31 10:00:00,123 INFO boothline.progress {said}"
    for log in (line(said), text):
        reported = _progress(f"other\n{log}\n")
        assert (reported.done, reported.total, reported.note) == (3, 10, "loss 0.0410")


@pytest.mark.proves("F62/logs")
def test_readers_of_local_logs_show_json_as_text_without_expected_tracebacks(
    tmp_path: Path,
) -> None:
    try:
        raise ValueError("a bug")
    except ValueError:
        log = f"{line('train started')}\n{line('it failed', exc_info=sys.exc_info())}\n"
    shown = readable(log).splitlines()
    assert re.fullmatch(r"\S+ \S+,\d{3} INFO boothline.progress train started", shown[0])
    assert shown[1].endswith("it failed")
    assert (shown[2], shown[-1]) == ("Traceback (most recent call last):", "ValueError: a bug")
    (tmp_path / "train.log").write_text(log)
    record = StepRecord(step="train", status="failed", started_at=0.0)
    assert _last_lines(tmp_path, record, 99, settings=Settings()) == shown


@pytest.mark.parametrize(
    "log",
    [
        '{"time": 3}',
        '{"time": "never", "level": "INFO", "logger": "", "run": 1, "step": 1, "rank": 1, '
        '"message": ""}',
        '{"time": "broken',
        '{"time": "2026-01-31T10:00:00.000Z", "text": "of another program"}',
        '{"loss": 0.1}',
        "plain {text}",
    ],
)
def test_as_text_leaves_lines_of_others_as_they_are(log: str) -> None:
    assert as_text(f"a\n{log}\nb") == f"a\n{log}\nb"
