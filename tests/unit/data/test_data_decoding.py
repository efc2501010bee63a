import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from boothline.data.decoder import Picture, Unreadable, decode_all
from boothline.data.decoding import decode
from boothline.data.limits import Limits
from boothline.errors import DataError

MAX_PIXELS = 1_000_000


def _saved(image: Image.Image, folder: Path, format_name: str, **options: object) -> Path:
    path = folder / f"picture.{format_name.lower()}"
    image.save(path, format=format_name, **options)
    return path


def _png_bomb(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(bytes(99)))
    )


def _chunk(name: bytes, data: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(name + data))
    return struct.pack(">I", len(data)) + name + data + checksum


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_decode_allowed_format_gives_rgb_of_same_size(tmp_path, make_picture, format_name):
    decoded = decode(_saved(make_picture(), tmp_path, format_name), max_pixels=MAX_PIXELS)
    assert (decoded.image.mode, decoded.image.size) == ("RGB", (96, 96))
    assert decoded.format == format_name
    assert decoded.notes == ()


def test_decode_wrong_extension_goes_by_content(tmp_path, make_picture):
    path = tmp_path / "picture.jpg"
    make_picture().save(path, format="PNG")
    assert decode(path, max_pixels=MAX_PIXELS).format == "PNG"


@pytest.mark.parametrize(
    ("mode", "format_name"),
    [("CMYK", "JPEG"), ("L", "PNG"), ("1", "PNG"), ("P", "PNG"), ("LA", "PNG"), ("YCbCr", "TIFF")],
)
def test_decode_other_mode_gives_rgb(tmp_path, make_picture, mode, format_name):
    path = _saved(make_picture().convert(mode), tmp_path, format_name)
    assert decode(path, max_pixels=MAX_PIXELS).image.mode == "RGB"


@pytest.mark.parametrize("format_name", ["PNG", "TIFF"])
def test_decode_16_bit_grey_is_scaled_not_clipped(tmp_path, format_name):
    levels = np.linspace(0, 65535, 64, dtype=np.uint16).repeat(64).reshape(64, 64)
    path = _saved(Image.fromarray(levels), tmp_path, format_name)
    decoded = decode(path, max_pixels=MAX_PIXELS)
    assert np.abs(np.asarray(decoded.image)[:, 0, 0] - levels[:, 0] / 257).max() <= 1
    assert "16 bits" in decoded.notes[0]


def test_decode_floating_point_pixels_is_refused(tmp_path):
    path = _saved(Image.new("F", (64, 64), 0.5), tmp_path, "TIFF")
    with pytest.raises(DataError, match="floating-point"):
        decode(path, max_pixels=MAX_PIXELS)


def test_decode_transparency_is_laid_over_white(tmp_path):
    image = Image.new("RGBA", (64, 64), (255, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, 32, 64))
    decoded = decode(_saved(image, tmp_path, "PNG"), max_pixels=MAX_PIXELS)
    assert decoded.image.getpixel((5, 5)) == (255, 255, 255)
    assert decoded.image.getpixel((60, 5)) == (255, 0, 0)
    assert "white" in decoded.notes[0]


def test_decode_palette_with_transparent_entry_is_laid_over_white(tmp_path):
    image = Image.new("P", (64, 64), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    path = _saved(image, tmp_path, "PNG", transparency=0)
    assert decode(path, max_pixels=MAX_PIXELS).image.getpixel((5, 5)) == (255, 255, 255)


@pytest.mark.parametrize("format_name", ["GIF", "WEBP", "PNG"])
def test_decode_animation_takes_first_frame_and_says_so(tmp_path, format_name):
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if format_name == "WEBP" else {}
    path = _saved(
        frames[0], tmp_path, format_name, save_all=True, append_images=frames[1:], **options
    )
    decoded = decode(path, max_pixels=MAX_PIXELS)
    assert decoded.image.getpixel((5, 5)) == (255, 0, 0)
    assert "several frames" in decoded.notes[0]


def test_decode_exif_rotation_is_applied(tmp_path):
    image = Image.new("RGB", (80, 40), "white")
    image.paste((255, 0, 0), (0, 0, 40, 40))
    exif = Image.Exif()
    exif[0x0112] = 6
    decoded = decode(_saved(image, tmp_path, "PNG", exif=exif), max_pixels=MAX_PIXELS)
    assert decoded.image.size == (40, 80)
    assert decoded.image.getpixel((20, 5)) == (255, 0, 0)
    assert decoded.image.getpixel((20, 75)) == (255, 255, 255)


def test_decode_damaged_exif_keeps_the_picture(tmp_path, make_picture):
    path = _saved(make_picture(), tmp_path, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff\xff")
    assert decode(path, max_pixels=MAX_PIXELS).image.size == (96, 96)


@pytest.mark.parametrize("tenths", range(1, 10))
@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP"])
def test_decode_truncated_file_is_refused(tmp_path, make_picture, format_name, tenths):
    path = _saved(make_picture(), tmp_path, format_name)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * tenths // 10])
    with pytest.raises(DataError) as caught:
        decode(path, max_pixels=MAX_PIXELS)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"just some text\n", "a text"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"%PDF-1.7\n\0\0", "PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "media container"),
        (b"PK\x03\x04\0\0\0\0", "zip"),
        (os.urandom(4) + b"\xfe\x00\x01" * 40, "not a picture"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 64, "cannot be decoded|not a picture"),
        (_png_bomb(200_000, 200_000), "million pixels"),
        (_png_bomb(1001, 1000), "million pixels"),
    ],
)
def test_decode_other_content_is_refused_with_reason(tmp_path, content, reason):
    path = tmp_path / "picture.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=reason):
        decode(path, max_pixels=MAX_PIXELS)


