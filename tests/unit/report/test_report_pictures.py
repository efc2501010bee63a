import base64
import io

import pytest
from PIL import Image

from boothline.errors import DataError
from boothline.report.pictures import Wanted, encode, spread
from boothline.store import ManifestRef


def picture(size: tuple[int, int], *, mode: str = "RGB", kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, "orange" if mode == "RGB" else 0).save(buffer, format=kind)
    return buffer.getvalue()


def decoded(uri: str) -> bytes:
    return base64.b64decode(uri.partition(",")[2])


def test_encode_small_png_keeps_its_bytes() -> None:
    data = picture((64, 64))

    uri, width_px, height_px = encode(data)

    assert uri.startswith("data:image/png;base64,")
    assert decoded(uri) == data
    assert (width_px, height_px) == (64, 64)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1"])
def test_encode_large_picture_is_scaled_down(mode) -> None:
    uri, width_px, height_px = encode(picture((2000, 1000), mode=mode), max_side_px=512)

    assert (width_px, height_px) == (512, 256)
    assert Image.open(io.BytesIO(decoded(uri))).size == (512, 256)


@pytest.mark.parametrize("data", [b"", b"no picture", picture((64, 64))[:80]])
def test_encode_of_other_bytes_is_a_data_error(data) -> None:
    with pytest.raises(DataError, match="not a picture"):
        encode(data)


def wanted(count: int) -> list[Wanted]:
    ref = ManifestRef(path="steps/x/y", digest="0" * 64)
    return [Wanted(ref=ref, path=f"images/{i}.png", alt=str(i)) for i in range(count)]


@pytest.mark.parametrize(
    ("count", "limit", "expected"),
    [(3, 5, ["0", "1", "2"]), (9, 3, ["0", "4", "8"]), (9, 1, ["0"]), (9, 0, []), (0, 4, [])],
)
def test_spread_keeps_the_ends(count, limit, expected) -> None:
    assert [item.alt for item in spread(wanted(count), limit)] == expected
