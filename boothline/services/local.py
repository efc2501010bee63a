"""Starts, finds and stops the local services of a home folder."""

import logging
import socket
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from boothline.errors import ServiceError
from boothline.services import endpoints as loopback
from boothline.services import processes
from boothline.services.endpoints import Credentials, Endpoints, write_private
from boothline.services.service import LocalService, MLflowServer, SeaweedFS
from boothline.settings import Settings

logger = logging.getLogger(__name__)

SERVICES: dict[str, LocalService] = {"seaweedfs": SeaweedFS(), "mlflow": MLflowServer()}
ALL = tuple(SERVICES)
_LOCK_SECONDS = 300.0
_FOUND_SECONDS = 60.0
_POLL_SECONDS = 0.05
_MAX_STARTS = 3

ServiceState = Literal["running", "starting", "stopped", "crashed"]


class ServiceRecord(BaseModel):
    """A server that was started: its process and its ports."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pid: int
    started_at: float = Field(description="Seconds since the epoch.")
    ports: dict[str, int]


class ServiceStatus(BaseModel):
    """What a local service does right now.

    Attributes:
        name: the service.
        state: `starting` also means that it does not answer at the moment, and `crashed` that it
            ended unasked.
        url: where clients reach it; empty unless it runs.
        pid: its process id; 0 unless it runs.
        seconds: how long it has been running.
        memory_bytes: its resident memory.
        log: its log file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    state: ServiceState
    url: str = ""
    pid: int = 0
    seconds: float = 0.0
    memory_bytes: int = 0
    log: Path


class _Records(BaseModel):
    """The file of all started servers."""

    model_config = ConfigDict(extra="forbid")

    services: dict[str, ServiceRecord] = {}


def ensure(home: Path, *, only: Collection[str] = ALL) -> Endpoints:
    """Start the local services that do not run, and return where they are.

    Safe to call from several processes at once: one starts them, the others wait for it.

    Args:
        home: the folder that the services and their data belong to.
        only: names of the services wanted.

    Raises:
        ServiceError: a service cannot be started; the message holds the end of its log.
    """
    folder = _folder(home)
    wanted = [SERVICES[name] for name in ALL if name in only]
    records = _read(folder)
    if not all(_answers(service, records, folder) for service in wanted):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        with _locked(folder):
            _bring_up(wanted, folder)
            records = _read(folder)
    return _endpoints(wanted, records, folder)


def running(home: Path) -> Endpoints:
    """Return where the services are that answer right now; starts nothing."""
    folder = _folder(home)
    records = _read(folder)
    found = [service for service in SERVICES.values() if _answers(service, records, folder)]
    return _endpoints(found, records, folder)


def with_local(settings: Settings) -> Settings:
    """Return settings with the local store of their home, where they name no store and it answers.

    Nothing is started.
    """
    if settings.s3_endpoint:
        return settings
    local = running(settings.home)
    fields = ("s3_endpoint", "s3_access_key", "s3_secret_key")
    return settings.model_copy(update={name: getattr(local, name) for name in fields})


def stop(home: Path, *, only: Collection[str] = ALL) -> list[str]:
    """Stop the services that were started for a home folder and return their names; data stays.

    Args:
        home: the folder that the services and their data belong to.
        only: names of those to stop.
    """
    folder = _folder(home)
    if not folder.is_dir():
        return []
    with _locked(folder):
        records = _read(folder)
        stopped = []
        for name in (name for name in reversed(ALL) if name in only):
            record = records.services.pop(name, None)
            found = processes.find_all(folder / name)
            for process in found:
                processes.terminate(process, patience_seconds=SERVICES[name].shutdown_seconds)
            if record is not None:
                SERVICES[name].clean_up(record.ports)
            if found:
                stopped.append(name)
        _write(folder, records)
    return stopped


def status(home: Path) -> list[ServiceStatus]:
    """Return what each local service of a home folder does."""
    folder = _folder(home)
    records = _read(folder)
    return [
        _status(service, records.services.get(service.name), folder)
        for service in SERVICES.values()
    ]


