"""Decodes large HEIC pictures in threads of the codec, which pillow-heif does not ask for.

Phones write tiles, of which libheif decodes several at once by itself. Other programs write one
picture, whose rows only the codec can share out. This calls the libheif that pillow-heif brings. A
picture that is to be reduced is so before it becomes RGB, which libheif does in one thread.
"""

import ctypes
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

from PIL import Image

from boothline.data.deferred import DeferredImage

_LARGE_PIXELS: Final = 16_000_000
"""Smaller ones are decoded fast enough by one thread."""
_WITH_CODEC_THREADS: Final = 8
"""Version of the options since which they hold the number of threads."""
_RGB, _INTERLEAVED_RGB, _INTERLEAVED = 1, 10, 10
_YCBCR, _CHROMA_420, _PLANES = 0, 1, (0, 1, 2)
_MEMORY_ERROR: Final = 6
_ROWS_AT_ONCE: Final = 64
"""A multiple of every part that a picture is reduced to."""


class _Error(ctypes.Structure):
    """heif_error."""

    _fields_ = (
        ("code", ctypes.c_int),
        ("subcode", ctypes.c_int),
        ("message", ctypes.c_char_p),
    )


class _Colours(ctypes.Structure):
    """heif_color_conversion_options."""

    _fields_ = (
        ("version", ctypes.c_uint8),
        ("downsampling", ctypes.c_int),
        ("upsampling", ctypes.c_int),
        ("only_these", ctypes.c_uint8),
    )


class _Options(ctypes.Structure):
    """heif_decoding_options."""

    _fields_ = (
        ("version", ctypes.c_uint8),
        ("ignore_transformations", ctypes.c_uint8),
        ("callbacks", ctypes.c_void_p * 4),
        ("convert_hdr_to_8bit", ctypes.c_uint8),
        ("strict_decoding", ctypes.c_uint8),
        ("decoder_id", ctypes.c_char_p),
        ("colours", _Colours),
        ("cancel", ctypes.c_void_p),
        ("more_colours", ctypes.c_void_p),
        ("ignore_edit_list", ctypes.c_int),
        ("output_profile", ctypes.c_void_p),
        ("num_library_threads", ctypes.c_int),
        ("num_codec_threads", ctypes.c_int),
    )


