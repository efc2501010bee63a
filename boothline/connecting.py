"""Why a service cannot be used, in one line: TLS failures by their cause, long answers cut."""

import re
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from boothline.errors import ServiceError

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse
    from urllib3.connectionpool import ConnectionPool
    from urllib3.util import Retry

MAX_ANSWER_CHARACTERS = 200
# A connection that was cut, or bytes damaged on their way: the same request may succeed.
_PASSING = (
    ssl.SSLEOFError,
    ssl.SSLZeroReturnError,
    ssl.SSLSyscallError,
    ssl.SSLWantReadError,
    ssl.SSLWantWriteError,
)
_DAMAGED = frozenset({"DECRYPTION_FAILED_OR_BAD_RECORD_MAC", "SSLV3_ALERT_BAD_RECORD_MAC"})
# What a server answers, as an alert or (nginx) as a page, to who shows no certificate.
_WANTS_CERTIFICATE = frozenset(
    {"TLSV13_ALERT_CERTIFICATE_REQUIRED", "SSLV3_ALERT_BAD_CERTIFICATE"}
    | {"SSLV3_ALERT_HANDSHAKE_FAILURE", "SSLV3_ALERT_NO_CERTIFICATE"}
)
_WANTS_ONE = re.compile(
    r"no required ssl certificate was sent|client certificate (is )?required"
    r"|client sent no certificate|certificate required",
    re.IGNORECASE,
)
_PLAIN = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST"})
# Codes of OpenSSL's verification (x509_vfy.h).
_EXPIRED, _NOT_YET, _SELF_SIGNED = 10, 9, 18
_UNKNOWN_AUTHORITY = frozenset({2, 19, 20, 21, 27})
_OTHER_NAME = frozenset({62, 64})
# What Go's servers and nginx answer in the clear, and a TLS alert read as an HTTP status line.
_SPEAKS_TLS = re.compile(r"HTTP request to an HTTPS server|sent to HTTPS port|\x15\x03|\\x15\\x03")
_MISSING_BUNDLE = "TLS CA certificate bundle"  # how requests begins what it says about its path
_PAGE = re.compile(r"<(!doctype|html|head|body)\b.*", re.IGNORECASE | re.DOTALL)
# How urllib3 wraps the cause that ended its retries.
_RETRIES = re.compile(r"HTTPS?ConnectionPool\(.*\(Caused by (.*)\)", re.DOTALL)
# How urllib3 writes an error: which connection it was, which the message around it says already.
_CONNECTION = re.compile(
    r"""\w+\(["'](?:HTTPS?Connection(?:Pool)?\(.*?\): )?"""
    r"""(?:Failed to establish a new connection: )?(?:\[Errno -?\d+\] )?(.*?)["']\)"""
)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)

E = TypeVar("E", bound=ServiceError)


@dataclass(frozen=True, kw_only=True)
class Service:
    """A service as messages name it.

    Attributes:
        name: what it is, within a sentence, e.g. `the object store`.
        url: where it is looked for.
        url_setting: what sets the URL.
        trust_setting: what sets the CA bundle.
    """

    name: str
    url: str
    url_setting: str
    trust_setting: str


@dataclass(frozen=True, kw_only=True)
class TlsFault:
    """Why TLS does not work, and what mends it.

    Attributes:
        cause: the end of a sentence.
        remedy: a sentence with `{url_setting}` and `{trust_setting}`.
    """

    cause: str
    remedy: str


def tls_error(error: BaseException, service: Service, *, what: str, kind: type[E]) -> E | None:
    """Return our error for a failure of TLS that lasts; None for any other failure.

    Args:
        error: what the client library raised.
        service: which was to be used.
        what: what was tried, e.g. `read the run`.
        kind: class of our error.
    """
    fault = tls_fault(error)
    if fault is None:
        return None
    settings = {"url_setting": service.url_setting, "trust_setting": service.trust_setting}
    return kind(
        f"Could not {what}: {service.name} at {service.url} cannot be used, because {fault.cause}.",
        remedy=fault.remedy.format(**settings),
    )


def tls_fault(error: BaseException) -> TlsFault | None:
    """Return why TLS fails for good, or None if the error is of another kind or may pass."""
    from urllib3.exceptions import SSLError

    chain = list(_chain(error))
    failure = next((each for each in chain if isinstance(each, ssl.SSLError)), None)
    if isinstance(failure, ssl.SSLCertVerificationError):
        return _certificate_fault(failure)
    if failure is not None:
        return _handshake_fault(failure)
    texts = [str(each) for each in chain]
    if any(_SPEAKS_TLS.search(text) for text in texts):
        return TlsFault(
            cause="it expects https and was addressed by http",
            remedy="Write https:// in {url_setting}.",
        )
    if any(_WANTS_ONE.search(text) for text in texts):
        return _certificate_wanted()
    wrapped = next((each for each in chain if isinstance(each, SSLError)), None)
    if wrapped is not None and isinstance(wrapped.__cause__, OSError):
        return _bundle_fault(str(wrapped.__cause__.strerror or wrapped.__cause__))
    if bundle := next((text for text in texts if _MISSING_BUNDLE in text), ""):
        return _bundle_fault(bundle.partition("invalid path: ")[2] or bundle)
    if wrapped is not None:
        return _other_fault(str(wrapped))
    return None


