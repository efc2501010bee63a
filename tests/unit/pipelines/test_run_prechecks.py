from pathlib import Path

import pytest
from model_fixtures import make_encoder_layout, make_model_layout

from boothline.config import RunConfig
from boothline.errors import ConfigError, DataError, ModelNotFoundError
from boothline.evaluation.folders import LPIPS_WEIGHTS
from boothline.launch.local.prechecks import (
    check,
    check_from_afar,
    check_pictures,
    with_absolute_paths,
)


@pytest.fixture
def values(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_model_layout(tmp_path / "base")
    for name, kind in (("clip", "clip"), ("dino", "dinov2")):
        make_encoder_layout(tmp_path / name, kind=kind)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "a.png").write_bytes(b"x")
    return {
        "subject": {"images": str(pictures)},
        "base_model": {"source": str(tmp_path / "base")},
        "evaluation": {"clip_model": str(tmp_path / "clip"), "dino_model": str(tmp_path / "dino")},
    }


def test_check_of_complete_configuration_passes(values):
    check(RunConfig.model_validate(values), home=Path("home"))


def test_check_of_missing_base_model_names_it(values):
    values["base_model"]["source"] = "no/such/model"

    with pytest.raises(ModelNotFoundError, match="no/such/model") as caught:
        check(RunConfig.model_validate(values), home=Path("home"))
    assert caught.value.exit_code == 2


def test_check_of_unknown_builtin_encoder_names_it(values):
    values["evaluation"]["dino_model"] = "builtin:nothing"

    with pytest.raises(ModelNotFoundError, match="nothing"):
        check(RunConfig.model_validate(values), home=Path("home"))


ENCODER_FAULTS = {
    "other-kind": (
        "clip", lambda f: (f / "config.json").write_text('{"model_type": "vit"}'), "'vit'"
    ),
    "clip-as-dino": (
        "dino", lambda f: (f / "config.json").write_text('{"model_type": "clip"}'), "clip"
    ),
    "no-config": ("dino", lambda f: (f / "config.json").write_text("{}"), "unknown"),
    "no-weights": ("clip", lambda f: (f / "model.safetensors").unlink(), "no model.safetensors"),
    "pickle": (
        "dino",
        lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
        r"only pickle weights.*pytorch_model\.bin",
    ),
    "fp16-alone": (
        "dino",
        lambda f: (f / "model.safetensors").rename(f / "model.fp16.safetensors"),
        "fp16 weights alone",
    ),
    "no-processor": (
        "dino", lambda f: (f / "preprocessor_config.json").unlink(), "no preprocessor_config.json"
    ),
    "no-tokenizer": ("clip", lambda f: (f / "tokenizer.json").unlink(), "no tokenizer.json"),
}  # fmt: skip


@pytest.mark.proves("F71/models")
@pytest.mark.parametrize("fault", ENCODER_FAULTS)
def test_check_of_an_encoder_that_cannot_be_used_names_it(values, tmp_path, fault):
    name, damage, what = ENCODER_FAULTS[fault]
    damage(tmp_path / name)
    with pytest.raises(DataError, match=what) as caught:
        check(RunConfig.model_validate(values), home=Path("home"))
    assert str(tmp_path / name) in caught.value.message


def test_check_of_the_encoders_that_tests_load_passes(values, tiny_clip, tiny_dino):
    values["evaluation"] = {"clip_model": str(tiny_clip), "dino_model": str(tiny_dino)}
    check(RunConfig.model_validate(values), home=Path("home"))


def test_check_of_missing_prompts_file_names_it(values):
    values["inference"] = {"prompts_file": "no-prompts.txt"}

    with pytest.raises(ConfigError, match=r"no-prompts\.txt"):
        check(RunConfig.model_validate(values), home=Path("home"))


def test_check_of_missing_evaluation_prompts_file_names_it(values):
    values["evaluation"] |= {"prompt_set": "file", "prompts_file": "no-prompts.txt"}

    with pytest.raises(ConfigError, match=r"evaluation\.prompts_file"):
        check(RunConfig.model_validate(values), home=Path("home"))


