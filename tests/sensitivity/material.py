"""What the steps are tried on: tiny random models, pictures, prompt files."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from boothline.buckets import sizes_of
from boothline.config import RunConfig
from boothline.facts import SubjectPart
from boothline.results import Dataset, Prior
from boothline.store import ManifestDraft, ManifestRef, Store
from boothline.store.manifest import digest_of, files_under

Maker = Callable[[Store, RunConfig], ManifestRef]


def commit_pictures(
    store: Store,
    path: str,
    *,
    kind: str,
    sizes: Sequence[tuple[int, int]],
    caption: str,
    metadata: Mapping[str, Any],
) -> ManifestRef:
    """Commit random pictures of given sizes with captions, unless they are there."""
    if (found := store.find(path)) is not None:
        return found
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        rows = []
        for number, size in enumerate(sizes):
            image = f"images/{number:06d}.png"
            noise_picture(number, size).save(folder / image)
            rows.append(json.dumps({"image": image, "caption": caption, "index": number}) + "\n")
        (folder / "captions.jsonl").write_text("".join(rows))
        draft = ManifestDraft(kind=kind, files=dict(files_under(folder)), metadata=metadata)
        return store.commit(path, draft)


def noise_picture(seed: int, size: tuple[int, int]) -> Image.Image:
    """Return a picture of coloured blocks, another for each seed."""
    blocks = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize(size, Image.Resampling.BICUBIC)


def _of_each(
    store: Store, config: RunConfig, kind: type[Dataset | Prior], of_one: Maker
) -> ManifestRef:
    """Commit what is of one subject, or of each of several with what gathers it."""
    if not config.subjects:
        return of_one(store, config)
    refs = {name: of_one(store, one) for name, one in config.by_subject.items()}
    parts = [
        SubjectPart(subject=name, content=store.read(ref).content_digest)
        for name, ref in refs.items()
    ]
    path = f"steps/{kind.kind}-of-several/{digest_of([part.model_dump() for part in parts])[:16]}"
    draft = kind(parts=tuple(parts)).draft(inputs=tuple(refs.values()))
    return store.find(path) or store.commit(path, draft)


def dataset(store: Store, config: RunConfig) -> ManifestRef:
    """Commit the pictures that a run trains on, of its sizes, with what validate_data notes."""
    return _of_each(store, config, Dataset, _dataset)


def prior(store: Store, config: RunConfig) -> ManifestRef:
    """Commit class pictures."""
    return _of_each(store, config, Prior, _prior)


def _dataset(store: Store, config: RunConfig) -> ManifestRef:
    """Commit the pictures of one subject."""
    subject = config.subject
    shapes = sorted(sizes_of(subject))
    facts = {name: getattr(subject, name) for name in ("identifier", "class_noun")}
    return commit_pictures(
        store,
        f"steps/validate_data/{digest_of([shapes, facts])[:16]}",
        kind="dataset",
        sizes=[shapes[number % len(shapes)] for number in range(4)],
        caption="a photo of sks bear",
        metadata=facts,
    )


def _prior(store: Store, config: RunConfig) -> ManifestRef:
    """Commit the class pictures of one subject."""
    side = config.subject.resolution_px
    return commit_pictures(
        store,
        f"steps/generate_prior/{side}",
        kind="prior",
        sizes=[(side, side)] * 4,
        caption="a photo of a bear",
        metadata={},
    )


def make_material(folder: Path) -> dict[str, Path]:
    """Make the models, pictures and prompt files that settings name."""
    import model_fixtures as models

    named = {
        "base": models.make_tiny_pipeline(folder / "base"),
        "other-base": models.make_tiny_pipeline(folder / "other-base", seed=1),
        "tuned": models.make_tiny_pipeline(folder / "tuned", seed=2),
        "champion": models.make_tiny_pipeline(folder / "champion", seed=3),
        "clip": models.make_tiny_clip(folder / "clip"),
        "other-clip": models.make_tiny_clip(folder / "other-clip", seed=1),
        "dino": models.make_tiny_dino(folder / "dino"),
        "other-dino": models.make_tiny_dino(folder / "other-dino", seed=1),
        "lpips": _lpips(folder / "lpips"),
    }
    named["same-base"] = Path(shutil.copytree(named["base"], folder / "same-base"))
    for name, first in (("pictures", 0), ("others", 1)):
        named[name] = folder / name
        named[name].mkdir()
        for number, size in enumerate([(80, 80), (64, 72), (96, 64), (64, 64), (90, 60)]):
            noise_picture(first + number, size).save(named[name] / f"{number}.png")
    named["masked"] = Path(shutil.copytree(named["pictures"], folder / "masked"))
    with Image.open(named["masked"] / "0.png") as image:
        half = image.convert("L").point(lambda level: 255 * (level > 128))
    half.save(named["masked"] / "0-mask.png")
    for name, prompts in (("one", "a {subject}\nthe {subject}"), ("two", "a {subject} on grass")):
        named[f"{name}.txt"] = folder / f"{name}.txt"
        named[f"{name}.txt"].write_text(prompts)
    noise_picture(9, (32, 32)).save(folder / "start.png")
    named["edits.jsonl"] = folder / "edits.jsonl"
    named["edits.jsonl"].write_text(json.dumps({"prompt": "a {subject}", "image": "start.png"}))
    return named


def _lpips(folder: Path) -> Path:
    """Save a random perceptual distance."""
    import torch
    from safetensors.torch import save_file

    from boothline.evaluation.perceptual import _Distance

    folder.mkdir()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(_Distance().state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text('{"model_type": "lpips", "net": "alex"}')
    return folder
