"""Applies deployment settings to a compiled pipeline, through kfp and kfp-kubernetes themselves."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import yaml

from boothline import catalogue
from boothline.catalogue import TOOLS, TORCH, described
from boothline.errors import ConfigError
from boothline.launch.cluster.conditions import lift_conditions
from boothline.launch.cluster.deployment import (
    Deployment,
    Placement,
    SigningKey,
    VerificationKey,
)

if TYPE_CHECKING:
    from kfp.dsl import PipelineTask

CA_FOLDER = "/etc/boothline/ca"
SIGNING_FOLDER = "/etc/boothline/signing"
VERIFICATION_FOLDER = "/etc/boothline/verification"
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - the mount point, not a file
OUTPUTS = "/tmp"  # noqa: S108 - the mount point, not a file
_OUTPUTS_SIZE = "1Gi"
SECURITY_LABELS = {
    "app.kubernetes.io/part-of": "boothline",
    "app.kubernetes.io/component": "step",
}
STEP_LABEL = "boothline.dev/step"
KFP_RUN_LABEL = "pipeline/runid"
"""Label by which Kubeflow Pipelines marks the pods of a run, of a recurring one too."""
JOB_VARIABLE = "BOOTHLINE_JOB_ID"
RANKS_VARIABLE = "BOOTHLINE_NUM_PROCESSES"
_SCRATCH = {"HOME": "/scratch", "TMPDIR": "/scratch", "BOOTHLINE_HOME": "/scratch/home"}


def placed(text: str, deployment: Deployment) -> str:
    """Return a compiled pipeline whose pods are as a deployment says.

    Args:
        text: what `boothline.launch.compile.compiled` returns.
        deployment: the settings.

    Raises:
        ConfigError: the settings name a step that no pipeline has, an image is unknown, or
            models are published unsigned that may only be loaded signed.
    """
    spec, *platforms = yaml.load_all(text, Loader=yaml.CSafeLoader)
    lift_conditions(spec)
    platform = platforms[0] if platforms else {}
    executors = spec["deploymentSpec"]["executors"]
    steps = {label: _step_of(label, executor) for label, executor in executors.items()}
    unknown = sorted(name for name in deployment.steps if described(name) is None)
    if unknown:
        raise ConfigError(
            f"The deployment places {unknown[0]}, and no pipeline has such a step.",
            remedy=f"The steps are {', '.join(step.name for step in catalogue.steps())}.",
        )
    _check_signing(steps.values(), deployment)
    pods = platform.setdefault("platforms", {}).setdefault("kubernetes", {})
    configs = pods.setdefault("deploymentSpec", {}).setdefault("executors", {})
    for label, step in steps.items():
        container, configs[label] = _example(step, deployment)
        _merge(executors[label]["container"], container, deployment)
    for task in _tasks(spec):
        label = spec["components"].get(task["componentRef"]["name"], {}).get("executorLabel")
        if label in steps and (retries := deployment.placement(steps[label]).retries):
            task["retryPolicy"] = {
                "maxRetryCount": retries,
                "backoffDuration": "30s",
                "backoffFactor": 2.0,
                "backoffMaxDuration": "600s",
            }
    comments = [line for line in text.splitlines() if line.startswith("#")]
    documents = [yaml.dump(item, Dumper=yaml.CSafeDumper) for item in (spec, platform)]
    return "\n".join([*comments, "---\n".join(documents)])


def _step_of(label: str, executor: Mapping[str, Any]) -> str:
    """Return the step that an executor runs."""
    arguments = executor["container"].get("args", [])
    if "--function_to_execute" in arguments:
        return str(arguments[arguments.index("--function_to_execute") + 1])
    raise ConfigError(f"{label} is not a step of Boothline.", remedy="Compile our pipelines only.")


def _tasks(spec: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every task of a pipeline, those inside loops and conditions too."""
    for component in (spec["root"], *spec["components"].values()):
        yield from component.get("dag", {}).get("tasks", {}).values()


