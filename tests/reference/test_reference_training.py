"""The product's training against a reference in plain torch: equal weights after three steps."""

from pathlib import Path
from typing import Any

import pytest
from diffusers import DDPMScheduler
from reference.comparing import distance
from reference.matrix import FACTORS, all_pairs, case_of, covering_rows, pairs
from reference.product import in_float64, reference_of, run_one_rank, trained

TOLERANCE = 1e-6
VISIBLE = 1e-3  # what a setting changes at least: a thousand times the tolerance
IN_FLOAT32 = 0.05
ROWS = covering_rows(FACTORS)
IN_EVERY_RUN = 5  # of the rows; the others are the matrix's
# Everything is on, and nothing hides another: a base for changing one setting at a time.
ALL_ON = {
    "accumulation": 1, "average": 1, "batch": 1, "beta 1": 0, "beta 2": 0, "buckets": 0,
    "caches": 0, "captions": 1, "checkpointing": 0, "clipping": 1, "crop size": 1, "crops": 2,
    "decay": 1, "dropped captions": 1, "flip": 1, "Huber": 1, "interpolation": 0, "masks": 1,
    "method": 0, "min-SNR": 1,
    "offset noise": 1, "prediction": 0, "prior": 2, "rate": 0, "repeats": 1, "scaled rate": 0,
    "schedule": 1, "seed": 0, "text adapter": 1, "text encoder": 1, "text rate": 1, "warm-up": 1,
}  # fmt: skip
# They change which weights are trained, or save memory and time and leave the result as it is.
NOT_COMPARED = {
    "method", "text adapter", "text encoder", "accumulation", "checkpointing", "caches"
}  # fmt: skip


def error_of(job: Any) -> float:
    """Train a job by the product and by the reference, and return how far they end apart."""
    with in_float64():
        run_one_rank(job)
        wanted = reference_of(job).run()
    weights, average = trained(job)
    assert bool(average) == (job.config.training.ema_decay is not None)
    errors = [distance(weights, wanted.weights, start=wanted.start)]
    if average:
        errors.append(distance(average, wanted.average, start=wanted.start))
    return max(errors)


SEVERAL: dict[str, Any] = {
    "masks": True,
    "repeats": 2,
    "random_crops": 2,
    "horizontal_flip": True,
    "caption_templates": ["{caption} now", "a {subject} in snow"],
    "caption_dropout": 0.3,
    "noise_offset": 0.05,
}


@pytest.fixture
def all_on(make_job, kept: list[Any] = []) -> Any:  # noqa: B006 - trained once
    """The reference with everything on."""
    if not kept:
        with in_float64():
            kept.append(reference_of(make_job(**case_of(ALL_ON))).run())
    return kept[0]


def test_matrix_holds_every_pair_of_settings() -> None:
    held = set().union(*(pairs(row) for row in ROWS))
    assert held == all_pairs(FACTORS)


@pytest.mark.proves("F68/reference", "F21/offset", "F11/clipping", "F11/checkpointing")
@pytest.mark.proves("F11/accumulation")  # of three pictures the second step of two is past the end
@pytest.mark.parametrize(
    "number",
    [
        pytest.param(number, marks=[pytest.mark.matrix] if number >= IN_EVERY_RUN else [])
        for number in range(len(ROWS))
    ],
)
def test_training_with_settings_of_the_matrix_equals_the_reference(make_job, number) -> None:
    case = case_of(ROWS[number])
    assert error_of(make_job(**case)) <= TOLERANCE, case


def test_training_of_stable_diffusion_2_equals_the_reference(make_job, base_2x) -> None:
    job = make_job(base=base_2x, noise_offset=0.05, min_snr_gamma=1.0, ema_decay=0.99)
    assert error_of(job) <= TOLERANCE


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_training_with_zero_terminal_snr_equals_the_reference(make_job, base_of, kind) -> None:
    base = base_of(prediction_type=kind, rescale_betas_zero_snr=True, num_train_timesteps=3)
    assert error_of(make_job(base=base, batch_size=4, min_snr_gamma=1.0)) <= TOLERANCE


@pytest.mark.proves("F27/reference")
@pytest.mark.parametrize("settings", [{}, SEVERAL], ids=["plain", "everything on"])
def test_training_of_two_subjects_equals_the_reference(make_job, settings) -> None:
    """A batch of three, so that the subjects change places from step to step."""
    job = make_job(num_subjects=2, batch_size=3, **settings)
    assert error_of(job) <= TOLERANCE


LEARNT = {"enabled": True, "learning_rate": 4e-3}


@pytest.mark.proves("F56/embedding")
@pytest.mark.parametrize(
    "settings",
    [
        {"train_text_encoder": False, "ema_decay": 0.9, "weight_decay": 0.3},
        {**case_of({**ALL_ON, "method": 1}), "caption_templates": ["a {subject}"]},
        {"method": "lora", "num_subjects": 2, "batch_size": 3},
    ],
    ids=["full", "everything on", "two subjects"],
)
def test_training_of_a_token_equals_the_reference(make_job, settings) -> None:
    learnt = {**LEARNT, "init_word": "red bear"} if "num_subjects" not in settings else LEARNT
    job = make_job(**{**settings, "token_embedding": learnt})
    assert error_of(job) <= TOLERANCE
    assert "token_embedding.text_encoder" in trained(job)[0]


def test_training_with_lion_equals_the_reference(make_job) -> None:
    pytest.importorskip("lion_pytorch", reason="needs the extra optimizers")
    # Of adapters: the sign of a gradient that is zero by construction is rounding alone.
    case = case_of({**ALL_ON, "method": 1})
    assert error_of(make_job(**{**case, "optimizer": "lion", "beta2": 0.99})) <= TOLERANCE


def test_training_in_float32_stays_near_the_reference(make_job) -> None:
    job = make_job(**case_of({**ALL_ON, "method": 1}))
    run_one_rank(job)
    with in_float64():
        wanted = reference_of(job).run()
    weights, _ = trained(job)
    assert distance(weights, wanted.weights, start=wanted.start) <= IN_FLOAT32


@pytest.mark.matrix
@pytest.mark.parametrize("factor", sorted(set(FACTORS) - NOT_COMPARED))
def test_setting_changed_in_the_reference_ends_elsewhere(make_job, all_on, factor) -> None:
    other = 0 if ALL_ON[factor] else 1
    wanted = all_on
    with in_float64():
        changed = reference_of(make_job(**case_of({**ALL_ON, factor: other}))).run()
    found, compared = (changed.weights, wanted.weights)
    if factor == "average":
        found, compared = (changed.average, wanted.average)
    assert distance(found, compared, start=wanted.start) >= VISIBLE


def test_noise_schedule_is_the_product_of_its_signal(base_of) -> None:
    """DDPM: alpha_bar_t is the product of 1 - beta_s up to t; the betas' roots are linear."""
    schedule = DDPMScheduler.from_pretrained(base_of(prediction_type="epsilon") / "scheduler")
    low, high, count = 0.00085**0.5, 0.012**0.5, 1000
    signal = 1.0
    for t in range(count):
        signal *= 1 - (low + (high - low) * t / (count - 1)) ** 2
        assert float(schedule.alphas_cumprod[t]) == pytest.approx(signal, rel=1e-5)


def test_reference_imports_nothing_of_the_product_but_the_counters() -> None:
    for name in ("formulas", "inputs", "training"):
        text = Path(__file__).with_name(f"{name}.py").read_text()
        taken = [line for line in text.splitlines() if "boothline" in line]
        assert set(taken) <= {"from boothline.diffusion import counters"}
