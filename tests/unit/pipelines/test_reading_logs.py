"""What `boothline logs` leaves out of a log, and what it shows as it grows."""

from pathlib import Path

from boothline.launch.local.reading import follow, last, readable

LOG = """[KFP Executor 2026-01-01 10:00:00,123 INFO]: Looking for component `train` in /tmp/x
[KFP Executor 2026-01-01 10:00:00,124 INFO]: Got executor_input:
{
    "inputs": {
        "run_id": "r"
    }
}
10:00:01 INFO boothline: train progress 1/2 steps loss 0.1
Traceback (most recent call last):
  File "a.py", line 1, in run
    work()
SystemError: x

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "a.py", line 2, in run
    raise stopped
boothline.errors.InterruptedRunError: Training was stopped after step 1 of 2.
10:00:02 INFO boothline: train failed
2026-01-01 10:00:02,125 INFO root Wrote executor output file to /tmp/x.
"""


def test_readable_log_has_neither_kfps_lines_nor_the_traceback_of_an_expected_error() -> None:
    text = LOG.replace("SystemError: x\n", "")
    assert readable(text).splitlines() == [
        "10:00:01 INFO boothline: train progress 1/2 steps loss 0.1",
        "Error: Training was stopped after step 1 of 2.",
        "10:00:02 INFO boothline: train failed",
    ]


def test_readable_log_keeps_the_traceback_of_a_bug() -> None:
    lines = readable(LOG).splitlines()
    assert "SystemError: x" in lines
    assert '  File "a.py", line 1, in run' in lines
    assert '  File "a.py", line 2, in run' not in lines


def test_last_lines_of_a_log() -> None:
    assert last("a\nb\nc\n", 2) == "b\nc"
    assert last("a\nb\n", None) == "a\nb\n"


def test_follow_yields_what_is_added_until_the_run_ends(tmp_path: Path) -> None:
    first, second = tmp_path / "train.log", tmp_path / "evaluate.log"
    first.write_text("old\n")
    rounds = iter([lambda: first.write_text("old\nnew\nto"), lambda: second.write_text("begun\n")])
    active = iter([True, True, False])

    found = list(
        follow(
            lambda: [path for path in (first, second) if path.exists()],
            is_active=lambda: next(active),
            wait=lambda: next(rounds)(),
        )
    )

    assert found == ["==> train <==", "new", "==> evaluate <==", "begun"]
