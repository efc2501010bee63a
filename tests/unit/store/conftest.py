"""A store over a dictionary: what the store does, without a server."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
from minio.error import S3Error
from urllib3.response import HTTPResponse

from boothline.store import Store
from boothline.store.connection import RetryPolicy
from boothline.store.s3 import Bucket


def refusal(code: str, status: int) -> S3Error:
    """Return what minio's client raises when the store answers so."""
    return S3Error(
        response=HTTPResponse(status=status),
        code=code,
        message=code,
        resource="/",
        request_id=None,
        host_id=None,
    )


@dataclass
class MemoryClient:
    """What a bucket uses of minio's client, in memory.

    Attributes:
        objects: bytes and metadata by name.
        puts: names in the order of writing; a refused write counts.
        looked_up: names in the order of looking.
        is_conditional: If-None-Match is honoured.
        before_put, after_put, after_look_up: called with a name.
    """

    objects: dict[str, tuple[bytes, dict[str, str]]] = field(default_factory=dict)
    puts: list[str] = field(default_factory=list)
    looked_up: list[str] = field(default_factory=list)
    is_conditional: bool = True
    before_put: Callable[[str], object] = lambda name: None
    after_put: Callable[[str], object] = lambda name: None
    after_look_up: Callable[[str], object] = lambda name: None

    def _put_object(self, bucket: str, name: str, data: bytes, headers: Mapping[str, str]) -> None:
        self.puts.append(name)
        self.before_put(name)
        if "If-None-Match" in headers and self.is_conditional and name in self.objects:
            raise refusal("PreconditionFailed", 412)
        self.objects[name] = (bytes(data), dict(headers))
        self.after_put(name)

    def _found(self, name: str) -> tuple[bytes, dict[str, str]]:
        if name not in self.objects:
            raise refusal("NoSuchKey", 404)
        return self.objects[name]

    def get_object(self, bucket: str, name: str, offset: int = 0) -> HTTPResponse:
        data, _ = self._found(name)
        return HTTPResponse(io.BytesIO(data[offset:]), status=200, preload_content=False)

    def stat_object(self, bucket: str, name: str) -> SimpleNamespace:
        self.looked_up.append(name)
        data, metadata = self._found(name)
        self.after_look_up(name)
        return SimpleNamespace(size=len(data), metadata=metadata)

    def list_objects(self, bucket: str, prefix: str, recursive: bool) -> list[SimpleNamespace]:
        return [
            SimpleNamespace(object_name=name, size=len(data), last_modified=None, etag="")
            for name, (data, _) in self.objects.items()
            if name.startswith(prefix)
        ]

    def remove_object(self, bucket: str, name: str) -> None:
        self.objects.pop(name, None)


@pytest.fixture
def client() -> MemoryClient:
    return MemoryClient()


@pytest.fixture
def connect(client: MemoryClient, tmp_path: Path) -> Callable[[], Store]:
    """Return a function that makes a store on the client, as a new process would."""

    def make() -> Store:
        bucket = Bucket(
            client=client,  # type: ignore[arg-type]
            name="bucket",
            prefix="team/",
            endpoint="http://store",
            access_key="key",
            policy=RetryPolicy(max_wait_seconds=0.01),
        )
        return Store(bucket, cache=tmp_path / "cache")

    return make


@pytest.fixture
def memory_store(connect: Callable[[], Store]) -> Store:
    return connect()
