"""TLS that fails for good: every client says who, why and which setting, at once."""

import json
import logging
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from command_line import boothline
from pydantic import SecretStr
from tls_servers import PLAIN_REFUSAL, Authority, Identity, Served, serving

from boothline import settings as process_environment
from boothline.config.model import NotificationConfig
from boothline.connecting import careful_retries
from boothline.errors import ServiceError
from boothline.launch.cluster.client import PipelinesApi
from boothline.launch.cluster.deployment import Kfp
from boothline.notifying import Ending, notify
from boothline.settings import Settings
from boothline.store.s3 import Bucket
from boothline.tracking.client import Client, connect, translated
from boothline.trainjob.cluster import Cluster

# Far below the 180 s that a silent store is waited for.
AT_ONCE_SECONDS = 20.0
PLAIN_ANSWER = (200, "text/plain", b"ok")
NGINX_REFUSAL = (
    b"<html><head><title>400 No required SSL certificate was sent</title></head>"
    b"<body><center><h1>400 Bad Request</h1></center></body></html>"
)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way in which TLS fails.

    Attributes:
        cause: what the message says of it.
        setting: what its remedy names: the URL's or the bundle's setting.
        scheme: of the URL.
        certificate: of the server; None: it speaks plain HTTP.
        bundle: what is trusted: `right`, `other`, `missing`, `garbage` or `damaged`.
        asks: how the server asks for a certificate of the client: by TLS `1.2` or `1.3`, or by a
            `page` of nginx.
    """

    cause: str
    setting: str = "url"
    scheme: str = "https"
    certificate: str | None = "right"
    bundle: str = "right"
    asks: str = ""


CASES = {
    "self-signed": Case(certificate="own", cause="self-signed", setting="trust"),
    "unknown-authority": Case(bundle="other", cause="authority that is not", setting="trust"),
    "expired": Case(certificate="expired", cause="certificate has expired"),
    "other-name": Case(certificate="named", cause="another name"),
    "plain-server": Case(certificate=None, cause="speaks no TLS"),
    "plain-client": Case(scheme="http", cause="expects https"),
    "missing-bundle": Case(bundle="missing", cause="cannot be read", setting="trust"),
    "garbage-bundle": Case(bundle="garbage", cause="no valid certificate", setting="trust"),
    "client-1.2": Case(asks="1.2", cause="asks for a client certificate"),
    "client-1.3": Case(asks="1.3", cause="asks for a client certificate"),
    "client-nginx": Case(asks="page", cause="asks for a client certificate"),
    "damaged-bundle": Case(bundle="damaged", cause="no valid certificate", setting="trust"),
}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def bundles(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    (folder / "garbage.pem").write_text("not a certificate")
    (folder / "damaged.pem").write_text(authority.bundle.read_text().replace("MII", "MIJ", 1)[:200])
    return {
        "right": authority.bundle,
        "other": Authority(tmp_path_factory.mktemp("other")).bundle,
        "missing": folder / "missing.pem",
        "garbage": folder / "garbage.pem",
        "damaged": folder / "damaged.pem",
    }


@pytest.fixture(scope="module")
def identities(authority: Authority) -> dict[str | None, Identity | None]:
    return {
        None: None,
        "right": authority.issue(),
        "own": authority.issue(own=True),
        "expired": authority.issue(days=-2),
        "named": authority.issue(host="s3.example.org"),
    }


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture
def server(
    case: Case, identities: dict[str | None, Identity | None], authority: Authority
) -> Iterator[Served]:
    """A server that fails as the case says; one behind TLS answers plain requests as Go's do."""
    plain_client = case.scheme == "http"
    identity = None if plain_client else identities[case.certificate]
    status, kind, body = (400, "text/plain", PLAIN_REFUSAL) if plain_client else PLAIN_ANSWER
    if case.asks == "page":
        status, kind, body = 400, "text/html", NGINX_REFUSAL
    client_authority = authority.bundle if case.asks.startswith("1") else None
    newest = ssl.TLSVersion.TLSv1_2 if case.asks == "1.2" else ssl.TLSVersion.TLSv1_3
    with serving(
        identity,
        client_authority=client_authority,
        newest=newest,
        status=status,
        kind=kind,
        body=body,
    ) as served:
        yield served


def url_of(case: Case, server: Served) -> str:
    return f"{case.scheme}://127.0.0.1:{server.port}"


@contextmanager
def at_once() -> Iterator[None]:
    started_at = time.monotonic()
    yield
    assert time.monotonic() - started_at < AT_ONCE_SECONDS


