"""What bad input gets: a clear message and its exit code, never a traceback."""

import json
import socket
from pathlib import Path

import pytest
from command_files import write_config, write_pictures
from model_fixtures import make_encoder_layout, make_model_layout

from boothline import settings as process_environment
from boothline.launch.local.folder import folder_of, only_run

RUN = "20260101-000000-0000"


@pytest.fixture(autouse=True)
def _fresh_environment(monkeypatch, tmp_path):
    """Work in an empty folder with no BOOTHLINE variable but the home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("BOOTHLINE_HOME", str(tmp_path / "home"))
    process_environment.current.cache_clear()
    yield
    process_environment.current.cache_clear()


@pytest.fixture
def models(tmp_path):
    """Settings that name folders which look like models."""
    make_model_layout(tmp_path / "base")
    for name, kind in (("clip", "clip"), ("dino", "dinov2")):
        make_encoder_layout(tmp_path / name, kind=kind)
    return {
        "base_model": {"source": "base"},
        "evaluation": {"clip_model": "clip", "dino_model": "dino"},
    }


STABLE_DIFFUSION = {
    "_class_name": "StableDiffusionPipeline",
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
}


def test_run_without_configuration_says_how_to_write_one(cli):
    code, _, errors = cli("run")

    assert code == 2
    assert "boothline init" in errors


def test_run_with_unknown_key_names_the_nearest(cli):
    code, _, errors = cli("run", write_config(training={"num_stepz": 3}))

    assert code == 2
    assert "training.num_stepz" in errors
    assert "training.num_steps" in errors.replace("training.num_stepz", "")


@pytest.mark.parametrize("command", ["run", "validate"])
def test_out_of_range_setting_names_key_bound_and_value(cli, command):
    write_config()
    code, _, errors = cli(command, "run.yaml", "--set", "training.num_steps=0")

    assert code == 2
    for part in ("training.num_steps", "at least 1", "got 0"):
        assert part in errors


def test_run_with_missing_base_model_names_the_path_before_starting_anything(cli, tmp_path):
    write_pictures("pictures", 3)
    config = write_config(subject={"images": "pictures"}, base_model={"source": "./no-such-model"})
    code, _, errors = cli("run", config)

    assert code == 2
    assert "no-such-model" in errors
    assert not (tmp_path / "home" / "services").exists()


def test_run_with_missing_pictures_names_the_path(cli):
    code, _, errors = cli("run", write_config(subject={"images": "no-pictures"}))

    assert code == 2
    assert "no-pictures" in errors


@pytest.mark.parametrize("command", ["run", "validate", "sweep", "retrain"])
def test_command_without_class_noun_or_pictures_asks_for_them(cli, command):
    write_pictures("pictures", 3)
    Path("run.yaml").write_text("subject: {images: pictures}\n")

    for words in ((command,), (command, "--subject", "pictures")):
        code, _, said = cli(*words)
        assert code == 2
        assert "subject.class_noun is not set; name its class, such as bear: --set" in said

    Path("run.yaml").write_text("{}\n")
    code, _, said = cli(command)
    assert code == 2
    assert "2 settings are wrong" in said
    assert "subject.images is not set; name the folder of its pictures" in said


def test_paths_in_a_file_count_from_its_folder(cli, tmp_path, monkeypatch):
    write_pictures("pictures", 3)
    write_config(subject={"images": "pictures"})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    assert cli("validate", "../run.yaml")[0] == 0
    code, _, said = cli("validate", "../run.yaml", "--set", "subject.images=pictures")
    assert code == 2
    assert f"there is nothing at {tmp_path / 'elsewhere' / 'pictures'}" in said


def test_run_with_empty_folder_is_bad_data(cli, tmp_path):
    (tmp_path / "pictures").mkdir()
    code, _, errors = cli("run", write_config(subject={"images": "pictures"}))

    assert code == 3
    assert "holds no pictures" in errors
    assert not (tmp_path / "home" / "services").exists()


def test_run_with_unreachable_store_exits_with_5(cli, models, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("BOOTHLINE_S3_ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
    monkeypatch.setenv("BOOTHLINE_S3_ACCESS_KEY", "someone")
    monkeypatch.setenv("BOOTHLINE_S3_SECRET_KEY", "something-secret")
    process_environment.current.cache_clear()
    write_pictures("pictures", 3)
    code, _, errors = cli("run", write_config(subject={"images": "pictures"}, **models))

    assert code == 5
    assert "127.0.0.1" in errors
    assert "something-secret" not in errors


def test_run_while_another_is_active_names_it(cli, models, tmp_path):
    write_pictures("pictures", 3)
    config = write_config(subject={"images": "pictures"}, **models)
    with only_run(tmp_path / "home", RUN):
        code, _, errors = cli("run", config)

    assert code == 2
    assert f"Run {RUN}" in errors
    assert "is active" in errors


@pytest.mark.parametrize("command", ["status", "resume", "logs", "explain", "report"])
def test_command_on_unknown_run_exits_with_2(cli, command):
    code, _, errors = cli(command, "20991231-000000-ffff")

    assert code == 2
    assert "20991231-000000-ffff" in errors


@pytest.mark.parametrize("command", ["status", "logs", "explain", "report"])
def test_command_on_the_last_run_of_an_empty_home_says_how_to_start_one(cli, command):
    code, _, errors = cli(command)

    assert code == 2
    assert "boothline run" in errors


def test_generate_without_prompt_exits_with_2(cli):
    code, _, errors = cli("generate")

    assert code == 2
    assert "--prompts" in errors


def test_logs_of_unknown_step_names_those_that_exist(cli, tmp_path):
    from boothline.config import RunConfig

    folder = folder_of(tmp_path / "home", RUN)
    folder.write_config(RunConfig())
    folder.logs.mkdir()
    (folder.logs / "train.log").write_text("trained\n")

    assert cli("logs", RUN, "--step", "nothing")[0] == 2
    assert "train" in cli("logs", RUN, "--step", "nothing")[2]
    code, output, _ = cli("logs", RUN, "--step", "train", "--output", "json")
    assert (code, json.loads(output)) == (0, {"run_id": RUN, "logs": {"train": "trained\n"}})


def test_validate_with_a_corrupt_picture_names_it_and_passes(cli):
    write_pictures("pictures", 4)
    Path("pictures/broken.png").write_bytes(b"\x89PNG not a picture")
    code, output, _ = cli(
        "validate", "--subject", "pictures", "--set", "subject.class_noun=bear", "--output", "json"
    )

    report = json.loads(output)
    assert code == 0
    assert [item["source"] for item in report["quarantined"]] == ["broken.png"]
    assert len(report["accepted"]) == 4


def test_validate_with_too_few_pictures_is_bad_data(cli):
    write_pictures("pictures", 2)
    noun = ("--set", "subject.class_noun=bear")
    code, output, errors = cli("validate", "--subject", "pictures", *noun)

    assert code == 3
    assert "You have 2 pictures; 3 are needed" in errors
    assert "0.png" in output


def test_compile_writes_the_pipeline_with_the_images_asked_for(cli):
    code, _, _ = cli("compile", "-o", "pipeline.yaml", "--image", "torch=example/torch:1")

    assert code == 0
    assert "image: example/torch:1" in Path("pipeline.yaml").read_text()


@pytest.mark.parametrize(
    ("index", "weights", "reason"),
    [
        ({"_class_name": "KolorsPipeline"}, "model.safetensors", "names the pipeline 'KolorsPi"),
        ({"_class_name": "FluxPipeline"}, "model.safetensors", "names no transformer"),
        (STABLE_DIFFUSION, "diffusion_pytorch_model.bin", "only pickle weights"),
        (STABLE_DIFFUSION, "README.md", "holds no diffusion_pytorch_model.safetensors"),
    ],
)
def test_validate_names_a_base_model_that_a_run_would_refuse(cli, index, weights, reason):
    write_pictures("pictures", 3)
    for part in ("unet", "vae", "text_encoder", "tokenizer", "scheduler"):
        Path("base", part).mkdir(parents=True)
        Path("base", part, weights).write_bytes(b"")
    Path("base/model_index.json").write_text(json.dumps(index))
    words = ("--subject", "pictures", "--set", "base_model.source=base")
    words = (*words, "--set", "subject.class_noun=bear")
    write_config(subject={"images": "pictures"}, base_model={"source": "base"})
    for arguments in (("validate", *words), ("run", *words), ("plan", "run.yaml")):
        code, _, said = cli(*arguments)
        assert (code, reason in said) == (3, True)


def test_validate_says_what_this_machine_lacks_and_run_refuses_it(cli, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    write_pictures("pictures", 3)
    write_config(subject={"images": "pictures"}, training={"precision": "fp16"})
    code, output, _ = cli("validate", "run.yaml", "--output", "json")
    assert code == 0
    (found,) = [w for w in json.loads(output)["warnings"] if w["check"] == "machine"]
    assert found["source"] == "training.precision fp16"
    code, _, said = cli("run", "run.yaml")
    assert code == 2
    assert "training.precision fp16 needs a CUDA device" in said


def test_validate_refuses_to_hold_out_every_picture(cli):
    write_pictures("pictures", 3)
    validation = {"every_steps": 10, "hold_out": 3}
    write_config(subject={"images": "pictures"}, training={"validation": validation})
    code, _, said = cli("validate", "run.yaml")
    assert code == 2
    assert "hold_out (3) leaves none of 3" in said


def test_setting_that_the_family_of_the_base_cannot_do_is_named(cli, family_folders):
    write_pictures("pictures", 3)
    base = str(family_folders("flux"))
    write_config(subject={"images": "pictures"}, base_model={"source": base})
    for command in ("validate", "run", "plan"):
        code, _, said = cli(command, "run.yaml")
        assert code == 2
        assert "training.method full does not work for FLUX.1" in said
        assert "Set training.method to lora" in said


def test_folder_in_place_of_a_file_holds_the_pictures(cli):
    write_pictures("mugs", 4)
    code, page, _ = cli("validate", "mugs", "--set", "subject.class_noun=mug", "--output", "json")

    assert code == 0
    assert "a photo of sks mug" in page


def test_two_folders_of_pictures_are_refused_by_name(cli):
    write_pictures("mugs", 4)
    code, _, errors = cli("validate", "mugs", "--subject", "mugs")

    assert code == 2
    assert "More than one folder of pictures is named: mugs, mugs." in errors