@pytest.mark.parametrize("section", ["evaluation", "inference"])
def test_check_leaves_prompt_files_in_the_store_to_the_steps(values, section):
    values.setdefault(section, {})["prompts_file"] = "s3://bucket/prompts.txt"
    values["evaluation"]["prompt_set"] = "file" if section == "evaluation" else "own"

    check(RunConfig.model_validate(values), home=Path("home"))


def make_real(folder: Path) -> None:
    """Let a layout say that it is of a base of 512 px."""
    (folder / "unet/config.json").write_text('{"sample_size": 64}')
    (folder / "vae/config.json").write_text('{"block_out_channels": [1, 1, 1, 1]}')


@pytest.mark.proves("F51/judges")
@pytest.mark.parametrize("look", [check, check_from_afar])
def test_check_of_encoders_that_cannot_judge_a_real_base_is_refused(
    values, tmp_path, monkeypatch, look
):
    make_real(tmp_path / "base")
    values["subject"]["resolution_px"] = 512
    values["training"] = {"learning_rate": 2e-6}
    look(RunConfig.model_validate(values), home=Path("home"))
    config = tmp_path / "dino/config.json"
    config.write_text('{"model_type": "dinov2", "image_size": 64}')
    with pytest.raises(ConfigError, match=r"dino reads pictures of 64 px; it cannot judge"):
        look(RunConfig.model_validate(values), home=Path("home"))
    config.write_text('{"model_type": "dinov2", "image_size": 224}')
    values["evaluation"]["clip_model"] = "builtin:tiny-emoji-clip"
    with pytest.raises(ConfigError, match=r"clip_model builtin:tiny-emoji-clip was made for"):
        look(RunConfig.model_validate(values), home=Path("home"))


def test_check_from_afar_says_what_it_cannot_see(values):
    for source in ("owner/model@" + "0" * 40, "base:sd15"):
        values["base_model"]["source"] = source
        said = check_from_afar(RunConfig.model_validate(values), home=Path("home"))
        assert (
            said == f"{source} is not seen from here: whether the settings fit it was not checked."
        )


def test_check_leaves_the_download_of_an_encoder_to_the_steps(values):
    values["base_model"]["allow_hub"] = True
    values["evaluation"]["dino_model"] = "facebook/dino-vits16@" + "0" * 40

    check(RunConfig.model_validate(values), home=Path("home"))


def test_check_pictures_of_missing_folder_is_a_configuration_error(tmp_path):
    with pytest.raises(ConfigError, match="do not exist"):
        check_pictures(str(tmp_path / "nothing"))


def test_check_pictures_of_empty_folder_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="holds no pictures"):
        check_pictures(str(tmp_path))


def test_check_pictures_in_a_bucket_are_left_to_the_step():
    check_pictures("s3://bucket/prefix")


def test_absolute_paths_are_made_of_existing_paths_only(values, monkeypatch):
    folder = Path(values["subject"]["images"]).parent
    monkeypatch.chdir(folder)
    values["subject"]["images"] = "pictures"
    values["base_model"]["source"] = "builtin:tiny-emoji-sd"

    config = with_absolute_paths(RunConfig.model_validate(values))

    assert config.subject.images == str(folder / "pictures")
    assert config.base_model.source == "builtin:tiny-emoji-sd"
    assert config.inference.prompts_file is None


BASE_FAULTS = {
    "lfs": (
        "unet/diffusion_pytorch_model.safetensors",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "pointer of Git LFS",
    ),
    "cut": ("vae/diffusion_pytorch_model.safetensors", bytes(4), "not a safetensors file"),
    "no-part-config": ("text_encoder/config.json", None, "config.json does not exist"),
    "no-schedule": ("scheduler/scheduler_config.json", None, "scheduler_config.json does not"),
    "bad-schedule": ("scheduler/scheduler_config.json", b"{", "is not readable JSON"),
}


