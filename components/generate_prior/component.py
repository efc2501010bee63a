"""The KFP interface of generate_prior."""

from kfp import dsl

from boothline.components.generate_prior import ABOUT


@dsl.component(base_image=ABOUT.image, install_kfp_package=False)
def generate_prior(
    run_id: str, config: str, dataset: str, shard: int, pictures: dsl.Output[dsl.Dataset]
) -> str:
    """Sample one shard of the class pictures from the base model.

    Args:
        run_id: the pipeline run.
        config: the resolved configuration as JSON.
        dataset: reference of the dataset; its own class pictures need not be sampled.
        shard: number of this shard.
        pictures: the class pictures, for the KFP interface.

    Returns:
        The reference of the prior set manifest.
    """
    from boothline.artifacts import describe
    from boothline.components.generate_prior import step

    prior = step.run(run_id=run_id, config=config, dataset=dataset, shard=shard)
    describe(pictures, prior)
    return prior
