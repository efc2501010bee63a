"""Large HEIC pictures are decoded in threads of the codec, to the pixels that pillow-heif finds."""

from pathlib import Path

import numpy as np
import pytest
from colour_profiles import rgb_profile
from PIL import Image

from boothline.data import decoding, heic
from boothline.data.decoding import decode
from boothline.data.opening import Opened, open_picture
from boothline.errors import DataError

pillow_heif = pytest.importorskip("pillow_heif", reason="needs the extra heif")


@pytest.fixture(autouse=True)
def all_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heic, "_LARGE_PIXELS", 96 * 96 - 1)


def saved(image: Image.Image, folder: Path, **options: object) -> Path:
    path = folder / "picture"
    pillow_heif.from_pillow(image).save(path, quality=80, **options)
    return path


def opened(path: Path) -> Opened:
    return open_picture(path, path.read_bytes()[:512])


def by_pillow_heif(path: Path) -> Image.Image:
    return pillow_heif.open_heif(path, convert_hdr_to_8bit=True).to_pillow()


@pytest.mark.parametrize("chroma", [420, 444])
@pytest.mark.parametrize("size", [(96, 96), (131, 97)])
def test_open_large_heic_gives_the_pixels_that_pillow_heif_finds(
    tmp_path, make_picture, size, chroma
):
    path = saved(make_picture().resize(size), tmp_path, chroma=chroma)
    image = opened(path).image
    assert isinstance(image, heic.LargeHeic)
    assert (image.size, image.mode, image.format) == (size, "RGB", "HEIF")
    assert image.tobytes() == by_pillow_heif(path).tobytes()
    assert image.size == size


def test_open_large_heic_of_10_bits_gives_8_as_pillow_heif_does(tmp_path):
    ramp = np.linspace(0, 65535, 128 * 96 * 3).reshape(96, 128, 3).astype(np.uint16)
    path = tmp_path / "picture"
    pillow_heif.encode(
        "RGB;16", (128, 96), ramp.tobytes(), path, format="HEIF", quality=90, save_nclx_profile=True
    )
    image = opened(path).image
    assert isinstance(image, heic.LargeHeic)
    assert image.tobytes() == by_pillow_heif(path).tobytes()


def test_open_large_heic_of_several_pictures_takes_the_main_one(tmp_path, make_picture):
    file = pillow_heif.from_pillow(Image.new("RGB", (128, 96), "red"))
    file.add_from_pillow(make_picture())
    path = tmp_path / "picture"
    file.save(path, quality=90, primary_index=1)
    found = decode(path, max_pixels=10**6)
    assert found.size == (96, 96)
    assert found.image.tobytes() == by_pillow_heif(path).tobytes()


def test_decode_large_heic_is_upright_and_in_srgb(tmp_path, make_picture):
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = rgb_profile("Display P3")
    picture = Image.new("RGB", (128, 96), (200, 60, 60))
    path = saved(picture, tmp_path, exif=exif.tobytes(), icc_profile=profile)
    assert isinstance(opened(path).image, heic.LargeHeic)
    found = decode(path, max_pixels=10**6)
    assert (found.size, found.image.size) == ((96, 128), (96, 128))
    assert found.remarks == ("has the colours of Display P3; they are converted to sRGB",)


def largest_difference(one: Image.Image, other: Image.Image) -> int:
    assert (one.size, one.mode) == (other.size, other.mode)
    pixels = [np.asarray(image).astype(int) for image in (one, other)]
    return int(abs(pixels[0] - pixels[1]).max())


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("size", [(96, 96), (131, 97), (200, 259)])
@pytest.mark.parametrize(("chroma", "levels"), [(420, 2), (444, 0)])
def test_decode_large_heic_is_reduced_as_the_whole_would_be(
    tmp_path, make_picture, monkeypatch, size, scale, chroma, levels
):
    monkeypatch.setattr(decoding, "_WHOLE_PIXELS", size[0] * size[1] / scale**2)
    # Colours that no block of chroma takes out of RGB, which is cut off before or after reducing.
    picture = make_picture().resize(size).point(lambda value: 50 + value * 0.5)
    path = saved(picture, tmp_path, chroma=chroma)
    found = decode(path, max_pixels=10**6)
    assert found.size == size
    assert largest_difference(found.image, by_pillow_heif(path).reduce(scale)) <= levels


