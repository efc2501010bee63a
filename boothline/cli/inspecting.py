"""Commands that look at runs: status, logs, explain, report."""

from pathlib import Path
from typing import Annotated

import typer

from boothline.cli.cluster import cluster_logs, cluster_status
from boothline.cli.options import DeploymentChoice, Home, Output, OutputOption, RunArgument, example
from boothline.cli.printing import console, emit, say, say_lines, say_table
from boothline.errors import ConfigError

app = typer.Typer()


@app.command(epilog=example("boothline status", "boothline status 20260131-093000-1a2b"))
def status(
    run_id: RunArgument = None,
    deployment: DeploymentChoice = None,
    home: Home = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show what became of a run and its steps; the last run by default."""
    if deployment is not None:
        cluster_status(deployment, run_id, output)
        return
    from boothline.cli.summaries import say_status
    from boothline.launch.finding import find_run
    from boothline.launch.local.summary import summarise

    found = find_run(home, run_id)
    summary = summarise(found.session, found.folder, elsewhere=found.elsewhere)
    emit(summary, output, lambda target: say_status(target, summary))


@app.command(
    epilog=example("boothline logs --step train", "boothline logs -f", "boothline logs -n 20")
)
def logs(
    run_id: RunArgument = None,
    step: Annotated[
        str | None,
        typer.Option("--step", help="One step, or kfp for the log of KFP itself."),
    ] = None,
    num_lines: Annotated[
        int | None,
        typer.Option(
            "--lines", "-n", min=1, help="The last lines of each log only.", show_default=False
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--follow", "-f", help="Show what is added until the run ends.")
    ] = False,
    raw: Annotated[
        bool, typer.Option("--raw", "--all", help="With KFP's own lines and all tracebacks.")
    ] = False,
    deployment: DeploymentChoice = None,
    home: Home = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Print the logs of a run's steps in the order they started."""
    if deployment is not None:
        cluster_logs(deployment, run_id, step, output, whole=raw)
        return
    from boothline.launch.local.folder import existing_folder, is_active
    from boothline.launch.local.reading import follow, last, readable
    from boothline.launch.local.session import home_folder

    folder = existing_folder(home_folder(home), run_id)
    texts = folder.read_logs(step)
    texts = {name: last(text if raw else readable(text), num_lines) for name, text in texts.items()}
    if not texts:
        named = ", ".join(folder.read_logs(None)) or "none yet"
        raise ConfigError(
            f"Run {folder.run_id} has no log of {step or 'any step'}.", remedy=f"Logs: {named}."
        )
    emit(
        {"run_id": folder.run_id, "logs": texts},
        output,
        lambda target: say_lines(
            target, (f"==> {name} <==\n{text}" for name, text in texts.items())
        ),
    )
    if wait and output is Output.TEXT:
        say_lines(
            console(),
            follow(
                lambda: folder.log_files(step),
                is_active=lambda: is_active(home_folder(home), folder.run_id),
            ),
        )


@app.command(
    epilog=example(
        "boothline explain train",
        "boothline explain 20260131-093000-1a2b",
        "boothline explain pictures/00000-00.png",
    )
)
def explain(
    run_id: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN|PICTURE.png]",
            help="Run id, the last run by default; or a generated picture.",
            show_default=False,
        ),
    ] = None,
    step: Annotated[
        str | None, typer.Argument(metavar="[STEP]", help="One step; all by default.")
    ] = None,
    home: Home = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Say why each step of a run was reused or not, or what a picture was made from."""
    if run_id is not None and run_id.lower().endswith(".png"):
        _explain_picture(Path(run_id), home=home, output=output)
        return
    from boothline.catalogue import described
    from boothline.launch.explaining import explain_run
    from boothline.launch.finding import find_run

    if step is None and run_id is not None and described(run_id.partition("-")[0]):
        run_id, step = None, run_id
    found = find_run(home, run_id)
    folder = found.folder
    explanations = explain_run(found.session.store, folder.run_id, step=step)
    if not explanations:
        raise ConfigError(
            f"Run {folder.run_id} has no record of {step or 'any step'}.",
            remedy="See boothline status for its steps.",
        )
    rows = [(item.step, item.outcome, "\n".join(item.reasons)) for item in explanations]
    emit(
        {
            "run_id": folder.run_id,
            "steps": [item.model_dump(mode="json") for item in explanations],
        },
        output,
        lambda target: say_table(target, ("Step", "Outcome", "Why"), rows),
    )


def _explain_picture(picture: Path, *, home: Home, output: Output) -> None:
    """Print a picture's way back to the instance pictures."""
    from boothline.cli.summaries import say_lineage
    from boothline.launch.lineage import trace
    from boothline.launch.local.session import open_session

    link = trace(open_session(home, start=False).store, picture)
    emit(link, output, lambda target: say_lineage(target, link))


@app.command(epilog=example("boothline report"))
def report(
    run_id: RunArgument = None, home: Home = None, output: OutputOption = Output.TEXT
) -> None:
    """Write a run's report again, whether the run has finished or not, and print its path."""
    from boothline.launch.finding import find_run
    from boothline.report import render_run

    found = find_run(home, run_id)
    folder = found.folder
    page = render_run(found.session.store, folder.run_id)
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.report.write_text(page, encoding="utf-8")
    path = str(folder.report)
    emit({"run_id": folder.run_id, "report": path}, output, lambda target: say(target, path))
