"""What an examination finds, and how findings are made."""

from collections.abc import Callable
from typing import Literal

from pydantic import BaseModel, ConfigDict

from boothline.errors import BoothlineError

FindingStatus = Literal["ok", "warning", "failed"]


class Finding(BaseModel):
    """What one examination found.

    Attributes:
        name: what was examined.
        status: `warning` does not keep a run from working; `failed` does.
        detail: what was found.
        remedy: what to do about it; empty when it is ok.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    status: FindingStatus
    detail: str
    remedy: str = ""


def ok(name: str, detail: str) -> Finding:
    """Return a finding that needs nothing done."""
    return Finding(name=name, status="ok", detail=detail)


def warning(name: str, detail: str, remedy: str) -> Finding:
    """Return a finding that does not keep a run from working."""
    return Finding(name=name, status="warning", detail=detail, remedy=remedy)


def failed(name: str, detail: str, remedy: str) -> Finding:
    """Return a finding that keeps runs from working."""
    return Finding(name=name, status="failed", detail=detail, remedy=remedy)


def guarded(name: str, probe: Callable[[], Finding]) -> Finding:
    """Return what a probe found; its error is a finding too."""
    try:
        return probe()
    except BoothlineError as error:
        return failed(name, error.message, error.remedy)
