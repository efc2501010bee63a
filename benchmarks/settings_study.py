"""`make study`: what the settings that matter most do, measured and shown, one run each.

Every run is a `boothline run` of one configuration with a few settings changed. All share a home,
so that the dataset, the class pictures and the base model's pictures are made once, and a second
start goes on where the first was cut off.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from benchmarks.measuring import print_table, tell
from boothline import services
from boothline.pictures.sheets import contact_sheet
from boothline.store import Store

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "examples" / "demo.yaml"
PICTURES_PER_PROMPT = 2
NUM_CLASS_PICTURES = 2
LABEL_PX = 130
SIDE_PX = 80
QUALITY = 80
SCORES = ("dino", "clip_i", "clip_t", "pres", "div")


@dataclass(frozen=True)
class Trial:
    """One value of a studied setting.

    Attributes:
        label: the value, for table and picture.
        settings: what is changed, by dotted name.
    """

    label: str
    settings: Mapping[str, Any]


BASELINE: Mapping[str, Any] = {
    "promotion.enabled": False,
    "training.num_processes": 1,
    "training.sample_every_steps": 0,
    "checkpoints.every_steps": 1000,
    "prior.weight": 1.0,
    "prior.sampling.num_steps": 20,
    "training.num_steps": 200,
    "training.learning_rate": 4.5e-4,
    "training.horizontal_flip": False,
    "training.train_text_encoder": True,
    "training.text_encoder_learning_rate": 1e-4,
    "training.token_embedding.enabled": False,
}
"""Beside the configuration: no gate, so that no champion is judged again with each run; and plain
DreamBooth, without a learnt token, from which each trial changes one thing."""

STUDIES: Mapping[str, Sequence[Trial]] = {
    "prior": (
        Trial("prior weight 0", {"prior.weight": 0.0}),
        Trial("prior weight 1", {}),
    ),
    "steps": (
        Trial("50 steps", {"training.num_steps": 50}),
        Trial("200 steps", {}),
        Trial("400 steps", {"training.num_steps": 400}),
    ),
    "rate": (
        Trial("rate 5e-5", {"training.learning_rate": 5e-5}),
        Trial("rate 4.5e-4", {}),
        Trial("rate 2e-3", {"training.learning_rate": 2e-3}),
    ),
    "text-encoder": (
        Trial("text encoder frozen", {"training.train_text_encoder": False}),
        Trial("text encoder trained", {}),
    ),
    "method": (
        Trial("full", {}),
        Trial(
            "LoRA, rank 8, rate 2e-3",
            {"training.method": "lora", "training.learning_rate": 2e-3},
        ),
    ),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all trials of the chosen studies, write a sheet of each study, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=ROOT / ".boothline-bench" / "study")
    parser.add_argument("--pictures", type=Path, default=ROOT / "docs" / "pictures")
    parser.add_argument("--studies", nargs="+", default=list(STUDIES), choices=list(STUDIES))
    options = parser.parse_args(arguments)
    options.pictures.mkdir(parents=True, exist_ok=True)
    store = Store.connect(services.ensure(options.home).settings())
    rows: list[dict[str, Any]] = []
    try:
        for study in options.studies:
            shown = []
            for trial in STUDIES[study]:
                summary = _run(trial, home=options.home)
                rows.append(_row(study, trial, summary))
                tell(str(rows[-1]))
                shown.append((trial.label, _pictures(summary, store=store, home=options.home)))
            _write_sheet(options.pictures / f"settings-{study}.jpg", shown)
    finally:
        services.stop(options.home)
    print_table("Settings, examples/demo.yaml, tiny base, one rank", rows)


def _run(trial: Trial, *, home: Path) -> dict[str, Any]:
    """Carry out one run and return its summary."""
    command = [sys.executable, "-c", "from boothline.cli.app import main; main()", "run"]
    command += [str(CONFIG), "--home", str(home), "--output", "json"]
    for name, value in {**BASELINE, **trial.settings}.items():
        command += ["--set", f"{name}={json.dumps(value) if not isinstance(value, str) else value}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=ROOT)
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


def _row(study: str, trial: Trial, summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table's row of one trial."""
    (train,) = (step for step in summary["steps"] if step["name"] == "train")
    metrics = summary["metrics"]
    return {
        "study": study,
        "trial": trial.label,
        "train s": "reused" if train["reused"] else round(train["seconds"]),
        **{name: round(metrics[name], 3) for name in SCORES},
        "base pres": round(metrics["base_pres"], 3),
    }


def _pictures(summary: Mapping[str, Any], *, store: Store, home: Path) -> list[Image.Image]:
    """Return the first pictures of each prompt, then pictures of the class at large."""
    (evaluate,) = (step for step in summary["steps"] if step["name"] == "evaluate")
    manifest = store.read(evaluate["manifest"])
    folder = home / "sheets" / summary["run_id"]
    own = [e.path for e in manifest.under("images/finetuned/")]
    shown = [path for path in own if int(path[:-4].rsplit("-s", 1)[1]) < PICTURES_PER_PROMPT]
    shown += [e.path for e in manifest.under("images/finetuned-class/")][:NUM_CLASS_PICTURES]
    pictures = []
    for path in shown:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(store.read_bytes(evaluate["manifest"], path))
        with Image.open(target, formats=("PNG",)) as image:
            pictures.append(
                image.convert("RGB").resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)
            )
    return pictures


def _write_sheet(path: Path, rows: Sequence[tuple[str, Sequence[Image.Image]]]) -> None:
    """Write one row of pictures for each trial, its label on the left."""
    cells: list[Image.Image] = []
    for _, pictures in rows:
        cells += pictures
    sheet = contact_sheet(cells, num_columns=len(rows[0][1]))
    page = Image.new("RGB", (sheet.width + LABEL_PX, sheet.height), (255, 255, 255))
    page.paste(sheet, (LABEL_PX, 0))
    draw = ImageDraw.Draw(page)
    for number, (label, _) in enumerate(rows):
        height = (sheet.height / len(rows)) * (number + 0.5)
        draw.multiline_text((6, height), label.replace(", ", ",\n"), fill=(0, 0, 0), anchor="lm")
    page.save(path, quality=QUALITY)


if __name__ == "__main__":
    main()