def fails_clearly(action: Callable[[], object], case: Case, url: str, settings: list[str]) -> None:
    """Show that an action fails at once, by an error that says who, why and which setting."""
    with at_once(), pytest.raises(ServiceError) as failure:
        action()
    message, remedy = failure.value.message, failure.value.remedy
    assert failure.value.exit_code == 5
    assert url in message
    assert case.cause in message, message
    assert settings[case.setting == "trust"] in remedy
    assert "\n" not in str(failure.value)


def store_settings(case: Case, url: str, bundles: dict[str, Path]) -> Settings:
    return Settings(
        s3_endpoint=url,
        s3_access_key="key-of-a-test",
        s3_secret_key=SecretStr("secret-of-a-test"),
        s3_ca_bundle=bundles[case.bundle],
        mlflow_uri="",
    )


@pytest.mark.proves("F72/tls")
def test_connect_store_without_valid_tls_names_the_setting(
    case: Case, server: Served, bundles: dict[str, Path]
) -> None:
    url = url_of(case, server)
    fails_clearly(
        lambda: Bucket.connect(store_settings(case, url, bundles)),
        case,
        url,
        ["BOOTHLINE_S3_ENDPOINT", "BOOTHLINE_S3_CA_BUNDLE"],
    )
    assert server.num_connections <= 1


def test_doctor_store_without_valid_tls_exits_with_five(
    case: Case, server: Served, bundles: dict[str, Path], tmp_path: Path
) -> None:
    url = url_of(case, server)
    variables = {
        "BOOTHLINE_S3_ENDPOINT": url,
        "BOOTHLINE_S3_ACCESS_KEY": "key-of-a-test",
        "BOOTHLINE_S3_SECRET_KEY": "secret-of-a-test",
        "BOOTHLINE_S3_CA_BUNDLE": str(bundles[case.bundle]),
    }
    code, answer, said = boothline(tmp_path, "doctor", "--pod", variables=variables)
    found = {finding["name"]: finding for finding in answer["findings"]}["store"]
    assert code == 5
    assert found["status"] == "failed"
    assert url in found["detail"]
    assert case.cause in found["detail"]
    assert "BOOTHLINE_S3_" in found["remedy"]
    assert "Traceback" not in said


def test_pipelines_api_without_valid_tls_names_the_setting(
    case: Case, server: Served, bundles: dict[str, Path]
) -> None:
    url = url_of(case, server)
    api = PipelinesApi(Kfp(host=url, ca_bundle=bundles[case.bundle]), settings=Settings())
    fails_clearly(api.experiment_id, case, url, ["kfp.host", "kfp.ca_bundle"])


def test_cluster_without_valid_tls_names_the_setting(
    case: Case, server: Served, bundles: dict[str, Path]
) -> None:
    from kubernetes import client

    url = url_of(case, server)
    configuration = client.Configuration(host=url)
    configuration.ssl_ca_cert = str(bundles[case.bundle])
    cluster = Cluster(client.ApiClient(configuration), namespace="ml")
    names = ["server in the kubeconfig", "certificate-authority in the kubeconfig"]
    fails_clearly(lambda: cluster.get("job"), case, url, names)
    fails_clearly(lambda: cluster.first_pod("job"), case, url, names)
    fails_clearly(lambda: list(cluster.log("pod")), case, url, names)


def kubeconfig(path: Path, *, url: str, bundle: Path) -> Path:
    """Write what names a cluster and the authority that it is trusted by."""
    named = {"server": url, "certificate-authority": str(bundle)}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": named}],
        "users": [{"name": "test", "user": {}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    }
    path.write_text(json.dumps(config))
    return path


@pytest.mark.parametrize(
    "case",
    ["self-signed", "unknown-authority", "expired", "other-name", "plain-server", "plain-client"],
    indirect=True,
)
def test_clients_of_a_cluster_ask_once_and_are_silent_where_tls_fails_for_good(
    case: Case,
    server: Served,
    bundles: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    url = url_of(case, server)
    bundle = bundles[case.bundle]
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "k", url=url, bundle=bundle)))
    api = PipelinesApi(Kfp(host=url, ca_bundle=bundle), settings=Settings())
    cluster = Cluster.connect("ml")
    for action in (api.experiment_id, lambda: cluster.get("job")):
        before = server.num_connections
        with pytest.raises(ServiceError, match=case.cause):
            action()
        assert server.num_connections == before + 1
    assert caplog.text == ""


def test_clients_of_a_cluster_ask_again_where_a_connection_is_cut() -> None:
    from urllib3.exceptions import MaxRetryError, SSLError

    retries = careful_retries(3)
    cut = SSLError(ssl.SSLEOFError(8, "EOF occurred in violation of protocol"))
    for left in (2, 1, 0):
        retries = retries.increment("GET", "/", error=cut)
        assert retries.total == left
    with pytest.raises(MaxRetryError):
        retries.increment("GET", "/", error=cut)


