"""The Kubeflow Pipelines API: what is asked of it, and its errors as ours."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from boothline.connecting import Service, careful_retries, excerpt, http_errors, tls_error
from boothline.errors import BoothlineError, ConfigError, NotFoundError, ServiceError
from boothline.launch.cluster.deployment import Kfp
from boothline.settings import Settings

if TYPE_CHECKING:
    from kfp_server_api import Configuration, V2beta1RecurringRun, V2beta1Run

logger = logging.getLogger(__name__)

SUCCEEDED, FAILED, CANCELED = "SUCCEEDED", "FAILED", "CANCELED"
FINAL = frozenset({SUCCEEDED, FAILED, CANCELED, "SKIPPED"})
IN_CLUSTER_TOKEN = Path("/var/run/secrets/kubeflow/pipelines/token")
RUN_LABEL = "Boothline run "
TIMEOUT_SECONDS = (5, 30)


class PipelinesApi:
    """Runs and recurring runs of one deployment.

    The SDK's own client is not used: it prints, asks the API when it is made, and its waiter never
    sees a cancelled run.

    Args:
        kfp: where the API is.
        settings: the token, if one is needed.
    """

    def __init__(self, kfp: Kfp, *, settings: Settings) -> None:
        import kfp_server_api as api

        configuration = api.Configuration(host=kfp.host.rstrip("/"))
        configuration.retries = careful_retries(3)
        if kfp.ca_bundle:
            configuration.ssl_ca_cert = str(kfp.ca_bundle)
        token = _token_source(kfp, settings)
        if token is not None:
            configuration.api_key_prefix["authorization"] = "Bearer"
            configuration.api_key["authorization"] = "unread"
            configuration.refresh_api_key_hook = token
        client = api.ApiClient(configuration)
        self.kfp = kfp
        self._service = Service(
            name="the Kubeflow Pipelines API",
            url=kfp.host,
            url_setting="kfp.host in the deployment file",
            trust_setting="kfp.ca_bundle in the deployment file",
        )
        self._api = api
        self.client = client
        self._versions: dict[str, object] = {}
        self._runs = api.RunServiceApi(client)
        self._recurring = api.RecurringRunServiceApi(client)
        self._experiments = api.ExperimentServiceApi(client)

    def experiment_id(self) -> str:
        """Return the id of the deployment's experiment, made if it is missing.

        Raises:
            ServiceError: the API is away or refuses.
        """
        if existing := self._existing_experiment():
            return existing
        with self.translated("make the experiment"):
            body = self._api.V2beta1Experiment(
                display_name=self.kfp.experiment, namespace=self.kfp.owner
            )
            made = self._experiments.experiment_service_create_experiment(
                body, _request_timeout=TIMEOUT_SECONDS
            )
            return str(made.experiment_id)

    def _existing_experiment(self) -> str | None:
        """Return the id of the deployment's experiment, or None."""
        name = self.kfp.experiment
        with self.translated("read the experiments"):
            answer = self._experiments.experiment_service_list_experiments(
                page_size=100,
                namespace=self.kfp.owner,
                filter=equals("name", name),
                _request_timeout=TIMEOUT_SECONDS,
            )
        named = [item for item in answer.experiments or [] if item.display_name == name]
        return str(named[0].experiment_id) if named else None

    def find_run(self, run_id: str) -> "V2beta1Run | None":
        """Return the newest run of the deployment's experiment that bears our run id, or None.

        Raises:
            ServiceError: the API is away or refuses.
        """
        experiment = self._existing_experiment()
        if experiment is None:
            return None
        with self.translated("look for the run"):
            answer = self._runs.run_service_list_runs(
                namespace=self.kfp.owner,
                experiment_id=experiment,
                page_size=10,
                sort_by="created_at desc",
                filter=equals("name", run_id),
                _request_timeout=TIMEOUT_SECONDS,
            )
        named = [run for run in answer.runs or [] if run.display_name == run_id]
        return named[0] if named else None

    def run_body(
        self, run_id: str, *, pipeline: str, arguments: Mapping[str, object], experiment_id: str
    ) -> "V2beta1Run":
        """Return what starts a run.

        Args:
            run_id: our run id; the run's name.
            pipeline: the compiled pipeline.
            arguments: its arguments.
            experiment_id: where it belongs.
        """
        return self._api.V2beta1Run(
            display_name=run_id,
            description=f"{RUN_LABEL}{run_id}",
            experiment_id=experiment_id,
            **self._what(pipeline, arguments),
        )

    def create_run(self, body: "V2beta1Run") -> "V2beta1Run":
        """Start a run.

        Raises:
            ServiceError: the API is away or refuses.
        """
        with self.translated("start the run"):
            return self._runs.run_service_create_run(body, _request_timeout=TIMEOUT_SECONDS)

    def run(self, kfp_run_id: str) -> "V2beta1Run":
        """Return a run by the API's own id, with what it runs, also if that is a version.

        Raises:
            ServiceError: the API is away or refuses.
        """
        with self.translated("read the run"):
            run = self._runs.run_service_get_run(kfp_run_id, _request_timeout=TIMEOUT_SECONDS)
        if not run.pipeline_spec and (of := run.pipeline_version_reference):
            run.pipeline_spec = self._spec(str(of.pipeline_id), str(of.pipeline_version_id))
        return run

    def _spec(self, pipeline_id: str, version_id: str) -> object:
        """Return what a version runs; versions do not change."""
        if version_id not in self._versions:
            with self.translated("read the pipeline's version"):
                version = self._api.PipelineServiceApi(
                    self.client
                ).pipeline_service_get_pipeline_version(
                    pipeline_id, version_id, _request_timeout=TIMEOUT_SECONDS
                )
            self._versions[version_id] = version.pipeline_spec
        return self._versions[version_id]

    def cancel(self, kfp_run_id: str) -> None:
        """Ask for the end of a run.

        Raises:
            ServiceError: the API is away or refuses.
        """
        with self.translated("cancel the run"):
            self._runs.run_service_terminate_run(kfp_run_id, _request_timeout=TIMEOUT_SECONDS)

    def recurring(self, name: str) -> "list[V2beta1RecurringRun]":
        """Return the recurring runs of a name in the deployment's experiment.

        Raises:
            ServiceError: the API is away or refuses.
        """
        experiment = self._existing_experiment()
        if experiment is None:
            return []
        with self.translated("read the recurring runs"):
            answer = self._recurring.recurring_run_service_list_recurring_runs(
                namespace=self.kfp.owner,
                experiment_id=experiment,
                page_size=100,
                filter=equals("name", name),
                _request_timeout=TIMEOUT_SECONDS,
            )
        return [item for item in answer.recurring_runs or [] if item.display_name == name]

    def recurring_body(
        self,
        name: str,
        *,
        cron: str,
        pipeline: str,
        arguments: Mapping[str, object],
        experiment_id: str,
    ) -> "V2beta1RecurringRun":
        """Return what registers a recurring run: one at a time, and missed times are left out."""
        trigger = self._api.V2beta1Trigger(cron_schedule=self._api.V2beta1CronSchedule(cron=cron))
        return self._api.V2beta1RecurringRun(
            display_name=name,
            description="Registered by boothline schedule",
            experiment_id=experiment_id,
            mode=self._api.RecurringRunMode.ENABLE,
            no_catchup=True,
            max_concurrency="1",
            trigger=trigger,
            **self._what(pipeline, arguments),
        )

    def create_recurring(self, body: "V2beta1RecurringRun") -> str:
        """Register a recurring run and return its id.

        Raises:
            ServiceError: the API is away or refuses.
        """
        with self.translated("register the recurring run"):
            made = self._recurring.recurring_run_service_create_recurring_run(
                body, _request_timeout=TIMEOUT_SECONDS
            )
            return str(made.recurring_run_id)

    def stop_recurring(self, recurring_run_id: str) -> None:
        """Let a recurring run start no more runs; those that it has started continue.

        Raises:
            ServiceError: the API is away or refuses.
        """
        with self.translated("disable the recurring run"):
            self._recurring.recurring_run_service_disable_recurring_run(
                recurring_run_id, _request_timeout=TIMEOUT_SECONDS
            )

    def unfinished(self, recurring_run_id: str) -> "list[V2beta1Run]":
        """Return the runs of a recurring run that have not ended.

        Raises:
            ServiceError: the API is away or refuses.
        """
        found: list[V2beta1Run] = []
        token: str | None = ""
        while token is not None:
            with self.translated("read the runs"):
                answer = self._runs.run_service_list_runs(
                    namespace=self.kfp.owner,
                    page_size=100,
                    page_token=token,
                    sort_by="created_at desc",
                    _request_timeout=TIMEOUT_SECONDS,
                )
            found += [
                run
                for run in answer.runs or []
                if run.recurring_run_id == recurring_run_id and run.state not in FINAL
            ]
            token = answer.next_page_token or None
        return found

    def delete_recurring(self, recurring_run_id: str) -> None:
        """Remove a recurring run; Kubernetes kills the runs of it that have not ended.

        Raises:
            ServiceError: the API is away or refuses.
        """
        with self.translated("remove the recurring run"):
            self._recurring.recurring_run_service_delete_recurring_run(
                recurring_run_id, _request_timeout=TIMEOUT_SECONDS
            )

    def plain(self, body: object) -> dict[str, object]:
        """Return a body as the JSON that would be sent."""
        plain: dict[str, object] = self._api.ApiClient().sanitize_for_serialization(body)
        return plain

    def _what(self, pipeline: str, arguments: Mapping[str, object]) -> dict[str, object]:
        """Return what a run and a recurring run say alike: pipeline, arguments and account."""
        return {
            "pipeline_spec": pipeline_document(pipeline),
            "runtime_config": self._api.V2beta1RuntimeConfig(
                parameters=dict(arguments), pipeline_root=self.kfp.pipeline_root or None
            ),
            "service_account": self.kfp.service_account or None,
        }

    @contextmanager
    def translated(self, what: str) -> Iterator[None]:
        """Turn errors of the API's client into ours.

        Args:
            what: what was tried, as "Could not ..." continues.
        """
        from kfp_server_api.exceptions import ApiException, OpenApiException

        try:
            yield
        except http_errors(OpenApiException, UnicodeError) as error:
            if lasting := tls_error(error, self._service, what=what, kind=ServiceError):
                raise lasting from error
            if isinstance(error, ApiException):
                answer = str(error.body or error.reason)
                raise _refused(what, int(error.status or 0), answer) from error
            if isinstance(error, http_errors()):
                raise _silent(what, self.kfp.host, error) from error
            raise _not_understood(what, self.kfp.host, error) from error


