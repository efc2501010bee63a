"""No configuration and no setting sends Boothline to a metadata service or to a local file."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from pydantic import SecretStr

from boothline.addresses import check_public_url, check_service_url, is_loopback
from boothline.config import RunConfig
from boothline.data.sources import collect
from boothline.diffusion import base_model
from boothline.errors import BoothlineError, ConfigError
from boothline.settings import Settings
from boothline.store import Store
from boothline.tracking.client import connect

Note = Callable[[str, str], None]

METADATA = (
    "http://169.254.169.254/latest/meta-data/",
    "http://2852039166/",
    "http://0xA9FEA9FE/",
    "http://0xa9.0xfe.0xa9.0xfe/",
    "http://0251.0376.0251.0376/",
    "http://169.254.43518/",
    "http://[::ffff:169.254.169.254]/",
    "http://[::ffff:a9fe:a9fe]/",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://[2002:a9fe:a9fe::1]/",
    "http://[fe80::1]/",
    "http://[fe80::1%25eth0]/",
    "http://[fd00:ec2::254]/",
    "http://100.100.100.200/",
    "http://metadata.google.internal/",
    "http://METADATA.google.internal./",
    "http://0.0.0.0/",
    "http://0/",
    "http://[::]/",
    "http://255.255.255.255/",
    "http://user:password@s3.example.org/",
)
OTHER_SCHEMES = (
    "file:///etc/passwd",
    "file://localhost/etc/passwd",
    "ftp://example.org/x",
    "gopher://127.0.0.1:6379/_FLUSHALL",
    "data:text/plain,x",
    "ssh://example.org",
    "sqlite:///mlflow.db",
    "databricks",
    "http://",
    "http://exa mple.org/",
    "http://example.org:99999/",
    "//example.org/x",
)
PRIVATE = (
    "https://10.0.0.1/",
    "https://172.16.0.1/",
    "https://192.168.1.1/",
    "https://127.0.0.1/",
    "https://localhost/",
    "https://[::1]/",
    "https://[fc00::1]/",
    "https://rebound.example.org/",
    "http://example.org/",
)


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every address that Python code looks up or connects to while the test runs.

    Not by an audit hook: none can be removed, and each is called for every id() from then on.
    """
    seen: list[str] = []

    def connect(_: socket.socket, address: object) -> NoReturn:
        seen.append(f"connect {address}")
        raise OSError("no connection in this test")

    def look_up(host: object, *_: object, **__: object) -> NoReturn:
        seen.append(f"look up {host}")
        raise OSError("no name in this test")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return seen


def settings(tmp_path: Path, **changes: object) -> Settings:
    own = {"s3_access_key": "key-id", "s3_secret_key": SecretStr("a-secret"), **changes}
    return Settings(home=tmp_path / "home", **own)  # type: ignore[arg-type]


@pytest.mark.parametrize("url", [*METADATA, *OTHER_SCHEMES])
def test_settings_url_of_a_metadata_service_or_file_is_refused(
    tmp_path: Path, connections: list[str], url: str
) -> None:
    with pytest.raises(ConfigError, match="BOOTHLINE_S3_ENDPOINT"):
        Store.connect(settings(tmp_path, s3_endpoint=url))
    with pytest.raises(ConfigError, match="BOOTHLINE_MLFLOW_URI"):
        connect(url)
    assert connections == []


def test_configuration_source_that_is_a_url_is_refused(
    tmp_path: Path, connections: list[str], measured: Note
) -> None:
    urls = [*METADATA, *OTHER_SCHEMES, *PRIVATE]
    num_refused = 0
    for url in urls:
        config = RunConfig.model_validate({"subject": {"images": url}})
        with pytest.raises(BoothlineError):
            collect(config.subject.images, tmp_path / "scratch", settings=settings(tmp_path))
        for allow_hub in (False, True):
            with pytest.raises(BoothlineError):
                base_model.resolve(url, settings=settings(tmp_path), allow_hub=allow_hub)
        num_refused += 1
    assert connections == []
    measured("remote code, SSRF", f"{num_refused} of {len(urls)} hostile URLs refused as sources")


@pytest.mark.parametrize("url", [*METADATA, *OTHER_SCHEMES, *PRIVATE])
def test_public_url_check_refuses_what_is_not_public(url: str) -> None:
    names = {"localhost": ["127.0.0.1"], "rebound.example.org": ["93.184.215.14", "10.0.0.1"]}
    with pytest.raises(ConfigError, match="a setting"):
        check_public_url(
            url.replace("http://", "https://") if url in METADATA else url,
            name="a setting",
            resolve=lambda host, port: names.get(host, ["93.184.215.14"]),
        )


@pytest.mark.parametrize("url", ["https://example.org/x", "https://93.184.215.14:8443/"])
def test_public_url_check_lets_public_urls_through(url: str) -> None:
    assert check_public_url(url, name="x", resolve=lambda host, port: ["93.184.215.14"]).hostname


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:8333", "http://10.1.2.3:9000", "http://seaweedfs:8333", "https://[::1]:1/"],
)
def test_service_url_check_lets_services_through(url: str) -> None:
    assert check_service_url(url, name="x").hostname


def test_service_url_message_hides_what_may_be_secret() -> None:
    with pytest.raises(ConfigError) as caught:
        check_service_url("http://user:canary@s3.example.org/?token=canary", name="x")
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("s3.localhost", True),
        ("10.0.0.1", False),
        ("localhost.example.org", False),
        ("::ffff:127.0.0.1", True),
    ],
)
def test_is_loopback_knows_this_machine(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(
    ("key", "secret"), [("minio", "minio123"), ("minioadmin", "minioadmin"), ("Admin", "password")]
)
def test_default_credentials_are_refused_beyond_this_machine(
    tmp_path: Path, connections: list[str], key: str, secret: str
) -> None:
    own = settings(
        tmp_path,
        s3_endpoint="http://minio.example.org:9000",
        s3_access_key=key,
        s3_secret_key=SecretStr(secret),
    )
    with pytest.raises(ConfigError, match="default credentials") as caught:
        Store.connect(own)
    assert secret == key or secret not in str(caught.value)
    assert connections == []


def test_default_credentials_are_allowed_on_this_machine(tmp_path: Path) -> None:
    from boothline.store.connection import new_client

    own = settings(
        tmp_path,
        s3_endpoint="http://127.0.0.1:9000",
        s3_access_key="minio",
        s3_secret_key=SecretStr("minio123"),
    )
    assert new_client(own)


def test_redirect_of_the_store_is_not_followed(tmp_path: Path) -> None:
    import threading
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    asked: list[str] = []

    class Redirecting(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(302 if "elsewhere" not in self.path else 200)
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Redirecting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(BoothlineError):
            Store.connect(settings(tmp_path, s3_endpoint=f"http://127.0.0.1:{server.server_port}"))
        server.shutdown()
    assert asked
    assert not any("elsewhere" in path for path in asked)
