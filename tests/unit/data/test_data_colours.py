"""Colours come out as every colour-managed viewer shows them, whatever space a file stores."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from colour_profiles import (
    SPACES,
    cmyk_profile,
    grey_profile,
    grey_shown_as,
    rgb_profile,
    shown_as,
    srgb_profile,
)
from PIL import Image, ImageCms

from boothline.data.decoding import Decoded, decode

pillow_heif = pytest.importorskip("pillow_heif", reason="needs the extra heif")

COLOURS = ((185, 71, 66), (40, 160, 90), (128, 128, 128), (20, 20, 60), (250, 250, 250))
LOSSLESS = {
    "png": {},
    "webp": {"lossless": True},
    "tiff": {},
    "bmp": {},
}
LOSSY = {
    "jpg": {"quality": 100, "subsampling": 0},
    "heic": {"quality": 100, "chroma": 444, "matrix_coefficients": 1},
    "avif": {"quality": 100, "subsampling": "4:4:4"},
}
# Lab of overprints on coated paper; with black, a sixth of the light and little colour is left.
INKS = {
    (0, 0, 0): (95, 0, -2), (1, 0, 0): (55, -37, -50), (0, 1, 0): (48, 74, -3),
    (0, 0, 1): (89, -5, 93), (1, 1, 0): (24, 17, -46), (1, 0, 1): (50, -65, 27),
    (0, 1, 1): (47, 68, 48), (1, 1, 1): (23, 0, 0),
}  # fmt: skip
CORNERS = {
    (*ink, black): (round(light * 0.16), round(a * 0.05), round(b * 0.05))
    if black
    else (light, a, b)
    for ink, (light, a, b) in INKS.items()
    for black in (0, 1)
}


@pytest.fixture(autouse=True, scope="module")
def heif() -> None:
    pillow_heif.register_heif_opener()


def _patches() -> Image.Image:
    """Squares of the colours, side by side."""
    image = Image.new("RGB", (32 * len(COLOURS), 32))
    for number, colour in enumerate(COLOURS):
        image.paste(colour, (32 * number, 0, 32 * number + 32, 32))
    return image


def _read(decoded: Decoded) -> list[tuple[int, ...]]:
    return [decoded.image.getpixel((32 * number + 16, 16)) for number in range(len(COLOURS))]


def _decode(path: Path) -> Decoded:
    return decode(path, max_pixels=1_000_000)


def _bitmap_with_profile(image: Image.Image, profile: bytes) -> bytes:
    """Return a BMP with the fifth version of its header, which embeds a profile."""
    rows = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM).tobytes("raw", "BGR")
    header = struct.pack("<IiiHHIIiiII", 124, *image.size, 1, 24, 0, len(rows), 0, 0, 0, 0)
    header = (header.ljust(56, b"\0") + b"DEBM").ljust(108, b"\0")
    header += struct.pack("<IIII", 4, 124 + len(rows), len(profile), 0)
    size = 14 + 124 + len(rows) + len(profile)
    return b"BM" + struct.pack("<IHHI", size, 0, 0, 138) + header + rows + profile


def _save(image: Image.Image, path: Path, profile: bytes) -> None:
    if path.suffix == ".bmp" and profile:
        path.write_bytes(_bitmap_with_profile(image, profile))
    else:
        options = {**LOSSLESS, **LOSSY}[path.suffix[1:]]
        image.save(path, **options, **({"icc_profile": profile} if profile else {}))


@pytest.mark.proves("F60/colours")
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("suffix", [*LOSSLESS, *LOSSY])
def test_decode_profile_gives_the_colours_that_viewers_show(tmp_path, space, suffix):
    path = tmp_path / f"picture.{suffix}"
    _save(_patches(), path, rgb_profile(space))
    decoded = _decode(path)
    expected = np.array([shown_as(colour, space) for colour in COLOURS])
    # One level of rounding; what a lossy format changes comes on top.
    bound = 1 if suffix in LOSSLESS else 4
    assert np.abs(np.array(_read(decoded)) - expected).max() <= bound
    assert decoded.notes == ()
    assert space in decoded.remarks[0]


def test_decode_display_p3_red_is_the_red_of_an_iphone(tmp_path):
    path = tmp_path / "picture.png"
    Image.new("RGB", (64, 64), (185, 71, 66)).save(path, icc_profile=rgb_profile("Display P3"))
    assert _decode(path).image.getpixel((5, 5)) == pytest.approx((200, 60, 60), abs=1)


@pytest.mark.parametrize("suffix", [*LOSSLESS, *LOSSY])
def test_decode_profile_of_srgb_changes_no_bit(tmp_path, make_picture, suffix):
    found = []
    for profile in (b"", srgb_profile(), ImageCms.ImageCmsProfile(_built_in()).tobytes()):
        path = tmp_path / f"picture.{suffix}"
        _save(make_picture(), path, profile)
        decoded = _decode(path)
        found.append(decoded.pixel_digest())
        assert (decoded.notes, decoded.remarks) == ((), ())
    assert len(set(found)) == 1


def _built_in() -> ImageCms.core.CmsProfile:
    return ImageCms.createProfile("sRGB")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_decode_profile_keeps_transparency_and_palettes(tmp_path, mode):
    path = tmp_path / "picture.png"
    image = Image.new("RGB", (64, 64), (185, 71, 66))
    image = image.quantize(4) if mode == "P" else image.convert(mode)
    if mode == "RGBA":
        image.paste((0, 0, 0, 0), (0, 0, 32, 64))
    image.save(path, icc_profile=rgb_profile("Display P3"))
    decoded = _decode(path)
    assert decoded.image.getpixel((60, 5)) == pytest.approx((200, 60, 60), abs=1)
    if mode == "RGBA":
        assert decoded.image.getpixel((5, 5)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.2])
def test_decode_grey_profile_gives_the_grey_that_viewers_show(tmp_path, mode, gamma):
    path = tmp_path / "picture.png"
    for level in (10, 64, 128, 220):
        image = Image.new("L", (16, 16), level).convert("LA" if mode == "LA" else "L")
        if mode == "I;16":
            image = Image.fromarray(np.full((16, 16), level * 257, dtype=np.uint16))
        image.save(path, icc_profile=grey_profile(gamma))
        expected = grey_shown_as(level, round(gamma * 256) / 256)
        assert _decode(path).image.getpixel((5, 5)) == pytest.approx((expected,) * 3, abs=1)


def test_decode_grey_picture_with_rgb_profile_is_managed_as_equal_parts(tmp_path):
    path = tmp_path / "picture.jpg"
    Image.new("L", (64, 64), 100).save(path, icc_profile=rgb_profile("ProPhoto"), quality=100)
    expected = shown_as((100, 100, 100), "ProPhoto")
    assert _decode(path).image.getpixel((5, 5)) == pytest.approx(expected, abs=1)


@pytest.mark.parametrize(
    ("ink", "shown"),
    [
        ((255, 0, 0, 0), (0, 150, 218)),
        ((0, 0, 0, 0), (255, 255, 255)),
        ((0, 255, 0, 0), (216, 0, 121)),
    ],
    ids=["cyan", "paper", "magenta"],
)
@pytest.mark.parametrize("suffix", ["jpg", "tiff"])
def test_decode_cmyk_with_profile_gives_the_print(tmp_path, ink, shown, suffix):
    path = tmp_path / f"picture.{suffix}"
    options = LOSSY["jpg"] if suffix == "jpg" else {}
    Image.new("CMYK", (64, 64), ink).save(path, icc_profile=cmyk_profile(CORNERS), **options)
    decoded = _decode(path)
    assert decoded.image.getpixel((5, 5)) == pytest.approx(shown, abs=3)
    assert (decoded.notes, "press" in decoded.remarks[0]) == ((), True)


def test_decode_cmyk_without_profile_is_converted_plainly_with_a_warning(tmp_path):
    path = tmp_path / "picture.jpg"
    Image.new("CMYK", (64, 64), (255, 0, 0, 0)).save(path, **LOSSY["jpg"])
    decoded = _decode(path)
    assert decoded.image.getpixel((5, 5)) == pytest.approx((0, 255, 255), abs=2)
    assert "CMYK without a colour profile" in decoded.notes[0]


@pytest.mark.parametrize(
    ("profile", "reason"),
    [
        (b"no profile at all", "damaged colour profile"),
        (rgb_profile("Display P3")[:300], "damaged colour profile"),
        (cmyk_profile(CORNERS), "profile for other pixels (CMYK)"),
        (grey_profile(2.2), "profile for other pixels (GRAY)"),
    ],
    ids=["noise", "cut", "cmyk", "grey"],
)
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff"])
def test_decode_broken_profile_takes_the_pixels_as_they_are_with_a_warning(
    tmp_path, profile, reason, suffix
):
    path = tmp_path / f"picture.{suffix}"
    _save(_patches(), path, b"")
    plain = _decode(path).pixel_digest()
    _save(_patches(), path, profile)
    decoded = _decode(path)
    assert decoded.pixel_digest() == plain
    (note,) = decoded.notes
    assert (reason in note, "taken as they are" in note) == (True, True)


def test_decode_jpeg_that_lacks_a_piece_of_its_profile_is_warned_about(tmp_path):
    path = tmp_path / "picture.jpg"
    _save(_patches(), path, rgb_profile("Display P3"))
    # One of one becomes one of two.
    path.write_bytes(path.read_bytes().replace(b"ICC_PROFILE\0\1\1", b"ICC_PROFILE\0\1\2", 1))
    assert "damaged colour profile" in _decode(path).notes[0]


def _png_with(chunks: list[tuple[bytes, bytes]], image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    data = buffer.getvalue()
    added = b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )
    return data[:33] + added + data[33:]


def _gamma(value: float) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", round(value * 100_000))


def _primaries(*numbers: float) -> tuple[bytes, bytes]:
    return b"cHRM", struct.pack(">8I", *(round(number * 100_000) for number in numbers))


ADOBE = _primaries(0.3127, 0.3290, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
PLAIN = _primaries(0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
P3 = (b"cICP", bytes((12, 13, 0, 1)))


@pytest.mark.parametrize(
    ("chunks", "space"),
    [
        ([_gamma(1 / 2.19921875), ADOBE], "Adobe RGB"),
        ([P3], "Display P3"),
        ([(b"cICP", bytes((9, 13, 0, 1)))], "Rec2020"),
        ([P3, _gamma(1 / 2.2), ADOBE], "Display P3"),
    ],
    ids=["primaries", "codes", "wide-codes", "codes-first"],
)
def test_decode_png_that_names_its_space_by_chunks_is_managed(tmp_path, chunks, space):
    path = tmp_path / "picture.png"
    path.write_bytes(_png_with(chunks, _patches()))
    expected = np.array([shown_as(colour, space) for colour in COLOURS])
    assert np.abs(np.array(_read(_decode(path))) - expected).max() <= 1


@pytest.mark.parametrize(
    "chunks",
    [
        [_gamma(0.45455), PLAIN],
        [_gamma(0.45455)],
        [(b"sRGB", b"\0"), _gamma(1.0), ADOBE],
        [(b"cICP", bytes((1, 13, 0, 1)))],
        [(b"cICP", bytes((2, 2, 0, 1)))],
        [PLAIN],
    ],
    ids=["usual", "gamma", "srgb-first", "codes", "unspecified", "primaries"],
)
def test_decode_png_that_names_srgb_by_chunks_changes_no_bit(tmp_path, chunks):
    path = tmp_path / "picture.png"
    path.write_bytes(_png_with(chunks, _patches()))
    decoded = _decode(path)
    assert _read(decoded) == list(COLOURS)
    assert (decoded.notes, decoded.remarks) == ((), ())


def test_decode_png_with_linear_gamma_is_managed(tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(_png_with([_gamma(1.0)], _patches()))
    expected = [tuple(grey_shown_as(level, 1.0) for level in colour) for colour in COLOURS]
    assert np.abs(np.array(_read(_decode(path))) - np.array(expected)).max() <= 1


@pytest.mark.parametrize(
    ("chunk", "reason"),
    [
        ((b"cICP", bytes((9, 16, 0, 1))), "HDR picture (PQ)"),
        ((b"cICP", bytes((9, 18, 0, 1))), "HDR picture (HLG)"),
        (_gamma(0.00001), "impossible gamma"),
        (_primaries(*[0.3] * 8), "impossible primaries"),
    ],
    ids=["pq", "hlg", "gamma", "primaries"],
)
def test_decode_png_with_colours_that_cannot_be_managed_is_warned_about(tmp_path, chunk, reason):
    path = tmp_path / "picture.png"
    path.write_bytes(_png_with([chunk], _patches()))
    decoded = _decode(path)
    assert _read(decoded) == list(COLOURS)
    assert reason in decoded.notes[0]


@pytest.mark.parametrize("suffix", ["avif", "heic"])
def test_decode_boxed_picture_with_codes_in_place_of_a_profile_is_managed(tmp_path, suffix):
    path = tmp_path / f"picture.{suffix}"
    if suffix == "heic":
        pillow_heif.from_pillow(_patches()).save(
            path, quality=100, chroma=444, color_primaries=12, transfer_characteristics=13
        )
    else:
        _patches().save(path, **LOSSY["avif"])
        data = path.read_bytes()
        at = data.index(b"colrnclx") + 8
        path.write_bytes(data[:at] + struct.pack(">HH", 12, 13) + data[at + 4 :])
    expected = np.array([shown_as(colour, "Display P3") for colour in COLOURS])
    decoded = _decode(path)
    assert np.abs(np.array(_read(decoded)) - expected).max() <= 4
    assert "Display P3" in decoded.remarks[0]


@pytest.mark.parametrize("how", ["index", "number"])
def test_decode_adobe_rgb_named_in_exif_alone_is_managed(tmp_path, how):
    path = tmp_path / "picture.jpg"
    exif = Image.Exif()
    if how == "index":
        exif.get_ifd(0x8769)[0xA005] = {1: "R03"}
    else:
        exif.get_ifd(0x8769)[0xA001] = 2
    _patches().save(path, exif=exif, **LOSSY["jpg"])
    expected = np.array([shown_as(colour, "Adobe RGB") for colour in COLOURS])
    decoded = _decode(path)
    assert np.abs(np.array(_read(decoded)) - expected).max() <= 4
    assert "Adobe RGB" in decoded.remarks[0]


@pytest.mark.parametrize("has_profile", [True, False])
def test_decode_lab_picture_gives_its_colours_without_a_warning(tmp_path, has_profile):
    shown = Image.new("RGB", (64, 64), (200, 60, 60))
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    stored = ImageCms.profileToProfile(shown, srgb, lab, outputMode="LAB")
    if not has_profile:
        stored.info.pop("icc_profile", None)
    stored.save(tmp_path / "picture", format="TIFF")
    picture = decode(tmp_path / "picture", max_pixels=10_000)
    assert picture.image.getpixel((5, 5)) == pytest.approx((200, 60, 60), abs=1)
    assert picture.notes == ()
    assert picture.remarks == ("is Lab; its colours are converted to sRGB",)
