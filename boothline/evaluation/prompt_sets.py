"""The prompts that a model is judged by: one's own, a named list, or a file.

The lists `live` and `object` are the 25 prompts for live subjects and for objects of Ruiz et al.,
"DreamBooth: fine tuning text-to-image diffusion models for subject-driven generation", CVPR 2023.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from boothline.config import RunConfig
from boothline.config.evaluation import EvaluationConfig
from boothline.config.section import SUBJECT_FIELD
from boothline.config.training import CAPTION_FIELD
from boothline.data.identifier import TokenCounter, length_warnings
from boothline.data.report import DatasetReport, DatasetWarning
from boothline.errors import DataError
from boothline.pictures.prompts import read_prompts

_MAX_OF_ONE_SETTING: Final = 5


def long_prompts(config: RunConfig, *, counter: TokenCounter) -> list[DatasetWarning]:
    """Return a warning for each prompt that is cut off, its setting as the source.

    Args:
        config: names the prompts; a prompt file that is not here is passed over.
        counter: the base model's tokenizer.

    Raises:
        DataError: a prompt file cannot be read.
    """
    texts = list(dict.fromkeys(_prompts(config)))
    return _few_of_each(length_warnings(texts, counter=counter, what="has a prompt"))


def long_caption_templates(
    config: RunConfig, report: DatasetReport, *, counter: TokenCounter
) -> list[DatasetWarning]:
    """Return warnings about templates that a picture's caption makes too long."""
    texts = [
        ("training.caption_templates", _filled(template, image.caption, config))
        for template in config.training.caption_templates
        for image in report.accepted
    ]
    found = length_warnings(
        list(dict.fromkeys(texts)),
        counter=counter,
        identifier=config.subject.identifier,
        what="makes a caption",
    )
    return _few_of_each(found)


def _filled(template: str, caption: str, config: RunConfig) -> str:
    """Return a caption template as it is trained on."""
    phrase = config.subject.phrase
    return template.replace(SUBJECT_FIELD, phrase).replace(CAPTION_FIELD, caption)


def _prompts(config: RunConfig) -> Iterator[tuple[str, str]]:
    """Yield (setting, filled text) for every prompt of a run."""
    subject, prior, evaluation = config.subject, config.prior, config.evaluation
    for text in evaluation.prompts:
        yield "evaluation.prompts", subject.fill(text)
    if evaluation.prompt_set not in ("own", "file"):
        for text in templates(evaluation):
            yield f"evaluation.prompt_set={evaluation.prompt_set}", subject.fill(text)
    if prior.enabled:
        name = "prior.prompts" if prior.prompts else "prior.prompt"
        for number in range(len(prior.prompts) or 1):
            yield name, prior.prompt_of(number, subject.class_noun)
        yield "prior.sampling.negative_prompt", prior.sampling.negative_prompt
    yield "evaluation.sampling.negative_prompt", evaluation.sampling.negative_prompt
    yield "inference.sampling.negative_prompt", config.inference.sampling.negative_prompt
    own = subject.fill(subject.prompt)
    for template in config.training.caption_templates:
        yield "training.caption_templates", _filled(template, own, config)
    yield from _in_files(config)


def _in_files(config: RunConfig) -> Iterator[tuple[str, str]]:
    """Yield the texts of the prompt files, line by line."""
    files = (
        ("evaluation.prompts_file", config.evaluation.prompts_file),
        ("inference.prompts_file", config.inference.prompts_file),
    )
    for name, file in files:
        if not file or not Path(file).is_file():
            continue
        for row in read_prompts(Path(file)):
            yield name, config.subject.fill(row.prompt)
            if row.negative_prompt:
                yield f"{name} (negative_prompt)", config.subject.fill(row.negative_prompt)


