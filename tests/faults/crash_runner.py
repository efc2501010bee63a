"""Runs a workload again and again, each time ending the process at another call of the store.

Started as a program; reads a request as JSON from standard input, answers with JSON. The workload
is imported once, and every attempt is a fork of that process, so that a repeat costs its own work.
"""

import json
import os
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from boothline.settings import Settings
from boothline.store import ManifestDraft, ManifestRef, Store
from boothline.store.s3 import Bucket
from boothline.store.verification import verify

KILLED = 137
Digests = dict[str, str]
Workload = Callable[[Settings, Path], Digests]


def main() -> None:
    """Answer the request."""
    request = json.load(sys.stdin)
    settings = Settings.model_validate(request["settings"])
    workload = small_job if request["workload"] == "store" else training(request)
    folder = Path(request["folder"])
    answer = repeat(
        workload, settings, folder=folder, stride=request["stride"], last=request.get("last")
    )
    sys.stdout.write(json.dumps(answer))


def repeat(
    workload: Workload, settings: Settings, *, folder: Path, stride: int, last: int | None
) -> dict[str, Any]:
    """End the workload at every `stride`-th call of the store, resume it, compare the result."""
    whole = settings.model_copy(update={"prefix": f"{settings.prefix}-whole"})
    code, expected = attempt(workload, whole, folder / "whole", die_at=None)
    if code:
        raise SystemExit(f"the uninterrupted workload ended with {code}")
    failures: list[str] = []
    num_crashes = num_resumed = number = 0
    while last is None or number < last:
        number += stride
        own = settings.model_copy(update={"prefix": f"{settings.prefix}-{number}"})
        code, _ = attempt(workload, own, folder / f"{number}-killed", die_at=number)
        if code == 0:
            break  # it has fewer calls than that
        if code != KILLED:
            failures.append(f"call {number}: ended with {code} instead of {KILLED}")
            continue
        num_crashes += 1
        num_failures = len(failures)
        code, digests = attempt(workload, own, folder / f"{number}-resumed", die_at=None)
        if code or digests != expected:
            failures.append(f"call {number}: resumed with {code}, equal: {digests == expected}")
        if damages := verify(Store.connect(own)).damages:
            failures.append(f"call {number}: torn: {damages}")
        num_resumed += len(failures) == num_failures
    return {"num_crashes": num_crashes, "num_resumed": num_resumed, "failures": failures}


def attempt(
    workload: Workload, settings: Settings, folder: Path, *, die_at: int | None
) -> tuple[int, Digests]:
    """Run the workload in a fork; return its exit code and the digests of its result."""
    folder.mkdir(parents=True)
    result = folder / "digests.json"
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if die_at is not None:
                _die_at(die_at)
            home = settings.model_copy(update={"home": folder / "home"})
            result.write_text(json.dumps(workload(home, folder)))
            code = 0
        except BaseException:  # noqa: BLE001  (a fork never returns)
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code, json.loads(result.read_text()) if code == 0 else {}


def _die_at(number: int) -> None:
    """End this process at a call of the store: odd ones before the request, even ones after it."""
    request, lock, calls = Bucket.run, threading.Lock(), [0]

    def run(self: Bucket, operation: Callable[[], Any], *, what: str) -> Any:
        with lock:
            calls[0] += 1
            mine = calls[0] == number
        if mine and number % 2:
            os._exit(KILLED)
        answer = request(self, operation, what=what)
        if mine:
            os._exit(KILLED)
        return answer

    Bucket.run = run  # type: ignore[method-assign]


def small_job(settings: Settings, folder: Path) -> Digests:
    """Do what a training does to the store, without training: states, pruning, a result."""
    store = Store.connect(settings)
    done, weights = 0, b"start"
    for path in reversed(store.manifests("training/job/")):
        ref = store.find(path)
        assert ref is not None
        weights = store.fetch(ref, folder / "resumed").joinpath("weights").read_bytes()
        done = store.read(ref).metadata["step"]
        break
    last: ManifestRef | None = store.find(f"training/job/step-{done}") if done else None
    for step in range(done + 1, 4):
        weights = weights + b" and step %d" % step
        path = f"training/job/step-{step}"
        files = {"weights": weights, "curve": b"%d" % step}
        last = store.commit(
            path, ManifestDraft(kind="state", files=dict(files), metadata={"step": step})
        )
        for old in store.manifests("training/job/")[:-2]:
            store.forget(old)
    assert last is not None
    final = store.commit(
        "steps/train/job",
        ManifestDraft(
            kind="training",
            files={"weights": store.read(last).entry("weights")},
            inputs=(last,),
        ),
    )
    store.put_record("runs/r/run.json", {"manifest": str(final)})
    return {entry.path: entry.sha256 for entry in store.read(final).files}


def training(request: dict[str, Any]) -> Workload:
    """Return a workload that trains the tiny random model on one rank."""
    import torch

    from boothline.training.job import TrainingJob
    from boothline.training.ranks import Requests
    from boothline.training.worker import run_rank

    torch.set_num_threads(1)

    def train(settings: Settings, folder: Path) -> Digests:
        job = TrainingJob.model_validate({**request["job"], "folder": str(folder)})
        run_rank(job, settings=settings, requests=Requests())
        ref = json.loads((folder / "result.json").read_text())["final_state"]
        return {entry.path: entry.sha256 for entry in Store.connect(settings).read(ref).files}

    return train


if __name__ == "__main__":
    main()
