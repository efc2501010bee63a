"""Serves a registered model over HTTP: pinned by digest, swapped when an alias means another."""

import asyncio
import logging
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

import boothline
from boothline.config.sampling import SamplerName, SamplingPrecision
from boothline.errors import BoothlineError, ConfigError, DataError, ServiceError
from boothline.launch.local.session import Session
from boothline.launch.serve_metrics import ServeMetrics
from boothline.pictures.table import row_of
from boothline.registry.loaded import LoadedModel
from boothline.registry.versions import resolve
from boothline.report.render import render_prompt_page

if TYPE_CHECKING:
    from fastapi import FastAPI

    from boothline.pictures.prompts import PromptRow

logger = logging.getLogger(__name__)

_MAX_SEED = 2**31 - 1


class Wanted(BaseModel):
    """A picture that is asked for."""

    model_config = ConfigDict(extra="forbid")

    prompt: str = Field(min_length=1, max_length=2000, description="What the picture shows.")
    negative: str | None = Field(default=None, max_length=2000, description="What it does not.")
    seed: int | None = Field(
        default=None, ge=0, le=_MAX_SEED, description="The same seed gives the same picture; null: "
        "one is drawn, and the answer names it.",
    )  # fmt: skip
    steps: int | None = Field(default=None, ge=1, le=1000, description="Denoising steps.")
    guidance: float | None = Field(default=None, ge=0, le=50, description="Guidance scale.")
    sampler: SamplerName | None = Field(default=None, description="Sampler.")
    size: str | None = Field(default=None, description="WIDTHxHEIGHT in pixels, multiples of 8.")


