"""What this process has asked of object stores: counted here, shown by whoever wants to."""

from dataclasses import dataclass, field
from threading import Lock


@dataclass
class Traffic:
    """Counts since the process began; safe to add to from several threads.

    Attributes:
        requests: HTTP requests, repeated ones too.
        retries: operations begun again after a failure that may pass.
        failures: operations that were given up.
        sent_bytes: bytes in the bodies of requests.
        received_bytes: bytes read of objects.
    """

    requests: int = 0
    retries: int = 0
    failures: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def add(self, name: str, amount: int = 1) -> None:
        """Raise a count by an amount."""
        with self._lock:
            setattr(self, name, getattr(self, name) + amount)

    def counts(self) -> dict[str, int]:
        """Return the counts by name."""
        return {name: getattr(self, name) for name in COUNTED}


COUNTED = {
    "requests": "HTTP requests to the object store, repeated ones too.",
    "retries": "Store operations begun again after a failure that may pass.",
    "failures": "Store operations that were given up.",
    "sent_bytes": "Bytes in the bodies of requests to the object store.",
    "received_bytes": "Bytes read of objects.",
}
"""What each count means."""

TRAFFIC = Traffic()
"""Of this process, with all its stores."""
