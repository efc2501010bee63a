"""Prints the fault table: what each row has to reach, and what was measured.

Usage: python tests/faults/fault_table.py FOLDER, after `make test-faults` has left its figures and
results.xml there. Writes FOLDER/faults.json; exits with 1 if a row failed, or was not measured
although this machine could.
"""

import json
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass
class Row:
    """One row of the table.

    Attributes:
        fault: what happens.
        bar: what has to be reached.
        tests: parts of the names of the tests that show it, as file::test; each has to be met.
        figures: what was measured, in words.
        reasons: why tests of it were skipped on this machine.
        shown: those parts that a passed test has.
        num_passed, num_failed: how those tests ended.
    """

    fault: str
    bar: str
    tests: tuple[str, ...]
    figures: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    num_passed: int = 0
    num_failed: int = 0

    @property
    def verdict(self) -> str:
        """Tell how the row ended."""
        if self.num_failed:
            return "FAILED"
        if not self.num_passed:
            return "not measured"
        return "met" if set(self.shown) == set(self.tests) else "partly measured"

    @property
    def said(self) -> str:
        """Return the figures, the number of cases, and why others could not be measured."""
        cases = f"{self.num_passed} of {self.num_passed + self.num_failed} cases"
        missing = [f"not measured here: {reason}" for reason in self.reasons]
        return "; ".join([*self.figures, cases, *missing])

    @property
    def is_settled(self) -> bool:
        """Tell whether the bar is met, as far as this machine can tell."""
        return self.verdict == "met" or bool(self.reasons and not self.num_failed)


ROWS = (
    Row("crash at the n-th call", "every n resumes, 0 torn states, equal sha256",
        ("of_a_small_job_resumes", "of_a_training_resumes")),
    Row("kill -9 of one DDP rank", "others exit within 30 s, resume bit-identical",
        ("test_rank_killed_at_many_places", "test_two_ranks_equal_one_rank")),
    Row("training kill matrix", "full and LoRA, text encoder, accumulation, 1 and 2 ranks: equal"
        " sha256 and curve; 2 -> 1 within 1e-6",
        ("test_training_killed_at_seeded_moments", "test_training_of_two_ranks_killed",
         "test_training_compiled_resumes")),
    Row("SIGTERM", "state within 25 s at 500 ms latency, exit says resume",
        ("test_sigterm_behind_a_slow_store",)),
    Row("node loss", "2 -> 2 bit-identical, 2 -> 1 within 1e-6", ("test_node_loss",)),
    Row("disk full", "typed error, previous state intact",
        ("test_store_crashes::test_fetch", "test_safetensors_onto_a_full_disk",
         "test_commit_to_a_store_with_a_full_disk")),
    Row("s3 faults", "run completes, 0 lost, 0 stale uploads after sweep",
        ("test_upload_cut_at_each_request", "test_commit_to_a_slow_store",
         "test_commit_to_a_busy_store", "test_commit_during_an_outage_of_a_minute",
         "test_commits_acknowledged_before_a_kill")),
    Row("damaged objects", "100 % found, falls back at most 1 state",
        ("test_damage_to_any_object", "test_store_integrity", "test_store_sealing")),
    Row("mlflow down", "training unaffected, exactly one version, all shown at the end",
        ("test_outage_of_a_minute_costs_nothing", "test_tracker_after_outage",
         "finish_run_after_an_outage", "attempts_that_log_the_same",
         "registered_by_eight_processes")),
    Row("registry lost", "MLflow made anew: numbers never collide; repair shows all again",
        ("test_version_after_mlflow_was_made_anew", "test_repair_of_a_new_mlflow",
         "test_repair_of_a_number_that_two_versions_share")),
    Row("alias drift", "moved by hand: named by models and doctor; repair follows the ledger",
        ("test_find_drift_after_a_move_by_hand", "test_models_and_doctor_show_a_champion_moved",
         "test_repair_of_what_was_changed_by_hand")),
    Row("one key", "50 races: one owner, loser within 5 s", ("test_fifty_races",)),
    Row("clock", "one attempt, cause named", ("test_clock_off",)),
    Row("stuck rank", "named after 60 s, ended at the limit that is set, resume bit-identical",
        ("test_watch_names_a_silent_rank", "test_watch_kills_a_stopped_rank",
         "test_training_with_a_stopped_rank")),
    Row("TLS", "one clear line and exit 5 at once, for every client library",
        ("test_tls_failures", "test_client_errors")),
    Row("nan loss on one rank", "all stop at the same step, never promoted",
        ("test_loss_that_is_not_finite_on_one_rank",)),
    Row("out of memory", "clear message with what to change, fallback keeps the global batch",
        ("test_training_failures", "test_training_short_of_memory")),
    Row("poison pictures", ">= 40 kinds, 60 s fuzz: 0 crashes, 2 s and 512 MiB each, named",
        ("test_poison_pictures_are_each_refused", "test_memory_limit",
         "test_pictures_fuzzed_for_a_minute")),
    Row("worker killed", "decoded again alone, then exit 5; never a verdict on the picture",
        ("test_worker_ended_once", "test_worker_killed_twice")),
    Row("disk full while decoding", "exit 5 with TMPDIR named; never a verdict on the picture",
        ("test_disk_full_while_decoding", "test_disk_full_in_validate")),
    Row("archives", "0 writes outside the root", ("test_data_sources::test_collect_archive",
        "test_data_sources::test_collect_tar", "test_data_sources::test_collect_zip")),
    Row("hostile names", "0 side effects, never a caption or a path",
        ("test_examine_hostile_names", "test_shown_name")),
    Row("pickled weights", "canary never created", ("test_pickled_weights", "pickle")),
    Row("remote code, SSRF", "100 % refused",
        ("test_refused_addresses", "test_model_folder_with_code")),
    Row("canary secrets", "0 hits",
        ("test_full_run_leaves_no_secret", "test_step_leaves_no_secret", "test_refused_secret")),
    Row("gc beside writers", "no committed blob is ever lost", ("test_gc_beside_writers",)),
    Row("hostile texts", "configuration, manifests, prompts: only expected errors",
        ("test_fuzzed_texts",)),
)  # fmt: skip


def main(folder: Path) -> int:
    """Print the table of a folder and return the exit code."""
    rows = {row.fault: row for row in ROWS}
    for path in sorted(folder.glob("*.figure.json")):
        value = json.loads(path.read_text())
        rows[value["row"]].figures.append(value["figure"])
    for report in sorted(folder.glob("results*.xml")):
        for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314  (we wrote it)
            _count(case)
    lines = [
        "| fault | figure to reach | measured | verdict |",
        "| --- | --- | --- | --- |",
        *(f"| {row.fault} | {row.bar} | {row.said} | {row.verdict} |" for row in ROWS),
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    value = [{**asdict(row), "verdict": row.verdict} for row in ROWS]
    (folder / "faults.json").write_text(json.dumps(value, indent=2) + "\n")
    return int(not all(row.is_settled for row in ROWS))


def _count(case: ElementTree.Element) -> None:
    """Add one test to the rows that it shows."""
    name = f"{case.get('classname', '').rsplit('.', 1)[-1]}::{case.get('name', '')}"
    for row in ROWS:
        if any(part in name for part in row.tests):
            skipped = case.find("skipped")
            failed = case.find("failure") is not None or case.find("error") is not None
            row.num_failed += failed
            if skipped is not None:
                row.reasons.append(skipped.get("message", ""))
            elif not failed:
                row.num_passed += 1
                row.shown += [part for part in row.tests if part in name and part not in row.shown]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
