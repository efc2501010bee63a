"""Puts a base model or an encoder into the store, from wherever it is."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from boothline.diffusion import bases
from boothline.diffusion.base_model import content_files, digest_folder, resolve
from boothline.diffusion.bases import Need, StoredModel
from boothline.diffusion.layout import check_folder, license_of, read_json
from boothline.errors import ConfigError
from boothline.evaluation.folders import CLIP, check_encoder, check_lpips
from boothline.results import Base
from boothline.settings import Settings
from boothline.store import Store

OnProgress = Callable[[int, int], None]


def add_base(
    store: Store,
    source: str,
    *,
    name: str,
    settings: Settings,
    like: str | None = None,
    on_progress: OnProgress | None = None,
) -> StoredModel:
    """Check a model and put it into the store.

    Args:
        store: the store.
        source: a folder, `<hub id>@<commit>`, `builtin:<name>`, `base:<name>` (for a further name),
            or a single file of weights.
        name: what to call it.
        settings: where the caches are.
        like: for a single file: a model of the same architecture, named in the same ways. Its
            settings, tokenizers and noise schedule go with the file's weights.
        on_progress: called with (done, total) bytes.

    Raises:
        ConfigError: the name or the source cannot be used, or `like` is missing.
        DataError: the model lacks a part, has pickled weights or is of no known family.
        ServiceError: the hub or the store failed.
    """
    bases.check_name(name)
    if not Path(source).is_file():
        return _add_folder(store, _found(source, settings), source, name, settings, on_progress)
    if like is None:
        raise ConfigError(
            f"{source} is a single file, which has weights alone.",
            remedy="Name a model of the same architecture, whose settings and tokenizers it takes: "
            "--like FOLDER, --like base:NAME or --like HUB_ID@COMMIT.",
        )
    from boothline.diffusion.conversion import convert_single_file

    settings.home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="converted-", dir=settings.home) as scratch:
        folder = Path(scratch) / "model"
        convert_single_file(Path(source), folder, layout=_found(like, settings, need="settings"))
        return _add_folder(store, folder, source, name, settings, on_progress)


def _found(source: str, settings: Settings, *, need: Need = "all") -> Path:
    """Return the folder of a model; naming a commit of the hub allows the download."""
    is_on_hub = "@" in source and not Path(source).exists()
    return resolve(source, settings=settings, allow_hub=is_on_hub, need=need).path


def _add_folder(
    store: Store,
    folder: Path,
    source: str,
    name: str,
    settings: Settings,
    on_progress: OnProgress | None,
) -> StoredModel:
    facts = Base(
        digest=digest_folder(folder, settings=settings),
        family=_checked(folder),
        source=source,
        license=license_of(folder),
    )
    files = {file.relative_to(folder).as_posix(): file for file in content_files(folder)}
    return bases.add(store, files=files, facts=facts, name=name, on_progress=on_progress)


def _checked(folder: Path) -> str:
    """Return the name of a model's family; empty for an encoder. Both are checked.

    Raises:
        DataError: a part is missing, or is not what it should be.
    """
    if (folder / "model_index.json").is_file():
        return check_folder(folder).name
    config = read_json(folder / "config.json")
    if "net" in config:
        check_lpips(folder)
    else:
        is_clip = config.get("model_type") == CLIP.removesuffix("_model")
        check_encoder(folder, setting=CLIP if is_clip else "dino_model")
    return ""
