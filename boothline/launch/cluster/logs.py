"""The logs of a run's pods, from the Kubernetes API: Kubeflow Pipelines keeps none of its own."""

from boothline.errors import ConfigError
from boothline.launch.cluster.deployment import Deployment
from boothline.launch.cluster.placing import KFP_RUN_LABEL, STEP_LABEL
from boothline.trainjob.cluster import api_client, translated


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

    if not deployment.kfp.namespace:
        raise ConfigError(
            "The deployment names no namespace of the runs.", remedy="Set kfp.namespace."
        )
    selector = f"{KFP_RUN_LABEL}={kfp_run_id},{STEP_LABEL}{f'={step}' if step else ''}"
    connected, namespace = api_client(), deployment.kfp.namespace
    core = client.CoreV1Api(connected)
    remedy = "Your account needs pods and pods/log in the namespace."
    with translated(connected, "read the logs", remedy=remedy):
        pods = core.list_namespaced_pod(namespace, label_selector=selector).items
        pods.sort(key=lambda pod: pod.metadata.creation_timestamp)
        return {
            f"{pod.metadata.labels[STEP_LABEL]}/{pod.metadata.name}": str(
                core.read_namespaced_pod_log(pod.metadata.name, namespace, container="main")
            )
            for pod in pods
            if pod.status.phase != "Pending"
        }
