"""What the first step of a pipeline does before its own work: complete and record the run."""

import logging
from collections.abc import Mapping

from boothline import settings as environment
from boothline.catalogue import steps
from boothline.config import RunConfig
from boothline.config.form import completed, encode
from boothline.errors import ConfigError
from boothline.runs import open_run, read_run, resolved_run_id
from boothline.steps import reason_last
from boothline.store import Store

logger = logging.getLogger(__name__)


def begun(
    run_id: str, config: str, *, pipeline: str, form: Mapping[str, object], loops: Mapping[str, int]
) -> str:
    """Return the whole configuration of a run as JSON, and record in the store that it has begun.

    Args:
        run_id: as the pipeline was started with.
        config: the parameter `config`: settings as YAML or JSON.
        pipeline: name of the pipeline.
        form: the other parameters, by name.
        loops: number of shards that the pipeline was built for, by step; 1 for one that is missing.

    Raises:
        ConfigError: a setting is wrong or missing, or the pipeline was built for other shards.
    """
    with reason_last():
        resolved = completed(config, form, pipeline=pipeline, shards=_settings_of(loops))
        _check_loops(resolved, loops, pipeline=pipeline)
        settings = environment.current()
        run_id = resolved_run_id(run_id, job_id=settings.job_id)
        open_run(Store.connect(settings), run_id, resolved, pipeline=pipeline)
        return encode(resolved)


def recorded_config(run_id: str, config: str) -> str:
    """Return the whole configuration of a run that has begun; else what it was started with."""
    with reason_last():
        settings = environment.current()
        record = read_run(Store.connect(settings), resolved_run_id(run_id, job_id=settings.job_id))
        return config if record is None else encode(record.config)


def _settings_of(loops: Mapping[str, int]) -> dict[str, int]:
    """Return the settings that ask for the shards that a pipeline was built for."""
    return {
        step.shards.setting: loops.get(step.name, 1) for step in steps() if step.shards is not None
    }


def _check_loops(config: RunConfig, loops: Mapping[str, int], *, pipeline: str) -> None:
    """Refuse a configuration that asks for other shards than the pipeline was built for.

    Raises:
        ConfigError: it does.
    """
    for step in steps():
        if step.shards is None or pipeline not in step.pipelines:
            continue
        asked, built = step.shards.count(config), loops.get(step.name, 1)
        if asked != built:
            raise ConfigError(
                f"{step.shards.setting} is {asked}, and this version of the pipeline was built for "
                f"{built}.",
                remedy=f"Set {step.shards.setting} to {built}, or upload a version for it: "
                "boothline upload run.yaml --deployment FILE.",
            )
