"""The KFP interface of generate_prior."""
# KFP reads named outputs from an annotation made in place, which type checkers do not know.
# mypy: disable-error-code="valid-type"

from typing import NamedTuple

from kfp import dsl

from boothline.components.generate_prior import ABOUT


@dsl.component(base_image=ABOUT.image, install_kfp_package=False)
def generate_prior(
    run_id: str, config: str, dataset: str, shard: int, pictures: dsl.Output[dsl.Dataset]
) -> NamedTuple("Outputs", [("Output", str), ("rest", str)]):
    """Sample one shard of the class pictures from the base model.

    Args:
        run_id: the pipeline run.
        config: the resolved configuration as JSON.
        dataset: reference of the dataset; its own class pictures need not be sampled.
        shard: number of this shard.
        pictures: the class pictures, for the KFP interface.

    Returns:
        The reference of the prior set manifest; and as `rest` what became of the steps after this
        one: `reused` where all of their results stand.
    """
    from boothline.artifacts import describe
    from boothline.components.generate_prior import step
    from boothline.reusing import reuse_rest

    prior = step.run(run_id=run_id, config=config, dataset=dataset, shard=shard)
    describe(pictures, prior)
    known = {"validate_data": dataset, "generate_prior": prior}
    return prior, reuse_rest(run_id, config, results=known)
