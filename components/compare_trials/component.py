"""The KFP interface of compare_trials."""
# KFP reads named outputs from an annotation made in place, which type checkers do not know.
# mypy: disable-error-code="valid-type"

from typing import NamedTuple

from kfp import dsl

from boothline.components.compare_trials import ABOUT


@dsl.component(base_image=ABOUT.image, install_kfp_package=False)
def compare_trials(
    run_id: str,
    config: str,
    models: list[str],
    evaluations: list[str],
    page: dsl.Output[dsl.HTML],
) -> NamedTuple("Outputs", [("leaderboard", str), ("model", str), ("evaluation", str)]):
    """Rank the trials of a sweep by score.

    Args:
        run_id: the pipeline run.
        config: the resolved configuration as JSON, with the trials.
        models: references of the trials' models, in the order of the trials.
        evaluations: references of their evaluations.
        page: the leaderboard, for the KFP interface.

    Returns:
        The reference of the leaderboard manifest, and those of the best trial's model and
        evaluation.
    """
    from pathlib import Path

    from boothline.components.compare_trials import step

    leaderboard = step.run(run_id=run_id, config=config, models=models, evaluations=evaluations)
    Path(page.path).write_bytes(step.html(leaderboard))
    best = step.best(leaderboard)
    return leaderboard, best["model"], best["evaluation"]