@dataclass(kw_only=True)
class _Startup:
    """A service that was started, or found running, and does not answer yet.

    Attributes:
        service: what it is.
        folder: the folder of all services.
        record: its process and ports.
        deadline: monotonic time until which it has to answer.
        log_offset: length of its log in bytes before it was started.
        num_starts: how often it was started; 0 when it was found running.
    """

    service: LocalService
    folder: Path
    record: ServiceRecord
    deadline: float
    log_offset: int = 0
    num_starts: int = 0

    def is_done(self) -> bool:
        """Return whether the service answers; restart it where that can help.

        Raises:
            ServiceError: it ended, or did not answer in time.
        """
        process = processes.find(self.record.pid, folder=self.folder / self.service.name)
        if process is None:
            self._restart_or_fail(
                "ended right after its start", in_vain=not self._ports_were_taken()
            )
        elif self.service.is_ready(self.record.ports) and processes.listens(
            process, self.record.ports.values()
        ):
            logger.info("%s answers at %s", self.service.name, self.service.url(self.record.ports))
            return True
        elif time.monotonic() > self.deadline:
            processes.terminate(process, patience_seconds=self.service.shutdown_seconds)
            self._restart_or_fail("did not answer in time", in_vain=True)
        return False

    def _restart_or_fail(self, what: str, *, in_vain: bool) -> None:
        """Start again what was only found, or what found its ports taken; fail otherwise."""
        if self.num_starts >= _MAX_STARTS or (self.num_starts > 0 and in_vain):
            raise ServiceError(
                f"The local {self.service.name} service {what}. From its log"
                f" {_log(self.folder, self.service)}:\n{self._log_tail()}\n",
                remedy="`boothline down`, then `boothline up` starts it again.",
            )
        logger.warning("the %s service %s and is started again", self.service.name, what)
        again = _start(self.service, self.folder, preferred=None, skip_blocks=self.num_starts)
        self.record, self.deadline, self.log_offset = again.record, again.deadline, again.log_offset
        self.num_starts += 1

    def _ports_were_taken(self) -> bool:
        return "address already in use" in self._log_tail().lower()

    def _log_tail(self) -> str:
        log = _log(self.folder, self.service)
        return processes.tail(log, since=self.log_offset, telling=self.service.telling)


def _endpoints(found: list[LocalService], records: _Records, folder: Path) -> Endpoints:
    urls = {service.name: service.url(records.services[service.name].ports) for service in found}
    if "seaweedfs" not in urls:
        return Endpoints(home=folder.parent, mlflow_uri=urls.get("mlflow", ""))
    credentials = Credentials.load_or_create(folder / "credentials.json")
    return Endpoints(
        home=folder.parent,
        s3_endpoint=urls["seaweedfs"],
        s3_access_key=credentials.access_key,
        s3_secret_key=credentials.secret_key,
        mlflow_uri=urls.get("mlflow", ""),
    )


def _bring_up(wanted: list[LocalService], folder: Path) -> None:
    """Start what does not run, all at once, and wait until all answer."""
    credentials = Credentials.load_or_create(folder / "credentials.json")
    records = _read(folder)
    pending = [
        _started_or_found(service, records.services.get(service.name), folder, credentials)
        for service in wanted
    ]
    while pending := [startup for startup in pending if not startup.is_done()]:
        time.sleep(_POLL_SECONDS)


def _started_or_found(
    service: LocalService, record: ServiceRecord | None, folder: Path, credentials: Credentials
) -> _Startup:
    """Return a service that is running already but may be slow to answer, or start it."""
    service_folder = folder / service.name
    if record is not None and processes.find(record.pid, folder=service_folder) is not None:
        deadline = time.monotonic() + _FOUND_SECONDS
        return _Startup(service=service, folder=folder, record=record, deadline=deadline)
    for orphan in processes.find_all(service_folder):
        logger.warning("process %d of an unrecorded start is stopped", orphan.pid)
        processes.terminate(orphan, patience_seconds=service.shutdown_seconds)
    if record is not None:
        logger.warning("the %s service had ended and is started again", service.name)
        service.clean_up(record.ports)
    service_folder.mkdir(exist_ok=True)
    service.prepare(service_folder, credentials)
    return _start(service, folder, preferred=record.ports if record else None)


