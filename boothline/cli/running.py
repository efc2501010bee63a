"""Commands that run a pipeline: demo, run, resume."""

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from boothline.cli.cluster import cluster_cancel, cluster_resume
from boothline.cli.configuring import load_config
from boothline.cli.options import (
    Configs,
    DeploymentChoice,
    Home,
    NamedRun,
    Output,
    OutputOption,
    Overrides,
    Subject,
    example,
)
from boothline.cli.printing import console, emit, is_live, say
from boothline.errors import GateRefusedError, InterruptedRunError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from boothline.config import RunConfig
    from boothline.launch.local.folder import RunFolder
    from boothline.launch.local.summary import Summary

app = typer.Typer()


class LocalPipeline(StrEnum):
    """What `run` runs; sweep and retrain have commands of their own."""

    DREAMBOOTH = "dreambooth"
    BATCH_INFERENCE = "batch_inference"


class Profile(StrEnum):
    """Where a pipeline runs."""

    LOCAL = "local"
    CONTAINERS = "containers"


RequirePromotion = Annotated[
    bool,
    typer.Option("--require-promotion", help="Exit with code 4 when the gate refuses the model."),
]


@app.command(epilog=example("boothline demo", "boothline demo --set training.num_steps=100"))
def demo(
    overrides: Overrides = None,
    require_promotion: RequirePromotion = False,
    home: Home = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Run the whole pipeline on a model and a subject that Boothline ships; takes minutes."""
    examples = Path(__file__).resolve().parents[1] / "examples"
    subject = examples / "subjects" / "teddy-bear"
    run(
        configs=[examples / "demo.yaml"],
        overrides=[f"subject.images={subject}", *(overrides or ())],
        require_promotion=require_promotion,
        home=home,
        output=output,
    )


@app.command(
    epilog=example(
        "boothline run run.yaml --set training.num_steps=200",
        "boothline run --subject examples/subjects/teddy-bear --set subject.class_noun=bear",
        "boothline run run.yaml --pipeline batch_inference --set inference.version=3",
    )
)
def run(
    configs: Configs = None,
    overrides: Overrides = None,
    subject: Subject = None,
    pipeline: Annotated[
        LocalPipeline,
        typer.Option(
            "--pipeline", help="dreambooth, or batch_inference: pictures by the registered model."
        ),
    ] = LocalPipeline.DREAMBOOTH,
    profile: Annotated[Profile, typer.Option("--profile", help="Where it runs.")] = Profile.LOCAL,
    require_promotion: RequirePromotion = False,
    home: Home = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Run the dreambooth pipeline: pictures to a judged, registered model and its pictures."""
    from boothline.launch.local.folder import folder_of, new_run_id
    from boothline.launch.local.prechecks import with_absolute_paths
    from boothline.launch.local.session import home_folder

    config = with_absolute_paths(load_config(configs, overrides, subject))
    folder = folder_of(home_folder(home), new_run_id(datetime.now(UTC)))
    if profile is Profile.CONTAINERS:
        folder.use_containers()
    carry_out_shown(
        home,
        folder,
        config,
        output=output,
        require_promotion=require_promotion and pipeline is LocalPipeline.DREAMBOOTH,
        pipeline=pipeline,
    )


@app.command(epilog=example("boothline resume 20260131-093000-1a2b"))
def resume(
    run_id: NamedRun,
    require_promotion: RequirePromotion = False,
    deployment: DeploymentChoice = None,
    home: Home = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Continue a failed or interrupted run; finished steps are not repeated."""
    if deployment is not None:
        cluster_resume(deployment, run_id, output)
        return
    from boothline.launch.local.folder import existing_folder
    from boothline.launch.local.session import home_folder

    folder = existing_folder(home_folder(home), run_id)
    carry_out_shown(
        home,
        folder,
        folder.read_config(),
        pipeline=folder.pipeline,
        output=output,
        require_promotion=require_promotion,
    )


@app.command(
    epilog=example(
        "boothline cancel 20260131-093000-1a2b",
        "boothline cancel 20260131-093000-1a2b --deployment deployment.yaml",
    )
)
def cancel(
    run_id: NamedRun,
    deployment: DeploymentChoice = None,
    home: Home = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Stop a run, here or on a cluster; its report is written, and resume continues from there."""
    if deployment is not None:
        cluster_cancel(deployment, run_id, output)
        return
    from boothline.launch.local.folder import existing_folder
    from boothline.launch.local.session import home_folder
    from boothline.launch.local.stopping import stop

    folder = existing_folder(home_folder(home), run_id)
    seconds = stop(home_folder(home), folder)
    emit(
        {"run_id": folder.run_id, "state": "interrupted", "seconds": round(seconds, 1)},
        output,
        lambda target: say(
            target,
            f"Run {folder.run_id} was stopped. boothline resume {folder.run_id} continues it.",
        ),
    )


def carry_out_shown(
    home: Path | None,
    folder: "RunFolder",
    config: "RunConfig",
    *,
    output: Output,
    require_promotion: bool,
    pipeline: str = "dreambooth",
    as_json: "Callable[[Summary], Mapping[str, object]] | None" = None,
) -> None:
    """Run a pipeline with a display, print what it came to and raise why it failed.

    Args:
        home: the home folder; None: the setting's.
        folder: the run's folder, new or of an earlier attempt.
        config: the run's configuration.
        output: how to print.
        require_promotion: whether a refusal by the gate is an error.
        pipeline: name of the pipeline.
        as_json: makes the JSON object from the summary; None: the summary itself.

    Raises:
        GateRefusedError: promotion was required and the gate refused.
        BoothlineError: the run failed.
    """
    from boothline import settings as process_environment
    from boothline.cli.summaries import say_summary
    from boothline.launch.local.display import LiveDisplay, PlainDisplay
    from boothline.launch.local.session import home_folder
    from boothline.launch.local.workflow import carry_out
    from boothline.metering import gpu_use

    target = console(stderr=output is Output.JSON)
    live = LiveDisplay(target, gpus=gpu_use)
    with live if is_live(target) else PlainDisplay(target) as display:
        try:
            summary, error = carry_out(
                home_folder(home), folder, config, display=display, pipeline=pipeline
            )
        except KeyboardInterrupt:
            remedy = f"boothline resume {folder.run_id}" if folder.config_path.exists() else ""
            raise InterruptedRunError(
                f"Run {folder.run_id} was interrupted.", remedy=remedy
            ) from None
    value = as_json(summary) if as_json else summary
    emit(value, output, lambda target: say_summary(target, summary))
    if not process_environment.current().s3_endpoint:
        say(target, "Local services keep running; `boothline down` stops them.", style="dim")
    if error is not None:
        raise error
    if require_promotion and summary.decision != "skip" and summary.verdict != "promoted":
        raise GateRefusedError(
            f"The gate refused the model of run {folder.run_id}.",
            remedy="The rules are above and in the report; the champion stays.",
        )
