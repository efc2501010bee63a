"""Reads a run's records and manifests; what cannot be read becomes a notice on the page."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from boothline.catalogue import ends_run, place_of
from boothline.config import RunConfig
from boothline.errors import BoothlineError, ConfigError, DataError, NotFoundError
from boothline.report.model import CurvePoint
from boothline.results import Result, parts_in
from boothline.runs import RunRecord, StepRecord, read_run, read_steps, trial_run_id
from boothline.store import Manifest, ManifestRef, Store
from boothline.trials import best_trial, trial_configs

logger = logging.getLogger(__name__)


class Loose(BaseModel):
    """Base of records written by other steps: fields that the report does not know are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class ScoreRow(Loose):
    """One line of the `scores.jsonl` of an evaluation."""

    model: str
    image: str
    prompt: str = ""
    sample: int = 0
    nearest: str = ""
    nearest_cosine: float = 0.0


class AcceptedRecord(Loose):
    """An accepted picture in the data report."""

    source: str
    image: str = ""
    width_px: int = 0
    height_px: int = 0


class QuarantineRecord(Loose):
    """A refused picture in the data report; the reason reads on from its name."""

    source: str
    reason: str = ""
    advice: str = ""
    thumbnail: str = ""


class WarningRecord(Loose):
    """A warning in the data report; the message reads on from the picture's name."""

    source: str = ""
    message: str
    advice: str = ""


class DataReport(Loose):
    """`report.json` of a `dataset` manifest."""

    accepted: tuple[AcceptedRecord, ...] = ()
    quarantined: tuple[QuarantineRecord, ...] = ()
    warnings: tuple[WarningRecord, ...] = ()


class CaptionRecord(Loose):
    """One line of a `captions.jsonl`."""

    image: str
    caption: str = ""
    source: str = ""


class BatchRecord(Loose):
    """One line of the `index.jsonl` of batch inference."""

    image: str
    prompt: str = ""
    seed: int | None = None


_CURVE_LINE = TypeAdapter(dict[str, float | int | None])


def curve_points(lines: Iterator[bytes]) -> Iterator[CurvePoint]:
    """Yield the points of a `curve.jsonl`.

    Raises:
        ValidationError: a line is not an object of numbers.
    """
    for line in lines:
        values = _CURVE_LINE.validate_json(line)
        yield CurvePoint(
            step=int(values.pop("step", None) or 0),
            values={key: float(value) for key, value in values.items() if value is not None},
        )


T = TypeVar("T")
ResultT = TypeVar("ResultT", bound=Result)


class RunNotFoundError(BoothlineError):
    """The store has no record of the run."""

    exit_code = 2


@dataclass(frozen=True)
class Source:
    """A manifest that the run made or reused."""

    ref: ManifestRef
    manifest: Manifest


