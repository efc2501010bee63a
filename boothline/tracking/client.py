"""The MLflow client: loaded late, impatient with a dead server, errors in our own tree."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeAlias

from boothline import settings
from boothline.addresses import check_service_url
from boothline.connecting import Service, excerpt, http_errors, tls_error
from boothline.errors import TrackingError
from boothline.tracking import entities as our_entities
from boothline.tracking.rest import RestClient, RestError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    Client: TypeAlias = MlflowClient | RestClient

# MLflow's own defaults wait minutes for a dead server, in every call. Whatever is set already
# stays.
IMPATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
# MLflow's own names for the CA bundle of its server, the first that is set counts.
TRUST_VARIABLES = ("MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
# What makes MLflow's client send more than the request: credentials, a token, a workspace.
_CREDENTIALS = ("MLFLOW_TRACKING_", "MLFLOW_WORKSPACE")
_ADDRESS = "MLFLOW_TRACKING_URI"
RESTORE = "Check that MLflow runs (`boothline doctor`), then `boothline resume` the run."


class RejectedError(TrackingError):
    """MLflow understood the request and refused it: sending it again does not help."""


class MissingError(TrackingError):
    """MLflow does not know the run, model or version."""


def connect(uri: str) -> "MlflowClient":
    """Return a client of a tracking server; the first call loads MLflow, which takes about 2 s.

    Raises:
        ConfigError: the URI is not an http(s) URL of a service.
    """
    check_service_url(uri, name="BOOTHLINE_MLFLOW_URI")
    for name, value in IMPATIENCE.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def reach(uri: str) -> "Client":
    """Return a client for runs and versions, without loading MLflow where that is not needed.

    A server of this machine that asks for no credentials gets plain requests. For any other it is
    MLflow's own client, which knows about credentials, proxies and certificates.

    Raises:
        ConfigError: the URI is not an http(s) URL of a service.
    """
    parts = check_service_url(uri, name="BOOTHLINE_MLFLOW_URI")
    is_plain = parts.scheme == "http" and parts.hostname in _LOOPBACK and not _has_credentials()
    if not is_plain:
        return connect(uri)
    timeout, retries, backoff = (
        os.environ.get(f"MLFLOW_HTTP_REQUEST_{name}", IMPATIENCE[f"MLFLOW_HTTP_REQUEST_{name}"])
        for name in ("TIMEOUT", "MAX_RETRIES", "BACKOFF_FACTOR")
    )
    return RestClient(
        uri,
        library=partial(connect, uri),
        timeout_seconds=float(timeout),
        max_retries=int(retries),
        backoff_factor=float(backoff),
    )


def library_of(client: "Client") -> "MlflowClient":
    """Return MLflow's own client of a client's server."""
    return client.library() if isinstance(client, RestClient) else client


def _has_credentials() -> bool:
    """Return whether MLflow's client would find credentials, in the environment or a file."""
    is_told = any(name.startswith(_CREDENTIALS) for name in os.environ.keys() - {_ADDRESS})
    return is_told or Path("~/.mlflow/credentials").expanduser().exists()


def entities_of(client: "Client") -> ModuleType:
    """Return the module with the entities that a client takes: `Metric`, `Param` and others."""
    if isinstance(client, RestClient):
        return our_entities
    from mlflow import entities

    return entities  # type: ignore[no-any-return]


def ca_bundle() -> str:
    """Return the CA bundle that MLflow's client trusts; empty: the one of certifi."""
    return next(filter(None, map(os.environ.get, TRUST_VARIABLES)), "")


def service(uri: str) -> Service:
    """Return the tracking server as messages name it."""
    return Service(
        name="the MLflow server",
        url=uri,
        url_setting="BOOTHLINE_MLFLOW_URI",
        trust_setting=TRUST_VARIABLES[0],
    )


@contextmanager
def translated(action: str) -> Iterator[None]:
    """Turn what MLflow raises inside into our own errors.

    Args:
        action: what was tried, as it follows "MLflow did not", e.g. `create the run of train`.

    Raises:
        TrackingError: MLflow is unreachable, cannot be trusted, or failed.
        MissingError: MLflow answers that the object does not exist.
        RejectedError: MLflow answers that the request is wrong.
    """
    try:
        yield
    except _answered() as error:
        raise _translated(error, action) from error
    except http_errors(OSError) as error:  # requests' errors are OSErrors
        raise _unreachable(error, action) from error


def _answered() -> "tuple[type[RestError | MlflowException], ...]":
    """Return what the clients that are loaded raise where the server answers with an error."""
    library = sys.modules.get("mlflow.exceptions")
    return (RestError,) if library is None else (RestError, library.MlflowException)


def _translated(error: "RestError | MlflowException", action: str) -> TrackingError:
    """Return our error for one that MLflow raised."""
    if lasting := _tls(error, action):
        return lasting
    message = f"MLflow did not {action}: {excerpt(str(getattr(error, 'message', error)))}"
    status = error.get_http_status_code() if hasattr(error, "error_code") else 0
    if status == 404:
        return MissingError(message, remedy=RESTORE)
    if status in {400, 409, 413, 422}:
        return RejectedError(message)
    return TrackingError(message, remedy=RESTORE)


def _unreachable(error: Exception, action: str) -> TrackingError:
    """Return our error for one of the libraries below MLflow."""
    return _tls(error, action) or TrackingError(
        f"MLflow did not {action}: {excerpt(str(error))}", remedy=RESTORE
    )


def _tls(error: Exception, action: str) -> TrackingError | None:
    """Return our error if TLS fails for good; the message or the environment names it."""
    address = re.search(r"https?://[^/\s'\"]+", str(error))
    uri = address.group() if address else settings.current().mlflow_uri
    return tls_error(error, service(uri), what=action, kind=TrackingError)
