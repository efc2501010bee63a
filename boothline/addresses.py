"""Which network addresses Boothline may be sent to, by its environment or by a configuration.

Whoever sets the environment of a process decides where its services are, in a private network as a
rule. Nobody may send it to the metadata service of a cloud, which hands out credentials, and a
configuration, which anybody may have written, may not reach into the private network at all.
"""

import ipaddress
import re
import socket
from collections.abc import Callable, Iterable
from urllib.parse import SplitResult, urlsplit

from boothline.errors import ConfigError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Iterable[str]]

_METADATA_NAMES = frozenset({"metadata", "metadata.google.internal", "instance-data"})
_METADATA_ADDRESSES = frozenset(
    ipaddress.ip_address(text) for text in ("fd00:ec2::254", "100.100.100.200", "192.0.0.192")
)
_NUMERIC = re.compile(r"(0[xX][0-9a-fA-F]*|[0-9]+)(\.(0[xX][0-9a-fA-F]*|[0-9]+)){0,3}\.?")


def check_service_url(url: str, *, name: str) -> SplitResult:
    """Return the parts of a service's URL.

    Private addresses are allowed; addresses of metadata services, addresses in disguise (decimal,
    octal, hexadecimal) and passwords in the URL are not.

    Args:
        url: what the environment says.
        name: the variable, for messages.

    Raises:
        ConfigError: it is not a URL of that kind.
    """
    parts = _split(url, name=name)
    address = _literal(parts.hostname or "")
    if address is not None:
        _check_not_special(address, shown=_shown(parts), name=name)
    return parts


def check_public_url(url: str, *, name: str, resolve: Resolve | None = None) -> SplitResult:
    """Return the parts of an https URL whose host lies in the public network, by name and address.

    The caller must not follow redirects, or check each of them in the same way.

    Args:
        url: what a configuration says.
        name: the setting, for messages.
        resolve: gives the addresses of a host name and port; by default the system does.

    Raises:
        ConfigError: it is no such URL, or one of its addresses is not public.
    """
    parts = _split(url, name=name)
    if parts.scheme != "https":
        raise ConfigError(f"{name} {_shown(parts)} is not an https URL.", remedy="Use https.")
    host = parts.hostname or ""
    literal = _literal(host)
    try:
        found = [str(literal)] if literal else list((resolve or _system)(host, parts.port or 443))
    except OSError as error:
        raise ConfigError(
            f"{name} names the host {host!r}, which has no address: {error}.",
            remedy="Check its spelling.",
        ) from error
    for text in found:
        address = _unmapped(ipaddress.ip_address(text.partition("%")[0]))
        _check_not_special(address, shown=_shown(parts), name=name)
        if not address.is_global:
            raise ConfigError(
                f"{name} {_shown(parts)} leads to {address}, which is not a public address.",
                remedy="Services of a private network are set in the environment only.",
            )
    return parts


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine by its own name: localhost, 127.0.0.0/8 or ::1."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = _literal(host)
    return address is not None and address.is_loopback


def _split(url: str, *, name: str) -> SplitResult:
    """Return the parts of an http(s) URL without path tricks, credentials or disguise."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"{name} is not a URL: {error}.", remedy="Correct it.") from error
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise ConfigError(
            f"{name} {_given(url)!r} is not an endpoint URL.",
            remedy="Expected e.g. http://127.0.0.1:8333 or https://s3.example.org.",
        )
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            f"{name} {_shown(parts)} carries a user name or password.",
            remedy="Set credentials in variables of their own, so that no log shows them.",
        )
    if any(not character.isprintable() or character.isspace() for character in url):
        raise ConfigError(f"{name} holds a space or a control character.", remedy="Correct it.")
    if host.rstrip(".").lower() in _METADATA_NAMES:
        raise _metadata(_shown(parts), name)
    if _NUMERIC.fullmatch(host) and _literal(host) is None:
        raise ConfigError(
            f"{name} {_shown(parts)} writes an address in a disguised form.",
            remedy="Write it as four decimal numbers, or as a name.",
        )
    return parts


def _literal(host: str) -> Address | None:
    """Return the address that a host is written as, or None for a name."""
    try:
        return _unmapped(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        return None


def _unmapped(address: Address) -> Address:
    """Return the IPv4 address inside an IPv6 one (mapped, 6to4, NAT64), or the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in ipaddress.ip_network("64:ff9b::/96"):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _check_not_special(address: Address, *, shown: str, name: str) -> None:
    """Refuse addresses that no service has.

    Raises:
        ConfigError: it is link-local, a metadata service's, unspecified, multicast or reserved.
    """
    if address.is_link_local or address in _METADATA_ADDRESSES:
        raise _metadata(shown, name)
    if address.is_loopback:
        return
    if address.is_unspecified or address.is_multicast or address.is_reserved:
        raise ConfigError(
            f"{name} {shown} is an address that no service can have.", remedy="Correct it."
        )


def _metadata(shown: str, name: str) -> ConfigError:
    return ConfigError(
        f"{name} {shown} is the address of a metadata service, which is refused.",
        remedy="Name the service itself.",
    )


def _shown(parts: SplitResult) -> str:
    """Return scheme and host; user, password, path (of a webhook) and query may be secret."""
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}"[:200]


def _given(url: str) -> str:
    """Return a value as it was given, without what may be secret: user, password, path, query."""
    scheme, separator, rest = url.rpartition("://")
    authority, *more = re.split(r"[/?#]", rest, maxsplit=1)
    kept = authority.rpartition("@")[2][:200]
    return f"{scheme[:20]}{separator}{kept}{'/...' if more and more[0] else ''}"


def _system(host: str, port: int) -> list[str]:
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
