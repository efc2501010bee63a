"""The KFP interface of validate_data."""

from kfp import dsl

from boothline.components.validate_data import ABOUT


@dsl.component(base_image=ABOUT.image, install_kfp_package=False)
def validate_data(run_id: str, config: str) -> str:
    """Read, check and normalise the instance pictures.

    Args:
        run_id: the pipeline run.
        config: the resolved configuration as JSON.

    Returns:
        The reference of the dataset manifest.
    """
    from boothline.components.validate_data import step

    return step.run(run_id=run_id, config=config)
