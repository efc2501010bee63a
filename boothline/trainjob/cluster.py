"""The few things asked of the Kubernetes API: TrainJobs, their pods and those pods' logs."""

import logging
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from boothline.connecting import Service, careful_retries, excerpt, http_errors, tls_error
from boothline.errors import BoothlineError, ConfigError, ServiceError
from boothline.trainjob.manifest import GROUP, PLURAL, RUN_ANNOTATION, VERSION, name_of

if TYPE_CHECKING:
    from kubernetes.client import ApiClient
    from kubernetes.client.exceptions import ApiException

logger = logging.getLogger(__name__)
TIMEOUT_SECONDS = (5, 30)
_NOT_FOUND, _CONFLICT = 404, 409


def api_client() -> "ApiClient":
    """Return a client of the cluster that this pod runs in, or that the kubeconfig names.

    Raises:
        ConfigError: there is neither.
    """
    import yaml
    from kubernetes import client, config

    try:
        config.load_incluster_config()
    except config.ConfigException:
        try:
            config.load_kube_config(config_file=os.environ.get("KUBECONFIG"))
        except (config.ConfigException, yaml.YAMLError, OSError, UnicodeError) as error:
            raise ConfigError(
                f"No cluster is known: {excerpt(str(error))}",
                remedy="Run this in a pod with a service account, or set KUBECONFIG.",
            ) from error
    configuration = client.Configuration.get_default_copy()
    configuration.retries = careful_retries(3)
    return client.ApiClient(configuration)


class Cluster:
    """TrainJobs of one namespace.

    Args:
        client: a `kubernetes.client.ApiClient`.
        namespace: the namespace.
    """

    def __init__(self, client: "ApiClient", *, namespace: str) -> None:
        from kubernetes.client import CoreV1Api, CustomObjectsApi

        self._translated = partial(translated, client)
        self._jobs = CustomObjectsApi(client)
        self._core = CoreV1Api(client)
        self._where = {"group": GROUP, "version": VERSION, "plural": PLURAL, "namespace": namespace}
        self._namespace = namespace

    @classmethod
    def connect(cls, namespace: str) -> "Cluster":
        """Return the cluster that this pod runs in, or that the kubeconfig names.

        Raises:
            ConfigError: there is neither.
        """
        return cls(api_client(), namespace=namespace)

    def create(self, manifest: Mapping[str, object]) -> bool:
        """Create a TrainJob and return whether it was new; one of that name is left alone.

        Raises:
            ServiceError: the API refuses or does not answer.
        """
        with self._translated("create the TrainJob", quiet=_CONFLICT) as said:
            self._jobs.create_namespaced_custom_object(
                body=manifest, **self._where, _request_timeout=TIMEOUT_SECONDS
            )
        return not said

    def get(self, name: str) -> dict[str, Any] | None:
        """Return a TrainJob, or None.

        Raises:
            ServiceError: the API refuses or does not answer.
        """
        found: dict[str, Any] | None = None
        with self._translated(f"read the TrainJob {name}", quiet=_NOT_FOUND):
            found = self._jobs.get_namespaced_custom_object(
                name=name, **self._where, _request_timeout=TIMEOUT_SECONDS
            )
        return found

    def delete(self, name: str) -> None:
        """Delete a TrainJob with its pods, which get SIGTERM; one that is gone already is fine.

        The propagation is Background: with Foreground, and pods that still wait for a node, the
        controller makes the JobSet again each time the garbage collector has removed it, for ever.

        Raises:
            ServiceError: the API refuses or does not answer.
        """
        with self._translated(f"delete the TrainJob {name}", quiet=_NOT_FOUND):
            self._jobs.delete_namespaced_custom_object(
                name=name,
                **self._where,
                propagation_policy="Background",
                _request_timeout=TIMEOUT_SECONDS,
            )

    def delete_left(self, *, keys: Iterable[str], run_id: str) -> list[str]:
        """Delete the TrainJobs that a run started and whose train step could not delete them.

        A step's container is killed with Kubeflow's launcher a moment after its SIGTERM, so the
        step may not get to it.

        Args:
            keys: keys of the run's train steps.
            run_id: the run; a TrainJob that another run started is left alone.

        Returns:
            The names of those that were deleted.

        Raises:
            ServiceError: the API refuses or does not answer.
        """
        deleted = []
        for name in map(name_of, keys):
            annotations = (self.get(name) or {}).get("metadata", {}).get("annotations", {})
            if annotations.get(RUN_ANNOTATION) == run_id:
                self.delete(name)
                deleted.append(name)
        return deleted

    def first_pod(self, name: str) -> str:
        """Return the name of the pod of node 0 once it runs or has run; empty before.

        Raises:
            ServiceError: the API refuses or does not answer.
        """
        with self._translated(f"list the pods of {name}"):
            pods = self._core.list_namespaced_pod(
                self._namespace,
                label_selector=f"jobset.sigs.k8s.io/jobset-name={name},"
                "batch.kubernetes.io/job-completion-index=0",
                _request_timeout=TIMEOUT_SECONDS,
            ).items
        started = [pod for pod in pods if pod.status.phase in ("Running", "Succeeded", "Failed")]
        newest = max(started, key=lambda pod: pod.metadata.creation_timestamp, default=None)
        return str(newest.metadata.name) if newest else ""

    def log(self, pod: str) -> Iterator[str]:
        """Yield the lines of a pod's log from its start, as they come, until the pod ends.

        Raises:
            ServiceError: the API refuses or does not answer.
        """
        with self._translated(f"read the log of {pod}"):
            answer = self._core.read_namespaced_pod_log(
                pod, self._namespace, container="node", follow=True, _preload_content=False
            )
            rest = b""
            for chunk in answer.stream(4096, decode_content=True):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (line.decode(errors="replace") for line in lines)
            if rest:
                yield rest.decode(errors="replace")