def _start(
    service: LocalService, folder: Path, *, preferred: dict[str, int] | None, skip_blocks: int = 0
) -> _Startup:
    """Start a service on its former ports when they are free, or on others, and record it."""
    ports, listener = _claim_ports(service, preferred or {}, skip_blocks)
    log = _log(folder, service)
    log_offset = processes.rotate(log)
    process = processes.start(
        service.command(ports),
        folder=folder / service.name,
        log=log,
        environment=service.environment(ports),
        listener=listener,
    )
    record = ServiceRecord(pid=process.pid, started_at=time.time(), ports=ports)
    records = _read(folder)
    records.services[service.name] = record
    _write(folder, records)
    logger.info("started %s as process %d", service.name, process.pid)
    return _Startup(
        service=service,
        folder=folder,
        record=record,
        deadline=time.monotonic() + service.startup_seconds,
        log_offset=log_offset,
        num_starts=1,
    )


def _claim_ports(
    service: LocalService, preferred: dict[str, int], skip_blocks: int
) -> tuple[dict[str, int], socket.socket | None]:
    """Return free ports, and the listening socket of the first for a service that inherits it."""
    ports = preferred
    while True:
        if set(ports) != set(service.port_names) or not all(map(loopback.is_free, ports.values())):
            ports = loopback.choose(
                service.port_names, first=service.first_port, skip_blocks=skip_blocks
            )
        if not service.inherits_listener:
            return ports, None
        try:
            return ports, loopback.listen(ports[service.port_names[0]])
        except OSError as error:
            logger.info("port %d was taken meanwhile: %s", ports[service.port_names[0]], error)


def _answers(service: LocalService, records: _Records, folder: Path) -> bool:
    record = records.services.get(service.name)
    return (
        record is not None
        and processes.find(record.pid, folder=folder / service.name) is not None
        and service.is_healthy(record.ports)
    )


def _status(service: LocalService, record: ServiceRecord | None, folder: Path) -> ServiceStatus:
    log = _log(folder, service)
    if record is None:
        return ServiceStatus(name=service.name, state="stopped", log=log)
    process = processes.find(record.pid, folder=folder / service.name)
    if process is None:
        return ServiceStatus(name=service.name, state="crashed", log=log)
    try:
        memory_bytes = int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return ServiceStatus(name=service.name, state="crashed", log=log)
    return ServiceStatus(
        name=service.name,
        state="running" if service.is_healthy(record.ports) else "starting",
        url=service.url(record.ports),
        pid=record.pid,
        seconds=max(0.0, time.time() - record.started_at),
        memory_bytes=memory_bytes,
        log=log,
    )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a services folder.

    Raises:
        ServiceError: another command holds it for minutes.
    """
    try:
        with FileLock(folder / "lock", timeout=_LOCK_SECONDS):
            yield
    except Timeout as error:
        raise ServiceError(
            f"Another command has been starting or stopping the services in {folder} for"
            f" {_LOCK_SECONDS:.0f} s.",
            remedy="Wait for it or end it, then try again.",
        ) from error


def _read(folder: Path) -> _Records:
    """Return the records of started servers; an unreadable file counts as none."""
    path = folder / "state.json"
    try:
        return _Records.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return _Records()
    except ValidationError:
        logger.warning("%s is damaged; services are looked for by their processes", path)
        return _Records()


def _write(folder: Path, records: _Records) -> None:
    write_private(folder / "state.json", records.model_dump_json(indent=2) + "\n")


def _folder(home: Path) -> Path:
    return home.resolve() / "services"


def _log(folder: Path, service: LocalService) -> Path:
    return folder / "logs" / f"{service.name}.log"
