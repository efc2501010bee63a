"""Uploads a registered model to a model hub, with a card of what it is and where it comes from."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

import boothline
from boothline.connecting import excerpt, tls_error
from boothline.diffusion.base_model import hub_service, is_of_a_client, resolve
from boothline.diffusion.layout import license_of
from boothline.errors import BoothlineError, ConfigError, ServiceError
from boothline.launch.local.session import Session
from boothline.launch.registered import results_of
from boothline.registry.card import PICTURES, CardFacts, Pictured, model_card
from boothline.registry.exporting import README, Exported, export_model
from boothline.registry.provenance import nearest
from boothline.registry.versions import ModelVersion
from boothline.registry.versions import resolve as resolve_version
from boothline.results import FINE_TUNED, Base, Dataset, Evaluation, Model, Promotion, Training
from boothline.runs import StepRecord
from boothline.store import ManifestRef, Store, layout
from boothline.subjects import parts_of
from boothline.tracking import dotted

if TYPE_CHECKING:
    from huggingface_hub import HfApi

NUM_PICTURES: Final = 4


class Pushed(BaseModel):
    """What was uploaded, or would be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    version: int
    digest: str = Field(description="The sha256 of the model's manifest.")
    repository: str
    url: str = Field(default="", description="Of the commit; empty: nothing was uploaded.")
    files: dict[str, int] = Field(description="Bytes of each file.")
    card: str = Field(description="README.md, as it is in the repository.")


