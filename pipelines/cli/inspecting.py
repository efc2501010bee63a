"""Commands that look at runs: status, logs, explain, report."""

from typing import Annotated

import typer

from boothline.errors import ConfigError
from pipelines.cli.options import Home, Output, OutputOption, RunArgument, example
from pipelines.cli.printing import emit, say, say_lines, say_table

app = typer.Typer()


@app.command(epilog=example("boothline status", "boothline status 20260131-093000-1a2b"))
def status(
    run_id: RunArgument = None, home: Home = None, output: OutputOption = Output.TEXT
) -> None:
    """Show what became of a run and its steps; the last run by default."""
    from pipelines.cli.summaries import say_status
    from pipelines.local.folder import existing_folder
    from pipelines.local.session import home_folder, open_session
    from pipelines.local.summary import summarise

    folder = existing_folder(home_folder(home), run_id)
    summary = summarise(open_session(home), folder)
    emit(summary, output, lambda target: say_status(target, summary))


@app.command(epilog=example("boothline logs --step train"))
def logs(
    run_id: RunArgument = None,
    step: Annotated[
        str | None,
        typer.Option("--step", help="One step, or kfp for the log of KFP itself."),
    ] = None,
    home: Home = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Print the logs of a run's steps in the order they started."""
    from pipelines.local.folder import existing_folder
    from pipelines.local.session import home_folder

    folder = existing_folder(home_folder(home), run_id)
    texts = folder.read_logs(step)
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


@app.command(epilog=example("boothline explain train", "boothline explain 20260131-093000-1a2b"))
def explain(
    run_id: RunArgument = None,
    step: Annotated[
        str | None, typer.Argument(metavar="[STEP]", help="One step; all by default.")
    ] = None,
    home: Home = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Say why each step of a run was reused or not, and what had changed."""
    from pipelines.explaining import explain_run
    from pipelines.local.folder import existing_folder
    from pipelines.local.session import home_folder, open_session
    from pipelines.parameters import STEPS

    if step is None and run_id is not None and run_id.partition("-")[0] in STEPS:
        run_id, step = None, run_id
    folder = existing_folder(home_folder(home), run_id)
    explanations = explain_run(open_session(home).store, folder.run_id, step=step)
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


@app.command(epilog=example("boothline report"))
def report(
    run_id: RunArgument = None, home: Home = None, output: OutputOption = Output.TEXT
) -> None:
    """Write a run's report anew, as far as the run has come, and print its path."""
    from boothline.report import render_run
    from pipelines.local.folder import existing_folder
    from pipelines.local.session import home_folder, open_session

    folder = existing_folder(home_folder(home), run_id)
    page = render_run(open_session(home).store, folder.run_id)
    folder.report.write_text(page, encoding="utf-8")
    path = str(folder.report)
    emit({"run_id": folder.run_id, "report": path}, output, lambda target: say(target, path))
