"""What the command line works with: the home folder, the services and the store."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from boothline import settings as process_environment
from boothline.settings import Settings

if TYPE_CHECKING:
    from boothline.store import Store


@dataclass(frozen=True, kw_only=True)
class Session:
    """An open home folder.

    Attributes:
        home: local state; absolute.
        environment: `BOOTHLINE_*` variables that tell child processes where the services are.
    """

    home: Path
    environment: Mapping[str, str]

    @cached_property
    def settings(self) -> Settings:
        """The process's settings with this session's services."""
        fields = {
            name.removeprefix("BOOTHLINE_").lower(): value
            for name, value in self.environment.items()
            if name.startswith("BOOTHLINE_")
        }
        return Settings.model_validate({**process_environment.current().model_dump(), **fields})

    @cached_property
    def store(self) -> "Store":
        """The store.

        Raises:
            ServiceError: it is unreachable.
        """
        from boothline.store import Store

        return Store.connect(self.settings)


def home_folder(home: Path | None) -> Path:
    """Return the home folder to use, absolute: the one given, or else the setting's."""
    return (home or process_environment.current().home).resolve()


def open_session(home: Path | None, *, tracking: bool = False) -> Session:
    """Open a home folder; starts the local services unless the settings name a store.

    Args:
        home: the home folder; None: the setting's.
        tracking: whether MLflow is needed; otherwise it is only used if it runs already.

    Raises:
        ServiceError: a service does not start.
    """
    folder = home_folder(home)
    own = {"BOOTHLINE_HOME": str(folder)}
    if process_environment.current().s3_endpoint:
        return Session(home=folder, environment=own)
    from boothline import services

    wanted = {service.name for service in services.status(folder) if service.state == "running"}
    wanted |= set(services.ALL) if tracking else {"seaweedfs"}
    endpoints = services.ensure(folder, only=wanted)
    return Session(home=folder, environment={**endpoints.environment(), **own})
