"""The SDK's calls that are not public: as they are used, and used in one place."""

import re
from pathlib import Path

import pytest
from minio import Minio

from boothline.errors import ConfigError
from boothline.store import sdk

PRODUCT = Path(sdk.__file__).resolve().parents[1]


def test_sdk_that_is_installed_has_the_calls_that_are_used() -> None:
    sdk.check(Minio)


def test_sdk_without_a_call_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Minio, "_upload_part")
    with pytest.raises(ConfigError, match="another _upload_part"):
        sdk.check(Minio)


def test_sdk_whose_call_takes_other_parameters_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Minio, "_put_object", lambda self, bucket_name, object_name, data: None)
    with pytest.raises(ConfigError, match="another _put_object"):
        sdk.check(Minio)


def test_sdk_calls_that_are_not_public_stand_in_one_module() -> None:
    private = re.compile(r"\bclient\._[a-z]")
    found = {
        path.relative_to(PRODUCT).as_posix()
        for path in PRODUCT.rglob("*.py")
        if private.search(path.read_text(encoding="utf-8"))
    }
    assert found == {"store/sdk.py"}
