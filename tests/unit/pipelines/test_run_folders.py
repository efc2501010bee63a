import json
import os
from datetime import UTC, datetime

import pytest
from filelock import FileLock

from boothline.config import RunConfig
from boothline.errors import ConfigError
from boothline.launch.local.folder import (
    RunFolder,
    existing_folder,
    folder_of,
    is_active,
    new_run_id,
    only_run,
    run_folders,
)

FIRST, SECOND = "20260101-000000-0000", "20260102-000000-0000"


def make_run(home, run_id):
    folder = folder_of(home, run_id)
    folder.write_config(RunConfig())
    return folder


def test_new_run_id_holds_the_time_and_is_not_guessable_twice():
    now = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)

    assert new_run_id(now).startswith("20260131-093000-")
    assert len({new_run_id(now) for _ in range(50)}) > 1


@pytest.mark.proves("F06/stored")
def test_config_of_run_folder_reads_back_equal(tmp_path):
    config = RunConfig.model_validate({"subject": {"prompt": "é {subject}"}})
    folder = RunFolder(tmp_path / FIRST)
    folder.write_config(config)

    assert folder.read_config() == config


def test_existing_folder_without_run_id_is_the_last(tmp_path):
    make_run(tmp_path, SECOND)
    make_run(tmp_path, FIRST)

    assert existing_folder(tmp_path, None).run_id == SECOND
    assert [folder.run_id for folder in run_folders(tmp_path)] == [FIRST, SECOND]


@pytest.mark.parametrize("run_id", [SECOND, "../../etc", "latest", ""])
def test_existing_folder_of_unknown_run_names_the_last_one(tmp_path, run_id):
    make_run(tmp_path, FIRST)

    with pytest.raises(ConfigError) as caught:
        existing_folder(tmp_path, run_id)
    assert repr(run_id) in str(caught.value) or FIRST in str(caught.value)


def test_existing_folder_without_any_run_says_how_to_start_one(tmp_path):
    with pytest.raises(ConfigError, match="boothline run"):
        existing_folder(tmp_path, None)


def test_only_run_second_holder_is_told_who_is_active(tmp_path):
    with (
        only_run(tmp_path, FIRST),
        pytest.raises(ConfigError, match=rf"{FIRST} \(process {os.getpid()}\)") as caught,
        only_run(tmp_path, SECOND),
    ):
        pass

    assert caught.value.exit_code == 2
    with only_run(tmp_path, SECOND):
        assert json.loads((tmp_path / "active.json").read_text())["run_id"] == SECOND


def test_only_run_held_by_an_unknown_process_still_speaks_clearly(tmp_path):
    with (
        FileLock(tmp_path / "run.lock"),
        pytest.raises(ConfigError, match="of another process"),
        only_run(tmp_path, FIRST),
    ):
        pass


def test_is_active_tells_the_holder_from_others(tmp_path):
    assert not is_active(tmp_path, FIRST)
    with only_run(tmp_path, FIRST):
        assert is_active(tmp_path, FIRST)
        assert not is_active(tmp_path, SECOND)
    assert not is_active(tmp_path, FIRST)


def test_read_logs_of_step_gives_its_shards_only(tmp_path):
    folder = make_run(tmp_path, FIRST)
    folder.logs.mkdir()
    for number, name in enumerate(("validate_data", "generate_prior-0", "generate_prior-1")):
        path = folder.logs / f"{name}.log"
        path.write_text(name)
        os.utime(path, (number, number))
    folder.kfp_log.write_text("kfp says")

    assert list(folder.read_logs(None)) == ["validate_data", "generate_prior-0", "generate_prior-1"]
    assert list(folder.read_logs("generate_prior")) == ["generate_prior-0", "generate_prior-1"]
    assert folder.read_logs("generate_prior-1") == {"generate_prior-1": "generate_prior-1"}
    assert folder.read_logs("kfp") == {"kfp": "kfp says"}
    assert folder.read_logs("train") == {}