def push_model(
    session: Session,
    *,
    model: tuple[str, str],
    repository: str,
    form: Literal["diffusers", "single-file", "lora"],
    private: bool = True,
    dry_run: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Pushed:
    """Upload a version as one commit; nothing is uploaded before all of it was verified.

    The subject's own pictures stay here: what the card shows the model has drawn.

    Args:
        session: the open home folder.
        model: name and alias or version number.
        repository: `OWNER/NAME` on the hub; made if it does not exist.
        form: of the weights, as `export_model` has it.
        private: whether a new repository is private.
        dry_run: gather and verify everything, and upload nothing.
        on_progress: called with bytes gathered and all bytes.

    Raises:
        ModelNotFoundError: there is no such version.
        ConfigError: the model has no such form, the repository's name is invalid, or a library is
            missing.
        IntegrityError: stored bytes differ from their digest, or the signature is invalid.
        ServiceError: the hub is unreachable or refuses.
    """
    api = None if dry_run else _api()
    version = resolve_version(session.store, *model)
    with tempfile.TemporaryDirectory(prefix="boothline-push-") as scratch:
        folder = Path(scratch) / "model"
        exported = export_model(
            session.store,
            session.settings,
            model=(version.name, str(version.version)),
            folder=folder,
            form=form,
            on_progress=on_progress,
        )
        loading = _loading(exported, repository)
        card = model_card(_facts(session, version, folder, loading=loading))
        (folder / README).write_text(card, encoding="utf-8")
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        files = {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}
        url = "" if api is None else _upload(api, repository, folder, version, private=private)
    return Pushed(
        model=version.name,
        version=version.version,
        digest=version.digest,
        repository=repository,
        url=url,
        files=files,
        card=card,
    )


def _loading(exported: Exported, repository: str) -> dict[str, list[str]]:
    """Return how each tool loads the repository: by its name, or after it was downloaded."""
    local = repository.rpartition("/")[2]
    lines = {}
    for tool, those in exported.loading.items():
        by_name = tool == "diffusers" and exported.format != "single-file"
        place = repository if by_name else local
        download = [] if by_name else [f"# hf download {repository} --local-dir {local}"]
        lines[tool] = download + [line.replace(exported.folder, place) for line in those]
    return lines


def _api() -> "HfApi":
    """Return the hub's client.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise ConfigError(
            f"`boothline push` needs a library: {error}.",
            remedy="Install the extra: pip install 'boothline[torch]'.",
        ) from error
    return HfApi(library_name="boothline", library_version=boothline.__version__)


def _upload(
    api: "HfApi", repository: str, folder: Path, version: ModelVersion, *, private: bool
) -> str:
    """Upload a folder as one commit and return the commit's URL.

    Raises:
        ConfigError: the repository's name is invalid.
        ServiceError: the hub is unreachable or refuses.
    """
    from huggingface_hub.errors import HFValidationError

    what = f"push {version.name} to {repository}"
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        done = api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            commit_message=f"{version.name}, version {version.version}",
            commit_description=f"Manifest {version.ref}",
        )
    except HFValidationError as error:
        raise ConfigError(
            f"{repository!r} is not the name of a repository: {excerpt(str(error))}.",
            remedy="Name it OWNER/NAME.",
        ) from error
    except ValueError as error:
        raise ServiceError(f"Could not {what}: {excerpt(str(error))}.") from error
    except Exception as error:
        if not is_of_a_client(error):
            raise
        raise tls_error(error, hub_service(), what=what, kind=ServiceError) or ServiceError(
            f"Could not {what}: {excerpt(str(error)) or type(error).__name__}.",
            remedy="Check HF_ENDPOINT, and HF_TOKEN: it needs write access to the repository.",
        ) from error
    return str(done.commit_url)


def _facts(
    session: Session, version: ModelVersion, folder: Path, *, loading: dict[str, list[str]]
) -> CardFacts:
    """Return what the card is written from; the pictures it shows are put into the folder."""
    store = session.store
    model = store.read_as(Model, version.ref)
    results = results_of(store, version)
    dataset = nearest(store, version.ref, Dataset.kind)
    evaluated = results.get("evaluate")
    evaluation = Evaluation.of(evaluated[1]) if evaluated else None
    return CardFacts(
        version=version,
        model=model,
        licence=_licence(session, model),
        evaluation=evaluation,
        promotion=Promotion.of(results["promote"][1]) if "promote" in results else None,
        pictures=_pictures(store, evaluated[0], folder) if evaluated else (),
        settings=_settings(store, version),
        dataset=str(dataset[0]) if dataset else "",
        num_pictures=Dataset.of(dataset[1]).num_images if dataset else 0,
        loading=loading,
        boothline=boothline.__version__,
    )


def _pictures(store: Store, evaluation: ManifestRef, folder: Path) -> list[Pictured]:
    """Put the first picture of the first prompts of an evaluation, of each subject, in a folder."""
    shown = []
    prefix = f"images/{FINE_TUNED}/"
    (folder / PICTURES).mkdir()
    for subject, ref in parts_of(store, evaluation).items():
        prompts = store.read_as(Evaluation, ref).prompts
        paths = [entry.path for entry in store.read(ref).under(prefix)]
        firsts = [path for path in sorted(paths) if path.endswith("-s00.png")]
        for path, prompt in zip(firsts[:NUM_PICTURES], prompts, strict=False):
            whose = f"{subject}-" if subject else ""
            name = f"{PICTURES}{whose}{path.removeprefix(prefix)}"
            (folder / name).write_bytes(store.read_bytes(ref, path))
            shown.append(Pictured(file=name, prompt=prompt))
    return shown


def _settings(store: Store, version: ModelVersion) -> dict[str, object]:
    """Return the settings that the training's result depends on; none where they are not known."""
    trained = nearest(store, version.ref, Training.kind)
    if trained is None:
        return {}
    paths = [path for path in store.list_records(layout.RUNS) if path.endswith("/steps/train.json")]
    for path in sorted(paths, reverse=True):
        record = StepRecord.model_validate(store.get_record(path))
        if record.manifest == str(trained[0]):
            config = record.key_parts.get("config", {})
            kept = {k: config[k] for k in ("training", "prior", "resolution_px") if k in config}
            return dotted(kept)
    return {}


def _licence(session: Session, model: Model) -> str:
    """Return the licence of the base model, as its card or the store names it; empty: unknown."""
    base = model.base_model
    try:
        stored = session.store.find(layout.base(base.digest))
        if stored:
            return session.store.read_as(Base, stored).license
        return license_of(resolve(base.source, settings=session.settings, need="settings").path)
    except BoothlineError:
        return ""
