"""Reads large WebP pictures by the libwebp that Pillow brings, without its animation decoder.

That one holds two canvases of four bytes a pixel, next to Pillow's own two copies: a picture of 50
million pixels would take 800 MB. Here it takes one buffer and the picture, in two threads.
"""

import ctypes
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import BinaryIO, Final

from PIL import Image, _imaging

from boothline.data.deferred import DeferredImage

_LARGE_PIXELS: Final = 16_000_000
"""Smaller ones fit as Pillow reads them."""
_ABI_VERSION: Final = 0x0200
"""Of libwebp's decoder; the library refuses another major part."""
_MODE_RGB, _MODE_RGBA, _MODE_PREMULTIPLIED = 0, 1, 7
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
        self._scale = 1

    def draft(self, mode: str | None, size: tuple[int, int] | None) -> None:
        """Have the picture decoded at this size, a transparent one at this or the next above."""
        if not size or self._im is not None:
            return
        self._scale = max(1, self.width // max(size[0], 1))
        if self._mode == "RGB":
            self._size = size

    def decoded(self) -> Image.Image:
        """Decode the pixels at the size that was asked for; a reduced transparent one as `RGBa`."""
        if self._mode == "RGB":
            return Image.frombuffer("RGB", self.size, self._pixels(_MODE_RGB), "raw", "RGB", 0, 1)
        if self._scale == 1:
            pixels = self._pixels(_MODE_RGBA)
            return Image.frombuffer("RGBA", self.size, pixels, "raw", "RGBA", 0, 1)
        # Colours count as much as they are seen: libwebp multiplies them by their opacity. Pillow
        # takes a buffer of this mode without a copy, but has no public function for it.
        pixels = self._pixels(_MODE_PREMULTIPLIED)
        core = _imaging.map_buffer(pixels, self.size, "raw", 0, ("RGBa", 0, 1))
        whole = Image.new("RGBa", (0, 0))._new(core)
        reduced = whole.reduce(self._scale)
        self._size, self._mode = reduced.size, reduced.mode
        return reduced

    def _pixels(self, mode: int) -> bytearray:
        """Return the pixels in one of libwebp's modes, row by row."""
        library = _library()
        if library is None:
            raise OSError("libwebp is not to be found")
        stride = self.width * len(self._mode)
        pixels = bytearray(stride * self.height)
        address = ctypes.addressof(ctypes.c_char.from_buffer(pixels))
        config = _Config()
        if not library.WebPInitDecoderConfigInternal(ctypes.byref(config), _ABI_VERSION):
            raise OSError("libwebp has another interface")
        config.output.mode = mode
        config.output.is_external_memory = 1
        config.output.buffer.rgba = _Pixels(address, stride, len(pixels))
        config.options.use_threads = 1
        if self._scale > 1 and mode == _MODE_RGB:
            config.options.use_scaling = 1
            config.options.scaled_width, config.options.scaled_height = self.size
        data = self._path.read_bytes()
        _check(library.WebPDecode(data, len(data), ctypes.byref(config)))
        return pixels


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


def _metadata(path: Path) -> dict[str | tuple[int, int], object]:
    """Return the colour profile and the EXIF data under Pillow's names."""
    with path.open("rb") as stream:
        return {_METADATA[name]: data for name, data in _chunks(stream) if data}


def _chunks(stream: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Yield the chunks of metadata with their content, each name once."""
    position, seen = 12, set[bytes]()
    for _ in range(_MAX_CHUNKS):
        stream.seek(position)
        header = stream.read(8)
        if len(header) < 4:
            return
        name, length = header[:4], int.from_bytes(header[4:], "little")
        if name in _METADATA and name not in seen:
            seen.add(name)
            yield name, stream.read(length)
        position += 8 + length + length % 2
