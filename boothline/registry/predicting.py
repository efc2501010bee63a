"""What MLflow calls: loads the version that an MLmodel names, and answers its tables of prompts."""

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pydantic import BaseModel, ConfigDict, Field

from boothline import services
from boothline import settings as environment
from boothline.errors import ServiceError
from boothline.registry.loaded import LoadedModel
from boothline.registry.versions import ModelVersion
from boothline.settings import Settings
from boothline.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger(__name__)


class Pinned(BaseModel):
    """What an MLmodel names: a version by its digest, and the store that has it.

    The endpoint and the credentials are not part of it: they are those of whoever loads it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: ModelVersion
    store: str = Field(pattern=r"^s3://", description="`s3://bucket/prefix`.")

    def settings(self) -> Settings:
        """Return the settings of this process, with the store of the model.

        Raises:
            ServiceError: no endpoint is set, and no local store answers.
        """
        bucket, _, prefix = self.store.removeprefix("s3://").partition("/")
        settings = services.with_local(environment.current())
        if not settings.s3_endpoint:
            raise ServiceError(
                f"{self.version.name} is in {self.store}, and BOOTHLINE_S3_ENDPOINT is not set.",
                remedy="Set it and the credentials (docs/services.md). A store of this machine is "
                "found by BOOTHLINE_HOME, once `boothline up` has started it.",
            )
        return settings.model_copy(update={"bucket": bucket, "prefix": prefix})


class Table(Protocol):
    """A table as pandas has it."""

    def to_dict(self, orient: str) -> "list[Mapping[str, object]]":
        """Return the lines."""


class Predictor:
    """Makes the pictures of a table, for MLflow; one table at a time.

    Args:
        model: makes them.
    """

    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self._lock = threading.Lock()

    def predict(self, table: Table) -> list[bytes]:
        """Return a PNG for each line, the one that `boothline generate` makes at that seed.

        Args:
            table: a line for each picture, see `boothline.pictures.table`.

        Raises:
            DataError: a line cannot be used.
        """
        from boothline.pictures.making import png_of
        from boothline.pictures.table import row_of

        rows = [row_of(line) for line in table.to_dict("records")]
        with self._lock:
            drawn = self._model.draw(rows)
        return [
            png_of(image, picture, model=self._model.version.digest) for picture, image in drawn
        ]


def _load_pyfunc(path: str) -> Predictor:
    """Return the model that a file names; MLflow calls this by its name.

    Raises:
        ServiceError: the store is unreachable.
        IntegrityError: a file differs from its digest, or the signature is invalid.
    """
    pinned = Pinned.model_validate_json(Path(path).read_bytes())
    settings = pinned.settings()
    logger.info("loading %s from %s", pinned.version.ref, pinned.store)
    return Predictor(
        LoadedModel.load(Store.connect(settings, brisk=True), settings, pinned.version)
    )
