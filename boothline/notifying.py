"""Notifies a webhook of how a run ended, in JSON that Slack and its like understand."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from boothline import errors
from boothline.addresses import check_service_url
from boothline.catalogue import ends_run
from boothline.config import RunConfig
from boothline.config.model import NotificationConfig
from boothline.connecting import Service, http_errors, tls_error
from boothline.errors import BoothlineError, ConfigError, ServiceError
from boothline.logs import as_text
from boothline.results import Promotion
from boothline.runs import RunRecord, RunStatus, StepRecord
from boothline.settings import Settings
from boothline.store import Store
from boothline.trials import steps_with_trials

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 3.0
READ_SECONDS = 5.0
MAX_LINE_CHARACTERS = 200
MAX_BLOCK_CHARACTERS = 2000
HIDDEN = "[hidden]"
_TRACEBACK = "Traceback (most recent call last):"
_EXPECTED = {name for name, value in vars(errors).items() if isinstance(value, type)}
_SYMBOLS = {"done": "✅", "refused": "⚠️", "failed": "❌", "interrupted": "⏸️"}
_SECRETS = (
    (re.compile(r"(://)[^/\s:@]+:[^/\s@]+(?=@)"), r"\1"),  # user and password in a URL
    (re.compile(r"(?i)(authorization\W+)[^\r\n]+"), r"\1"),
    (re.compile(r"(?i)(bearer +)\S+"), r"\1"),
    (re.compile(r"(?i)(X-Amz-(?:Signature|Credential|Security-Token)=)[^&\s]+"), r"\1"),
    (
        re.compile(
            r"(?i)((?:password|passwd|secret|token|api_?key|access_?key)\w*[\"']?\s*[=:]\s*[\"']?)"
            r"[^\s\"',]+"
        ),
        r"\1",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a run ended.

    Attributes:
        run_id: the run.
        pipeline: its pipeline.
        model_name: the model it is about.
        status: the final status.
        seconds: how long it took.
        steps: records of its steps.
        words: why, in sentences: the gate's rules, say.
    """

    run_id: str
    pipeline: str
    model_name: str
    status: RunStatus
    seconds: float
    steps: Sequence[StepRecord]
    words: Sequence[str] = ()

    @property
    def culprit(self) -> StepRecord | None:
        """The first step that failed, or else one that was killed."""
        for status in ("failed", "running"):
            for step in sorted(self.steps, key=lambda step: step.started_at):
                if step.status == status:
                    return step
        return None


def tell_ending(
    settings: Settings,
    store: Store,
    record: RunRecord,
    *,
    config: NotificationConfig,
    status: RunStatus,
    seconds: float,
    logs: Path | None,
) -> bool:
    """Notify the webhook, where one is configured, of how a run ended.

    Args:
        settings: hold the URL.
        store: holds the records of the run's steps.
        record: the run.
        config: says which endings are sent.
        status: how it ended.
        seconds: how long it took.
        logs: folder of one log a step or shard; None: not on this machine.

    Returns:
        Whether the webhook took the message; a reason why not is logged and changes nothing.
    """
    if not settings.notify_webhook_url.get_secret_value() or status not in config.statuses:
        return False
    try:
        ending = ending_of(store, record, status=status, seconds=seconds)
    except BoothlineError as error:
        logger.warning("the webhook was not notified of run %s: %s", record.run_id, error)
        return False
    return notify(settings, config, ending, logs=logs)


def ending_of(store: Store, record: RunRecord, *, status: RunStatus, seconds: float) -> Ending:
    """Return how a run ended, with the steps of its trials and the words of its gate.

    Args:
        store: holds the records.
        record: the run.
        status: how it ended.
        seconds: how long it took.
    """
    steps = [step for step in steps_with_trials(store, record.run_id) if not ends_run(step.step)]
    words: list[str] = []
    for step in steps:
        if step.step == "promote" and step.status == "done":
            rules = store.read_as(Promotion, step.manifest).rules
            words = [rule.text for rule in rules if status != "refused" or not rule.passed]
    return Ending(
        run_id=record.run_id,
        pipeline=record.pipeline,
        model_name=RunConfig.model_validate(record.config).model_name,
        status=status,
        seconds=seconds,
        steps=steps,
        words=words,
    )


def notify(
    settings: Settings, config: NotificationConfig, ending: Ending, *, logs: Path | None
) -> bool:
    """Notify the webhook, where one is configured; a run never fails for it.

    Args:
        settings: hold the URL.
        config: says which endings are sent, and how many log lines.
        ending: how the run ended.
        logs: folder of one log a step or shard; None: not on this machine.

    Returns:
        Whether the webhook took the message.
    """
    import urllib3

    url = settings.notify_webhook_url.get_secret_value()
    if not url or ending.status not in config.statuses:
        return False
    body = message(ending, config, logs=logs, settings=settings)
    try:
        check_service_url(url, name="BOOTHLINE_NOTIFY_WEBHOOK_URL")
        reply = urllib3.PoolManager(retries=False).request(
            "POST",
            url,
            json=body,
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
            redirect=False,
        )
    except http_errors(OSError, ValueError, ConfigError) as error:
        lasting = tls_error(error, _webhook(url), what="send it", kind=ServiceError)
        reason = without_secrets(str(lasting or error), settings)
        logger.warning("the webhook was not notified of run %s: %s", ending.run_id, reason)
        return False
    if reply.status >= 300:
        logger.warning("the webhook answered %d to run %s", reply.status, ending.run_id)
        return False
    logger.info("the webhook was notified that run %s is %s", ending.run_id, ending.status)
    return True


