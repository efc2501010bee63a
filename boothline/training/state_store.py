"""Keeps training states in the store: commits in the background, prunes, finds the newest."""

import logging
import os
import shutil
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from boothline.errors import IntegrityError, NotFoundError
from boothline.store import ManifestRef, Store
from boothline.training.job import TrainingJob
from boothline.training.states import Snapshot

logger = logging.getLogger(__name__)

NICENESS = 15


@dataclass(frozen=True, kw_only=True)
class FoundState:
    """A training state whose every file was verified.

    Attributes:
        ref: its manifest.
        step: optimizer steps behind it; its files lie in the job's `state_folder(step)`.
    """

    ref: ManifestRef
    step: int


class StateStore:
    """The training states of one job; used by rank 0 alone.

    Args:
        store: where they are committed.
        job: whose states they are.
    """

    def __init__(self, store: Store, *, job: TrainingJob) -> None:
        self._store = store
        self._job = job
        self._writer = ThreadPoolExecutor(
            max_workers=1, thread_name_prefix="state-writer", initializer=_give_way
        )
        self._pending: Future[ManifestRef] | None = None

    def newest(self) -> FoundState | None:
        """Return the newest state that verifies, or None when there is none.

        A damaged state is skipped with a warning and its manifest removed, so that the training
        can commit it again.
        """
        for step in reversed(self._steps()):
            try:
                ref = self.fetch(step)
            except (IntegrityError, NotFoundError) as error:
                path = self._job.state_path(step)
                logger.warning("training state %s is damaged, falling back: %s", path, error)
                self._store.forget(path)
                continue
            return FoundState(ref=ref, step=step)
        return None

    def fetch(self, step: int) -> ManifestRef:
        """Bring the verified files of a state into the job's `state_folder(step)`.

        Raises:
            NotFoundError: the state or one of its files does not exist.
            IntegrityError: the state or one of its files differs from its digest.
        """
        ref = self.find(step)
        self._store.fetch(ref, self._job.state_folder(step))
        return ref

    def find(self, step: int) -> ManifestRef:
        """Return the reference of the state after `step` steps.

        Raises:
            NotFoundError: it does not exist.
        """
        path = self._job.state_path(step)
        ref = self._store.find(path)
        if ref is None:
            raise NotFoundError(f"The training state {path} does not exist.")
        return ref

    def commit_later(self, snapshot: Snapshot, *, keep: int | None = None) -> None:
        """Commit a snapshot in the background, after the one before it has arrived.

        Args:
            snapshot: what to commit.
            keep: steps of a state that is kept in addition to the newest, e.g. the best.

        Raises:
            StoreError: the snapshot before this one could not be committed.
        """
        self.wait()
        self._pending = self._writer.submit(self._commit, snapshot, keep)

    def wait(self) -> ManifestRef | None:
        """Wait for the state under way and return the reference of the last one.

        Raises:
            StoreError: it could not be committed.
        """
        return self._pending.result() if self._pending is not None else None

    def close(self) -> None:
        """End the background thread once its work is done."""
        self._writer.shutdown(wait=True)

    def _commit(self, snapshot: Snapshot, keep: int | None) -> ManifestRef:
        """Write, commit, verify, prune."""
        folder = self._job.folder / "writing" / f"step-{snapshot.step:06d}"
        try:
            ref = self._store.commit(self._job.state_path(snapshot.step), snapshot.draft(folder))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self._store.read(ref)
        logger.info("training state %s committed", ref)
        self._prune(newest=snapshot.step, keep=keep)
        return ref

    def _steps(self) -> list[int]:
        """Return the steps of the states in the store, ascending."""
        paths = self._store.manifests(f"{self._job.states}/")
        return sorted(int(path.rsplit("-", 1)[-1]) for path in paths)

    def _prune(self, *, newest: int, keep: int | None) -> None:
        """Forget the states before the newest `checkpoints.keep_last`, but for the kept one."""
        steps = [step for step in self._steps() if step <= newest]
        for step in steps[: -self._job.config.checkpoints.keep_last]:
            if step == keep:
                continue
            path = self._job.state_path(step)
            self._store.forget(path)
            logger.info("training state %s forgotten", path)


def _give_way() -> None:
    """Let this thread, and those that it starts, run in the time that training leaves (Linux)."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
