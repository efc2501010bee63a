"""What a file says of its colours is found where each format keeps it, and nowhere else."""

import struct
import zlib
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pillow_heif
import pytest
from colour_profiles import rgb_profile
from PIL import Image

from boothline.data.colours import ADOBE_RGB, Claim, claim_of
from boothline.data.deferred import DeferredImage
from boothline.data.opening import Opened, open_picture

PROFILE = rgb_profile("Display P3")
SIZE = (5, 4)


def opened(path: Path) -> Opened:
    with path.open("rb") as stream:
        head = stream.read(512)
    found = open_picture(path, head)
    found.image.close()
    return found


def bitmap(
    *,
    header_bytes: int = 124,
    space: bytes = b"DEBM",
    start: int = 0,
    size: int = 0,
    reserved: int = 0,
) -> bytes:
    """Return a BMP of grey pixels; `start` counts from the header."""
    pixels = bytes([100]) * (16 * SIZE[1])
    header = struct.pack("<IiiHHIIiiII", header_bytes, *SIZE, 1, 24, 0, len(pixels), 0, 0, 0, 0)
    header = (header.ljust(56, b"\0") + space).ljust(108, b"\0")
    header += struct.pack("<IIII", 4, start, size, reserved)
    return b"BM" + struct.pack("<IHHI", 138 + len(pixels), 0, 0, 138) + header + pixels


BEHIND_PIXELS = len(bitmap()) - 14


@pytest.mark.parametrize("reserved", [0, 1])
@pytest.mark.parametrize("start", [BEHIND_PIXELS, 2**24 + 5])
def test_open_picture_bitmap_gives_its_profile_to_the_byte(
    tmp_path: Path, start: int, reserved: int
) -> None:
    path = tmp_path / "picture"
    with path.open("wb") as stream:
        stream.write(bitmap(start=start, size=len(PROFILE), reserved=reserved))
        stream.seek(14 + start)
        stream.write(PROFILE + b"behind the profile")
    assert opened(path).claim == Claim(profile=PROFILE)


@pytest.mark.parametrize("size", [4 * 2**20, 4 * 2**20 + 1, 2**24])
def test_open_picture_bitmap_gives_4_mebibytes_of_its_profile_at_most(
    tmp_path: Path, size: int
) -> None:
    path = tmp_path / "picture"
    path.write_bytes(bitmap(start=BEHIND_PIXELS, size=size) + bytes(4 * 2**20 + 99))
    profile = opened(path).claim.profile
    assert profile is not None
    assert len(profile) == 4 * 2**20


@pytest.mark.parametrize(
    "header",
    [
        {"space": b"BGRs"},
        {"space": b"KNIL", "start": BEHIND_PIXELS, "size": 9},
        {"header_bytes": 108, "start": BEHIND_PIXELS, "size": 9},
    ],
    ids=["srgb", "linked", "version-4"],
)
def test_open_picture_bitmap_without_a_profile_of_its_own_claims_nothing(
    tmp_path: Path, header: dict[str, Any]
) -> None:
    path = tmp_path / "picture"
    path.write_bytes(bitmap(**header) + bytes(99))
    assert opened(path).claim == Claim()


def test_open_picture_bitmap_whose_profile_is_missing_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "picture"
    path.write_bytes(bitmap(start=BEHIND_PIXELS, size=99))
    assert "damaged" in opened(path).claim.broken


@pytest.mark.parametrize("format_name", ["JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize(
    ("number", "is_adobe"), [(1, False), (2, True), (3, False), (65535, False)]
)
def test_open_picture_exif_names_adobe_rgb_by_two_alone(
    tmp_path: Path, format_name: str, number: int, is_adobe: bool
) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA001] = number
    path = tmp_path / "picture"
    Image.new("RGB", SIZE).save(path, format=format_name, exif=exif.tobytes())
    assert opened(path).claim == (claim_of(ADOBE_RGB) if is_adobe else Claim())


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP"])
def test_open_picture_exif_that_cannot_be_read_claims_nothing(
    tmp_path: Path, format_name: str
) -> None:
    path = tmp_path / "picture"
    Image.new("RGB", SIZE).save(path, format=format_name, exif=b"Exif\0\0no directory at all")
    assert opened(path).claim == Claim()


def test_open_picture_png_with_an_empty_profile_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "picture"
    Image.new("RGB", SIZE).save(path, format="PNG")
    data, body = path.read_bytes(), b"iCCPname\0\0" + zlib.compress(b"")
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    path.write_bytes(data[:33] + chunk + data[33:])
    assert "damaged" in opened(path).claim.broken


def test_open_picture_heic_reads_the_picture_alone_in_two_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pillow_heif.register_heif_opener()
    path = tmp_path / "picture"
    Image.new("RGB", (64, 64)).save(path, format="HEIF")
    options = pillow_heif.options
    for name in ("THUMBNAILS", "DEPTH_IMAGES", "AUX_IMAGES"):
        monkeypatch.setattr(options, name, True)
    monkeypatch.setattr(options, "DECODE_THREADS", 4)
    opened(path)
    assert {options.THUMBNAILS, options.DEPTH_IMAGES, options.AUX_IMAGES} == {False}
    assert options.DECODE_THREADS == 2


def test_opened_cannot_be_changed_and_names_its_parts(tmp_path: Path) -> None:
    path = tmp_path / "picture"
    Image.new("RGB", SIZE).save(path, format="PNG")
    found = opened(path)
    with pytest.raises(FrozenInstanceError):
        found.segments = None  # type: ignore[misc]
    with pytest.raises(TypeError, match="positional"):
        Opened(found.image, found.claim)  # type: ignore[misc]


@pytest.mark.parametrize(("kind", "can_draft"), [("JPEG", True), ("PNG", False), ("GIF", False)])
def test_opened_can_draft_what_its_decoder_gives_at_a_part_of_its_size(
    tmp_path: Path, kind: str, can_draft: bool
) -> None:
    path = tmp_path / "picture"
    Image.new("RGB", SIZE).save(path, format=kind)
    assert opened(path).can_draft is can_draft


def test_opened_can_draft_a_picture_that_is_decoded_later() -> None:
    image = DeferredImage(SIZE, "RGB", {})
    assert Opened(image=image, claim=Claim()).can_draft
