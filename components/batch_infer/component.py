"""The KFP interface of batch_infer."""

from kfp import dsl

from boothline.components.batch_infer import ABOUT


@dsl.component(base_image=ABOUT.image, install_kfp_package=False)
def batch_infer(run_id: str, config: str, model: str, shard: int) -> str:
    """Make one shard of the pictures that the prompts ask for.

    Args:
        run_id: the pipeline run.
        config: the resolved configuration as JSON.
        model: reference of the model manifest.
        shard: number of this shard.

    Returns:
        The reference of the images manifest.
    """
    from boothline.components.batch_infer import step

    return step.run(run_id=run_id, config=config, model=model, shard=shard)
