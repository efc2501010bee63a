"""Builds the TrainJob of a training: a pure function from settings to plain JSON."""

from boothline.trainjob.settings import TrainJobSettings

GROUP = "trainer.kubeflow.org"
VERSION = "v1alpha1"
PLURAL = "trainjobs"
COMMAND = ("python3", "-m", "boothline.trainjob.node")
JOB_ANNOTATION = "boothline.dev/job"
RUN_ANNOTATION = "boothline.dev/run"
_NAME_LENGTH = 20


def name_of(key: str) -> str:
    """Return the name of the TrainJob of a training: the same training has one at a time."""
    return f"boothline-{key[:_NAME_LENGTH]}"


def train_job(settings: TrainJobSettings, *, name: str, job: str, run_id: str) -> dict[str, object]:
    """Return a TrainJob as JSON.

    Args:
        settings: where it runs and how large it is.
        name: its name.
        job: reference of the manifest that says what the pods train.
        run_id: the pipeline run that starts it.
    """
    labels = {
        "app.kubernetes.io/part-of": "boothline",
        "app.kubernetes.io/component": "trainer",
    }
    if settings.queue:
        labels["kueue.x-k8s.io/queue-name"] = settings.queue
    if settings.priority_class:
        labels["kueue.x-k8s.io/priority-class"] = settings.priority_class
    trainer: dict[str, object] = {
        "command": list(COMMAND),
        "args": [job, run_id],
        "numNodes": settings.num_nodes,
        # Without a GPU, Trainer would start as many ranks as the node has CPUs.
        "numProcPerNode": settings.processes_per_node,
    }
    if settings.image:
        trainer["image"] = settings.image
    if settings.resources:
        trainer["resourcesPerNode"] = settings.resources
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "TrainJob",
        "metadata": {
            "name": name,
            "namespace": settings.namespace,
            "labels": labels,
            "annotations": {JOB_ANNOTATION: job, RUN_ANNOTATION: run_id},
        },
        "spec": {
            "activeDeadlineSeconds": settings.deadline_seconds,
            "runtimeRef": {
                "apiGroup": GROUP,
                "kind": "TrainingRuntime",
                "name": settings.runtime,
            },
            "trainer": trainer,
        },
    }
