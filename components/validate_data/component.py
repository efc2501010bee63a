"""The KFP interface of validate_data."""
# KFP reads named outputs from an annotation made in place, which type checkers do not know.
# mypy: disable-error-code="valid-type"

from typing import NamedTuple

from kfp import dsl

from boothline.components.validate_data import ABOUT


@dsl.component(base_image=ABOUT.image, install_kfp_package=False)
def validate_data(  # noqa: PLR0913 (a form has many fields)
    run_id: str,
    config: str,
    data: dsl.Output[dsl.Dataset],
    page: dsl.Output[dsl.HTML],
    pipeline: str = "dreambooth",
    loops: dict[str, int] = {},  # noqa: B006 (KFP copies it)
    preset: str = "",
    pictures: str = "",
    subject: str = "",
    class_noun: str = "",
    base_model: str = "",
    method: str = "",
    steps: int = 0,
    learning_rate: float = 0.0,
    seed: int = -1,
) -> NamedTuple("Outputs", [("Output", str), ("config", str)]):
    """Complete the configuration; read, check and normalise the instance pictures.

    Args:
        run_id: the pipeline run.
        config: settings as YAML or JSON; they override the other parameters.
        data: the dataset, for the KFP interface.
        page: what was found in the pictures, for the KFP interface.
        pipeline: name of the pipeline.
        loops: number of shards that the pipeline was built for, by step.
        preset: settings to begin with.
        pictures: the instance pictures.
        subject: name of the subject.
        class_noun: noun of its class.
        base_model: model to start from.
        method: full or lora.
        steps: training steps; 0: not given.
        learning_rate: learning rate; 0: not given.
        seed: seed of the training; -1: not given.

    Returns:
        The reference of the dataset manifest; and as `config` all settings as JSON.
    """
    from pathlib import Path

    from boothline.artifacts import describe
    from boothline.beginning import begun
    from boothline.components.validate_data import step

    form = {
        **{"preset": preset, "pictures": pictures, "subject": subject, "class_noun": class_noun},
        **{"base_model": base_model, "method": method, "steps": steps},
        **{"learning_rate": learning_rate, "seed": seed},
    }
    whole = begun(run_id, config, pipeline=pipeline, form=form, loops=loops)
    dataset = step.run(run_id=run_id, config=whole)
    describe(data, dataset)
    Path(page.path).write_bytes(step.html(dataset, whole))
    return dataset, whole
