"""Builds the parts of the page that show pictures."""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import PurePosixPath

from boothline.config import RunConfig
from boothline.data.class_pictures import CLASS_FOLDER
from boothline.report.model import (
    Comparison,
    Comparisons,
    CurvePoint,
    DataFinding,
    Gallery,
    Subject,
    Training,
)
from boothline.report.pictures import PictureLoader, Wanted
from boothline.report.scores import CONTENDERS
from boothline.report.sources import (
    BatchRecord,
    CaptionRecord,
    DataReport,
    RunSources,
    Source,
    curve_points,
)
from boothline.results import BASE, CHAMPION, FINE_TUNED, Evaluation
from boothline.results import Training as Trained
from boothline.store import layout

MAX_SUBJECT = 16
MAX_FINDINGS = 50
MAX_THUMBNAILS = 12
MAX_CLASS = 24
MAX_COMPARED = 96
MAX_BATCH = 32
MAX_SHEETS = 12
SHEET_SIDE_PX = 1024
VALIDATION_FILE = "validation.jsonl"
VALIDATION_LOSSES = {"instance_loss": "validation_loss", "held_out_loss": "held_out_loss"}
TIMES, NO_BREAK = "\N{MULTIPLICATION SIGN}", "\N{NO-BREAK SPACE}"
_SAMPLE = re.compile(r"images/(?P<who>[a-z]+)/p(?P<prompt>\d+)-s(?P<sample>\d+)\.png")
_STEP = re.compile(r"step-(\d+)")


def subject_of(run: RunSources, loader: PictureLoader) -> Subject:
    """Return the subject with its pictures, class pictures and the findings on its data."""
    config = run.config or RunConfig()
    dataset = run.first("validate_data")
    report = _data_report(run, dataset)
    own = _own_class_pictures(run, dataset)
    return Subject(
        name=config.subject.name,
        identifier=config.subject.identifier,
        class_noun=config.subject.class_noun,
        model_name=config.model_name,
        base_model=config.base_model.source,
        registered=_registered(run, config.model_name),
        pictures=_subject_pictures(run, dataset, report, loader),
        class_pictures=_class_pictures(run, loader, own=own),
        num_own_class_pictures=len(own),
        quarantined=tuple(_quarantined(dataset, report, loader)),
        num_quarantined=len(report.quarantined),
        warnings=tuple(
            DataFinding(source=item.source, message=_closed(item.message), advice=item.advice)
            for item in report.warnings[:MAX_FINDINGS]
        ),
        num_warnings=len(report.warnings),
    )


def _registered(run: RunSources, model_name: str) -> str:
    """Return `NAME@VERSION` of the run's model; empty where it is not registered."""
    model = run.first("publish_checkpoint")
    if model is None:
        return ""
    path = layout.version(model_name, model.ref.digest)
    record = run.attempt("The model's version", lambda: run.store.get_record(path)) or {}
    return f"{model_name}@{record['version']}" if "version" in record else ""


def _closed(sentence: str) -> str:
    """Return a sentence that ends with a full stop."""
    return sentence if sentence.endswith((".", "!", "?")) or not sentence else f"{sentence}."


def _data_report(run: RunSources, dataset: Source | None) -> DataReport:
    """Return what validation found; nothing when it did not finish."""
    if dataset is None:
        return DataReport()
    found = run.attempt(
        "The report on the data",
        lambda: DataReport.model_validate_json(run.store.read_bytes(dataset.ref, "report.json")),
    )
    return found or DataReport()


def _subject_pictures(
    run: RunSources, dataset: Source | None, report: DataReport, loader: PictureLoader
) -> Gallery:
    """Return the accepted instance pictures with caption, file name and original size."""
    if dataset is None:
        return Gallery()
    captions = _captions(run, dataset)
    accepted = {item.image: item for item in report.accepted}
    wanted = []
    for number, entry in enumerate(dataset.manifest.under("images/"), start=1):
        caption = captions.get(entry.path) or captions.get(PurePosixPath(entry.path).name)
        parts = [caption.caption] if caption and caption.caption else []
        item = accepted.get(entry.path)
        if item:
            parts.append(item.source)
            if item.width_px:
                parts.append(f"{item.width_px} {TIMES} {item.height_px} px".replace(" ", NO_BREAK))
        alt = f"Real picture {number} of the subject"
        wanted.append(
            Wanted(ref=dataset.ref, path=entry.path, alt=alt, caption=", ".join(parts) or alt)
        )
    return loader.gallery(wanted, limit=MAX_SUBJECT)


