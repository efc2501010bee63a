"""Captions: the text files beside pictures, read with suspicion, and what their words must say."""

import re
from pathlib import Path

from boothline.config.section import SUBJECT_FIELD
from boothline.config.subject import SubjectConfig
from boothline.data.report import DatasetWarning
from boothline.errors import DataError

MAX_CAPTION_CHARACTERS = 300
_MAX_CAPTION_BYTES = 16 * 1024


def read_caption(path: Path) -> str:
    """Return the text of a caption file on one line.

    Raises:
        DataError: it is empty, too long, not UTF-8, or has control characters; the message
            reads on from the file's name.
    """
    with path.open("rb") as stream:
        data = stream.read(_MAX_CAPTION_BYTES + 1)
    advice = f"Write one line of at most {MAX_CAPTION_CHARACTERS} characters, as plain UTF-8 text."
    try:
        text = " ".join(data.decode("utf-8-sig").split())
    except UnicodeDecodeError as error:
        raise DataError("has a caption file that is not UTF-8 text", remedy=advice) from error
    if not text:
        raise DataError("has an empty caption file", remedy=advice)
    if len(text) > MAX_CAPTION_CHARACTERS:
        raise DataError(
            f"has a caption of more than {MAX_CAPTION_CHARACTERS} characters", remedy=advice
        )
    if not text.isprintable():
        raise DataError("has a caption with control characters", remedy=advice)
    return text


def caption_for(
    source: str, caption_file: Path | None, *, subject: SubjectConfig
) -> tuple[str, list[DatasetWarning]]:
    """Return the caption of a picture with `{subject}` filled in, and warnings about it.

    Args:
        source: name of the picture, safe to print.
        caption_file: the text file beside it, if there is one; a refused one falls back to
            `subject.prompt`.
        subject: gives the fallback, the identifier and the class noun.
    """
    if caption_file is None:
        return subject.fill(subject.prompt), []
    try:
        template = read_caption(caption_file)
    except DataError as error:
        warning = DatasetWarning(
            source=source,
            check="caption",
            message=f"{error.message}; subject.prompt is used instead",
            advice=error.remedy,
        )
        return subject.fill(subject.prompt), [warning]
    caption = subject.fill(template)
    if names(caption, subject.identifier):
        return caption, []
    warning = DatasetWarning(
        source=source,
        check="caption",
        message=f"has a caption without the identifier {subject.identifier!r}",
        advice=f"Write {SUBJECT_FIELD} where the subject stands; nothing else ties it to its name.",
    )
    return caption, [warning]


def names(caption: str, phrase: str) -> bool:
    """Tell whether a caption contains a phrase as whole words, in any case."""
    return re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", caption, re.IGNORECASE) is not None
