"""The servers that the contract of the store is tested on: SeaweedFS, moto's, or one that is named.

`make test-s3 ENDPOINT=...` names one; its keys, region, certificates and bucket come from the same
variables as for a run (BOOTHLINE_S3_ACCESS_KEY, ...).
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from boothline.doctor import storage
from boothline.doctor.findings import Finding
from boothline.services import Endpoints
from boothline.settings import Settings
from boothline.store import inventory
from boothline.store.connection import new_client
from boothline.store.s3 import Bucket

GIVEN = os.environ.get("BOOTHLINE_TEST_S3_ENDPOINT", "")
NAMES = ["given"] if GIVEN else ["seaweedfs", "moto"]
BUCKET = (os.environ.get("BOOTHLINE_BUCKET", "") if GIVEN else "") or "boothline-tests"
MOTO = Path(__file__).with_name("moto_in_turn.py")
_START_SECONDS = 60.0


def on_every_server(metafunc: pytest.Metafunc) -> None:
    """Run a test that needs an object store on each server."""
    if "object_store" in metafunc.fixturenames:
        metafunc.parametrize("object_store", NAMES, indirect=True, scope="session")


def skip_for_lack(request: pytest.FixtureRequest) -> None:
    """Skip a test marked `store_needs` where the doctor finds that its server lacks that."""
    marker = request.node.get_closest_marker("store_needs")
    if marker is None:
        return
    lacks: dict[str, Finding] = request.getfixturevalue("store_lacks")
    if found := lacks.get(f"store {marker.args[0]}"):
        pytest.skip(f"the store lacks this: {found.detail}")


def lacks_of(settings: Settings) -> dict[str, Finding]:
    """Return what the doctor finds that a store lacks, by the findings' names."""
    kinds = ("permissions", "races", "owners", "checksums", "ranges", "parts", "signatures")
    names = {f"store {kind}" for kind in ("", *kinds)}
    return {
        found.name: found
        for found in storage.examine(settings)
        if found.name in names and found.status != "ok"
    }


@contextmanager
def moto(folder: Path) -> Iterator[Endpoints]:
    """Run moto's server, which holds objects in memory and takes any keys, for a while."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, str(MOTO), "-H", "127.0.0.1", "-p", str(port)],
            env=os.environ | {"BOOTHLINE_SERVICE": str(folder)},
            stdout=log,
            stderr=log,
        )
    try:
        _await(port, process)
        yield Endpoints(
            home=folder,
            s3_endpoint=f"http://127.0.0.1:{port}",
            s3_access_key="boothline-moto",
            s3_secret_key=uuid4().hex,
        )
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def given(folder: Path) -> Iterator[Endpoints]:
    """Pass on the server that the environment names; a bucket that was made for it goes again."""
    settings = Settings()
    endpoints = Endpoints(
        home=folder,
        s3_endpoint=GIVEN,
        s3_access_key=settings.s3_access_key,
        s3_secret_key=settings.s3_secret_key,
    )
    client = new_client(endpoints.settings())
    existed = client.bucket_exists(BUCKET)
    yield endpoints
    if not existed and client.bucket_exists(BUCKET):
        client.remove_bucket(BUCKET)


def leave_nothing(settings: Settings) -> None:
    """Delete what is left under a test's prefix, in a store that is not the tests' own."""
    bucket = Bucket.connect(settings)
    for upload in inventory.unfinished_uploads(bucket):
        bucket.abort_upload(upload.key, upload.upload_id)
    for key in bucket.keys(""):
        bucket.delete(key)


def _await(port: int, process: "subprocess.Popen[bytes]") -> None:
    """Wait until a server answers.

    Raises:
        RuntimeError: it ended, or takes too long.
    """
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"moto's server did not start: {process.returncode}")
