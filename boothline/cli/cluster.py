"""Commands for a cluster: compile, submit, schedule; what status, logs and resume do there."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from boothline.cli.configuring import load_config
from boothline.cli.options import Configs, Home, Output, OutputOption, Overrides, Subject, example
from boothline.cli.printing import console, emit, is_live, say, say_lines, say_table
from boothline.errors import ConfigError, InterruptedRunError

if TYPE_CHECKING:
    from rich.console import Console

    from boothline.launch.cluster.cancelling import Cancelled
    from boothline.launch.cluster.client import PipelinesApi
    from boothline.launch.cluster.deployment import Deployment
    from boothline.launch.cluster.runs import Removal
    from boothline.launch.cluster.standing import Sources
    from boothline.launch.cluster.states import ClusterRun

app = typer.Typer()

DeploymentOption = Annotated[
    Path,
    typer.Option("--deployment", metavar="FILE", help="Deployment settings of the cluster."),
]
PipelineOption = Annotated[str, typer.Option("--pipeline", help="Name of the pipeline.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print what would be sent, and send nothing.")
]
Inline = Annotated[
    bool,
    typer.Option(
        "--inline", help="Send the pipeline along instead of starting a version of an uploaded one."
    ),
]
DEFAULT = Path("deployment.yaml")
EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "deployment.yaml"


@app.command(
    epilog=example(
        "boothline submit run.yaml --deployment deployment.yaml --watch",
        "boothline submit run.yaml --dry-run",
    )
)
def submit(  # noqa: PLR0913  (every argument is an option of the command)
    configs: Configs = None,
    overrides: Overrides = None,
    subject: Subject = None,
    deployment: DeploymentOption = DEFAULT,
    pipeline: PipelineOption = "dreambooth",
    run_id: Annotated[
        str | None,
        typer.Option("--run-id", help="Run id; one that was submitted before is found again."),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Wait for its end.")] = False,
    inline: Inline = False,
    dry_run: DryRun = False,
    home: Home = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Start a run on the cluster; with --watch, exit as it ends."""
    from boothline.launch.cluster import checking, runs
    from boothline.launch.local.folder import new_run_id

    config = load_config(configs, overrides, subject)
    unseen = checking.check_base(config, home=home)
    settings, api = _opened(deployment, or_example=dry_run)
    run_id = run_id or new_run_id(datetime.now(UTC))
    if dry_run:
        body = runs.run_request(
            api, settings, config, run_id=run_id, pipeline=pipeline, experiment_id=""
        )
        _say_request(api, body, output)
        return
    target = console(stderr=output is Output.JSON)
    _check(target, settings, unseen)
    run, is_new = runs.submit(
        api, settings, config, run_id=run_id, pipeline=pipeline, inline=inline
    )
    say(target, f"Run {run.run_id} {'started' if is_new else 'found'}: {run.url}")
    _end(api, settings, run, watch=watch, output=output)


