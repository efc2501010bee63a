"""Files that are not read are named for what they are, and say what to do."""

import struct
import zipfile
from pathlib import Path

import pytest

from boothline.data.decoding import decode
from boothline.data.sources import collect
from boothline.errors import DataError
from boothline.settings import Settings

REST = bytes(range(1, 200))
STRANGERS = {
    "a video": [b"\0\0\x01\xba", b"\0\0\x01\xb3", b"FLV\x01", b"RIFF\x10\0\0\0AVI LIST"],
    "a video or a sound": [b"OggS", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"],
    "a sound": [b"RIFF\x10\0\0\0WAVEfmt "],
    "a raw camera file (RED R3D)": [b"\0\0\x01\x28RED2", b"\0\0\x01\x28RED1"],
    "a raw camera file (Phantom CINE)": [b"CI\x2c\0"],
    "a raw camera file (ARRIRAW)": [b"ARRI\x12\x34"],
    "a raw camera file (Minolta MDC)": [b"\0MDC"],
    "a raw camera file (Rawzor RWZ)": [b"rawz"],
    "a raw camera file (Kodak)": [b"EASTMAN KODAK COMPANY"],
    "a raw camera file (Blackmagic BRAW)": [b"\0\0\0\x14ftypbraw"],
    "a pointer of Git LFS to a picture that was not fetched": [
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    ],
    "a RAR archive": [b"Rar!\x1a\x07\x01\0", b"Rar!\x1a\x07\0"],
    "a 7-Zip archive": [b"7z\xbc\xaf\x27\x1c"],
    "an xz archive": [b"\xfd7zXZ\0"],
    "a bzip2 archive": [b"BZh91AY&SY"],
    "a Zstandard archive": [b"\x28\xb5\x2f\xfd"],
    "a Windows icon": [b"\0\0\x01\0\x01\0"],
    "a Windows cursor": [b"\0\0\x02\0\x01\0"],
    "an icon of macOS": [b"icns"],
    "a DDS texture": [b"DDS |\0\0\0"],
    "a QOI picture": [b"qoif"],
    "an SGI picture": [b"\x01\xda\x01\x01"],
    "an OpenEXR picture": [b"\x76\x2f\x31\x01"],
    "a Radiance HDR picture": [b"#?RADIANCE\n", b"#?RGBE\n"],
    "a JPEG XR picture": [b"II\xbc\x01"],
    "a BPG picture": [b"BPG\xfb"],
    "a FLIF picture": [b"FLIF33"],
    "a FITS picture": [b"SIMPLE  =                    T"],
    "a GIMP document": [b"gimp xcf file\0"],
    "a Clip Studio document": [b"CSFCHUNK"],
    "a Windows metafile": [b"\xd7\xcd\xc6\x9a", b"\x01\0\0\0" + bytes(36) + b" EMF"],
    "an Office document": [b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"],
    "a DICOM picture": [bytes(128) + b"DICM"],
    "a Netpbm picture (PPM, PGM, PBM)": [
        b"P5 4 4 255\n",
        b"P6\n# a comment\n4 4\n255\n",
        b"P7\nWIDTH",
    ],
    "a JPEG picture with other bytes in front": [
        b"\r\n\xff\xd8\xff\xe0",
        b"\xef\xbb\xbf\xff\xd8\xff",
    ],
    "a PNG picture damaged by a transfer as text": [b"\x89PNG\n\x1a\n", b"\x89PNG\r\n\x1a\r\n"],
    "a PNG picture as Xcode rewrites it for an iPhone": [
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 4) + b"CgBI\x50\0\x20\x06"
    ],
}
ADVICE = {
    "a video": "Take a still from it and save that, or leave it out.",
    "a RAR archive": "Unpack it, and put the pictures themselves here.",
    "a pointer of Git LFS to a picture that was not fetched": (
        "Fetch the pictures with `git lfs pull`."
    ),
    "a PNG picture damaged by a transfer as text": "Copy it again, as a binary file.",
    "a QOI picture": "Save it as JPEG, PNG or WebP.",
}


def refusal(data: bytes, folder: Path) -> DataError:
    path = folder / "picture"
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        decode(path, max_pixels=10**6)
    return caught.value


@pytest.mark.parametrize(
    ("kind", "start"), [(kind, start) for kind, starts in STRANGERS.items() for start in starts]
)
def test_decode_stranger_is_refused_by_name(tmp_path: Path, kind: str, start: bytes) -> None:
    error = refusal(start + REST, tmp_path)
    assert error.message == f"is {kind}, which is not read"
    assert error.remedy == ADVICE.get(kind, error.remedy)


def test_decode_file_of_zeros_says_so(tmp_path: Path) -> None:
    error = refusal(bytes(5000), tmp_path)
    assert error.message.startswith("is nothing but zeros")
    assert error.remedy == "Copy it again."


@pytest.mark.parametrize("name", [".a.heic.icloud", "sub/.a.heic.icloud"])
def test_collect_placeholder_of_icloud_is_named(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(name, b"bplist00")
        archive.writestr("b.png", b"b")
    found = collect(str(tmp_path / "a.zip"), tmp_path / "scratch", settings=Settings())
    assert [file.name for file in found.pictures] == ["b.png"]
    (refused,) = found.refused
    assert refused.name == name.replace("/.", "/").removeprefix(".").removesuffix(".icloud")
    assert refused.reason == "is kept in iCloud only"


def test_collect_zip_member_of_an_unknown_method_leaves_out_that_one(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", b"aaaa")
        archive.writestr("b.png", b"bbbb")
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")
    for at in (8, entry + 10):  # the method, in the header of the first member and in the list
        data[at : at + 2] = struct.pack("<H", 9)
    path.write_bytes(data)
    found = collect(str(path), tmp_path / "scratch", settings=Settings())
    assert [file.name for file in found.pictures] == ["b.png"]
    assert [item.name for item in found.refused] == ["a.png"]
    assert found.refused[0].reason == "is packed in a way that is not read"