@pytest.mark.proves("F71/models")
@pytest.mark.parametrize("fault", BASE_FAULTS)
def test_check_of_a_base_model_that_cannot_be_loaded_names_the_file(values, tmp_path, fault):
    name, data, reason = BASE_FAULTS[fault]
    path = tmp_path / "base" / name
    path.unlink() if data is None else path.write_bytes(data)
    with pytest.raises(DataError, match=reason) as caught:
        check(RunConfig.model_validate(values), home=Path("home"))
    assert str(path) in caught.value.message


@pytest.fixture
def lpips(values, tmp_path):
    """The folder of LPIPS with tensors of the right names and no numbers."""
    import torch
    from safetensors.torch import save_file

    folder = tmp_path / "lpips"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "lpips", "net": "alex"}')
    save_file({n: torch.zeros(0) for n in LPIPS_WEIGHTS}, folder / "model.safetensors")
    values["evaluation"]["lpips_model"] = str(folder)
    return folder


def test_check_lpips_of_the_right_names_passes_and_they_are_the_network_s(values, lpips):
    from boothline.evaluation.perceptual import _Distance

    check(RunConfig.model_validate(values), home=Path("home"))
    assert set(_Distance().state_dict()) == LPIPS_WEIGHTS


@pytest.mark.proves("F71/models")
def test_check_lpips_that_cannot_be_loaded_says_why(values, lpips):
    from safetensors.torch import load_file, save_file

    weights = lpips / "model.safetensors"
    tensors = load_file(weights)
    head = tensors.pop("lin4.model.1.weight")
    faults = [
        (lambda: save_file({**tensors, "lin4.weight": head}, weights), "does not belong|missing"),
        (lambda: save_file(tensors, weights), "lin4.model.1.weight is missing"),
        (weights.unlink, "holds no model.safetensors"),
        (lambda: (lpips / "config.json").write_text('{"net": "vgg"}'), "LPIPS on 'vgg'"),
    ]
    for breaks, reason in faults:
        breaks()
        with pytest.raises((ConfigError, DataError), match=reason):
            check(RunConfig.model_validate(values), home=Path("home"))


def test_check_of_prompts_to_judge_by_without_the_subject_names_the_prompt(values, tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("a {subject}\na bear\n")
    values["evaluation"] |= {"prompt_set": "file", "prompts_file": str(file)}
    with pytest.raises(DataError, match=r"'a bear' lacks \{subject\}"):
        check(RunConfig.model_validate(values), home=Path("home"))


@pytest.mark.proves("F71/prompts")
@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ('{"prompt": "a {subject}", "sampler": "fast"}', "sampler = 'fast'"),
        ('{"prompt": "a {subject}", "image": "no.png"}', "names the image 'no.png'"),
        ('{"text": "a {subject}"}', "lacks 'prompt'"),
        ("not json", "is not JSON"),
    ],
)
def test_check_of_a_prompts_file_names_the_line(values, tmp_path, row, reason):
    file = tmp_path / "prompts.jsonl"
    file.write_text(f'{{"prompt": "a bear"}}\n{row}\n')
    values["inference"] = {"prompts_file": str(file)}
    with pytest.raises(DataError, match=rf"line 2 .*{reason}"):
        check(RunConfig.model_validate(values), home=Path("home"))


def test_check_of_a_row_whose_sampler_the_family_has_not_is_refused(values, family_folders):
    file = Path("prompts.jsonl")
    file.write_text('{"prompt": "a {subject}", "sampler": "ddim"}\n')
    values["base_model"]["source"] = str(family_folders("sd3"))
    values["training"] = {"method": "lora", "train_text_encoder": False}
    for section in ("evaluation", "inference", "prior"):
        values.setdefault(section, {})["sampling"] = {"sampler": "euler"}
    config = RunConfig.model_validate(values)
    check(config, home=Path("home"))
    values["inference"]["prompts_file"] = str(file)
    with pytest.raises(ConfigError, match=r"prompts\.jsonl: a row's\.sampler ddim does not fit"):
        check(RunConfig.model_validate(values), home=Path("home"))
