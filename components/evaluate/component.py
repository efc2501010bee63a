"""The KFP interface of evaluate."""

from kfp import dsl

from boothline.components.evaluate import ABOUT


@dsl.component(base_image=ABOUT.image, install_kfp_package=False)
def evaluate(
    run_id: str,
    config: str,
    model: str,
    dataset: str,
    priors: list[str],
    samples: list[str],
    metrics: dsl.Output[dsl.Metrics],
) -> str:
    """Judge the model against the base model and the champion on the same prompts and seeds.

    Args:
        run_id: the pipeline run.
        config: the resolved configuration as JSON.
        model: reference of the model manifest.
        dataset: reference of the dataset manifest.
        priors: references of the prior manifests, one a shard.
        samples: references of the shards that have sampled pictures, which must be done.
        metrics: the model's mean scores, for the KFP interface.

    Returns:
        The reference of the evaluation manifest.
    """
    from boothline.components.evaluate import step

    evaluation = step.run(
        run_id=run_id,
        config=config,
        model=model,
        dataset=dataset,
        priors=priors,
        samples=samples,
    )
    for name, value in step.means(evaluation).items():
        metrics.log_metric(name, value)
    return evaluation
