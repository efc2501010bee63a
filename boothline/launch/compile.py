"""Compiles a pipeline to the YAML that Kubeflow Pipelines runs."""

import argparse
import importlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from boothline.catalogue import TOOLS, TORCH
from boothline.errors import ConfigError
from boothline.pipelines.parameters import TARGETS

if TYPE_CHECKING:
    from boothline.pipelines.stages import Shape

GOLDENS = Path(__file__).resolve().parents[2] / "tests" / "golden"


def pipeline_named(name: str, *, shape: "Shape | None" = None) -> Callable[..., object]:
    """Return a pipeline by its name.

    Args:
        name: its name.
        shape: how it is built; None: for the default configuration, so that it runs everywhere.

    Raises:
        ConfigError: there is no such pipeline.
    """
    if name not in TARGETS:
        raise ConfigError(
            f"There is no pipeline {name!r}.", remedy=f"The pipelines are {', '.join(TARGETS)}."
        )
    module, _, attribute = TARGETS[name].partition(":")
    defined = importlib.import_module(module)
    if shape is not None:
        built: Callable[..., object] = defined.shaped(shape)
        return built
    pipeline: Callable[..., object] = getattr(defined, attribute)
    return pipeline


def compiled(pipeline: Callable[..., object], *, images: Mapping[str, str] | None = None) -> str:
    """Return the YAML of a pipeline.

    Args:
        pipeline: what `dsl.pipeline` made.
        images: image to use in place of another, by name, e.g. to pin a digest on a cluster.

    Raises:
        ConfigError: a replaced image is not used by the pipeline.
    """
    from kfp import compiler

    with tempfile.TemporaryDirectory(prefix="boothline-compile-") as folder:
        path = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(path))
        text = path.read_text(encoding="utf-8")
    return with_images(text, images) if images else text


def with_images(text: str, images: Mapping[str, str]) -> str:
    """Return a compiled pipeline with other images in place of its own.

    Raises:
        ConfigError: an image to replace does not occur.
    """
    comments = [line for line in text.splitlines() if line.startswith("#")]
    spec = yaml.load(text, Loader=yaml.CSafeLoader)
    containers = [
        executor["container"] for executor in spec["deploymentSpec"]["executors"].values()
    ]
    unknown = sorted(set(images) - {container["image"] for container in containers})
    if unknown:
        raise ConfigError(
            f"The pipeline does not use the image {unknown[0]!r}.",
            remedy=f"Its images are {TOOLS} and {TORCH}.",
        )
    for container in containers:
        container["image"] = images.get(container["image"], container["image"])
    return "\n".join([*comments, yaml.safe_dump(spec, sort_keys=True)])


def image_choices(choices: Sequence[str]) -> dict[str, str]:
    """Return the images that `tools=IMAGE` and `torch=IMAGE` put in place of the default ones.

    Raises:
        ConfigError: a choice has another form.
    """
    defaults = {"tools": TOOLS, "torch": TORCH}
    images = {}
    for choice in choices:
        name, _, image = choice.partition("=")
        if name not in defaults or not image:
            raise ConfigError(
                f"{choice!r} names no image.", remedy="Write tools=IMAGE or torch=IMAGE."
            )
        images[defaults[name]] = image
    return images


def main() -> None:
    """Write the golden copies of all pipelines, or dreambooth alone to the file named."""
    from boothline.launch.cluster.deployment import Deployment
    from boothline.launch.cluster.runs import compile_for

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("-o", "--output", type=Path)
    output = parser.parse_args().output
    wanted = {output: "dreambooth"} if output else {GOLDENS / f"{n}.yaml": n for n in TARGETS}
    for path, name in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(compiled(pipeline_named(name)), encoding="utf-8")
    if not output:
        full = Deployment.load(GOLDENS / "deployment-full.yaml")
        text = compile_for(full)
        (GOLDENS / "dreambooth-full.yaml").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
