"""Dropped captions: drawn by the counters, and the empty prompt of the family in their place."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from boothline.config import RunConfig
from boothline.diffusion import counters
from boothline.diffusion.families import FAMILIES, LatentScale
from boothline.diffusion.layout import check_config
from boothline.errors import ConfigError
from boothline.training.batches import BatchMaker, Half, MicroBatch
from boothline.training.encoding import CaptionSource
from boothline.training.job import result_config
from boothline.training.objective import UniformTimesteps
from boothline.training.pictures import Picture
from boothline.training.ranks import Ranks

SEED, DROPPED = 3, 9


class Moments:
    """Moments of one channel without meaning."""

    def moments(self, index: int, *, flip: bool, crop: int = 0) -> torch.Tensor:
        return torch.zeros(2, 2, 2)


class Rows:
    """Captions that are their own rows; the dropped one is row 9."""

    def row(self, caption: str | None) -> int:
        return DROPPED if caption is None else int(caption)

    def encoded(self, rows: list[int]) -> dict[str, torch.Tensor]:
        return {"number": torch.tensor(rows)}


def maker(dropout: float) -> BatchMaker:
    moments: Any = Moments()
    rows: Any = Rows()
    halves = tuple(
        Half(
            name=name,
            pictures=[Picture(path=Path("x.png"), caption="")] * 2,
            moments=moments,
            captions=[(str(number),)] * 2,
        )
        for number, name in enumerate(("instance", "prior"))
    )
    return BatchMaker(
        halves=halves, captions=rows, seed=SEED, batch_size=4, caption_dropout=dropout,
        timesteps=UniformTimesteps(count=50), scale=LatentScale(factor=1.0),
    )  # fmt: skip


def captions_of(batch: MicroBatch) -> list[int]:
    return [int(batch.captions["number"][row]) for row in batch.caption_rows_B]


@pytest.mark.proves("F56/dropout")
def test_batches_drop_the_captions_that_the_counters_say_in_both_halves() -> None:
    found = [captions_of(maker(0.3).make(step, slots=range(4))) for step in range(50)]
    expected = []
    for step in range(50):
        row = []
        for number, half in enumerate(("instance", "prior")):
            for slot in range(4):
                drawn = counters.uniform(
                    (), seed=SEED, stream=f"{half}/dropout", index=(step, slot)
                )
                row.append(DROPPED if float(drawn) < 0.3 else number)
        expected.append(row)
    assert found == expected
    share = np.mean(np.array(found) == DROPPED, axis=0)
    assert 0.2 < share[:4].mean() < 0.4
    assert 0.2 < share[4:].mean() < 0.4


@pytest.mark.proves("F56/dropout")
def test_batches_drop_the_same_captions_whatever_rank_makes_them() -> None:
    whole = captions_of(maker(0.5).make(6, slots=range(4)))
    first, second = (captions_of(maker(0.5).make(6, slots=range(n, n + 2))) for n in (0, 2))
    assert whole == first[:2] + second[:2] + first[2:] + second[2:]
    assert DROPPED in whole


def test_batches_with_dropout_draw_everything_else_as_without() -> None:
    plain, dropped = (maker(p).make(2, slots=range(4)) for p in (0.0, 0.9))
    for name in ("latents_BCHW", "noise_BCHW", "timesteps_B"):
        assert torch.equal(getattr(plain, name), getattr(dropped, name))
    assert DROPPED not in captions_of(plain)
    assert DROPPED in captions_of(dropped)


def source(captions: list[str], *, dropped: bool, embed: Any = None) -> CaptionSource:
    return CaptionSource(
        captions,
        tokenize=lambda text: {"text_encoder": torch.tensor([len(text), 7])},
        embed=embed,
        cached=True,
        ranks=Ranks(rank=0, world_size=1, device=torch.device("cpu")),
        dropped=dropped,
        without_text=lambda conditioning: {n: -value for n, value in conditioning.items()},
    )


@pytest.mark.proves("F56/dropout")
def test_caption_source_gives_a_trained_text_encoder_the_empty_prompt() -> None:
    captions = source(["a bear", "", "bear"], dropped=True)
    rows = [captions.row(text) for text in ("", "a bear", "bear", None)]
    assert rows == [0, 1, 2, 3]
    assert captions.encoded(rows)["text_encoder"][:, 0].tolist() == [0, 6, 4, 0]


@pytest.mark.proves("F56/dropout")
def test_caption_source_gives_the_familys_conditioning_of_no_text() -> None:
    def embed(tokens: Any) -> Any:
        return {"context": tokens["text_encoder"].float() + 1}

    captions = source(["bear", ""], dropped=True, embed=embed)
    found = captions.encoded([captions.row(text) for text in ("bear", "", None)])["context"]
    assert found.tolist() == [[5, 8], [1, 8], [-1, -8]]


def test_caption_source_without_dropout_has_no_row_for_it() -> None:
    captions = source(["bear"], dropped=False)
    with pytest.raises(KeyError):
        captions.row(None)


def config_of(**training: Any) -> RunConfig:
    return RunConfig.model_validate({"training": {"caption_dropout": 0.1, **training}})


@pytest.mark.proves("F56/dropout")
def test_check_config_refuses_dropout_where_no_text_encoder_makes_the_empty_prompt() -> None:
    sdxl, plain = FAMILIES["StableDiffusionXLPipeline"], FAMILIES["StableDiffusionPipeline"]
    with pytest.raises(ConfigError, match=r"caption_dropout 0\.1 .* SDXL") as caught:
        check_config(sdxl, config_of())
    assert "training.train_text_encoder to false" in caught.value.remedy
    check_config(sdxl, config_of(train_text_encoder=False))
    check_config(plain, config_of())
    learnt = config_of(train_text_encoder=False, token_embedding={"enabled": True})
    with pytest.raises(ConfigError, match=r"caption_dropout 0\.1 .* SDXL"):
        check_config(sdxl, learnt)
    check_config(plain, learnt)


def test_families_whose_empty_prompt_is_no_text_say_so() -> None:
    from boothline.diffusion.families.family import Family

    for family in FAMILIES.values():
        own = type(family).without_text is not Family.without_text
        assert family.empty_is_text is not own, family.name


def test_result_config_names_dropout_where_it_is_used_alone() -> None:
    def named(config: RunConfig) -> bool:
        training: Any = result_config(config, world_size=1)["training"]
        return "caption_dropout" in training

    assert named(config_of())
    assert not named(RunConfig())
