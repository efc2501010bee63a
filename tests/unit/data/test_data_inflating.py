"""Large PNG pictures are inflated ahead in a second thread, and judged as Pillow judges them."""

import io
import itertools
import struct
import threading
import zlib

import pytest
from PIL import Image

from boothline.data import inflating
from boothline.data.decoding import decode
from boothline.errors import DataError

SIZE = (40, 30)
ROWS = b"".join(bytes([y % 5]) + bytes((x * y) % 251 for x in range(120)) for y in range(30))
STREAM = zlib.compress(ROWS)
HEADER = struct.pack(">IIBBBBB", *SIZE, 8, 2, 0, 0, 0)


@pytest.fixture(autouse=True)
def all_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inflating, "_LARGE_PIXELS", SIZE[0] * SIZE[1] - 1)
    monkeypatch.setattr(inflating, "_INFLATED_BYTES", 1000)


def chunk(name: bytes, data: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(name + data))
    return struct.pack(">I", len(data)) + name + data + check


def png(*streams: bytes, header: bytes = HEADER, after: bytes = b"") -> bytes:
    parts = [chunk(b"IDAT", stream) for stream in streams]
    magic = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return magic + b"".join(parts) + after + chunk(b"IEND", b"")


def saved(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", **options)
    return buffer.getvalue()


def result(image: Image.Image) -> object:
    try:
        return image.mode, image.tobytes(), dict(image.info)
    except (OSError, SyntaxError) as error:
        return str(error)


def both_ways(data: bytes) -> tuple[object, object]:
    image = inflating.open_png(io.BytesIO(data))
    assert isinstance(image, inflating.LargePng)
    return result(image), result(Image.open(io.BytesIO(data), formats=("PNG",)))


@pytest.mark.parametrize("level", [0, 1, 9])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_large_png_gives_the_pixels_that_pillow_finds(make_picture, mode, level):
    picture = make_picture().convert("L" if mode == "I;16" else mode).convert(mode)
    ahead, alone = both_ways(saved(picture, compress_level=level))
    assert ahead == alone
    assert ahead == (mode, picture.tobytes(), {})


def test_large_png_of_16_bits_a_channel_gives_the_pixels_that_pillow_finds():
    rows = b"".join(bytes([y % 5]) + bytes((x * y) % 251 for x in range(240)) for y in range(30))
    header = struct.pack(">IIBBBBB", *SIZE, 16, 2, 0, 0, 0)
    ahead, alone = both_ways(png(zlib.compress(rows), header=header))
    assert ahead == alone
    assert ahead[0] == "RGB"


def test_large_interlaced_png_gives_the_pixels_that_pillow_finds():
    passes = [(8, 8), (8, 8), (4, 8), (4, 4), (2, 4), (2, 2), (1, 2)]
    starts = [(0, 0), (4, 0), (0, 4), (2, 0), (0, 2), (1, 0), (0, 1)]
    rows = b""
    for (across, down), (left, top) in zip(passes, starts, strict=True):
        width = len(range(left, SIZE[0], across))
        for y in range(top, SIZE[1], down):
            rows += bytes([y % 3]) + bytes((x * y) % 251 for x in range(3 * width))
    header = struct.pack(">IIBBBBB", *SIZE, 8, 2, 0, 0, 1)
    ahead, alone = both_ways(png(zlib.compress(rows), header=header))
    assert ahead == alone
    assert ahead[2]["interlace"] == 1


@pytest.mark.parametrize("num_bytes", [1, 7, 100])
def test_large_png_in_many_chunks_and_empty_ones_is_read(num_bytes):
    streams = [STREAM[at : at + num_bytes] for at in range(0, len(STREAM), num_bytes)]
    ahead, alone = both_ways(png(b"", *itertools.chain(*zip(streams, itertools.repeat(b"")))))
    assert ahead == alone == both_ways(png(STREAM))[0]


WRONG = STREAM[:-1] + bytes([STREAM[-1] ^ 1])
DAMAGED = {
    "wrong check": ([WRONG], "broken data stream"),
    "wrong check in a chunk of its own": ([WRONG[:-4], WRONG[-4:]], None),
    "no check": ([STREAM[:-4]], None),
    "broken header": ([b"\0" + STREAM[1:]], "broken data stream"),
    "broken in the middle": ([STREAM[:200] + bytes(50) + STREAM[250:]], "data stream"),
    "broken at a chunk": ([STREAM[:200], b"\xff" * 50, STREAM[250:]], "data stream"),
    "cut short": ([STREAM[:300]], "truncated"),
    "ends within a row": ([zlib.compress(ROWS[:-1])], "truncated"),
    "ends behind a row": ([zlib.compress(ROWS[: 121 * 20])], None),
    "too long": ([zlib.compress(ROWS * 3)], None),
    "too long with a wrong check": ([zlib.compress(ROWS * 3)[:-1] + b"?"], None),
    "more behind the stream": ([STREAM, b"more" * 999], None),
    "an unknown filter": ([zlib.compress(b"\5" + ROWS[1:])], "unrecognized data stream contents"),
    "nothing": ([b""], "truncated"),
}  # fmt: skip


@pytest.mark.parametrize(("streams", "said"), DAMAGED.values(), ids=DAMAGED)
def test_large_damaged_png_is_judged_as_pillow_does(streams, said):
    ahead, alone = both_ways(png(*streams))
    assert ahead == alone
    assert said in ahead if said else ahead[0] == "RGB"


def test_large_png_cut_anywhere_is_judged_as_pillow_does():
    data = png(STREAM[:400], STREAM[400:])
    for length in range(60, len(data), 7):
        assert len(set(map(repr, both_ways(data[:length])))) == 1, length


def test_large_png_broken_anywhere_is_judged_as_pillow_does():
    for at in range(0, len(STREAM), 3):
        stream = STREAM[:at] + bytes([STREAM[at] ^ 0x55]) + STREAM[at + 1 :]
        assert len(set(map(repr, both_ways(png(stream))))) == 1, at


def test_large_png_is_turned_by_exif_data_behind_its_pixels(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "picture"
    path.write_bytes(png(STREAM, after=chunk(b"eXIf", exif.tobytes()[6:])))
    assert decode(path, max_pixels=10**6).image.size == (30, 40)
    # What follows is read where the stream does not end either.
    path.write_bytes(png(STREAM[:-4], after=chunk(b"eXIf", exif.tobytes()[6:])))
    assert decode(path, max_pixels=10**6).image.size == (30, 40)


def test_large_png_without_a_text_that_is_left_out_is_read(tmp_path):
    path = tmp_path / "picture"
    path.write_bytes(png(STREAM, after=chunk(b"tEXt", b"k\0" + bytes(2**17))))
    found = decode(path, max_pixels=10**6)
    assert found.image.tobytes() == both_ways(png(STREAM))[1][1]


def test_decode_large_png_cut_short_is_refused(tmp_path):
    path = tmp_path / "picture"
    path.write_bytes(png(STREAM[:300]))
    with pytest.raises(DataError, match="is truncated or damaged: image file is truncated"):
        decode(path, max_pixels=10**6)


def test_large_png_that_inflates_beyond_measure_takes_pieces_only():
    image = inflating.LargePng(io.BytesIO(png(zlib.compress(bytes(10**7)))))
    image.load_prepare()
    image.fp.seek(image.tile[0].offset)
    sizes = [len(image.load_read(0)) for _ in range(5)]
    image.load_end()
    assert max(sizes) < 2 * inflating._INFLATED_BYTES


def test_large_png_is_inflated_in_another_thread(monkeypatch):
    threads = set()
    real = inflating._steps

    def watched(*arguments):
        threads.add(threading.current_thread())
        return real(*arguments)

    monkeypatch.setattr(inflating, "_steps", watched)
    image = inflating.open_png(io.BytesIO(png(STREAM)))
    image.load()
    assert len(threads) == 1
    assert threading.current_thread() not in threads
    assert not any(thread.is_alive() for thread in threads)


def test_open_png_leaves_small_ones_and_several_frames_to_pillow(make_picture, monkeypatch):
    frames = [make_picture(), Image.new("RGB", (96, 96), "red")]
    several = saved(frames[0], save_all=True, append_images=frames[1:])
    assert not isinstance(inflating.open_png(io.BytesIO(several)), inflating.LargePng)
    monkeypatch.setattr(inflating, "_LARGE_PIXELS", SIZE[0] * SIZE[1])
    assert not isinstance(inflating.open_png(io.BytesIO(png(STREAM))), inflating.LargePng)
