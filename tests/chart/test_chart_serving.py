"""The served model in the chart: its keys, its rights, how it scales; and the same with KServe."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from boothline.launch.cluster.deployment import Deployment, SigningKey, VerificationKey

CHART = Path(__file__).resolve().parents[2] / "charts" / "boothline"
SET = "serving-values"
NAME = "rel-boothline-serve"


def only(objects: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = [
        item for item in objects if item["kind"] == kind and item["metadata"]["name"] == NAME
    ]
    return found


def template(helm: Any, *options: str) -> list[dict[str, Any]]:
    path = CHART / "ci" / f"{SET}.yaml"
    result = helm("template", "rel", str(CHART), "-n", "ml", "-f", str(path), *options)
    assert result.returncode == 0, result.stderr
    return [item for item in yaml.safe_load_all(result.stdout) if item]


def selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return bool(selector) and selector.items() <= labels.items()


@pytest.mark.proves("F53/chart")
def test_server_reads_with_the_readers_key_and_verifies(rendered: Any) -> None:
    pod = only(rendered(SET), "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"] == [
        *("boothline", "--verbose", "serve", "boothline-teddy-bear@champion"),
        *("--host=0.0.0.0", "--port=8080", "--queue=16", "--precision=fp32"),
    ]
    environment = {item["name"]: item for item in container["env"]}
    for name in ("BOOTHLINE_S3_ACCESS_KEY", "BOOTHLINE_S3_SECRET_KEY"):
        assert environment[name]["valueFrom"]["secretKeyRef"]["name"] == "s3-reader"
    assert "s3-pipeline" not in json.dumps(pod)
    key = Path(environment["BOOTHLINE_VERIFICATION_KEY"]["value"])
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    (volume,) = [each for each in pod["volumes"] if each["name"] == mounts[str(key.parent)]]
    assert volume["configMap"]["name"] == "model-verification"
    assert volume["configMap"]["items"] == [{"key": "verification.pem", "path": key.name}]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["startupProbe"]["failureThreshold"] * 5 == 1800


@pytest.mark.proves("F48/chart")
def test_private_key_is_named_for_the_steps_alone_and_the_public_one_for_all_that_loads(
    helm: Any, rendered: Any
) -> None:
    objects = rendered(SET)
    maps = {item["metadata"]["name"]: item for item in objects if item["kind"] == "ConfigMap"}
    text = maps["rel-boothline-deployment"]["data"]["deployment.yaml"]
    deployment = Deployment.from_text(text, source=SET)
    assert deployment.signing == SigningKey(secret="model-signing", password_key="password")
    assert deployment.verification == VerificationKey(config_map="model-verification")
    pods = [item for item in objects if item["kind"] not in ("ConfigMap", "NetworkPolicy")]
    assert "model-signing" not in json.dumps(pods)  # no pod of the chart's own publishes
    closed = template(
        helm, *("--set", "signing.public.existingConfigMap=,signing.private.existingSecret=")
    )
    assert "VERIFICATION_KEY" not in json.dumps(only(closed, "Deployment"))
    assert "signing" not in json.dumps(closed)


@pytest.mark.proves("F53/chart")
def test_service_budget_and_autoscaler_mean_the_pods_of_the_server(rendered: Any) -> None:
    objects = rendered(SET)
    deployment = only(objects, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    service, budget = only(objects, "Service"), only(objects, "PodDisruptionBudget")
    assert selects(service["spec"]["selector"], labels)
    assert selects(budget["spec"]["selector"]["matchLabels"], labels)
    assert budget["spec"]["maxUnavailable"] == 1
    scaler = only(objects, "HorizontalPodAutoscaler")["spec"]
    assert scaler["scaleTargetRef"]["name"] == NAME
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (1, 8)
    assert "replicas" not in deployment["spec"]  # it would undo what the autoscaler chose
    others = [
        item for item in objects
        if item["kind"] == "Service" and item["metadata"]["name"] != NAME
    ]  # fmt: skip
    assert not any(selects(item["spec"]["selector"], labels) for item in others)


@pytest.mark.proves("F53/chart")
def test_kserve_takes_the_place_of_deployment_service_and_autoscaler(
    helm: Any, rendered: Any
) -> None:
    objects = template(helm, "--set", "serve.kserve.enabled=true")
    service = only(objects, "InferenceService")
    assert service["apiVersion"] == "serving.kserve.io/v1beta1"
    kinds = {item["kind"] for item in objects if item["metadata"]["name"] == NAME}
    assert kinds == {"InferenceService", "PodDisruptionBudget", "NetworkPolicy"}
    predictor = service["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (1, 8)
    own = only(rendered(SET), "Deployment")["spec"]["template"]
    assert predictor["labels"] == own["metadata"]["labels"]
    (container,) = predictor["containers"]
    assert container.pop("name") == "kserve-container"
    (plain,) = own["spec"]["containers"]
    assert container == {key: value for key, value in plain.items() if key != "name"}
    for name in ("volumes", "securityContext", "serviceAccountName"):
        assert predictor[name] == own["spec"][name]


def test_nothing_is_served_or_watched_unless_it_is_asked_for(rendered: Any) -> None:
    kinds = {item["kind"] for item in rendered("bundled-values")}
    assert not kinds & {
        *("HorizontalPodAutoscaler", "PodDisruptionBudget", "ServiceMonitor", "PrometheusRule")
    }
    names = {item["metadata"]["name"] for item in rendered("bundled-values")}
    assert not names & {NAME, "rel-boothline-dashboard"}


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("serve.model=", "Set serve.model"),
        ("s3.roles.reader.existingSecret=", "Set s3.roles.reader.existingSecret"),
        ("monitoring.otlp.to=null", "Set monitoring.otlp.to"),
        ("serve.alias=newest", "does not match pattern"),
        ("monitoring.logFormat=xml", "value must be one of"),
    ],
)
def test_what_is_missing_or_wrong_is_named(helm: Any, setting: str, complaint: str) -> None:
    path = CHART / "ci" / f"{SET}.yaml"
    result = helm("template", "rel", str(CHART), "-f", str(path), "--set", setting)
    assert result.returncode != 0
    assert complaint in result.stderr


@pytest.mark.proves("F62/dashboard")
def test_dashboard_and_alerts_are_those_of_the_files(rendered: Any) -> None:
    objects = {(item["kind"], item["metadata"]["name"]): item for item in rendered(SET)}
    shown = objects["ConfigMap", "rel-boothline-dashboard"]
    assert shown["metadata"]["labels"]["grafana_dashboard"] == "1"
    text = (CHART / "files" / "dashboard.json").read_text()
    assert json.loads(shown["data"]["boothline.json"]) == json.loads(text)
    rule = objects["PrometheusRule", "rel-boothline"]
    assert rule["spec"] == yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    monitor = objects["ServiceMonitor", NAME]["spec"]
    service = objects["Service", NAME]
    assert selects(monitor["selector"]["matchLabels"], service["metadata"]["labels"])
    assert monitor["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]


def test_steps_ranks_and_servers_log_and_send_as_one_setting_says(rendered: Any) -> None:
    wanted = {
        "BOOTHLINE_LOG_FORMAT": "json",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector.monitoring:4318",
    }
    maps = {item["metadata"]["name"]: item for item in rendered(SET) if item["kind"] == "ConfigMap"}
    assert maps["rel-boothline-settings"]["data"].items() >= wanted.items()
    text = maps["rel-boothline-deployment"]["data"]["deployment.yaml"]
    deployment = Deployment.from_text(text, source=SET)
    assert deployment.placement("train").environment == wanted


def test_server_is_reached_by_those_that_are_named_and_reaches_the_store(rendered: Any) -> None:
    policies = {
        item["metadata"]["name"]: item["spec"]
        for item in rendered(SET)
        if item["kind"] == "NetworkPolicy"
    }
    (rule,) = policies[NAME]["ingress"]
    peers = [each["namespaceSelector"]["matchLabels"] for each in rule["from"]]
    assert [peer["kubernetes.io/metadata.name"] for peer in peers] == ["ingress", "monitoring"]
    assert rule["ports"] == [{"protocol": "TCP", "port": 8080}]
    (who,) = policies["rel-boothline-clients"]["podSelector"]["matchExpressions"]
    assert "serve" in who["values"]
    assert policies["rel-boothline-otlp"]["egress"][0]["ports"][0]["port"] == 4318
