"""Large pictures are decoded at a part of their size, and at no smaller one than is wanted."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from colour_profiles import rgb_profile
from PIL import Image

from boothline.data import decoding
from boothline.data.colours import Claim
from boothline.data.decoding import Decoded, decode
from boothline.data.jpeg import JpegFacts
from boothline.data.opening import Opened
from boothline.errors import DataError


def saved(image: Image.Image, folder: Path, format_name: str = "PNG", **options: Any) -> Path:
    path = folder / "picture"
    image.save(path, format=format_name, **options)
    return path


def decoded(path: Path) -> Decoded:
    return decode(path, max_pixels=1_000_000)


@pytest.fixture
def quarters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a picture of 41 x 30 decoded at a quarter of its size."""
    monkeypatch.setattr(decoding, "_WHOLE_PIXELS", 100)


@pytest.mark.parametrize(
    ("size", "scale"),
    [
        ((50_000_000, 1), 1),
        ((50_000_001, 1), 2),
        ((1, 200_000_000), 2),
        ((1, 200_000_001), 4),
        ((20_000, 40_000), 4),
        ((20_000, 40_001), 8),
        ((400_000, 400_000), 8),
    ],
)
@pytest.mark.parametrize(("changes", "enough_px"), [(False, 0), (True, 0), (True, 10**6)])
def test_scale_keeps_50_million_pixels(
    size: tuple[int, int], scale: int, changes: bool, enough_px: int
) -> None:
    assert decoding._scale(size, takes_long=changes, enough_px=enough_px) == scale


@pytest.mark.parametrize(
    ("size", "changes", "enough_px", "scale"),
    [
        ((4000, 4000), True, 1, 1),
        ((4001, 4000), True, 2000, 2),
        ((4000, 4001), True, 2001, 1),
        ((1000, 1000), True, 1, 1),
        ((641, 24_961), True, 1, 2),  # one pixel more than 16 million
        ((4001, 4000), False, 1, 1),
        ((16_000_001, 1), True, 1, 1),
        ((8000, 8000), True, 1, 2),
        ((8001, 8000), True, 2000, 4),
        ((8001, 8000), True, 2001, 2),
        ((8001, 8000), False, 2000, 4),
        ((16_000, 16_001), True, 2000, 8),
        ((16_000, 16_001), True, 2001, 4),
        ((64_000, 64_001), True, 1, 8),
    ],
)
def test_scale_keeps_16_million_pixels_where_that_is_enough_and_colours_change(
    size: tuple[int, int], changes: bool, enough_px: int, scale: int
) -> None:
    assert decoding._scale(size, takes_long=changes, enough_px=enough_px) == scale


@pytest.mark.parametrize(
    ("num_components", "most_pixels"),
    [(1, 199_229_440), (2, 199_229_440), (3, 132_819_626), (4, 49_807_360)],
)
def test_check_coefficients_refuses_a_progressive_jpeg_beyond_380_mebibytes(
    num_components: int, most_pixels: int
) -> None:
    facts = JpegFacts(num_components=num_components, is_progressive=True)
    decoding._check_coefficients((most_pixels, 1), facts)
    baseline = JpegFacts(num_components=num_components)
    decoding._check_coefficients((most_pixels + 1, 2), baseline)
    for size in ((most_pixels + 1, 1), (1, most_pixels + 1)):
        with pytest.raises(DataError, match="progressive JPEG"):
            decoding._check_coefficients(size, facts)


# At the half both ways, to the even number.
@pytest.mark.parametrize(("height", "said"), [(9975, "200"), (10_025, "200"), (12_500, "250")])
def test_check_coefficients_says_how_many_pixels_there_are(height: int, said: str) -> None:
    facts = JpegFacts(num_components=1, is_progressive=True)
    with pytest.raises(DataError) as caught:
        decoding._check_coefficients((20_000, height), facts)
    assert caught.value.message == (
        f"is a progressive JPEG of {said} million pixels, which needs too much memory to decode"
    )
    assert "baseline" in caught.value.remedy


def test_decode_progressive_jpeg_is_checked_and_a_baseline_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "_MAX_COEFFICIENT_BYTES", 1199 * 3)
    image = Image.new("RGB", (40, 30))
    assert decoded(saved(image, tmp_path, "JPEG")).format == "JPEG"
    with pytest.raises(DataError, match="progressive JPEG"):
        decoded(saved(image, tmp_path, "JPEG", progressive=True))


