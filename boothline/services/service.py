"""What a local service is: how it is started, asked and stopped."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from boothline.services.endpoints import Credentials

Ports = Mapping[str, int]


class LocalService(ABC):
    """A server that runs on this machine, on loopback only.

    Attributes:
        name: its name in messages, folders and logs.
        port_names: what its ports are for; the first is the one that clients use.
        first_port: the first of its preferred ports.
        startup_seconds: how long it may take until it answers.
        shutdown_seconds: how long it may take to end when asked; then it is killed.
        inherits_listener: whether its first port comes as a listening socket on standard input, so
            that no other program takes the port while it loads.
        telling: pattern of the log lines that say why it ended; empty when the last ones do.
    """

    name: ClassVar[str]
    port_names: ClassVar[tuple[str, ...]]
    first_port: ClassVar[int]
    startup_seconds: ClassVar[float]
    shutdown_seconds: ClassVar[float]
    inherits_listener: ClassVar[bool] = False
    telling: ClassVar[str] = ""

    @abstractmethod
    def prepare(self, folder: Path, credentials: Credentials) -> None:
        """Write the files that the server reads at its start into its folder."""

    @abstractmethod
    def command(self, ports: Ports) -> list[str]:
        """Return the program and its arguments; it runs in the server's folder.

        Raises:
            ServiceError: the program is not installed.
        """

    @abstractmethod
    def environment(self, ports: Ports) -> dict[str, str]:
        """Return the variables that the server needs."""

    @abstractmethod
    def is_ready(self, ports: Ports) -> bool:
        """Tell whether the server does its work, right after its start."""

    @abstractmethod
    def is_healthy(self, ports: Ports) -> bool:
        """Tell whether the server answers; takes milliseconds."""

    @abstractmethod
    def clean_up(self, ports: Ports) -> None:
        """Remove what the server leaves outside its folder when it is killed."""

    def url(self, ports: Ports) -> str:
        """Return the URL that clients use."""
        return f"http://127.0.0.1:{ports[self.port_names[0]]}"
