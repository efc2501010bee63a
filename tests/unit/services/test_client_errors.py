"""Whatever a client library raises becomes an error of Boothline: its whole tree."""

import importlib
import inspect
import ssl
from collections.abc import Callable, Iterator
from io import BytesIO
from json import JSONDecodeError
from types import ModuleType
from typing import Any
from unittest import mock
from xml.etree.ElementTree import ParseError

import httpx
import pytest
from huggingface_hub.errors import SandboxCommandError
from minio import Minio
from minio.error import InvalidResponseError, S3Error, ServerError
from urllib3.exceptions import InvalidChunkLength
from urllib3.response import HTTPResponse

from boothline.connecting import MAX_ANSWER_CHARACTERS, excerpt, tls_fault
from boothline.diffusion.base_model import download
from boothline.errors import BoothlineError, ModelNotFoundError
from boothline.launch.cluster.client import PipelinesApi
from boothline.launch.cluster.deployment import Kfp
from boothline.settings import Settings
from boothline.store import failures
from boothline.store.connection import RetryPolicy
from boothline.store.s3 import Bucket
from boothline.tracking.client import translated as translated_mlflow
from boothline.trainjob.cluster import translated as translated_kubernetes

HASTY = RetryPolicy(deadline_seconds=0.0, failing_seconds=0.0, max_wait_seconds=0.0)
TREES = {
    "store": ("urllib3.exceptions", "minio.error"),
    "mlflow": ("urllib3.exceptions", "requests.exceptions", "mlflow.exceptions"),
    "kfp": ("urllib3.exceptions", "kfp_server_api.exceptions"),
    "kubernetes": ("urllib3.exceptions", "kubernetes.client.exceptions"),
    "hub": ("urllib3.exceptions", "httpx", "huggingface_hub.errors"),
}
# What comes from below the libraries.
EXTRA: dict[str, tuple[BaseException, ...]] = {
    "store": (ParseError("no element found"), ssl.SSLError(1, "[SSL] broken"), ssl.SSLEOFError(8)),
    "mlflow": (ssl.SSLError(1, "[SSL] broken"), OSError("Could not find a suitable bundle")),
    "kfp": (ssl.SSLError(1, "[SSL] broken"), UnicodeDecodeError("utf-8", b"x", 0, 1, "bad")),
    "kubernetes": (ssl.SSLError(1, "[SSL] broken"), UnicodeDecodeError("utf-8", b"x", 0, 1, "bad")),
    "hub": (ssl.SSLError(1, "[SSL] broken"), OSError("no space left")),
}


def classes(module: ModuleType) -> Iterator[type[Exception]]:
    """Yield the exceptions that a module defines, warnings aside."""
    for _, value in inspect.getmembers(module, inspect.isclass):
        if (
            issubclass(value, Exception)
            and not issubclass(value, Warning)
            and value.__module__.startswith(module.__name__.partition(".")[0])
        ):
            yield value


def made(kind: type[Exception]) -> Exception:
    """Return an instance of an exception, its arguments made up by name."""
    special: dict[type, Callable[[], Exception]] = {
        S3Error: lambda: S3Error(HTTPResponse(status=418), "Teapot", "short", "", "", ""),
        InvalidChunkLength: lambda: InvalidChunkLength(HTTPResponse(BytesIO(b"x")), b"1"),
        ServerError: lambda: ServerError("failed", 418),
        InvalidResponseError: lambda: InvalidResponseError(418, "text/html", "<html>"),
        SandboxCommandError: lambda: SandboxCommandError("ls", mock.Mock(stderr="no", exit_code=1)),
    }
    if issubclass(kind, JSONDecodeError):
        return kind("Expecting value", "<html>", 0)
    if kind in special:
        return special[kind]()
    request = httpx.Request("GET", "https://hub:1")
    values: dict[str, Any] = {
        "json": {"error_code": "INTERNAL_ERROR", "message": "failed"},
        "expected": 1,
        "partial": 0,
        "length": b"1",
        "defects": None,
        "unparsed_data": None,
        "request": request,
        "response": httpx.Response(418, request=request),
    }
    arguments: dict[str, Any] = {}
    for name, parameter in inspect.signature(kind.__init__).parameters.items():
        required = parameter.default is inspect.Parameter.empty
        usual = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if name != "self" and required and usual:
            arguments[name] = values.get(name, "text")
    try:
        return kind(**arguments)
    except TypeError:
        return kind("text")
    except AttributeError:  # mlflow's own: needs one of its optional arguments
        return kind(request_id="text")  # type: ignore[call-arg]


