"""What is asked of a store is counted: requests, bytes, retries, failures."""

import pytest
from fault_proxy import BUSY, Fault, FaultProxy

from boothline.errors import ServiceError
from boothline.settings import Settings
from boothline.store import ManifestDraft, Store
from boothline.store.connection import BRISK
from boothline.store.transfers import TRAFFIC, Traffic

pytestmark = pytest.mark.services
BYTES = bytes(range(256)) * 1000


def since(before: dict[str, int]) -> Traffic:
    return Traffic(**{name: count - before[name] for name, count in TRAFFIC.counts().items()})


@pytest.mark.proves("F62/metrics")
def test_bytes_of_a_commit_and_of_a_fetch_are_counted(
    store: Store, store_settings: Settings
) -> None:
    before = TRAFFIC.counts()
    ref = store.commit("steps/x/1", ManifestDraft(kind="test", files={"file": BYTES}))
    written = since(before)
    assert written.sent_bytes >= len(BYTES)
    assert written.requests >= 2
    assert written.received_bytes < len(BYTES)

    elsewhere = store_settings.model_copy(update={"home": store_settings.home / "other"})
    before = TRAFFIC.counts()
    assert Store.connect(elsewhere).read_bytes(ref, "file") == BYTES
    read = since(before)
    assert read.received_bytes >= len(BYTES)
    assert (read.retries, read.failures) == (0, 0)


@pytest.mark.proves("F62/metrics")
def test_retry_that_succeeds_and_an_operation_given_up_are_counted(
    behind_proxy: Store, proxy: FaultProxy
) -> None:
    before = TRAFFIC.counts()
    proxy.inject(Fault(lambda data: b"records/a" in data, answer=BUSY))
    assert behind_proxy.get_record("records/a.json") is None
    once = since(before)
    assert (once.retries, once.failures) == (1, 0)
    assert once.requests == 2

    proxy.inject(Fault(lambda data: b"records/b" in data, answer=BUSY, num_times=10**6))
    bucket = behind_proxy.bucket.with_policy(BRISK)
    with pytest.raises(ServiceError):
        bucket.get("records/b.json")
    assert since(before).failures == 1
    assert since(before).retries > 1
