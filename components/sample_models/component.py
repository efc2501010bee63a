"""The KFP interface of sample_models."""

from kfp import dsl

from boothline.components.sample_models import ABOUT


@dsl.component(base_image=ABOUT.image, install_kfp_package=False)
def sample_models(run_id: str, config: str, model: str, priors: list[str], shard: int) -> str:
    """Sample one shard of the pictures by which the model is judged.

    Args:
        run_id: the pipeline run.
        config: the resolved configuration as JSON.
        model: reference of the model manifest.
        priors: references of the prior manifests, one a shard.
        shard: number of this shard.

    Returns:
        The reference of the manifest that names the pictures.
    """
    from boothline.components.sample_models import step

    return step.run(run_id=run_id, config=config, model=model, priors=priors, shard=shard)
