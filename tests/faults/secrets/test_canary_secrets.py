"""Secrets in the environment turn up nowhere: not in logs, errors, files, objects or arguments."""

import io
import json
import logging
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import yaml
from poison_pictures import plain
from pydantic import SecretStr

from boothline import services
from boothline.errors import BoothlineError
from boothline.services import Endpoints
from boothline.settings import Settings
from boothline.steps import Step, StepContext, StepInputs, StepKey, execute
from boothline.store import ManifestDraft, Store

pytestmark = pytest.mark.services

CANARY = "canary-7f3a91c2d4"
Note = Callable[[str, str], None]
ALLOWED = ("services/credentials.json", "seaweedfs/s3.json", "seaweedfs/security.toml")


@pytest.fixture
def all_logs() -> Iterator[io.StringIO]:
    """Everything that any library logs, at the most talkative level."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(before)


def test_settings_show_their_secrets_to_nobody() -> None:
    own = Settings(
        s3_secret_key=SecretStr(CANARY),
        s3_session_token=SecretStr(CANARY),
        notify_webhook_url=SecretStr(f"https://hooks.example.org/{CANARY}"),
    )
    for shown in (repr(own), str(own), own.model_dump_json(), str(own.model_dump())):
        assert CANARY not in shown


def test_refused_secret_is_in_no_log_and_no_traceback(
    store_settings: Settings, all_logs: io.StringIO
) -> None:
    wrong = store_settings.model_copy(
        update={"s3_secret_key": SecretStr(CANARY), "s3_session_token": SecretStr(CANARY)}
    )
    try:
        Store.connect(wrong)
    except BoothlineError as error:
        lines = traceback.TracebackException.from_exception(error, capture_locals=False).format()
        shown = f"{error} {error!r} {''.join(lines)}"
    else:
        pytest.fail("the store took a wrong secret")
    assert CANARY not in shown
    assert CANARY not in all_logs.getvalue()


def test_step_leaves_no_secret_in_store_logs_and_events(
    store_settings: Settings, store: Store, tmp_path: Path, all_logs: io.StringIO
) -> None:
    secret = store_settings.s3_secret_key.get_secret_value()
    own = store_settings.model_copy(update={"run_dir": tmp_path / "run"})

    def produce(context: StepContext, inputs: StepInputs) -> ManifestDraft:
        logging.getLogger("step").info("settings: %s", context.settings)
        return ManifestDraft(kind="test", files={"file": str(context).encode()})

    step = Step(
        name="train",
        inputs=StepInputs,
        version=1,
        key=lambda c, i: StepKey(config={}),
        produce=produce,
    )
    execute(step, StepInputs(run_id="r", config="{}"), settings=own)
    failing = Step(
        name="evaluate", inputs=StepInputs, version=1, key=lambda c, i: StepKey(config={}),
        produce=lambda c, i: Store.connect(
            c.settings.model_copy(update={"s3_access_key": "unknown-key"})
        ),
    )  # fmt: skip
    with pytest.raises(BoothlineError):
        execute(failing, StepInputs(run_id="r", config="{}"), settings=own)
    written = [(tmp_path / "run").rglob("*")]
    texts = [path.read_bytes() for found in written for path in found if path.is_file()]
    texts += [store.bucket.get(key) or b"" for key in store.bucket.keys("")]
    assert len(texts) > 4
    assert not [text for text in texts if secret.encode() in text]
    assert secret not in all_logs.getvalue()


@pytest.mark.faults
def test_full_run_leaves_no_secret_anywhere(
    tmp_path: Path, tiny_pipeline: Path, tiny_clip: Path, tiny_dino: Path, measured: Note
) -> None:
    place = run_folder(tmp_path, tiny_pipeline, tiny_clip, tiny_dino)
    tokens = ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "BOOTHLINE_S3_SESSION_TOKEN", "WANDB_API_KEY")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BOOTHLINE_")}
    environment |= dict.fromkeys(tokens[:2] + tokens[3:], CANARY)
    endpoints = services.ensure(place / ".boothline")
    secret = endpoints.s3_secret_key.get_secret_value()
    arguments: set[str] = set()
    done = threading.Event()
    watcher = threading.Thread(target=watch, args=(arguments, done), daemon=True)
    watcher.start()
    try:
        run = subprocess.run(
            [sys.executable, "-m", "boothline.cli.app", "-v", "run", "--output", "json"],
            cwd=place, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        done.set()
        watcher.join()
        assert run.returncode == 0, run.stderr[-3000:]
        haystacks = everything(place, endpoints)
        haystacks |= {"stdout": run.stdout.encode(), "stderr": run.stderr.encode()}
        haystacks["arguments of processes"] = "\n".join(arguments).encode()
    finally:
        done.set()
        services.stop(place / ".boothline")
    hits = [
        name
        for name, text in haystacks.items()
        if CANARY.encode() in text or (secret.encode() in text and not name.endswith(ALLOWED))
    ]
    assert hits == []
    assert sum(name.startswith("object ") for name in haystacks) > 50
    measured(
        "canary secrets", f"{len(hits)} hits in {len(haystacks)} files, objects and argument lists"
    )


def watch(arguments: set[str], done: threading.Event) -> None:
    """Collect the command lines of all processes until told to stop."""
    while not done.wait(0.2):
        for process in psutil.process_iter(["cmdline"]):
            arguments.add(" ".join(process.info["cmdline"] or []))


def everything(place: Path, endpoints: Endpoints) -> dict[str, bytes]:
    """Return every file below a folder and every object of the store, by name."""
    found = {
        path.relative_to(place).as_posix(): path.read_bytes()
        for path in place.rglob("*")
        if path.is_file() and "seaweedfs/data" not in path.as_posix()
    }
    bucket = Store.connect(endpoints.settings()).bucket
    return found | {f"object {key}": bucket.get(key) or b"" for key in bucket.keys("")}


def run_folder(folder: Path, pipeline: Path, clip: Path, dino: Path) -> Path:
    """Return a folder with pictures and a configuration of the smallest full run."""
    place = folder / "product"
    (place / "pictures").mkdir(parents=True)
    for number in range(3):
        plain(number, size=(64, 64)).save(place / "pictures" / f"{number}.png")
    sampling = {"num_steps": 1, "batch_size": 2}
    settings = {
        "subject": {
            "name": "thing", "images": "pictures", "class_noun": "bear", "resolution_px": 32
        },
        "base_model": {"source": str(pipeline)},
        "prior": {"num_images": 2, "num_shards": 1, "sampling": sampling},
        "training": {"num_steps": 2, "num_processes": 1, "sample_every_steps": 0},
        "evaluation": {
            "prompts": ["a photo of a {subject}"], "images_per_prompt": 1, "sampling": sampling,
            "clip_model": str(clip), "dino_model": str(dino),
        },
        "inference": {"sampling": sampling},
        "promotion": {"margins": {"min_subject_gain": -2, "max_prompt_loss": 2,
                                  "max_prior_loss": 2, "max_diversity_loss": 2}},
    }  # fmt: skip
    (place / "run.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(settings))))
    return place