def test_decode_jpeg_with_html_behind_it_gives_pixels_only(tmp_path, make_picture):
    path = _saved(make_picture(), tmp_path, "JPEG", comment=b"<script>alert(1)</script>")
    path.write_bytes(path.read_bytes() + b"<html><script>alert(1)</script></html>")
    decoded = decode(path, max_pixels=MAX_PIXELS)
    buffer = io.BytesIO()
    decoded.image.save(buffer, format="PNG")
    assert b"script" not in buffer.getvalue()


def _decode_all(paths: list[Path], folder: Path, **limits: float) -> list[Picture | Unreadable]:
    caps = Limits(**limits)
    return decode_all(paths, sizes_px=[(32, 32)], folder=folder / "decoded", limits=caps)


def test_decode_all_mixed_files_keeps_order_and_reasons(tmp_path, make_picture):
    good, bad = tmp_path / "good", tmp_path / "bad"
    make_picture(width=120, height=60).save(good, format="PNG")
    bad.write_bytes(b"")
    results = _decode_all([bad, good], tmp_path)
    assert isinstance(results[0], Unreadable)
    picture = results[1]
    assert isinstance(picture, Picture)
    assert (picture.width_px, picture.height_px, picture.cut().size) == (120, 60, (32, 32))


def test_decode_all_same_pixels_in_two_formats_share_a_digest(tmp_path, make_picture):
    paths = [tmp_path / "a.png", tmp_path / "b.bmp", tmp_path / "c.png"]
    for path, seed in zip(paths, (1, 1, 2), strict=True):
        make_picture(seed).save(path)
    first, second, third = (result.pixel_digest for result in _decode_all(paths, tmp_path))
    assert first == second != third


def test_decode_all_crop_takes_the_centre(tmp_path):
    image = Image.new("RGB", (300, 100), "red")
    image.paste((0, 255, 0), (100, 0, 200, 100))
    path = tmp_path / "wide.png"
    image.save(path)
    (picture,) = _decode_all([path], tmp_path)
    assert np.asarray(picture.cut())[:, :, 1].min() > 230


def _large_picture(folder: Path) -> Path:
    """A picture of 25 million pixels: 75 MB once decoded."""
    path = folder / "large.png"
    Image.new("RGB", (5000, 5000)).save(path, compress_level=1)
    return path


def _slow_picture(folder: Path) -> Path:
    """A picture of as many scans as are read: takes a thousand times as long as a small one."""
    noise = np.random.default_rng(0).integers(0, 256, (4000, 4000), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, format="JPEG", quality=50, progressive=True)
    data = buffer.getvalue()
    scan = data[data.rindex(b"\xff\xda") : -2]
    path = folder / "slow.jpg"
    path.write_bytes(data[:-2] + scan * (50 - data.count(b"\xff\xda")) + data[-2:])
    return path


@pytest.mark.parametrize(
    ("make_large", "limits", "reason"),
    [
        (_large_picture, {"decode_memory_bytes": 120 * 2**20}, "too much memory"),
        # A tenth of what the slow picture takes, hundreds of times what the small one takes.
        (_slow_picture, {"decode_seconds": 0.5}, "more than 0.5 seconds"),
        (_large_picture, {"max_pixels": 24_000_000}, "more than 24 million pixels"),
    ],
    ids=["memory", "time", "pixels"],
)
def test_decode_all_picture_beyond_a_limit_costs_only_itself(
    tmp_path, make_picture, make_large, limits, reason
):
    small = tmp_path / "small.png"
    make_picture().save(small)
    results = _decode_all([make_large(tmp_path), small], tmp_path, **limits)
    assert isinstance(results[0], Unreadable)
    assert reason in results[0].reason
    assert isinstance(results[1], Picture)
