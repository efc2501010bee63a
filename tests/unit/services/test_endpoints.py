"""Credentials are private, and endpoints become an environment."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from boothline.errors import ConfigError
from boothline.services.endpoints import Credentials, Endpoints, write_private


def test_credentials_first_use_creates_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    created = Credentials.load_or_create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(created.secret_key.get_secret_value()) == 40
    assert [entry.name for entry in tmp_path.iterdir()] == ["credentials.json"]


def test_credentials_second_use_reads_them_back(tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    assert Credentials.load_or_create(path) == Credentials.load_or_create(path)


def test_credentials_of_two_homes_differ(tmp_path: Path) -> None:
    one = Credentials.load_or_create(tmp_path / "one.json")
    two = Credentials.load_or_create(tmp_path / "two.json")
    assert one.secret_key != two.secret_key


def test_credentials_opened_to_others_are_closed_again(tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    Credentials.load_or_create(path)
    path.chmod(0o644)
    Credentials.load_or_create(path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_credentials_damaged_file_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    path.write_text("{}x")
    with pytest.raises(ConfigError, match="does not hold the credentials"):
        Credentials.load_or_create(path)
    assert path.read_text() == "{}x"


def test_credentials_text_hides_secrets() -> None:
    credentials = Credentials()
    assert credentials.secret_key.get_secret_value() not in repr(credentials)


def test_write_private_replaces_an_open_file_by_a_private_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, "new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600


def test_environment_names_every_endpoint(tmp_path: Path) -> None:
    endpoints = Endpoints(
        home=tmp_path,
        s3_endpoint="http://127.0.0.1:1",
        s3_access_key="key",
        s3_secret_key=SecretStr("secret"),
        mlflow_uri="http://127.0.0.1:2",
    )
    assert endpoints.environment() == {
        "BOOTHLINE_HOME": str(tmp_path),
        "BOOTHLINE_S3_ENDPOINT": "http://127.0.0.1:1",
        "BOOTHLINE_S3_ACCESS_KEY": "key",
        "BOOTHLINE_S3_SECRET_KEY": "secret",
        "BOOTHLINE_MLFLOW_URI": "http://127.0.0.1:2",
    }
    assert endpoints.settings(prefix="p").s3_secret_key == SecretStr("secret")
    assert endpoints.settings(prefix="p").prefix == "p"
