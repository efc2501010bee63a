"""MLflow's view of the registered models: the store's versions, each found by its digest.

MLflow counts versions by itself, from 1 again once its database is lost. So its numbers mean
nothing to Boothline: a version there is the one whose tag has the manifest's digest, and another
tag has the number that the store gave it.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boothline.errors import DataError, NotFoundError, TrackingError
from boothline.registry import mlmodel
from boothline.registry.mlmodel import DIGEST_TAG, Version
from boothline.results import Model
from boothline.settings import Settings
from boothline.store import Store
from boothline.tracking.client import (
    Answer,
    Client,
    MissingError,
    RejectedError,
    by_key,
    listed,
)
from boothline.tracking.identity import MlflowRun, MlflowRuns

if TYPE_CHECKING:
    from tenacity import RetryCallState

logger = logging.getLogger(__name__)

REF_TAG = "boothline.manifest"
NUMBER_TAG = "boothline.version"
CHALLENGER = "challenger"
# Registration is the one call to MLflow that a run cannot do without: an outage of a minute is
# waited out.
PATIENCE_SECONDS = 75.0


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a version comes from.

    Attributes:
        run_id: the pipeline run that made it; empty: it is not known.
        experiment: name of that run's experiment in MLflow.
        base_license: licence of the base model; empty: it is not known.
    """

    run_id: str = ""
    experiment: str = "boothline"
    base_license: str = ""


def register_patiently(
    store: Store,
    settings: Settings,
    version: Version,
    *,
    origin: Origin,
    is_challenger: bool,
    patience_seconds: float,
    on_wait: Callable[[], object],
) -> None:
    """Show a new version in MLflow, as the challenger if it is one; an outage is waited out.

    Raises:
        TrackingError: MLflow is unreachable for longer than that, or refuses the version.
    """
    from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential_jitter

    def waiting(state: "RetryCallState") -> None:
        logger.warning("registering %s again: %s", version.name, state.outcome)
        on_wait()

    client = Client(settings.mlflow_uri)
    retrying = Retrying(
        stop=stop_after_delay(patience_seconds),
        wait=wait_exponential_jitter(multiplier=0.5, max=5),
        retry=retry_if_exception(_is_outage),
        before_sleep=waiting,
        reraise=True,
    )
    number = retrying(show, client, store, version, origin=origin)
    if is_challenger:
        retrying(set_alias, client, version.name, CHALLENGER, number)


def show(
    client: Client,
    store: Store,
    version: Version,
    *,
    origin: Origin = Origin(),
) -> int:
    """Return the number of a version in MLflow, where it is made if it is not there.

    It is made with an MLmodel and a link to its run. Without its manifest there is nothing to load:
    its source is then where that was.

    Two processes may each make one at the same time. The lower number stays, since nobody can have
    seen only the higher one; whoever made the other deletes it.

    Raises:
        TrackingError: MLflow is unreachable, or refuses the version.
    """
    found = find(client, version)
    if found:
        return found
    _ensure_model(client, version.name)
    facts = _facts(store, version)
    run = _mlflow_run(client, store, origin) if facts else None
    model_id = _loadable(client, store, version, facts, origin=origin, run=run)
    told = mlmodel.fact_tags(facts, base_license=origin.base_license) if facts else {}
    ours = {
        DIGEST_TAG: version.digest,
        REF_TAG: str(version.ref),
        NUMBER_TAG: str(version.version),
    }
    made = client.post(
        "model-versions/create",
        to=f"register {version.ref} as a version of {version.name}",
        name=version.name,
        source=f"models:/{model_id}" if model_id else store.uri_of(version.ref),
        run_id=run.mlflow_run_id if run else None,
        tags=listed(told | ours),
        description=mlmodel.description(version, told) if told else None,
        model_id=model_id or None,
    )["model_version"]["version"]
    number = find(client, version) or int(made)
    if int(made) != number:
        client.post(
            "model-versions/delete",
            to=f"delete the second version of {version.ref}",
            method="DELETE",
            name=version.name,
            version=made,
        )
    return number


