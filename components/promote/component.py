"""The KFP interface of promote."""
# KFP reads named outputs from an annotation made in place, which type checkers do not know.
# mypy: disable-error-code="valid-type"

from typing import NamedTuple

from kfp import dsl

from boothline.components.promote import ABOUT


@dsl.component(base_image=ABOUT.image, install_kfp_package=False)
def promote(run_id: str, config: str, model: str, evaluation: str) -> NamedTuple(
    "Outputs", [("promotion", str), ("Output", str)]
):
    """Make the model the champion if it passes the gate.

    Args:
        run_id: the pipeline run.
        config: the resolved configuration as JSON.
        model: reference of the model manifest.
        evaluation: reference of the evaluation manifest.

    Returns:
        The reference of the promotion manifest; and as `Output`, the only name that kfp.local
        resolves in conditions, the verdict `promoted` or `refused`.
    """
    from boothline.components.promote import step

    promotion = step.run(run_id=run_id, config=config, model=model, evaluation=evaluation)
    return promotion, step.verdict(promotion)
