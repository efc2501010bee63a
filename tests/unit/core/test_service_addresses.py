"""What is said of a value that is not a service's URL: the value, without what may be secret."""

import pytest

from boothline.addresses import check_service_url
from boothline.errors import ConfigError


@pytest.mark.parametrize(
    ("value", "quoted"),
    [
        ("s3.example.org", "'s3.example.org'"),
        ("localhost:8333", "'localhost:8333'"),
        ("", "''"),
        ("http://", "'http://'"),
        ("://", "'://'"),
        ("ftp://files.example.org", "'ftp://files.example.org'"),
        ("file:///etc/passwd", "'file:///...'"),
        ("http:/s3.example.org", "'http:/...'"),
        ("http://h:0", "'http://h:0'"),
    ],
)
def test_check_service_url_quotes_the_value_given(value: str, quoted: str) -> None:
    with pytest.raises(ConfigError) as failure:
        check_service_url(value, name="BOOTHLINE_S3_ENDPOINT")
    assert failure.value.message == f"BOOTHLINE_S3_ENDPOINT {quoted} is not an endpoint URL."


@pytest.mark.parametrize(
    "value",
    [
        "hooks.example.org/services/hidden",
        "hooks.example.org?token=hidden",
        "hooks.example.org#hidden",
        "ftp://user:hidden@files.example.org",
        "user:hidden@files.example.org",
        "ftp://files.example.org/hidden",
    ],
)
def test_check_service_url_shows_no_secret(value: str) -> None:
    with pytest.raises(ConfigError) as failure:
        check_service_url(value, name="BOOTHLINE_NOTIFY_WEBHOOK_URL")
    assert "is not an endpoint URL" in failure.value.message
    assert "example.org" in failure.value.message
    assert "hidden" not in str(failure.value)


def test_check_service_url_long_value_is_cut() -> None:
    with pytest.raises(ConfigError) as failure:
        check_service_url("x" * 10_000, name="BOOTHLINE_S3_ENDPOINT")
    assert len(failure.value.message) < 300
