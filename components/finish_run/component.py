"""The KFP interface of finish_run."""

from kfp import dsl

from boothline.components.finish_run import ABOUT


@dsl.component(base_image=ABOUT.image, install_kfp_package=False)
def finish_run(run_id: str, config: str, page: dsl.Output[dsl.HTML]) -> str:
    """Record how the run ended and write its report; runs whatever happened before.

    Args:
        run_id: the pipeline run.
        config: what the pipeline was started with, for a run that never began.
        page: the report, for the KFP interface.

    Returns:
        The reference of the report manifest.
    """
    from pathlib import Path

    from boothline.beginning import recorded_config
    from boothline.components.finish_run import step

    report = step.run(run_id=run_id, config=recorded_config(run_id, config))
    Path(page.path).write_bytes(step.html(report))
    return report
