import pytest
import yaml

from boothline.catalogue import TOOLS, TORCH
from boothline.errors import ConfigError
from boothline.launch.compile import compiled, image_choices, with_images
from boothline.pipelines.dreambooth import dreambooth

PINNED = "registry.example/boothline/torch@sha256:" + "0" * 64


def images_of(text: str) -> set[str]:
    executors = yaml.load(text, yaml.CSafeLoader)["deploymentSpec"]["executors"]
    return {executor["container"]["image"] for executor in executors.values()}


def test_compiled_with_image_choice_replaces_that_image_only():
    text = compiled(dreambooth, images=image_choices([f"torch={PINNED}"]))

    assert images_of(text) == {TOOLS, PINNED}
    assert text.startswith("# PIPELINE DEFINITION")


def test_compiled_with_image_choice_changes_nothing_else():
    before, after = (
        yaml.load(text, yaml.CSafeLoader)
        for text in (compiled(dreambooth), compiled(dreambooth, images={TORCH: PINNED}))
    )

    for executor in after["deploymentSpec"]["executors"].values():
        executor["container"]["image"] = executor["container"]["image"].replace(PINNED, TORCH)
    assert after == before


def test_with_images_of_unused_image_is_refused():
    with pytest.raises(ConfigError, match="does not use the image 'other'"):
        with_images(compiled(dreambooth), {"other": PINNED})


@pytest.mark.parametrize("choice", ["torch", "torch=", "gpu=x", "=x"])
def test_image_choices_of_other_form_are_refused(choice):
    with pytest.raises(ConfigError, match="names no image"):
        image_choices([choice])
