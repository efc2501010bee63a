"""The MLflow client: loaded late, impatient with a dead server, errors in our own tree."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from boothline.addresses import check_service_url
from boothline.errors import TrackingError

if TYPE_CHECKING:
    from mlflow import MlflowClient

# MLflow's own defaults wait minutes for a dead server, in every call. Whatever is set already
# stays.
IMPATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
RESTORE = "Check that MLflow runs (`boothline doctor`), then `boothline resume` the run."


class RejectedError(TrackingError):
    """MLflow understood the request and refused it: sending it again is no use."""


class MissingError(TrackingError):
    """MLflow does not know the run, model or version."""


def connect(uri: str) -> "MlflowClient":
    """Return a client of a tracking server; the first call loads MLflow, which takes about 2 s.

    Raises:
        ConfigError: the URI is no http(s) URL of a service.
    """
    check_service_url(uri, name="BOOTHLINE_MLFLOW_URI")
    for name, value in IMPATIENCE.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextmanager
def translated(action: str) -> Iterator[None]:
    """Turn what MLflow raises inside into our own errors.

    Args:
        action: what was tried, as it follows "MLflow did not", e.g. `create the run of train`.

    Raises:
        MissingError: MLflow answers that the object does not exist.
        RejectedError: MLflow answers that the request is wrong.
        TrackingError: MLflow is unreachable or failed.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        message = f"MLflow did not {action}: {error.message}"
        status = error.get_http_status_code()
        if status == 404:
            raise MissingError(message, remedy=RESTORE) from error
        if status in {400, 409, 413, 422}:
            raise RejectedError(message) from error
        raise TrackingError(message, remedy=RESTORE) from error
    except OSError as error:  # requests' errors are OSErrors
        raise TrackingError(f"MLflow did not {action}: {error}", remedy=RESTORE) from error