@pytest.mark.usefixtures("quarters")
@pytest.mark.parametrize(
    ("format_name", "mode"),
    [("JPEG", "RGB"), ("JPEG", "L"), ("PNG", "RGB"), ("PNG", "P"), ("PNG", "1"), ("PNG", "L")],
)
def test_decode_large_picture_is_reduced_and_says_so(
    tmp_path: Path, format_name: str, mode: str
) -> None:
    image = Image.new("RGB", (41, 30), "white")
    image.paste("black", (0, 0, 20, 30))
    found = decoded(saved(image.convert(mode), tmp_path, format_name))
    assert (found.size, found.image.size) == ((41, 30), (11, 8))
    assert found.image.getpixel((2, 4)) == pytest.approx((0, 0, 0), abs=8)
    assert found.image.getpixel((8, 4)) == pytest.approx((255, 255, 255), abs=8)
    assert found.remarks == ("has 0 million pixels; it is read at 1/4 of its width and height",)


def test_decode_picture_just_above_the_bound_is_halved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "_WHOLE_PIXELS", 1199)
    for format_name in ("JPEG", "PNG"):
        found = decoded(saved(Image.new("RGB", (40, 30)), tmp_path, format_name))
        assert (found.size, found.image.size) == ((40, 30), (20, 15))


def test_decode_colours_that_change_are_reduced_only_to_what_is_said_to_be_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "_MANAGED_PIXELS", 100)
    image = Image.new("RGB", (40, 30))
    path = saved(image, tmp_path, icc_profile=rgb_profile("Display P3"))
    assert decoded(path).image.size == (40, 30)
    assert decode(path, max_pixels=1200, enough_px=15).image.size == (20, 15)
    assert decode(saved(image, tmp_path), max_pixels=1200, enough_px=15).image.size == (40, 30)


@pytest.mark.usefixtures("quarters")
@pytest.mark.parametrize("mode", ["RGBA", "LA", "I;16"])
def test_decode_large_picture_with_transparency_or_16_bits_stays_whole(
    tmp_path: Path, mode: str
) -> None:
    found = decoded(saved(Image.new(mode, (41, 30)), tmp_path))
    assert (found.size, found.image.size, found.remarks) == ((41, 30), (41, 30), ())