def describe(
    client: Client,
    version: Version,
    shown: Answer,
    *,
    tags: Mapping[str, str],
    rules: Iterable[str],
) -> None:
    """Put tags on a version, which MLflow has as `shown`, and say them in its description."""
    named = {"name": version.name, "version": str(shown["version"])}
    to = f"describe version {shown['version']} of {version.name}"
    before = by_key(shown.get("tags", ()))
    for name, text in tags.items():
        if before.get(name) != text:
            client.post("model-versions/set-tag", to=to, **named, key=name, value=text)
    text = mlmodel.description(version, {**before, **tags}, rules=rules)
    if shown.get("description") != text:
        client.post("model-versions/update", to=to, method="PATCH", **named, description=text)


def find(client: Client, version: Version) -> int | None:
    """Return the lowest number in MLflow that has a version's manifest, or None."""
    shown = look_up(client, version)
    return None if shown is None else int(shown["version"])


def look_up(client: Client, version: Version) -> Answer | None:
    """Return what has a version's manifest in MLflow, as it has it: the lowest number, or None."""
    found = client.get(
        "model-versions/search",
        to=f"list the versions of {version.name}",
        filter=f"name = '{version.name}' and tags.`{DIGEST_TAG}` = '{version.digest}'",
    )
    shown: Iterable[Answer] = found.get("model_versions", ())
    return min(shown, key=lambda one: int(one["version"]), default=None)


def tags(client: Client, name: str, number: int) -> Mapping[str, str]:
    """Return the tags of a version in MLflow, by MLflow's number."""
    to = f"show version {number} of {name}"
    found = client.get("model-versions/get", to=to, name=name, version=str(number))
    return by_key(found["model_version"].get("tags", ()))


def tag_number(client: Client, version: Version, number: int) -> None:
    """Write the number that the store gave a version to MLflow's version of some number."""
    client.post(
        "model-versions/set-tag",
        to=f"tag version {number} of {version.name}",
        name=version.name,
        version=str(number),
        key=NUMBER_TAG,
        value=str(version.version),
    )


def aliases(client: Client, name: str) -> Mapping[str, int]:
    """Return MLflow's numbers that the aliases of a model mean; none for an unknown model."""
    try:
        shown = client.get("registered-models/get", to=f"show the model {name}", name=name)
    except MissingError:
        return {}
    found = shown["registered_model"].get("aliases", ())
    return {one["alias"]: int(one["version"]) for one in found}


def set_alias(client: Client, name: str, alias: str, number: int | None) -> None:
    """Point an alias to a version by MLflow's number; None takes the alias away.

    MLflow refuses one of two processes that set a new alias at once, whose row the other has made.
    """
    try:
        client.post(
            "registered-models/alias",
            to=f"set the {alias} of {name}",
            method="POST" if number else "DELETE",
            name=name,
            alias=alias,
            version=str(number) if number else None,
        )
    except RejectedError:
        if aliases(client, name).get(alias) != number:
            raise


def _is_outage(error: BaseException) -> bool:
    return isinstance(error, TrackingError) and not isinstance(error, RejectedError)


def _ensure_model(client: Client, name: str) -> None:
    try:
        client.post("registered-models/create", to=f"create the model {name}", name=name)
    except RejectedError:  # it exists
        client.get("registered-models/get", to=f"show the model {name}", name=name)


def _facts(store: Store, version: Version) -> Model | None:
    """Return what a version's manifest says; None when it is gone or broken."""
    try:
        return store.read_as(Model, version.ref)
    except (NotFoundError, DataError) as error:
        logger.warning(
            "version %d of %s cannot be loaded: %s", version.version, version.name, error
        )
        return None


def _mlflow_run(client: Client, store: Store, origin: Origin) -> MlflowRun | None:
    """Return the MLflow run that a version belongs to; None when it is not known."""
    if not origin.run_id:
        return None
    runs = MlflowRuns(
        client=client, store=store, run_id=origin.run_id, experiment=origin.experiment
    )
    return runs.run()


def _loadable(
    client: Client,
    store: Store,
    version: Version,
    facts: Model | None,
    *,
    origin: Origin,
    run: MlflowRun | None,
) -> str:
    """Return the id of the version's model in MLflow; empty where there can be none.

    Servers before MLflow 3 have no models of their own, and one whose files are elsewhere may need
    a library that is not installed: the version is then registered without.
    """
    if facts is None:
        return ""
    try:
        return mlmodel.log_model(
            client,
            store,
            version,
            facts,
            experiment=origin.experiment,
            run=run,
        )
    except (MissingError, RejectedError, ImportError) as error:
        logger.warning(
            "MLflow cannot load version %d of %s: %s", version.version, version.name, error
        )
        return ""
