"""The KFP interface of check_triggers."""
# KFP reads named outputs from an annotation made in place, which type checkers do not know.
# mypy: disable-error-code="valid-type"

from typing import NamedTuple

from kfp import dsl

from boothline.components.check_triggers import ABOUT


@dsl.component(base_image=ABOUT.image, install_kfp_package=False)
def check_triggers(run_id: str, config: str, dataset: str) -> NamedTuple(
    "Outputs", [("decision", str), ("Output", str)]
):
    """Say whether there is a reason to train again, and claim it.

    Args:
        run_id: the pipeline run.
        config: the resolved configuration as JSON.
        dataset: reference of the dataset manifest.

    Returns:
        The reference of the decision's manifest; and as `Output`, the only name that kfp.local
        resolves in conditions, `train` or `skip`.
    """
    from boothline.components.check_triggers import step

    decision = step.run(run_id=run_id, config=config, dataset=dataset)
    return decision, step.outcome(decision)
