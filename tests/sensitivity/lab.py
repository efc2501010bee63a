"""Where the steps are tried: tiny random models, pictures, and a store in memory."""

import hashlib
import io
import json
import pickle
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from sensitivity.material import make_material
from sensitivity.pairs import BASE, configured

from boothline.config import RunConfig
from boothline.errors import BoothlineError
from boothline.progress import Progress
from boothline.settings import Settings
from boothline.steps import Step, StepContext, StepInputs, key_parts
from boothline.store import ManifestDraft, ManifestRef, Store
from boothline.store.manifest import digest_of
from boothline.store.memory import memory_store
from boothline.tracking import MemoryTracker
from boothline.training.job import TrainingJob
from boothline.training.launch import TrainingResult, result_of

Bits = Mapping[str, Any]
_LOADED: dict[str, Any] = {}
_NAMED = (
    "subject.images",
    "base_model.source",
    "evaluation.prompts_file",
    "evaluation.clip_model",
    "evaluation.dino_model",
    "evaluation.lpips_model",
    "inference.prompts_file",
)


@dataclass(frozen=True)
class Outcome:
    """What a step made, as digests by name, or the class of the error by which it refused."""

    bits: Bits = field(default_factory=dict)
    refused: str = ""

    def changed(self, other: "Outcome") -> list[str]:
        """Return what another outcome has otherwise."""
        names = sorted({*self.bits, *other.bits})
        found = [n for n in names if self.bits.get(n) != other.bits.get(n)]
        return found + (["refusal"] if self.refused != other.refused else [])


@dataclass(frozen=True, kw_only=True)
class Key:
    """Digests of a step's key: of what it takes from the configuration, and of all."""

    own: str
    whole: str


@dataclass(frozen=True, kw_only=True)
class Probe:
    """How a step is tried.

    Attributes:
        step: the step.
        inputs: makes its inputs in a store, the same for equal configurations.
        effect: what of its result a setting has to change: pictures, weights, scores, a verdict,
            and not the records of the settings themselves.
        scenes: what is set in turn, beside the base and the scene of a setting.
        whole: all that a setting outside the key must leave as it is; unset: every file and fact.
    """

    step: Step[Any]
    inputs: Callable[["Lab", Store, RunConfig], StepInputs]
    effect: Callable[["Lab", Store, ManifestDraft], Bits]
    scenes: tuple[Mapping[str, Any], ...] = ({},)
    whole: Callable[["Lab", Store, ManifestDraft], Bits] | None = None


class Lab:
    """Material, and the steps on it.

    Args:
        folder: receives everything.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = Settings(home=folder / "home", run_dir=None)
        self.store = self.new_store()
        self.named = make_material(folder / "material")
        self._outcomes: dict[str, Outcome] = {}
        self._keys: dict[str, Key] = {}

    def new_store(self) -> Store:
        """Return an empty store."""
        return memory_store(self.folder / "blobs")

    def config(self, overrides: Mapping[str, Any]) -> RunConfig:
        """Return the base with other values; material goes by its names."""
        values = {**BASE, **overrides}
        places = {n: str(self.named[values[n]]) for n in _NAMED if values.get(n) in self.named}
        several = [
            {**one, "images": str(self.named[one["images"]])} for one in values.get("subjects", [])
        ]
        return configured({**values, **places, "subjects": several})

    def key(self, probe: Probe, config: RunConfig) -> Key:
        """Return the step's key; that of an equal configuration is computed once."""
        name = f"{probe.step.name} {digest_of(config.model_dump(mode='json'))}"
        if name not in self._keys:
            with TemporaryDirectory(dir=self.folder) as folder:
                context = self._context(config, self.store, Path(folder))
                inputs = probe.inputs(self, self.store, config)
                parts = key_parts(probe.step, probe.step.key(context, inputs), self.store)
            self._keys[name] = Key(own=digest_of(parts["config"]), whole=digest_of(parts))
        return self._keys[name]

    def outcome(self, probe: Probe, config: RunConfig) -> Outcome:
        """Run a step on the common store and return its effect; equal runs are made once."""
        name = f"{probe.step.name} {digest_of(config.model_dump(mode='json'))}"
        if name not in self._outcomes:
            self._outcomes[name] = self._run(probe, config, self.store, probe.effect)
        return self._outcomes[name]

    def alone(self, probe: Probe, config: RunConfig) -> Outcome:
        """Run a step on an empty store, where nothing can be reused, and return all it made."""
        return self._run(probe, config, self.new_store(), probe.whole or everything)

    def _run(
        self,
        probe: Probe,
        config: RunConfig,
        store: Store,
        view: Callable[["Lab", Store, ManifestDraft], Bits],
    ) -> Outcome:
        inputs = probe.inputs(self, store, config)
        with TemporaryDirectory(dir=self.folder) as folder, in_this_process(store):
            context = self._context(config, store, Path(folder))
            try:
                parts = key_parts(probe.step, probe.step.key(context, inputs), store)
                path = f"steps/{probe.step.name}/{digest_of(parts)[:32]}"
                draft = probe.step.produce(replace(context, manifest_path=path), inputs)
                return Outcome(bits=_viewed(self, store, draft, view))
            except BoothlineError as error:
                return Outcome(refused=type(error).__name__)

    def _context(self, config: RunConfig, store: Store, folder: Path) -> StepContext:
        return StepContext(
            run_id="20260101-000000-abcd",
            config=config,
            settings=self.settings,
            store=store,
            progress=Progress("step"),
            tracker=MemoryTracker(),
            folder=folder,
        )