@dataclass
class RunSources:
    """All that the report is made from.

    Attributes:
        store: where everything is read.
        record: the run.
        config: its configuration; None when this version cannot read it.
        steps: records of its steps in pipeline order, without finish_run's own.
        sources: manifests by step name.
        notices: what could not be read, in words.
    """

    store: Store
    record: RunRecord
    config: RunConfig | None
    steps: list[StepRecord]
    sources: dict[str, list[Source]] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)

    def first(self, step: str) -> Source | None:
        """Return the manifest of an unsharded step, if it was made."""
        found = self.sources.get(step)
        return found[0] if found else None

    def attempt(self, what: str, read: Callable[[], T]) -> T | None:
        """Return what `read` gives, or None and a notice when it is missing or broken.

        Raises:
            ServiceError: the store is unreachable.
        """
        try:
            return read()
        except (NotFoundError, ConfigError, DataError, KeyError, ValueError) as error:
            reason = _first_line(error)
            logger.warning("report: %s could not be read: %s", what, reason)
            self.notices.append(f"{what} could not be read: {reason}")
            return None

    def read(self, step: str, kind: type[ResultT], what: str) -> ResultT | None:
        """Return the result of an unsharded step; None, and a notice, where it cannot be read.

        Raises:
            ServiceError: the store is unreachable.
        """
        source = self.first(step)
        if source is None:
            return None
        return self.attempt(what, lambda: kind.of(source.manifest))

    def by_subject(self) -> dict[str, "RunSources"]:
        """Return the run as it is for each subject, by name; of one subject itself, unnamed."""
        if self.config is None or not self.config.subjects:
            return {"": self}
        return {
            name: replace(self, config=config, sources=self._sources_of(name))
            for name, config in self.config.by_subject.items()
        }

    def _sources_of(self, subject: str) -> dict[str, list[Source]]:
        """Return the manifests of one of several subjects, and those that are of all."""
        found: dict[str, list[Source]] = {}
        for step, sources in self.sources.items():
            parts = [parts_in(source.manifest).get(subject, source.ref) for source in sources]
            what = f"The result of {step} for {subject}"
            read = [self.attempt(what, partial(_source, self.store, str(ref))) for ref in parts]
            found[step] = [source for source in read if source is not None]
        return found

    def lines(self, source: Source, path: str) -> list[bytes]:
        """Return the lines of a JSON-lines file of a manifest."""
        data = self.store.read_entry(source.manifest.entry(path))
        return [line for line in data.splitlines() if line.strip()]

    def file(self, ref: ManifestRef, path: str) -> bytes:
        """Return a file of a manifest, which is not read again where it is one of the sources.

        Raises:
            KeyError: the manifest has no such file.
            StoreError: the manifest or the file cannot be read.
        """
        sources = (source for found in self.sources.values() for source in found)
        known = next((source.manifest for source in sources if source.ref == ref), None)
        manifest = known or self.store.read(ref)
        return self.store.read_entry(manifest.entry(path))


def _first_line(error: Exception) -> str:
    """Return one line that says what is wrong."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return f"{where}: {first['msg']}" if where else first["msg"]
    if isinstance(error, KeyError):
        return f"it has no file {error.args[0]!r}"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def order_of(step: StepRecord) -> tuple[int, str, int]:
    """Return the sort key that puts steps in pipeline order and shards by number."""
    return place_of(step.step), step.step, step.shard or 0


def read_sources(store: Store, run_id: str) -> RunSources:
    """Read a run's records and every manifest that its finished steps name.

    Raises:
        RunNotFoundError: the store has no record of the run.
        ServiceError: the store is unreachable.
    """
    record = read_run(store, run_id)
    if record is None:
        raise RunNotFoundError(
            f"There is no run {run_id!r} in {store.uri}.",
            remedy="See `boothline status` for the last run.",
        )
    return sources_of(store, record)


def sources_of(store: Store, record: RunRecord) -> RunSources:
    """Read every manifest that the finished steps of a run name; of a sweep, the best trial's."""
    records = read_steps(store, record.run_id)
    best = best_trial(store, records)
    if best is not None:
        records += read_steps(store, trial_run_id(record.run_id, best))
    steps = sorted((step for step in records if not ends_run(step.step)), key=order_of)
    run = RunSources(store=store, record=record, config=None, steps=steps)
    run.config = run.attempt("The configuration", lambda: _config_of(record, best))
    for step in steps:
        if not step.manifest:
            continue
        source = run.attempt(f"The result of {step.label}", partial(_source, store, step.manifest))
        if source and all(source.ref != other.ref for other in run.sources.get(step.step, [])):
            run.sources.setdefault(step.step, []).append(source)
    return run


def _config_of(record: RunRecord, best: int | None) -> RunConfig:
    """Return what a run was made with; of a sweep, what its best trial was."""
    config = RunConfig.model_validate(record.config)
    if best is None or best >= len(config.sweep.trials):
        return config
    return trial_configs(config)[best]


def _source(store: Store, ref: str) -> Source:
    parsed = ManifestRef.parse(ref)
    return Source(ref=parsed, manifest=store.read(parsed))