class Followed:
    """The version that an alias means now, loaded; a thread follows the alias.

    A version that cannot be loaded or verified is not served: the one before it stays.

    Args:
        session: the store.
        name: the registered model.
        selector: `champion`, `challenger` or a number.
        precision: what its denoiser and text encoders are computed in.
        interval_seconds: from one look at the alias to the next.

    Attributes:
        swaps: how often another version took the place, and how often a look failed.

    Raises:
        ModelNotFoundError: there is no such version.
        IntegrityError: a file differs from its digest, or the signature is invalid.
    """

    def __init__(
        self,
        session: Session,
        name: str,
        selector: str,
        *,
        precision: SamplingPrecision = "fp32",
        interval_seconds: float = 5.0,
    ) -> None:
        self._session = session
        self._precision = precision
        self._alias = (name, selector)
        self._interval_seconds = interval_seconds
        self._stopping = threading.Event()
        self._model = self._load()
        self.swaps = {"swapped": 0, "failed": 0}

    @property
    def model(self) -> LoadedModel:
        """The version that answers now."""
        return self._model

    @contextmanager
    def following(self) -> Iterator[None]:
        """Follow the alias inside."""
        thread = threading.Thread(target=self._follow, name="alias", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            thread.join()

    def look(self) -> None:
        """Load the version that the alias means, if it is another one.

        Raises:
            BoothlineError: the store is unreachable, or the version cannot be loaded.
        """
        if resolve(self._session.store, *self._alias).digest != self._model.version.digest:
            self._model = self._load()
            self.swaps["swapped"] += 1
            logger.info("serving version %d now", self._model.version.version)

    def _load(self) -> LoadedModel:
        version = resolve(self._session.store, *self._alias)
        session = self._session
        return LoadedModel.load(session.store, session.settings, version, precision=self._precision)

    def _follow(self) -> None:
        while not self._stopping.wait(self._interval_seconds):
            try:
                self.look()
            except BoothlineError as error:
                self.swaps["failed"] += 1
                logger.warning("version %d stays: %s", self._model.version.version, error)


class Queue:
    """Lets one picture be drawn at a time, and so many requests wait.

    Args:
        limit: requests that wait or are answered.

    Attributes:
        limit: the same.
        depth: how many do now.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.depth = 0
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="draw")

    async def run(self, draw: Callable[[], tuple[bytes, str]]) -> tuple[bytes, str] | None:
        """Return what a function returns in the worker; None when the queue is full."""
        if self.depth >= self.limit:
            return None
        self.depth += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._worker, draw)
        finally:
            self.depth -= 1


def application(followed: Followed, *, queue_limit: int) -> "FastAPI":
    """Return the HTTP application.

    Args:
        followed: the model.
        queue_limit: requests that may wait or be answered; further ones get 429.

    Raises:
        ConfigError: the extra `serve` is missing.
    """
    try:
        from fastapi import FastAPI

        queue = Queue(queue_limit)
        metrics = ServeMetrics(followed, queue)
    except ImportError as error:
        raise ConfigError(
            f"`boothline serve` needs a library: {error}.",
            remedy="Install the extra: pip install 'boothline[serve]'.",
        ) from error
    # The pages that show the interface would load scripts from elsewhere.
    app = FastAPI(title="Boothline", version=boothline.__version__, docs_url=None, redoc_url=None)
    _add_drawing(app, followed, queue, metrics)
    _add_facts(app, followed, metrics)
    return app


def _add_drawing(app: "FastAPI", followed: Followed, queue: Queue, metrics: ServeMetrics) -> None:
    """Let an application draw pictures."""
    from fastapi import Response
    from fastapi.responses import JSONResponse

    @app.post("/generate", response_class=Response, responses=_ANSWERS)
    async def generate(wanted: Wanted) -> Response:
        """Return a PNG; its texts and headers name the model's digest, the seed and the rest."""
        seed = secrets.randbelow(_MAX_SEED) if wanted.seed is None else wanted.seed
        with metrics.request() as request:
            try:
                row = row_of({**wanted.model_dump(), "seed": seed})
                made = await queue.run(lambda: _draw(followed.model, row))
            except (ConfigError, DataError) as error:  # of the fields, or of what the model can do
                request.outcome = "invalid"
                return JSONResponse({"detail": str(error)}, status_code=422)
            if made is None:
                request.outcome = "full"
                return JSONResponse(
                    {"detail": f"{queue.limit} requests wait already."},
                    status_code=429,
                    headers={"Retry-After": "1"},
                )
            png, request.digest = made
            request.outcome = "drawn"
        headers = {"Boothline-Model": request.digest, "Boothline-Seed": str(seed)}
        return Response(png, media_type="image/png", headers=headers)


def _add_facts(app: "FastAPI", followed: Followed, metrics: ServeMetrics) -> None:
    """Let an application say how it is."""
    from fastapi import Request, Response
    from fastapi.responses import HTMLResponse

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def page() -> str:
        """Return a page on which prompts are tried."""
        version = followed.model.version
        return render_prompt_page(
            name=version.name,
            version=version.version,
            digest=version.digest,
            samplers=followed.model.pipeline.family.samplers,
        )

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Answer as long as the process does."""
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> dict[str, str | int]:
        """Name the version that answers: there is always one, or the server would not run."""
        version = followed.model.version
        return {"model": version.name, "version": version.version, "digest": version.digest}

    @app.get("/metrics", response_class=Response)
    def show_metrics(request: Request) -> Response:
        """Return what Prometheus scrapes."""
        text, media_type = metrics.exposition(request.headers.get("accept", ""))
        return Response(text, headers={"Content-Type": media_type})


def listen(app: "FastAPI", *, host: str, port: int) -> None:
    """Answer requests until the process is interrupted or terminated.

    Raises:
        ServiceError: the port is taken.
    """
    import uvicorn

    try:
        with socket.create_server((host, port)) as listener:
            config = uvicorn.Config(
                app, log_config=None, log_level="warning", timeout_graceful_shutdown=30
            )
            uvicorn.Server(config).run(sockets=[listener])
    except OSError as error:
        raise ServiceError(
            f"Port {port} of {host} cannot be used: {error.strerror}.",
            remedy="Choose another --port.",
        ) from error


_ANSWERS: dict[int | str, dict[str, object]] = {
    200: {"content": {"image/png": {}}, "description": "The picture."},
    422: {"description": "A setting cannot be used."},
    429: {"description": "Too many requests wait; try again later."},
}


def _draw(model: LoadedModel, row: "PromptRow") -> tuple[bytes, str]:
    """Return a picture as PNG and the digest of the model that made it."""
    from boothline.pictures.making import png_of

    ((picture, image),) = model.draw([row])
    digest = model.version.digest
    return png_of(image, picture, model=digest), digest
