"""Both images: non-root, read-only root, no credential in a layer, a bill of materials."""

import json
import re
import shutil
import subprocess

import pytest

import boothline

pytestmark = pytest.mark.containers

IMAGES = [f"boothline/{name}:{boothline.__version__}" for name in ("tools", "torch")]
# 350 MB, 26 MB for HEIC, whose only kept decoder comes with an encoder of 23 MB, and 66 MB for
# W&B's client, a program of its own.
LIMIT_BYTES = 442_000_000
SCRATCH = "/tmp:size=512m"  # noqa: S108 - a mount of the container
OPTIONAL = (
    *("bitsandbytes", "lion_pytorch", "model_signing", "OpenSSL", "prodigyopt", "pynvml"),
    *("tensorboardX", "wandb"),
)
every_image = pytest.mark.parametrize("image", IMAGES)


def docker(*arguments: str) -> str:
    program = shutil.which("docker") or "docker"
    return subprocess.run([program, *arguments], check=True, capture_output=True, text=True).stdout


def inside(image: str, *command: str) -> str:
    """Run a command as the restricted standard and the chart have it."""
    limits = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges")
    return docker(*("run", "--rm", "--network=none", *limits, "--tmpfs", SCRATCH, image, *command))


@every_image
def test_command_line_runs_as_nobody_on_a_read_only_root(image: str) -> None:
    assert inside(image, "id", "-u").strip() == "10001"
    assert inside(image, "boothline", "--version").strip() == boothline.__version__


def test_tools_have_no_torch_and_compile_a_pipeline() -> None:
    code = "import importlib.util as u; print(u.find_spec('torch'))"
    assert inside(IMAGES[0], "python", "-c", code).strip() == "None"
    assert "pipelineInfo" in inside(IMAGES[0], "boothline", "compile")
    assert int(docker("image", "inspect", "--format", "{{.Size}}", IMAGES[0])) < LIMIT_BYTES


def test_torch_image_imports_what_the_steps_need() -> None:
    code = "import torch, diffusers, transformers, peft, boothline.training.trainer; print('good')"
    assert inside(IMAGES[1], "python", "-c", code).strip() == "good"


@pytest.mark.parametrize("library", ["tensorboardX", "wandb"])
def test_tools_image_imports_what_every_step_writes_to(library: str) -> None:
    assert inside(IMAGES[0], "python", "-c", f"import {library}; print('good')").strip() == "good"


@pytest.mark.parametrize("library", OPTIONAL)
def test_torch_image_imports_each_library_that_a_setting_asks_for(library: str) -> None:
    assert inside(IMAGES[1], "python", "-c", f"import {library}; print('good')").strip() == "good"


def test_torch_of_the_image_is_built_for_what_its_label_says() -> None:
    labels = json.loads(
        docker("image", "inspect", "--format", "{{json .Config.Labels}}", IMAGES[1])
    )
    built = inside(IMAGES[1], "python", "-c", "import torch; print(torch.version.cuda)").strip()
    assert (built != "None") is (labels["dev.boothline.variant"] == "cuda")


@every_image
def test_user_of_the_image_cannot_change_what_it_runs(image: str) -> None:
    folders = ("/opt", "/usr/bin", "/usr/lib")
    found = inside(image, "find", *folders, "-writable", "-not", "-type", "l")
    assert found == ""


@every_image
def test_bill_of_materials_names_what_is_installed(image: str) -> None:
    bill = json.loads(inside(image, "cat", "/opt/boothline/share/sbom.cdx.json"))
    assert bill["bomFormat"] == "CycloneDX"
    names = {item["name"].lower() for item in bill["components"]}
    assert {"boothline", "kfp", "minio", "pydantic"} <= names
    assert ("torch" in names) is ("torch" in image)


@every_image
def test_layers_hold_no_wheel_index_or_credential(image: str) -> None:
    history = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", image)
    words = set(re.split(r"[^a-z-]+", history.lower()))
    assert not {"password", "token", "secret", "index-url", "extra-index-url", "netrc"} & words
    assert not re.search(r"://[^/\s]*@", history)
    found = inside(image, "sh", "-c", "ls -d /wheels /build /root/.cache /etc/pip.conf 2>&1; true")
    assert found.count("cannot access") == 4, found


@every_image
def test_labels_say_what_it_is(image: str) -> None:
    labels = json.loads(docker("image", "inspect", "--format", "{{json .Config.Labels}}", image))
    assert labels["org.opencontainers.image.version"] == boothline.__version__
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
