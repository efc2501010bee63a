"""What a run's pods need in their namespace, looked up before a run is started."""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from boothline.config import RunConfig
from boothline.errors import ConfigError, ServiceError
from boothline.launch.cluster.deployment import Deployment
from boothline.launch.cluster.runs import check_reachable
from boothline.launch.local.prechecks import check_from_afar
from boothline.launch.local.session import home_folder
from boothline.trainjob.cluster import TIMEOUT_SECONDS, api_client, translated
from boothline.trainjob.manifest import GROUP, VERSION

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

logger = logging.getLogger(__name__)
_NOT_FOUND, _FORBIDDEN = 404, 403


def check_base(config: RunConfig, *, home: Path | None = None) -> str:
    """Check that pods can reach what a run names, and that its settings fit its base model.

    Args:
        config: the run's configuration.
        home: the home folder, which remembers digests of models; None: the setting's.

    Returns:
        Why the base model was not looked at; empty: it was.

    Raises:
        ConfigError: a pod cannot reach something, a setting does not fit, or an encoder cannot
            judge the pictures of the base.
        DataError: the base model is of no family that is known.
    """
    check_reachable(config)
    return check_from_afar(config, home=home_folder(home))


def check_namespace(deployment: Deployment) -> str:
    """Check that the Secrets, ConfigMaps and accounts that the pods name are there.

    Pods that lack one hang in CreateContainerConfigError, and the run with them.

    Returns:
        Why nothing was checked; empty: everything that may be read is there.

    Raises:
        ConfigError: some are missing; all of them are named.
    """
    namespace = deployment.kfp.namespace
    if not namespace:
        return "kfp.namespace is empty: Secrets and accounts were not looked for."
    try:
        connected = api_client()
    except ConfigError as error:  # whoever submits may know Kubeflow alone
        logger.info("Secrets and accounts were not looked for: %s", error)
        return ""
    try:
        needed = _needed(deployment, connected)
        missing = [name for name, is_there in needed if not is_there()]
    except ServiceError as error:
        return f"Secrets and accounts were not looked for. {error}"
    if missing:
        raise ConfigError(
            f"Namespace {namespace} has no {', no '.join(missing)}; pods that need them never run.",
            remedy="Make them there (docs/kubernetes.md), or correct the deployment file.",
        )
    return ""


def _needed(
    deployment: Deployment, connected: "ApiClient"
) -> Iterator[tuple[str, Callable[[], bool]]]:
    """Yield what the pods need, in words, and what looks for it."""
    from kubernetes import client

    namespace = deployment.kfp.namespace
    core, custom = client.CoreV1Api(connected), client.CustomObjectsApi(connected)

    def there(name: str, read: Callable[..., object]) -> bool:
        with translated(connected, f"read {name}", quiet=(_NOT_FOUND, _FORBIDDEN)) as said:
            read(_request_timeout=TIMEOUT_SECONDS)
        return _NOT_FOUND not in said  # what may not be read may be there

    named = [("Secret", core.read_namespaced_secret, item.name) for item in deployment.secrets]
    named += [
        ("Secret", core.read_namespaced_secret, name) for name in deployment.image_pull_secrets
    ]
    if deployment.signing:
        named.append(("Secret", core.read_namespaced_secret, deployment.signing.secret))
    named += [
        ("ConfigMap", core.read_namespaced_config_map, given.config_map)
        for given in (deployment.ca_bundle, deployment.verification)
        if given
    ]
    if deployment.kfp.service_account:
        read, name = core.read_namespaced_service_account, deployment.kfp.service_account
        named.append(("ServiceAccount", read, name))
    for kind, read, name in named:
        yield f"{kind} {name}", partial(there, name, partial(read, name, namespace))
    if deployment.trainer:
        runtime = deployment.trainer.runtime
        look = partial(
            custom.get_namespaced_custom_object,
            group=GROUP,
            version=VERSION,
            namespace=deployment.trainer.namespace,
            plural="trainingruntimes",
            name=runtime,
        )
        yield f"TrainingRuntime {runtime}", partial(there, runtime, look)
