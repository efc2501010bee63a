"""What the command line works with: the home folder, the services and the store."""

import getpass
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from boothline import settings as process_environment
from boothline.errors import ConfigError, ModelNotFoundError, ServiceError
from boothline.settings import Settings

if TYPE_CHECKING:
    from boothline.store import Store

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Session:
    """An open home folder.

    Attributes:
        home: local state; absolute.
        environment: `BOOTHLINE_*` variables with the services' addresses, for child processes.
        is_new: whether nothing was ever stored here: the store is then an empty one in memory.
    """

    home: Path
    environment: Mapping[str, str]
    is_new: bool = False

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
        from boothline.store.memory import memory_store

        if self.is_new:
            return memory_store(self.settings.blob_cache)
        return Store.connect(self.settings, brisk=True)


def home_folder(home: Path | None) -> Path:
    """Return the home folder to use, absolute: the one given, or else the setting's."""
    return (home or process_environment.current().home).resolve()


def actor_of(settings: Settings) -> str:
    """Return who works here, for ledger and MLflow: the setting, or else this machine's user."""
    if settings.actor:
        return settings.actor
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def has_local_state(home: Path | None) -> bool:
    """Return whether there is a store to look at: one that is configured, or one that is local."""
    folder = home_folder(home) / "services"
    return bool(process_environment.current().s3_endpoint) or folder.is_dir()


def open_session(home: Path | None, *, tracking: bool = False, start: bool = True) -> Session:
    """Open a home folder; starts the local services that are needed and that no setting names.

    Each setting counts by itself: BOOTHLINE_MLFLOW_URI alone leaves the local store, and
    BOOTHLINE_S3_ENDPOINT alone means no tracking.

    Args:
        home: the home folder; None: the setting's.
        tracking: whether MLflow is needed; otherwise it is only used if it runs already.
        start: whether services may be started; what only looks at things starts none, and sees an
            empty store where nothing was ever stored.

    Raises:
        ServiceError: a service does not start, or does not run and may not be started.
        ConfigError: credentials of no store.
    """
    folder = home_folder(home)
    settings = process_environment.current()
    own = {"BOOTHLINE_HOME": str(folder), "BOOTHLINE_ACTOR": actor_of(settings)}
    if settings.s3_endpoint:
        return Session(home=folder, environment=own)
    _check_credentials(settings)
    from boothline import services

    if start:
        wanted = {service.name for service in services.status(folder) if service.state == "running"}
        wanted |= set(services.ALL) if tracking else {"seaweedfs"}
        wanted -= {"mlflow"} if settings.mlflow_uri else set()
        endpoints = services.ensure(folder, only=wanted)
    else:
        endpoints = services.running(folder)
        if not has_local_state(home):
            return Session(home=folder, environment=own, is_new=True)
        if not endpoints.s3_endpoint:
            raise ServiceError(
                f"The store in {folder} does not run.", remedy="`boothline up` starts it."
            )
    found = endpoints.environment()
    if settings.mlflow_uri:
        found["BOOTHLINE_MLFLOW_URI"] = settings.mlflow_uri
    return Session(home=folder, environment={**found, **own})


@contextmanager
def existing_session(home: Path | None, *, tracking: bool = False) -> Iterator[Session]:
    """Open a home folder for what works on things that are stored there already.

    Where nothing was ever stored nothing is started: the store is an empty one. Services that were
    started are stopped when what is done with them fails, so that a refusal leaves nothing behind.

    Args:
        home: the home folder; None: the setting's.
        tracking: as in `open_session`.

    Raises:
        ServiceError: a service does not start.
        ConfigError: credentials of no store.
    """
    from boothline import services

    if not has_local_state(home):
        yield open_session(home, start=False)
        return
    folder = home_folder(home)
    before = {service.name for service in services.status(folder) if service.state != "stopped"}
    try:
        yield open_session(home, tracking=tracking)
    except BaseException:
        _stop_again(folder, kept=before)
        raise


def _stop_again(home: Path, *, kept: Collection[str]) -> None:
    """Stop the services but those that are kept, unless a run has begun to use them."""
    from filelock import FileLock, Timeout

    from boothline import services
    from boothline.launch.local.folder import LOCK_FILE

    try:
        with FileLock(home / LOCK_FILE, timeout=0):
            services.stop(home, only=set(services.ALL) - set(kept))
    except Timeout:
        logger.info("the services stay: a run uses them")


def settings_for(models: Iterable[str], home: Path) -> Settings:
    """Return the settings for a look at a configuration before its run.

    They have the local store where the environment names none and one runs, so that `s3://` means
    the same as in the run. It is started where one of the models that are named lies in it.

    Raises:
        ModelNotFoundError: one of the models is to lie in a store where nothing was ever stored.
        ServiceError: it does not start.
    """
    from boothline import services
    from boothline.diffusion.bases import PREFIX

    settings = process_environment.current().model_copy(update={"home": home})
    if settings.s3_endpoint:
        return settings
    if stored := [model for model in models if model.startswith(PREFIX)]:
        if not has_local_state(home):
            raise ModelNotFoundError(
                f"There is no model {stored[0]!r}: nothing is stored in {home}.",
                remedy="Add it: boothline base add FOLDER --name "
                f"{stored[0].removeprefix(PREFIX)}; --home names another store.",
            )
        return open_session(home).settings
    return services.with_local(settings)


def _check_credentials(settings: Settings) -> None:
    """Refuse credentials without the endpoint that they are for: they would be ignored.

    Raises:
        ConfigError: there are some.
    """
    given = {
        "BOOTHLINE_S3_ACCESS_KEY": settings.s3_access_key,
        "BOOTHLINE_S3_SECRET_KEY": settings.s3_secret_key.get_secret_value(),
        "BOOTHLINE_S3_SESSION_TOKEN": settings.s3_session_token.get_secret_value(),
        "BOOTHLINE_S3_CA_BUNDLE": settings.s3_ca_bundle,
    }
    for name, value in given.items():
        if value:
            raise ConfigError(
                f"{name} is set and BOOTHLINE_S3_ENDPOINT is not: it belongs to no S3.",
                remedy="Set BOOTHLINE_S3_ENDPOINT too, or unset it to use the local store.",
            )
