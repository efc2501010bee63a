"""What is needed: the manifests that records name, the manifests those name, and their blobs."""

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from threading import Event

from boothline.errors import ConfigError, IntegrityError
from boothline.store import Manifest, Store, layout
from boothline.store.layout import is_manifest, manifest_path
from boothline.store.transfers import Counter, run_all

logger = logging.getLogger(__name__)

SWEPT_FOLDERS = (layout.STEPS, layout.TRAINING, layout.JOBS)
"""Only manifests in these are ever deleted; all others are needed by being there."""
_RESULTS = layout.step_results("train")
_NO_RECORDS = (layout.BLOBS, layout.GC, layout.PROBES)
_REF = re.compile(r"(?P<path>[A-Za-z0-9_./-]+)@sha256:[0-9a-f]{64}")

OnProgress = Callable[[int, int], None]


@dataclass
class References:
    """What was found by reading.

    Attributes:
        manifests: every manifest of the store by its path.
        named: by the key of each record, the manifest paths that it names.
        trainings: by the key of each record, the paths of the results of trainings among these.
        unreadable: keys of damaged manifests and records, with what is wrong.
    """

    manifests: dict[str, Manifest] = field(default_factory=dict)
    named: dict[str, frozenset[str]] = field(default_factory=dict)
    trainings: dict[str, frozenset[str]] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)

    def read(
        self, store: Store, keys: Iterable[str], *, on_progress: OnProgress | None = None
    ) -> None:
        """Read the manifests and records among keys, replacing what was known of them."""
        wanted = [key for key in keys if is_manifest(key) or is_record(key)]
        counter = Counter(len(wanted), on_progress)

        def load(key: str, stop: Event) -> tuple[str, Manifest | dict[str, object] | None, str]:
            try:
                if is_manifest(key):
                    found = store.look_up(manifest_path(key))
                    return key, None if found is None else found[1], ""
                return key, store.get_record(key), ""
            except (IntegrityError, ConfigError) as error:
                return key, None, error.message
            finally:
                counter.add(1)

        for key, found, problem in run_all([partial(load, key) for key in wanted]):
            self._take(key, found, problem)

    def needed(
        self, *, young: Iterable[str] = (), ignored: frozenset[str] = frozenset()
    ) -> frozenset[str]:
        """Return the paths of all manifests that are needed.

        Args:
            young: paths of manifests that are needed because they are new.
            ignored: keys of records that do not count.
        """
        keys = [key for key in self.named if key not in ignored]
        waiting = {*young, *(path for key in keys for path in self.named[key])}
        folders = self.needed_folders(ignored=ignored)
        for path in self.manifests:
            if not path.startswith(SWEPT_FOLDERS) or path.startswith(folders):
                waiting.add(path)
        reached: set[str] = set()
        while waiting:
            path = waiting.pop()
            if path in reached:
                continue
            reached.add(path)
            manifest = self.manifests.get(path)
            if manifest is not None:
                waiting |= set(_paths_in([*manifest.inputs, manifest.metadata]))
        return frozenset(reached)

    def needed_folders(self, *, ignored: frozenset[str] = frozenset()) -> tuple[str, ...]:
        """Return the folders in which everything is needed.

        These are the states of every training that a record names, and what its nodes are sent and
        send back until its result is committed.

        Args:
            ignored: keys of records that do not count.
        """
        keys = [key for key in self.trainings if key not in ignored]
        results = {path for key in keys for path in self.trainings[key]}
        states = [layout.training_states(layout.key_in(path)) for path in results]
        jobs = [
            layout.node_files(layout.key_in(path)) for path in results if path not in self.manifests
        ]
        return tuple(f"{folder}/" for folder in (*states, *jobs))

    def users_of_blobs(self, paths: Iterable[str]) -> dict[str, list[str]]:
        """Return the sha256 of every blob that these manifests name, with the manifests."""
        users: dict[str, list[str]] = {}
        for path in sorted(paths):
            for sha256 in {entry.sha256 for entry in self.manifests[path].files}:
                users.setdefault(sha256, []).append(path)
        return users

    def _take(self, key: str, found: Manifest | dict[str, object] | None, problem: str) -> None:
        self.forget(key)
        if problem:
            self.unreadable[key] = problem
        elif isinstance(found, Manifest):
            self.manifests[manifest_path(key)] = found
        elif found is not None:
            own = _paths_of_step(found) if layout.STEP_RECORD.fullmatch(key) else ()
            self.named[key] = frozenset([*_paths_in(found), *own])
            self.trainings[key] = frozenset(path for path in own if path.startswith(_RESULTS))

    def forget(self, key: str) -> None:
        """Drop what is known of an object."""
        self.unreadable.pop(key, None)
        self.named.pop(key, None)
        self.trainings.pop(key, None)
        if is_manifest(key):
            self.manifests.pop(manifest_path(key), None)


def is_record(key: str) -> bool:
    """Return whether an object is a record that may name manifests."""
    return key.endswith(".json") and not is_manifest(key) and not key.startswith(_NO_RECORDS)


def _paths_of_step(record: Mapping[str, object]) -> tuple[str, ...]:
    """Return where a step commits its result: the path is taken from its record's key parts.

    It is written down before the step starts, so that what a running step makes is needed from the
    first moment on.
    """
    step, parts = record.get("step"), record.get("key_parts")
    if not isinstance(step, str) or not isinstance(parts, dict) or not parts:
        return ()
    return (layout.step_result(step, layout.key_of(parts)),)


def _paths_in(value: object) -> Iterator[str]:
    """Yield the paths of all manifest references anywhere in a JSON value."""
    if isinstance(value, str):
        match = _REF.fullmatch(value)
        if match is not None:
            yield match["path"]
    elif isinstance(value, Mapping):
        if isinstance(value.get("path"), str) and isinstance(value.get("digest"), str):
            yield value["path"]
        for inner in value.values():
            yield from _paths_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _paths_in(inner)
