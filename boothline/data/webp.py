"""Reads large WebP pictures by the libwebp that Pillow brings, without its animation decoder.

That one holds two canvases of four bytes a pixel, next to Pillow's own two copies: a picture of 50
million pixels would take 800 MB. Here it takes one buffer and the picture, in two threads.
"""

import ctypes
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

from PIL import Image

from boothline.data.deferred import DeferredImage

_LARGE_PIXELS: Final = 16_000_000
"""Smaller ones fit as Pillow reads them."""
_ABI_VERSION: Final = 0x0200
"""Of libwebp's decoder; the library refuses another major part."""
_MODE_RGB, _MODE_RGBA = 0, 1
_OUT_OF_MEMORY, _TRUNCATED = 1, 7
_MAX_CHUNKS: Final = 1000
_METADATA: Final = {b"ICCP": "icc_profile", b"EXIF": "exif"}


class _Features(ctypes.Structure):
    """WebPBitstreamFeatures: what the first bytes say."""

    _fields_ = (
        ("width", ctypes.c_int),
        ("height", ctypes.c_int),
        ("has_alpha", ctypes.c_int),
        ("has_animation", ctypes.c_int),
        ("format", ctypes.c_int),
        ("padding", ctypes.c_uint32 * 5),
    )


class _Pixels(ctypes.Structure):
    """WebPRGBABuffer."""

    _fields_ = (
        ("pixels", ctypes.c_void_p),
        ("stride", ctypes.c_int),
        ("size", ctypes.c_size_t),
    )


class _Planes(ctypes.Structure):
    """WebPYUVABuffer."""

    _fields_ = (
        ("planes", ctypes.c_void_p * 4),
        ("strides", ctypes.c_int * 4),
        ("sizes", ctypes.c_size_t * 4),
    )


class _Either(ctypes.Union):
    _fields_ = (("rgba", _Pixels), ("yuva", _Planes))


class _Output(ctypes.Structure):
    """WebPDecBuffer."""

    _fields_ = (
        ("mode", ctypes.c_int),
        ("width", ctypes.c_int),
        ("height", ctypes.c_int),
        ("is_external_memory", ctypes.c_int),
        ("buffer", _Either),
        ("padding", ctypes.c_uint32 * 4),
        ("private_memory", ctypes.c_void_p),
    )


class _Options(ctypes.Structure):
    """WebPDecoderOptions."""

    _fields_ = (
        ("bypass_filtering", ctypes.c_int),
        ("no_fancy_upsampling", ctypes.c_int),
        ("use_cropping", ctypes.c_int),
        ("crop", ctypes.c_int * 4),
        ("use_scaling", ctypes.c_int),
        ("scaled_width", ctypes.c_int),
        ("scaled_height", ctypes.c_int),
        ("use_threads", ctypes.c_int),
        ("dithering_strength", ctypes.c_int),
        ("flip", ctypes.c_int),
        ("alpha_dithering_strength", ctypes.c_int),
        ("padding", ctypes.c_uint32 * 5),
    )


class _Config(ctypes.Structure):
    """WebPDecoderConfig."""

    _fields_ = (("input", _Features), ("output", _Output), ("options", _Options))


class LargeWebp(DeferredImage):
    """A WebP picture of one frame.

    Args:
        path: the file.
        features: what its first bytes say.
    """

    format = "WEBP"

    def __init__(self, path: Path, features: _Features) -> None:
        mode = "RGBA" if features.has_alpha else "RGB"
        super().__init__((features.width, features.height), mode, _metadata(path))
        self._path = path
        self._is_whole = True

    def draft(self, mode: str | None, size: tuple[int, int] | None) -> None:
        """Have an opaque picture decoded at this size, not above its own."""
        if size and self._im is None and self._mode == "RGB":
            self._size = size
            self._is_whole = False

    def decoded(self) -> Image.Image:
        """Decode the pixels at the size that was asked for."""
        library = _library()
        if library is None:
            raise OSError("libwebp is not to be found")
        channels = len(self._mode)
        stride = self.width * channels
        pixels = bytearray(stride * self.height)
        address = ctypes.addressof(ctypes.c_char.from_buffer(pixels))
        config = _Config()
        if not library.WebPInitDecoderConfigInternal(ctypes.byref(config), _ABI_VERSION):
            raise OSError("libwebp has another interface")
        config.output.mode = _MODE_RGBA if channels == 4 else _MODE_RGB
        config.output.is_external_memory = 1
        config.output.buffer.rgba = _Pixels(address, stride, len(pixels))
        config.options.use_threads = 1
        if not self._is_whole:
            config.options.use_scaling = 1
            config.options.scaled_width, config.options.scaled_height = self.size
        data = self._path.read_bytes()
        _check(library.WebPDecode(data, len(data), ctypes.byref(config)))
        del data
        return Image.frombuffer(self._mode, self.size, pixels, "raw", self._mode, 0, 1)


def open_large(path: Path, head: bytes) -> LargeWebp | None:
    """Open a large WebP picture of one frame; None: it is another file, which Pillow can read.

    Args:
        path: the file.
        head: its first 512 bytes.
    """
    if head[:4] != b"RIFF" or head[8:12] != b"WEBP":
        return None
    library, features = _library(), _Features()
    if library is None:
        return None
    library.WebPGetFeaturesInternal(head, len(head), ctypes.byref(features), _ABI_VERSION)
    if features.has_animation or features.width * features.height <= _LARGE_PIXELS:
        return None
    return LargeWebp(path, features)


@cache
def _library() -> ctypes.CDLL | None:
    """Return the libwebp that Pillow's own module is bound to; None: it cannot be reached."""
    try:
        from PIL import _webp

        library = ctypes.CDLL(_webp.__file__)
        size, data, pointer = ctypes.c_size_t, ctypes.c_char_p, ctypes.c_void_p
        library.WebPGetFeaturesInternal.argtypes = (data, size, pointer, ctypes.c_int)
        library.WebPInitDecoderConfigInternal.argtypes = (pointer, ctypes.c_int)
        library.WebPDecode.argtypes = (data, size, pointer)
    except (ImportError, OSError, AttributeError):
        return None
    return library


def _check(status: int) -> None:
    """Raise what libwebp's status means."""
    if status == _OUT_OF_MEMORY:
        raise MemoryError
    if status:
        raise OSError("image file is truncated" if status == _TRUNCATED else "broken data stream")


def _metadata(path: Path) -> dict[Any, Any]:
    """Return the colour profile and the EXIF data under Pillow's names."""
    with path.open("rb") as stream:
        return {_METADATA[name]: data for name, data in _chunks(stream.read()) if data}


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the chunks of metadata with their content, each name once."""
    position, seen = 12, set[bytes]()
    for _ in range(_MAX_CHUNKS):
        name = data[position : position + 4]
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        if len(name) < 4:
            return
        if name in _METADATA and name not in seen:
            seen.add(name)
            yield name, data[position + 8 : position + 8 + length]
        position += 8 + length + length % 2
