"""What happens to blobs on the local disk."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from boothline.errors import IntegrityError
from boothline.store import blobs
from boothline.store.blobs import _checked_parts, _link_or_copy, describe, sweep_parts


def test_describe_file_and_bytes_agree(tmp_path: Path) -> None:
    content = os.urandom(2_500_000)
    (tmp_path / "file").write_bytes(content)
    assert describe("p", tmp_path / "file") == describe("p", content)


def test_checked_parts_of_an_unchanged_file_are_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blobs, "MULTIPART_PART_BYTES", 4)
    (tmp_path / "file").write_bytes(b"abcdef")
    entry = describe("p", tmp_path / "file")
    assert list(_checked_parts(tmp_path / "file", entry)) == [b"abcd", b"ef"]
    assert list(_checked_parts(b"abcdef", entry)) == [b"abcd", b"ef"]


@pytest.mark.parametrize(
    ("content", "sent"), [(b"abcdeX", 4), (b"abc", 3), (b"Xbcdefgh", 4), (b"", 0)]
)
def test_checked_parts_of_a_changed_file_fail_before_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, sent: int
) -> None:
    monkeypatch.setattr(blobs, "MULTIPART_PART_BYTES", 4)
    (tmp_path / "file").write_bytes(b"abcdef")
    entry = describe("p", tmp_path / "file")
    (tmp_path / "file").write_bytes(content)
    received: list[bytes] = []
    with pytest.raises(IntegrityError, match="changed while it was stored"):
        received.extend(_checked_parts(tmp_path / "file", entry))
    assert b"".join(received) == content[:sent]


def test_link_or_copy_beside_a_process_that_caches_the_same_blob(tmp_path: Path) -> None:
    cached, target = tmp_path / "cached", tmp_path / "target"
    cached.write_bytes(b"content")
    replacing = """if True:
        import os, pathlib, sys, time
        new, cached = map(pathlib.Path, sys.argv[1:])
        end = time.monotonic() + 1
        while time.monotonic() < end:
            new.write_bytes(b"content")
            os.replace(new, cached)
    """
    arguments = [sys.executable, "-c", replacing, str(tmp_path / "new"), str(cached)]
    with subprocess.Popen(arguments) as other:
        while other.poll() is None:
            _link_or_copy(cached, target)
            assert target.read_bytes() == b"content"
    assert other.returncode == 0


def test_link_or_copy_leaves_one_read_only_file(tmp_path: Path) -> None:
    cached = tmp_path / "cached"
    cached.write_bytes(b"content")
    cached.chmod(0o444)
    target = tmp_path / "deep" / "target"
    _link_or_copy(cached, target)
    assert target.read_bytes() == b"content"
    assert target.stat().st_mode & 0o222 == 0
    assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_link_or_copy_to_another_file_system_copies(tmp_path: Path) -> None:
    memory = Path("/dev/shm")  # noqa: S108
    if not os.access(memory, os.W_OK) or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system")
    cached = tmp_path / "cached"
    cached.write_bytes(b"content")
    target = memory / f"boothline-test-{os.getpid()}"
    try:
        _link_or_copy(cached, target)
        assert target.read_bytes() == b"content"
    finally:
        target.unlink(missing_ok=True)


def test_sweep_parts_deletes_only_old_parts(tmp_path: Path) -> None:
    (tmp_path / "ab").mkdir()
    for name in ("x.part", "finished"):
        (tmp_path / "ab" / name).write_bytes(b"x")
    assert sweep_parts(tmp_path) == 0
    assert sweep_parts(tmp_path, now=time.time() + 25 * 3600) == 1
    assert [path.name for path in (tmp_path / "ab").iterdir()] == ["finished"]
