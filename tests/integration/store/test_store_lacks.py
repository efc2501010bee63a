"""The doctor names what an object store lacks of what the commit protocol rests on."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from boothline.doctor import probes
from boothline.doctor.findings import Finding
from boothline.store.s3 import Bucket

pytestmark = pytest.mark.services

LACKS = {"seaweedfs": set(), "moto": {"store checksums", "store parts", "store signatures"}}


class Lossy:
    """The SDK's client of a store that ignores Range and keeps no metadata."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def get_object(self, bucket: str, name: str, offset: int = 0) -> Any:
        return self._client.get_object(bucket, name)

    def _put_object(self, bucket: str, name: str, data: bytes, headers: Mapping[str, str]) -> Any:
        kept = {key: value for key, value in headers.items() if not key.startswith("x-amz-meta")}
        return self._client._put_object(bucket, name, data, headers=kept)


@pytest.fixture
def bucket(store_settings) -> Bucket:
    return Bucket.connect(store_settings)


def test_doctor_names_what_each_server_lacks(
    request: pytest.FixtureRequest, store_lacks: dict[str, Finding]
) -> None:
    server = request.node.callspec.params["object_store"]
    if server in LACKS:
        assert set(store_lacks) == LACKS[server]
    assert not set(store_lacks) & {"store", "store permissions", "store races", "store owners"}


def test_probes_of_a_store_that_loses_marks_and_ranges_say_so(bucket: Bucket) -> None:
    lossy = replace(bucket, client=Lossy(bucket.client))
    assert (probes.keeps_owner_marks(bucket), probes.keeps_owner_marks(lossy)) == (True, False)
    assert (probes.reads_from_an_offset(bucket), probes.reads_from_an_offset(lossy)) == (
        True,
        False,
    )


def test_probes_leave_nothing_behind(bucket: Bucket) -> None:
    probes.count_race_winners(bucket)
    probes.keeps_owner_marks(bucket)
    probes.reads_from_an_offset(bucket)
    probes.fault_of_uploads(bucket)
    assert bucket.keys("") == ["probes/conditional-put"]


def test_keys_of_more_than_one_page_are_all_listed(bucket: Bucket) -> None:
    names = [f"many/{number:04d}" for number in range(1005)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(partial(bucket.put, data=b"x"), names))
    assert bucket.keys("many/") == names
