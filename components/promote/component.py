"""The KFP interface of promote."""
# KFP reads named outputs from an annotation made in place, which type checkers do not know.
# mypy: disable-error-code="valid-type"

from typing import NamedTuple

from kfp import dsl

from boothline.components.promote import ABOUT


@dsl.component(base_image=ABOUT.image, install_kfp_package=False)
def promote(
    run_id: str, config: str, model: str, evaluation: str, metrics: dsl.Output[dsl.Metrics]
) -> NamedTuple("Outputs", [("promotion", str), ("Output", str)]):
    """Make the model the champion if it passes the gate.

    Args:
        run_id: the pipeline run.
        config: the resolved configuration as JSON.
        model: reference of the model manifest.
        evaluation: reference of the evaluation manifest.
        metrics: the verdict and what its rules measured, for the KFP interface.

    Returns:
        The reference of the promotion manifest; and as `Output`, the only name that kfp.local
        resolves in conditions, the verdict `promoted` or `refused`.
    """
    from boothline.components.promote import step

    promotion = step.run(run_id=run_id, config=config, model=model, evaluation=evaluation)
    for name, value in step.figures(promotion).items():
        metrics.log_metric(name, value)
    return promotion, step.verdict(promotion)