def _few_of_each(found: list[DatasetWarning]) -> list[DatasetWarning]:
    """Return the first warnings of each setting, then how many more there are."""
    kept: list[DatasetWarning] = []
    seen: Counter[str] = Counter()
    for warning in found:
        seen[warning.source] += 1
        if seen[warning.source] <= _MAX_OF_ONE_SETTING:
            kept.append(warning)
    for source, number in seen.items():
        if number > _MAX_OF_ONE_SETTING:
            message = f"has {number - _MAX_OF_ONE_SETTING} more texts that are cut off"
            advice = "Shorten them, or put what matters first."
            kept.append(
                DatasetWarning(source=source, check="caption", message=message, advice=advice)
            )
    return kept


MAX_PROMPTS: Final = 1000

_PLACES: Final = (
    "in the jungle",
    "in the snow",
    "on the beach",
    "on a cobblestone street",
    "on top of pink fabric",
    "on top of a wooden floor",
    "with a city in the background",
    "with a mountain in the background",
    "with a blue house in the background",
    "on top of a purple rug in a forest",
)
_OF_OBJECTS: Final = (
    "with a wheat field in the background",
    "with a tree and autumn leaves in the background",
    "with the Eiffel Tower in the background",
    "floating on top of water",
    "floating in an ocean of milk",
    "on top of green grass with sunflowers around it",
    "on top of a mirror",
    "on top of the sidewalk in a crowded street",
    "on top of a dirt road",
    "on top of a white rug",
)
_OF_LIVE_SUBJECTS: Final = (
    "wearing a red hat",
    "wearing a santa hat",
    "wearing a rainbow scarf",
    "wearing a black top hat and a monocle",
    "in a chef outfit",
    "in a firefighter outfit",
    "in a police outfit",
    "wearing pink glasses",
    "wearing a yellow shirt",
    "in a purple wizard outfit",
)
_PROPERTIES: Final = ("red", "purple", "shiny", "wet", "cube shaped")


def _paper_list(contexts: tuple[str, ...]) -> tuple[str, ...]:
    return (
        *(f"a {SUBJECT_FIELD} {context}" for context in (*_PLACES, *contexts)),
        *(f"a {adjective} {SUBJECT_FIELD}" for adjective in _PROPERTIES),
    )


OBJECT: Final = _paper_list(_OF_OBJECTS)
LIVE: Final = _paper_list(_OF_LIVE_SUBJECTS)
_PLACES_OF_TINY: Final = (
    "on grass",
    "on the beach",
    "in snow",
    "in the desert",
    "in the ocean",
    "in the night sky",
    "on the moon",
    "on a city street",
    *(
        f"on a {colour} background"
        for colour in ("red", "blue", "green", "yellow", "white", "black", "pink", "purple")
    ),
)
TINY: Final = tuple(f"a photo of a {SUBJECT_FIELD} {place}" for place in _PLACES_OF_TINY)
"""Every background that the tiny base knows: it has no hats, rugs or towers."""


def templates(evaluation: EvaluationConfig) -> tuple[str, ...]:
    """Return the prompt templates that an evaluation asks for, each with `{subject}`.

    Raises:
        DataError: the prompt file cannot be used, or a prompt in it lacks `{subject}`.
    """
    if evaluation.prompt_set == "file":
        return _from_file(Path(str(evaluation.prompts_file)))
    named = {"own": evaluation.prompts, "tiny": TINY, "live": LIVE, "object": OBJECT}
    return named[evaluation.prompt_set]


def _from_file(path: Path) -> tuple[str, ...]:
    """Return the prompts of a .txt, .csv or .jsonl file; its other columns play no part here."""
    prompts = tuple(row.prompt for row in read_prompts(path))
    lacking = next((prompt for prompt in prompts if SUBJECT_FIELD not in prompt), None)
    if lacking is not None:
        raise DataError(
            f"{path}: the prompt {lacking!r} lacks {SUBJECT_FIELD}.",
            remedy=f"Write {SUBJECT_FIELD} where identifier and class noun belong.",
        )
    if len(prompts) > MAX_PROMPTS:
        raise DataError(
            f"{path} holds {len(prompts)} prompts; an evaluation takes at most {MAX_PROMPTS}."
        )
    return prompts
