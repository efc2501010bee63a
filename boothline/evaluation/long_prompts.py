"""Finds every prompt of a configuration that the base model's text encoder cuts off."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from boothline.config import RunConfig
from boothline.config.section import SUBJECT_FIELD
from boothline.config.training import CAPTION_FIELD
from boothline.data.identifier import TokenCounter, length_warnings
from boothline.data.report import DatasetReport, DatasetWarning
from boothline.evaluation.prompt_sets import templates
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
