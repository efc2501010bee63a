"""Boothline in Python: `boothline.run`, `boothline.Run` and `boothline.load_champion`."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from rich.console import Console

from boothline.config import RunConfig
from boothline.config.fields import REQUIRED
from boothline.config.loading import resolve as resolve_config
from boothline.errors import NotFoundError
from boothline.launch.local.display import PlainDisplay
from boothline.launch.local.folder import existing_folder, folder_of, new_run_id
from boothline.launch.local.prechecks import with_absolute_paths
from boothline.launch.local.session import existing_session, home_folder, open_session
from boothline.launch.local.summary import Summary, summarise
from boothline.launch.local.workflow import carry_out
from boothline.registry.loaded import LoadedModel
from boothline.registry.versions import resolve


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run of the pipeline on this machine.

    Attributes:
        home: the home folder, which has its logs and the local services.
        summary: what `boothline status --output json` shows: steps, scores, verdict, rules.
    """

    home: Path
    summary: Summary

    @classmethod
    def find(cls, run_id: str | None = None, *, home: Path | str | None = None) -> Self:
        """Return a run that was started before; None: the last one.

        Raises:
            ConfigError: there is no such run.
            ServiceError: the store does not run, or is unreachable.
        """
        folder = home_folder(Path(home) if home else None)
        found = existing_folder(folder, run_id)
        return cls(home=folder, summary=summarise(open_session(folder, start=False), found))

    @property
    def run_id(self) -> str:
        """Its name, `YYYYMMDD-HHMMSS-<4 hex>`."""
        return self.summary.run_id

    @property
    def status(self) -> str:
        """One of running, done, refused, failed and interrupted."""
        return self.summary.status

    @property
    def promoted(self) -> bool:
        """Whether the gate made its model the champion."""
        return self.summary.verdict == "promoted"

    @property
    def metrics(self) -> Mapping[str, float]:
        """Mean scores by name."""
        return self.summary.metrics

    @property
    def report(self) -> Path:
        """The report, an HTML page.

        Raises:
            NotFoundError: there is none yet.
        """
        if not self.summary.report:
            raise NotFoundError(f"Run {self.run_id} has no report yet.")
        return Path(self.summary.report)

    def load_model(self) -> LoadedModel:
        """Return the model that it trained, loaded, whether it was promoted or not.

        Raises:
            NotFoundError: it has not registered one.
            IntegrityError: a file differs from its digest, or the signature is invalid.
        """
        model = self.summary.model
        if model is None:
            raise NotFoundError(f"Run {self.run_id} has not registered a model.")
        return load_version(model.name, model.version, home=self.home)


def run(
    config: RunConfig | Mapping[str, object] | Path | str,
    *,
    home: Path | str | None = None,
    quiet: bool = False,
) -> Run:
    """Run the pipeline here and return the run once it has ended.

    A refusal by the gate is a result: see `Run.promoted`.

    Args:
        config: a configuration, its settings by section as in run.yaml, or such a file.
        home: the home folder; None: that of the environment, or else ./.boothline.
        quiet: write no lines about its progress to stderr.

    Raises:
        ConfigError: a setting is wrong, or another run is active.
        BoothlineError: a step failed; the message says how to continue.
    """
    chosen = with_absolute_paths(_config(config))
    folder = home_folder(Path(home) if home else None)
    started = folder_of(folder, new_run_id(datetime.now(UTC)))
    display = PlainDisplay(Console(stderr=True, quiet=quiet))
    summary, error = carry_out(folder, started, chosen, display=display)
    if error is not None:
        raise error
    return Run(home=folder, summary=summary)


def load_champion(name: str, *, home: Path | str | None = None) -> LoadedModel:
    """Return the champion of a model, loaded; its bytes were compared with their digests.

    Args:
        name: the registered model, e.g. `boothline-teddy-bear`.
        home: the home folder; None: that of the environment, or else ./.boothline.

    Raises:
        ModelNotFoundError: there is no such model, or it has no champion.
        IntegrityError: a file differs from its digest, or the signature is invalid.
    """
    return load_version(name, "champion", home=home)


def load_version(name: str, selector: str, *, home: Path | str | None = None) -> LoadedModel:
    """Return a version by alias or number, as `load_champion` does."""
    with existing_session(Path(home) if home else None) as session:
        version = resolve(session.store, name, selector)
        return LoadedModel.load(session.store, session.settings, version)


def _config(config: RunConfig | Mapping[str, object] | Path | str) -> RunConfig:
    """Return the configuration that is meant.

    Raises:
        ConfigError: a setting is wrong, or one that every run needs is missing.
    """
    if isinstance(config, RunConfig):
        return config
    if isinstance(config, Mapping):
        return resolve_config([], values=config, required=REQUIRED)
    return resolve_config([Path(config)], required=REQUIRED)