def _webhook(url: str) -> Service:
    """Return the webhook as messages name it; its path is a secret."""
    scheme, separator, rest = url.rpartition("://")
    host = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]
    return Service(
        name="the webhook",
        url=f"{scheme}{separator}{host}",
        url_setting="BOOTHLINE_NOTIFY_WEBHOOK_URL",
        trust_setting="SSL_CERT_FILE",
    )


def message(
    ending: Ending, config: NotificationConfig, *, logs: Path | None, settings: Settings
) -> dict[str, object]:
    """Return the message: `text` to be notified by, `blocks` to read, `boothline` for programs."""
    symbol = _SYMBOLS.get(ending.status, "")
    title = (
        f"{symbol} {ending.model_name}: {ending.pipeline} run {ending.run_id} is {ending.status} "
        f"after {ending.seconds:.0f} s"
    ).strip()
    sections = [f"*{_escaped(title)}*", *(_clean(words, settings) for words in ending.words)]
    facts: dict[str, object] = {
        "run_id": ending.run_id,
        "pipeline": ending.pipeline,
        "model_name": ending.model_name,
        "status": ending.status,
        "seconds": round(ending.seconds, 1),
    }
    step = ending.culprit
    if ending.status in ("failed", "interrupted"):
        facts["resume"] = f"boothline resume {ending.run_id}"
        if step is not None:
            reason = step.failure.message if step.failure else "Its process was killed."
            remedy = step.failure.remedy if step.failure else ""
            log = _last_lines(logs, step, config.log_lines, settings=settings)
            facts |= {
                "step": step.label,
                "error": without_secrets(reason, settings),
                "remedy": without_secrets(remedy, settings),
                "log": log,
            }
            sections.append(f"Step {step.label} failed: {_clean(reason, settings)}")
            sections += [_clean(remedy, settings)] if remedy else []
            sections += [f"```{_escaped(part)}```" for part in _parts(log)]
        sections.append(f"Continue with `{facts['resume']}`")
    return {
        "text": title,
        "blocks": [
            {"type": "section", "text": {"type": "mrkdwn", "text": section}} for section in sections
        ],
        "boothline": facts,
    }


def without_secrets(text: str, settings: Settings) -> str:
    """Return a text with the settings' secrets, and whatever looks like one, left out."""
    for secret in _known(settings):
        text = text.replace(secret, HIDDEN)
    for pattern, kept in _SECRETS:
        text = pattern.sub(kept + HIDDEN, text)
    return text


def _known(settings: Settings) -> list[str]:
    """Return the secrets of this process, the longest first."""
    values = [getattr(settings, name) for name in type(settings).model_fields]
    secrets = [value.get_secret_value() for value in values if isinstance(value, SecretStr)]
    secrets.append(settings.s3_access_key)
    return sorted((secret for secret in secrets if len(secret) >= 4), key=len, reverse=True)


def _last_lines(
    logs: Path | None, step: StepRecord, count: int, *, settings: Settings
) -> list[str]:
    """Return the last lines of a step's log without secrets; none where there is no log.

    An expected error's traceback says nothing that the error does not say, and is left out.
    """
    path = logs / f"{step.label}.log" if logs else None
    if path is None or not path.is_file() or count == 0:
        return []
    lines = as_text(path.read_text(encoding="utf-8", errors="replace")).splitlines()
    if step.failure and step.failure.type in _EXPECTED:
        lines = _without_tracebacks(lines)
    return [without_secrets(line, settings)[:MAX_LINE_CHARACTERS] for line in lines[-count:]]


def _without_tracebacks(lines: Sequence[str]) -> list[str]:
    """Return lines without the frames of tracebacks; the line with the exception stays."""
    kept: list[str] = []
    inside = False
    for line in lines:
        inside = line.lstrip().startswith(_TRACEBACK) or (inside and line.startswith(" "))
        if not inside:
            kept.append(line)
    return kept


def _parts(lines: Sequence[str]) -> list[str]:
    """Return lines joined into texts that fit into one block each."""
    parts: list[str] = []
    for line in lines:
        if parts and len(parts[-1]) + len(line) < MAX_BLOCK_CHARACTERS:
            parts[-1] += f"\n{line}"
        else:
            parts.append(line)
    return parts


def _clean(text: str, settings: Settings) -> str:
    """Return a sentence for a block: no secret, no markup, not too long."""
    return _escaped(without_secrets(text, settings)[:MAX_BLOCK_CHARACTERS])


def _escaped(text: str) -> str:
    """Return text in which Slack sees no markup: no links, no mentions."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