def _merge(container: dict[str, Any], example: Mapping[str, Any], deployment: Deployment) -> None:
    """Give a container the image, the resources and the environment of the example."""
    images = {TOOLS: deployment.images.tools, TORCH: deployment.images.torch}
    if container["image"] not in images:
        raise ConfigError(
            f"The pipeline uses the image {container['image']!r}, which no setting replaces.",
            remedy=f"Its images should be {TOOLS} and {TORCH}.",
        )
    container["image"] = images[container["image"]]
    container["resources"] = example["resources"]
    known = {item["name"]: item for item in container.get("env", [])}
    known |= {item["name"]: item for item in example["env"]}
    container["env"] = [known[name] for name in sorted(known)]


def environment_of(step: str, deployment: Deployment) -> dict[str, str]:
    """Return the variables of a step that are not secret."""
    values = {f"BOOTHLINE_{name.upper()}": str(value) for name, value in deployment.settings}
    if deployment.ca_bundle:
        values["BOOTHLINE_S3_CA_BUNDLE"] = f"{CA_FOLDER}/{deployment.ca_bundle.key}"
    signing, verification = _keys_of(step, deployment)
    if signing:
        values["BOOTHLINE_SIGNING_KEY"] = f"{SIGNING_FOLDER}/{signing.key}"
    if verification:
        values["BOOTHLINE_VERIFICATION_KEY"] = f"{VERIFICATION_FOLDER}/{verification.key}"
    trainer = deployment.trainer
    if trainer and step in ("train", "finish_run"):  # which deletes what a killed train step left
        if not trainer.image:
            trainer = trainer.model_copy(update={"image": deployment.images.torch})
        values["BOOTHLINE_TRAIN_JOB"] = json.dumps(trainer.model_dump(mode="json"), sort_keys=True)
    if trainer and step == "train":
        values[RANKS_VARIABLE] = str(trainer.world_size)
    if step == "generate_prior" and not deployment.signing:  # a reused model is signed again
        values |= _ranks_of_training(deployment)
    given = deployment.placement(step).environment
    return {**{name: value for name, value in values.items() if value}, **_SCRATCH, **given}


def _ranks_of_training(deployment: Deployment) -> dict[str, str]:
    """Return the variables by which another pod counts the ranks that the training will have."""
    gpu = deployment.placement("train").gpu
    ranks = environment_of("train", deployment).get(RANKS_VARIABLE, "")
    return {"BOOTHLINE_TRAIN_GPUS": str(gpu.count if gpu else 0), RANKS_VARIABLE: ranks}


def _keys_of(step: str, deployment: Deployment) -> tuple[SigningKey | None, VerificationKey | None]:
    """Return the keys that a step needs: to sign what it publishes, to verify what it loads."""
    about = described(step)
    signs, verifies = (about.signs, about.verifies) if about else (False, False)
    return deployment.signing if signs else None, deployment.verification if verifies else None