class LargeHeic(DeferredImage):
    """An opaque HEIC picture that is decoded in threads of the codec.

    Args:
        path: the file.
        image: the same as pillow-heif has opened it.
        num_threads: threads of the codec.
    """

    format = "HEIF"

    def __init__(self, path: Path, image: Image.Image, *, num_threads: int) -> None:
        super().__init__(image.size, image.mode, image.info)
        self._path = path
        self._num_threads = num_threads
        self._scale = 1

    def draft(self, mode: str | None, size: tuple[int, int] | None) -> None:
        """Have the picture reduced while it is copied, to this size or the next above."""
        if size and self._im is None:
            self._scale = max(1, self.width // max(size[0], 1))

    def decoded(self) -> Image.Image:
        """Decode the pixels; their size is known only then, as pillow-heif has it too."""
        library = _library()
        if library is None:
            raise OSError("libheif is not to be found")
        with _handle(library, self._path) as handle, _options(library) as options:
            options.contents.convert_hdr_to_8bit = 1
            options.contents.num_codec_threads = self._num_threads
            if self._scale > 1 and _has_planes(library, handle):
                with _picture(library, handle, options, _YCBCR, _CHROMA_420) as picture:
                    image = _converted(library, picture, scale=self._scale)
            else:
                with _picture(library, handle, options, _RGB, _INTERLEAVED_RGB) as picture:
                    image = _copied(library, picture, scale=self._scale)
        self._size = image.size
        return image


def threaded(path: Path, image: Image.Image, *, num_threads: int) -> LargeHeic | None:
    """Return a picture that pillow-heif has opened as one to be decoded in threads.

    Returns:
        None where pillow-heif is to decode it: one that is small, transparent or has several
        frames, or with a libheif that does not know how.
    """
    is_large = image.width * image.height > _LARGE_PIXELS
    if not is_large or image.mode != "RGB" or getattr(image, "is_animated", False):
        return None
    library = _library()
    if library is None:
        return None
    with _options(library) as options:
        if options.contents.version < _WITH_CODEC_THREADS:
            return None
    threaded = LargeHeic(path, image, num_threads=num_threads)
    image.close()
    return threaded


@cache
def _library() -> ctypes.CDLL | None:
    """Return the libheif that pillow-heif is bound to; None: it cannot be reached."""
    try:
        import _pillow_heif

        library = ctypes.CDLL(_pillow_heif.__file__)
        pointer, number, path = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
        options = ctypes.POINTER(_Options)
        calls: dict[str, tuple[type | None, tuple[type, ...]]] = {
            "heif_context_alloc": (pointer, ()),
            "heif_context_free": (None, (pointer,)),
            "heif_context_read_from_file": (_Error, (pointer, path, pointer)),
            "heif_context_get_primary_image_handle": (_Error, (pointer, pointer)),
            "heif_image_handle_release": (None, (pointer,)),
            "heif_decoding_options_alloc": (options, ()),
            "heif_decoding_options_free": (None, (options,)),
            "heif_decode_image": (_Error, (pointer, pointer, number, number, options)),
            "heif_image_handle_get_luma_bits_per_pixel": (number, (pointer,)),
            "heif_image_handle_get_chroma_bits_per_pixel": (number, (pointer,)),
            "heif_image_handle_get_preferred_decoding_colorspace": (
                _Error,
                (pointer, pointer, pointer),
            ),
            "heif_image_release": (None, (pointer,)),
            "heif_image_get_width": (number, (pointer, number)),
            "heif_image_get_height": (number, (pointer, number)),
            "heif_image_get_plane_readonly": (pointer, (pointer, number, pointer)),
        }
        for name, (result, arguments) in calls.items():
            call = getattr(library, name)
            call.restype, call.argtypes = result, arguments
    except (ImportError, OSError, AttributeError):
        return None
    return library


@contextmanager
def _handle(library: ctypes.CDLL, path: Path) -> Iterator[ctypes.c_void_p]:
    """Open the main picture of a file for the time of its decoding."""
    context, handle = ctypes.c_void_p(library.heif_context_alloc()), ctypes.c_void_p()
    try:
        _check(library.heif_context_read_from_file(context, bytes(path), None))
        _check(library.heif_context_get_primary_image_handle(context, ctypes.byref(handle)))
        yield handle
    finally:
        library.heif_image_handle_release(handle)
        library.heif_context_free(context)


@contextmanager
def _options(library: ctypes.CDLL) -> "Iterator[ctypes._Pointer[_Options]]":
    options = library.heif_decoding_options_alloc()
    try:
        yield options
    finally:
        library.heif_decoding_options_free(options)


@contextmanager
def _picture(
    library: ctypes.CDLL,
    handle: ctypes.c_void_p,
    options: "ctypes._Pointer[_Options]",
    space: int,
    chroma: int,
) -> Iterator[ctypes.c_void_p]:
    """Decode a picture into pixels of one of libheif's kinds, for as long as it is read."""
    picture = ctypes.c_void_p()
    answer = library.heif_decode_image(handle, ctypes.byref(picture), space, chroma, options)
    _check(answer)
    try:
        yield picture
    finally:
        library.heif_image_release(picture)


def _has_planes(library: ctypes.CDLL, handle: ctypes.c_void_p) -> bool:
    """Return whether a picture is stored as luma and half-size chroma of 8 bits, as most are."""
    space, chroma = ctypes.c_int(), ctypes.c_int()
    ask = library.heif_image_handle_get_preferred_decoding_colorspace
    _check(ask(handle, ctypes.byref(space), ctypes.byref(chroma)))
    bits = {
        library.heif_image_handle_get_luma_bits_per_pixel(handle),
        library.heif_image_handle_get_chroma_bits_per_pixel(handle),
    }
    return (space.value, chroma.value, bits) == (_YCBCR, _CHROMA_420, {8})


def _converted(library: ctypes.CDLL, picture: ctypes.c_void_p, *, scale: int) -> Image.Image:
    """Return libheif's planes as RGB at a part of their size; only so many pixels are converted.

    Whatever matrix and range the file names, the planes that libheif gives are those of full-range
    BT.601, which Pillow's YCbCr means.
    """
    parts = (scale, scale // 2, scale // 2)
    planes = [
        _plane(library, picture, number).reduce(part)
        for number, part in zip(_PLANES, parts, strict=True)
    ]
    return Image.merge("YCbCr", planes).convert("RGB")


def _plane(library: ctypes.CDLL, picture: ctypes.c_void_p, number: int) -> Image.Image:
    """Return one of libheif's planes, in its own memory."""
    width = library.heif_image_get_width(picture, number)
    height = library.heif_image_get_height(picture, number)
    found = ctypes.c_int()
    address = library.heif_image_get_plane_readonly(picture, number, ctypes.byref(found))
    if not address or min(width, height) < 1 or found.value < width:
        raise OSError("broken data stream")
    pixels = (ctypes.c_char * (found.value * height)).from_address(address)
    return Image.frombuffer("L", (width, height), pixels, "raw", "L", found.value, 1)


def _copied(library: ctypes.CDLL, picture: ctypes.c_void_p, *, scale: int) -> Image.Image:
    """Return libheif's picture as Pillow's, at a part of its width and height."""
    width, height = (
        ask(picture, _INTERLEAVED)
        for ask in (library.heif_image_get_width, library.heif_image_get_height)
    )
    found = ctypes.c_int()
    plane = library.heif_image_get_plane_readonly(picture, _INTERLEAVED, ctypes.byref(found))
    stride = found.value
    if not plane or min(width, height) < 1 or stride < 3 * width:
        raise OSError("broken data stream")
    image = Image.new("RGB", (math.ceil(width / scale), math.ceil(height / scale)))
    for top in range(0, height, _ROWS_AT_ONCE):
        num_rows = min(_ROWS_AT_ONCE, height - top)
        rows = ctypes.string_at(plane + top * stride, num_rows * stride)
        strip = Image.frombytes("RGB", (width, num_rows), rows, "raw", "RGB", stride, 1)
        image.paste(strip if scale == 1 else strip.reduce(scale), (0, top // scale))
    return image


def _check(error: _Error) -> None:
    """Raise what libheif's answer means."""
    if error.code == _MEMORY_ERROR:
        raise MemoryError
    if error.code:
        raise OSError(bytes(error.message or b"broken data stream").decode("utf-8", "replace"))
