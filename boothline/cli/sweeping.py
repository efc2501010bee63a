"""The command that tries several settings: sweep."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from boothline.cli.configuring import load_config
from boothline.cli.options import Configs, Home, Output, OutputOption, Overrides, Subject, example
from boothline.cli.printing import console, emit, say, say_table
from boothline.cli.running import RequirePromotion, carry_out_shown

app = typer.Typer()


@app.command(
    epilog=example(
        "boothline sweep run.yaml --set training.learning_rate=5e-5,1e-4 "
        "--set training.num_steps=100,200",
        "boothline sweep run.yaml sweep.yaml --dry-run",
    )
)
def sweep(
    configs: Configs = None,
    overrides: Overrides = None,
    subject: Subject = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the trials and run nothing.")
    ] = False,
    require_promotion: RequirePromotion = False,
    home: Home = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Train with several settings on the same pictures; the best by score goes to the gate.

    A --set with several values, or sweep.grid and sweep.ranges in a file, say what to try.
    """
    from boothline.launch.local.folder import folder_of, new_run_id
    from boothline.launch.local.prechecks import with_absolute_paths
    from boothline.launch.local.session import home_folder
    from boothline.launch.trials import planned, split_choices, with_choices
    from boothline.trials import in_words

    single, choices = split_choices(list(overrides or []))
    config = planned(with_choices(load_config(configs, single, subject), choices))
    trials = config.sweep.trials
    if dry_run:
        rows = [(str(number), in_words(trial)) for number, trial in enumerate(trials)]
        emit(
            {"trials": [dict(trial) for trial in trials]},
            output,
            lambda target: say_table(target, ("Trial", "Settings"), rows),
        )
        return
    say(console(stderr=output is Output.JSON), f"Sweep of {len(trials)} trials")
    folder = folder_of(home_folder(home), new_run_id(datetime.now(UTC)))
    carry_out_shown(
        home,
        folder,
        with_absolute_paths(config),
        pipeline="sweep",
        output=output,
        require_promotion=require_promotion,
    )
