"""Full disks and killed servers: a typed error, and nothing that was acknowledged is lost."""

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.numpy import save_file

from boothline import services
from boothline.errors import DiskFullError, StoreError
from boothline.settings import Settings
from boothline.store import ManifestDraft, ManifestRef, Store

pytestmark = pytest.mark.services


def mount_memory(folder: Path, *, size: str) -> None:
    """Mount a small file system in memory, or skip the test where that is not allowed."""
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small tmpfs is not allowed here")


def unmount(folder: Path) -> None:
    subprocess.run([shutil.which("umount") or "umount", str(folder)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of 4 MiB."""
    mount_memory(tmp_path / "small", size="4m")
    yield tmp_path / "small"
    unmount(tmp_path / "small")


@pytest.fixture
def full_home(tmp_path: Path) -> Iterator[Path]:
    """A home on a file system with room for the services, but little more."""
    mount_memory(tmp_path / "home-disk", size="290m")
    yield tmp_path / "home-disk" / "home"
    services.stop(tmp_path / "home-disk" / "home")
    unmount(tmp_path / "home-disk")


def test_safetensors_onto_a_full_disk_become_a_typed_error(
    small_disk: Path, tmp_path: Path
) -> None:
    from boothline.training.failures import failure_of, write_failure

    weights = {"weight": np.zeros(3 * 2**20, dtype=np.float32)}
    with pytest.raises(Exception, match=r"(?i)no space left") as caught:
        save_file(weights, small_disk / "unet.safetensors")
    write_failure(tmp_path, caught.value, rank=0)
    assert type(failure_of(tmp_path, world_size=1)) is DiskFullError


def draft(**files: bytes) -> ManifestDraft:
    return ManifestDraft(kind="test", files=dict(files))


def test_fetch_onto_a_full_disk_names_it_and_leaves_the_rest(
    store: Store, small_disk: Path
) -> None:
    ref = store.commit("steps/a/b", draft(small=b"kept", large=os.urandom(6 * 2**20)))
    store.fetch(ref, small_disk, prefix="small")
    with pytest.raises(DiskFullError, match="No space is left") as caught:
        store.fetch(ref, small_disk)
    assert str(small_disk) in caught.value.message
    assert [path.name for path in small_disk.iterdir()] == ["small"]
    assert (small_disk / "small").read_bytes() == b"kept"


def test_fetch_with_a_full_cache_disk_names_it(
    store: Store, store_settings: Settings, small_disk: Path, tmp_path: Path
) -> None:
    ref = store.commit("steps/a/b", draft(large=os.urandom(6 * 2**20)))
    other = Store.connect(store_settings.model_copy(update={"home": small_disk}))
    with pytest.raises(DiskFullError, match="No space is left"):
        other.fetch(ref, tmp_path / "fetched")
    assert not list(small_disk.rglob("*.part"))


@pytest.mark.faults
def test_commit_to_a_store_with_a_full_disk_fails_soon_and_keeps_the_past(full_home: Path) -> None:
    endpoints = services.ensure(full_home, only=["seaweedfs"])
    store = Store.connect(endpoints.settings(home=full_home.parent.parent / "cache"))
    first = store.commit("steps/a/first", draft(file=b"kept"))
    started_at = time.monotonic()

    def fill() -> None:
        for number in range(30):
            store.commit(f"steps/a/{number}", draft(file=os.urandom(10 * 2**20)))

    with pytest.raises(StoreError, match="failed to") as caught:
        fill()
    assert "disk may be full" in caught.value.remedy
    assert time.monotonic() - started_at < 120
    assert store.read_bytes(first, "file") == b"kept"


@pytest.mark.faults
def test_commits_acknowledged_before_a_kill_survive_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    endpoints = services.ensure(home, only=["seaweedfs"])
    store = Store.connect(endpoints.settings())
    acknowledged: list[ManifestRef] = []
    try:
        process = psutil.Process(services.status(home)[0].pid)
        killer = threading.Timer(1.5, process.kill)
        killer.start()
        for number in range(60):
            if not process.is_running():
                services.ensure(home, only=["seaweedfs"])
            acknowledged.append(store.commit(f"steps/a/{number}", draft(file=os.urandom(50_000))))
            if number == 5:
                killer.join()
                process.wait(5)
        fresh = Store.connect(endpoints.settings(home=tmp_path / "fresh"))
        assert [fresh.find(ref.path) for ref in acknowledged] == acknowledged
        assert all(len(fresh.read_bytes(ref, "file")) == 50_000 for ref in acknowledged)
    finally:
        services.stop(home)
