"""Commands on the local services: up, down, doctor."""

from typing import Annotated

import typer

from boothline.cli.options import Home, Output, OutputOption, example
from boothline.cli.printing import emit, say, say_table

app = typer.Typer()


@app.command(epilog=example("boothline up"))
def up(home: Home = None, output: OutputOption = Output.TEXT) -> None:
    """Start the local store and MLflow, if they are not running."""
    from boothline import services
    from boothline.launch.local.session import home_folder

    endpoints = services.ensure(home_folder(home))
    places = {"store": endpoints.s3_endpoint, "mlflow": endpoints.mlflow_uri}
    emit(places, output, lambda target: say_table(target, ("Service", "At"), [*places.items()]))


@app.command(epilog=example("boothline down"))
def down(home: Home = None, output: OutputOption = Output.TEXT) -> None:
    """Stop the local services that were started here; their data stays."""
    from boothline import services
    from boothline.launch.local.session import home_folder

    folder = home_folder(home)
    stopped = services.stop(folder)
    what = f"Stopped {' and '.join(stopped)}" if stopped else "Nothing was running"
    emit(
        {"stopped": stopped, "home": str(folder)},
        output,
        lambda target: say(target, f"{what}; the data stays in {folder}."),
    )


@app.command(
    epilog=example("boothline doctor", "boothline doctor --pod --connect ml-pipeline.kubeflow:8888")
)
def doctor(
    home: Home = None,
    pod: Annotated[
        bool, typer.Option("--pod", help="Check what a step's pod needs, and no more.")
    ] = False,
    connect: Annotated[
        list[str] | None,
        typer.Option("--connect", metavar="HOST:PORT", help="With --pod: check a connection."),
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Check this machine and the services, and say what to do about each problem."""
    from boothline import doctor as examination
    from boothline import settings as process_environment
    from boothline.errors import ServiceError
    from boothline.launch.local.session import home_folder

    folder = home_folder(home)
    settings = process_environment.current()
    findings = (
        examination.examine_pod(settings, folder, connections=connect or ())
        if pod
        else examination.examine(settings, folder)
    )
    emit(
        {"findings": [finding.model_dump(mode="json") for finding in findings]},
        output,
        lambda target: say_table(
            target,
            ("Check", "Status", "Found"),
            [(f.name, f.status, "\n".join(filter(None, (f.detail, f.remedy)))) for f in findings],
        ),
    )
    failed = [finding.name for finding in findings if finding.status == "failed"]
    if failed:
        raise ServiceError(f"Not in order: {', '.join(failed)}.", remedy="See the advice above.")