def _captions(run: RunSources, source: Source) -> dict[str, CaptionRecord]:
    """Return the captions of a manifest by picture."""
    lines = run.attempt("The captions", lambda: run.lines(source, "captions.jsonl")) or []
    records = (CaptionRecord.model_validate_json(line) for line in lines)
    return {record.image: record for record in records}


def _own_class_pictures(run: RunSources, dataset: Source | None) -> list[Wanted]:
    """Return the class pictures that came with the subject's, where they are used."""
    if dataset is None or run.config is None or not run.config.prior.enabled:
        return []
    alt = f"Class picture of your own: a {run.config.subject.class_noun}"
    entries = dataset.manifest.under(f"{CLASS_FOLDER}/images/")
    return [Wanted(ref=dataset.ref, path=entry.path, alt=alt) for entry in entries]


def _class_pictures(run: RunSources, loader: PictureLoader, *, own: Sequence[Wanted]) -> Gallery:
    """Return class pictures: one's own, then those of all shards in the order of their numbers."""
    found = {
        entry.path: source
        for source in run.sources.get("generate_prior", [])
        for entry in source.manifest.under("images/")
    }
    noun = run.config.subject.class_noun if run.config else "class"
    sampled = [
        Wanted(
            ref=found[path].ref,
            path=path,
            alt=f"Class picture {PurePosixPath(path).stem.lstrip('0') or '0'}: a {noun}",
        )
        for path in sorted(found)
    ]
    return loader.gallery([*own, *sampled], limit=MAX_CLASS)


def _quarantined(
    dataset: Source | None, report: DataReport, loader: PictureLoader
) -> Iterator[DataFinding]:
    """Yield the refused pictures, the first of them with thumbnails where they could be decoded."""
    if dataset is None:
        return
    names = {entry.path for entry in dataset.manifest.under("thumbnails/")}
    for number, record in enumerate(report.quarantined[:MAX_FINDINGS]):
        gallery = Gallery()
        if record.thumbnail in names and number < MAX_THUMBNAILS:
            alt = f"Quarantined picture {record.source}"
            wanted = Wanted(ref=dataset.ref, path=record.thumbnail, alt=alt)
            gallery = loader.gallery([wanted], limit=1)
        yield DataFinding(
            source=record.source,
            message=_closed(record.reason),
            advice=record.advice,
            thumbnail=gallery.pictures[0] if gallery.pictures else None,
        )


