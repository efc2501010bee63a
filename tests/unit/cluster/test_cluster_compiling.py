"""Deployment settings in the compiled pipeline: restricted pods, no secret, golden copy."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from boothline.config import RunConfig
from boothline.errors import ConfigError
from boothline.launch.cluster import placing
from boothline.launch.cluster.deployment import Deployment
from boothline.launch.cluster.runs import compile_for
from boothline.launch.compile import compiled, pipeline_named
from boothline.pipelines.parameters import TARGETS
from boothline.pipelines.stages import Shape

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
FULL = GOLDEN / "deployment-full.yaml"
STEPS = {
    *("validate_data", "generate_prior", "train", "publish_checkpoint"),
    *("evaluate", "promote", "batch_infer", "finish_run"),
}


@pytest.fixture(scope="module")
def full() -> Deployment:
    return Deployment.load(FULL)


@pytest.fixture(scope="module")
def compiled_full(full: Deployment) -> str:
    return compile_for(full)


def documents(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    spec, platform = yaml.load_all(text, yaml.CSafeLoader)
    return (
        spec["deploymentSpec"]["executors"],
        platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"],
    )


def test_full_deployment_equals_its_golden_copy(compiled_full: str) -> None:
    golden = (GOLDEN / "dreambooth-full.yaml").read_text(encoding="utf-8")
    assert compiled_full == golden, "run: make golden"


@pytest.mark.parametrize("pipeline", sorted(TARGETS))
def test_every_pod_of_every_pipeline_is_restricted(full: Deployment, pipeline: str) -> None:
    containers, pods = documents(compile_for(full, pipeline=pipeline))
    assert containers.keys() == pods.keys()
    for label, pod in pods.items():
        assert pod["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": "10001",
            "runAsGroup": "10001",
        }, label
        assert int(pod["activeDeadlineSeconds"]) > 0
        assert not {"pvcMount", "genericEphemeralVolume"} & pod.keys()
        assert all(mount["sizeLimit"] for mount in pod["emptyDirMounts"])
        # Writable, so that the root file system may be read-only.
        assert {"/scratch", placing.OUTPUTS} <= {
            mount["mountPath"] for mount in pod["emptyDirMounts"]
        }
        labels = pod["podMetadata"]["labels"]
        assert labels["app.kubernetes.io/part-of"] == "boothline"
        assert labels["app.kubernetes.io/component"] == "step"
        resources = containers[label]["container"]["resources"]
        assert {"resourceCpuLimit", "resourceMemoryLimit"} <= resources.keys()


def test_no_secret_is_in_the_compiled_pipeline(
    full: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOOTHLINE_S3_SECRET_KEY", "canary-7c1f")
    monkeypatch.setenv("BOOTHLINE_KFP_TOKEN", "canary-7c1f")
    text = compile_for(full)
    assert "canary-7c1f" not in text
    containers, pods = documents(text)
    for label, item in containers.items():
        names = {variable["name"] for variable in item["container"]["env"]}
        assert not {"BOOTHLINE_S3_SECRET_KEY", "BOOTHLINE_S3_ACCESS_KEY"} & names
        secrets = {entry["secretName"] for entry in pods[label]["secretAsEnv"]}
        signs = {"model-signing"} if label == "exec-publish-checkpoint" else set()
        assert secrets == {"s3-pipeline", "mlflow-client"} | signs


@pytest.mark.proves("F48/chart")
def test_only_what_publishes_gets_the_private_key_and_all_that_loads_the_public_one(
    compiled_full: str,
) -> None:
    containers, pods = documents(compiled_full)
    signing, verifying = set(), set()
    for label, pod in pods.items():
        variables = {
            item["name"]: item.get("value") for item in containers[label]["container"]["env"]
        }
        secrets = {each["secretName"]: each["mountPath"] for each in pod.get("secretAsVolume", [])}
        maps = {each["configMapName"]: each["mountPath"] for each in pod["configMapAsVolume"]}
        if key := variables.get("BOOTHLINE_SIGNING_KEY"):
            assert key == f"{secrets['model-signing']}/signing.pem"
            signing.add(label)
        if key := variables.get("BOOTHLINE_VERIFICATION_KEY"):
            assert key == f"{maps['model-verification']}/verification.pem"
            verifying.add(label)
        assert ("model-signing" in secrets) == (label in signing)
        assert ("model-verification" in maps) == (label in verifying)
    assert signing == {"exec-publish-checkpoint"}
    assert verifying == {"exec-evaluate", "exec-batch-infer"}
    (password,) = [
        each
        for each in pods["exec-publish-checkpoint"]["secretAsEnv"]
        if each["secretName"] == "model-signing"
    ]
    assert password["keyToEnv"] == [
        {"secretKey": "password", "envVar": "BOOTHLINE_SIGNING_KEY_PASSWORD"}
    ]


def test_pipeline_that_publishes_unsigned_where_signatures_are_asked_for_is_refused(
    full: Deployment,
) -> None:
    unsigned = full.model_copy(update={"signing": None, "steps": {}})
    with pytest.raises(ConfigError, match="publish_checkpoint signs none"):
        compile_for(unsigned)
    assert "model-verification" in compile_for(unsigned, pipeline="batch_inference")


def test_images_are_those_of_the_deployment(compiled_full: str, full: Deployment) -> None:
    containers, _ = documents(compiled_full)
    images = {item["container"]["image"] for item in containers.values()}
    assert images == {full.images.tools, full.images.torch}
    assert all("@sha256:" in image for image in images)


def test_train_step_starts_the_train_job(compiled_full: str) -> None:
    containers, pods = documents(compiled_full)
    environment = {
        item["name"]: item["value"] for item in containers["exec-train"]["container"]["env"]
    }
    assert environment["BOOTHLINE_NUM_PROCESSES"] == "16"
    trainer = json.loads(environment["BOOTHLINE_TRAIN_JOB"])
    assert (trainer["num_nodes"], trainer["queue"]) == (2, "imaging")
    assert trainer["image"].startswith("registry.example.org/boothline/torch@sha256:")
    others = {
        item["name"]
        for label in containers
        if label not in ("exec-train", "exec-finish-run")
        for item in containers[label]["container"]["env"]
    }
    assert "BOOTHLINE_TRAIN_JOB" not in others
    assert pods["exec-evaluate"]["tolerations"][0]["key"] == "nvidia.com/gpu"
    limits = containers["exec-evaluate"]["container"]["resources"]["accelerator"]
    assert limits["resourceType"] == "nvidia.com/gpu"


def test_steps_are_tried_again(compiled_full: str) -> None:
    spec = next(yaml.load_all(compiled_full, yaml.CSafeLoader))
    tasks = [
        task
        for component in (spec["root"], *spec["components"].values())
        for task in component.get("dag", {}).get("tasks", {}).values()
        if "retryPolicy" in task
    ]
    assert len(tasks) == len(STEPS)
    assert {task["retryPolicy"]["maxRetryCount"] for task in tasks} == {1, 2}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"steps": {"trian": {"cpu": "1"}}}, "no pipeline has such a step"),
        ({"steps": {"train": {"cpus": "1"}}}, "Extra inputs"),
        ({"defaults": {"memory": "4GB"}}, "should match pattern"),
        ({"defaults": {"environment": {"HF_TOKEN": "x"}}}, "looks like a secret"),
        ({"images": {"tools": "t:1", "torch": "t:1", "require_digests": True}}, "no digest"),
        ({"kfp": {"host": "ml-pipeline:8888"}}, "should match pattern"),
    ],
)
def test_wrong_settings_are_refused(change: dict[str, Any], complaint: str) -> None:
    value = {**yaml.safe_load(FULL.read_text(encoding="utf-8")), **change}
    with pytest.raises(ConfigError, match=complaint):
        compile_for(Deployment.from_text(yaml.safe_dump(value), source="deployment.yaml"))


def test_compiled_pipeline_is_what_kubeflows_own_messages_allow(compiled_full: str) -> None:
    from google.protobuf import json_format
    from kfp.kubernetes import kubernetes_executor_config_pb2
    from kfp.pipeline_spec import pipeline_spec_pb2

    spec, platform = yaml.load_all(compiled_full, yaml.CSafeLoader)
    json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec())
    for pod in documents(compiled_full)[1].values():
        json_format.ParseDict(pod, kubernetes_executor_config_pb2.KubernetesExecutorConfig())
    for executor in spec["deploymentSpec"]["executors"].values():
        container = pipeline_spec_pb2.PipelineDeploymentConfig.PipelineContainerSpec()
        json_format.ParseDict(executor["container"], container)
        assert container.image == executor["container"]["image"]


def _pods_one_after_the_other(text: str) -> list[str]:
    """Return the drivers of a pipeline in which nothing runs side by side: groups and steps."""
    spec = next(yaml.load_all(text, yaml.CSafeLoader))

    def tasks(component: dict[str, Any]) -> list[str]:
        found = []
        for name, task in component.get("dag", {}).get("tasks", {}).items():
            found += [name, *tasks(spec["components"][task["componentRef"]["name"]])]
        return found

    return ["root", *tasks(spec["root"])]


def test_run_of_one_shard_each_has_ten_drivers(full: Deployment) -> None:
    plain = full.model_copy(update={"steps": {}})
    alike = {name: {"num_shards": 1} for name in ("prior", "evaluation", "inference")}
    one = RunConfig.model_validate(alike)
    drivers = _pods_one_after_the_other(compile_for(plain, config=one))
    assert len(drivers) == 10
    assert {name for name in drivers if name.startswith("for-loop")} == set()
    two = RunConfig.model_validate({**alike, "prior": {"num_shards": 2}})
    loops = [
        name for name in _pods_one_after_the_other(compile_for(plain, config=two)) if "loop" in name
    ]
    assert len(loops) == 1


def _tasks(spec: dict[str, Any], component: str) -> dict[str, Any]:
    found: dict[str, Any] = spec["components"][component]["dag"]["tasks"]
    return found


def test_condition_around_one_step_stands_on_the_step(full: Deployment) -> None:
    # Of several shards of class pictures none is asked what stands.
    shards = {"prior": {"num_shards": 2}, "inference": {"num_shards": 1}}
    two = RunConfig.model_validate(shards)
    plain = yaml.safe_load(compiled(pipeline_named("dreambooth", shape=Shape.of(two))))
    spec = next(yaml.load_all(compile_for(full, config=two), yaml.CSafeLoader))

    (name,) = {name for name in _tasks(plain, "comp-exit-handler-1") if "condition" in name}
    (step,) = _tasks(plain, f"comp-{name}").values()
    group = _tasks(plain, "comp-exit-handler-1")[name]
    lifted = _tasks(spec, "comp-exit-handler-1")["batch-infer"]
    assert f"comp-{name}" not in spec["components"]
    assert name not in _tasks(spec, "comp-exit-handler-1")
    assert lifted["triggerPolicy"] == group["triggerPolicy"]
    assert lifted["dependentTasks"] == group["dependentTasks"]
    given, outside = lifted["inputs"]["parameters"], group["inputs"]["parameters"]
    assert set(given) == {*step["inputs"]["parameters"], "pipelinechannel--promote-Output"}
    assert given["model"] == outside["pipelinechannel--publish-checkpoint-Output"]
    assert given["run_id"] == {"componentInputParameter": "pipelinechannel--run_id"}
    assert given["shard"] == {"runtimeValue": {"constant": 0.0}}


@pytest.mark.parametrize("pipeline", ["dreambooth", "retrain"])
def test_condition_around_steps_that_wait_for_one_stands_on_that_one(
    full: Deployment, pipeline: str
) -> None:
    plain = full.model_copy(update={"steps": {}})
    spec = next(yaml.load_all(compile_for(plain, pipeline=pipeline), yaml.CSafeLoader))
    assert not [name for name in spec["components"] if "condition" in name]
    tasks = _tasks(spec, "comp-exit-handler-1")
    asked = {
        name: task["triggerPolicy"]["condition"].removeprefix("inputs.parameter_values")
        for name, task in tasks.items()
        if "triggerPolicy" in task
    }
    triggered = {"generate-prior": "['pipelinechannel--check-triggers-Output'] == 'train'"}
    assert asked == {
        "train": "['pipelinechannel--generate-prior-rest'] != 'reused'",
        "batch-infer": "['pipelinechannel--promote-Output'] == 'promoted'",
        **(triggered if pipeline == "retrain" else {}),
    }

    def waits_for(name: str) -> set[str]:
        direct = tasks[name].get("dependentTasks", [])
        return {*direct, *(further for other in direct for further in waits_for(other))}

    for name, task in tasks.items():
        sources = {
            value["taskOutputParameter"]["producerTask"]
            for value in task["inputs"]["parameters"].values()
            if "taskOutputParameter" in value
        }
        assert sources <= waits_for(name), name
    for name in ("publish-checkpoint", "evaluate", "promote", "batch-infer"):
        assert "train" in waits_for(name)


def test_condition_around_a_loop_stays(full: Deployment) -> None:
    plain = full.model_copy(update={"steps": {}})
    two = RunConfig.model_validate({"inference": {"num_shards": 2}})
    looped = next(yaml.load_all(compile_for(plain, config=two), yaml.CSafeLoader))
    assert len([name for name in looped["components"] if "condition" in name]) == 1


def _variables(text: str, step: str) -> dict[str, str]:
    container = documents(text)[0][f"exec-{step}"]["container"]
    return {item["name"]: item.get("value", "") for item in container["env"]}


def test_step_that_reuses_the_rest_knows_the_ranks_of_the_training(full: Deployment) -> None:
    unsigned = full.model_copy(update={"signing": None, "verification": None})
    assert unsigned.trainer is not None
    found = _variables(compile_for(unsigned), "generate-prior")
    assert found["BOOTHLINE_NUM_PROCESSES"] == str(unsigned.trainer.world_size)
    placed = {"train": {"gpu": {"count": 2}}}
    in_its_pod = unsigned.model_copy(update={"trainer": None, "steps": placed})
    found = _variables(compile_for(in_its_pod), "generate-prior")
    assert found["BOOTHLINE_TRAIN_GPUS"] == "2"
    assert "BOOTHLINE_NUM_PROCESSES" not in found
    assert "BOOTHLINE_TRAIN_GPUS" not in _variables(compile_for(in_its_pod), "train")
    # A model that is reused is signed anew where the key has changed, which needs the private one.
    assert full.signing
    assert "BOOTHLINE_TRAIN_GPUS" not in _variables(compile_for(full), "generate-prior")


def test_step_behind_one_shard_is_given_its_reference_in_a_list(full: Deployment) -> None:
    plain = full.model_copy(update={"steps": {}})
    one = RunConfig.model_validate({"prior": {"num_shards": 1}, "evaluation": {"num_shards": 1}})
    spec = next(yaml.load_all(compile_for(plain, config=one), yaml.CSafeLoader))
    (steps,) = [
        component["dag"]["tasks"]
        for component in spec["components"].values()
        if "train" in component.get("dag", {}).get("tasks", {})
    ]
    given = steps["train"]["inputs"]["parameters"]
    channel = "pipelinechannel--generate-prior-Output"
    assert given["priors"] == {
        "runtimeValue": {"constant": [f"{{{{$.inputs.parameters['{channel}']}}}}"]}
    }
    assert given[channel]["taskOutputParameter"]["producerTask"] == "generate-prior"
