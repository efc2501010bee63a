"""Cheap checks of what a run needs, before anything is started."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from boothline import settings as process_environment
from boothline.config import RunConfig
from boothline.config.fields import MODELS, named_in
from boothline.data.prompt_files import REMOTE
from boothline.errors import ConfigError, DataError, ModelNotFoundError, ServiceError
from boothline.launch.local.session import settings_for

if TYPE_CHECKING:
    from boothline.diffusion.families import Family

logger = logging.getLogger(__name__)


def check(config: RunConfig, *, home: Path) -> None:
    """Check that the models, the pictures and the prompts exist, without reading the pictures.

    Args:
        config: the run's configuration.
        home: the home folder, which remembers digests of models.

    Raises:
        ModelNotFoundError: a model does not exist.
        ConfigError: the pictures' or prompts' path does not exist.
        DataError: the pictures' folder holds no file, or the base model or an encoder is of another
            kind, lacks a file or has no safetensors weights.
    """
    from boothline.diffusion.base_model import BUILTIN, checked_family, is_here, resolve
    from boothline.diffusion.layout import check_config, family_of
    from boothline.diffusion.presets import check_fit, native_px_of, usual_px
    from boothline.evaluation.folders import check_encoder, check_lpips
    from boothline.evaluation.judges import check_judges

    for one in config.by_subject.values():
        check_pictures(one.subject.images)
    for section in ("inference", "evaluation"):
        prompts = getattr(config, section).prompts_file
        if prompts and not prompts.startswith(REMOTE) and not Path(prompts).is_file():
            raise ConfigError(
                f"The prompts file {prompts} does not exist.",
                remedy=f"Correct {section}.prompts_file, or leave it out to use "
                "evaluation.prompts.",
            )
    settings = settings_for(named_in(config, MODELS).values(), home)
    base = config.base_model
    family, native = None, None
    if is_here(base.source) or not base.allow_hub:  # a download is left to the steps
        model = resolve(base.source, settings=settings, need="settings")
        # An image may lack the weights of a built-in model.
        is_builtin = base.source.startswith(BUILTIN)
        family = family_of(model.path) if is_builtin else checked_family(model)
        check_config(family, config)
        native = native_px_of(model.path, family)
        check_fit(config, native)
        native = usual_px(family, native)
        check_judges(config, native=native)
    _check_prompt_files(config, family)
    evaluation, folders = config.evaluation, {}
    for name in ("clip_model", "dino_model", "lpips_model"):
        encoder = getattr(evaluation, name)
        if encoder and (is_here(encoder) or not base.allow_hub):
            model = resolve(encoder, settings=settings)
            if name == "lpips_model":
                check_lpips(model.path)
            else:
                folders[name] = model.path
                if not encoder.startswith(BUILTIN):
                    check_encoder(model.path, setting=name)
    if family is not None:
        check_judges(config, native=native, folders=folders)


def check_from_afar(config: RunConfig, *, home: Path) -> str:
    """Check a run on a cluster against its base model, as far as that can be seen from here.

    Args:
        config: the run's configuration.
        home: the home folder, which remembers digests of models.

    Returns:
        Why nothing was checked; empty: all was.

    Raises:
        ConfigError: a setting does not fit the base model, or an encoder cannot judge it.
        DataError: the base model is of no family that is known.
    """
    from boothline.diffusion.base_model import is_here, resolve
    from boothline.diffusion.bases import PREFIX
    from boothline.diffusion.layout import check_config, family_of
    from boothline.diffusion.presets import check_fit, native_px_of, usual_px
    from boothline.evaluation.judges import ENCODERS, check_judges

    source = config.base_model.source
    settings = process_environment.current().model_copy(update={"home": home})

    def found(model: str) -> Path | None:
        is_seen = bool(settings.s3_endpoint) or not model.startswith(PREFIX)
        if not is_seen or not is_here(model):
            return None
        try:
            return resolve(model, settings=settings, need="settings").path
        except (ModelNotFoundError, ServiceError) as error:
            logger.info("%s is not seen from here: %s", model, error)
            return None

    if (base := found(source)) is None:
        return f"{source} is not seen from here: whether the settings fit it was not checked."
    family = family_of(base)
    check_config(family, config)
    native = native_px_of(base, family)
    check_fit(config, native)
    folders = {name: found(getattr(config.evaluation, name)) for name in ENCODERS}
    seen = {name: folder for name, folder in folders.items() if folder is not None}
    check_judges(config, native=usual_px(family, native), folders=seen)
    return ""


def _check_prompt_files(config: RunConfig, family: "Family | None") -> None:
    """Check what the prompt files hold, and that the base's family can do what their rows ask for.

    Raises:
        DataError: a file cannot be used, or a prompt to judge by does not name the subject.
        ConfigError: a row does not fit the family.
    """
    from boothline.diffusion.layout import check_sampler
    from boothline.evaluation.prompt_sets import templates
    from boothline.pictures.prompts import read_prompts

    if not (config.evaluation.prompts_file or "").startswith(REMOTE):
        templates(config.evaluation)
    file = config.inference.prompts_file
    if file is None or file.startswith(REMOTE):
        return
    rows = read_prompts(Path(file))
    if family is None:
        return
    for row in {(row.sampler, bool(row.negative_prompt)): row for row in rows}.values():
        sampling = row.sampling(config.inference.sampling)
        if row.negative_prompt:
            sampling = sampling.model_copy(update={"negative_prompt": row.negative_prompt})
        check_sampler(family, sampling, name=f"{file}: a row's")


def check_pictures(images: str) -> None:
    """Check that the pictures' folder or archive is there and not empty.

    Raises:
        ConfigError: it does not exist.
        DataError: the folder holds no file.
    """
    if images.startswith(REMOTE):
        return
    path = Path(images).expanduser()
    if not path.exists():
        raise ConfigError(
            f"The pictures {images!r} do not exist: there is nothing at {path.absolute()}.",
            remedy="Set subject.images to a folder of 3 to 5 pictures of one subject; in a file it "
            "counts from the folder of that file.",
        )
    if path.is_dir() and not _holds_files(path):
        raise DataError(
            f"The folder {images!r} holds no pictures.",
            remedy="Put 3 to 5 pictures of one subject into it (subfolders are not read).",
        )


def _holds_files(folder: Path) -> bool:
    """Return whether a folder, or one below it that kohya's layout names, holds a file."""
    from boothline.data.kohya import folders_in

    places = [folder, *folders_in(folder)]
    return any(child.is_file() for place in places for child in place.iterdir())


def with_absolute_paths(config: RunConfig) -> RunConfig:
    """Return a configuration that means the same from any folder: existing paths are absolute."""
    changes: dict[str, dict[str, str]] = {
        "subject": {"images": _absolute(config.subject.images)},
        "base_model": {"source": _absolute(config.base_model.source)},
        "evaluation": {
            "clip_model": _absolute(config.evaluation.clip_model),
            "dino_model": _absolute(config.evaluation.dino_model),
        },
    }
    if config.inference.prompts_file:
        changes["inference"] = {"prompts_file": _absolute(config.inference.prompts_file)}
    for name in ("prompts_file", "lpips_model"):
        if path := getattr(config.evaluation, name):
            changes["evaluation"][name] = _absolute(path)
    sections: dict[str, object] = {
        section: getattr(config, section).model_copy(update=fields)
        for section, fields in changes.items()
    }
    sections["subjects"] = tuple(
        one.model_copy(update={"images": _absolute(one.images)}) for one in config.subjects
    )
    return config.model_copy(update=sections)


def _absolute(path: str) -> str:
    """Return an existing local path as absolute; anything else as it is."""
    local = Path(path).expanduser()
    return str(local.resolve()) if "://" not in path and local.exists() else path
