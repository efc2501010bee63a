"""Files as phones, cameras and programs write them: read for what they are, or refused by name."""

import io
import random
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from boothline.data.decoder import Picture, Unreadable, decode_all
from boothline.data.decoding import decode
from boothline.data.limits import Limits
from boothline.errors import DataError

pillow_heif = pytest.importorskip("pillow_heif", reason="needs the extra heif")

VIDEO = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom"
Entry = tuple[int, int, int]


def _decode(path: Path) -> Image.Image:
    return decode(path, max_pixels=2_000_000).image


def _refusal(path: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        decode(path, max_pixels=2_000_000)
    return caught.value


def _jpeg(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=92, **options)
    return buffer.getvalue()


@pytest.mark.proves("F60/motion")
@pytest.mark.parametrize("progressive", [False, True], ids=["baseline", "progressive"])
@pytest.mark.parametrize("megabytes", [0, 1, 4, 8])
def test_decode_motion_photo_gives_its_picture(tmp_path, make_picture, megabytes, progressive):
    plain = _jpeg(make_picture(), progressive=progressive)
    path = tmp_path / "picture"
    path.write_bytes(plain)
    alone = _decode(path)
    # As compressed video does, noise has the start of a scan every 65,536 bytes or so.
    path.write_bytes(plain + VIDEO + random.Random(megabytes).randbytes(megabytes * 1_000_000))
    assert _decode(path).tobytes() == alone.tobytes()


def test_decode_jpeg_counts_no_scan_behind_its_end(tmp_path, make_picture):
    behind = b"\0\2" + b"\xff\xda\0\4\0\0" * 100
    (tmp_path / "picture").write_bytes(_jpeg(make_picture()) + behind)
    assert _decode(tmp_path / "picture").size == (96, 96)


def test_decode_jpeg_with_many_scans_of_its_own_is_still_a_trap(tmp_path, make_picture):
    data = _jpeg(make_picture(), progressive=True)
    start = data.index(b"\xff\xda")
    (tmp_path / "trap").write_bytes(data[:-2] + data[start:-2] * 8 + b"\xff\xd9")
    assert "more than 50 scans" in _refusal(tmp_path / "trap").message


def test_decode_jpeg_counts_no_scan_inside_its_metadata(tmp_path, make_picture):
    comment = b"\xff\xda" * 1000
    (tmp_path / "picture").write_bytes(_jpeg(make_picture(), comment=comment))
    assert _decode(tmp_path / "picture").size == (96, 96)


@pytest.mark.parametrize("damage", [b"", b"\0", b"\xff"], ids=["whole", "zeros", "ones"])
def test_decode_jpeg_of_several_pictures_gives_the_first(tmp_path, make_picture, damage):
    path = tmp_path / "picture"
    make_picture(1).save(
        path, format="MPO", save_all=True, append_images=[make_picture(2)], quality=92
    )
    data = bytearray(path.read_bytes())
    if damage:  # the table of the pictures, not the pictures
        at = data.index(b"MPF\0") + 8
        data[at : at + 60] = damage * 60
        path.write_bytes(bytes(data))
    alone = tmp_path / "alone"
    alone.write_bytes(_jpeg(make_picture(1)))
    assert _decode(path).tobytes() == _decode(alone).tobytes()


def _large(path: Path, size: tuple[int, int], **options: object) -> None:
    image = Image.new("L", size, 40)
    image.paste(200, (0, 0, size[0] // 2, size[1]))
    image.save(path, quality=80, **options)


@pytest.mark.parametrize(
    ("size", "part"),
    [((9248, 6936), 4), ((12000, 9000), 4), ((16320, 12240), 4)],
    ids=["64", "108", "200"],
)
def test_decode_large_phone_jpeg_is_read_at_a_part_of_its_size(tmp_path, size, part):
    path = tmp_path / "picture.jpg"
    _large(path, size)
    (picture,) = decode_all([path], sizes_px=[(512, 512)], folder=tmp_path / "d", limits=Limits())
    assert isinstance(picture, Picture)
    assert (picture.width_px, picture.height_px) == size
    assert f"read at 1/{part} of its width" in picture.remarks[0]
    assert picture.notes == ()
    pixels = np.asarray(picture.cut())
    assert (pixels[:, 100].mean(), pixels[:, 400].mean()) == pytest.approx((200, 40), abs=2)


@pytest.mark.parametrize(
    ("size", "options", "reason"),
    [
        ((16320, 12240), {"progressive": True}, "progressive JPEG of 200 million pixels"),
        ((20000, 13000), {}, "more than 250 million pixels"),
    ],
)
def test_decode_jpeg_that_no_worker_can_hold_is_refused_by_name(tmp_path, size, options, reason):
    path = tmp_path / "picture.jpg"
    _large(path, size, **options)
    (result,) = decode_all([path], sizes_px=[(512, 512)], folder=tmp_path / "d", limits=Limits())
    assert isinstance(result, Unreadable)
    assert reason in result.reason


def test_decode_large_png_is_reduced_within_the_limit(tmp_path):
    path = tmp_path / "picture.png"
    Image.new("RGB", (9248, 6936), (9, 99, 199)).save(path, compress_level=1)
    (picture,) = decode_all([path], sizes_px=[(512, 512)], folder=tmp_path / "d", limits=Limits())
    assert isinstance(picture, Picture)
    assert (picture.width_px, picture.cut().getpixel((5, 5))) == (9248, (9, 99, 199))


def test_decode_jpeg_reduced_keeps_its_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    _large(tmp_path / "picture.jpg", (9248, 6936), exif=exif.tobytes())
    decoded = decode(tmp_path / "picture.jpg", max_pixels=2_000_000)
    assert (decoded.size, decoded.image.size) == ((6936, 9248), (3468, 4624))
    assert decoded.image.getpixel((1000, 100)) == pytest.approx((200,) * 3, abs=2)


@pytest.mark.parametrize("kind", ["tEXt", "zTXt", "iTXt", "zipped-iTXt", "many", "private"])
def test_decode_png_with_large_extra_chunks_leaves_them_out(tmp_path, make_picture, kind):
    plain = tmp_path / "plain.png"
    make_picture().save(plain)
    info = PngImagePlugin.PngInfo()
    if kind == "tEXt":
        info.add_text("workflow", "x" * 30_000_000)
    elif kind == "zTXt":
        info.add_text("workflow", "x" * 30_000_000, zip=True)
    elif kind == "iTXt":
        info.add_itxt("workflow", "é" * 20_000_000)
    elif kind == "zipped-iTXt":
        info.add_itxt("workflow", "é" * 20_000_000, zip=True)
    elif kind == "private":
        info.add(b"prVt", bytes(30_000_000))
    else:
        for number in range(200):
            info.add_text(f"note {number}", "x" * 900_000, zip=True)
    path = tmp_path / "picture.png"
    make_picture().save(path, pnginfo=info)
    (picture,) = decode_all([path], sizes_px=[(32, 32)], folder=tmp_path / "d", limits=Limits())
    assert isinstance(picture, Picture)
    assert picture.pixel_digest == decode(plain, max_pixels=2_000_000).pixel_digest()


def test_decode_png_keeps_the_orientation_in_a_text_that_it_reads(tmp_path, make_picture):
    info = PngImagePlugin.PngInfo()
    info.add_itxt(
        "XML:com.adobe.xmp",
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>',
    )
    info.add_text("workflow", "x" * 3_000_000)
    make_picture(width=80, height=40).save(tmp_path / "picture.png", pnginfo=info)
    assert _decode(tmp_path / "picture.png").size == (40, 80)


def test_decode_png_with_one_damaged_byte_of_its_pixels_is_refused(tmp_path, make_picture):
    make_picture().save(tmp_path / "picture.png")
    data = bytearray((tmp_path / "picture.png").read_bytes())
    data[-20] ^= 1  # of the checksum over the pixels
    (tmp_path / "picture.png").write_bytes(bytes(data))
    assert "truncated or damaged" in _refusal(tmp_path / "picture.png").message


def test_decode_png_with_profile_bomb_is_warned_about(tmp_path, make_picture):
    make_picture().save(tmp_path / "plain.png")
    data = (tmp_path / "plain.png").read_bytes()
    body = b"x\0\0" + zlib.compress(bytes(30_000_000))
    chunk = struct.pack(">I", len(body)) + b"iCCP" + body
    chunk += struct.pack(">I", zlib.crc32(b"iCCP" + body))
    (tmp_path / "bomb.png").write_bytes(data[:33] + chunk + data[33:])
    decoded = decode(tmp_path / "bomb.png", max_pixels=2_000_000)
    assert "damaged colour profile" in decoded.notes[0]


@pytest.mark.proves("F60/formats")
@pytest.mark.parametrize("suffix", ["heic", "avif"])
def test_decode_boxed_picture_gives_its_pixels(tmp_path, suffix):
    pillow_heif.register_heif_opener()
    image = Image.new("RGB", (128, 64), (200, 60, 60))
    image.paste((40, 160, 90), (0, 0, 64, 64))
    image.save(tmp_path / f"picture.{suffix}", quality=100)
    decoded = decode(tmp_path / f"picture.{suffix}", max_pixels=2_000_000)
    assert decoded.format == {"heic": "HEIF", "avif": "AVIF"}[suffix]
    assert decoded.image.getpixel((10, 10)) == pytest.approx((40, 160, 90), abs=4)
    assert decoded.image.getpixel((100, 10)) == pytest.approx((200, 60, 60), abs=4)


@pytest.mark.parametrize("suffix", ["heic", "avif"])
@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_decode_boxed_picture_is_turned_upright(tmp_path, suffix, orientation):
    pillow_heif.register_heif_opener()
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.new("RGB", (128, 64), "white")
    image.paste("red", (0, 0, 64, 64))
    path = tmp_path / f"picture.{suffix}"
    image.save(path, quality=90, exif=exif.tobytes())
    expected = {3: ((128, 64), (100, 30)), 6: ((64, 128), (30, 20)), 8: ((64, 128), (30, 100))}
    size, place = expected[orientation]
    decoded = decode(path, max_pixels=2_000_000)
    assert (decoded.size, decoded.image.size) == (size, size)
    assert decoded.image.getpixel(place) == pytest.approx((255, 0, 0), abs=12)


@pytest.mark.parametrize("suffix", ["heic", "avif"])
@pytest.mark.parametrize("tenths", [1, 3, 5, 7, 9])
def test_decode_truncated_boxed_picture_is_refused(tmp_path, make_picture, suffix, tenths):
    pillow_heif.register_heif_opener()
    path = tmp_path / f"picture.{suffix}"
    make_picture().save(path, quality=90)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * tenths // 10])
    assert _refusal(path).remedy


def test_decode_heic_without_its_decoder_names_the_extra(tmp_path, make_picture, monkeypatch):
    pillow_heif.register_heif_opener()
    make_picture().save(tmp_path / "picture.heic")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    refusal = _refusal(tmp_path / "picture.heic")
    assert "is a HEIC picture, which needs the extra heif" in refusal.message
    assert "pip install 'boothline[heif]'" in refusal.remedy


def _directory(entries: list[Entry], *, order: str, following: int = 0) -> bytes:
    body = b""
    for tag, kind, value in sorted(entries):
        code = "HHIH2x" if kind == 3 else "HHII"
        body += struct.pack(order + code, tag, kind, 1, value)
    return struct.pack(order + "H", len(entries)) + body + struct.pack(order + "I", following)


def _raw(
    *,
    order: str = "<",
    make: bytes = b"",
    first: tuple[Entry, ...] = (),
    below: tuple[Entry, ...] = (),
    behind: tuple[Entry, ...] = (),
) -> bytes:
    """Return a TIFF file: a preview of 256 x 192 pixels, directories below and behind it."""
    size = (256, 192)
    strip = 2000
    entries = [
        (256, 4, size[0]), (257, 4, size[1]), (258, 3, 8), (259, 3, 1), (262, 3, 1),
        (273, 4, strip), (277, 3, 1), (278, 4, size[1]), (279, 4, size[0] * size[1]), *first,
    ]  # fmt: skip
    data = bytearray(2000)
    if below:
        entries.append((330, 4, 1000))
        data[1000 : 1000 + 200] = _directory(list(below), order=order).ljust(200, b"\0")
    if behind:
        data[1400 : 1400 + 200] = _directory(list(behind), order=order).ljust(200, b"\0")
    if make:
        data[600 : 600 + len(make)] = make
    table = _directory(entries, order=order, following=1400 if behind else 0)
    if make:
        maker = struct.pack(order + "HHII", 271, 2, len(make), 600)
        count = struct.unpack(order + "H", table[:2])[0] + 1
        table = struct.pack(order + "H", count) + table[2:-4] + maker + table[-4:]
    data[:8] = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    data[8 : 8 + len(table)] = table
    return bytes(data) + bytes(size[0] * size[1])


SENSOR = ((256, 4, 6000), (257, 4, 4000), (262, 3, 32803))
PREVIEW = (254, 4, 1)
RAW_FILES = {
    "dng": (_raw(first=((50706, 1, 1), PREVIEW), below=SENSOR), "DNG"),
    "linear-dng": (_raw(order=">", first=((50706, 1, 1),)), "DNG"),
    "dng-of-a-phone": (_raw(make=b"Apple\0", first=((50706, 1, 1),), below=SENSOR), "DNG"),
    "nef": (_raw(make=b"NIKON CORPORATION\0", first=(PREVIEW,), below=SENSOR), "Nikon NEF"),
    "compressed-nef": (_raw(make=b"NIKON\0", below=((259, 3, 34713),)), "Nikon NEF"),
    "arw": (_raw(make=b"SONY\0", first=(PREVIEW,), below=((259, 3, 32767),)), "Sony ARW"),
    "pef": (_raw(order=">", make=b"PENTAX\0", behind=((259, 3, 65535),)), "Pentax PEF"),
    "srw": (_raw(make=b"SAMSUNG\0", below=SENSOR), "Samsung SRW"),
    "3fr": (_raw(make=b"Hasselblad\0", below=SENSOR), "Hasselblad 3FR"),
    "erf": (_raw(order=">", make=b"SEIKO EPSON CORP.\0", below=SENSOR), "Epson ERF"),
    "dcr": (_raw(order=">", make=b"EASTMAN KODAK COMPANY\0", behind=((259, 3, 65000),)), "Kodak"),
    "unknown": (_raw(below=SENSOR), "preview"),
    "cr2": (_raw()[:8] + b"CR\x02\0" + _raw()[12:], "Canon CR2"),
    "iiq": (_raw()[:8] + b"IIII" + _raw()[12:], "Phase One IIQ"),
    "orf": (b"IIRO\x08\0\0\0" + bytes(600), "Olympus ORF"),
    "rw2": (b"IIU\0\x18\0\0\0" + bytes(600), "Panasonic RW2"),
    "raf": (b"FUJIFILMCCD-RAW 0201" + bytes(600), "Fujifilm RAF"),
    "cr3": (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(600), "Canon CR3"),
    "x3f": (b"FOVb\0\0\4\0" + bytes(600), "Sigma X3F"),
    "mrw": (b"\0MRM\0\1\0\0" + bytes(600), "Minolta MRW"),
    "crw": (b"II\x1a\0\0\0HEAPCCDR" + bytes(600), "Canon CRW"),
}


@pytest.mark.proves("F60/raw")
@pytest.mark.parametrize("name", RAW_FILES)
def test_decode_raw_camera_file_is_refused_by_name(tmp_path, name):
    data, kind = RAW_FILES[name]
    (tmp_path / "picture").write_bytes(data)
    refusal = _refusal(tmp_path / "picture")
    assert "raw camera file" in refusal.message
    assert kind in refusal.message
    assert "JPEG" in refusal.remedy


@pytest.mark.parametrize("order", ["<", ">"])
def test_decode_tiff_that_is_no_raw_file_is_read(tmp_path, order):
    (tmp_path / "picture").write_bytes(_raw(order=order, make=b"Canon\0", behind=((262, 3, 1),)))
    assert _decode(tmp_path / "picture").size == (256, 192)


def test_decode_tiff_whose_directories_form_a_ring_ends(tmp_path):
    data = bytearray(_raw(below=((330, 4, 8), (256, 4, 1)), behind=((330, 4, 1400),)))
    (tmp_path / "picture").write_bytes(bytes(data))
    assert _decode(tmp_path / "picture").size == (256, 192)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\xff\x0a" + bytes(90), "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(90), "JPEG XL"),
        (b"\0\0\0\x18ftypqt  \0\0\0\0qt  ", "video"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "video"),
        (b"\x1aE\xdf\xa3" + bytes(90), "video"),
    ],
)
def test_decode_other_kinds_are_refused_by_name(tmp_path, data, kind):
    (tmp_path / "picture").write_bytes(data)
    assert kind in _refusal(tmp_path / "picture").message
