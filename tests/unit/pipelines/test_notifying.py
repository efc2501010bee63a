"""Messages on a run's end, against a real HTTP server."""

import json

import pytest
from unit.pipelines.webhook import Hook

from boothline.config.model import NotificationConfig
from boothline.notifying import HIDDEN, Ending, notify, without_secrets
from boothline.runs import Failure, StepRecord
from boothline.settings import Settings

CANARY = "canary-5f2c9d1e"


@pytest.fixture
def hook():
    with Hook(path=CANARY) as hook:
        yield hook


def settings(url: str) -> Settings:
    return Settings(
        notify_webhook_url=url, s3_access_key="key-of-the-store", s3_secret_key=CANARY * 2
    )


def failed_run(**changes) -> Ending:
    steps = [
        StepRecord(step="validate_data", status="done", started_at=1.0),
        StepRecord(
            step="train",
            status="failed",
            started_at=2.0,
            failure=Failure(
                type="TrainingError",
                message=f"No memory <here>, {CANARY * 2}.",
                remedy="Take a smaller batch.",
            ),
        ),
    ]
    values = {
        "run_id": "20260101-000000-0000",
        "pipeline": "dreambooth",
        "model_name": "boothline-bear",
        "status": "failed",
        "seconds": 61.4,
        "steps": steps,
    }
    return Ending(**{**values, **changes})


def test_notify_of_a_failed_run_names_step_reason_log_and_resume(hook, tmp_path):
    (tmp_path / "train.log").write_text("\n".join(f"line {n}" for n in range(40)))

    sent = notify(settings(hook.url), NotificationConfig(log_lines=2), failed_run(), logs=tmp_path)

    assert sent
    (body,) = hook.received
    assert body["text"].endswith("run 20260101-000000-0000 is failed after 61 s")
    assert body["boothline"]["step"] == "train"
    assert body["boothline"]["log"] == ["line 38", "line 39"]
    assert body["boothline"]["resume"] == "boothline resume 20260101-000000-0000"
    texts = [block["text"]["text"] for block in body["blocks"]]
    assert "No memory &lt;here&gt;" in texts[1]
    assert texts[2] == body["boothline"]["remedy"] == "Take a smaller batch."
    assert texts[3] == "```line 38\nline 39```"
    assert {(block["type"], block["text"]["type"]) for block in body["blocks"]} == {
        ("section", "mrkdwn")
    }


@pytest.mark.parametrize(("error", "has_frames"), [("TrainingError", False), ("KeyError", True)])
def test_notify_tells_the_frames_of_an_unexpected_error_alone(hook, tmp_path, error, has_frames):
    trace = ["Traceback (most recent call last):", "  File 'a.py', line 3", "    a()"]
    lines = ["step 7", *trace, f"{error}: why"]
    (tmp_path / "train.log").write_text("\n".join(lines))
    failure = Failure(type=error, message="why")
    step = StepRecord(step="train", status="failed", started_at=2.0, failure=failure)

    notify(settings(hook.url), NotificationConfig(), failed_run(steps=[step]), logs=tmp_path)

    expected = ["step 7", *(trace if has_frames else []), f"{error}: why"]
    assert hook.received[0]["boothline"]["log"] == expected


def test_notify_never_tells_a_secret(hook, tmp_path):
    (tmp_path / "train.log").write_text(
        f"PUT http://user:{CANARY}@store/x\nAuthorization: Bearer {CANARY}\n"
        f"X-Amz-Signature={CANARY}&x=1\ndb_password='{CANARY}'\n{'x' * 195}{CANARY * 2}\n"
        f"posted to {hook.url}\nkey-of-the-store\n"
    )

    notify(settings(hook.url), NotificationConfig(), failed_run(), logs=tmp_path)

    text = json.dumps(hook.received)
    assert CANARY[:6] not in text
    assert "key-of-the-store" not in text
    assert HIDDEN in text


def test_notify_of_a_refused_run_says_why_and_needs_no_step(hook):
    ending = failed_run(status="refused", steps=[], words=["It gains nothing: refused."])

    assert notify(settings(hook.url), NotificationConfig(), ending, logs=None)

    (body,) = hook.received
    assert body["blocks"][1]["text"]["text"] == "It gains nothing: refused."
    assert "resume" not in body["boothline"]


def test_notify_of_a_killed_step_names_it(hook):
    ending = failed_run(steps=[StepRecord(step="train", status="running", started_at=1.0)])

    notify(settings(hook.url), NotificationConfig(), ending, logs=None)

    assert hook.received[0]["boothline"]["error"] == "Its process was killed."


@pytest.mark.parametrize(
    ("status", "told"), [("done", False), ("failed", True), ("interrupted", False)]
)
def test_notify_tells_only_the_endings_that_are_asked_for(hook, status, told):
    config = NotificationConfig(statuses=("failed",))

    assert notify(settings(hook.url), config, failed_run(status=status), logs=None) is told
    assert len(hook.received) == told


def test_notify_without_a_url_does_nothing():
    assert not notify(Settings(), NotificationConfig(), failed_run(), logs=None)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/x", "file:///etc/hostname", "http://[broken", "gopher"]
)
def test_notify_of_a_webhook_that_cannot_be_reached_is_a_warning(url, caplog):
    assert not notify(settings(url), NotificationConfig(), failed_run(), logs=None)

    assert "the webhook was not notified of run" in caplog.text
    assert url not in caplog.text


def test_notify_of_a_webhook_that_refuses_is_a_warning_without_its_url(hook, caplog):
    hook.status = 403

    assert not notify(settings(hook.url), NotificationConfig(), failed_run(), logs=None)

    assert "the webhook answered 403" in caplog.text
    assert CANARY not in caplog.text


def test_without_secrets_leaves_plain_text_as_it_is():
    text = "step 3 of 5, loss 0.041, see s3://bucket/steps/train/abc"
    assert without_secrets(text, Settings()) == text
