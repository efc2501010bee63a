"""How MLflow is reached: impatient with a dead server, errors in our own tree."""

import json
import math
import mimetypes
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import urllib3

from boothline import settings
from boothline.addresses import check_service_url
from boothline.connecting import Service, excerpt, http_errors, tls_error
from boothline.errors import TrackingError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

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
_API = "/api/2.0/mlflow"
_ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
_PROXIED = "mlflow-artifacts"
# What MLflow takes in one request.
_MAX_PARAMS_OR_TAGS = 100
_MAX_ENTITIES = 1000
_NUM_UPLOADS = 4
_NUM_CONNECTIONS = 16
"""At most: several runs may be sent to at once."""
_PASSING = (408, 429, 500, 502, 503, 504)
_UNEXPLAINED = 500
_NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
RESTORE = "Check that MLflow runs (`boothline doctor`), then `boothline resume` the run."


Answer = dict[str, Any]
"""What MLflow's REST API documents as the answer of an endpoint."""
Item = Mapping[str, object]
"""A parameter, a tag or a point of a metric, as MLflow's REST API documents it."""


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


class _AnswerError(Exception):
    """MLflow answered with an error, whose status is that of the answer if MLflow explains it."""

    def __init__(self, message: str, *, status: int = _UNEXPLAINED) -> None:
        super().__init__(message)
        self.status = status


class Client:
    """Sends requests to a tracking server, as its REST API 2.0 documents them.

    A server of this machine that asks for no credentials gets plain requests: to load MLflow takes
    longer than all else that a reused run does. For any other MLflow's library sends them, which
    knows about credentials, proxies and certificates. Every method raises the errors that
    `translated` names; `to` is what a request is for.

    Args:
        uri: of the server.

    Raises:
        ConfigError: the URI is not an http(s) URL of a service.
    """

    def __init__(self, uri: str) -> None:
        parts = check_service_url(uri, name="BOOTHLINE_MLFLOW_URI")
        self._uri = uri.rstrip("/")
        is_plain = parts.scheme == "http" and parts.hostname in _LOOPBACK and not _has_credentials()
        self._pool = _pool() if is_plain else None
        self._artifact_uris: dict[str, str] = {}

    def library(self) -> "MlflowClient":
        """Return MLflow's own client of the server, for what takes more than requests."""
        return connect(self._uri)

    def get(self, endpoint: str, *, to: str, **fields: str) -> Answer:
        """Return what the server answers when it is asked for something."""
        with translated(to):
            return self._ask("GET", endpoint, fields=fields)

    def post(self, endpoint: str, *, to: str, method: str = "POST", **body: object) -> Answer:
        """Return what the server answers when it is sent something; None is left out."""
        sent = {name: value for name, value in body.items() if value is not None}
        with translated(to):
            return self._ask(method, endpoint, body=sent)

    def run(self, run_id: str) -> Answer:
        """Return a run as MLflow has it: its `info`, and the `data` that were logged to it."""
        run: Answer = self.get("runs/get", to=f"show run {run_id}", run_id=run_id)["run"]
        return {"data": {}, **run}

    def create_run(self, name: str, **about: object) -> Answer:
        """Make a run and return its `info`."""
        body = {"run_name": name, **about}
        with translated(f"create the run {name}"):
            made: Answer = self._ask("POST", "runs/create", body=body)["run"]["info"]
        self._artifact_uris[made["run_id"]] = made["artifact_uri"]
        return made

    def log_batch(
        self,
        run_id: str,
        *,
        params: Sequence[Item] = (),
        tags: Sequence[Item] = (),
        metrics: Sequence[Item] = (),
    ) -> None:
        """Log parameters, tags and metrics to a run, in as few requests as MLflow allows."""
        batches = {"params": params, "tags": tags, "metrics": metrics}
        while any(batches.values()):
            parts = {name: batches[name][:_MAX_PARAMS_OR_TAGS] for name in ("params", "tags")}
            room = _MAX_ENTITIES - sum(map(len, parts.values()))
            parts["metrics"] = batches["metrics"][:room]
            with translated(f"log to run {run_id}"):
                self._ask("POST", "runs/log-batch", body={"run_id": run_id, **parts})
            batches = {name: rest[len(parts[name]) :] for name, rest in batches.items()}

    def files_in(self, run_id: str, folder: str) -> dict[str, int]:
        """Return the lengths in bytes of the files in a folder of a run's artifacts, by path."""
        to = f"list the files of run {run_id}"
        if self._pool is None:  # the server itself may not reach them
            with translated(to):
                found = self.library().list_artifacts(run_id, folder or None)
            return {file.path: int(file.file_size or 0) for file in found if not file.is_dir}
        where = {"path": folder} if folder else {}
        files = self.get("artifacts/list", to=to, run_id=run_id, **where).get("files", ())
        return {file["path"]: int(file.get("file_size", 0)) for file in files}

    def log_files(self, run_id: str, files: Mapping[str, bytes]) -> None:
        """Upload files to the artifacts of a run by their paths there, some at once."""
        place = self._place_of_artifacts(run_id) if self._pool else None
        with translated(f"take the files of run {run_id}"):
            if self._pool is not None and place is not None:
                urls = [f"{self._uri}{_ARTIFACTS}/{quote(f'{place}/{name}')}" for name in files]
                _upload_all(self._pool, urls, files.values())
                return
            with tempfile.TemporaryDirectory(prefix="boothline-artifact-") as folder:
                for name, content in files.items():
                    path = Path(folder, name)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
                self.library().log_artifacts(run_id, folder)

    def _place_of_artifacts(self, run_id: str) -> str | None:
        """Return the path below the server's artifacts of a run's own; None: others keep them."""
        if run_id not in self._artifact_uris:
            self._artifact_uris[run_id] = self.run(run_id)["info"]["artifact_uri"]
        uri = urlsplit(self._artifact_uris[run_id])
        return uri.path.strip("/") if uri.scheme == _PROXIED and not uri.netloc else None

    def _ask(
        self,
        method: str,
        endpoint: str,
        *,
        fields: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
    ) -> Answer:
        path = f"{_API}/{endpoint}"
        if self._pool is None:
            found = self._by_library(path, method, params=fields, json=body)
            return _checked(found.status_code, found.content)
        answer = self._pool.request(method, self._uri + path, fields=fields, json=body)
        return _checked(answer.status, answer.data)

    @cached_property
    def _by_library(self) -> Callable[..., Any]:
        """Sends a request with all that MLflow's variables and files say."""
        self.library()  # which sets how long it is waited for
        from mlflow.utils.credentials import get_default_host_creds
        from mlflow.utils.rest_utils import http_request

        return partial(http_request, get_default_host_creds(self._uri), raise_on_status=False)


