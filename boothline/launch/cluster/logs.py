"""The logs of a run's pods, from the Kubernetes API: Kubeflow Pipelines keeps none of its own."""

from boothline.errors import ConfigError, ServiceError
from boothline.launch.cluster.deployment import Deployment
from boothline.launch.cluster.placing import KFP_RUN_LABEL, STEP_LABEL
from boothline.trainjob.cluster import api_client


def pod_logs(deployment: Deployment, kfp_run_id: str, *, step: str | None) -> dict[str, str]:
    """Return the logs of the pods that still exist, by `<step>/<pod>`, oldest first.

    Args:
        deployment: where the run is.
        kfp_run_id: the API's id of the run.
        step: one step; None: all.

    Raises:
        ConfigError: no cluster is known here, or the deployment names no namespace.
        ServiceError: the Kubernetes API is away or refuses.
    """
    from kubernetes import client
    from urllib3.exceptions import HTTPError

    if not deployment.kfp.namespace:
        raise ConfigError(
            "The deployment names no namespace of the runs.", remedy="Set kfp.namespace."
        )
    selector = f"{KFP_RUN_LABEL}={kfp_run_id},{STEP_LABEL}{f'={step}' if step else ''}"
    core, namespace = client.CoreV1Api(api_client()), deployment.kfp.namespace
    try:
        pods = core.list_namespaced_pod(namespace, label_selector=selector).items
        pods.sort(key=lambda pod: pod.metadata.creation_timestamp)
        return {
            f"{pod.metadata.labels[STEP_LABEL]}/{pod.metadata.name}": str(
                core.read_namespaced_pod_log(pod.metadata.name, namespace, container="main")
            )
            for pod in pods
            if pod.status.phase != "Pending"
        }
    except (client.ApiException, HTTPError) as error:
        raise ServiceError(
            f"The logs cannot be read: {' '.join(str(error).split())[:200]}.",
            remedy="Your account needs pods and pods/log in the namespace.",
        ) from error
