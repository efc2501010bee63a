"""The settings that are compared, and the few combinations in which every pair of values occurs.

Each factor is a setting of the training on and off, or at several values. A pairwise covering array
takes some twenty rows instead of billions, and a fault that needs two settings at once still shows.
"""

import random
from collections.abc import Mapping, Sequence
from itertools import combinations, product
from typing import Any

LORA = {"rank": 2, "alpha": 5.0, "targets": ["to_q", "to_out.0"],
        "text_encoder_targets": ["v_proj", "fc1"]}  # fmt: skip
TEMPLATES = ["a {subject} on the moon", "{caption} in the snow"]

# Settings of `training`, unless the name says otherwise. The first value is what is off.
FACTORS: dict[str, tuple[dict[str, Any], ...]] = {
    "method": (
        {"method": "full"},
        {"method": "lora", "lora": {**LORA, "dora": False}},
        {"method": "lora", "lora": {**LORA, "dora": True}},
    ),
    "text adapter": ({"adapt_text": False}, {"adapt_text": True}),
    "text encoder": ({"train_text_encoder": False}, {"train_text_encoder": True}),
    "prediction": ({"kind": "epsilon"}, {"kind": "v_prediction"}, {"kind": "sample"}),
    "prior": ({"prior": None}, {"prior": 1.0}, {"prior": 0.4}),
    "buckets": ({"buckets": []}, {"buckets": ["32x32", "48x32"]}),
    "flip": ({"horizontal_flip": False}, {"horizontal_flip": True}),
    "crops": ({"random_crops": 0}, {"random_crops": 1}, {"random_crops": 3}),
    "crop size": ({"crop_scale": 0.8}, {"crop_scale": 0.5}),
    "interpolation": tuple({"interpolation": name} for name in ("bicubic", "bilinear", "lanczos")),
    "captions": ({"caption_templates": []}, {"caption_templates": TEMPLATES}),
    "dropped captions": ({"caption_dropout": 0.0}, {"caption_dropout": 0.5}),
    "masks": ({"masks": False}, {"masks": True}),
    "repeats": ({"repeats": 1}, {"repeats": 3}),
    "offset noise": ({"noise_offset": 0.0}, {"noise_offset": 0.1}),
    "min-SNR": ({"min_snr_gamma": None}, {"min_snr_gamma": 0.5}, {"min_snr_gamma": 5.0}),
    "Huber": ({"huber_delta": None}, {"huber_delta": 0.5}),
    "accumulation": ({"accumulation": 1}, {"accumulation": 2}),
    # No gradient is as long as the first; all are longer than the second; with the third they are
    # as short as Adam's epsilon.
    "clipping": ({"max_grad_norm": 1e9}, {"max_grad_norm": 0.01}, {"max_grad_norm": 1e-6}),
    "decay": ({"weight_decay": 0.0}, {"weight_decay": 0.3}),
    "beta 1": ({"beta1": 0.9}, {"beta1": 0.0}),
    "beta 2": ({"beta2": 0.999}, {"beta2": 0.7}),
    "rate": ({"learning_rate": 1e-3}, {"learning_rate": 5e-3}),
    "text rate": ({"text_encoder_learning_rate": None}, {"text_encoder_learning_rate": 4e-4}),
    "scaled rate": ({"scale_learning_rate": False}, {"scale_learning_rate": True}),
    "warm-up": ({"warmup_steps": 0}, {"warmup_steps": 1}, {"warmup_steps": 9}),
    "schedule": tuple(
        {"schedule": name} for name in ("constant", "cosine", "linear", "polynomial")
    ),
    # The second is below the warm-up of the average from its second update on.
    "average": ({"ema_decay": None}, {"ema_decay": 0.15}, {"ema_decay": 0.999}),
    "batch": ({"batch_size": 2}, {"batch_size": 4}),
    "seed": ({"seed": 0}, {"seed": 11}),
    "checkpointing": ({"gradient_checkpointing": False}, {"gradient_checkpointing": True}),
    "caches": ({"caches": True}, {"caches": False}),
}
# They save memory or time and leave the result as it is.
NEUTRAL = ("accumulation", "checkpointing", "caches")

Row = Mapping[str, int]


def pairs(row: Row) -> set[tuple[tuple[str, int], tuple[str, int]]]:
    """Return the pairs of values that a row holds."""
    return set(combinations(sorted(row.items()), 2))


def all_pairs(factors: Mapping[str, Sequence[Any]]) -> set[Any]:
    """Return every pair of values of two factors."""
    found = set()
    for one, other in combinations(sorted(factors), 2):
        values = product(range(len(factors[one])), range(len(factors[other])))
        found |= {((one, i), (other, j)) for i, j in values}
    return found


def covering_rows(factors: Mapping[str, Sequence[Any]], *, tries: int = 10) -> list[Row]:
    """Return rows that hold every pair of values; the same ones each time.

    Greedy: of some random rows around a pair that is still missing, the one with most new pairs.
    """
    draws = random.Random(0)
    missing = all_pairs(factors)
    rows: list[Row] = []
    while missing:
        wanted = min(missing)
        candidates = [
            {**{name: draws.randrange(len(values)) for name, values in factors.items()},
             **dict(wanted)}
            for _ in range(tries)
        ]  # fmt: skip
        improved = [_improved(row, missing, factors, fixed=dict(wanted)) for row in candidates]
        best = max(improved, key=lambda row: len(pairs(row) & missing))
        missing -= pairs(best)
        rows.append(best)
    return rows


def _improved(row: dict[str, int], missing: set[Any], factors: Any, *, fixed: Row) -> Row:
    """Set each free factor in turn to the value with most missing pairs."""
    for name in sorted(set(row) - set(fixed)):

        def gain(value: int, name: str = name) -> int:
            return sum(
                tuple(sorted([(name, value), (other, row[other])])) in missing
                for other in row if other != name
            )  # fmt: skip

        row[name] = max(range(len(factors[name])), key=gain)
    return row


def case_of(row: Row) -> dict[str, Any]:
    """Return a row's settings in one mapping."""
    merged: dict[str, Any] = {}
    for name, value in row.items():
        merged.update(FACTORS[name][value])
    adapted = merged.pop("adapt_text")
    if "lora" in merged:
        merged["lora"] = {**merged["lora"], "text_encoder": adapted}
    return merged