def _example(step: str, deployment: Deployment) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return container and pod settings as kfp writes them for a task with these settings."""
    from google.protobuf import json_format  # type: ignore[import-untyped]
    from kfp import dsl

    @dsl.container_component  # type: ignore[untyped-decorator, unused-ignore]
    def example() -> dsl.ContainerSpec:
        return dsl.ContainerSpec(image="example", command=["true"])

    def define() -> None:
        _place(example(), step, deployment)

    pipeline = dsl.pipeline(name="example")(define)
    spec = json_format.MessageToDict(pipeline.pipeline_spec)
    platform = json_format.MessageToDict(pipeline.platform_spec)
    kubernetes = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    container = spec["deploymentSpec"]["executors"]["exec-example"]["container"]
    # Not by set_env_variable, which reads the sources of all its callers for each variable.
    environment = sorted(environment_of(step, deployment).items())
    container["env"] = [{"name": name, "value": value} for name, value in environment]
    return container, kubernetes["exec-example"]


def _place(task: "PipelineTask", step: str, deployment: Deployment) -> None:
    """Give a task the settings of a step."""
    placement = deployment.placement(step)
    task.set_cpu_request(placement.cpu).set_cpu_limit(placement.cpu_limit)
    task.set_memory_request(placement.memory).set_memory_limit(placement.memory_limit)
    if placement.gpu:
        task.set_accelerator_type(placement.gpu.resource)
        task.set_accelerator_limit(placement.gpu.count)
    _place_pod(task, step, deployment)


def _place_pod(task: "PipelineTask", step: str, deployment: Deployment) -> None:
    """Give a task's pod its user, secrets, volumes, labels and place."""
    from kfp import kubernetes

    placement = deployment.placement(step)

    user = deployment.run_as_user
    kubernetes.set_security_context(task, run_as_user=user, run_as_group=user, run_as_non_root=True)
    kubernetes.set_image_pull_policy(task, deployment.image_pull_policy)
    if deployment.image_pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(deployment.image_pull_secrets))
    kubernetes.set_timeout(task, placement.timeout_seconds)
    kubernetes.use_field_path_as_env(task, JOB_VARIABLE, f"metadata.labels['{KFP_RUN_LABEL}']")
    for secret in deployment.secrets:
        kubernetes.use_secret_as_env(task, secret.name, dict(secret.environment))
    if deployment.ca_bundle:
        kubernetes.use_config_map_as_volume(task, deployment.ca_bundle.config_map, CA_FOLDER)
    _mount_keys(task, step, deployment)
    kubernetes.empty_dir_mount(task, "scratch", "/scratch", size_limit=placement.scratch)
    # Where Kubeflow's launcher leaves a step's outputs: the root file system may be read-only.
    kubernetes.empty_dir_mount(task, "outputs", OUTPUTS, size_limit=_OUTPUTS_SIZE)
    if placement.shared_memory:
        kubernetes.empty_dir_mount(
            task,
            "shared-memory",
            SHARED_MEMORY,
            "Memory",
            placement.shared_memory,
        )
    for name, value in sorted({**_labels(deployment), STEP_LABEL: step}.items()):
        kubernetes.add_pod_label(task, name, value)
    for name, value in sorted(placement.node_selector.items()):
        kubernetes.add_node_selector(task, name, value)
    _tolerate(task, placement, kubernetes.add_toleration)


def _check_signing(steps: Iterable[str], deployment: Deployment) -> None:
    """Refuse a pipeline whose model would be published without the signature that is asked for."""
    publishing = [step for step in steps if (about := described(step)) and about.signs]
    if publishing and deployment.verification and not deployment.signing:
        raise ConfigError(
            f"The deployment lets steps load signed models only, and {publishing[0]} signs none.",
            remedy="Name the Secret with the private key under `signing` (the chart's value is "
            "signing.private.existingSecret).",
        )


def _mount_keys(task: "PipelineTask", step: str, deployment: Deployment) -> None:
    """Give a task's pod the keys that its step needs."""
    from kfp import kubernetes

    signing, verification = _keys_of(step, deployment)
    if signing:
        kubernetes.use_secret_as_volume(task, signing.secret, SIGNING_FOLDER)
        if signing.password_key:
            password = {signing.password_key: "BOOTHLINE_SIGNING_KEY_PASSWORD"}
            kubernetes.use_secret_as_env(task, signing.secret, password)
    if verification:
        kubernetes.use_config_map_as_volume(task, verification.config_map, VERIFICATION_FOLDER)


def _labels(deployment: Deployment) -> dict[str, str]:
    """Return the labels of a pod; the network policies of the chart select by them."""
    labels = {**SECURITY_LABELS, **deployment.labels}
    if deployment.queue:
        labels["kueue.x-k8s.io/queue-name"] = deployment.queue
    if deployment.priority_class:
        labels["kueue.x-k8s.io/priority-class"] = deployment.priority_class
    return labels


def _tolerate(
    task: "PipelineTask", placement: Placement, add: Callable[..., "PipelineTask"]
) -> None:
    """Let a task's pod live with taints."""
    for toleration in placement.tolerations:
        given = {name: value for name, value in toleration if value}
        add(task, **given)
