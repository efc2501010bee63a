"""The KFP interface of choose_model."""
# KFP reads named outputs from an annotation made in place, which type checkers do not know.
# mypy: disable-error-code="valid-type"

from typing import NamedTuple

from kfp import dsl

from boothline.components.choose_model import ABOUT


@dsl.component(base_image=ABOUT.image, install_kfp_package=False)
def choose_model(
    run_id: str,
    config: str,
    loops: dict[str, int] = {},  # noqa: B006 (KFP copies it)
    subject: str = "",
    version: str = "",
    prompts: str = "",
    images_per_prompt: int = 0,
    seed: int = -1,
) -> NamedTuple("Outputs", [("Output", str), ("config", str)]):
    """Complete the configuration; pin the version of a registered model that the run serves.

    Args:
        run_id: the pipeline run.
        config: settings as YAML or JSON; they override the other parameters.
        loops: number of shards that the pipeline was built for, by step.
        subject: name of the subject.
        version: of its registered model.
        prompts: file of the prompts.
        images_per_prompt: pictures a prompt; 0: not given.
        seed: seed of the first picture; -1: not given.

    Returns:
        The reference of the model manifest; and as `config` all settings as JSON.
    """
    from boothline.beginning import begun
    from boothline.components.choose_model import step

    form = {
        "subject": subject,
        "version": version,
        "prompts": prompts,
        "images_per_prompt": images_per_prompt,
        "seed": seed,
    }
    whole = begun(run_id, config, pipeline="batch_inference", form=form, loops=loops)
    return step.chosen(step.run(run_id=run_id, config=whole)), whole