def store_run(error: BaseException) -> None:
    bucket = Bucket(
        client=Minio("127.0.0.1:1"),
        name="bucket",
        prefix="",
        endpoint="https://store:1",
        access_key="key",
        policy=HASTY,
    )

    def fail() -> None:
        raise error

    bucket.run(fail, what="read s3://bucket/key")


def mlflow_run(error: BaseException) -> None:
    with translated_mlflow("list the models"):
        raise error


def kfp_run(error: BaseException) -> None:
    api = PipelinesApi(Kfp(host="https://kfp:1"), settings=Settings())
    with api.translated("read the run"):
        raise error


def kubernetes_run(error: BaseException) -> None:
    from kubernetes import client

    with translated_kubernetes(client.ApiClient(client.Configuration(host="https://k8s:1")), "ask"):
        raise error


def hub_run(error: BaseException) -> None:
    with mock.patch("huggingface_hub.snapshot_download", side_effect=error):
        download("owner/name", revision="0" * 40, patterns=["*.json"])


RUNS: dict[str, Callable[[BaseException], None]] = {
    "store": store_run,
    "mlflow": mlflow_run,
    "kfp": kfp_run,
    "kubernetes": kubernetes_run,
    "hub": hub_run,
}


@pytest.mark.proves("F72/trees")
@pytest.mark.parametrize("client", TREES)
def test_client_error_of_any_class_becomes_ours(client: str) -> None:
    found = [
        made(kind) for name in TREES[client] for kind in classes(importlib.import_module(name))
    ]
    assert len(found) > 25
    for error in [*found, *EXTRA[client]]:
        with pytest.raises(BoothlineError) as failure:
            RUNS[client](error)
        unknown = isinstance(failure.value, ModelNotFoundError)  # the hub has no such model
        assert failure.value.exit_code == (2 if unknown else 5), error
        assert "\n" not in failure.value.message
        assert len(failure.value.message) < 400


@pytest.mark.parametrize("client", TREES)
def test_client_error_of_our_own_code_stays_a_bug(client: str) -> None:
    with pytest.raises(ZeroDivisionError):
        RUNS[client](ZeroDivisionError())


@pytest.mark.parametrize(
    "error", [ssl.SSLEOFError(8, "EOF occurred"), ssl.SSLZeroReturnError(6, "closed")]
)
def test_tls_fault_cut_connection_may_pass(error: ssl.SSLError) -> None:
    from urllib3.exceptions import SSLError

    assert tls_fault(SSLError(error)) is None
    assert failures.is_transient(SSLError(error))


def test_is_transient_refused_certificate_is_not_repeated() -> None:
    from urllib3.exceptions import SSLError

    refused = ssl.SSLCertVerificationError(1, "certificate verify failed")
    assert tls_fault(SSLError(refused)) is not None
    assert not failures.is_transient(SSLError(refused))


def test_tls_fault_alert_read_as_an_answer_means_https() -> None:
    from http.client import BadStatusLine

    from urllib3.exceptions import ProtocolError

    fault = tls_fault(ProtocolError("Connection aborted.", BadStatusLine("\x15\x03\x01\x00\x02")))
    assert fault is not None
    assert "expects https" in fault.cause


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        ("refused", "refused"),
        ("two\n  lines", "two lines"),
        ("404: <!doctype HTML><title>\n No \n</title><body>x", "404: a web page titled 'No'"),
        ("<html><p>no title</p></html>", "a web page"),
        (
            "HTTPSConnectionPool(host='h', port=1): Max retries exceeded with url: /long (Caused by"
            " NewConnectionError('refused'))",
            "refused",
        ),
        (
            "HTTPConnectionPool(host='h', port=1): Max retries exceeded with url: /long (Caused by"
            " NewConnectionError(\"HTTPConnection(host='h', port=1): Failed to establish a new"
            ' connection: [Errno 111] Connection refused"))',
            "Connection refused",
        ),
        (
            "HTTPConnectionPool(host='h', port=1): Max retries exceeded with url: /long (Caused by"
            " NameResolutionError(\"HTTPConnection(host='h', port=1): Failed to resolve 'h'"
            ' ([Errno -2] Name or service not known)"))',
            "Failed to resolve 'h' ([Errno -2] Name or service not known)",
        ),
        (
            "(Caused by ProtocolError('x', OSError(5)))",
            "(Caused by ProtocolError('x', OSError(5)))",
        ),
    ],
)
def test_excerpt_of_an_answer_is_one_short_line(answer: str, line: str) -> None:
    assert excerpt(answer) == line


def test_excerpt_of_a_long_answer_ends_with_an_ellipsis() -> None:
    line = excerpt("x" * 10_000)
    assert len(line) == MAX_ANSWER_CHARACTERS
    assert line.endswith("x…")
