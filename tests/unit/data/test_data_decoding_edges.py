"""Where decoding draws its lines: digests, scans, pixels, 16 bits, damage, and what a file is."""

import errno
import hashlib
import struct
import warnings
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from boothline.data import decoding
from boothline.data.colours import Claim, Conversion
from boothline.data.decoding import Decoded, decode, prepare
from boothline.data.opening import Opened
from boothline.errors import DataError

MAX_PIXELS = 1_000_000


def saved(image: Image.Image, folder: Path, format_name: str = "PNG", **options: Any) -> Path:
    path = folder / "picture"
    image.save(path, format=format_name, **options)
    return path


def loaded(image: Image.Image) -> Decoded:
    return decoding._load(image, Opened(image=image, claim=Claim()), enough_px=0)


def converted(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    mode = decoding._opaque_mode(image)
    return decoding._to_rgb(image, Conversion(Claim(), mode=mode))[:2]


def refusal(path: Path, content: bytes) -> DataError:
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        decode(path, max_pixels=MAX_PIXELS)
    return caught.value


@pytest.mark.parametrize("height", [1, 255, 256, 257, 600])
def test_pixel_digest_is_the_sha256_of_size_and_pixels(height: int) -> None:
    pixels = np.random.default_rng(height).integers(0, 256, (height, 3, 3), dtype=np.uint8)
    expected = hashlib.sha256(f"3x{height}".encode() + pixels.tobytes()).hexdigest()
    decoded = Decoded(image=Image.fromarray(pixels), size=(3, height), format="PNG")
    assert decoded.pixel_digest() == expected


def test_decoded_cannot_be_changed_and_names_its_parts() -> None:
    image = Image.new("RGB", (1, 1))
    with pytest.raises(FrozenInstanceError):
        loaded(image).format = "JPEG"  # type: ignore[misc]
    with pytest.raises(TypeError, match="positional"):
        Decoded(image, (1, 1), "PNG")  # type: ignore[misc]


def test_decode_jpeg_of_fifty_scans_is_read_and_of_more_refused(tmp_path: Path) -> None:
    path = saved(Image.new("RGB", (8, 8)), tmp_path, "JPEG", progressive=True)
    data = path.read_bytes()
    scan = data[data.rindex(b"\xff\xda") : -2]
    missing = 50 - data.count(b"\xff\xda")
    path.write_bytes(data[:-2] + scan * missing + data[-2:])
    assert decode(path, max_pixels=MAX_PIXELS).format == "JPEG"
    for more in (1, 2):
        message = refusal(path, data[:-2] + scan * (missing + more) + data[-2:]).message
        assert message == "has more than 50 scans, a trap for decoders"


def test_decode_counts_no_scans_in_other_formats(tmp_path: Path) -> None:
    path = saved(Image.new("RGB", (8, 8)), tmp_path, "BMP")
    path.write_bytes(path.read_bytes() + b"\xff\xda" * 60)
    assert decode(path, max_pixels=MAX_PIXELS).format == "BMP"


def test_decode_of_exactly_the_most_pixels_is_read_and_of_one_more_refused(tmp_path: Path) -> None:
    path = saved(Image.new("RGB", (40, 30)), tmp_path)
    assert decode(path, max_pixels=1200).image.size == (40, 30)
    with pytest.raises(DataError, match=r"^has more than 0\.001199 million pixels "):
        decode(path, max_pixels=1199)


@pytest.mark.parametrize(("max_pixels", "said"), [(1_000_000, "1"), (999_999, "0.999999")])
def test_decode_says_how_many_pixels_are_read(tmp_path: Path, max_pixels: int, said: str) -> None:
    path = saved(Image.new("RGB", (1001, 1000)), tmp_path)
    with pytest.raises(DataError) as caught:
        decode(path, max_pixels=max_pixels)
    assert caught.value.message == f"has more than {said} million pixels"


@pytest.mark.parametrize("size", [(40, 30), (1, 1200), (1200, 1), (31, 39)])
def test_decode_counts_the_pixels_of_a_jpeg_by_a_cap_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    path, num_pixels = saved(Image.new("RGB", size), tmp_path, "JPEG"), size[0] * size[1]
    for cap in (num_pixels, 5000):
        monkeypatch.setattr(decoding, "MAX_JPEG_PIXELS", cap)
        assert decode(path, max_pixels=1).image.size == size
    monkeypatch.setattr(decoding, "MAX_JPEG_PIXELS", num_pixels - 1)
    with pytest.raises(DataError, match="million pixels"):
        decode(path, max_pixels=1)
    assert decode(path, max_pixels=num_pixels).image.size == size


def test_decode_jpeg_of_250_million_pixels_is_not_too_large(tmp_path: Path) -> None:
    path = saved(Image.new("L", (8, 8)), tmp_path, "JPEG")
    data = bytearray(path.read_bytes())
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 12_500, 20_000)
    path.write_bytes(bytes(data))  # the decoder fills what is missing
    assert decode(path, max_pixels=MAX_PIXELS).size == (20_000, 12_500)


