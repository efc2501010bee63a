"""Large WebP pictures are decoded within the worker's memory, to the pixels that Pillow finds."""

from pathlib import Path

import pytest
from colour_profiles import rgb_profile
from PIL import Image

from boothline.data import decoding, webp
from boothline.data.decoder import Picture, decode_all
from boothline.data.decoding import decode
from boothline.data.limits import Limits
from boothline.errors import DataError

NUM_PIXELS = 96 * 96


@pytest.fixture(autouse=True)
def all_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webp, "_LARGE_PIXELS", NUM_PIXELS - 1)


def saved(image: Image.Image, folder: Path, **options: object) -> Path:
    path = folder / "picture"
    image.save(path, format="WEBP", **options)
    return path


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


def opened(path: Path) -> webp.LargeWebp | None:
    return webp.open_large(path, path.read_bytes()[:512])


@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_open_large_webp_gives_the_pixels_that_pillow_finds(tmp_path, make_picture, mode, lossless):
    picture = make_picture()
    if mode == "RGBA":
        picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    path = saved(picture, tmp_path, lossless=lossless)
    image = opened(path)
    assert image is not None
    assert image.tobytes() == Image.open(path).tobytes()
    assert (image.mode, image.format) == (mode, "WEBP")


def test_decode_large_webp_applies_its_profile_and_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.new("RGB", (128, 96), (200, 60, 60))
    path = saved(picture, tmp_path, lossless=True, icc_profile=rgb_profile("Display P3"), exif=exif)
    assert isinstance(opened(path), webp.LargeWebp)
    found = decode(path, max_pixels=10**6)
    whole = Image.open(path)
    assert found.image.size == (96, 128)
    assert found.image.getpixel((5, 5)) != whole.getpixel((5, 5))
    assert found.remarks == ("has the colours of Display P3; they are converted to sRGB",)


@pytest.mark.parametrize("part", [0.3, 0.98])
@pytest.mark.parametrize("lossless", [False, True])
def test_decode_large_webp_cut_short_is_refused(tmp_path, make_picture, part, lossless):
    path = saved(make_picture(), tmp_path, lossless=lossless)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    assert isinstance(opened(path), webp.LargeWebp)
    with pytest.raises(DataError, match="truncated or damaged: image file is truncated"):
        decode(path, max_pixels=10**6)


def test_decode_large_webp_with_a_broken_stream_is_refused(tmp_path, make_picture):
    path = saved(make_picture(), tmp_path, lossless=True)
    data = path.read_bytes()
    path.write_bytes(data[:30] + b"\xff" * 200 + data[230:])
    assert isinstance(opened(path), webp.LargeWebp)
    with pytest.raises(DataError, match="truncated or damaged: broken data stream"):
        decode(path, max_pixels=10**6)


def test_open_large_webp_leaves_animations_to_pillow(tmp_path, make_picture):
    frames = [make_picture(), Image.new("RGB", (96, 96), "red")]
    path = saved(frames[0], tmp_path, save_all=True, append_images=frames[1:])
    assert opened(path) is None
    assert "several frames" in decode(path, max_pixels=10**6).notes[0]


def test_open_large_webp_leaves_smaller_ones_to_pillow(tmp_path, make_picture, monkeypatch):
    path = saved(make_picture(), tmp_path)
    monkeypatch.setattr(webp, "_LARGE_PIXELS", NUM_PIXELS)
    assert opened(path) is None


def test_open_large_webp_without_the_library_leaves_it_to_pillow(
    tmp_path, make_picture, monkeypatch
):
    path = saved(make_picture(), tmp_path)
    whole = decode(path, max_pixels=10**6)
    monkeypatch.setattr(webp, "_library", lambda: None)
    assert opened(path) is None
    assert decode(path, max_pixels=10**6).pixel_digest() == whole.pixel_digest()


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_decode_large_webp_is_reduced_and_says_so(tmp_path, make_picture, monkeypatch, mode):
    monkeypatch.setattr(decoding, "_WHOLE_PIXELS", NUM_PIXELS - 1)
    monkeypatch.setattr(decoding, "_TRANSPARENT_PIXELS", NUM_PIXELS - 1)
    picture = make_picture().convert(mode)
    found = decode(saved(picture, tmp_path, lossless=True), max_pixels=10**6)
    assert (found.size, found.image.size) == ((96, 96), (48, 48))
    halved = picture.convert("RGB").reduce(2).tobytes()
    pairs = zip(found.image.tobytes(), halved, strict=True)
    assert max(abs(one - other) for one, other in pairs) <= 2


@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("scale", [2, 4])
def test_decode_large_transparent_webp_is_reduced_with_colours_as_they_are_seen(
    tmp_path, make_picture, monkeypatch, scale, lossless
):
    monkeypatch.setattr(decoding, "_WHOLE_PIXELS", 97 * 131 / scale**2)
    monkeypatch.setattr(decoding, "_TRANSPARENT_PIXELS", NUM_PIXELS - 1)
    picture = make_picture().resize((97, 131))
    alpha = Image.linear_gradient("L").resize(picture.size)
    alpha.paste(0, (0, 0, 50, 60))
    picture.paste("black", (0, 0, 50, 60))  # not seen
    picture.putalpha(alpha)
    path = saved(picture, tmp_path, lossless=lossless, exact=True, exif=turned())
    found = decode(path, max_pixels=10**6)
    whole = Image.open(path).reduce(scale).transpose(Image.Transpose.ROTATE_270)
    seen = Image.new("RGB", whole.size, "white")
    seen.paste(whole, mask=whole.getchannel("A"))
    assert (found.size, found.image.size) == ((131, 97), whole.size)
    pairs = zip(found.image.tobytes(), seen.tobytes(), strict=True)
    assert max(abs(one - other) for one, other in pairs) <= 2
    assert found.notes == ("is transparent in places; it is laid over white",)


def test_decode_large_transparent_webp_that_fits_stays_whole(tmp_path, make_picture, monkeypatch):
    monkeypatch.setattr(decoding, "_WHOLE_PIXELS", NUM_PIXELS - 1)
    monkeypatch.setattr(decoding, "_TRANSPARENT_PIXELS", NUM_PIXELS)
    picture = make_picture()
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    found = decode(saved(picture, tmp_path, lossless=True), max_pixels=10**6)
    assert (found.image.size, found.remarks) == ((96, 96), ())


def test_open_large_webp_skips_what_no_picture_needs(tmp_path, make_picture):
    path = saved(make_picture(), tmp_path, exif=turned(), icc_profile=b"profile")
    data = path.read_bytes()
    where = data.index(b"EXIF")
    more = b"MORE" + (3).to_bytes(4, "little") + b"abc\0"  # of odd length
    path.write_bytes(data[:where] + more + data[where:])
    assert opened(path).info == {"exif": turned()[6:], "icc_profile": b"profile"}
    path.write_bytes(data[:where] + b"EXIF")
    assert opened(path).info == {"icc_profile": b"profile"}


@pytest.mark.parametrize("lossless", [False, True])
def test_decode_all_takes_a_webp_of_50_million_pixels_within_its_memory(tmp_path, lossless):
    picture = Image.new("RGB", (8000, 6250), (200, 60, 60))
    path = saved(picture, tmp_path, lossless=lossless, method=0, quality=90)
    folder = tmp_path / "decoded"
    (found,) = decode_all([path], sizes_px=[(64, 64)], folder=folder, limits=Limits())
    assert isinstance(found, Picture)
    pixel = found.cut().getpixel((32, 32))
    assert max(abs(a - b) for a, b in zip(pixel, (200, 60, 60), strict=True)) <= 4
