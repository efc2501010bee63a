"""One rank in this process against a real store: states, resume, caches, refusals."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from safetensors.torch import load_file, save_file
from stopping import StopAfter

from boothline.errors import ConfigError, InterruptedRunError, NonFiniteLossError
from boothline.store import Store
from boothline.store.manifest import ManifestDraft
from boothline.training.job import TrainingJob
from boothline.training.ranks import Requests

pytestmark = pytest.mark.services

JobMaker = Callable[..., TrainingJob]
Runner = Callable[..., dict[str, Any]]
Digests = Callable[[str], dict[str, str]]


class SaveOnce(Requests):
    """Asks once for a training state, at its first report."""

    def __init__(self) -> None:
        super().__init__()
        self.save = True


def curve_of(job: TrainingJob) -> list[dict[str, float]]:
    return [json.loads(line) for line in (job.folder / "curve.jsonl").read_text().splitlines()]


@pytest.mark.proves("F05/last")
def test_training_to_the_end_commits_states_curve_and_sheet(
    make_job: JobMaker, run_here: Runner, store: Store
) -> None:
    job = make_job()
    result = run_here(job)
    state = store.read(result["final_state"])
    assert state.metadata["step"] == 6
    assert {entry.path for entry in state.files} == {
        "curve.jsonl", "optimizer.json", "optimizer.safetensors", "samples/step-000006.png",
        "state.json", "text_encoder.safetensors", "unet.safetensors",
    }  # fmt: skip
    assert store.manifests("training/job/") == [f"training/job/step-00000{n}" for n in (4, 6)]
    assert [row["step"] for row in curve_of(job)] == [1, 2, 3, 4, 5, 6]
    assert (job.folder / "samples/step-000006.png").exists()
    assert not (job.folder / "inputs.png").exists()


MATRIX = [
    {
        "method": method,
        "train_text_encoder": trains_text_encoder,
        "accumulation": accumulation,
        "ema_decay": 0.9,
        "batch_size": 6,
        **({"lora": {"rank": 2, "dora": accumulation == 3}} if method == "lora" else {}),
        # Each of these is on in half of the cases.
        **({"horizontal_flip": True} if trains_text_encoder else {"min_snr_gamma": 5.0}),
        **({"sample_every_steps": 2} if accumulation == 3 else {"noise_offset": 0.1}),
    }
    for method in ("full", "lora")
    for trains_text_encoder in (True, False)
    for accumulation in (1, 3)
]


# Half of the cases hold every pair of settings.
CASES = [
    pytest.param(case, marks=() if number in (0, 3, 5, 6) else pytest.mark.matrix)
    for number, case in enumerate(MATRIX)
]


@pytest.mark.proves("F04/curve")
@pytest.mark.parametrize(
    "settings",
    CASES,
    ids=lambda s: "-".join(
        (s["method"], "both" if s["train_text_encoder"] else "unet", str(s["accumulation"]))
    ),
)
def test_training_stopped_and_resumed_equals_the_uninterrupted(
    make_job: JobMaker, run_here: Runner, digests: Digests, settings: dict[str, Any]
) -> None:
    settings = {"num_steps": 4, **settings}
    whole = make_job("training/whole", **settings)
    expected = run_here(whole)
    stopped = make_job("training/cut", **settings)
    with pytest.raises(InterruptedRunError, match="after step 3 of 4"):
        run_here(stopped, StopAfter(1))
    resumed = make_job("training/cut", **settings)
    result = run_here(resumed)
    assert digests(result["final_state"]) == digests(expected["final_state"])
    assert curve_of(resumed) == curve_of(whole)


@pytest.mark.proves("F22/trained")
def test_training_of_adapters_keeps_and_trains_adapters_alone(
    make_job: JobMaker, run_here: Runner, store: Store, tmp_path: Path
) -> None:
    job = make_job(method="lora", lora={"rank": 2}, num_steps=2, ema_decay=0.9)
    result = run_here(job)
    state = store.read(result["final_state"])
    names = {"unet_lora.safetensors", "text_encoder_lora.safetensors"}
    assert {e.path for e in state.files if e.path.endswith(".safetensors")} == {
        *names, "optimizer.safetensors", "ema.safetensors",
    }  # fmt: skip
    assert state.metadata["lora"]["rank"] == 2
    folder = store.fetch(result["final_state"], tmp_path / "state")
    kept = {key: w for name in names for key, w in load_file(folder / name).items()}
    assert all(".lora_A." in key or ".lora_B." in key for key in kept)
    assert result["num_parameters_trained"] == sum(w.numel() for w in kept.values())
    assert all(bool(w.any()) for w in kept.values())
    assert all(".lora_" in key for key in load_file(folder / "optimizer.safetensors"))


def test_training_finished_before_is_not_repeated(make_job: JobMaker, run_here: Runner) -> None:
    first = run_here(make_job())
    again = make_job()
    assert run_here(again) == first
    assert "step" not in [
        json.loads(line)["event"]
        for line in (again.folder / "events.jsonl").read_text().splitlines()
    ]


def test_training_without_caches_gives_the_same_bits(
    make_job: JobMaker, run_here: Runner, digests: Digests
) -> None:
    settings = {
        "train_text_encoder": False,
        "horizontal_flip": True,
        "random_crops": 2,
        "caption_templates": ["a photo of a {subject}", "{caption} in snow"],
        "num_steps": 2,
    }
    cached = run_here(make_job("training/cached", **settings))
    fresh = run_here(make_job("training/fresh", **settings, caches=False))
    assert digests(fresh["final_state"]) == digests(cached["final_state"])


def test_training_asked_to_save_commits_a_state_and_goes_on(
    make_job: JobMaker, run_here: Runner, store: Store
) -> None:
    job = make_job(num_steps=4)
    config = job.config.model_copy(
        update={"checkpoints": job.config.checkpoints.model_copy(update={"every_steps": 100})}
    )
    run_here(job.model_copy(update={"config": config}), SaveOnce())
    assert store.manifests("training/job/") == [f"training/job/step-00000{n}" for n in (2, 4)]


def test_states_by_age_are_committed_between_steps_and_change_no_bit(
    make_job: JobMaker, run_here: Runner, store: Store, digests: Digests
) -> None:
    def seldom(states: str) -> TrainingJob:
        job = make_job(states, num_steps=4)
        checkpoints = job.config.checkpoints.model_copy(update={"every_steps": 100})
        config = job.config.model_copy(update={"checkpoints": checkpoints})
        return job.model_copy(update={"config": config})

    aged = run_here(seldom("training/aged"), Requests(save_every_seconds=1e-9))
    by_steps = run_here(seldom("training/by-steps"), Requests(save_every_seconds=3600.0))
    assert store.manifests("training/aged/") == [f"training/aged/step-00000{n}" for n in (2, 4)]
    assert store.manifests("training/by-steps/") == ["training/by-steps/step-000004"]
    assert digests(aged["final_state"]) == digests(by_steps["final_state"])


def test_training_with_a_damaged_state_falls_back_one(
    make_job: JobMaker, run_here: Runner, store: Store, digests: Digests
) -> None:
    first = run_here(make_job())
    expected = digests(first["final_state"])
    newest = store.read(first["final_state"])
    store.forget("training/job/step-000006")
    files: dict[str, Any] = {e.path: e for e in newest.files}
    files["unet.safetensors"] = newest.entry("curve.jsonl").model_copy(
        update={"path": "unet.safetensors", "sha256": "0" * 64}
    )
    damaged = newest.model_copy(
        update={"files": tuple(e.model_copy(update={"path": p}) for p, e in files.items())}
    )
    store._bucket.put_if_absent(
        "training/job/step-000006/manifest.json", damaged.model_dump_json().encode()
    )
    again = make_job()
    result = run_here(again)
    assert digests(result["final_state"]) == expected
    assert '"start", "step": 4' in (again.folder / "events.jsonl").read_text()


def test_training_with_a_state_of_other_data_is_refused(
    make_job: JobMaker, run_here: Runner
) -> None:
    run_here(make_job(num_steps=2))
    other = make_job(num_steps=2).model_copy(update={"data_digest": "other"})
    with pytest.raises(ConfigError, match="made with another data"):
        run_here(other)


def test_training_with_a_loss_that_is_not_finite_stops_and_keeps_the_last_state(
    make_job: JobMaker, run_here: Runner, store: Store
) -> None:
    job = make_job(num_steps=2)
    ref = run_here(job)["final_state"]
    longer = make_job("training/poisoned", num_steps=4)
    poison_text_encoder(store, ref, longer)
    with pytest.raises(NonFiniteLossError, match="in step 3"):
        run_here(longer)
    assert store.manifests("training/poisoned/") == ["training/poisoned/step-000002"]


def poison_text_encoder(store: Store, ref: str, job: TrainingJob) -> None:
    """Commit a state as step 2 of another job, with a weight that is not a number."""
    folder = store.fetch(ref, job.folder / "good")
    weights = load_file(folder / "text_encoder.safetensors")
    name = next(name for name in weights if name.endswith("final_layer_norm.weight"))
    weights[name].fill_(float("nan"))
    save_file(weights, job.folder / "bad.safetensors")
    state = json.loads((folder / "state.json").read_text())
    files: dict[str, Path | bytes] = {
        entry.path: folder / entry.path for entry in store.read(ref).files
    }
    files["text_encoder.safetensors"] = job.folder / "bad.safetensors"
    files["state.json"] = json.dumps({**state, "identity": job.identity}).encode()
    store.commit(job.state_path(2), ManifestDraft(kind="training_state", files=files))


def test_training_short_of_memory_takes_smaller_passes_and_ends_the_same(
    make_job: JobMaker,
    run_here: Runner,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    import torch

    from boothline.training.denoiser import Denoiser

    settings = {"learning_rate": 1e-4, "num_steps": 3}
    expected = run_here(make_job("training/ample", **settings))
    forward = Denoiser.forward

    def short(self: Denoiser, noisy: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        if self.training and len(noisy) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(self, noisy, *others)

    monkeypatch.setattr(Denoiser, "forward", short)
    job = make_job("training/short", **settings)
    result = run_here(job)
    assert result["pass_size"] == 1
    assert "1 pictures of each half at once instead of 4" in caplog.text
    events = [json.loads(line) for line in (job.folder / "events.jsonl").read_text().splitlines()]
    assert [e["pass_size"] for e in events if e["event"] == "smaller"] == [2, 1]
    ours, theirs = (
        load_file(store.fetch(r["final_state"], tmp_path / name) / "unet.safetensors")
        for name, r in (("short", result), ("ample", expected))
    )
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) <= 1e-6


def test_training_short_of_memory_for_single_pictures_fails(
    make_job: JobMaker, run_here: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from boothline.training.denoiser import Denoiser

    def short(self: Denoiser, *batch: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(Denoiser, "forward", short)
    with pytest.raises(torch.OutOfMemoryError):
        run_here(make_job())


def test_state_goes_on_with_the_global_batch_cut_otherwise(
    make_job: JobMaker, run_here: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"num_steps": 4, "learning_rate": 1e-4}
    with pytest.raises(InterruptedRunError):
        run_here(make_job(accumulation=2, **settings), StopAfter(2))
    resumed = make_job(accumulation=4, **settings)
    run_here(resumed)
    assert "the work cut otherwise" in caplog.text
    assert [row["step"] for row in curve_of(resumed)] == [1, 2, 3, 4]


@pytest.mark.proves("F20/exception")
@pytest.mark.parametrize("part", ["forward", "sheet"])
def test_training_that_fails_keeps_the_steps_before_and_goes_on_to_the_same_bits(
    make_job: JobMaker, run_here: Runner, digests: Digests, store: Store, part: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from boothline.training.denoiser import Denoiser
    from boothline.training.sheets import SheetMaker

    settings = {"num_steps": 5, "ema_decay": 0.9}
    expected = run_here(make_job("training/whole", **settings))
    kind, name = (Denoiser, "forward") if part == "forward" else (SheetMaker, "make")
    every = 3 if part == "sheet" else 0
    calls, good = [], getattr(kind, name)

    def failing(self: Any, *args: Any, **more: Any) -> Any:
        calls.append(None)
        if len(calls) == 4 or part == "sheet":
            raise RuntimeError("a cable was pulled")
        return good(self, *args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(kind, name, failing)
        cut = make_job("training/cut", **settings, sample_every_steps=every)
        with pytest.raises(RuntimeError, match="cable"):
            run_here(cut)
    assert (cut.folder / "inputs.png").exists() == (part == "sheet")
    assert store.manifests("training/cut/")[-1] == "training/cut/step-000003"
    resumed = run_here(make_job("training/cut", **settings))
    assert digests(resumed["final_state"]) == digests(expected["final_state"])


def test_training_that_fails_and_cannot_keep_its_steps_says_why_it_failed(
    make_job: JobMaker, run_here: Runner, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    cable, disk = RuntimeError("a cable was pulled"), OSError("the disk is full")
    monkeypatch.setattr("boothline.training.sheets.SheetMaker.make", Mock(side_effect=cable))
    states = "boothline.training.state_store.StateStore.commit_later"
    monkeypatch.setattr(states, Mock(side_effect=disk))
    with pytest.raises(RuntimeError, match="cable"):
        run_here(make_job("training/cut", num_steps=3, sample_every_steps=2))
    assert "could not be kept" in caplog.text
    assert "the disk is full" in caplog.text


@pytest.mark.faults  # compiling takes minutes on one core
def test_training_compiled_resumes_to_the_same_bits(
    make_job: JobMaker, run_here: Runner, digests: Digests
) -> None:
    settings = {"compile": True, "num_steps": 4, "train_text_encoder": False}
    expected = run_here(make_job("training/whole", **settings))
    with pytest.raises(InterruptedRunError):
        run_here(make_job("training/cut", **settings), StopAfter(2))
    resumed = run_here(make_job("training/cut", **settings))
    assert digests(resumed["final_state"]) == digests(expected["final_state"])


def test_training_to_be_compiled_without_a_compiler_warns_and_goes_on(
    make_job: JobMaker,
    run_here: Runner,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from torch._inductor import cpp_builder
    from torch._inductor.exc import InvalidCxxCompiler

    def missing() -> str:
        raise InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", missing)
    run_here(make_job(compile=True, num_steps=1))
    assert "there is no C++ compiler" in caplog.text
