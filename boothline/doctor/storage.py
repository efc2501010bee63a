"""Examines the object store: what the commit protocol needs, and what this identity may do."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from boothline.addresses import check_service_url, is_loopback
from boothline.doctor import probes
from boothline.doctor.findings import Finding, failed, guarded, ok, warning
from boothline.errors import BoothlineError, StoreError
from boothline.settings import Settings
from boothline.store import failures, inventory, layout

if TYPE_CHECKING:
    from boothline.store.s3 import Bucket

_MAX_SKEW_SECONDS, _REFUSED_SKEW_SECONDS = 60.0, 900.0
_MANY_UPLOADS = 20
_PROBE_KEY = layout.PERMISSIONS_PROBE


def examine(settings: Settings) -> Iterator[Finding]:
    """Yield the findings about the object store; later ones only if it can be opened."""
    if not settings.s3_endpoint:
        yield warning("store", "no object store is configured or runs", "Run `boothline up`.")
        return
    from boothline.store.s3 import Bucket

    try:
        bucket = Bucket.connect(settings)
    except BoothlineError as error:
        yield failed("store", error.message, error.remedy)
        return
    yield ok("store", f"{bucket.uri('')} at {settings.s3_endpoint}")
    yield _transport(settings)
    yield guarded("store permissions", lambda: _permissions(bucket))
    races = guarded("store races", lambda: _race(probes.count_race_winners(bucket)))
    yield races
    if races.status == "ok":
        yield _asked("store owners", lambda: _owners(probes.keeps_owner_marks(bucket)))
    yield guarded("store checksums", lambda: _checksum(probes.refuses_wrong_checksum(bucket)))
    yield _asked("store ranges", lambda: _ranges(probes.reads_from_an_offset(bucket)))
    yield _asked("store parts", lambda: _parts(probes.fault_of_uploads(bucket)))
    yield guarded("store signatures", lambda: _signatures(probes.refuses_wrong_secret(settings)))
    yield guarded("store clock", lambda: _clock(bucket.clock_skew_seconds()))
    yield guarded("store uploads", lambda: _uploads(bucket))


def _transport(settings: Settings) -> Finding:
    """Examine whether pictures and weights cross a network in the clear."""
    url = check_service_url(settings.s3_endpoint, name="BOOTHLINE_S3_ENDPOINT")
    if url.scheme == "https" or is_loopback(url.hostname or ""):
        return ok("store transport", "encrypted, or within this machine")
    return warning(
        "store transport",
        f"{settings.s3_endpoint} is not encrypted",
        "Use https, or make sure that the network between here and the store is yours alone.",
    )


def _permissions(bucket: "Bucket") -> Finding:
    """Examine what this identity may do, by doing it."""
    actions: dict[str, Callable[[], object]] = {
        "list": lambda: bucket.keys(layout.PROBES),
        "write": lambda: bucket.put(_PROBE_KEY, b"probe"),
        "read": lambda: bucket.get(_PROBE_KEY),
        "delete": lambda: bucket.delete(_PROBE_KEY),
    }
    allowed = [name for name, action in actions.items() if _may(action)]
    denied = [name for name in actions if name not in allowed]
    detail = f"may {', '.join(allowed) or 'do nothing'}"
    if not denied:
        return ok("store permissions", detail)
    detail += f"; may not {', '.join(denied)}"
    if {"list", "read"} & set(denied):
        return failed("store permissions", detail, "Every identity has to list and read.")
    needs = {
        "write": "Every step that makes something needs an identity that may write.",
        "delete": "Right for a trainer; `boothline gc --delete` needs one that may delete.",
    }
    return warning("store permissions", detail, " ".join(needs[name] for name in denied))


def _may(action: Callable[[], object]) -> bool:
    """Return whether the store lets us; other failures are passed on.

    Raises:
        ServiceError: the store failed for another reason.
    """
    try:
        action()
    except StoreError as error:
        if failures.is_denial(error.__cause__):
            return False
        raise
    return True


def _uploads(bucket: "Bucket") -> Finding:
    """Examine what unfinished uploads take up."""
    num_uploads = len(inventory.unfinished_uploads(bucket))
    if num_uploads < _MANY_UPLOADS:
        return ok("store uploads", f"{num_uploads} unfinished uploads")
    return warning(
        "store uploads",
        f"{num_uploads} unfinished uploads",
        "`boothline gc --delete` gives up those that are older than a day.",
    )


def _race(num_winners: int) -> Finding:
    detail = f"{num_winners} of 16 writers got the same name"
    if num_winners == 1:
        return ok("store races", detail)
    return failed(
        "store races", detail, "Use a store with conditional puts; commits could overwrite others."
    )


def _checksum(refused: bool) -> Finding:
    if refused:
        return ok("store checksums", "wrong bytes are refused")
    return warning(
        "store checksums",
        "wrong bytes are accepted",
        "Reads verify every byte all the same; prefer a store that checks x-amz-checksum-sha256.",
    )


def _asked(name: str, probe: Callable[[], Finding]) -> Finding:
    """Return what a probe found; an identity that may not try it finds nothing."""
    try:
        return probe()
    except BoothlineError as error:
        if failures.is_denial(error.__cause__):
            return ok(name, "not examined: this identity may not do what that takes")
        return failed(name, error.message, error.remedy)


def _owners(kept: bool) -> Finding:
    if kept:
        return ok("store owners", "the writer of an object is known by its mark")
    return failed(
        "store owners",
        "the metadata sent with an object is lost, so that a commit whose answer was lost would"
        " count as another writer's",
        "Use a store that keeps x-amz-meta headers.",
    )


def _ranges(honoured: bool) -> Finding:
    if honoured:
        return ok("store ranges", "broken downloads continue where they stopped")
    return warning(
        "store ranges",
        "reads from an offset return something else, so that broken downloads cannot continue",
        "Every read is verified all the same; prefer a store that honours Range.",
    )


def _parts(fault: str) -> Finding:
    if not fault:
        return ok("store parts", "uploads in parts are completed, listed with their age, given up")
    return warning(
        "store parts",
        fault,
        "`boothline gc --delete` gives up uploads older than a day by what the store lists: run it"
        " only while nothing is written, or use another store.",
    )


def _signatures(checked: bool) -> Finding:
    if checked:
        return ok("store signatures", "a wrong secret is refused")
    return warning(
        "store signatures",
        "any secret is accepted: whoever reaches the store may read and write everything",
        "Switch the store's authentication on, or use it for tests alone.",
    )


def _clock(skew_seconds: float) -> Finding:
    detail = f"the store's clock is {skew_seconds:+.0f} s off this machine's"
    if abs(skew_seconds) < _MAX_SKEW_SECONDS:
        return ok("store clock", detail)
    remedy = "Set the clocks (NTP); requests are refused from 15 minutes on."
    refused = abs(skew_seconds) >= _REFUSED_SKEW_SECONDS
    return (failed if refused else warning)("store clock", detail, remedy)
