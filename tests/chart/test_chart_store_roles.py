"""The bundled store's roles on a real SeaweedFS: what each may do, and what gets 403."""

import contextlib
import importlib.util
import io
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from minio import Minio
from minio.error import S3Error

from boothline.errors import ServiceError
from boothline.registry.promotion import promote_past_gate
from boothline.registry.versions import ensure_version, resolve
from boothline.results import Model
from boothline.services.processes import http_answer
from boothline.services.service import find_weed
from boothline.settings import Settings
from boothline.store import Store

pytestmark = pytest.mark.services

FILES = Path(__file__).resolve().parents[2] / "charts" / "boothline" / "files"
ROLES = ("admin", "pipeline", "reader", "collector")


def free_port() -> int:
    """Return a port whose port + 10000 is free too: gRPC's default place."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            if port + 10000 < 65536 and second.connect_ex(("127.0.0.1", port + 10000)):
                return port


def script(name: str) -> Any:
    """Import a script of the chart."""
    spec = importlib.util.spec_from_file_location(name, FILES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def is_ready(ports: dict[str, int]) -> bool:
    """Tell whether S3 answers and a volume server has joined."""
    if http_answer(ports["s3"], "/healthz") is None:
        return False
    status = http_answer(ports["master"], "/dir/status")
    return status is not None and json.loads(status)["Topology"].get("Max", 0) > 0


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the chart mounts it: one folder a role."""
    folder = tmp_path_factory.mktemp("credentials")
    for role in ROLES:
        (folder / role).mkdir()
        (folder / role / "access-key").write_text(f"{role}-id\n")
        (folder / role / "secret-key").write_text(f"{role}-secret-0123456789\n")
    return folder