def _viewed(
    lab: Lab, store: Store, draft: ManifestDraft, view: Callable[[Lab, Store, ManifestDraft], Bits]
) -> Bits:
    """Return the view of a result; of one of several subjects, that of each part by name."""
    parts = draft.metadata.get("parts")
    if not isinstance(parts, list):
        return view(lab, store, draft)
    found: dict[str, Any] = {}
    for part, ref in zip(parts, draft.inputs, strict=False):
        manifest = store.read(ref)
        one = ManifestDraft(
            kind=manifest.kind,
            files={entry.path: entry for entry in manifest.files},
            inputs=tuple(map(ManifestRef.parse, manifest.inputs)),
            metadata=manifest.metadata,
        )
        bits = view(lab, store, one)
        found |= {f"{part['subject']}/{name}": value for name, value in bits.items()}
    return found


@contextmanager
def in_this_process(store: Store) -> Iterator[None]:
    """Do everything in this process and thread, a training as one rank on the given store."""
    import torch
    from accelerate.state import AcceleratorState

    from boothline.training.ranks import Requests
    from boothline.training.worker import run_rank

    def train(job: TrainingJob, *, settings: Settings, on_event: Any) -> TrainingResult:
        AcceleratorState._reset_state()  # a rank has a process, and so a precision, of its own
        run_rank(job, settings=settings, requests=Requests())
        return result_of(job)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("boothline.components.train.step.train", train)
        for module in ("boothline.diffusion.loading", "boothline.evaluation.encoders"):
            patch.setattr(f"{module}._load", _copied(import_module(module)._load))
        patch.setattr(Store, "connect", lambda settings, **_: store)
        # Teams of threads wait for each other where the model is so small.
        patch.setattr("boothline.diffusion.devices.share_cores", lambda num, settings: None)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def _copied(load: Callable[..., Any]) -> Callable[..., Any]:
    """Return a loader that reads equal weights once and then copies the model."""

    def copy(kind: type, folder: Path, *part: Any) -> Any:  # a part, and what it is kept in
        place = folder.joinpath(*(named.name for named in part[:1]))
        weights = [p.read_bytes() for p in sorted(place.glob("*.safetensors"))]
        name = f"{kind.__name__} {part[1:]} {hashlib.sha256(b''.join(weights)).hexdigest()}"
        if name not in _LOADED:
            _LOADED[name] = _Frozen(load(kind, folder, *part))
        return _LOADED[name].thawed()

    return copy


class _Frozen:
    """A model as a pickle beside its tensors: copied from it five times sooner than by deepcopy."""

    def __init__(self, model: Any) -> None:
        self._tensors: list[Any] = []
        numbers: dict[int, int] = {}
        text = io.BytesIO()
        pickler = pickle.Pickler(text, protocol=pickle.HIGHEST_PROTOCOL)

        def number_of(item: Any) -> int | None:
            if not hasattr(item, "untyped_storage"):
                return None
            if id(item) not in numbers:
                numbers[id(item)] = len(self._tensors)
                self._tensors.append(item)
            return numbers[id(item)]

        pickler.persistent_id = number_of  # type: ignore[method-assign]
        pickler.dump(model)
        self._text = text.getvalue()

    def thawed(self) -> Any:
        copies: dict[int, Any] = {}
        pickled = pickle.Unpickler(io.BytesIO(self._text))  # noqa: S301 - made above
        pickled.persistent_load = lambda n: deepcopy(self._tensors[n], copies)  # type: ignore[method-assign]
        return pickled.load()


def everything(lab: Lab, store: Store, draft: ManifestDraft) -> Bits:
    """Return every file and every fact of a result."""
    facts = {f"metadata {name}": _unsigned(value) for name, value in draft.metadata.items()}
    return {"kind": draft.kind, **files(lab, store, draft), **facts}


def files(lab: Lab, store: Store, draft: ManifestDraft, *, under: str = "") -> dict[str, str]:
    """Return the digests of a result's files."""
    return {
        path: hashlib.sha256(_without_digests(content(store, source))).hexdigest()
        for path, source in draft.files.items()
        if path.startswith(under)
    }


def _without_digests(data: bytes) -> bytes:
    """Return a text without the digests of manifests, which say who wrote them and when."""
    return re.sub(rb"@sha256:[0-9a-f]{64}", b"", data)


def _unsigned(value: object) -> object:
    return json.loads(_without_digests(json.dumps(value).encode()))


def content(store: Store, source: Any) -> bytes:
    """Return the bytes of a file of a draft."""
    if isinstance(source, bytes):
        return source
    if isinstance(source, Path):
        return source.read_bytes()
    return store._blobs.read(source)
