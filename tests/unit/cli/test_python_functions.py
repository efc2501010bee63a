"""`import boothline`: what it gives, what it loads, and what a wrong configuration says."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import boothline
from boothline.errors import ConfigError
from boothline.launch.api import _config


def test_import_loads_nothing_but_the_package_itself() -> None:
    code = (
        "import sys; before = set(sys.modules); import boothline; "
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert loaded - set(sys.stdlib_module_names) == {"boothline"}


def test_import_gives_the_functions_by_name() -> None:
    assert {"run", "Run", "load_champion"} == set(boothline.__all__)
    assert boothline.run.__module__ == boothline.Run.__module__ == "boothline.launch.api"
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        boothline.train  # noqa: B018


def test_configuration_of_settings_by_section_is_that_of_the_same_file(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    settings = {
        "subject": {"images": str(pictures), "class_noun": "bear"},
        "training": {"num_steps": 7},
    }
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(settings))
    assert _config(settings) == _config(file) == _config(_config(str(file)))
    assert _config(settings).training.num_steps == 7


def test_configuration_with_wrong_and_missing_settings_names_them_all() -> None:
    with pytest.raises(ConfigError) as caught:
        boothline.run({"training": {"num_stepz": 7}})
    assert "Did you mean 'training.num_steps'?" in str(caught.value)
    assert "subject.class_noun is not set" in str(caught.value)
