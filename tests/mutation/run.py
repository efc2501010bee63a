"""Changes one thing at a time in the modules that results rest on, and counts what the tests miss.

Usage: PYTHONPATH=tests python -m mutation.run [PATH ...], a path being one of MODULES; all without.
Prints a table and the survivors. Exits with 1 if a module's score is under 95 %, or a survivor is
not listed with its reason in docs/testing.md.

Cosmic Ray's own runner starts an interpreter for each mutant, which takes seconds to import torch.
Here a process that has imported the libraries forks, and the child runs those tests of the module's
folders that execute the changed function. It does so in a copy of the working tree, so that the
subprocesses of a test run the mutant as well.
"""

import gc
import importlib
import json
import math
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import coverage
import pytest
from mutation.mutants import Mutant, functions_of, mutants_of
from mutation.score import Change, Score, listed_survivors, report

ROOT = Path(__file__).resolve().parents[2]
NUM_WORKERS = 2
MEMORY_BYTES = 12 * 2**30
TRIED = "not gpu and not containers and not slow and not matrix"
"""What `make test` runs: the rest of the matrix would take most of the time of each survivor."""
SERVERS = {"object_store", "mlflow_uri"}
"""Fixtures that start a server; tests with one belong to the integration tests and do not count."""


@dataclass(frozen=True)
class Module:
    """A module to mutate.

    Attributes:
        folders: whose tests have to notice; one that does not exist is left out.
        functions: the only ones to mutate; the whole module if empty.
    """

    folders: tuple[str, ...]
    functions: tuple[str, ...] = ()


TRAINING = ("tests/unit/training", "tests/reference")
STORE = ("tests/unit/store",)
COMMIT = (
    "commit", "look_up", "sweep_mark", "undisturbed_since", "_upload", "_store_again",
    "_store_blobs", "_committed_by_another", "_key", "_entry_of", "_first_reason",
)  # fmt: skip
CLAIM = ("put_if_absent", "_claim", "_put", "_owner_of", "_require_conditional_put")
MODULES = {
    "boothline/training/batches.py": Module(TRAINING),
    "boothline/training/stepping.py": Module(TRAINING),
    "boothline/training/objective.py": Module(TRAINING),
    "boothline/training/optimizing.py": Module(TRAINING),
    "boothline/registry/gate.py": Module(("tests/unit/registry",)),
    "boothline/evaluation/metrics.py": Module(("tests/unit/evaluation",)),
    "boothline/store/store.py": Module(STORE, COMMIT),
    "boothline/store/s3.py": Module(STORE, CLAIM),
    "boothline/store/blobs.py": Module(STORE, ("describe", "upload", "_checked_parts", "require")),
    "boothline/store/records.py": Module(STORE, ("seal", "unseal")),
    "boothline/data/decoding.py": Module(("tests/unit/data",)),
    "boothline/data/opening.py": Module(("tests/unit/data",)),
    "boothline/planning/memory.py": Module(("tests/unit/planning",)),
}


def main(paths: list[str]) -> int:
    """Test the mutants of modules and report; return the exit code."""
    modules = {path: MODULES[path] for path in paths or MODULES}
    started_at = time.monotonic()
    scores = {path: Score(path) for path in modules}
    listed = listed_survivors(ROOT / "docs" / "testing.md")
    with tempfile.TemporaryDirectory(prefix="boothline-mutants-") as scratch:
        first = copy_tree(Path(scratch, "0"))
        notes = [observe(first, folders, modules) for folders in _folders(modules.values())]
        trees = [first, *(Path(scratch, str(n)) for n in range(1, NUM_WORKERS))]
        for tree in trees[1:]:
            shutil.copytree(first, tree, symlinks=True)
        for name in dict.fromkeys(name for noted in notes for name in noted["libraries"]):
            _import_library(name)
        gc.freeze()  # so that no child looks through, and copies, what its parent holds
        jobs = (job for noted in notes for job in jobs_of(noted, modules, listed))
        for job, is_killed in outcomes(jobs, trees):
            scores[job.path].count(job.mutant, is_killed=is_killed)
            survivor = f"\n{job.path}:{job.mutant.line}: {job.mutant.new or 'deleted'}\n"
            sys.stdout.write("." if is_killed else survivor)
            sys.stdout.flush()
    minutes = (time.monotonic() - started_at) / 60
    sys.stdout.write(f"\n\n{minutes:.0f} minutes with {NUM_WORKERS} processes\n\n")
    return report(list(scores.values()), listed)


