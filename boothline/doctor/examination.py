"""Runs every examination in a fixed order."""

import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import boothline
from boothline import services
from boothline.addresses import check_service_url
from boothline.connecting import excerpt, http_errors, tls_error
from boothline.doctor import machine, storage
from boothline.doctor.findings import Finding, failed, ok, warning
from boothline.errors import BoothlineError, ConfigError, TrackingError
from boothline.settings import Settings

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


NAMES = tuple(f"boothline/{image}:{boothline.__version__}" for image in ("tools", "torch"))
_REVISION = '{{index .Config.Labels "org.opencontainers.image.revision"}}'
_FORMAT = "{{.Id}} " + _REVISION
_SECONDS = 10.0


def images(names: tuple[str, ...] = NAMES) -> Finding:
    """Examine whether Docker has the images, and name their digests and revisions.

    Args:
        names: the images, with their tags.
    """
    program = shutil.which("docker")
    if program is None:
        return ok("images", "no Docker here; only --profile containers needs it")
    digests, missing = [], []
    for name in names:
        query = [program, "image", "inspect", "--format", _FORMAT, name]
        try:
            answer = subprocess.run(
                query, capture_output=True, text=True, timeout=_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return _silent(str(error))
        if answer.returncode == 0:
            digests.append(_shown(name, answer.stdout))
        elif "no such image" in answer.stderr.lower():
            missing.append(name)
        else:
            return _silent(answer.stderr.strip())
    detail = "; ".join([*digests, *(f"{name} is missing" for name in missing)])
    if not missing:
        return ok("images", detail)
    return warning("images", detail, "`make images` builds what --profile containers needs.")


def _shown(name: str, answer: str) -> str:
    """Return an image as name, digest and revision."""
    digest, *revision = answer.split()
    return f"{name} is {digest}" + (f" of revision {revision[0]}" if revision else "")


def _silent(reason: str) -> Finding:
    return warning(
        "images",
        f"Docker does not answer: {reason}",
        "Start Docker if you want --profile containers; nothing else needs it.",
    )


BASE_MODEL = "builtin:tiny-emoji-sd"


def examine(settings: Settings, home: Path) -> list[Finding]:
    """Return what every examination of this machine found, in a fixed order; starts nothing.

    Args:
        settings: the environment; where it names no store or tracking server, the local ones of
            the home folder are examined, if they run.
        home: the folder of local state.
    """
    local = services.running(home)
    if not settings.s3_endpoint and local.s3_endpoint:
        fields = local.model_dump(include={"s3_endpoint", "s3_access_key", "s3_secret_key"})
        settings = settings.model_copy(update=fields)
    if not settings.mlflow_uri:
        settings = settings.model_copy(update={"mlflow_uri": local.mlflow_uri})
    return [
        machine.python(),
        machine.packages(),
        machine.disk(home),
        machine.memory(),
        machine.shared_memory(),
        machine.processors(),
        _secrets(home),
        *_services(home),
        *storage.examine(settings),
        tracking(settings),
        *_registry(settings),
        _base_model(settings),
        images(),
    ]


def examine_pod(settings: Settings, home: Path, *, connections: Sequence[str]) -> list[Finding]:
    """Return what was found in a pod as the steps without torch have it, in a fixed order.

    Args:
        settings: the environment, which has to name the store.
        home: the folder of local state.
        connections: `HOST:PORT` of further servers that a step talks to.

    Raises:
        ConfigError: a connection has another form.
    """
    return [
        machine.python(),
        machine.packages(in_pod=True),
        machine.disk(home),
        machine.memory(),
        machine.processors(),
        *storage.examine(settings),
        *([tracking(settings)] if settings.mlflow_uri else []),
        *(connection(target) for target in connections),
    ]


def _services(home: Path) -> Iterator[Finding]:
    for service in services.status(home):
        name = f"service {service.name}"
        if service.state == "running":
            yield ok(name, f"runs at {service.url} as process {service.pid}")
        elif service.state == "crashed":
            yield failed(
                name, f"ended unasked; see {service.log}", "`boothline up` starts it again."
            )
        elif service.state == "starting":
            yield warning(name, "runs but does not answer now", f"Wait, or read {service.log}.")
        else:
            yield warning(name, "does not run", "`boothline up` starts it.")


def _secrets(home: Path) -> Finding:
    """Examine whether others on this machine can read the credentials of the local services."""
    files = [home / "services" / name for name in ("credentials.json", "seaweedfs/s3.json")]
    open_files = [path for path in files if path.exists() and path.stat().st_mode & 0o077]
    if not open_files:
        return ok("secrets", "no credentials that others on this machine can read")
    named = ", ".join(str(path) for path in open_files)
    return failed("secrets", f"others can read {named}", f"Close them: chmod 600 {named}")


def tracking(settings: Settings) -> Finding:
    """Examine whether the tracking server answers, within five seconds."""
    if not settings.mlflow_uri:
        return warning("mlflow", "no tracking server is configured or runs", "Run `boothline up`.")
    import certifi
    import urllib3

    from boothline.tracking.client import ca_bundle, service

    try:
        check_service_url(settings.mlflow_uri, name="BOOTHLINE_MLFLOW_URI")
    except ConfigError as error:
        return failed("mlflow", error.message, error.remedy)
    url = f"{settings.mlflow_uri.rstrip('/')}/health"
    try:
        pool = urllib3.PoolManager(ca_certs=ca_bundle() or certifi.where())
        response = pool.request("GET", url, timeout=5.0, retries=False)
    except http_errors(ValueError) as error:
        lasting = tls_error(
            error, service(settings.mlflow_uri), what=f"ask {url}", kind=TrackingError
        )
        if lasting:
            return warning("mlflow", lasting.message, lasting.remedy)
        return warning(
            "mlflow",
            f"{url} does not answer: {excerpt(str(error))}",
            "Check BOOTHLINE_MLFLOW_URI, or start it.",
        )
    if response.status == 200:
        return ok("mlflow", f"answers at {settings.mlflow_uri}")
    answer = excerpt(response.data.decode("utf-8", "replace"))
    refusal = tls_error(
        ValueError(answer), service(settings.mlflow_uri), what=f"ask {url}", kind=TrackingError
    )
    if refusal:
        return warning("mlflow", refusal.message, refusal.remedy)
    said = f"{url} answers {response.status}" + (answer and f": {answer}")
    return warning("mlflow", said, "Check BOOTHLINE_MLFLOW_URI.")


def _registry(settings: Settings) -> Iterator[Finding]:
    """Examine whether MLflow's aliases agree with the ledger; nothing unless both are there."""
    if not settings.mlflow_uri or not settings.s3_endpoint:
        return
    from boothline.registry.drift import REMEDY, find_drift
    from boothline.store import Store

    try:
        drift = find_drift(Store.connect(settings, brisk=True), settings)
    except BoothlineError:  # the store or MLflow: each has a finding of its own
        return
    if drift:
        yield warning("registry", "; ".join(found.text for found in drift), REMEDY)
    else:
        yield ok("registry", "MLflow's aliases agree with the ledger")


def _base_model(settings: Settings) -> Finding:
    from boothline.diffusion import base_model

    try:
        model = base_model.resolve(BASE_MODEL, settings=settings)
    except BoothlineError as error:
        return warning("base model", error.message, error.remedy)
    return ok("base model", f"{model.source} with digest {model.digest[:12]} at {model.path}")