def listed(values: Mapping[str, str]) -> list[Item]:
    """Return parameters or tags as they are sent."""
    return [{"key": key, "value": value} for key, value in values.items()]


def by_key(items: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return what an answer lists: parameters or tags."""
    return {item["key"]: item.get("value", "") for item in items}


def point(
    key: str, value: float, time_ms: int, step: int = 0, *, about: Mapping[str, str] = {}
) -> Item:
    """Return a point of a metric as it is sent.

    Args:
        key: name of the metric.
        value: the number.
        time_ms: when, in milliseconds since the epoch.
        step: the training step.
        about: the model, dataset and run that a score belongs to, as MLflow names these fields.
    """
    sent = value if math.isfinite(value) else _NOT_FINITE[str(value)]
    return {"key": key, "value": sent, "timestamp": time_ms, "step": step, **about}


def _pool() -> urllib3.PoolManager:
    """Return connections that wait as long as MLflow's library would."""
    timeout, retries, backoff = (
        os.environ.get(f"MLFLOW_HTTP_REQUEST_{name}", IMPATIENCE[f"MLFLOW_HTTP_REQUEST_{name}"])
        for name in ("TIMEOUT", "MAX_RETRIES", "BACKOFF_FACTOR")
    )
    return urllib3.PoolManager(
        maxsize=_NUM_CONNECTIONS,
        timeout=urllib3.Timeout(float(timeout)),
        retries=urllib3.Retry(
            int(retries),
            allowed_methods=None,
            status_forcelist=_PASSING,
            backoff_factor=float(backoff),
            raise_on_status=False,
        ),
    )


def _upload_all(pool: urllib3.PoolManager, urls: list[str], contents: Iterable[bytes]) -> None:
    """Upload files, some at once."""
    threads = ThreadPoolExecutor(_NUM_UPLOADS)
    try:
        any(threads.map(partial(_upload, pool), urls, contents))
    finally:  # where one fails the others need not find out, too
        threads.shutdown(cancel_futures=True)


def _upload(pool: urllib3.PoolManager, url: str, content: bytes) -> None:
    kind = mimetypes.guess_type(url)[0] or "application/octet-stream"
    answer = pool.request("PUT", url, body=content, headers={"Content-Type": kind})
    _checked(answer.status, answer.data)


def _checked(status: int, content: bytes) -> Answer:
    """Return the JSON of an answer.

    Raises:
        _AnswerError: it is an error, or no JSON object.
    """
    try:
        value = json.loads(content or b"{}")  # an upload is answered with nothing
    except ValueError:
        value = None
    if status == 200 and isinstance(value, dict):
        return value
    if not isinstance(value, dict) or "error_code" not in value:
        raise _AnswerError(f"it answered {status}: {content.decode('utf-8', 'replace')}")
    raise _AnswerError(f"{value['error_code']}: {value.get('message', '')}", status=status)


def _has_credentials() -> bool:
    """Return whether MLflow's client would find credentials, in the environment or a file."""
    is_told = any(name.startswith(_CREDENTIALS) for name in os.environ.keys() - {_ADDRESS})
    return is_told or Path("~/.mlflow/credentials").expanduser().exists()


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
    except (*_answered(), *http_errors(OSError)) as error:  # requests' errors are OSErrors
        raise _translated(error, action) from error


def _answered() -> "tuple[type[_AnswerError | MlflowException], ...]":
    """Return what the clients that are loaded raise where the server answers with an error."""
    library = sys.modules.get("mlflow.exceptions")
    return (_AnswerError,) if library is None else (_AnswerError, library.MlflowException)


def _translated(error: Exception, action: str) -> TrackingError:
    """Return our error for one of MLflow's or of the libraries below it."""
    address = re.search(r"https?://[^/\s'\"]+", str(error))
    uri = address.group() if address else settings.current().mlflow_uri
    if lasting := tls_error(error, service(uri), what=action, kind=TrackingError):
        return lasting
    message = f"MLflow did not {action}: {excerpt(str(getattr(error, 'message', error)))}"
    status = _status_of(error)
    if status == 404:
        return MissingError(message, remedy=RESTORE)
    if status in {400, 409, 413, 422}:
        return RejectedError(message)
    return TrackingError(message, remedy=RESTORE)


def _status_of(error: Exception) -> int:
    """Return the HTTP status by which MLflow explains an error; 0 where it explains none."""
    if isinstance(error, _AnswerError):
        return error.status
    explained = getattr(error, "get_http_status_code", None)
    return int(explained()) if explained and hasattr(error, "error_code") else 0