COLOURS = ["red", "lime", "blue", "white", "black", "gray", "#c86432", "#3264c8"]


@pytest.mark.parametrize(
    "options",
    [{"matrix_coefficients": number, "full_range_flag": is_full}
     for number in (1, 5, 6, 9, 10) for is_full in (0, 1)]
    + [{}, {"save_nclx_profile": False}, {"matrix_coefficients": 2}, {"matrix_coefficients": 4},
       {"matrix_coefficients": 8}],
    ids=str,
)  # fmt: skip
def test_decode_large_heic_is_reduced_by_the_matrix_that_it_names(tmp_path, options):
    picture = Image.new("RGB", (256, 128))
    for number, colour in enumerate(COLOURS):
        picture.paste(colour, (32 * number, 0, 32 * number + 32, 128))
    path = tmp_path / "picture"
    pillow_heif.from_pillow(picture).save(path, quality=95, **options)
    found = opened(path).image
    found.draft("RGB", (128, 64))
    found.load()
    whole = by_pillow_heif(path).reduce(2)
    for number in range(len(COLOURS)):
        middle = (16 * number + 4, 4, 16 * number + 12, 60)
        assert largest_difference(found.crop(middle), whole.crop(middle)) <= 2


def test_decode_large_heic_is_converted_only_once_it_is_reduced(
    tmp_path, make_picture, monkeypatch
):
    image = opened(saved(make_picture(), tmp_path)).image
    monkeypatch.setattr(heic, "_copied", None)
    image.draft("RGB", (48, 48))
    assert image.getpixel((5, 5))


def test_load_large_heic_of_10_bits_is_reduced_as_the_whole_would_be(tmp_path):
    ramp = np.linspace(0, 65535, 128 * 96 * 3).reshape(96, 128, 3).astype(np.uint16)
    path = tmp_path / "picture"
    pillow_heif.encode("RGB;16", (128, 96), ramp.tobytes(), path, format="HEIF", quality=90)
    image = opened(path).image
    image.draft("RGB", (64, 48))
    assert image.tobytes() == by_pillow_heif(path).reduce(2).tobytes()


def test_decode_large_heic_cut_short_is_refused(tmp_path, make_picture):
    path = saved(make_picture(), tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"damaged|cannot be decoded"):
        decode(path, max_pixels=10**6)


def test_decode_large_heic_with_a_broken_stream_is_refused(tmp_path, make_picture):
    path = saved(make_picture(), tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"mdat") + 4] + bytes(len(data)))
    with pytest.raises(DataError, match="is truncated or damaged: "):
        decode(path, max_pixels=10**6)


@pytest.mark.parametrize("mode", ["RGBA", "L"])
def test_open_large_heic_leaves_others_to_pillow_heif(tmp_path, make_picture, mode):
    path = saved(make_picture().convert(mode), tmp_path)
    assert not isinstance(opened(path).image, heic.LargeHeic)
    assert decode(path, max_pixels=10**6).size == (96, 96)


def test_open_large_heic_leaves_smaller_ones_to_pillow_heif(tmp_path, make_picture, monkeypatch):
    monkeypatch.setattr(heic, "_LARGE_PIXELS", 96 * 96)
    assert not isinstance(opened(saved(make_picture(), tmp_path)).image, heic.LargeHeic)


@pytest.mark.parametrize(
    ("name", "value"), [("_library", lambda: None), ("_WITH_CODEC_THREADS", 99)]
)
def test_open_large_heic_without_a_fitting_library_leaves_it_to_pillow_heif(
    tmp_path, make_picture, monkeypatch, name, value
):
    path = saved(make_picture(), tmp_path)
    threaded = decode(path, max_pixels=10**6)
    monkeypatch.setattr(heic, name, value)
    assert not isinstance(opened(path).image, heic.LargeHeic)
    assert decode(path, max_pixels=10**6).pixel_digest() == threaded.pixel_digest()


def test_load_large_heic_asks_the_codec_for_threads(tmp_path, make_picture, monkeypatch):
    image = opened(saved(make_picture(), tmp_path)).image
    library, asked = heic._library(), []
    real = library.heif_decode_image

    class Watching:
        def __getattr__(self, name):
            return getattr(library, name)

        def heif_decode_image(self, *arguments):
            asked.append(arguments[-1].contents.num_codec_threads)
            return real(*arguments)

    monkeypatch.setattr(heic, "_library", Watching)
    image.load()
    assert asked == [2]
