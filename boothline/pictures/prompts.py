"""Reads prompt files: a prompt a line (.txt), or rows with their own settings (.csv, .jsonl)."""

import csv
import difflib
import io
import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from boothline.config.sampling import SamplerName, SamplingConfig
from boothline.data.prompt_files import MAX_FILE_BYTES
from boothline.errors import DataError

MAX_ROWS = 1_000_000


def _refuse_control_characters(text: str) -> str:
    """Return the text, or raise for characters that could act on a terminal or hide text."""
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in text):
        raise ValueError("control characters are not allowed")
    return text


class PromptRow(BaseModel):
    """One prompt and the settings it overrides; an unset field takes the run's setting."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    prompt: str = Field(min_length=1, max_length=2000, description="What the picture shows.")
    negative_prompt: str | None = Field(
        default=None, max_length=2000, description="What it does not."
    )
    seed: int | None = Field(
        default=None, ge=0, lt=2**31, description="Seed of this row's pictures."
    )
    num_steps: int | None = Field(default=None, ge=1, le=1000, description="Denoising steps.")
    guidance_scale: float | None = Field(default=None, ge=0, le=50, description="Guidance scale.")
    sampler: SamplerName | None = Field(default=None, description="Sampler.")
    height_px: int | None = Field(default=None, ge=8, le=4096, multiple_of=8, description="Height.")
    width_px: int | None = Field(default=None, ge=8, le=4096, multiple_of=8, description="Width.")
    image: str | None = Field(
        default=None, min_length=1, max_length=1000, description="Picture file to start from."
    )
    mask: str | None = Field(
        default=None, min_length=1, max_length=1000, description="Mask: white is repainted."
    )
    strength: float | None = Field(
        default=None, ge=0, le=1, description="Share of the steps taken from the picture on."
    )

    @field_validator("prompt", "negative_prompt", "image", "mask")
    @classmethod
    def _check_text(cls, text: str | None) -> str | None:
        return None if text is None else _refuse_control_characters(text)

    @model_validator(mode="after")
    def _check_edit(self) -> Self:
        if self.image is None and (self.mask is not None or self.strength is not None):
            raise ValueError("mask and strength need an image")
        return self

    def sampling(self, default: SamplingConfig) -> SamplingConfig:
        """Return the run's sampling settings with this row's own ones over them."""
        own = {
            "num_steps": self.num_steps,
            "guidance_scale": self.guidance_scale,
            "sampler": self.sampler,
        }
        return default.model_copy(update={k: v for k, v in own.items() if v is not None})


def read_prompts(path: Path) -> list[PromptRow]:
    """Return the rows of a prompt file; blank lines are left out.

    Pictures and masks are named relative to the prompt file; the rows have them absolute.

    - `.txt`: one prompt a line.
    - `.csv`: a header with `prompt` and any other field of `PromptRow`; an empty cell is unset.
    - `.jsonl`: one object a line with the same names.

    Raises:
        DataError: the file or one of its lines cannot be used; names the file and the line.
    """
    text = _read_text(path)
    readers = {".txt": _txt_rows, ".csv": _csv_rows, ".jsonl": _jsonl_rows}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            f"{path}: prompt files are .txt, .csv or .jsonl, not {path.suffix or 'nameless'!r}."
        )
    rows = [_row(path, line, value) for line, value in reader(path, text)]
    if not rows:
        raise DataError(f"{path} holds no prompts.", remedy="Write one prompt a line.")
    if len(rows) > MAX_ROWS:
        raise DataError(f"{path} holds {len(rows)} prompts; at most {MAX_ROWS} are read.")
    return rows


def _read_text(path: Path) -> str:
    """Return a prompt file's text."""
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise DataError(f"{path} has {size} bytes; at most {MAX_FILE_BYTES} are read.")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8: byte {error.start}.", remedy="Save it as UTF-8."
        ) from error
    except OSError as error:
        raise DataError(
            f"The prompt file {path} cannot be read: {error.strerror or error}.",
            remedy="Check inference.prompts_file, or evaluation.prompts_file.",
        ) from error


Line = tuple[int, dict[str, object]]


def _txt_rows(path: Path, text: str) -> Iterator[Line]:
    """Yield line number and fields of a text file."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, {"prompt": line.strip()}


def _csv_rows(path: Path, text: str) -> Iterator[Line]:
    """Yield line number and fields of a CSV file."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    start = 1
    try:
        for cells in reader:
            line, start = start, reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = [cell.strip() for cell in cells]
                _check_header(path, line, header)
                continue
            if len(cells) > len(header):
                raise _fault(path, line, f"has {len(cells)} cells, the header has {len(header)}")
            pairs = zip(header, cells, strict=False)
            yield line, {name: cell for name, cell in pairs if cell.strip()}
    except csv.Error as error:
        raise _fault(path, reader.line_num, f"is not CSV: {error}") from error


def _check_header(path: Path, line: int, header: list[str]) -> None:
    """Raise unless a CSV header names `prompt` and each column once."""
    if "prompt" not in header:
        raise _fault(path, line, f"names the columns {', '.join(header)}, but no 'prompt'")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise _fault(path, line, f"names the column {twice[0]!r} twice")


def _jsonl_rows(path: Path, text: str) -> Iterator[Line]:
    """Yield line number and fields of a JSON-lines file."""
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _fault(path, number, f"is not JSON: {error}") from error
        if not isinstance(value, dict):
            raise _fault(path, number, f"holds {type(value).__name__}, not an object")
        yield number, value


def _row(path: Path, line: int, value: dict[str, object]) -> PromptRow:
    """Return one checked row."""
    try:
        return _located(path, line, PromptRow.model_validate(value))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        if not name:
            raise _fault(path, line, f"is wrong: {_reason(first['msg'])}") from error
        if first["type"] == "extra_forbidden":
            near = difflib.get_close_matches(name, PromptRow.model_fields, n=1, cutoff=0.0)
            message = f"has the unknown field {name!r}; did you mean {near[0]!r}?"
        elif first["type"] == "missing":
            message = f"lacks {name!r}"
        else:
            reason = _reason(first["msg"])
            known = get_args(SamplerName) if name == "sampler" else ()
            near = difflib.get_close_matches(str(first["input"]), known, n=1)
            guess = f"; did you mean {near[0]!r}?" if near else ""
            message = f"has {name} = {_shorten(first['input'])}: {reason}{guess}"
        raise _fault(path, line, message) from error


def _located(path: Path, line: int, row: PromptRow) -> PromptRow:
    """Return the row with absolute paths of its picture and mask, which must exist."""
    found: dict[str, str] = {}
    for column in ("image", "mask"):
        name = getattr(row, column)
        if name is not None:
            file = (path.absolute().parent / Path(name).expanduser()).resolve()
            if not file.is_file():
                raise _fault(
                    path, line, f"names the {column} {_shorten(name)}, which does not exist"
                )
            found[column] = str(file)
    return row.model_copy(update=found) if found else row


def _fault(path: Path, line: int, message: str) -> DataError:
    """Return the error for one line of a file."""
    return DataError(f"{path}, line {line} {message}{'' if message.endswith('?') else '.'}")


def _reason(message: str) -> str:
    return message.removeprefix("Value error, ")


def _shorten(value: object) -> str:
    """Return a value's repr, at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