@pytest.mark.usefixtures("quarters")
@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("size", [(41, 30), (30, 41)])
def test_decode_large_picture_is_turned_upright_after_it_is_reduced(
    tmp_path: Path, format_name: str, size: tuple[int, int]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(Image.new("RGB", size), tmp_path, format_name, exif=exif.tobytes())
    found = decoded(path)
    assert found.size == (size[1], size[0])
    assert found.image.size == (-(-size[1] // 4), -(-size[0] // 4))


@pytest.mark.parametrize("size", [(41, 30), (30, 41)])
def test_decode_size_is_that_of_the_upright_picture(tmp_path: Path, size: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    found = decoded(saved(Image.new("RGB", size), tmp_path, exif=exif.tobytes()))
    assert found.size == found.image.size == (size[1], size[0])


@pytest.mark.usefixtures("quarters")
def test_load_large_picture_is_let_go_once_it_is_reduced() -> None:
    image = Image.new("RGB", (41, 30))
    decoding._load(image, Opened(image=image, claim=Claim()), enough_px=0)
    with pytest.raises(ValueError, match="closed"):
        image.getpixel((0, 0))


def test_load_picture_of_usual_size_is_not_copied() -> None:
    image = Image.new("RGB", (41, 30))
    found = decoding._load(image, Opened(image=image, claim=Claim()), enough_px=0)
    assert found.image is image
    assert found.remarks == ()


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("1", "L"), ("L", "L"), ("LA", "L"), ("La", "L"), ("I", "L"), ("I;16", "L"),
        ("RGB", "RGB"), ("RGBA", "RGB"), ("RGBa", "RGB"), ("P", "RGB"), ("YCbCr", "RGB"),
        ("CMYK", "CMYK"), ("LAB", "LAB"), ("F", "F"),
    ],
)  # fmt: skip
def test_opaque_mode_is_that_of_the_colours_alone(mode: str, expected: str) -> None:
    assert decoding._opaque_mode(Image.new(mode, (1, 1))) == expected


@pytest.mark.parametrize(
    ("size", "reduced", "said"),
    [
        ((9248, 6936), (4624, 3468), "has 64 million pixels; it is read at 1/2"),
        ((9001, 6000), (4501, 3000), "has 54 million pixels; it is read at 1/2"),
        ((16_001, 12_500), (4001, 3125), "has 200 million pixels; it is read at 1/4"),
        ((12_700, 5000), (6350, 2500), "has 64 million pixels; it is read at 1/2"),
        ((12_500, 5000), (6250, 2500), "has 62 million pixels; it is read at 1/2"),
    ],
)
def test_reduction_says_the_part_in_whole_numbers(
    size: tuple[int, int], reduced: tuple[int, int], said: str
) -> None:
    assert decoding._reduction(size, reduced) == f"{said} of its width and height"


@pytest.mark.usefixtures("quarters")
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_decode_large_transparent_picture_is_reduced_with_colours_as_they_are_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    image = Image.new("RGBA", (41, 300), (0, 0, 0, 0))  # what is not seen is black
    image.paste((200, 200, 200, 255), (0, 0, 20, 300))
    picture = image.convert("LA") if mode == "LA" else image
    options: dict[str, Any] = {}
    if mode == "P":
        picture = image.getchannel("A").point(lambda value: int(value > 0)).convert("L")
        picture = Image.frombytes("P", image.size, picture.tobytes())
        picture.putpalette([0, 0, 0, 200, 200, 200])
        options = {"transparency": 0}
    path = saved(picture, tmp_path, **options)
    monkeypatch.setattr(decoding, "_STRIP_ROWS", 7)
    monkeypatch.setattr(decoding, "_TRANSPARENT_PIXELS", 41 * 300)
    assert decoded(path).image.size == (41, 300)  # it fits whole
    monkeypatch.setattr(decoding, "_TRANSPARENT_PIXELS", 41 * 300 - 1)
    found = decoded(path)
    assert (found.size, found.image.size) == ((41, 300), (6, 38))
    for y in (0, found.image.height // 2, found.image.height - 1):
        assert found.image.getpixel((1, y)) == (200, 200, 200)
        assert found.image.getpixel((5, y)) == (255, 255, 255)
        (edge, _, _) = found.image.getpixel((2, y))  # half seen, over white
        assert edge == pytest.approx(200 / 2 + 255 / 2, abs=2)


@pytest.mark.parametrize(("width", "is_reduced"), [(26_000, False), (26_001, True)])
def test_transparent_picture_that_leaves_no_room_for_its_colours_can_be_reduced(
    width: int, is_reduced: bool
) -> None:
    image: Any = SimpleNamespace(has_transparency_data=True, width=width, height=1000, mode="RGBA")
    assert decoding._can_be_reduced(image) is is_reduced
    image.width, image.height = 26_000_001 - (26_001 - width), 1
    assert decoding._can_be_reduced(image) is is_reduced


def test_transparent_picture_reduced_in_strips_is_the_one_reduced_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decoding, "_STRIP_ROWS", 7)
    drawn = np.random.default_rng(0).integers(0, 256, (150, 41, 4), dtype=np.uint8)
    image = Image.fromarray(drawn, "RGBA")
    whole = image.convert("RGBa").reduce(4).convert("RGBA")
    assert np.array_equal(decoding._reduced(image, 4), whole)


def test_reduced_transparent_picture_keeps_what_its_file_says_of_it() -> None:
    """But for the transparent colour of a palette that it no longer has."""
    image = Image.new("P", (8, 8))
    said = {"exif": b"orientation", "icc_profile": b"profile", "xmp": b"more"}
    image.info = {**said, "transparency": 0}
    reduced = decoding._reduced(image, 4)
    assert reduced.mode == "RGBA"
    assert reduced.info == said


@pytest.mark.parametrize(("format_name", "side"), [("PNG", 20), ("TIFF", 20), ("JPEG", 40)])
def test_decode_picture_of_a_slow_decoder_is_reduced_to_what_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format_name: str, side: int
) -> None:
    monkeypatch.setattr(decoding, "_QUICK_PIXELS", 100)
    monkeypatch.setattr(decoding, "_SLOW_PIXELS", 1199)
    path = saved(Image.new("RGB", (40, 30)), tmp_path, format_name)
    assert decode(path, max_pixels=1200, enough_px=15).image.width == side
    assert decode(path, max_pixels=1200, enough_px=16).image.width == 40
    monkeypatch.setattr(decoding, "_SLOW_PIXELS", 1200)
    assert decode(path, max_pixels=1200, enough_px=15).image.width == 40


@pytest.mark.parametrize(
    ("size", "takes_long", "most_pixels"),
    [((8000, 4000), False, 16_000_000), ((57_041, 561), True, 4_000_000)],
    ids=["32000000", "32000001"],
)
def test_decode_picture_above_32_million_pixels_aims_at_4_million(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], takes_long: bool, most_pixels: int
) -> None:
    asked: dict[str, object] = {}

    def scale(size: tuple[int, int], **settings: object) -> int:
        asked.update(settings)
        raise DataError("is not looked at", remedy="")

    monkeypatch.setattr(decoding, "_scale", scale)
    image = Image.new("1", size)
    with pytest.raises(DataError, match="not looked at"):
        decoding._load(image, Opened(image=image, claim=Claim()), enough_px=1)
    assert asked == {"takes_long": takes_long, "enough_px": 1, "most_pixels": most_pixels}
