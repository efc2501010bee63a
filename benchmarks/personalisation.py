"""`make eval-base-model`: how well the demo's settings personalise the tiny base."""

import argparse
import io
import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import torch
from PIL import Image

from benchmarks.measuring import print_table, tell
from boothline import services
from boothline import settings as environment
from boothline.diffusion.base_model import resolve
from boothline.evaluation.encoders import ClipEncoder
from boothline.evaluation.metrics import prompt_fidelity
from boothline.evaluation.perceptual import Lpips
from boothline.pictures.sheets import contact_sheet
from boothline.results import BASE, FINE_TUNED, REAL, Evaluation
from boothline.store import ManifestRef, Store
from models.build.evaluate import draw, set_exam
from models.build.generation import load_pipeline, pixels_of
from models.build.judge import Judge, judge_pictures
from models.build.lineup import recognised, trained_lineup
from models.build.recipe import Recipe
from models.build.sprites import EmojiCatalogue, ensure_emoji_art
from models.build.subjects import SUBJECTS, Subject
from models.build.vocabulary import VOCABULARY
from models.build.workshop import Workshop

PROVES = ("F46",)
DEMO: Final = Path("examples/demo.yaml")
SUBJECTS_FOLDER: Final = Path("examples/subjects")
NUM_OTHER_NOUNS: Final = 96


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What personalising one subject came to.

    Attributes:
        subject: its folder in examples/subjects.
        dino_base, dino, dino_real: subject fidelity of the base's and the personalised model's
            pictures, and of the real pictures among each other.
        way: how far from the base to the real pictures, 1 is all of it.
        clip_t_base, clip_t, clip_t_real: prompt fidelity; real pictures with their own
            captions.
        places_base, places: share of pictures on whose place the judge agrees with the prompt.
        others_base, others: share of pictures of other nouns that the judge names rightly.
        recognised: share of the personalised model's pictures that a classifier takes for the
            subject, not for one of ten look-alikes of the class; `recognised_real`: of scenes of
            the subject itself and of the look-alikes, the classifier's own accuracy.
        pres_rise: by how much class pictures have come to look like the subject.
        div_share: diversity by DINO, as a share of the base's.
        lpips_share: diversity by LPIPS, as the DreamBooth paper measures it, as a share of the
            base's; None without LPIPS.
    """

    subject: str
    dino_base: float
    dino: float
    dino_real: float
    way: float
    clip_t_base: float
    clip_t: float
    clip_t_real: float
    places_base: float
    places: float
    others_base: float
    others: float
    recognised: float
    recognised_real: float
    pres_rise: float
    div_share: float
    lpips_share: float | None = None


def run_demo(subject: Subject, *, home: Path, settings: Iterable[str] = ()) -> dict[str, str]:
    """Run the product's demo with another subject and other settings; return step -> manifest.

    A second call reuses every step.
    """
    command = [
        *(sys.executable, "-m", "boothline.cli.app", "run", str(DEMO), "--home", str(home)),
        *("--subject", str(SUBJECTS_FOLDER / subject.name), "--output", "json"),
        *("--set", f"subject.class_noun={subject.class_noun}"),
        *("--set", f"subject.name={subject.name}"),
        *(word for setting in settings for word in ("--set", setting)),
    ]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return {step["name"]: step["manifest"] for step in json.loads(done.stdout)["steps"]}


class Examiner:
    """Measures what the demo made of a subject, with the judge that took no part in any training.

    Args:
        store: where the demo keeps its results.
        judge: names nouns and backgrounds.
        scratch: folder for models that are read back.
        shop: where the line-ups of look-alikes are drawn and kept.
        lpips: weights of LPIPS, as `evaluation.lpips_model` takes them; None leaves it out.
    """

    def __init__(
        self,
        store: Store,
        *,
        judge: Judge,
        scratch: Path,
        shop: Workshop,
        lpips: Path | None = None,
    ) -> None:
        self._store = store
        self._judge = judge
        self._shop = shop
        self._scratch = scratch
        self._lpips = Lpips(resolve(str(lpips), settings=environment.current())) if lpips else None
        models = environment.current().models_dir
        self._base = models / "tiny-emoji-sd"
        self._clip = ClipEncoder(models / "tiny-emoji-clip")

    def outcome(self, subject: Subject, steps: dict[str, str]) -> Outcome:
        """Return the figures of one subject."""
        evaluation = self._store.read_as(Evaluation, steps["evaluate"])
        means = {
            f"{metric}_{model}": mean
            for model in (*evaluation.metrics, REAL)
            for metric, mean in evaluation.means(model).items()
        }
        base, tuned = means[f"dino_{BASE}"], means[f"dino_{FINE_TUNED}"]
        recognised, recognised_real = self._lineup(subject, steps["evaluate"])
        return Outcome(
            subject=subject.name,
            dino_base=base,
            dino=tuned,
            dino_real=means["dino_real"],
            way=(tuned - base) / (means["dino_real"] - base),
            clip_t_base=means[f"clip_t_{BASE}"],
            clip_t=means[f"clip_t_{FINE_TUNED}"],
            clip_t_real=self._real_prompt_fidelity(subject),
            places_base=self._places(steps["evaluate"], BASE),
            places=self._places(steps["evaluate"], FINE_TUNED),
            others_base=self._other_nouns(self._base, subject),
            others=self._other_nouns(self._published(steps["publish_checkpoint"]), subject),
            recognised=recognised,
            recognised_real=recognised_real,
            pres_rise=means[f"pres_{FINE_TUNED}"] - means[f"pres_{BASE}"],
            div_share=means[f"div_{FINE_TUNED}"] / means[f"div_{BASE}"],
            lpips_share=self._lpips_share(steps["evaluate"]),
        )

    def pictures(self, evaluation: str, model: str) -> list[tuple[str, Image.Image]]:
        """Return prompt and picture of all that an evaluation drew with a model."""
        lines = self._store.read_bytes(evaluation, "scores.jsonl").decode().splitlines()
        rows = [row for row in map(json.loads, lines) if row["model"] == model]
        return [
            (row["prompt"], _opened(self._store.read_bytes(evaluation, row["image"])))
            for row in rows
        ]

    def _lpips_share(self, evaluation: str) -> float | None:
        """Return how different the pictures of a prompt look, as a share of the base's."""
        if self._lpips is None:
            return None
        means = {}
        for model in (FINE_TUNED, BASE):
            of_prompt: dict[str, list[Image.Image]] = {}
            for prompt, picture in self.pictures(evaluation, model):
                of_prompt.setdefault(prompt, []).append(picture)
            means[model] = sum(
                float(self._lpips.between(same).mean()) for same in of_prompt.values()
            )
        return means[FINE_TUNED] / means[BASE]

    def _places(self, evaluation: str, model: str) -> float:
        """Return how often the judge sees the place that the prompt names."""
        drawn = self.pictures(evaluation, model)
        _, backgrounds = judge_pictures(self._judge, pixels_of([picture for _, picture in drawn]))
        names = VOCABULARY.background_names
        return _share(
            prompt.endswith(names[label])
            for (prompt, _), label in zip(drawn, backgrounds.tolist(), strict=True)
        )

    def _lineup(self, subject: Subject, evaluation: str) -> tuple[float, float]:
        """Return how often the pictures are told from look-alikes, and how often scenes are."""
        catalogue = EmojiCatalogue(ensure_emoji_art(self._shop.emoji_art))
        classifier, accuracy = trained_lineup(
            subject,
            catalogue=catalogue,
            seed=self._shop.recipe.seed,
            state=self._shop.state / "lineups",
        )
        drawn = [picture for _, picture in self.pictures(evaluation, FINE_TUNED)]
        return recognised(classifier, pixels_of(drawn)), accuracy

    def _published(self, model: str) -> Path:
        digest = ManifestRef.parse(model).digest
        self._store.fetch(model, self._scratch / digest, prefix="diffusers/")
        return self._scratch / digest / "diffusers"

    def _other_nouns(self, folder: Path, subject: Subject) -> float:
        """Return how often the judge names pictures of other nouns rightly: prior preservation."""
        recipe = self._shop.recipe
        nouns = [noun for noun in recipe.drawn_nouns if noun != subject.class_noun]
        exam = set_exam(NUM_OTHER_NOUNS, nouns=nouns)
        pipeline = load_pipeline(folder, device=torch.device("cpu"))
        pictures = draw(pipeline, exam.prompts, recipe=recipe)
        labels, _ = judge_pictures(self._judge, pixels_of(pictures))
        return _share(
            found == right for found, right in zip(labels.tolist(), exam.nouns, strict=True)
        )

    def _real_prompt_fidelity(self, subject: Subject) -> float:
        """Return CLIP-T of the subject's own pictures, its captions naming the class alone."""
        paths = sorted((SUBJECTS_FOLDER / subject.name).glob("*.jpg"))
        texts = [
            path.with_suffix(".txt").read_text().strip().format(subject=subject.class_noun)
            for path in paths
        ]
        pictures = self._clip.encode([_opened(path.read_bytes()) for path in paths])
        return float(prompt_fidelity(pictures, self._clip.encode_texts(texts)).mean())


