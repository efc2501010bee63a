"""The KFP interface of train."""

from kfp import dsl

from boothline.components.train import ABOUT


@dsl.component(base_image=ABOUT.image, install_kfp_package=False)
def train(run_id: str, config: str, dataset: str, priors: list[str]) -> str:
    """Fine-tune the base model on the instance pictures with prior preservation.

    Args:
        run_id: the pipeline run.
        config: the resolved configuration as JSON.
        dataset: reference of the dataset manifest.
        priors: references of the prior manifests, one a shard.

    Returns:
        The reference of the training manifest.
    """
    from boothline.components.train import step

    return step.run(run_id=run_id, config=config, dataset=dataset, priors=priors)