def comparisons_of(
    run: RunSources, evaluation: Evaluation | None, loader: PictureLoader
) -> Comparisons:
    """Return generated pictures per prompt: fine-tuned next to champion and base, same seeds.

    Every prompt is shown before any prompt gets a second picture.
    """
    source = run.first("evaluate")
    if source is None or evaluation is None:
        return Comparisons()
    samples = _samples(source)
    columns = [who for who in (FINE_TUNED, CHAMPION, BASE) if any(key[0] == who for key in samples)]
    prompts = sorted({prompt for _, prompt, _ in samples})
    seeds = sorted({sample for _, _, sample in samples})
    room = min(MAX_COMPARED, loader.left) // max(1, len(columns))
    shown = prompts[: max(1, room)]
    per_prompt = max(1, min(len(seeds), room // max(1, len(shown))))
    rows = []
    for prompt in shown:
        text = (
            evaluation.prompts[prompt] if prompt < len(evaluation.prompts) else f"prompt {prompt}"
        )
        galleries = [
            (who, _column(source, samples, who, prompt, seeds[:per_prompt], text, loader))
            for who in columns
        ]
        rows.append(
            Comparison(
                prompt=text, columns=tuple((CONTENDERS[who], found) for who, found in galleries)
            )
        )
    return Comparisons(
        rows=tuple(rows),
        num_prompts=len(prompts),
        images_per_prompt=len(seeds),
        images_shown=per_prompt,
    )


def _samples(source: Source) -> dict[tuple[str, int, int], str]:
    """Return the paths of generated pictures by contender, prompt and sample."""
    found = {}
    for entry in source.manifest.under("images/"):
        match = _SAMPLE.fullmatch(entry.path)
        if match:
            found[match["who"], int(match["prompt"]), int(match["sample"])] = entry.path
    return found


def _column(
    source: Source,
    samples: dict[tuple[str, int, int], str],
    who: str,
    prompt: int,
    seeds: Sequence[int],
    text: str,
    loader: PictureLoader,
) -> Gallery:
    """Return one contender's pictures of one prompt."""
    wanted = [
        Wanted(
            ref=source.ref,
            path=samples[who, prompt, sample],
            alt=f"{CONTENDERS[who]}, sample {sample + 1}: {text}",
            caption=f"{CONTENDERS[who]}, sample {sample + 1}",
            twin=f"p{prompt}-s{sample}",
        )
        for sample in seeds
        if (who, prompt, sample) in samples
    ]
    return loader.gallery(wanted, limit=len(wanted))


def batch_of(run: RunSources, loader: PictureLoader) -> Gallery:
    """Return the pictures of batch inference, all shards together."""
    wanted: dict[str, Wanted] = {}
    for source in run.sources.get("batch_infer", []):
        lines = run.attempt("The index of a batch", partial(run.lines, source, "index.jsonl"))
        for line in lines or []:
            record = BatchRecord.model_validate_json(line)
            path = record.image if record.image.startswith("images/") else f"images/{record.image}"
            seed = "" if record.seed is None else f" (seed {record.seed})"
            wanted[path] = Wanted(
                ref=source.ref, path=path, alt=record.prompt, caption=f"{record.prompt}{seed}"
            )
    return loader.gallery([wanted[path] for path in sorted(wanted)], limit=MAX_BATCH)


def training_of(run: RunSources, loader: PictureLoader) -> Training:
    """Return the loss curve, the sample sheets over the steps and the training's facts."""
    source = run.first("train")
    if source is None:
        return Training()
    curve = run.attempt(
        "The loss curve", lambda: tuple(curve_points(iter(run.lines(source, "curve.jsonl"))))
    )
    wanted = []
    for entry in source.manifest.under("samples/"):
        match = _STEP.search(entry.path)
        step = f"step {int(match[1])}" if match else PurePosixPath(entry.path).stem
        wanted.append(
            Wanted(
                ref=source.ref,
                path=entry.path,
                alt=f"Samples after {step}",
                caption=f"After {step}",
            )
        )
    validation = _validation(run, source)
    losses = [
        CurvePoint(
            step=point.step,
            values={
                shown: point.values[key]
                for key, shown in VALIDATION_LOSSES.items()
                if key in point.values
            },
        )
        for point in validation
    ]
    return Training(
        curve=(*(curve or ()), *losses),
        validation=validation,
        sheets=loader.gallery(wanted, limit=MAX_SHEETS, max_side_px=SHEET_SIDE_PX),
        facts=_training_facts(run, source),
    )


def _validation(run: RunSources, source: Source) -> tuple[CurvePoint, ...]:
    """Return what was measured while it learnt; nothing for a training without validation."""
    if not any(entry.path == VALIDATION_FILE for entry in source.manifest.files):
        return ()
    found = run.attempt(
        "The validation of the training",
        lambda: tuple(curve_points(iter(run.lines(source, VALIDATION_FILE)))),
    )
    return found or ()


def _training_facts(run: RunSources, source: Source) -> tuple[tuple[str, str], ...]:
    """Return what was trained and how."""
    trained = run.attempt("The training", lambda: Trained.of(source.manifest)) or Trained()
    facts: list[tuple[str, object]] = [
        ("Optimizer steps", trained.num_steps),
        ("Ranks", trained.world_size),
    ]
    if trained.chosen_step is not None and trained.chosen_step != trained.last_step:
        facts.append(("State chosen", f"after step {trained.chosen_step}, the best score"))
    if trained.num_parameters_trained is not None:
        count = f"{trained.num_parameters_trained:,}"
        facts.append(("Parameters trained", count.replace(",", "\N{NARROW NO-BREAK SPACE}")))
    if run.config:
        training = run.config.training
        facts += [
            ("Method", "all weights" if training.method == "full" else "low-rank adapters"),
            ("Instance pictures a step", training.batch_size),
            ("Learning rate", f"{training.learning_rate:g}, {training.schedule}"),
            ("Text encoder", "trained" if training.trains_text_encoder else "frozen"),
            ("Token", "learnt" if training.token_embedding.enabled else None),
            (
                "Prior weight",
                f"{run.config.prior.weight:g}" if run.config.prior.enabled else "no prior",
            ),
            ("Precision", training.precision),
        ]
    return tuple((name, str(value)) for name, value in facts if value is not None)