def test_decode_leaves_pillows_own_cap_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 77)
    decode(saved(Image.new("RGB", (40, 30)), tmp_path), max_pixels=1200)
    assert Image.MAX_IMAGE_PIXELS == 77
    refusal(tmp_path / "picture", b"no picture")
    assert Image.MAX_IMAGE_PIXELS == 77


def test_decode_lets_no_warning_of_pillow_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = decoding._load

    def warn_and_load(image: Image.Image, opened: Opened, *, enough_px: int) -> Decoded:
        warnings.warn("Corrupt EXIF data", UserWarning, stacklevel=1)
        return load(image, opened, enough_px=enough_px)

    monkeypatch.setattr(decoding, "_load", warn_and_load)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        decode(saved(Image.new("RGB", (8, 8)), tmp_path), max_pixels=MAX_PIXELS)
    assert seen == []


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (MemoryError(), "needs too much memory to decode"),
        (struct.error("unpack  requires\na buffer"), "cannot be decoded: unpack requires a buffer"),
        (RuntimeError(), "cannot be decoded: RuntimeError"),
        (ValueError("a\x07b\u202ec"), "cannot be decoded: a?b?c"),
        (OSError("x" * 200), f"cannot be decoded: {'x' * 120}"),
    ],
)
def test_decode_failure_of_a_decoder_is_a_reason_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception, message: str
) -> None:
    fail_with(failure, monkeypatch)
    with pytest.raises(DataError) as caught:
        decode(saved(Image.new("RGB", (8, 8)), tmp_path), max_pixels=MAX_PIXELS)
    assert caught.value.message == message
    assert "save it again" in caught.value.remedy


MACHINE_FAULTS = (
    "EIO", "ENOSPC", "EDQUOT", "ENOMEM", "EMFILE", "ENFILE", "ESTALE", "EACCES", "EPERM", "ENOENT",
    "ENXIO", "ENODEV", "EROFS", "ETIMEDOUT",
)  # fmt: skip


@pytest.mark.parametrize("name", MACHINE_FAULTS)
def test_decode_failure_of_the_machine_is_not_blamed_on_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    failure = OSError(getattr(errno, name), "failed")
    fail_with(failure, monkeypatch)
    with pytest.raises(OSError, match="failed") as caught:
        decode(saved(Image.new("RGB", (8, 8)), tmp_path), max_pixels=MAX_PIXELS)
    assert caught.value is failure


@pytest.mark.parametrize("name", MACHINE_FAULTS)
def test_load_failure_of_the_machine_is_not_called_damage(name: str) -> None:
    failure = OSError(getattr(errno, name), "failed")
    with pytest.raises(OSError, match="failed") as caught:
        loaded(damaged(failure))
    assert caught.value is failure


