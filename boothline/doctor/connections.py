"""Examines whether this machine reaches others: through network policies, firewalls and DNS."""

import socket

from boothline.doctor.findings import Finding, failed, ok
from boothline.errors import ConfigError

_SECONDS = 5.0


def connection(target: str) -> Finding:
    """Examine one connection that a step makes.

    Args:
        target: `HOST:PORT` of a TCP server.

    Raises:
        ConfigError: the target has another form.
    """
    host, _, port = target.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(
            f"{target!r} is not a target of a connection.",
            remedy="Write HOST:PORT, e.g. ml-pipeline.kubeflow.svc:8888.",
        )
    name = f"connection {target}"
    try:
        with socket.create_connection((host, int(port)), timeout=_SECONDS):
            return ok(name, "accepted")
    except socket.gaierror as error:
        return failed(
            name,
            f"the name cannot be resolved: {error.strerror}",
            "Check the name; if no name resolves, set networkPolicy.dnsNamespace, dnsCidrs and "
            "dnsPorts of the chart.",
        )
    except TimeoutError:
        return failed(
            name,
            f"closed: no answer within {_SECONDS:g} seconds, as a network policy does it",
            "Allow the port of the target's pod, which may differ from its service's: "
            "pipelines.ports and networkPolicy of the chart.",
        )
    except OSError as error:
        return failed(
            name,
            f"refused: {error.strerror}",
            "Check that the server runs, and that a network policy allows its pod's port.",
        )
