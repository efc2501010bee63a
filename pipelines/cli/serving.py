"""Commands on the local services: up, down, doctor."""

import sys

import typer

from pipelines.cli.options import Home, Output, OutputOption, example
from pipelines.cli.printing import emit, say, say_table

app = typer.Typer()


@app.command(epilog=example("boothline up"))
def up(home: Home = None, output: OutputOption = Output.TEXT) -> None:
    """Start the local store and MLflow, if they are not running."""
    from boothline import services
    from pipelines.local.session import home_folder

    endpoints = services.ensure(home_folder(home))
    places = {"store": endpoints.s3_endpoint, "mlflow": endpoints.mlflow_uri}
    emit(places, output, lambda target: say_table(target, ("Service", "At"), [*places.items()]))


@app.command(epilog=example("boothline down"))
def down(home: Home = None, output: OutputOption = Output.TEXT) -> None:
    """Stop the local services that were started here; their data stays."""
    from boothline import services
    from pipelines.local.session import home_folder

    folder = home_folder(home)
    stopped = services.stop(folder)
    what = f"Stopped {' and '.join(stopped)}" if stopped else "Nothing was running"
    emit(
        {"stopped": stopped, "home": str(folder)},
        output,
        lambda target: say(target, f"{what}; the data stays in {folder}."),
    )


@app.command(epilog=example("boothline doctor"))
def doctor(home: Home = None, output: OutputOption = Output.TEXT) -> None:
    """Check this machine and the services, and say what to do about each problem."""
    from boothline import doctor as examination
    from pipelines.local.session import home_folder

    findings = examination.examine(home_folder(home))
    emit(
        {"findings": [finding.model_dump(mode="json") for finding in findings]},
        output,
        lambda target: say_table(
            target,
            ("Check", "State", "What"),
            [(f.name, f.state, f.text) for f in findings],
        ),
    )
    sys.exit(0)
