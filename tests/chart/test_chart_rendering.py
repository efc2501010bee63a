"""Every value set: valid for Kubernetes, restricted, without credentials, closed by default."""

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import referencing
import yaml
from kubeflow_trainer_api.models import TrainerV1alpha1TrainingRuntime

from boothline.launch.cluster import placing
from boothline.launch.cluster.deployment import Deployment

CHART = Path(__file__).resolve().parents[2] / "charts" / "boothline"
VALUE_SETS = sorted(path.stem for path in (CHART / "ci").glob("*-values.yaml"))
KUBERNETES = ("1.29", "1.35")
TRAINER = "trainer.kubeflow.org/v1alpha1"
POLICY = "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy"
SECRET_NAME = re.compile(r"SECRET|PASSWORD|TOKEN$|_KEY$|BACKEND_STORE_URI")
VERSIONED = re.compile(r".+(:(?!latest$)[\w.-]+|@sha256:[0-9a-f]{64})")
every_value_set = pytest.mark.parametrize("values", VALUE_SETS)


def pods(value: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every pod specification inside an object with its path."""
    if isinstance(value, dict):
        if isinstance(value.get("containers"), list):
            yield path, value
        for key, item in value.items():
            yield from pods(item, f"{path}.{key}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from pods(item, f"{path}[{number}]")


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def of_kind(objects: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {item["metadata"]["name"]: item for item in objects if item["kind"] == kind}


@lru_cache
def validator(version: str, name: str) -> Any:
    """Return the strict validator of a kind, or None; kubernetes-validate's would be read anew."""
    schemas = Path(str(kubernetes_validate.__file__)).parent / "kubernetes-json-schema"
    folder = schemas / f"v{version}.0-local-strict"
    folder = folder if folder.is_dir() else next(schemas.glob(f"v{version}*-local-strict"))
    path = folder / f"{name}.json"
    if not path.exists():
        return None
    definitions = referencing.Resource.from_contents(definitions_of(folder))
    schema = json.loads(path.read_text())
    registry = definitions @ (referencing.Resource.from_contents(schema) @ referencing.Registry())
    return jsonschema.Draft202012Validator(schema, registry=registry)


@lru_cache
def definitions_of(folder: Path) -> Any:
    return json.loads((folder / "_definitions.json").read_text())


@pytest.mark.proves("F37/rendered")
@pytest.mark.parametrize("version", KUBERNETES)
@every_value_set
def test_objects_are_valid_for_kubernetes(rendered: Any, values: str, version: str) -> None:
    unknown = set()
    for item in rendered(values):
        group, _, number = item["apiVersion"].rpartition("/")
        name = "-".join(filter(None, (item["kind"].lower(), group.partition(".")[0], number)))
        check = validator(version, name)
        if check is None:
            unknown.add(item["kind"])
        else:
            check.validate(item)
    assert unknown <= {"TrainingRuntime", "PrometheusRule", "ServiceMonitor"}


@pytest.mark.proves("F37/rendered")
@every_value_set
def test_pods_meet_the_restricted_standard(rendered: Any, values: str) -> None:
    found = 0
    for item in rendered(values):
        for path, pod in pods(item):
            found += 1
            where = f"{item['kind']}/{item['metadata']['name']}{path}"
            assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys(), where
            assert pod["securityContext"]["runAsNonRoot"] is True, where
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, where
            kinds = {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
            assert kinds <= {"configMap", "emptyDir", "projected", "persistentVolumeClaim"}, where
            assert pod["automountServiceAccountToken"] is False, where
            for volume in pod["volumes"]:
                assert volume.get("emptyDir", {"sizeLimit": 1}).get("sizeLimit"), where
            for container in containers(pod):
                security = container["securityContext"]
                assert security["allowPrivilegeEscalation"] is False, where
                assert security["runAsNonRoot"] is True, where
                assert security["runAsUser"] > 0, where
                assert security["readOnlyRootFilesystem"] is True, where
                assert security["capabilities"] == {"drop": ["ALL"]}, where
                assert not any("hostPort" in port for port in container.get("ports", [])), where
                assert {"cpu", "memory"} <= container["resources"]["limits"].keys(), where
    assert found >= 1


@every_value_set
def test_no_credential_is_in_an_object(rendered: Any, values: str) -> None:
    objects = rendered(values)
    assert not of_kind(objects, "Secret")
    for item in objects:
        for _, pod in pods(item):
            for container in containers(pod):
                for variable in container.get("env", []):
                    if SECRET_NAME.search(variable["name"]) and "value" in variable:
                        is_place = variable["value"].startswith(("sqlite:////", "/etc/boothline/"))
                        assert is_place, variable
        for key in item.get("data", {}):
            assert not SECRET_NAME.search(key)


@every_value_set
def test_images_have_a_version(rendered: Any, values: str) -> None:
    for item in rendered(values):
        for _, pod in pods(item):
            for container in containers(pod):
                assert VERSIONED.fullmatch(container["image"]), container["image"]


@every_value_set
def test_pods_bear_the_labels_that_the_policies_select(rendered: Any, values: str) -> None:
    for item in rendered(values):
        for path, _ in pods(item):
            owner: Any = item
            for part in re.findall(r"\w+", path)[:-1]:
                owner = owner[int(part) if part.isdigit() else part]
            labels = owner["metadata"]["labels"]
            assert labels["app.kubernetes.io/part-of"] == "boothline"
            assert labels["app.kubernetes.io/component"] in {
                *("hook", "step", "trainer", "object-store", "tracking", "serve")
            }


@every_value_set
def test_roles_ask_for_nothing_broad(rendered: Any, values: str) -> None:
    for item in rendered(values):
        for rule in item.get("rules", []):
            assert "*" not in {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
            assert "secrets" not in rule["resources"]
            if item["kind"] == "ClusterRole":
                assert set(rule["verbs"]) <= {"get", "list"}


@every_value_set
def test_deployment_settings_are_what_the_command_line_reads(rendered: Any, values: str) -> None:
    maps = of_kind(rendered(values), "ConfigMap")
    text = next(
        item["data"]["deployment.yaml"]
        for item in maps.values()
        if "deployment.yaml" in item["data"]
    )
    deployment = Deployment.from_text(text, source=values)
    assert deployment.settings.s3_endpoint.startswith("http")
    variables = {name for secret in deployment.secrets for name in secret.environment.values()}
    assert variables >= {"BOOTHLINE_S3_ACCESS_KEY", "BOOTHLINE_S3_SECRET_KEY"}


@pytest.mark.parametrize("values", sorted(set(VALUE_SETS) - {"single-user-values"}))
def test_everything_is_denied_that_is_not_listed(rendered: Any, values: str) -> None:
    policies = of_kind(rendered(values), "NetworkPolicy")
    deny = policies["rel-boothline-deny-all"]["spec"]
    assert deny["policyTypes"] == ["Ingress", "Egress"]
    assert not {"ingress", "egress"} & deny.keys()
    for name, policy in policies.items():
        for rule in policy["spec"].get("egress", []):
            assert rule["to"], name
        for rule in policy["spec"].get("ingress", []):
            assert rule["from"], name
            assert all(peer for peer in rule["from"]), name
        peers = json.dumps(policy["spec"])
        assert "0.0.0.0/0" not in peers
        assert "::/0" not in peers


def test_bundled_store_is_reached_on_s3_alone(rendered: Any) -> None:
    objects = rendered("bundled-values")
    policy = of_kind(objects, "NetworkPolicy")["rel-boothline-s3"]["spec"]
    assert [rule["ports"] for rule in policy["ingress"]] == [[{"protocol": "TCP", "port": 8333}]]
    service = of_kind(objects, "Service")["rel-boothline-s3"]["spec"]
    assert [port["port"] for port in service["ports"]] == [8333]
    command = next(pods(of_kind(objects, "StatefulSet")["rel-boothline-s3"]))[1]["containers"][0]
    assert "-ip.bind=127.0.0.1" in command["command"]
    assert "-filer.disableHttp" in command["command"]
    assert "-s3.config=/identities/s3.json" in command["command"]


def test_policies_allow_the_ports_on_which_kubeflows_pods_listen(rendered: Any) -> None:
    policies = of_kind(rendered("bundled-values"), "NetworkPolicy")
    (rule,) = policies["rel-boothline-pipelines"]["spec"]["egress"][:1]
    # Service seaweedfs:9000 of Kubeflow Pipelines 2.17 leads to port 8333 of its pod.
    assert {8887, 8888, 8080, 8333} <= {port["port"] for port in rule["ports"]}


def test_dns_outside_the_namespace_of_the_cluster_is_allowed_where_it_is_named(helm: Any) -> None:
    result = helm(
        *("template", "rel", str(CHART), "-n", "ml", "-f", str(CHART / "ci/bundled-values.yaml")),
        *("--set", "networkPolicy.dnsCidrs={169.254.20.10/32}"),
        *("--set", "networkPolicy.dnsPorts={53,5353}"),
        *("--show-only", "templates/networkpolicies.yaml"),
    )
    assert result.returncode == 0, result.stderr
    policies = of_kind(list(yaml.safe_load_all(result.stdout)), "NetworkPolicy")
    (rule,) = policies["rel-boothline-dns"]["spec"]["egress"]
    assert {"ipBlock": {"cidr": "169.254.20.10/32"}} in rule["to"]
    assert {(port["protocol"], port["port"]) for port in rule["ports"]} == {
        *(("UDP", 53), ("TCP", 53), ("UDP", 5353), ("TCP", 5353))
    }


def test_helm_test_makes_the_connections_of_a_step_from_a_pod_like_a_steps(rendered: Any) -> None:
    pod = of_kind(rendered("bundled-values"), "Pod")["rel-boothline-doctor"]
    for label, value in placing.SECURITY_LABELS.items():
        assert pod["metadata"]["labels"][label] == value
    command = pod["spec"]["containers"][0]["command"]
    assert command[:3] == ["boothline", "doctor", "--pod"]
    assert "--connect=seaweedfs.kubeflow.svc:9000" in command
    assert "--connect=metadata-grpc-service.kubeflow.svc:8080" in command


def test_bundled_mlflow_is_hardened(rendered: Any) -> None:
    deployment = of_kind(rendered("production-values"), "Deployment")["rel-boothline-mlflow"]
    container = next(pods(deployment))[1]["containers"][0]
    environment = {item["name"]: item.get("value") for item in container["env"]}
    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert environment["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    assert "--app-name=basic-auth" in container["command"]
    hosts = next(part for part in container["command"] if part.startswith("--allowed-hosts="))
    assert "rel-boothline-mlflow.ml.svc.cluster.local:5000" in hosts
    assert "*" not in hosts


def test_training_runtime_agrees_with_the_trainers_models(rendered: Any) -> None:
    runtime = of_kind(rendered("production-values"), "TrainingRuntime")["rel-boothline-ddp"]
    model = TrainerV1alpha1TrainingRuntime.from_dict(runtime)
    assert model is not None
    assert model.to_dict()["spec"]["mlPolicy"] == {"numNodes": 2, "torch": {}}
    job = runtime["spec"]["template"]["spec"]["replicatedJobs"][0]
    assert job["name"] == "node"
    labels = job["template"]["metadata"]["labels"]
    assert labels == {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}
    pod = job["template"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["name"] == "node"
    assert pod["terminationGracePeriodSeconds"] > 28


def limits_of_a_node(helm: Any, *options: str) -> dict[str, Any]:
    result = helm(
        *("template", "rel", str(CHART), "-n", "ml", "-f", str(CHART / "ci/bundled-values.yaml")),
        *("--api-versions", TRAINER, "--show-only", "templates/trainingruntime.yaml", *options),
    )
    assert result.returncode == 0, result.stderr
    runtime = yaml.safe_load(result.stdout)
    spec = runtime["spec"]["template"]["spec"]
    assert spec["failurePolicy"] == {"maxRestarts": 3}
    (container,) = spec["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"]
    limits: dict[str, Any] = container["resources"]["limits"]
    return limits


@pytest.mark.parametrize(
    ("options", "gpus"),
    [
        ((), "1"),
        (("--set", "trainer.processesPerNode=4"), "4"),
        (("--set", "trainer.gpusPerNode=2"), "2"),
        (("--set", "trainer.gpusPerNode=0"), None),
    ],
)
def test_nodes_have_a_gpu_for_each_rank_unless_told_otherwise(
    helm: Any, options: tuple[str, ...], gpus: str | None
) -> None:
    assert limits_of_a_node(helm, *options).get("nvidia.com/gpu") == gpus


def test_gpus_have_the_name_of_their_resource(helm: Any) -> None:
    limits = limits_of_a_node(helm, "--set", "trainer.gpuResource=amd.com/gpu")
    assert limits == {"cpu": "8", "memory": "32Gi", "amd.com/gpu": "1"}


def test_chart_without_trainer_installs_and_refuses_several_nodes(helm: Any) -> None:
    asked = ("template", "rel", str(CHART), "-n", "ml", "-f", str(CHART / "ci/bundled-values.yaml"))
    result = helm(*asked)
    assert result.returncode == 0, result.stderr
    assert "TrainingRuntime" not in {
        item["kind"] for item in yaml.safe_load_all(result.stdout) if item
    }
    result = helm(*asked, "--set", "trainer.numNodes=2")
    assert result.returncode != 0
    assert "needs Kubeflow Trainer" in result.stderr


def test_single_user_release_in_another_namespace_is_refused(helm: Any, rendered: Any) -> None:
    path = CHART / "ci" / "single-user-values.yaml"
    result = helm("template", "rel", str(CHART), "-n", "imaging", "-f", str(path))
    assert result.returncode != 0
    assert "install the chart in kubeflow" in result.stderr
    maps = of_kind(rendered("single-user-values"), "ConfigMap")
    text = maps["booth-deployment"]["data"]["deployment.yaml"]
    kfp = Deployment.from_text(text, source="single-user").kfp
    assert (kfp.namespace, kfp.multi_user, kfp.owner) == ("kubeflow", False, None)


def test_production_set_uses_digests_queue_and_schedule(rendered: Any) -> None:
    objects = rendered("production-values")
    register = of_kind(objects, "Job")["rel-boothline-retraining-register"]
    container = next(pods(register))[1]["containers"][0]
    assert container["image"].startswith("registry.example.org/boothline/tools@sha256:1")
    assert "--cron=0 0 2 * * *" in container["command"]
    assert of_kind(objects, "ResourceQuota")
    settings = of_kind(objects, "ConfigMap")["rel-boothline-deployment"]["data"]["deployment.yaml"]
    trainer = Deployment.from_text(settings, source="production").trainer
    assert trainer is not None
    assert (trainer.num_nodes, trainer.processes_per_node, trainer.queue) == (2, 4, "imaging")


def test_administrators_accounts_are_used_where_the_chart_makes_none(rendered: Any) -> None:
    objects = rendered("locked-down-values")
    assert not of_kind(objects, "ServiceAccount")
    assert not {"Role", "RoleBinding", "ClusterRole"} & {item["kind"] for item in objects}
    names = {pod["serviceAccountName"] for item in objects for _, pod in pods(item)}
    assert names == {"ranks", "servers"}


@pytest.mark.parametrize(("served", "version"), [((), "1.35"), ((POLICY,), "1.36")])
def test_steps_get_a_read_only_root_where_it_is_asked_for(
    helm: Any, rendered: Any, served: tuple[str, ...], version: str
) -> None:
    assert not of_kind(rendered("bundled-values"), "MutatingAdmissionPolicy")
    result = helm(
        *("template", "rel", str(CHART), "-n", "ml", "-f", str(CHART / "ci/bundled-values.yaml")),
        *("--set", "pipelines.readOnlySteps=true", "--show-only", "templates/admission.yaml"),
        *(part for kind in served for part in ("--api-versions", kind)),
    )
    assert result.returncode == 0, result.stderr
    policy, binding = yaml.safe_load_all(result.stdout)
    for item in (policy, binding):
        number = item["apiVersion"].rpartition("/")[2]
        assert number == ("v1" if served else "v1beta1")
        name = f"{item['kind'].lower()}-admissionregistration-{number}"
        validator(version, name).validate(item)
    assert binding["spec"]["policyName"] == policy["metadata"]["name"]
    assert "readOnlyRootFilesystem: true" in json.dumps(policy["spec"]["mutations"])
    labels = policy["spec"]["matchConstraints"]["objectSelector"]["matchLabels"]
    assert labels == placing.SECURITY_LABELS
    # The pod of `helm test` has those labels and no container of that name: merged in, one without
    # an image would make the API server refuse the pod.
    (condition,) = policy["spec"]["matchConditions"]
    assert 'container.name == "main"' in condition["expression"]
