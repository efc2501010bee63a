"""The requests to MLflow that a run needs, sent without loading MLflow.

Loading MLflow's client takes longer than all else that a reused run does. Methods and entities have
the names of MLflow's own, which is used for everything else.
"""

import json
import math
import mimetypes
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import urllib3

from boothline.tracking.entities import (
    DatasetInput,
    Experiment,
    FileInfo,
    Metric,
    ModelVersion,
    Param,
    RegisteredModel,
    Run,
    RunTag,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

_API = "/api/2.0/mlflow"
_ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
_PROXIED = "mlflow-artifacts"
# What MLflow takes in one request.
_MAX_PARAMS_OR_TAGS = 100
_MAX_ENTITIES = 1000
_MAX_RUNS = 1000
_NUM_UPLOADS = 4
_NUM_CONNECTIONS = 16
"""At most: several runs may be sent to at once."""
_PASSING = (408, 429, 500, 502, 503, 504)
_UNEXPLAINED = 500


class RestError(Exception):
    """MLflow answered with an error.

    Attributes:
        message: what it said.
        error_code: its name for it; empty for an answer that is not MLflow's.
    """

    def __init__(self, message: str, *, status: int, error_code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.error_code = error_code
        self._status = status

    def get_http_status_code(self) -> int:
        """Return the status; an answer that is not MLflow's counts as a failure of the server."""
        return self._status if self.error_code else _UNEXPLAINED


class RestClient:
    """Sends requests to a tracking server that asks for no credentials.

    Attributes:
        library: returns MLflow's own client of the server, for what is not here.

    Args:
        uri: of the server.
        library: returns MLflow's own client of the server, for what is not here.
        timeout_seconds: patience for each attempt.
        max_retries: how often a request is sent again.
        backoff_factor: seconds before the second retry; doubled each time.
    """

    def __init__(
        self,
        uri: str,
        *,
        library: "Callable[[], MlflowClient]",
        timeout_seconds: float,
        max_retries: int,
        backoff_factor: float,
    ) -> None:
        self.library = library
        self._uri = uri.rstrip("/")
        self._pool = urllib3.PoolManager(
            maxsize=_NUM_CONNECTIONS,
            timeout=urllib3.Timeout(timeout_seconds),
            retries=urllib3.Retry(
                max_retries,
                allowed_methods=None,
                status_forcelist=_PASSING,
                backoff_factor=backoff_factor,
                raise_on_status=False,
            ),
        )

    def get_experiment_by_name(self, name: str) -> Experiment | None:
        """Return an experiment; None when there is none of that name."""
        try:
            found = self._get("experiments/get-by-name", experiment_name=name)["experiment"]
        except RestError as error:
            if error.get_http_status_code() == 404:
                return None
            raise
        return Experiment(
            experiment_id=found["experiment_id"], lifecycle_stage=found["lifecycle_stage"]
        )

    def create_experiment(self, name: str, *, tags: Mapping[str, str]) -> str:
        """Make an experiment and return its id."""
        made = self._post("experiments/create", name=name, tags=_listed(tags))
        return str(made["experiment_id"])

    def restore_experiment(self, experiment_id: str) -> None:
        """Undo the deletion of an experiment."""
        self._post("experiments/restore", experiment_id=experiment_id)

    def create_run(
        self, experiment_id: str, *, start_time: int | None, tags: Mapping[str, str], run_name: str
    ) -> Run:
        """Make a run; without a start time in milliseconds it starts now."""
        # The server takes a run that does not say when it started for one of 1970.
        started = int(time.time() * 1000) if start_time is None else start_time
        user = tags.get("mlflow.user", "unknown")
        made = self._post(
            "runs/create",
            experiment_id=experiment_id,
            user_id=user,
            run_name=run_name,
            tags=_listed(tags),
            start_time=started,
        )
        return Run.of(made["run"])

    def get_run(self, run_id: str) -> Run:
        """Return a run."""
        return Run.of(self._get("runs/get", run_id=run_id)["run"])

    def search_runs(self, experiment_ids: Sequence[str], filter_string: str) -> list[Run]:
        """Return the runs of experiments that a filter lets through."""
        asked = {"experiment_ids": list(experiment_ids), "filter": filter_string}
        answer = self._post("runs/search", max_results=_MAX_RUNS, **asked)
        return [Run.of(run) for run in answer.get("runs", ())]

    def update_run(self, run_id: str, *, status: str) -> None:
        """Set the status of a run."""
        self._post("runs/update", run_id=run_id, status=status)

    def set_terminated(self, run_id: str, *, status: str, end_time: int) -> None:
        """End a run, at a time in milliseconds since the epoch."""
        self._post("runs/update", run_id=run_id, status=status, end_time=end_time)

    def delete_run(self, run_id: str) -> None:
        """Delete a run."""
        self._post("runs/delete", run_id=run_id)

    def log_batch(
        self,
        run_id: str,
        *,
        metrics: Sequence[Metric] = (),
        params: Sequence[Param] = (),
        tags: Sequence[RunTag] = (),
    ) -> None:
        """Log numbers, parameters and tags, in as few requests as MLflow allows."""
        batches = {
            "params": [asdict(param) for param in params],
            "tags": [asdict(tag) for tag in tags],
            "metrics": [_point(one) for one in metrics],
        }
        while any(batches.values()):
            parts = {name: batches[name][:_MAX_PARAMS_OR_TAGS] for name in ("params", "tags")}
            room = _MAX_ENTITIES - sum(map(len, parts.values()))
            parts["metrics"] = batches["metrics"][:room]
            self._post("runs/log-batch", run_id=run_id, **parts)
            batches = {name: rest[len(parts[name]) :] for name, rest in batches.items()}

    def log_inputs(self, run_id: str, datasets: Iterable[DatasetInput]) -> None:
        """Name the datasets that a run read."""
        listed = [asdict(dataset) for dataset in datasets]
        self._post("runs/log-inputs", run_id=run_id, datasets=listed)

    def get_metric_history(self, run_id: str, key: str) -> list[Metric]:
        """Return all points of a metric."""
        points = self._get("metrics/get-history", run_id=run_id, metric_key=key).get("metrics", ())
        return [
            Metric(key, float(point["value"]), int(point["timestamp"]), int(point.get("step", 0)))
            for point in points
        ]

    def list_artifacts(self, run_id: str, path: str | None = None) -> list[FileInfo]:
        """Return the files and folders of a folder of a run's artifacts."""
        where = {} if path is None else {"path": path}
        found = self._get("artifacts/list", run_id=run_id, **where).get("files", ())
        return [
            FileInfo(
                path=file["path"],
                is_dir=file.get("is_dir", False),
                file_size=int(file["file_size"]) if "file_size" in file else None,
            )
            for file in sorted(found, key=lambda file: str(file["path"]))
        ]

    def log_artifacts(self, run_id: str, local_dir: str) -> None:
        """Upload the files of a folder, some at once."""
        place = self._place(run_id)
        if place is None:
            self.library().log_artifacts(run_id, local_dir)
            return
        folder = Path(local_dir)
        files = {
            str(path.relative_to(folder)): path
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        pool = ThreadPoolExecutor(_NUM_UPLOADS)
        try:
            sent = [pool.submit(self._put, f"{place}/{to}", path) for to, path in files.items()]
            for upload in sent:
                upload.result()
        finally:  # where one fails the others need not find out, too
            pool.shutdown(cancel_futures=True)

    def log_artifact(self, run_id: str, local_path: str, artifact_path: str) -> None:
        """Upload a file into a folder of a run's artifacts."""
        path, place = Path(local_path), self._place(run_id)
        if place is None:
            self.library().log_artifact(run_id, local_path, artifact_path)
            return
        self._put(f"{place}/{artifact_path}/{path.name}", path)

    def search_model_versions(self, filter_string: str) -> list[ModelVersion]:
        """Return the versions of models that a filter lets through."""
        answer = self._get("model-versions/search", filter=filter_string)
        return [ModelVersion.of(found) for found in answer.get("model_versions", ())]

    def get_model_version(self, name: str, version: str) -> ModelVersion:
        """Return a version of a model."""
        return ModelVersion.of(
            self._get("model-versions/get", name=name, version=version)["model_version"]
        )

    def set_model_version_tag(self, name: str, version: str, key: str, value: str) -> None:
        """Tag a version of a model."""
        self._post("model-versions/set-tag", name=name, version=version, key=key, value=value)

    def update_model_version(self, name: str, version: str, description: str) -> None:
        """Describe a version of a model."""
        body = {"name": name, "version": version, "description": description}
        self._ask("PATCH", "model-versions/update", body=body)

    def get_registered_model(self, name: str) -> RegisteredModel:
        """Return a registered model."""
        found = self._get("registered-models/get", name=name)["registered_model"]
        aliases = {one["alias"]: str(one["version"]) for one in found.get("aliases", ())}
        return RegisteredModel(name=name, aliases=aliases)

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        """Point an alias to a version of a model."""
        self._post("registered-models/alias", name=name, alias=alias, version=version)

    def delete_registered_model_alias(self, name: str, alias: str) -> None:
        """Take an alias away from a model."""
        self._ask("DELETE", "registered-models/alias", fields={"name": name, "alias": alias})

    def _place(self, run_id: str) -> str | None:
        """Return the path below the server's artifacts where those of a run are.

        None: the server does not keep them itself, and a client needs the library of who does.
        """
        uri = urlsplit(self.get_run(run_id).info.artifact_uri)
        return uri.path.strip("/") if uri.scheme == _PROXIED and not uri.netloc else None

    def _put(self, place: str, path: Path) -> None:
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        url = f"{self._uri}{_ARTIFACTS}/{quote(place)}"
        answer = self._pool.request(
            "PUT", url, body=path.read_bytes(), headers={"Content-Type": kind}
        )
        _checked(answer)

    def _get(self, endpoint: str, **fields: str) -> dict[str, Any]:
        return self._ask("GET", endpoint, fields=fields)

    def _post(self, endpoint: str, **body: object) -> dict[str, Any]:
        return self._ask("POST", endpoint, body=body)

    def _ask(
        self,
        method: str,
        endpoint: str,
        *,
        fields: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
    ) -> dict[str, Any]:
        """Return what the server answers.

        Raises:
            RestError: it answers with an error.
        """
        url = f"{self._uri}{_API}/{endpoint}"
        answer = self._pool.request(method, url, fields=fields and dict(fields), json=body)
        return _checked(answer)


def _checked(answer: urllib3.BaseHTTPResponse) -> dict[str, Any]:
    """Return the JSON of an answer.

    Raises:
        RestError: it is an error, or no JSON object.
    """
    try:
        value = json.loads(answer.data or b"{}")  # an upload is answered with nothing
    except ValueError:
        value = None
    if answer.status == 200 and isinstance(value, dict):
        return value
    if not isinstance(value, dict) or "error_code" not in value:
        text = answer.data.decode("utf-8", "replace")
        raise RestError(f"it answered {answer.status}: {text}", status=answer.status)
    code = str(value["error_code"])
    raise RestError(f"{code}: {value.get('message', '')}", status=answer.status, error_code=code)


def _listed(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in tags.items()]


def _point(metric: Metric) -> dict[str, object]:
    """Return a number as it is sent, without what it does not say."""
    fields = {name: value for name, value in asdict(metric).items() if value is not None}
    return fields | {"value": _number(metric.value)}


def _number(value: float) -> float | str:
    """Return a number as MLflow's JSON has it."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else f"{'-' * (value < 0)}Infinity"
