"""Log lines of this process, as text or as JSON objects; and such objects read as text again."""

import json
import logging
import re
import traceback
from datetime import UTC, datetime
from typing import Final, Literal

LogFormat = Literal["text", "json"]
TEXT_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s %(message)s"
"""Of the lines that a step writes; `boothline logs` knows them by it."""
_OURS: Final = frozenset({"time", "level", "logger", "run", "step", "rank", "message"})
_LINE: Final = re.compile(r'^\{"time": "[^\n]*\}$', re.MULTILINE)


class JsonFormatter(logging.Formatter):
    """Writes a record as one JSON object: time, level, logger, run, step, rank, message.

    An exception is the traceback as text, under `exception`.

    Args:
        run: the pipeline run; empty: none.
        step: the step, with its shard; empty: none.
        rank: number of the rank of a training.
    """

    def __init__(self, *, run: str = "", step: str = "", rank: int | None = None) -> None:
        super().__init__()
        self._context = {"run": run or None, "step": step or None, "rank": rank}

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        moment = datetime.fromtimestamp(record.created, UTC)
        values: dict[str, object] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            **self._context,
            "message": record.getMessage(),
        }
        if record.exc_info and record.exc_info[0] is not None:
            values["exception"] = "".join(traceback.format_exception(*record.exc_info)).rstrip()
        return json.dumps(values, ensure_ascii=False, default=str)


def configure(
    form: LogFormat,
    *,
    run: str = "",
    step: str = "",
    rank: int | None = None,
    text: str = TEXT_FORMAT,
    force: bool = False,
) -> None:
    """Let this process log to stderr from INFO on; does nothing where somebody has set it up.

    Args:
        form: text or JSON.
        run: the pipeline run, for JSON.
        step: the step, for JSON.
        rank: the rank, for JSON.
        text: format of the lines of text.
        force: replace what was set up before.
    """
    handler = logging.StreamHandler()
    is_json = form == "json"
    handler.setFormatter(
        JsonFormatter(run=run, step=step, rank=rank) if is_json else logging.Formatter(text)
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=force)


def as_text(log: str) -> str:
    """Return a log whose lines of JSON are lines of text that say the same; others stay."""
    return _LINE.sub(_text_of, log)


def _text_of(line: re.Match[str]) -> str:
    """Return a line of JSON as text, with the traceback below; what is not ours stays."""
    try:
        values = json.loads(line.group())
        if not values.keys() >= _OURS:
            return line.group()
        moment = datetime.fromisoformat(values["time"]).astimezone()
    except ValueError:
        return line.group()
    time = f"{moment:%Y-%m-%d %H:%M:%S},{moment.microsecond // 1000:03d}"
    first = f"{time} {values['level']} {values['logger']} {values['message']}"
    return "\n".join(filter(None, (first, values.get("exception"))))
