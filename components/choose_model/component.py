"""The KFP interface of choose_model."""

from kfp import dsl

from boothline.components.choose_model import ABOUT


@dsl.component(base_image=ABOUT.image, install_kfp_package=False)
def choose_model(run_id: str, config: str) -> str:
    """Pin the version of a registered model that the run serves.

    Args:
        run_id: the pipeline run.
        config: the resolved configuration as JSON.

    Returns:
        The reference of the model manifest.
    """
    from boothline.components.choose_model import step

    return step.chosen(step.run(run_id=run_id, config=config))