@pytest.fixture(scope="module")
def endpoint(credentials: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A SeaweedFS with the chart's identities, and with its bucket and policy."""
    folder = tmp_path_factory.mktemp("role-store")
    (folder / "data").mkdir()
    subprocess.run(
        [sys.executable, FILES / "store_identities.py", credentials, folder / "s3.json"],
        check=True,
        env={**os.environ, "BOOTHLINE_BUCKET": "boothline"},
    )
    ports = {name: free_port() for name in ("s3", "master", "volume", "filer")}
    command = [
        *(str(find_weed()), "server", "-dir=data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *("-filer", "-filer.disableHttp", "-s3", "-s3.config=s3.json", "-s3.iam=false"),
        *("-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.autoCreateBucket=false"),
        *("-master.telemetry=false", "-master.electionTimeout=500ms", "-volume.max=0"),
        *("-master.volumeSizeLimitMB=64", "-volume.preStopSeconds=0"),
        *(f"-{name}.port={port}" for name, port in ports.items()),
        *(f"-{name}.port.grpc={port + 10000}" for name, port in ports.items()),
    ]
    keys = {
        f"WEED_JWT_{name}_KEY": "signing-key-of-this-test"
        for name in ("SIGNING", "SIGNING_READ", "FILER_SIGNING", "FILER_SIGNING_READ")
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, env={**os.environ, **keys}
        )
    try:
        deadline = time.monotonic() + 60
        while not is_ready(ports):
            assert time.monotonic() < deadline, (folder / "log").read_text()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.2)
        url = f"http://127.0.0.1:{ports['s3']}"
        settings = Settings.model_validate(
            {
                "s3_endpoint": url,
                "s3_access_key": "admin-id",
                "s3_secret_key": "admin-secret-0123456789",
            }
        )
        prepare = script("prepare_store")
        prepare.prepare(prepare.new_client(settings), settings)
        prepare.prepare(prepare.new_client(settings), settings)  # an upgrade runs it again
        yield url
    finally:
        process.kill()
        process.wait()


def client(endpoint: str, role: str) -> Minio:
    return Minio(
        endpoint.removeprefix("http://"),
        access_key=f"{role}-id",
        secret_key=f"{role}-secret-0123456789",
        secure=False,
    )


def put(endpoint: str, role: str, key: str) -> None:
    client(endpoint, role).put_object("boothline", key, io.BytesIO(b"x"), 1)


@pytest.mark.proves("F37/roles")
def test_pipeline_role_writes_and_prunes_training_states(endpoint: str) -> None:
    put(endpoint, "pipeline", "steps/train/a/manifest.json")
    put(endpoint, "pipeline", "training/a/step-000001/manifest.json")
    pipeline = client(endpoint, "pipeline")
    pipeline.remove_object("boothline", "training/a/step-000001/manifest.json")
    names = {
        item.object_name
        for item in pipeline.list_objects("boothline", prefix="training/", recursive=True)
    }
    assert names == set()


@pytest.mark.proves("F37/roles")
@pytest.mark.parametrize(
    "key",
    ["blobs/sha256/00/x", "steps/train/b/manifest.json", "ledger/promotions/1.json"],
)
def test_pipeline_role_deletes_no_result(endpoint: str, key: str) -> None:
    put(endpoint, "pipeline", key)
    pipeline = client(endpoint, "pipeline")
    with pytest.raises(S3Error, match="AccessDenied"):
        pipeline.remove_object("boothline", key)
    assert pipeline.stat_object("boothline", key).size == 1
    client(endpoint, "collector").remove_object("boothline", key)


@pytest.mark.proves("F37/roles")
def test_reader_role_only_reads(endpoint: str) -> None:
    put(endpoint, "pipeline", "steps/c")
    reader = client(endpoint, "reader")
    assert reader.stat_object("boothline", "steps/c").size == 1
    with pytest.raises(S3Error, match="AccessDenied"):
        put(endpoint, "reader", "steps/d")
    with pytest.raises(S3Error, match="AccessDenied"):
        reader.remove_object("boothline", "steps/c")


@pytest.mark.proves("F53/chart", "F53/reader")
def test_champion_is_resolved_and_fetched_with_the_readers_key_which_writes_nothing(
    endpoint: str, tmp_path: Path
) -> None:
    def settings(role: str) -> Settings:
        return Settings.model_validate(
            {
                "s3_endpoint": endpoint,
                "s3_access_key": f"{role}-id",
                "s3_secret_key": f"{role}-secret-0123456789",
                "home": tmp_path / role,
            }
        )

    store = Store.connect(settings("pipeline"))
    draft = Model(model_name="m").draft({"diffusers/model_index.json": b"{}"})
    ref = store.commit("steps/publish_checkpoint/m", draft)
    version = ensure_version(store, settings("pipeline"), model_name="m", ref=ref)
    promote_past_gate(store, settings("pipeline"), "m", ref=ref, reason="r", actor="x")

    reader = Store.connect(settings("reader"))
    assert resolve(reader, "m", "champion") == version
    assert reader.read_bytes(version.ref, "diffusers/model_index.json") == b"{}"
    with pytest.raises(ServiceError, match="reader-id"):
        reader.commit("steps/publish_checkpoint/n", draft)


@pytest.mark.parametrize("role", ["pipeline", "reader", "collector"])
def test_role_makes_no_bucket_and_changes_no_policy(endpoint: str, role: str) -> None:
    with pytest.raises(S3Error, match="AccessDenied"):
        client(endpoint, role).make_bucket("another")
    with pytest.raises(S3Error, match="AccessDenied"):
        client(endpoint, role).delete_bucket_policy("boothline")


def test_stranger_is_refused(endpoint: str) -> None:
    with pytest.raises(S3Error, match="AccessDenied"):
        Minio(endpoint.removeprefix("http://"), secure=False).list_buckets().__len__()


def test_short_secret_and_shared_key_are_refused(credentials: Path, tmp_path: Path) -> None:
    identities = script("store_identities")
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "access-key").write_text("minio")
    (tmp_path / "pipeline" / "secret-key").write_text("minio123")
    with pytest.raises(SystemExit, match="under 16 letters"):
        identities.identity(tmp_path / "pipeline", "boothline")
    written = json.dumps(identities.identity(credentials / "reader", "boothline")["actions"])
    assert written == '["Read:boothline", "List:boothline"]'
