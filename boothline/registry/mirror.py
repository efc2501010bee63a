"""MLflow's view of the registered models: the store's versions, each found by its digest.

MLflow counts versions by itself, from 1 again once its database is lost. So its numbers mean
nothing to Boothline: a version there is the one whose tag has the manifest's digest, and another
tag has the number that the store gave it.
"""

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from boothline.errors import TrackingError
from boothline.settings import Settings
from boothline.store import ManifestRef, Store
from boothline.tracking.client import MissingError, RejectedError, connect, translated

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from tenacity import RetryCallState

logger = logging.getLogger(__name__)

DIGEST_TAG = "boothline.manifest_digest"
REF_TAG = "boothline.manifest"
NUMBER_TAG = "boothline.version"
CHALLENGER = "challenger"
# Registration is the one call to MLflow that a run cannot do without: an outage of a minute is
# waited out.
PATIENCE_SECONDS = 75.0


class Version(Protocol):
    """What is shown: a model version of the store."""

    @property
    def name(self) -> str:
        """The registered model."""

    @property
    def version(self) -> int:
        """Its number in the store."""

    @property
    def digest(self) -> str:
        """The sha256 of its manifest."""

    @property
    def ref(self) -> ManifestRef:
        """Its manifest."""


def register_patiently(
    store: Store,
    settings: Settings,
    version: Version,
    *,
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

    client = connect(settings.mlflow_uri)
    retrying = Retrying(
        stop=stop_after_delay(patience_seconds),
        wait=wait_exponential_jitter(multiplier=0.5, max=5),
        retry=retry_if_exception(_is_outage),
        before_sleep=waiting,
        reraise=True,
    )
    number = retrying(show, client, store, version)
    if is_challenger:
        retrying(set_alias, client, version.name, CHALLENGER, number)


def show(client: "MlflowClient", store: Store, version: Version) -> int:
    """Return the number of a version in MLflow, where it is made if it is not there.

    Two processes may each make one at the same time. The lower number stays, since nobody can have
    seen only the higher one; whoever made the other deletes it.

    Raises:
        TrackingError: MLflow is unreachable, or refuses the version.
    """
    found = find(client, version)
    if found:
        return found
    _ensure_model(client, version.name)
    with translated(f"register {version.ref} as a version of {version.name}"):
        made = client.create_model_version(
            version.name,
            store.uri_of(version.ref),
            tags={
                DIGEST_TAG: version.digest,
                REF_TAG: str(version.ref),
                NUMBER_TAG: str(version.version),
            },
            await_creation_for=0,
        )
    number = find(client, version) or int(made.version)
    if int(made.version) != number:
        with translated(f"delete the second version of {version.ref}"):
            client.delete_model_version(version.name, made.version)
    return number


def find(client: "MlflowClient", version: Version) -> int | None:
    """Return the lowest number in MLflow that has a version's manifest, or None."""
    with translated(f"list the versions of {version.name}"):
        found = client.search_model_versions(
            f"name = '{version.name}' and tags.`{DIGEST_TAG}` = '{version.digest}'"
        )
    return min((int(shown.version) for shown in found), default=None)


def tags(client: "MlflowClient", name: str, number: int) -> Mapping[str, str]:
    """Return the tags of a version in MLflow, by MLflow's number."""
    with translated(f"show version {number} of {name}"):
        return dict(client.get_model_version(name, str(number)).tags)


def tag_number(client: "MlflowClient", version: Version, number: int) -> None:
    """Write the number that the store gave a version to MLflow's version of some number."""
    with translated(f"tag version {number} of {version.name}"):
        client.set_model_version_tag(version.name, str(number), NUMBER_TAG, str(version.version))


def aliases(client: "MlflowClient", name: str) -> Mapping[str, int]:
    """Return MLflow's numbers that the aliases of a model mean; none for an unknown model."""
    try:
        with translated(f"show the model {name}"):
            shown = client.get_registered_model(name).aliases
    except MissingError:
        return {}
    return {alias: int(number) for alias, number in shown.items()}


def set_alias(client: "MlflowClient", name: str, alias: str, number: int | None) -> None:
    """Point an alias to a version by MLflow's number; None takes the alias away."""
    with translated(f"set the {alias} of {name}"):
        if number is None:
            client.delete_registered_model_alias(name, alias)
        else:
            client.set_registered_model_alias(name, alias, str(number))


def _is_outage(error: BaseException) -> bool:
    return isinstance(error, TrackingError) and not isinstance(error, RejectedError)


def _ensure_model(client: "MlflowClient", name: str) -> None:
    try:
        with translated(f"create the model {name}"):
            client.create_registered_model(name)
    except RejectedError:  # it exists
        with translated(f"show the model {name}"):
            client.get_registered_model(name)
