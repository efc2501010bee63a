"""The model card says what was measured, and nothing of what was not."""

from pathlib import Path
from typing import Any

from models.build.card import write_card
from models.build.recipe import STAGES, Recipe

ROW = {
    "subject": "teddy-bear",
    "dino_base": 0.4281,
    "dino": 0.8291,
    "dino_real": 0.9711,
    "way": 0.7386,
    "clip_t_base": 0.7801,
    "clip_t": 0.5001,
    "clip_t_real": 0.3761,
    "places_base": 1.0,
    "places": 0.94,
    "others_base": 0.97,
    "others": 0.91,
    "recognised": 0.875,
    "recognised_real": 0.994,
    "pres_rise": 0.2671,
    "div_share": 0.392,
    "lpips_share": 0.641,
}


def card(path: Path, *, personalised: list[dict[str, Any]]) -> str:
    figures = {
        "autoencoder_psnr_db": 28.5,
        "clip": {"noun_top1": 0.927, "background_top1": 1.0},
        "judge_on_real_scenes": {"noun_top1": 0.985, "background_top1": 1.0},
        "generation": {
            "num_pictures": 256,
            "noun_top1": 0.973,
            "background_top1": 1.0,
        },
        "likeness": {"frechet_distance": 3.72, "frechet_distance_real_halves": 1.4},
        "personalised": personalised,
        "training_steps": dict.fromkeys(STAGES, 7200),
        "training_seconds": dict.fromkeys(STAGES, 3600),
    }
    write_card(figures, recipe=Recipe(), parameters={"UNet": 11_008_132}, path=path)
    return path.read_text()


def test_card_with_personalised_subjects_shows_their_figures(tmp_path: Path) -> None:
    text = card(tmp_path / "card.md", personalised=[ROW])
    assert "| teddy-bear | 0.428 | 0.829 | 0.971 | 74% | 0.780 | 0.500 | 0.376 |" in text
    assert "| teddy-bear | 100% | 94% | 97% | 91% |" in text
    assert "| teddy-bear | 88% | 99.4% | +0.267 | 0.39 | 0.64 |" in text


def test_card_says_what_was_not_measured(tmp_path: Path) -> None:
    text = card(tmp_path / "card.md", personalised=[ROW | {"lpips_share": None}])
    assert "| +0.267 | 0.39 | not measured |" in text


def test_card_without_personalised_subjects_is_silent_about_them(tmp_path: Path) -> None:
    text = card(tmp_path / "card.md", personalised=[])
    assert "Personalised" not in text
    assert "256\ngenerated pictures" in text
    assert "| 3.72 (1.40) | at most 1.5 times |" in text
    assert "| unet | 7,200 | 16 | 1.00 |" in text
