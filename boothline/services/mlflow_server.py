"""The local tracking server: MLflow on sqlite, one worker."""

import sys
from pathlib import Path

from boothline.services.endpoints import Credentials
from boothline.services.processes import http_answer
from boothline.services.service import LocalService, Ports

_STORE = "sqlite:///mlflow.db"


class MLflowServer(LocalService):
    """MLflow's web application under uvicorn.

    `mlflow server` would import MLflow in a first process, only to set these variables and to start
    exactly this command in a second one, which takes twice as long; the names of the variables
    belong to the pinned version of MLflow.
    """

    name = "mlflow"
    port_names = ("http",)
    first_port = 8350
    startup_seconds = 180.0
    shutdown_seconds = 5.0
    inherits_listener = True

    def prepare(self, folder: Path, credentials: Credentials) -> None:
        """Make the folder of artifacts."""
        (folder / "artifacts").mkdir(exist_ok=True)

    def command(self, ports: Ports) -> list[str]:
        """Return the command line of the server."""
        options = ["--fd", "0", "--workers", "1", "--log-level", "warning"]
        return [sys.executable, "-m", "uvicorn", *options, "mlflow.server.fastapi_app:app"]

    def environment(self, ports: Ports) -> dict[str, str]:
        """Return the server's options; paths are relative to its folder."""
        hosts = [f"127.0.0.1:{ports['http']}", f"localhost:{ports['http']}"]
        return {
            "_MLFLOW_SERVER_FILE_STORE": _STORE,
            "_MLFLOW_SERVER_REGISTRY_STORE": _STORE,
            "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
            "_MLFLOW_SERVER_ARTIFACT_DESTINATION": "./artifacts",
            "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
            "_MLFLOW_SGI_NAME": "uvicorn",
            "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(hosts),
            "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(f"http://{host}" for host in hosts),
            "MLFLOW_SERVER_X_FRAME_OPTIONS": "DENY",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "PYTHONWARNINGS": "ignore",
        }

    def is_ready(self, ports: Ports) -> bool:
        """Tell whether the database answers through the server; the first question creates it."""
        path = "/api/2.0/mlflow/experiments/search"
        return (
            http_answer(ports["http"], path, body='{"max_results": 1}', timeout_seconds=60)
            is not None
        )

    def is_healthy(self, ports: Ports) -> bool:
        """Tell whether the server answers."""
        return http_answer(ports["http"], "/health") is not None

    def clean_up(self, ports: Ports) -> None:
        """Do nothing: the server leaves nothing outside its folder."""