@app.command(
    epilog=example(
        "boothline upload --deployment deployment.yaml",
        "boothline upload run.yaml --pipeline dreambooth",
    )
)
def upload(
    configs: Configs = None,
    overrides: Overrides = None,
    deployment: DeploymentOption = DEFAULT,
    pipeline: Annotated[
        str | None, typer.Option("--pipeline", help="Name of the pipeline; all by default.")
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Upload the pipelines to Kubeflow Pipelines, each as a version named by its content.

    submit and schedule do so for what they start. Uploaded by hand, they can be started from
    Kubeflow's page. Each step has one shard, or as many as a run file asks for.
    """
    from boothline.catalogue import PIPELINES
    from boothline.launch.cluster import runs, versions
    from boothline.launch.cluster.client import pipeline_document

    settings, api = _opened(deployment)
    asked = configs or overrides
    config = load_config(configs, overrides, None, needs_subject=False) if asked else None
    made = []
    for name in [pipeline] if pipeline else PIPELINES:
        text = runs.compile_for(settings, pipeline=name, config=config)
        made.append(versions.upload(api, name, versions.text_of(pipeline_document(text))))
    lines = [f"{m.pipeline} {m.version}{'' if m.is_new else ' was there already'}" for m in made]
    uploaded = {"uploaded": [item.model_dump() for item in made]}
    emit(uploaded, output, lambda target: say_lines(target, lines))


@app.command(
    epilog=example(
        'boothline schedule run.yaml --name nightly --cron "0 0 2 * * *"',
        "boothline schedule --name nightly --remove",
    ),
)
def schedule(  # noqa: PLR0913  (every argument is an option of the command)
    configs: Configs = None,
    overrides: Overrides = None,
    subject: Subject = None,
    deployment: DeploymentOption = DEFAULT,
    name: Annotated[str, typer.Option("--name", help="Name of the recurring run.")] = "retraining",
    cron: Annotated[
        str, typer.Option("--cron", help="Six fields, seconds first, in the server's time zone.")
    ] = "0 0 2 * * *",
    pipeline: PipelineOption = "retrain",
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove the recurring run of that name.")
    ] = False,
    inline: Inline = False,
    dry_run: DryRun = False,
    home: Home = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Register a recurring run with Kubeflow Pipelines, in place of the one of that name.

    By default it looks for a reason to train first, as boothline retrain does. With --remove it is
    taken out again; its runs stay. One whose run has not ended is only disabled.
    """
    from boothline.launch.cluster import checking, runs

    if remove:
        unschedule(name, deployment, output)
        return
    config = load_config(configs, overrides, subject)
    unseen = checking.check_base(config, home=home)
    settings, api = _opened(deployment, or_example=dry_run)
    wanted = runs.Schedule(name=name, cron=cron, pipeline=pipeline)
    if dry_run:
        body = runs.schedule_request(api, settings, config, schedule=wanted, experiment_id="")
        _say_request(api, body, output)
        return
    _check(console(stderr=output is Output.JSON), settings, unseen)
    made = runs.register(api, settings, config, schedule=wanted, inline=inline)
    emit(
        {"name": name, "recurring_run_id": made, "cron": cron},
        output,
        lambda target: say(target, f'Registered {name} ("{cron}") as {made}.'),
    )


@app.command(
    hidden=True, epilog=example("boothline unschedule nightly --deployment deployment.yaml")
)
def unschedule(
    name: Annotated[str, typer.Argument(help="Name of the recurring run.")],
    deployment: DeploymentOption = DEFAULT,
    output: OutputOption = Output.TEXT,
) -> None:
    """Remove a recurring run from Kubeflow Pipelines; its runs stay.

    One whose run has not ended is only disabled, since Kubernetes would kill that run with it.
    """
    from boothline.launch.cluster import runs

    _, api = _opened(deployment)
    removal = runs.unregister(api, name)
    emit(asdict(removal), output, lambda target: _say_removal(target, name, removal))


def _say_removal(target: "Console", name: str, removal: "Removal") -> None:
    """Print what became of the recurring runs of a name."""
    say(target, f"Removed {removal.removed} of {name}.")
    if removal.disabled:
        say(
            target,
            f"Disabled {removal.disabled} of {name}: {', '.join(removal.unfinished)} has not ended "
            f"yet. Later, boothline schedule --name {name} --remove takes it out.",
        )


def cluster_status(deployment: Path, run_id: str | None, output: Output) -> None:
    """Print how a run on the cluster stands, step by step."""
    from boothline.launch.cluster import runs
    from boothline.launch.cluster.states import described

    settings, api = _opened(deployment)
    run = _sources(settings).standing(described(runs.found(api, _named(run_id)), settings))
    emit(run, output, lambda target: _say_run(target, run))


def cluster_logs(
    deployment: Path, run_id: str | None, step: str | None, output: Output, *, whole: bool
) -> None:
    """Print the logs of a run's pods."""
    from boothline.launch.cluster import runs
    from boothline.launch.cluster.pods import RunPods

    settings, api = _opened(deployment)
    run = runs.found(api, _named(run_id))
    texts = RunPods.connect(settings).logs(str(run.run_id), step=step, whole=whole)
    if not texts:
        raise ConfigError(
            f"No pod of {step or 'any step'} of run {run_id} is left.",
            remedy="A step whose result stood may have had none; those of old runs are removed by "
            "Kubeflow, see your cluster's log archive.",
        )
    emit(
        {"run_id": run_id, "logs": texts},
        output,
        lambda target: say_lines(
            target, (f"==> {name} <==\n{text}" for name, text in texts.items())
        ),
    )


def cluster_cancel(deployment: Path, run_id: str, output: Output) -> None:
    """Cancel a run on the cluster and print what became of it."""
    from boothline import settings as environment
    from boothline.launch.cluster.cancelling import cancel

    settings, api = _opened(deployment)
    done = cancel(api, settings, run_id, settings=environment.current())
    emit(done, output, lambda target: _say_cancelled(target, done))


def _say_cancelled(target: "Console", done: "Cancelled") -> None:
    """Print what became of a cancelled run."""
    say(target, f"Run {done.run_id} is {done.state.lower()} after {done.seconds:.0f} s.")
    if done.train_jobs:
        say(target, f"Deleted the TrainJob {', '.join(done.train_jobs)}.")
    if done.pods:
        say(target, f"Not ended yet: {', '.join(done.pods)}.")
    say_lines(target, done.notes)
    say(target, f"boothline resume {done.run_id} --deployment FILE starts it again.")


def cluster_resume(deployment: Path, run_id: str, output: Output) -> None:
    """Start a run that ended badly once more and wait for its end."""
    from boothline.launch.cluster import runs

    settings, api = _opened(deployment)
    run = runs.resume(api, settings, run_id)
    say(console(stderr=output is Output.JSON), f"Run {run.run_id} continues: {run.url}")
    _end(api, settings, run, watch=True, output=output)


def _opened(deployment: Path, *, or_example: bool = False) -> "tuple[Deployment, PipelinesApi]":
    """Return a deployment's settings and its API.

    Args:
        deployment: file of the settings.
        or_example: take the example's where there is no ./deployment.yaml: nothing is sent.
    """
    from boothline import settings as environment
    from boothline.launch.cluster.client import PipelinesApi
    from boothline.launch.cluster.deployment import Deployment

    if or_example and deployment == DEFAULT and not deployment.exists():
        deployment = EXAMPLE
        say(
            console(stderr=True),
            "There is no deployment.yaml here: shown with that of the example.",
        )
    settings = Deployment.load(deployment)
    return settings, PipelinesApi(settings.kfp, settings=environment.current())


def _check(target: "Console", deployment: "Deployment", unseen: str) -> None:
    """Refuse a deployment whose Secrets or accounts are missing, as far as that can be seen."""
    from boothline.launch.cluster.checking import check_namespace

    for unchecked in filter(None, (unseen, check_namespace(deployment))):
        say(target, f"Warning: {unchecked}")


def _sources(deployment: "Deployment") -> "Sources":
    """Return where the states of steps are read from here."""
    from boothline import settings as environment
    from boothline.launch.cluster.standing import Sources

    return Sources.connect(deployment, environment.current())


def _named(run_id: str | None) -> str:
    if run_id is None:
        raise ConfigError("Which run?", remedy="On a cluster, name the run id.")
    return run_id


def _end(
    api: "PipelinesApi",
    deployment: "Deployment",
    run: "ClusterRun",
    *,
    watch: bool,
    output: Output,
) -> None:
    """Print a run, after its end where that is waited for, and raise what its end stands for."""
    from boothline.launch.cluster import runs

    if watch:
        run = _watched(api, deployment, run, output=output)
    emit(run, output, lambda target: _say_run(target, run))
    error = runs.error_of(run) if run.is_over else None
    if error is not None:
        raise error


def _watched(
    api: "PipelinesApi",
    deployment: "Deployment",
    run: "ClusterRun",
    *,
    output: Output,
) -> "ClusterRun":
    """Follow a run to its end as a local one is shown."""
    import time

    from boothline.launch.cluster import runs
    from boothline.launch.cluster.standing import as_progress
    from boothline.launch.local.display import LiveDisplay, PlainDisplay

    target, sources = console(stderr=output is Output.JSON), _sources(deployment)
    say_lines(target, sources.notes)
    with LiveDisplay(target) if is_live(target) else PlainDisplay(target) as display:
        try:
            return runs.follow(
                api,
                run,
                deployment=deployment,
                look=sources.standing,
                on_state=lambda run: display.show(as_progress(run, now=time.time())),
            )
        except KeyboardInterrupt:
            raise InterruptedRunError(
                f"Stopped watching; run {run.run_id} continues.",
                remedy=f"boothline status {run.run_id} --deployment FILE shows it; "
                f"boothline cancel {run.run_id} --deployment FILE ends it.",
            ) from None


def _say_run(target: "Console", run: "ClusterRun") -> None:
    """Print a run and its steps."""
    from boothline.launch.local.display import duration

    say(target, f"Run {run.run_id}: {run.state.lower()}  {run.url}")
    if run.error:
        say(target, run.error)
    say_lines(target, run.notes)
    rows = [
        (
            step.name,
            step.status,
            f"{step.done}/{step.total} {step.unit}" if step.total else "",
            step.note,
            duration(step.seconds) if step.seconds else "",
            step.pod,
        )
        for step in run.steps
    ]
    if rows:
        say_table(target, ("Step", "Status", "Progress", "Note", "Time", "Pod"), rows)


def _say_request(api: "PipelinesApi", body: object, output: Output) -> None:
    """Print what would be sent."""
    import yaml

    plain = api.plain(body)
    emit(plain, output, lambda target: say(target, yaml.safe_dump(plain, sort_keys=True).rstrip()))
