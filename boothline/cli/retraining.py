"""The command that trains where there is a reason to: retrain."""

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
        "boothline retrain run.yaml --dry-run",
        "boothline retrain run.yaml --set retrain.max_champion_age_days=30",
    )
)
def retrain(
    configs: Configs = None,
    overrides: Overrides = None,
    subject: Subject = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would happen and why; do nothing.")
    ] = False,
    require_promotion: RequirePromotion = False,
    home: Home = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Train again for a reason: new pictures, an old champion or a low score.

    Each reason trains once, from however many places this is called.
    """
    from boothline.launch.local.folder import folder_of, new_run_id
    from boothline.launch.local.prechecks import check, with_absolute_paths
    from boothline.launch.local.session import existing_session, home_folder
    from boothline.launch.retraining import look

    config = with_absolute_paths(load_config(configs, overrides, subject))
    check(config, home=home_folder(home))
    with existing_session(home) as session:
        found = look(session, config)
    rows = [
        (item.name, "fired" if item.fired else "not fired", item.claimed_by, item.text)
        for item in found.triggers
    ]
    titles = ("Trigger", "State", "Claimed by", "Why")
    target = console(stderr=output is Output.JSON)
    if dry_run or found.decision == "skip":
        outcome = "would train" if found.decision == "train" else "has nothing to train for"
        emit(
            {**found.model_dump(mode="json"), "dry_run": dry_run, "run": None},
            output,
            lambda target: say_table(target, titles, rows),
        )
        say(target, f"{config.model_name} {outcome}.")
        return
    say_table(target, titles, rows)
    carry_out_shown(
        home,
        folder_of(home_folder(home), new_run_id(datetime.now(UTC))),
        config,
        pipeline="retrain",
        output=output,
        require_promotion=require_promotion,
        as_json=lambda summary: {
            **found.model_dump(mode="json"),
            "decision": summary.decision,
            "dry_run": False,
            "run": summary.model_dump(mode="json"),
        },
    )
