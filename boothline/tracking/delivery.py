"""Sending entries of a spool to an MLflow run."""

import json
import logging
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from boothline.tracking.client import RejectedError, translated
from boothline.tracking.spool import Entry, Spool

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Metric, Param, RunTag

logger = logging.getLogger(__name__)

# Of one request: MLflow takes 1,000 items, among them 100 parameters and 100 tags.
MAX_METRICS = 800
MAX_TEXTS = 100
MAX_PARAM_CHARACTERS = 6000
MAX_TAG_CHARACTERS = 8000


def text_of(value: object) -> str:
    """Return a parameter as text: texts as they are, everything else as JSON where it can be.

    A parameter never changes in MLflow, so whoever logs it must write it the same way.
    """
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def shortened(text: str, limit: int) -> str:
    """Return a text of at most `limit` characters, with an ellipsis where it was cut."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


class Delivery:
    """Sends entries to one MLflow run.

    Args:
        client: of the tracking server.
        mlflow_run_id: the run that receives them.
    """

    def __init__(self, client: "MlflowClient", mlflow_run_id: str) -> None:
        self._client = client
        self._run_id = mlflow_run_id

    def drain(self, spool: Spool) -> int:
        """Send all unsent entries of a spool and return their number.

        Raises:
            TrackingError: MLflow is unreachable; what was sent is acknowledged.
        """
        num_sent = 0
        entries, offset = spool.read()
        while entries:
            self.send(entries, files=spool.files)
            spool.acknowledge(offset)
            num_sent += len(entries)
            entries, offset = spool.read()
        return num_sent

    def send(self, entries: Sequence[Entry], *, files: Path) -> None:
        """Send entries; those that MLflow refuses for good are named in the log and left out.

        Raises:
            TrackingError: MLflow is unreachable.
        """
        try:
            self._send(entries, files=files)
        except RejectedError as error:
            if len(entries) == 1:
                logger.warning("left out of tracking (%s): %s", entries[0].kind, error)
                return
            middle = len(entries) // 2
            self.send(entries[:middle], files=files)
            self.send(entries[middle:], files=files)

    def _send(self, entries: Sequence[Entry], *, files: Path) -> None:
        from mlflow.entities import Metric, Param, RunTag

        texts = [
            (entry.kind, key, value) for entry in entries for key, value in entry.texts.items()
        ]
        self.batch(
            metrics=[
                Metric(key, value, entry.time_ms, entry.step)
                for entry in entries
                for key, value in entry.numbers.items()
            ],
            params=[
                Param(key, shortened(value, MAX_PARAM_CHARACTERS))
                for kind, key, value in texts
                if kind == "params"
            ],
            tags=[
                RunTag(key, shortened(value, MAX_TAG_CHARACTERS))
                for kind, key, value in texts
                if kind == "tags"
            ],
        )
        for entry in entries:
            if entry.kind == "artifact":
                self._artifact(files / entry.file, folder=entry.folder)
            elif entry.kind == "status":
                self.end(entry.status, time_ms=entry.time_ms)

    def batch(
        self,
        *,
        metrics: Sequence["Metric"] = (),
        params: Sequence["Param"] = (),
        tags: Sequence["RunTag"] = (),
    ) -> None:
        """Log any number of metrics, parameters and tags in requests that MLflow accepts.

        Raises:
            RejectedError: MLflow refuses a value.
            TrackingError: MLflow is unreachable.
        """
        kinds = [
            _chunks(metrics, MAX_METRICS),
            _chunks(params, MAX_TEXTS),
            _chunks(tags, MAX_TEXTS),
        ]
        with translated(f"log to run {self._run_id}"):
            for some_metrics, some_params, some_tags in zip_longest(*kinds, fillvalue=()):
                self._client.log_batch(self._run_id, some_metrics, some_params, some_tags)

    def inputs(self, datasets: Sequence["DatasetInput"]) -> None:
        """Name datasets as inputs of the run; those that it has already stay as they are.

        Raises:
            TrackingError: MLflow is unreachable.
        """
        if datasets:
            with translated(f"take the datasets of run {self._run_id}"):
                self._client.log_inputs(self._run_id, list(datasets))

    def start(self) -> None:
        """Mark the run as running, also when an earlier attempt or another shard has ended it.

        Raises:
            MissingError: MLflow does not have the run.
            TrackingError: MLflow is unreachable.
        """
        with translated(f"start run {self._run_id}"):
            self._client.update_run(self._run_id, status="RUNNING")

    def end(self, status: str, *, time_ms: int) -> None:
        """End the run; the last call decides.

        Raises:
            TrackingError: MLflow is unreachable.
        """
        with translated(f"end run {self._run_id}"):
            self._client.set_terminated(self._run_id, status=status, end_time=time_ms)

    def _artifact(self, path: Path, *, folder: str) -> None:
        if not path.is_file():
            logger.warning("left out of tracking (artifact): %s is gone", path)
            return
        with translated(f"take the artifact {path.name}"):
            self._client.log_artifact(self._run_id, str(path), folder or None)


def _chunks(items: Sequence["object"], size: int) -> Iterable[Sequence["object"]]:
    return (items[start : start + size] for start in range(0, len(items), size))