def main(arguments: Sequence[str] | None = None) -> None:
    """Personalise every example subject, measure, and keep figures and sheet beside the card."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [subject.name for subject in SUBJECTS]
    parser.add_argument("--subjects", nargs="+", choices=names, default=names)
    parser.add_argument("--home", type=Path, default=Path(".boothline-base/personalised"))
    parser.add_argument("--state", type=Path, default=Path(".boothline-base"))
    parser.add_argument("--emoji-art", type=Path, default=Path(".boothline-base/emoji-art"))
    parser.add_argument("--output", type=Path, default=Path("models"))
    parser.add_argument("--set", action="append", default=[], help="another setting of the demo")
    parser.add_argument("--lpips", type=Path, help="weights of LPIPS, for diversity by it, too")
    options = parser.parse_args(arguments)
    home = options.home.resolve()
    shop = Workshop(
        Recipe(),
        state=options.state,
        emoji_art=options.emoji_art,
        output=options.output,
    )
    judge = shop.trained_judge()
    outcomes, rows = [], []
    for subject in (one for one in SUBJECTS if one.name in options.subjects):
        tell(" ".join((f"{subject.name}: the demo's settings", *options.set)))
        steps = run_demo(subject, home=home, settings=options.set)
        store = Store.connect(services.ensure(home, only=("seaweedfs",)).settings())
        examiner = Examiner(
            store, judge=judge, scratch=home / "models", shop=shop, lpips=options.lpips
        )
        outcomes.append(examiner.outcome(subject, steps))
        own = _opened((SUBJECTS_FOLDER / subject.name / "01.jpg").read_bytes())
        drawn = [picture for _, picture in examiner.pictures(steps["evaluate"], FINE_TUNED)]
        rows += [own.resize(drawn[0].size, Image.Resampling.LANCZOS), *drawn]
    services.stop(home)
    contact_sheet(rows, num_columns=len(rows) // len(outcomes)).save(
        options.output / "tiny-emoji-sd" / "personalised.png"
    )
    table = [asdict(outcome) for outcome in outcomes]
    (options.state / "personalisation.json").write_text(json.dumps(table, indent=2) + "\n")
    print_table("DreamBooth on held-out subjects", table)


def _opened(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as picture:
        return picture.convert("RGB")


def _share(hits: Iterable[bool]) -> float:
    found = list(hits)
    return sum(found) / len(found)


if __name__ == "__main__":
    main()
