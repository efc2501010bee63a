import io
import os
import random
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from boothline.data.limits import Limits
from boothline.data.naming import shown_name
from boothline.data.sources import collect
from boothline.errors import ConfigError, DataError, StoreError
from boothline.store import s3

SLIPS = ("../evil.png", "/evil/evil.png", "a/../../evil.png", "C:\\evil.png", "..\\evil.png")


def _tar(path: Path, members: list[tarfile.TarInfo | tuple[str, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return path


def _zip(path: Path, members: list[tuple[str | zipfile.ZipInfo, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def _tar_entry(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def _everything_below(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_collect_folder_sorts_and_leaves_sidecars_and_hidden_files_out(tmp_path, no_services):
    source = tmp_path / "pictures"
    source.mkdir()
    for name in (
        "b.png",
        "a.jpg",
        ".hidden.png",
        "notes.md",
        "LICENSE",
        "a.txt",
        "other.txt",
        "Thumbs.db",
    ):
        (source / name).write_bytes(name.encode())
    found = collect(str(source), tmp_path / "scratch", settings=no_services)
    assert [file.name for file in found.pictures] == ["a.jpg", "b.png"]
    assert list(found.captions) == ["a"]
    assert found.pictures[0].path.read_bytes() == b"a.jpg"


def test_collect_folder_with_subfolder_names_it(tmp_path, no_services):
    source = tmp_path / "pictures"
    (source / "more").mkdir(parents=True)
    (source / "a.png").write_bytes(b"a")
    (source / "more" / "b.png").write_bytes(b"b")
    found = collect(str(source), tmp_path / "scratch", settings=no_services)
    assert [file.name for file in found.pictures] == ["a.png"]
    assert found.ignored_folders == ("more",)


def test_collect_folder_with_pipe_and_outside_link_refuses_both(tmp_path, no_services):
    source = tmp_path / "pictures"
    source.mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    (source / "link.png").symlink_to(tmp_path / "secret")
    (source / "gone.png").symlink_to(source / "missing")
    os.mkfifo(source / "pipe.png")
    (source / "a.png").write_bytes(b"a")
    (source / "inside.png").symlink_to(source / "a.png")
    found = collect(str(source), tmp_path / "scratch", settings=no_services)
    assert [file.name for file in found.pictures] == ["a.png", "inside.png"]
    assert [refusal.name for refusal in found.refused] == ["gone.png", "link.png", "pipe.png"]


def test_collect_fingerprint_follows_names_and_bytes_only(tmp_path, no_services):
    prints = []
    for number, (name, data) in enumerate(
        [("a.png", b"1"), ("a.png", b"1"), ("b.png", b"1"), ("a.png", b"2")]
    ):
        source = tmp_path / str(number)
        source.mkdir()
        (source / name).write_bytes(data)
        found = collect(str(source), tmp_path / f"scratch-{number}", settings=no_services)
        prints.append(found.fingerprint())
    assert prints[0] == prints[1]
    assert prints[0] != prints[2]
    assert prints[0] != prints[3]


@pytest.mark.parametrize("source", ["missing", "missing.zip"])
def test_collect_missing_path_is_config_error(tmp_path, no_services, source):
    with pytest.raises(ConfigError, match="no such folder"):
        collect(str(tmp_path / source), tmp_path / "scratch", settings=no_services)


@pytest.mark.parametrize(
    "source", ["http://169.254.169.254/x", "file:///etc/passwd", "https://x/y.zip"]
)
def test_collect_url_is_config_error(tmp_path, no_services, source):
    with pytest.raises(ConfigError, match="cannot be read"):
        collect(source, tmp_path / "scratch", settings=no_services)


def test_collect_empty_folder_is_data_error(tmp_path, no_services):
    (tmp_path / "pictures").mkdir()
    with pytest.raises(DataError, match="holds no pictures"):
        collect(str(tmp_path / "pictures"), tmp_path / "scratch", settings=no_services)


def test_collect_plain_file_is_config_error(tmp_path, no_services):
    (tmp_path / "a.png").write_bytes(b"not an archive")
    with pytest.raises(ConfigError, match="neither a folder nor"):
        collect(str(tmp_path / "a.png"), tmp_path / "scratch", settings=no_services)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "zip"])
def test_collect_archive_gives_its_files(tmp_path, no_services, mode):
    members = [
        ("teddy/b.png", b"b"),
        ("teddy/a.png", b"a"),
        ("teddy/a.txt", b"c"),
        ("__MACOSX/a.png", b"x"),
    ]
    if mode == "zip":
        path = _zip(tmp_path / "x.zip", members)
    else:
        path = _tar(tmp_path / "x.tar", [*members, _tar_entry("teddy", tarfile.DIRTYPE)], mode)
    found = collect(str(path), tmp_path / "scratch", settings=no_services)
    assert [(f.name, f.path.read_bytes()) for f in found.pictures] == [
        ("teddy/a.png", b"a"),
        ("teddy/b.png", b"b"),
    ]
    assert list(found.captions) == ["teddy/a"]


@pytest.mark.parametrize("name", SLIPS)
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_collect_archive_with_name_that_leads_outside_writes_nothing_there(
    tmp_path, no_services, kind, name
):
    members = [(name, b"evil"), ("good.png", b"good")]
    path = _zip(tmp_path / "x.zip", members) if kind == "zip" else _tar(tmp_path / "x.tar", members)
    before = _everything_below(tmp_path)
    scratch = tmp_path / "scratch"
    found = collect(str(path), scratch, settings=no_services)
    assert [file.name for file in found.pictures] == ["good.png"]
    assert len(found.refused) == 1
    assert _everything_below(tmp_path) - before - _everything_below(scratch) == {scratch}


@pytest.mark.parametrize(
    "entry",
    [
        _tar_entry("link.png", tarfile.SYMTYPE, "/etc/passwd"),
        _tar_entry("inside.png", tarfile.SYMTYPE, "good.png"),
        _tar_entry("hard.png", tarfile.LNKTYPE, "/etc/passwd"),
        _tar_entry("device.png", tarfile.CHRTYPE),
        _tar_entry("block.png", tarfile.BLKTYPE),
        _tar_entry("pipe.png", tarfile.FIFOTYPE),
    ],
    ids=lambda entry: entry.name,
)
def test_collect_tar_with_link_or_device_refuses_it(tmp_path, no_services, entry):
    path = _tar(tmp_path / "x.tar", [entry, ("good.png", b"good")])
    found = collect(str(path), tmp_path / "scratch", settings=no_services)
    assert [refusal.name for refusal in found.refused] == [entry.name]
    assert all(stat.S_ISREG(p.lstat().st_mode) for p in _everything_below(tmp_path / "scratch"))


def test_collect_zip_with_link_refuses_it(tmp_path, no_services):
    link = zipfile.ZipInfo("link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = _zip(tmp_path / "x.zip", [(link, b"/etc/passwd"), ("good.png", b"good")])
    found = collect(str(path), tmp_path / "scratch", settings=no_services)
    assert [refusal.name for refusal in found.refused] == ["link.png"]


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_collect_archive_bomb_stops_at_the_limit(tmp_path, no_services, kind):
    members = [("bomb.png", b"\0" * 3_000_000)]
    path = (
        _zip(tmp_path / "x.zip", members)
        if kind == "zip"
        else _tar(tmp_path / "x.tgz", members, "w:gz")
    )
    found = collect(
        str(path), tmp_path / "scratch", settings=no_services, limits=Limits(max_file_bytes=2**20)
    )
    assert [(item.name, item.reason) for item in found.refused] == [
        ("bomb.png", "is larger than 1 MiB")
    ]
    assert found.pictures == ()
    assert sum(p.stat().st_size for p in (tmp_path / "scratch").iterdir()) <= 2**20


def test_collect_files_too_large_together_are_refused(tmp_path, no_services):
    path = _zip(tmp_path / "x.zip", [(f"{n}.png", b"\0" * 600_000) for n in range(3)])
    with pytest.raises(DataError, match="larger than 1 MiB together"):
        collect(
            str(path),
            tmp_path / "scratch",
            settings=no_services,
            limits=Limits(max_total_bytes=2**20),
        )


def test_collect_too_many_files_are_refused(tmp_path, no_services):
    path = _zip(tmp_path / "x.zip", [(f"{n}.png", b"x") for n in range(4)])
    with pytest.raises(DataError, match="more than 3 files"):
        collect(str(path), tmp_path / "scratch", settings=no_services, limits=Limits(max_files=3))


@pytest.mark.parametrize(("kind", "start"), [("tar", 20), ("tar", 6000), ("zip", 6000)])
def test_collect_damaged_archive_is_data_error(tmp_path, no_services, kind, start):
    members = [(f"{n}.png", random.Random(n).randbytes(5000)) for n in range(4)]
    path = (
        _zip(tmp_path / "x.zip", members)
        if kind == "zip"
        else _tar(tmp_path / "x.tgz", members, "w:gz")
    )
    data = bytearray(path.read_bytes())
    data[start : start + 100] = bytes(100)
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match="is damaged"):
        collect(str(path), tmp_path / "scratch", settings=no_services)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain picture.png", "plain picture.png"),
        ("Bär.png", "Bär.png"),
        ("a\nb.png", r"a\nb.png"),
        ("\x1b[31mred.png", r"\x1b[31mred.png"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("$(touch x).png", "$(touch x).png"),
        ("bad\udcff.png", r"bad\xff.png"),
    ],
)
def test_shown_name_escapes_what_is_not_printable(name, shown):
    assert shown_name(name) == shown


def test_shown_name_long_name_is_shortened_but_keeps_its_end():
    shown = shown_name("x" * 5000 + ".png")
    assert len(shown) <= 120
    assert shown.endswith(".png")


@pytest.mark.parametrize("run_id", ["", "20260131-093000-1a2b"])
def test_collect_from_a_store_waits_for_it_in_a_run_alone(
    tmp_path, no_services, monkeypatch, run_id
):
    def connect(settings, *, brisk):
        raise StoreError("brisk" if brisk else "patient")

    monkeypatch.setattr(s3.Bucket, "connect", connect)
    settings = no_services.model_copy(update={"run_id": run_id})
    with pytest.raises(StoreError, match="patient" if run_id else "brisk"):
        collect("s3://bucket/pictures/", tmp_path / "scratch", settings=settings)