def pipeline_document(text: str) -> dict[str, object]:
    """Return a compiled pipeline as the API takes it."""
    import yaml

    spec, *platforms = yaml.load_all(text, Loader=yaml.CSafeLoader)
    return {"pipeline_spec": spec, "platform_spec": platforms[0]} if platforms else dict(spec)


def equals(key: str, value: str) -> str:
    """Return the API's filter for an equal string."""
    import json

    predicate = {"key": key, "operation": "EQUALS", "stringValue": value}
    return json.dumps({"predicates": [predicate]})


def _token_source(kfp: Kfp, settings: Settings) -> "Callable[[Configuration], None] | None":
    """Return what puts the token into every request; None without authentication.

    Raises:
        ConfigError: a token is needed and none is there.
    """
    file = settings.kfp_token_file
    token = settings.kfp_token.get_secret_value()
    if file is None and not token:
        if kfp.auth == "none":
            return None
        if kfp.auth == "token":
            raise ConfigError(
                "The Kubeflow Pipelines API asks for a token and none is set.",
                remedy="Set BOOTHLINE_KFP_TOKEN or BOOTHLINE_KFP_TOKEN_FILE.",
            )
        file = IN_CLUSTER_TOKEN

    def refresh(configuration: "Configuration") -> None:
        configuration.api_key["authorization"] = _read(file) if file else token

    return refresh


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(
            f"The token file {file} cannot be read: {error.strerror}.",
            remedy="In a pod, mount a serviceAccountToken volume; elsewhere use kfp.auth: token.",
        ) from error


def _silent(what: str, host: str, error: Exception) -> ServiceError:
    return ServiceError(
        f"Could not {what}: the Kubeflow Pipelines API at {host} does not answer"
        f" ({excerpt(str(error))}).",
        remedy="Check kfp.host in the deployment file; outside the cluster use a port-forward.",
    )


def _not_understood(what: str, host: str, error: Exception) -> ServiceError:
    return ServiceError(
        f"Could not {what}: the answer from {host} is not one of the Kubeflow Pipelines API"
        f" ({excerpt(str(error))}).",
        remedy="Check kfp.host in the deployment file.",
    )


def _refused(what: str, status: int, body: str) -> BoothlineError:
    text = excerpt(body)
    if status in (401, 403):
        return ServiceError(
            f"Could not {what}: the Kubeflow Pipelines API answers {status} ({text}).",
            remedy="Set kfp.auth and the token; check kfp.namespace and the account's rights.",
        )
    if status == 404:
        return NotFoundError(f"Could not {what}: there is no such thing ({text}).")
    return ServiceError(
        f"Could not {what}: the Kubeflow Pipelines API answers {status} ({text}).",
        remedy="See the log of the ml-pipeline deployment.",
    )
