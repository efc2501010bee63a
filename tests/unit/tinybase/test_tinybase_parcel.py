"""A parcel carries states and art to another machine and back."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from models.build import parcel as parcels
from models.build.autoencoder import AutoencoderObjective, build_autoencoder
from models.build.parcel import Parcel, ParcelError
from models.build.recipe import AutoencoderSize, Training
from models.build.sprites import PACKAGES, Rendition
from models.build.stage import StageTrainer, load_state

STAGES = ("autoencoder", "unet")


def trainer(state: Path, *, ema_decay: float = 0.0, seconds: float = 600.0) -> StageTrainer:
    torch.manual_seed(0)
    pixels = np.random.default_rng(3).integers(0, 255, (8, 16, 16, 3)).astype(np.uint8)
    objective = AutoencoderObjective(
        build_autoencoder(AutoencoderSize(channels=(8, 8), norm_groups=8)),
        pixels=(pixels,),
        batch_size=2,
    )
    return StageTrainer(
        "autoencoder",
        objective=objective,
        plan=Training(6, 2, 1e-3, warmup_steps=2, ema_decay=ema_decay),
        seed=1,
        state_path=state / "autoencoder.pt",
        deadline=time.monotonic() + seconds,
    )


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_parcel_brings_a_stage_to_another_folder_where_it_continues(
    tmp_path: Path, ema_decay: float
) -> None:
    first = trainer(tmp_path / "here", ema_decay=ema_decay)
    first.run(until_step=3)
    parcel = Parcel(tmp_path / "parcel")
    parcel.pack_states(STAGES, state=tmp_path / "here")
    assert parcel.unpack_states(STAGES, state=tmp_path / "there") == ["autoencoder"]
    second = trainer(tmp_path / "there", ema_decay=ema_decay)
    assert second.restore()
    assert second.step == 3
    expected = first.average or [weight.detach() for weight in first.parameters]
    for found, weight in zip(second.parameters, expected, strict=True):
        assert torch.equal(found, weight.half().float())
    for found, weight in zip(second.average, first.average, strict=True):
        assert torch.equal(found, weight.half().float())
    second.run()
    assert load_state(tmp_path / "there" / "autoencoder.pt")["step"] == 6


def test_parcel_leaves_a_state_that_is_as_far_alone(tmp_path: Path) -> None:
    trainer(tmp_path / "here").run(until_step=3)
    parcel = Parcel(tmp_path / "parcel")
    parcel.pack_states(STAGES, state=tmp_path / "here")
    before = (tmp_path / "here" / "autoencoder.pt").read_bytes()
    assert parcel.unpack_states(STAGES, state=tmp_path / "here") == []
    assert (tmp_path / "here" / "autoencoder.pt").read_bytes() == before


def test_parcel_keeps_every_part_small_and_notices_a_missing_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parcels, "PART_BYTES", 4096)
    trainer(tmp_path / "here").run(until_step=1)
    parcel = Parcel(tmp_path / "parcel")
    parcel.pack_states(STAGES, state=tmp_path / "here")
    parts = sorted((tmp_path / "parcel").iterdir())
    assert len(parts) > 2
    assert max(part.stat().st_size for part in parts) <= 4096
    parts[1].unlink()
    with pytest.raises(ParcelError, match=parts[1].name):
        parcel.unpack_states(STAGES, state=tmp_path / "there")


def test_parcel_written_again_leaves_no_part_of_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer(tmp_path / "here").run(until_step=1)
    parcel = Parcel(tmp_path / "parcel")
    monkeypatch.setattr(parcels, "PART_BYTES", 4096)
    parcel.pack_states(STAGES, state=tmp_path / "here")
    monkeypatch.setattr(parcels, "PART_BYTES", 1 << 20)
    parcel.pack_states(STAGES, state=tmp_path / "here")
    assert [part.name for part in (tmp_path / "parcel").iterdir()] == ["autoencoder.pt.0of1"]


def test_parcel_without_a_name_or_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParcelError, match="--parcel"):
        Parcel(None).unpack_states(STAGES, state=tmp_path)
    with pytest.raises(ParcelError, match="pack first"):
        Parcel(tmp_path / "absent").unpack_states(STAGES, state=tmp_path)


def test_parcel_carries_the_art_of_the_renditions_alone(tmp_path: Path) -> None:
    art = tmp_path / "art"
    for package in PACKAGES:
        (art / package.folder).mkdir(parents=True)
        (art / package.folder / "package.json").write_text("{}")
    (art / PACKAGES[0].folder / "emoji.json").write_text("[]")
    drawn, other = (art / PACKAGES[1].folder / name for name in ("a.png", "b.png"))
    drawn.write_bytes(b"picture")
    other.write_bytes(b"unseen")
    parcel = Parcel(tmp_path / "parcel")
    parcel.pack_art([Rendition("a", "twemoji", drawn)], art=art)
    assert not parcel.unpack_art(art)
    assert parcel.unpack_art(tmp_path / "elsewhere")
    copied = tmp_path / "elsewhere" / PACKAGES[1].folder
    assert (copied / "a.png").read_bytes() == b"picture"
    assert not (copied / "b.png").exists()
    assert (tmp_path / "elsewhere" / PACKAGES[0].folder / "emoji.json").is_file()


def test_stage_past_its_deadline_keeps_the_step_it_reached(tmp_path: Path) -> None:
    late = trainer(tmp_path, seconds=-1.0)
    late.run()
    assert load_state(tmp_path / "autoencoder.pt")["step"] == 0