def fail_with(failure: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(image: Image.Image, opened: Opened, *, enough_px: int) -> Decoded:
        raise failure

    monkeypatch.setattr(decoding, "_load", fail)


def damaged(failure: Exception) -> Image.Image:
    class Damaged(Image.Image):
        size, width, height = (8, 8), 8, 8

        def load(self) -> Any:
            raise failure

    return Damaged()


@pytest.mark.parametrize(
    "failure", [OSError("cut"), OSError(errno.EINVAL, "cut"), SyntaxError("cut"), EOFError("cut")]
)
def test_load_failure_while_pixels_are_read_means_a_damaged_file(failure: Exception) -> None:
    with pytest.raises(DataError, match=r"^is truncated or damaged: .*cut ") as caught:
        loaded(damaged(failure))
    assert caught.value.remedy == "Copy the picture again."


@pytest.mark.parametrize("format_name", ["PNG", "JPEG"])
def test_decode_file_cut_in_its_pixels_says_so(tmp_path: Path, format_name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    path = saved(Image.fromarray(noise), tmp_path, format_name)
    message = refusal(path, path.read_bytes()[:-2000]).message
    assert message.startswith("is truncated or damaged: ")


def test_load_exif_that_cannot_be_read_leaves_the_picture_and_a_note(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(image: Image.Image, *, in_place: bool) -> None:
        raise struct.error("bad")

    monkeypatch.setattr(ImageOps, "exif_transpose", fail)
    decoded = loaded(Image.new("RGB", (8, 4)))
    assert decoded.image.size == decoded.size == (8, 4)
    assert decoded.format == "unknown"
    assert decoded.notes == ("has damaged EXIF data; its orientation is taken as it is",)


def test_decode_of_a_camera_picture_with_a_preview_has_no_note(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    path = saved(frames[0], tmp_path, "MPO", save_all=True, append_images=frames[1:])
    decoded = decode(path, max_pixels=MAX_PIXELS)
    assert (decoded.format, decoded.notes) == ("JPEG", ())


def test_decode_opaque_alpha_has_no_note(tmp_path: Path) -> None:
    path = saved(Image.new("RGBA", (8, 8), (9, 8, 7, 255)), tmp_path)
    decoded = decode(path, max_pixels=MAX_PIXELS)
    assert decoded.notes == ()
    assert decoded.image.getpixel((3, 3)) == (9, 8, 7)


def test_decode_half_transparent_pixel_is_half_white(tmp_path: Path) -> None:
    path = saved(Image.new("RGBA", (8, 8), (0, 100, 200, 51)), tmp_path)  # 51 / 255 = 1 / 5
    decoded = decode(path, max_pixels=MAX_PIXELS)
    assert decoded.image.getpixel((3, 3)) == (204, 224, 244)
    assert decoded.notes == ("is transparent in places; it is laid over white",)


def test_decode_premultiplied_alpha_is_laid_over_white() -> None:
    image = Image.new("RGBA", (8, 8), (0, 100, 200, 51)).convert("RGBa")
    rgb, notes = converted(image)
    assert rgb.getpixel((3, 3)) == (204, 224, 244)
    assert len(notes) == 1


def test_decode_16_bits_become_the_nearest_of_8() -> None:
    values = [0, 1, 127, 128, 129, 256, 257, 385, 386, 32767, 32768, 65406, 65407, 65535]
    levels = np.array([values], dtype=np.int32)
    rgb, notes = converted(Image.fromarray(levels))
    # 65535 = 255 x 257, so that a step of 8 bits is 257 of 16; halves go up.
    assert np.asarray(rgb)[0, :, 1].tolist() == [(2 * value + 257) // 514 for value in values]
    assert notes == ("has 16 bits a channel; it is reduced to 8",)


@pytest.mark.parametrize(
    ("low", "high", "passes"),
    [(0, 65535, True), (5, 300, True), (0, 65536, False), (-1, 9, False), (-7, 70000, False)],
)
def test_decode_integers_of_more_than_16_bits_are_refused(
    low: int, high: int, passes: bool
) -> None:
    image = Image.fromarray(np.array([[low, high]], dtype=np.int32))
    if passes:
        assert converted(image)[0].mode == "RGB"
        return
    with pytest.raises(DataError, match="more than 16 bits"):
        converted(image)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b" " * 508 + b"<svg", "an SVG drawing"),
        (b"%!PS-Adobe plain text", "a PostScript document"),
        (b"\xef\xbb\xbf \r\n<HTML>", "a web page"),
        (b"\0\0\0\x18ftypcrx \0", "a raw camera file (Canon CR3)"),
        (b"\0\0\0\x18ftypmp42\0", "a video or another media container"),
    ],
)
def test_decode_names_what_a_file_is(tmp_path: Path, content: bytes, kind: str) -> None:
    error = refusal(tmp_path / "file", content)
    assert error.message == f"is {kind}, which is not read"
    still = "Take a still from it and save that, or leave it out."
    assert error.remedy == (still if "video" in kind else "Save it as JPEG, PNG or WebP.")


@pytest.mark.parametrize(
    "content", [b" " * 509 + b"<svg", b"textzzzz", b"text\tin\r\nlines", "Füße".encode()]
)
def test_decode_says_of_a_text_that_it_is_one(tmp_path: Path, content: bytes) -> None:
    error = refusal(tmp_path / "file", content)
    assert error.message == "is a text, not a picture"
    assert error.remedy == "It is skipped; remove it."


@pytest.mark.parametrize("content", [b"ab\x1fcd", b"abc\x7f", b"\x1f\x7f", b"ab\x0bcd"])
def test_decode_bytes_that_no_text_has_are_not_called_one(tmp_path: Path, content: bytes) -> None:
    message = refusal(tmp_path / "file", content).message
    assert message == "is not a picture of a known format, or is damaged"


@pytest.mark.parametrize(("brand", "kind"), [(b"avif", "AVIF"), (b"heic", "HEIC")])
def test_decode_boxed_picture_that_is_damaged_is_named(
    tmp_path: Path, brand: bytes, kind: str
) -> None:
    error = refusal(tmp_path / "file", b"\0\0\0\x18ftyp" + brand + b"\0")
    assert error.message == f"is a damaged {kind} picture, or of a variant that is not read"
    assert "save it again" in error.remedy


def test_prepare_loads_the_decoders_and_gives_each_two_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decoding.AvifImagePlugin, "DEFAULT_MAX_THREADS", 5)
    monkeypatch.setattr(Image, "_initialized", 0)
    prepare()
    assert (decoding.AvifImagePlugin.DEFAULT_MAX_THREADS, Image._initialized) == (2, 1)