def state_of(job: dict[str, Any]) -> tuple[str, str]:
    """Return the state of a TrainJob and its message: the condition that holds, or Created."""
    conditions = {
        condition["type"]: condition
        for condition in job.get("status", {}).get("conditions", [])
        if condition.get("status") == "True"
    }
    for state in ("Complete", "Failed", "Suspended"):
        if state in conditions:
            return state, str(conditions[state].get("message", ""))
    running = any(item.get("active", 0) for item in job.get("status", {}).get("jobsStatus", []))
    return ("Running" if running else "Created"), ""


@contextmanager
def translated(
    client: "ApiClient",
    what: str,
    *,
    quiet: int | Collection[int] = (),
    remedy: str = "",
) -> Iterator[list[int]]:
    """Turn errors of the API's client into ours; an expected status is only written down.

    Args:
        client: a `kubernetes.client.ApiClient`.
        what: what is tried, e.g. `read the log of a pod`.
        quiet: statuses that are not errors.
        remedy: what helps where the API refuses; empty: what its status suggests.

    Raises:
        ServiceError: the API refuses or does not answer.
    """
    from kubernetes.client.exceptions import ApiException, OpenApiException

    said: list[int] = []
    host = str(client.configuration.host)
    try:
        yield said
    except http_errors(OpenApiException, UnicodeError) as error:
        if lasting := tls_error(error, _service(host), what=what, kind=ServiceError):
            raise lasting from error
        if not isinstance(error, ApiException):
            raise ServiceError(
                f"Could not {what}: the Kubernetes API at {host} does not answer as it should"
                f" ({excerpt(str(error))}).",
                remedy="Check networkPolicy.apiServerCidrs of the chart, and the API's address.",
            ) from error
        if error.status in ((quiet,) if isinstance(quiet, int) else quiet):
            said.append(error.status)
            return
        raise _refused(what, error, remedy=remedy) from error


def _service(host: str) -> Service:
    return Service(
        name="the Kubernetes API",
        url=host,
        url_setting="the cluster's server in the kubeconfig (KUBECONFIG)",
        trust_setting="the cluster's certificate-authority in the kubeconfig (KUBECONFIG)",
    )


def _refused(
    what: str,
    error: "ApiException",
    *,
    remedy: str,
) -> BoothlineError:
    remedies = {
        401: "The service account's token is not accepted.",
        403: "The service account lacks rights: set pipelines.serviceAccount of the chart.",
        404: "Is Kubeflow Trainer installed (trainer.kubeflow.org/v1alpha1)?",
        422: "Is the TrainingRuntime there, and does the chart's version fit the image's?",
    }
    return ServiceError(
        f"Could not {what}: the Kubernetes API answers {error.status}"
        f" {excerpt(str(error.reason))}.",
        remedy=remedy or remedies.get(int(error.status or 0), "See the events of the namespace."),
    )
