"""The environment, read here and nowhere else: endpoints, credentials, folders."""

from functools import lru_cache
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from boothline.logs import LogFormat

SECRETS_DIR = Path("/var/run/secrets/boothline")


class Settings(BaseSettings):
    """Where this process finds its services; each field is `BOOTHLINE_<NAME>` in the environment.

    Secrets may also be files named `boothline_<name>` under /var/run/secrets/boothline.
    """

    model_config = SettingsConfigDict(
        env_prefix="BOOTHLINE_",
        frozen=True,
        extra="ignore",
        secrets_dir=SECRETS_DIR if SECRETS_DIR.is_dir() else None,
    )

    home: Path = Field(
        default=Path(".boothline"), description="Local state: services, runs, caches."
    )
    s3_endpoint: str = Field(default="", description="S3 endpoint URL, e.g. http://127.0.0.1:8333.")
    s3_region: str = Field(default="us-east-1", description="S3 region.")
    s3_access_key: str = Field(default="", description="S3 access key id.")
    s3_secret_key: SecretStr = Field(default=SecretStr(""), description="S3 secret key.")
    s3_session_token: SecretStr = Field(default=SecretStr(""), description="S3 session token.")
    s3_ca_bundle: Path | None = Field(default=None, description="CA bundle for the S3 endpoint.")
    bucket: str = Field(default="boothline", description="Bucket that holds everything.")
    prefix: str = Field(default="", description="Key prefix inside the bucket.")
    mlflow_uri: str = Field(default="", description="MLflow tracking URI; empty: no tracking.")
    run_dir: Path | None = Field(
        default=None, description="Local run folder that receives progress events, if any."
    )
    log_format: LogFormat = Field(
        default="text",
        description="How steps, ranks and servers log: text, or json, one object a line.",
    )
    run_id: str = Field(
        default="",
        description="Set by a step for the processes that it starts: the run that they work for.",
    )
    warm: str = Field(
        default="",
        description="Set by a local run: the process that forks its steps, see boothline/warm.",
    )
    models_dir: Path = Field(
        default=Path(__file__).resolve().parent / "models",
        description="Folder of the built-in models.",
    )
    signing_key: Path | None = Field(
        default=None,
        description="Elliptic-curve private key (PEM) that published models are signed with; "
        "needs the extra signing.",
    )
    signing_key_password: SecretStr = Field(
        default=SecretStr(""), description="Password of the signing key, if it has one."
    )
    verification_key: Path | None = Field(
        default=None,
        description="Public key (PEM); when set, inference loads only models signed with its "
        "private half.",
    )
    num_processes: int | None = Field(
        default=None, ge=1, description="Overrides training.num_processes on this machine."
    )
    train_gpus: int | None = Field(
        default=None,
        ge=0,
        description="GPUs of the pod that trains, as boothline compile says it to the step before, "
        "which then reuses the rest of a run that stands; empty: those of this machine.",
    )

    rank_warning_seconds: float = Field(
        default=60.0,
        gt=0,
        description="A rank of a training that gives no sign of life for so long is named.",
    )
    rank_limit_seconds: float = Field(
        default=600.0,
        gt=0,
        description="A rank that gives no sign of life for so long is killed; the training ends "
        "and can be resumed.",
    )

    state_every_seconds: float = Field(
        default=300.0,
        ge=0,
        description="A training state is committed when the last one is this old, in addition to "
        "checkpoints.every_steps, so that a lost node costs no more; 0: by steps alone.",
    )

    notify_webhook_url: SecretStr = Field(
        default=SecretStr(""),
        description="Webhook that is notified of how runs end (Slack-compatible); empty: none.",
    )
    actor: str = Field(
        default="",
        description="Who runs, promotes and rolls back, for MLflow and the ledger; empty: the user "
        "of the machine where the command line is.",
    )

    job_id: str = Field(
        default="",
        description="Id of this run in Kubeflow Pipelines, which takes the place of @job in a run "
        "id; boothline compile sets it in every pod.",
    )
    train_job: str = Field(
        default="",
        description="Train on several nodes: JSON that boothline compile writes for the train "
        "step; empty: train on this machine.",
    )
    kfp_token: SecretStr = Field(
        default=SecretStr(""), description="Bearer token for the Kubeflow Pipelines API."
    )
    kfp_token_file: Path | None = Field(
        default=None, description="File with that token, read again for every request."
    )

    def variables(self) -> dict[str, str]:
        """Return the environment that gives these settings to a new process, secrets included.

        The warm process is not among them: only what it has forked can reach it.
        """
        values = {
            name: value.get_secret_value() if isinstance(value, SecretStr) else value
            for name, value in self
        }
        return {
            f"BOOTHLINE_{name.upper()}": str(value)
            for name, value in values.items()
            if value not in (None, "") and name != "warm"
        }

    @property
    def blob_cache(self) -> Path:
        """Local folder of verified blobs, shared by all steps on this machine."""
        return self.home / "cache" / "blobs"


class TelemetrySettings(BaseSettings):
    """OpenTelemetry's own variables, as far as Boothline looks at them; its SDK reads the rest.

    They are `OTEL_<NAME>` in the environment. Without an endpoint nothing is sent or loaded.
    """

    model_config = SettingsConfigDict(env_prefix="OTEL_", frozen=True, extra="ignore")

    sdk_disabled: str = ""
    traces_exporter: str = "otlp"
    metrics_exporter: str = "otlp"
    exporter_otlp_endpoint: str = ""
    exporter_otlp_traces_endpoint: str = ""
    exporter_otlp_metrics_endpoint: str = ""
    exporter_otlp_timeout: str = ""
    exporter_otlp_traces_timeout: str = ""
    exporter_otlp_metrics_timeout: str = ""

    @property
    def sends_traces(self) -> bool:
        """Whether spans are sent."""
        endpoint = self.exporter_otlp_traces_endpoint or self.exporter_otlp_endpoint
        return bool(endpoint) and self.traces_exporter != "none" and not self._is_off

    @property
    def sends_metrics(self) -> bool:
        """Whether metrics are sent."""
        endpoint = self.exporter_otlp_metrics_endpoint or self.exporter_otlp_endpoint
        return bool(endpoint) and self.metrics_exporter != "none" and not self._is_off

    def timeout(self, default: float, signal: str) -> float | None:
        """Return the seconds that one export may take; None: as the environment says.

        Args:
            default: where the environment says nothing.
            signal: traces or metrics.
        """
        own = getattr(self, f"exporter_otlp_{signal}_timeout")
        return None if own or self.exporter_otlp_timeout else default

    @property
    def _is_off(self) -> bool:
        return self.sdk_disabled.lower() == "true"


class MlflowSettings(BaseSettings):
    """MLflow's own variables, as far as Boothline looks at them; its client reads the rest."""

    model_config = SettingsConfigDict(env_prefix="MLFLOW_", frozen=True, extra="ignore")

    run_id: str = ""


def injected_run() -> str:
    """Return the MLflow run that whoever started this process has made for it; empty: none."""
    return MlflowSettings().run_id


@lru_cache(maxsize=1)
def current() -> Settings:
    """Return the settings of this process, read once."""
    return Settings()
