"""Other families and learnt tokens in the training loop: resumed to the same bits, published."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from stopping import StopAfter

from boothline.config.sampling import SamplingConfig
from boothline.config.training import LoraConfig
from boothline.diffusion.export import PICTURE_TOLERANCE, check_diffusers, save_diffusers
from boothline.diffusion.loading import load_pipeline
from boothline.diffusion.lora import load_adapters
from boothline.diffusion.lora_export import merge_checked
from boothline.errors import InterruptedRunError
from boothline.store import Store
from boothline.training.job import TrainingJob

pytestmark = pytest.mark.services

JobMaker = Callable[..., TrainingJob]
Runner = Callable[..., dict[str, Any]]
LORA = {"rank": 2, "alpha": 3.0}
PROMPT = "a photo of sks dog"
OTHERS = ("sd3", "flux", "klein", "z_image", "qwen_image")


@pytest.mark.proves("F26/loop")
@pytest.mark.parametrize(
    "name",
    ["sdxl", *(pytest.param(name, marks=pytest.mark.matrix) for name in OTHERS)],
)
def test_training_of_a_family_resumes_to_the_same_bits_and_is_published(
    make_job: JobMaker,
    run_here: Runner,
    digests: Callable[[str], dict[str, str]],
    store: Store,
    family_folders: Callable[[str], Path],
    tmp_path: Path,
    name: str,
) -> None:
    base, flow = family_folders(name), name != "sdxl"

    def job(states: str) -> TrainingJob:
        made = make_job(
            states, num_steps=4, method="lora", lora=LORA, train_text_encoder=not flow,
            ema_decay=0.9,
        )  # fmt: skip
        config, euler = made.config, {"sampling": SamplingConfig(sampler="euler", num_steps=1)}
        changed = {
            section: getattr(config, section).model_copy(update=euler)
            for section in ("evaluation", "inference", "prior")
        }
        return made.model_copy(
            update={"base_model": base, "config": config.model_copy(update=changed)}
        )

    expected = run_here(job("training/whole"))
    with pytest.raises(InterruptedRunError):
        run_here(job("training/cut"), StopAfter(1))
    resumed = run_here(job("training/cut"))
    assert digests(resumed["final_state"]) == digests(expected["final_state"])

    parts = load_pipeline(base, device="cpu")
    state = store.fetch(resumed["final_state"], tmp_path / "state")
    trained = load_adapters(parts, state, lora=LoraConfig.model_validate(LORA))
    merge_checked(parts, prompt=PROMPT)
    save_diffusers(parts, tmp_path / "diffusers", base=base, trained=trained)
    _, difference = check_diffusers(tmp_path / "diffusers", parts, prompt=PROMPT)
    assert difference <= PICTURE_TOLERANCE


@pytest.mark.proves("F56/embedding")
@pytest.mark.parametrize("method", ["full", "lora"])
def test_training_of_a_token_resumes_to_the_same_bits_and_keeps_its_row_alone(
    make_job: JobMaker,
    run_here: Runner,
    digests: Callable[[str], dict[str, str]],
    store: Store,
    tmp_path: Path,
    method: str,
) -> None:
    learnt = {"enabled": True, "learning_rate": 1e-2}
    settings = {
        "num_steps": 4,
        "method": method,
        "train_text_encoder": method == "lora",
        "token_embedding": learnt,
        "ema_decay": 0.9,
    }
    whole = make_job("training/whole", **settings)
    expected = run_here(whole)
    with pytest.raises(InterruptedRunError, match="after step 3 of 4"):
        run_here(make_job("training/cut", **settings), StopAfter(1))
    result = run_here(make_job("training/cut", **settings))
    assert digests(result["final_state"]) == digests(expected["final_state"])

    folder = store.fetch(result["final_state"], tmp_path / "state")
    names = {"full": {"unet"}, "lora": {"unet_lora", "text_encoder_lora"}}[method]
    weights = {file.stem for file in folder.glob("*.safetensors")} - {"ema", "optimizer"}
    assert weights == names | {"token_embedding"}
    (row,) = load_file(folder / "token_embedding.safetensors").values()
    table = load_file(whole.base_model / "text_encoder" / "model.safetensors")
    (start,) = [t for name, t in table.items() if name.endswith("token_embedding.weight")]
    assert row.shape == (1, start.shape[1])
    assert not (start == row).all(dim=1).any()
    slots = load_file(folder / "optimizer.safetensors")
    assert slots["token_embedding.text_encoder/exp_avg"].any()