def test_mlflow_without_valid_tls_names_the_setting(
    case: Case, server: Served, bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = url_of(case, server)
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(bundles[case.bundle]))
    monkeypatch.setenv("BOOTHLINE_MLFLOW_URI", url)
    process_environment.current.cache_clear()
    client = Client(url)
    client.library()  # loading MLflow takes its time, and is not what is tested

    def ask() -> None:
        client.run("r")

    names = ["BOOTHLINE_MLFLOW_URI", "MLFLOW_TRACKING_SERVER_CERT_PATH"]
    try:
        fails_clearly(ask, case, url, names)
    finally:
        process_environment.current.cache_clear()


def test_doctor_mlflow_without_valid_tls_names_the_setting(
    case: Case,
    server: Served,
    bundles: dict[str, Path],
    tmp_path: Path,
) -> None:
    url = url_of(case, server)
    variables = {
        "BOOTHLINE_MLFLOW_URI": url,
        "MLFLOW_TRACKING_SERVER_CERT_PATH": str(bundles[case.bundle]),
    }
    _, answer, _ = boothline(tmp_path, "doctor", "--pod", variables=variables)
    found = {finding["name"]: finding for finding in answer["findings"]}["mlflow"]
    assert found["status"] == "warning"
    assert url in found["detail"]
    assert case.cause in found["detail"]
    assert "MLFLOW" in found["remedy"]


@pytest.mark.parametrize(
    "case",
    ["self-signed", "unknown-authority", "expired", "other-name", "plain-server", "client-1.3"],
    indirect=True,
)
def test_notify_webhook_without_valid_tls_says_why(
    case: Case,
    server: Served,
    bundles: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(bundles[case.bundle]))
    url = url_of(case, server)
    settings = Settings(notify_webhook_url=SecretStr(f"{url}/hooks/part-of-the-secret"))
    ending = Ending(
        run_id="a-run", pipeline="dreambooth", model_name="m", status="done", seconds=1.0, steps=()
    )
    with at_once(), caplog.at_level(logging.WARNING):
        assert not notify(settings, NotificationConfig(), ending, logs=None)
    said = caplog.text
    assert url in said
    assert case.cause in said
    assert ("SSL_CERT_FILE" if case.setting == "trust" else "BOOTHLINE_NOTIFY_WEBHOOK_URL") in said
    assert "part-of-the-secret" not in said


def test_connect_store_with_valid_tls_gets_its_answer(
    authority: Authority, bundles: dict[str, Path]
) -> None:
    case = Case(cause="")
    listing = b"<ListBucketResult></ListBucketResult>"
    with serving(authority.issue(), kind="application/xml", body=listing) as server:
        url = url_of(case, server)
        assert Bucket.connect(store_settings(case, url, bundles)).endpoint == url


def test_pipelines_api_html_page_of_another_server_is_cut(bundles: dict[str, Path]) -> None:
    page = b"<!DOCTYPE html><html><head><title>404 Not Found</title></head>" + b"<p>x</p>" * 5000
    with serving(status=404, kind="text/html", body=page) as server:
        api = PipelinesApi(Kfp(host=f"http://127.0.0.1:{server.port}"), settings=Settings())
        with pytest.raises(ServiceError) as failure:
            api.experiment_id()
    assert "a web page titled '404 Not Found'" in failure.value.message
    assert "<p>" not in failure.value.message
    assert len(failure.value.message) < 350


@pytest.mark.parametrize("status", [200, 400, 404, 502])
def test_connect_store_html_page_of_another_server_is_cut(status: int) -> None:
    page = b"<html><head><title>Welcome</title></head>" + b"<p>x</p>\n" * 5000
    with serving(status=status, kind="text/html", body=page) as server:
        settings = store_settings(
            Case(cause=""), f"http://127.0.0.1:{server.port}", {"right": Path("unused.pem")}
        )
        with pytest.raises(ServiceError) as failure:
            Bucket.connect(settings)
    assert len(str(failure.value)) < 500
    assert "<p>" not in str(failure.value)


@pytest.mark.parametrize("status", [200, 404, 502])
def test_mlflow_html_page_of_another_server_is_cut(status: int) -> None:
    page = b"<html><head><title>Welcome</title></head>" + b"<p>x</p>\n" * 5000
    with serving(status=status, kind="text/html", body=page) as server:
        client = connect(f"http://127.0.0.1:{server.port}")
        with pytest.raises(ServiceError) as failure, translated("list the models"):
            client.search_registered_models()
    assert ("too many 502" if status == 502 else "a web page titled 'Welcome'") in str(
        failure.value
    )
    assert "<p>" not in str(failure.value)
    assert len(str(failure.value)) < 400
