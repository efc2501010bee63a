"""`Deployment`: where a cluster's services are and what each step's pod gets, as one YAML file."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from boothline.config.section import Section
from boothline.errors import ConfigError
from boothline.trainjob.settings import NAME, TrainJobSettings

QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"
IMAGE = r"^[a-z0-9][\w./:-]*(@sha256:[0-9a-f]{64})?$"
_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
_SECRET = re.compile(r"(SECRET|PASSWORD|TOKEN|CREDENTIAL|ACCESS_KEY|API_KEY)", re.IGNORECASE)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
REFERENCE = "docs/kubernetes.md explains the file."


class Kfp(Section):
    """The Kubeflow Pipelines API."""

    host: str = Field(pattern=r"^https?://.+$", description="URL of the API.")
    namespace: str = Field(default="", description="Namespace of the runs' pods.")
    multi_user: bool = Field(
        default=True,
        description="Whether runs belong to a namespace in the API, as in multi-user Kubeflow; a "
        "single-user one knows only its own, in which the pods of all runs are.",
    )
    experiment: str = Field(default="boothline", min_length=1, description="Experiment.")
    service_account: str = Field(default="", description="Service account of the pods.")
    pipeline_root: str = Field(default="", description="Where KFP keeps small artifacts.")
    auth: Literal["none", "token", "service-account"] = Field(
        default="none",
        description="none; token: BOOTHLINE_KFP_TOKEN or _TOKEN_FILE; service-account: the token "
        "that the cluster mounts into this pod.",
    )
    ca_bundle: Path | None = Field(default=None, description="CA bundle of the API, here.")

    @property
    def owner(self) -> str | None:
        """Namespace that runs belong to in the API; None where it knows only its own."""
        return (self.namespace or None) if self.multi_user else None


class Images(Section):
    """The images of the steps."""

    tools: str = Field(pattern=IMAGE, description="Image without torch.")
    torch: str = Field(pattern=IMAGE, description="Image with torch.")
    require_digests: bool = Field(default=False, description="Refuse images named by a tag.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("tools", "torch"):
            if self.require_digests and not _DIGEST.search(getattr(self, name)):
                raise ValueError(f"images.{name} has no digest; write NAME@sha256:...")
        return self


class ServiceSettings(Section):
    """Settings of the steps that are not secret; each becomes BOOTHLINE_<NAME>."""

    s3_endpoint: str = Field(pattern=r"^https?://[^/]+$", description="S3 endpoint.")
    s3_region: str = Field(default="us-east-1", description="S3 region.")
    bucket: str = Field(default="boothline", description="Bucket.")
    prefix: str = Field(default="", description="Key prefix inside the bucket.")
    mlflow_uri: str = Field(default="", description="MLflow; empty: no tracking.")


class SecretEnvironment(Section):
    """Keys of a Secret as environment variables of every step."""

    name: str = Field(pattern=NAME, description="Name of the Secret.")
    environment: dict[str, str] = Field(min_length=1, description="Key to variable.")


class CaBundle(Section):
    """CA of the object store, in a ConfigMap."""

    config_map: str = Field(pattern=NAME, description="Name of the ConfigMap.")
    key: str = Field(default="ca.crt", description="Key of the PEM bundle.")


class SigningKey(Section):
    """The private key that published models are signed with, in a Secret."""

    secret: str = Field(pattern=NAME, description="Name of the Secret.")
    key: str = Field(default="signing.pem", min_length=1, description="Key of the PEM file.")
    password_key: str = Field(default="", description="Key of its password; empty: it has none.")


class VerificationKey(Section):
    """The public key that models have to be signed for, in a ConfigMap."""

    config_map: str = Field(pattern=NAME, description="Name of the ConfigMap.")
    key: str = Field(default="verification.pem", min_length=1, description="Key of the PEM file.")


class Gpu(Section):
    """Accelerators of a step."""

    count: int = Field(ge=1, le=64, description="How many.")
    resource: str = Field(default="nvidia.com/gpu", description="Name of the resource.")


class Toleration(Section):
    """A taint that a pod may live with."""

    key: str = ""
    operator: Literal["Equal", "Exists"] = "Exists"
    value: str = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""


class Placement(Section):
    """What the pod of a step gets; what is not given comes from `defaults`."""

    cpu: str = Field(default="500m", pattern=QUANTITY, description="Requested CPUs.")
    cpu_limit: str = Field(default="2", pattern=QUANTITY, description="Most CPUs.")
    memory: str = Field(default="1Gi", pattern=QUANTITY, description="Requested memory.")
    memory_limit: str = Field(default="4Gi", pattern=QUANTITY, description="Most memory.")
    gpu: Gpu | None = Field(default=None, description="Accelerators.")
    node_selector: dict[str, str] = Field(default_factory=dict, description="Labels of nodes.")
    tolerations: tuple[Toleration, ...] = Field(default=(), description="Tolerated taints.")
    scratch: str = Field(default="20Gi", pattern=QUANTITY, description="Size of /scratch.")
    shared_memory: str = Field(default="", description="Size of /dev/shm; empty: the default.")
    timeout_seconds: int = Field(default=86400, ge=60, description="Deadline of the pod.")
    retries: int = Field(default=2, ge=0, le=10, description="Further tries of a failed pod.")
    environment: dict[str, str] = Field(default_factory=dict, description="Further variables.")

    @field_validator("environment")
    @classmethod
    def _no_secret(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if not _VARIABLE.fullmatch(name):
                raise ValueError(f"{name!r} is not the name of a variable")
            if _SECRET.search(name):
                raise ValueError(f"{name} looks like a secret; name a Secret under `secrets`")
        return value


class Deployment(Section):
    """A cluster's services, images and what each step's pod gets."""

    kfp: Kfp
    images: Images
    settings: ServiceSettings
    secrets: tuple[SecretEnvironment, ...] = Field(default=(), description="Secrets of all steps.")
    ca_bundle: CaBundle | None = Field(default=None, description="CA of the object store.")
    signing: SigningKey | None = Field(
        default=None, description="Sign published models; only steps that publish get the key."
    )
    verification: VerificationKey | None = Field(
        default=None, description="Load signed models only; without it no signature is asked for."
    )
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = Field(default=(), description="Secrets to pull with.")
    run_as_user: int = Field(default=10001, ge=1, description="User of the containers.")
    labels: dict[str, str] = Field(default_factory=dict, description="Labels of the pods.")
    queue: str = Field(default="", description="Kueue queue of the pods; empty: none.")
    priority_class: str = Field(default="", description="Kueue workload priority class.")
    defaults: dict[str, object] = Field(default_factory=dict, description="Placement of all steps.")
    steps: dict[str, dict[str, object]] = Field(
        default_factory=dict, description="Placement by step, over the defaults."
    )
    trainer: TrainJobSettings | None = Field(
        default=None, description="Train as a TrainJob; without it, in the train step's pod."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        Placement.model_validate(self.defaults)
        for step in self.steps:
            self.placement(step)
        return self

    def placement(self, step: str) -> Placement:
        """Return what the pod of a step gets."""
        return Placement.model_validate({**self.defaults, **self.steps.get(step, {})})

    @classmethod
    def from_text(cls, text: str, *, source: str) -> Self:
        """Read a deployment file's text.

        Args:
            text: YAML.
            source: how errors call it.

        Raises:
            ConfigError: it is not YAML or a setting is wrong; all wrong settings are named.
        """
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"{source} is not YAML: {error}.", remedy=REFERENCE) from error
        if not isinstance(value, Mapping):
            raise ConfigError(f"{source} holds no settings.", remedy=REFERENCE)
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            problems = [
                f"{'.'.join(map(str, item['loc'])) or 'steps'}: {item['msg']}"
                for item in error.errors()
            ]
            raise ConfigError(f"{source}: {'; '.join(problems)}.", remedy=REFERENCE) from error

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a deployment file.

        Raises:
            ConfigError: it does not exist or is wrong.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise ConfigError(
                f"The deployment file {path} does not exist.",
                remedy="The chart makes one: see its notes, or docs/kubernetes.md.",
            ) from error
        return cls.from_text(text, source=str(path))