def _folders(modules: Iterable[Module]) -> list[tuple[str, ...]]:
    return list(dict.fromkeys(module.folders for module in modules))


def copy_tree(folder: Path) -> Path:
    """Copy every file that git does not ignore into a folder, and return it."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    for name in filter(None, names.decode().split("\0")):
        if (ROOT / name).is_file() or (ROOT / name).is_symlink():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    return folder


class Observer:
    """Notes, while nothing is changed, which tests execute a function, and how long they take."""

    def __init__(self, tree: Path, paths: Iterable[str]) -> None:
        self._tree = tree
        self._files = files = {path: tree / path for path in paths}
        include = [str(file) for file in files.values()]
        self._coverage = coverage.Coverage(data_file=None, include=include, config_file=False)
        self._coverage.start()
        self._seconds: dict[str, float] = {}

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._coverage.switch_context(nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._seconds[report.nodeid] = self._seconds.get(report.nodeid, 0.0) + report.duration

    def notes(self) -> dict[str, Any]:
        """Return seconds by test, tests by module and function, and the imported libraries."""
        self._coverage.stop()
        tests = {path: self._tests_by_function(file) for path, file in self._files.items()}
        files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
        ours = str(self._tree)
        libraries = [name for name, file in files.items() if file and not file.startswith(ours)]
        return {"seconds": self._seconds, "tests": tests, "libraries": libraries}

    def _tests_by_function(self, file: Path) -> dict[str, list[str]]:
        functions = functions_of(file.read_text())
        tests: dict[str, set[str]] = {}
        for line, contexts in self._coverage.get_data().contexts_by_lineno(str(file)).items():
            tests.setdefault(functions.get(line, ""), set()).update(contexts)
        return {name: sorted(found - {""}) for name, found in tests.items()}


class Chosen:
    """Keeps the tests that count and are asked for, those of the fastest file first."""

    def __init__(self, tests: Iterable[str], seconds: Mapping[str, float]) -> None:
        self._tests, self._seconds = set(tests), seconds

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        kept = [item for item in items if not SERVERS & set(getattr(item, "fixturenames", ()))]
        if self._tests:
            kept = [item for item in kept if item.nodeid in self._tests]
        cost: dict[Path, float] = {}
        for item in kept:
            cost[item.path] = cost.get(item.path, 0.0) + self._seconds.get(item.nodeid, 0.0)
        items[:] = sorted(kept, key=lambda item: cost[item.path])


def observe(tree: Path, folders: tuple[str, ...], modules: Mapping[str, Module]) -> dict[str, Any]:
    """Run the tests of folders without a mutant and return what `Observer` notes.

    Raises:
        SystemExit: they do not pass.
    """
    paths = [path for path, module in modules.items() if module.folders == folders]
    noted = tree.with_suffix(".json")

    def run() -> int:
        observer = Observer(tree, paths)
        code = run_tests(tree, folders, [observer, Chosen((), {})])
        noted.write_text(json.dumps(observer.notes()))
        return code

    _, code = finished(start(tree, run, seconds=3600))
    if code:
        sys.exit(f"{folders}: the tests fail without a mutant:\n{_log(tree).read_text()}")
    result: dict[str, Any] = json.loads(noted.read_text())
    return result


@dataclass(frozen=True)
class Job:
    """A mutant with the tests that may notice it.

    Attributes:
        path: the module's.
        mutant: of that module.
        files: of the tests.
        tests: their names; all of the files if empty.
        seconds: by test, without a mutant.
    """

    path: str
    mutant: Mutant
    files: tuple[str, ...]
    tests: tuple[str, ...]
    seconds: Mapping[str, float]

    @property
    def limit_seconds(self) -> float:
        """After which the tests count as hanging."""
        return 20 + 3 * sum(self.seconds[test] for test in self.tests)


def jobs_of(
    noted: Mapping[str, Any], modules: Mapping[str, Module], listed: set[Change]
) -> Iterator[Job]:
    """Yield the mutants of the observed modules with the tests that execute their function.

    What runs while a module is imported may be noticed by every test that executes some function.
    A listed survivor, for which each of them would run, gets no test and so survives again.
    """
    seconds = noted["seconds"]
    for path, by_function in noted["tests"].items():
        wanted = modules[path].functions
        everything = sorted({test for tests in by_function.values() for test in tests})
        for mutant in mutants_of((ROOT / path).read_text()):
            if wanted and mutant.function not in wanted:
                continue
            tests = by_function.get(mutant.function, ()) if mutant.function else everything
            if (path, mutant.old, mutant.new) in listed:
                tests = ()
            files = tuple(dict.fromkeys(test.partition("::")[0] for test in tests))
            yield Job(path, mutant, files, tuple(tests), seconds)


def outcomes(jobs: Iterator[Job], trees: list[Path]) -> Iterator[tuple[Job, bool]]:
    """Test mutants, one a tree at a time, and yield whether each one was killed."""
    running: dict[int, tuple[Job, Path]] = {}
    free = list(trees)
    for job in jobs:
        if not job.tests:
            yield job, False
            continue
        tree = free.pop()
        running[_begin(job, tree)] = (job, tree)
        if not free:
            yield _next_outcome(running, free)
    while running:
        yield _next_outcome(running, free)


def _next_outcome(running: dict[int, tuple[Job, Path]], free: list[Path]) -> tuple[Job, bool]:
    process, code = finished()
    job, tree = running.pop(process)
    shutil.copy2(ROOT / job.path, tree / job.path)
    free.append(tree)
    return job, code != 0


def _begin(job: Job, tree: Path) -> int:
    """Start the tests of a mutant in a tree; return the process id."""
    (tree / job.path).write_text(job.mutant.source)

    def run() -> int:
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        return run_tests(tree, job.files, [Chosen(job.tests, job.seconds)])

    return start(tree, run, seconds=job.limit_seconds)


def start(tree: Path, run: Callable[[], int], *, seconds: float) -> int:
    """Fork a child that runs something in a tree, for so long at most; return its process id."""
    process = os.fork()
    if process:
        return process
    try:
        os.setsid()
        signal.alarm(math.ceil(seconds))  # nothing handles it, so it ends the process
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        os.chdir(tree)
        sys.path.insert(0, str(tree))
        os.environ.update(PYTHONPATH=str(tree), PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
        with _log(tree).open("wb") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        os._exit(run())
    except BaseException:  # noqa: BLE001 - the child must never become a second parent
        traceback.print_exc()
    finally:
        os._exit(70)


def finished(process: int = -1) -> tuple[int, int]:
    """Wait for a child, end what it left, return its id and exit status; a signal is negative."""
    process, status = os.waitpid(process, 0)
    with suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)
    return process, os.waitstatus_to_exitcode(status)


def run_tests(tree: Path, names: Iterable[str], plugins: list[object]) -> int:
    """Run the tests of files and folders in this process; return pytest's exit code."""
    present = [name for name in names if (tree / name).exists()]
    options = ["-x", "-q", "-p", "no:cacheprovider", f"--basetemp={tree}.tmp"]
    return int(pytest.main([*options, "-m", TRIED, *present], plugins))


def _log(tree: Path) -> Path:
    return tree.with_suffix(".log")


def _import_library(name: str) -> None:
    """Import what the tests import; some parts of a library cannot be imported by themselves."""
    if name not in sys.modules:
        with suppress(Exception):
            importlib.import_module(name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