def http_errors(*more: type[Exception]) -> tuple[type[Exception], ...]:
    """Return what HTTP clients raise when they get no answer, and more, for one `except`."""
    from urllib3.exceptions import HTTPError, ProxySchemeUnsupported

    return HTTPError, ProxySchemeUnsupported, ssl.SSLError, *more


def careful_retries(number: int) -> "Retry":
    """Return urllib3's retries, which end at once where TLS fails for good.

    Each attempt would be a warning of urllib3's, and fail for the same reason.

    Args:
        number: of further attempts, for failures that may pass.
    """
    from urllib3.exceptions import MaxRetryError
    from urllib3.util import Retry

    class CarefulRetry(Retry):
        def increment(
            self,
            method: str | None = None,
            url: str | None = None,
            response: "BaseHTTPResponse | None" = None,
            error: Exception | None = None,
            _pool: "ConnectionPool | None" = None,
            _stacktrace: TracebackType | None = None,
        ) -> Self:
            if error is not None and tls_fault(error) is not None:
                raise MaxRetryError(_pool, url or "", error) from error  # type: ignore[arg-type]
            return super().increment(method, url, response, error, _pool, _stacktrace)

    return CarefulRetry(number)


def excerpt(answer: str) -> str:
    """Return what a server answered in one short line; a web page is named by its title."""

    def named(page: re.Match[str]) -> str:
        title = _TITLE.search(page.group())
        return f"a web page titled '{title.group(1).strip()}'" if title else "a web page"

    line = " ".join(_PAGE.sub(named, _shortened(answer)).split())
    if len(line) <= MAX_ANSWER_CHARACTERS:
        return line
    return f"{line[: MAX_ANSWER_CHARACTERS - 1]}…"


def _shortened(answer: str) -> str:
    """Return what ended urllib3's retries in its own words; another answer as it is."""
    found = _RETRIES.search(answer)
    if found is None:
        return answer
    cause = _CONNECTION.fullmatch(found[1])
    return answer[: found.start()] + (cause[1] if cause else found[1]) + answer[found.end() :]


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what led to it, nearest first, each once."""
    pending: list[BaseException] = [error]
    seen: set[int] = set()
    while pending:
        each = pending.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        nested: Sequence[object] = (
            getattr(each, "reason", None),
            each.__cause__,
            each.__context__,
            *each.args,
        )
        pending += [inner for inner in nested if isinstance(inner, BaseException)]


def _certificate_fault(error: ssl.SSLCertVerificationError) -> TlsFault:
    code = int(getattr(error, "verify_code", 0))
    message = str(getattr(error, "verify_message", "") or error).strip().rstrip(".")
    if code in (_EXPIRED, _NOT_YET):
        return TlsFault(
            cause=f"its {message}",
            remedy="Renew the certificate of the server that {url_setting} names, or set this "
            "machine's clock if that is wrong.",
        )
    if code in _OTHER_NAME:
        return TlsFault(
            cause=f"its certificate is for another name ({message})",
            remedy="Set {url_setting} to a name that the certificate holds.",
        )
    if code == _SELF_SIGNED:
        return TlsFault(
            cause="its certificate is self-signed and not trusted here",
            remedy="Set {trust_setting} to a PEM file with that certificate, if it is the right "
            "one.",
        )
    if code in _UNKNOWN_AUTHORITY:
        return TlsFault(
            cause=f"its certificate is signed by an authority that is not trusted here ({message})",
            remedy="Set {trust_setting} to a PEM file with the certificate of that authority.",
        )
    return _other_fault(f"its certificate is not accepted ({message})")


def _handshake_fault(error: ssl.SSLError) -> TlsFault | None:
    reason = str(getattr(error, "reason", "") or "")
    if isinstance(error, _PASSING) or reason in _DAMAGED:
        return None
    if getattr(error, "library", "") in (
        "X509",
        "PEM",
        "ASN1",
    ):  # raised while the bundle is loaded
        return _bundle_fault("it holds no valid certificate in PEM form")
    if reason in _PLAIN:
        return TlsFault(
            cause="it speaks no TLS there (plain http, say)",
            remedy="Write http:// or the port for https in {url_setting}.",
        )
    if reason in _WANTS_CERTIFICATE:
        return _certificate_wanted(reason.replace("_", " ").lower())
    return _other_fault(f"TLS failed ({reason.replace('_', ' ').lower() or error})")


def _certificate_wanted(alert: str = "") -> TlsFault:
    # An older server fails the handshake alike where it has no cipher in common with this side.
    wish = (
        "a client certificate or other ciphers" if "handshake" in alert else "a client certificate"
    )
    return TlsFault(
        cause=f"it asks for {wish}, which Boothline does not offer" + (alert and f" ({alert})"),
        remedy="Set {url_setting} to an address of it that does without.",
    )


def _bundle_fault(detail: str) -> TlsFault:
    return TlsFault(
        cause=f"the CA bundle cannot be read ({detail})",
        remedy="Set {trust_setting} to a PEM file that this process can read.",
    )


def _other_fault(cause: str) -> TlsFault:
    return TlsFault(cause=cause, remedy="Check {url_setting} and {trust_setting}.")
