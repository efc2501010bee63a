"""What `boothline init` writes, for the tiny base and for a real one; the verdict of validate."""

import json
from pathlib import Path

import pytest
import yaml
from command_files import write_config, write_pictures
from model_fixtures import make_encoder_layout, make_model_layout

from boothline import settings as process_environment


@pytest.fixture(autouse=True)
def _fresh_environment(monkeypatch, tmp_path):
    """Work in an empty folder with no BOOTHLINE variable but the home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("BOOTHLINE_HOME", str(tmp_path / "home"))
    process_environment.current.cache_clear()
    yield
    process_environment.current.cache_clear()


def test_init_writes_a_file_that_validates_and_is_not_overwritten(cli):
    write_pictures("My Mug", 3)
    code, output, _ = cli("init", "My Mug", "--class-noun", "mug", "--output", "json")

    assert (code, json.loads(output)) == (0, {"file": "run.yaml"})
    subject = yaml.safe_load(Path("run.yaml").read_text())["subject"]
    assert subject == {"name": "my-mug", "images": "My Mug", "class_noun": "mug"}
    assert cli("init", "My Mug", "--class-noun", "mug")[0] == 2
    assert cli("init", "My Mug", "--class-noun", "mug", "--force")[0] == 0


def test_init_writes_what_fits_on_a_screen_and_says_what_is_next(cli):
    write_pictures("mug", 3)
    code, output, _ = cli("init", "mug", "--class-noun", "mug")
    text = Path("run.yaml").read_text()

    assert (code, output.strip()) == (0, "Wrote run.yaml. Next: boothline validate run.yaml")
    assert 10 < len(text.splitlines()) <= 25
    assert "# num_steps: 150" in text
    assert cli("init", "mug", "--class-noun", "mug", "--all", "--force")[0] == 0
    assert len(Path("run.yaml").read_text().splitlines()) > 200


def test_init_elsewhere_names_the_pictures_from_there(cli):
    write_pictures("mug", 3)
    Path("runs").mkdir()
    assert cli("init", "mug", "--class-noun", "mug", "-o", "runs/mug.yaml")[0] == 0
    assert yaml.safe_load(Path("runs/mug.yaml").read_text())["subject"]["images"] == "../mug"
    assert cli("validate", "runs/mug.yaml")[0] == 0


def test_init_without_class_noun_says_what_it_is(cli):
    write_pictures("mug", 3)
    code, _, said = cli("init", "mug")
    assert (code, "init mug --class-noun NOUN, such as dog" in said) == (2, True)
    assert not Path("run.yaml").exists()


def real_base(folder: str) -> str:
    """Write what looks like Stable Diffusion 1.5 by its settings."""
    make_model_layout(Path(folder))
    Path(folder, "unet/config.json").write_text('{"sample_size": 64}')
    Path(folder, "vae/config.json").write_text('{"block_out_channels": [128, 256, 512, 512]}')
    return folder


@pytest.mark.proves("F67/base")
def test_init_with_a_real_base_writes_settings_that_fit_it(cli, tmp_path):
    write_pictures("mug", 3, side=512)
    for name, kind in (("dino", "dinov2"), ("clip", "clip")):
        make_encoder_layout(tmp_path / name, kind=kind)
    words = ("--base-model", real_base("sd15"), "--encoders", "dino", "--encoders", "clip")
    code, _, said = cli("init", "mug", "--class-noun", "mug", *words)

    assert (code, said) == (0, "")
    values = yaml.safe_load(Path("run.yaml").read_text())
    assert values["subject"]["resolution_px"] == 512
    assert values["base_model"]["source"] == str(tmp_path / "sd15")
    assert (values["training"]["method"], values["training"]["precision"]) == ("lora", "bf16")
    assert values["evaluation"]["sampling"] == {"guidance_scale": 7.5, "batch_size": 4}
    assert cli("validate", "run.yaml")[0] == 0


@pytest.mark.proves("F67/base")
@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("subject.resolution_px=64", "was trained on pictures of 512 px"),
        ("evaluation.dino_model=builtin:tiny-emoji-dino", "evaluation.dino_model builtin:tiny-em"),
        ("training.method=full", "training.learning_rate 0.0001 fits the tiny base"),
    ],
)
def test_setting_of_the_tiny_base_on_a_real_one_is_refused(cli, tmp_path, setting, said):
    write_pictures("mug", 3, side=512)
    for name, kind in (("dino", "dinov2"), ("clip", "clip")):
        make_encoder_layout(tmp_path / name, kind=kind)
    words = ("--base-model", real_base("sd15"), "--encoders", "dino", "--encoders", "clip")
    assert cli("init", "mug", "--class-noun", "mug", *words)[0] == 0

    for command in ("validate", "plan"):
        code, _, errors = cli(command, "run.yaml", "--set", setting)
        assert (code, said in errors) == (2, True)


def test_validate_ends_with_a_verdict_and_strict_takes_warnings_for_errors(cli):
    write_pictures("pictures", 4)
    write_config(subject={"images": "pictures"})
    code, output, _ = cli("validate", "run.yaml")
    warned = json.loads(cli("validate", "run.yaml", "--output", "json")[1])["warnings"]
    assert (code, output.splitlines()[-1].startswith("4 of 4 pictures can be used; ")) == (0, True)
    Path("pictures/broken.png").write_bytes(b"\x89PNG not a picture")

    code, output, said = cli("validate", "run.yaml", "--strict")

    several = f", {len(warned)} warning{'s' if len(warned) > 1 else ''}" if warned else ""
    assert output.splitlines()[-1] == f"4 of 5 pictures can be used; 1 left out{several}."
    assert (code, "Not all is well: 4 of 5 pictures" in said) == (3, True)


def test_init_of_empty_folder_is_bad_data_and_writes_nothing(cli):
    Path("empty").mkdir()

    assert cli("init", "empty", "--class-noun", "mug")[0] == 3
    assert not Path("run.yaml").exists()


@pytest.mark.parametrize("number", [0, 2])
def test_init_of_pictures_that_cannot_be_used_says_so_and_writes_nothing(cli, number):
    write_pictures("mug", number)
    for name in ("IMG_1.HEIC", "IMG_2.HEIC", "IMG_3.CR3"):
        brand = b"crx " if name.endswith("CR3") else b"heic"
        Path("mug", name).write_bytes(b"\0\0\0\x18ftyp" + brand + bytes(90))
    code, _, said = cli("init", "mug", "--class-noun", "mug")

    assert (code, f"Only {number} of {number + 3} pictures" in said) == (3, True)
    assert "IMG_3.CR3 is a raw camera file (Canon CR3)" in said
    assert not Path("run.yaml").exists()


def test_init_says_what_a_run_would_leave_out(cli):
    write_pictures("mug", 3)
    Path("mug/broken.png").write_bytes(b"")
    code, output, _ = cli("init", "mug", "--class-noun", "mug")

    assert code == 0
    assert "1 of 4 pictures left out: broken.png is empty (0 bytes)." in output
