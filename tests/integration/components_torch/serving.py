"""A model published, promoted and served over a real socket, for tests of the server."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import uvicorn

from boothline.launch.local.session import Session
from boothline.launch.serve import Followed, application
from boothline.registry.promotion import promote_past_gate
from boothline.registry.versions import ModelVersion

NAME = "boothline-bear"
WANTED = {"prompt": "a photo of sks bear", "seed": 7, "steps": 1, "size": "32x32"}


def promote(session: Session, version: ModelVersion) -> None:
    """Make a version the champion."""
    promote_past_gate(session.store, session.settings, NAME, ref=version.ref, reason="r", actor="x")


@contextmanager
def served(followed: Followed, *, queue_limit: int = 64) -> Iterator[str]:
    """Yield the URL of a server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        app = application(followed, queue_limit=queue_limit)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def ask(url: str, **changes: object) -> httpx.Response:
    """Ask for a picture."""
    return httpx.post(f"{url}/generate", json={**WANTED, **changes}, timeout=120)
