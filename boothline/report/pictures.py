"""Embeds stored pictures as data URIs: read in parallel, kept small, capped in number."""

import base64
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from PIL import Image

from boothline.errors import DataError
from boothline.report.model import Gallery, Picture
from boothline.report.sources import RunSources
from boothline.store import ManifestRef

MAX_PICTURES = 200
MAX_SIDE_PX = 512
MAX_KEPT_BYTES = 60_000
JPEG_QUALITY = 86
NUM_READERS = 8
_MEDIA_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg"}


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A picture to embed: where it is stored and what to say about it."""

    ref: ManifestRef
    path: str
    alt: str
    caption: str = ""
    twin: str = ""


def spread(items: Sequence[Wanted], limit: int) -> list[Wanted]:
    """Return at most `limit` items, spread evenly from the first to the last."""
    if len(items) <= limit:
        return list(items)
    if limit <= 1:
        return list(items[:limit])
    return [items[round(index * (len(items) - 1) / (limit - 1))] for index in range(limit)]


def encode(data: bytes, *, max_side_px: int = MAX_SIDE_PX) -> tuple[str, int, int]:
    """Return the data URI, width and height of a picture; a large one is scaled down first.

    Raises:
        DataError: the bytes are not a picture.
    """
    try:
        with Image.open(io.BytesIO(data)) as picture:
            kept = _MEDIA_TYPES.get(picture.format or "")
            small = max(picture.size) <= max_side_px and len(data) <= MAX_KEPT_BYTES
            if kept and small:
                picture.verify()
                return _uri(kept, data), picture.width, picture.height
            shrunk = picture.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"it is not a picture ({error})") from error
    shrunk.thumbnail((max_side_px, max_side_px), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    shrunk.save(buffer, format="JPEG", quality=JPEG_QUALITY, optimize=True)
    return _uri("image/jpeg", buffer.getvalue()), shrunk.width, shrunk.height


def _uri(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


class PictureLoader:
    """Embeds pictures of one run until its budget is spent.

    Args:
        run: where the pictures are read and notices go.
        budget: most pictures on the whole page.
    """

    def __init__(self, run: RunSources, *, budget: int = MAX_PICTURES) -> None:
        self._run = run
        self.left = budget

    def gallery(
        self, wanted: Sequence[Wanted], *, limit: int, max_side_px: int = MAX_SIDE_PX
    ) -> Gallery:
        """Return at most `limit` of the wanted pictures; a broken one becomes a notice."""
        chosen = spread(wanted, min(limit, self.left))
        with ThreadPoolExecutor(max_workers=NUM_READERS, thread_name_prefix="report") as pool:
            loaded = list(pool.map(lambda item: self._load(item, max_side_px), chosen))
        pictures = tuple(picture for picture in loaded if picture)
        self.left -= len(pictures)
        return Gallery(pictures=pictures, total=len(wanted))

    def _load(self, item: Wanted, max_side_px: int) -> Picture | None:
        encoded = self._run.attempt(
            f"Picture {item.path}",
            lambda: encode(self._run.file(item.ref, item.path), max_side_px=max_side_px),
        )
        if encoded is None:
            return None
        source, width_px, height_px = encoded
        return Picture(
            source=source,
            alt=item.alt,
            caption=item.caption or item.alt,
            width_px=width_px,
            height_px=height_px,
            twin=item.twin,
        )
