"""The spool file: what is read back, what a kill leaves, who may send it."""

import math
from pathlib import Path

import pytest

from boothline.settings import Settings
from boothline.tracking.spool import Entry, Spool, SpoolWriter, orphans, spool_folder


def entry(number: int) -> Entry:
    return Entry(kind="metrics", time_ms=1000 + number, numbers={"loss": number / 2}, step=number)


def write(spool: Spool, numbers: range) -> None:
    writer = SpoolWriter(spool)
    for number in numbers:
        writer.append(entry(number))
    writer.close()


def test_spool_read_returns_entries_in_order_and_in_pieces(tmp_path: Path) -> None:
    spool = Spool.new(tmp_path, "train")
    write(spool, range(5))
    first, offset = spool.read(max_entries=3)
    spool.acknowledge(offset)
    second, _ = Spool(spool.path).read()
    assert first == [entry(0), entry(1), entry(2)]
    assert second == [entry(3), entry(4)]


def test_spool_read_without_acknowledgement_returns_the_same_again(tmp_path: Path) -> None:
    spool = Spool.new(tmp_path, "train")
    write(spool, range(2))
    assert spool.read() == spool.read()


def test_spool_with_torn_last_line_gives_the_whole_lines(tmp_path: Path) -> None:
    spool = Spool.new(tmp_path, "train")
    write(spool, range(2))
    with spool.path.open("ab") as stream:
        stream.write(b'{"kind":"metr')
    assert spool.read()[0] == [entry(0), entry(1)]


def test_spool_with_torn_acknowledgement_starts_again(tmp_path: Path) -> None:
    spool = Spool.new(tmp_path, "train")
    write(spool, range(2))
    spool.acknowledge(spool.read()[1])
    spool.path.with_suffix(".sent").write_text("")
    assert len(spool.read()[0]) == 2


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_spool_keeps_numbers_that_json_lacks(tmp_path: Path, value: float) -> None:
    spool = Spool.new(tmp_path, "train")
    writer = SpoolWriter(spool)
    writer.append(Entry(kind="metrics", time_ms=1, numbers={"loss": value}))
    writer.close()
    (read,), _ = spool.read()
    assert repr(read.numbers["loss"]) == repr(value)


def test_spool_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    open_spool, closed_spool = Spool.new(tmp_path, "train"), Spool.new(tmp_path, "evaluate")
    write(closed_spool, range(1))
    writer = SpoolWriter(open_spool)
    with orphans(tmp_path) as found:
        assert [spool.step for spool in found] == ["evaluate"]
    writer.close()
    with orphans(tmp_path) as found:
        assert {spool.step for spool in found} == {"train", "evaluate"}


def test_spool_removed_leaves_no_file(tmp_path: Path) -> None:
    spool = Spool.new(tmp_path / "spool", "train")
    picture = tmp_path / "sheet.png"
    picture.write_bytes(b"png")
    writer = SpoolWriter(spool)
    name = writer.copy_in(picture)
    writer.append(entry(0))
    writer.close()
    spool.acknowledge(spool.read()[1])
    assert (spool.files / name).read_bytes() == b"png"
    spool.remove()
    assert list((tmp_path / "spool").iterdir()) == []


def test_spool_folder_lies_in_the_run_folder_if_there_is_one(tmp_path: Path) -> None:
    at_home = Settings(home=tmp_path, run_dir=None)
    in_run = Settings(home=tmp_path, run_dir=tmp_path / "runs" / "r1")
    assert spool_folder(at_home, "r1") == tmp_path / "spool" / "r1"
    assert spool_folder(in_run, "r1") == tmp_path / "runs" / "r1" / "spool"
