"""`mlflow models serve` as a user starts it: a program of its own before a real MLflow server."""

import base64
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from integration.components_torch.mlflow_registry import LINE, Registry, pixels
from integration.components_torch.workshop import Workshop

from boothline.settings import Settings
from boothline.store import layout

pytestmark = [pytest.mark.services, pytest.mark.slow]

CHECKOUT = Path(__file__).resolve().parents[3]
IS_UP = "Application startup complete"
PATIENCE_SECONDS = 900


def command(registry: Registry, port: int) -> list[str]:
    model = f"models:/{registry.name}@champion"
    options = ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    return [sys.executable, "-m", "mlflow", "models", "serve", "-m", model, *options]


def variables(settings: Settings) -> dict[str, str]:
    return {
        **os.environ,
        **settings.variables(),
        "MLFLOW_TRACKING_URI": settings.mlflow_uri,
        "PYTHONPATH": str(CHECKOUT),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def serving(registry: Registry) -> Iterator[str]:
    """Yield the URL of `mlflow models serve` with the champion, once it answers."""
    port = free_port()
    server = subprocess.Popen(
        command(registry, port), env=variables(registry.settings), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stderr
    said: list[str] = []
    try:
        for line in server.stderr:
            said.append(line)
            if IS_UP in line:
                break
        else:
            pytest.fail("".join(said))
        threading.Thread(target=server.stderr.read, daemon=True).start()
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


def answered(url: str) -> bytes:
    """Return the PNG that a server answers with."""
    body = {"dataframe_records": [LINE]}
    answer = httpx.post(f"{url}/invocations", json=body, timeout=PATIENCE_SECONDS)
    assert answer.status_code == 200, answer.text
    return base64.decodebytes(answer.json()["predictions"][0].encode())


@pytest.mark.proves("F52/serve")
def test_served_champion_draws_what_generate_draws_before_and_after_a_rollback(
    registry: Registry, workshop: Workshop, tmp_path: Path
) -> None:
    first = registry.publish(workshop.training())
    second = registry.publish(workshop.training(scale=2.0))
    registry.promote(first)
    registry.promote(second)
    with serving(registry) as url:
        newer = answered(url)
        refused = httpx.post(f"{url}/invocations", json={"dataframe_records": [{"seed": 7}]})
    assert np.array_equal(pixels(newer), registry.generated(tmp_path / "newer"))
    assert (refused.status_code, "prompt" in refused.text) == (400, True)

    registry.roll_back()

    with serving(registry) as url:
        older = answered(url)
    assert np.array_equal(pixels(older), registry.generated(tmp_path / "older"))
    assert not np.array_equal(pixels(older), pixels(newer))


@pytest.mark.proves("F52/tampered")
def test_tampered_champion_is_not_served_and_the_server_says_why(
    registry: Registry, workshop: Workshop
) -> None:
    version = registry.publish(workshop.training())
    registry.promote(version)
    entry = registry.store.read(version.ref).entry("diffusers/unet/config.json")
    registry.store.bucket.put(layout.blob(entry.sha256), b"x" * entry.size_bytes)
    with (
        pytest.raises(pytest.fail.Exception, match="other bytes than its digest says") as refused,
        serving(registry),
    ):
        pass
    assert "IntegrityError" in str(refused.value)
