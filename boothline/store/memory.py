"""A bucket in the memory of this process: a store without a server, for tests and dry sums."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from boothline.errors import NotFoundError
from boothline.store.s3 import CHUNK_BYTES, Bucket
from boothline.store.store import Store

if TYPE_CHECKING:
    from minio import Minio


@dataclass(frozen=True, kw_only=True)
class MemoryBucket(Bucket):
    """Objects in a dictionary, under the rules of a real bucket.

    Names are claimed once, listings are sorted, and a put that nobody may repeat is not repeated.
    Other processes do not see it, and it has no ages and no uploads in parts, so that garbage
    collection and verification need a real one.

    Attributes:
        objects: bytes by name.
        lock: held while a name is claimed.
    """

    client: "Minio" = field(default=None)
    name: str = "memory"
    prefix: str = ""
    endpoint: str = "memory:"
    access_key: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)

    def get(self, key: str) -> bytes | None:
        """Return the bytes of an object, or None when it does not exist."""
        return self.objects.get(key)

    def receive(self, key: str, sink: Callable[[bytes], object], *, size_bytes: int) -> int:
        """Pass the bytes of an object to a sink; see `Bucket.receive`.

        Raises:
            NotFoundError: the object does not exist.
        """
        data = self.objects.get(key)
        if data is None:
            raise NotFoundError(f"{self.uri(key)} does not exist.")
        received = 0
        for first in range(0, len(data), CHUNK_BYTES):
            chunk = data[first : first + CHUNK_BYTES]
            received += len(chunk)
            if received > size_bytes:
                break
            sink(chunk)
        return received

    def put(self, key: str, data: bytes, *, sha256_hex: str = "") -> None:
        """Write an object, replacing any former one."""
        self.objects[key] = bytes(data)

    def put_parts(self, key: str, parts: Iterable[bytes]) -> None:
        """Write an object from its parts, replacing any former one."""
        self.objects[key] = b"".join(parts)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write an object unless its name is taken; say whether it is ours."""
        with self.lock:
            if key in self.objects:
                return False
            self.objects[key] = bytes(data)
            return True

    def size(self, key: str) -> int | None:
        """Return the length of an object in bytes, or None when it does not exist."""
        data = self.objects.get(key)
        return None if data is None else len(data)

    def keys(self, prefix: str) -> list[str]:
        """Return the names of all objects that start with a prefix, sorted."""
        return sorted(key for key in list(self.objects) if key.startswith(prefix))

    def delete(self, key: str) -> None:
        """Delete an object; does nothing when it does not exist."""
        self.objects.pop(key, None)


def memory_store(cache: Path) -> Store:
    """Return a fresh, empty store in memory.

    Args:
        cache: local folder of its verified blobs.
    """
    return Store(MemoryBucket(), cache=cache)
