"""The KFP interface of publish_checkpoint."""

from kfp import dsl

from boothline.components.publish_checkpoint import ABOUT


@dsl.component(base_image=ABOUT.image, install_kfp_package=False)
def publish_checkpoint(
    run_id: str, config: str, training: str, exported: dsl.Output[dsl.Model]
) -> str:
    """Export the trained model, load it back, compare, and register it.

    Args:
        run_id: the pipeline run.
        config: the resolved configuration as JSON.
        training: reference of the training manifest.
        exported: the model, for the KFP interface.

    Returns:
        The reference of the model manifest.
    """
    from boothline.artifacts import describe
    from boothline.components.publish_checkpoint import step

    model = step.run(run_id=run_id, config=config, training=training)
    describe(exported, model)
    return model
