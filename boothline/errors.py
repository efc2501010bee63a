"""The one tree of errors that Boothline raises on purpose.

    BoothlineError                    exit 1
    ├── ConfigError                   exit 2   a setting, option or reference is wrong
    │   └── ModelNotFoundError        exit 2   a base model or model version does not exist
    ├── DataError                     exit 3   pictures, prompts or stored bytes are unusable
    │   └── IntegrityError            exit 3   stored bytes differ from their digest
    ├── GateRefusedError              exit 4   the gate kept the champion (with --require-promotion)
    ├── ServiceError                  exit 5   a service is unreachable or refuses us
    │   ├── StoreError                exit 5   the object store failed
    │   │   ├── NotFoundError         exit 5   the object does not exist
    │   │   └── ConflictError         exit 5   another writer owns the name
    │   ├── TrackingError             exit 5   MLflow failed where it may not
    │   ├── DiskFullError             exit 5   no space left on a local disk
    │   └── MachineError              exit 5   this machine killed a process, or gave no memory
    ├── TrainingError                 exit 1   training cannot continue
    │   └── NonFiniteLossError        exit 1   the loss became NaN or infinite
    └── InterruptedRunError           exit 130 stopped by a signal; resume continues from here

A message says what happened, names the value, and says what to do.
"""

import errno
from typing import ClassVar

MEMORY_SIGNS = ("out of memory", "can't allocate memory", "bad alloc")
"""What libraries say, in lower case and in errors of no class of their own, without memory."""


class BoothlineError(Exception):
    """An expected failure: shown without a traceback.

    Args:
        message: what happened, with the value.
        remedy: what the reader can do about it; empty when nothing is known.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        """Return the message, followed by the remedy where there is one."""
        return f"{self.message} {self.remedy}".strip()


class ConfigError(BoothlineError):
    """A setting, an option or a reference is wrong."""

    exit_code = 2


class ModelNotFoundError(ConfigError):
    """A base model or a model version does not exist."""


class DataError(BoothlineError):
    """Pictures, prompts or stored bytes cannot be used."""

    exit_code = 3


class IntegrityError(DataError):
    """Stored bytes differ from the digest that names them."""


class GateRefusedError(BoothlineError):
    """The gate kept the champion and promotion was required."""

    exit_code = 4


class ServiceError(BoothlineError):
    """A service is unreachable or refuses the request."""

    exit_code = 5


class StoreError(ServiceError):
    """The object store failed."""


class NotFoundError(StoreError):
    """The object does not exist in the store."""


class ConflictError(StoreError):
    """Another writer owns the name."""


class TrackingError(ServiceError):
    """MLflow failed where it may not."""


class DiskFullError(ServiceError):
    """No space is left on a local disk."""


class MachineError(ServiceError):
    """This machine failed: it killed a process, ran out of memory, or could not read a file."""


class TrainingError(BoothlineError):
    """Training cannot continue."""


class NonFiniteLossError(TrainingError):
    """The loss became NaN or infinite."""


class InterruptedRunError(BoothlineError):
    """Stopped by a signal; `boothline resume` continues from here."""

    exit_code = 130


def is_machine_fault(error: BaseException) -> bool:
    """Return whether a library's error is about this machine, not about what it was given."""
    text = str(error).lower()
    signs = (*MEMORY_SIGNS, "internal assert failed", "no space left")
    return isinstance(error, MemoryError) or any(sign in text for sign in signs)


def is_disk_full(error: BaseException) -> bool:
    """Return whether an error of the system says that no space is left on a disk."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
