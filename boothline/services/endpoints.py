"""Where the local services are reached: ports, URLs, the credentials of their object store."""

import json
import os
import secrets
import socket
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from boothline.errors import ConfigError, ServiceError
from boothline.settings import Settings

_STRIDE = 20
_NUM_BLOCKS = 50


def choose(names: Sequence[str], *, first: int, skip_blocks: int = 0) -> dict[str, int]:
    """Return a free port for each name: `first` and those after it, or a block further on.

    Args:
        names: what the ports are for.
        first: number of the first preferred port.
        skip_blocks: how many blocks to leave out (they turned out to be taken after all).

    Raises:
        ServiceError: no block is free.
    """
    for block in range(skip_blocks, _NUM_BLOCKS):
        start = first + block * _STRIDE
        ports = dict(zip(names, range(start, start + len(names)), strict=True))
        if all(is_free(port) for port in ports.values()):
            return ports
    raise ServiceError(
        f"No free ports on 127.0.0.1 from {first} to {first + _NUM_BLOCKS * _STRIDE}.",
        remedy="Stop what listens there; `ss -ltnp` shows it.",
    )


def listen(port: int) -> socket.socket:
    """Return a socket that listens on a TCP port of loopback.

    Raises:
        OSError: the port is taken.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


def is_free(port: int) -> bool:
    """Return whether nothing listens on a TCP port of loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # A closed server's lingering connections do not stop a new one from listening.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


_ALPHABET = string.ascii_letters + string.digits


class Credentials(BaseModel):
    """Keys of the local object store, generated once and readable by their owner alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    access_key: str = Field(default_factory=lambda: f"boothline-{_random(12)}", min_length=3)
    secret_key: SecretStr = Field(default_factory=lambda: SecretStr(_random(40)), min_length=8)
    signing_key: SecretStr = Field(default_factory=lambda: SecretStr(_random(40)), min_length=8)

    @classmethod
    def load_or_create(cls, path: Path) -> Self:
        """Return the credentials of a file (mode 600), generated when there is none.

        Raises:
            ConfigError: the file holds something else.
        """
        if not path.exists():
            created = cls()
            write_private(path, json.dumps(_revealed(created), indent=2) + "\n")
            return created
        path.chmod(0o600)
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise ConfigError(
                f"{path} does not hold the credentials of the local object store.",
                remedy="Restore it; without it the data under the same folder cannot be reached.",
            ) from error


class Endpoints(BaseModel):
    """How to reach the local services.

    Attributes:
        home: the folder they belong to, absolute.
        s3_endpoint: URL of the object store; empty if it was not asked for.
        s3_access_key: access key id.
        s3_secret_key: secret key.
        mlflow_uri: URL of the tracking server; empty if it was not asked for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: Path
    s3_endpoint: str = ""
    s3_access_key: str = ""
    s3_secret_key: SecretStr = SecretStr("")
    mlflow_uri: str = ""

    def environment(self) -> dict[str, str]:
        """Return the environment variables that point a process at these services."""
        return {
            "BOOTHLINE_HOME": str(self.home),
            "BOOTHLINE_S3_ENDPOINT": self.s3_endpoint,
            "BOOTHLINE_S3_ACCESS_KEY": self.s3_access_key,
            "BOOTHLINE_S3_SECRET_KEY": self.s3_secret_key.get_secret_value(),
            "BOOTHLINE_MLFLOW_URI": self.mlflow_uri,
        }

    def settings(self, **overrides: object) -> Settings:
        """Return the settings of a process that uses these services."""
        return Settings.model_validate(self.model_dump() | overrides)


def write_private(path: Path, text: str) -> None:
    """Write a text file that only its owner can read, atomically."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _revealed(credentials: Credentials) -> dict[str, str]:
    return {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value
        for name, value in credentials
    }
