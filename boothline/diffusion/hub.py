"""Downloads a pinned revision from the model hub; what its client raises becomes our own error."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from boothline.connecting import Service, excerpt, tls_error
from boothline.errors import ModelNotFoundError, ServiceError

# The hub's client and what it stands on, by their packages.
_CLIENTS: Final = frozenset(
    {"huggingface_hub", "hf_xet", "httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3"}
)


def download(
    hub_id: str, *, revision: str, patterns: Iterable[str], without: Iterable[str] = ()
) -> Path:
    """Return the folder of a revision, downloaded where it is not there yet.

    Args:
        hub_id: `owner/name`.
        revision: the commit.
        patterns: of the files that are wanted.
        without: patterns of those among them that are not.

    Raises:
        ModelNotFoundError: the hub has no such model or revision, or does not show it.
        ServiceError: the hub cannot be reached or fails.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    source = f"{hub_id}@{revision}"
    try:
        folder = snapshot_download(
            hub_id,
            revision=revision,
            allow_patterns=list(patterns),
            ignore_patterns=list(without),
        )
        return Path(folder)
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise ModelNotFoundError(
            f"The model hub has no {source!r}.",
            remedy="Check the id and the commit, or your hub token.",
        ) from error
    except Exception as error:
        if not is_of_a_client(error):
            raise
        what = f"download {source}"
        raise tls_error(error, _hub(), what=what, kind=ServiceError) or ServiceError(
            f"The model hub did not deliver {source!r}: {excerpt(str(error)) or type(error)}.",
            remedy="Try again, or name a local folder as base_model.source.",
        ) from error


def is_of_a_client(error: BaseException) -> bool:
    """Return whether an error comes from the network, the disk, or the hub's client."""
    if isinstance(error, OSError):
        return True
    packages = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return not packages.isdisjoint(_CLIENTS)


def _hub() -> Service:
    from huggingface_hub.constants import ENDPOINT

    return Service(
        name="the model hub",
        url=ENDPOINT,
        url_setting="HF_ENDPOINT",
        trust_setting="SSL_CERT_FILE",
    )
