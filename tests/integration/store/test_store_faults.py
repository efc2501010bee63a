"""The store while its server is unreachable, slow, or loses answers; and while writers race."""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from fault_proxy import Fault, FaultProxy
from racing import race

from boothline.doctor import storage
from boothline.errors import ConfigError, ServiceError, StoreError
from boothline.settings import Settings
from boothline.store import ManifestDraft, Store, s3
from boothline.store.connection import RetryPolicy
from boothline.store.s3 import Bucket

pytestmark = pytest.mark.services


def draft(content: bytes) -> ManifestDraft:
    return ManifestDraft(kind="test", files={"file": content})


def conditional_put_of(name: bytes) -> Callable[[bytes], bool]:
    return lambda data: (
        data.startswith(b"PUT ") and name in data and b"if-none-match" in data.lower()
    )


def test_commit_race_has_one_winner(store_settings: Settings) -> None:
    stores = [Store.connect(store_settings) for _ in range(16)]

    def commit(writer: int, path: str) -> str:
        return str(stores[writer].commit(path, draft(b"by %d" % writer)))

    for number in range(5):
        path = f"steps/train/race-{number}"
        refs = race([partial(commit, writer, path) for writer in range(16)])
        assert len(set(refs)) == 1


def test_put_if_absent_race_is_won_once(store_settings: Settings) -> None:
    bucket = Bucket.connect(store_settings)
    for _ in range(5):
        won = race(
            [partial(bucket.put_if_absent, "ledger/1.json", b"%d" % writer) for writer in range(16)]
        )
        assert sum(won) == 1
        bucket.delete("ledger/1.json")


def test_commit_with_lost_answer_counts_as_ours(
    behind_proxy: Store, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    fault = proxy.inject(Fault(conditional_put_of(b"steps/train/key")))
    with caplog.at_level(logging.INFO):
        ref = behind_proxy.commit("steps/train/key", draft(b"ours"))
    assert fault.num_seen == 1
    assert behind_proxy.find("steps/train/key") == ref
    assert "another writer" not in caplog.text


def test_record_with_lost_answer_is_no_conflict(behind_proxy: Store, proxy: FaultProxy) -> None:
    fault = proxy.inject(Fault(conditional_put_of(b"ledger/1.json")))
    behind_proxy.put_record("ledger/1.json", {"by": "us"}, if_absent=True)
    assert fault.num_seen == 1


def test_fetch_cut_in_the_middle_goes_on_from_there(
    behind_proxy: Store, proxy: FaultProxy, tmp_path: Path
) -> None:
    content = os.urandom(3_000_000)
    ref = behind_proxy.commit("steps/train/key", draft(content))
    fault = proxy.inject(
        Fault(lambda data: b"GET " in data and b"/blobs/" in data, let_pass_bytes=1_500_000)
    )
    behind_proxy.fetch(ref, tmp_path / "fetched")
    assert fault.num_seen == 1
    assert (tmp_path / "fetched" / "file").read_bytes() == content


def test_commit_during_an_outage_succeeds_when_it_ends(
    behind_proxy: Store, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.refuse()
    back = threading.Timer(2.0, proxy.accept_again)
    back.start()
    with caplog.at_level(logging.WARNING):
        ref = behind_proxy.commit("steps/train/key", draft(b"content"))
    back.join()
    assert "retrying to" in caplog.text
    assert behind_proxy.read_bytes(ref, "file") == b"content"


def test_connect_refused_fails_within_ten_seconds(store_settings: Settings) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        started_at = time.monotonic()
        with pytest.raises(ServiceError, match="does not answer") as caught:
            Store.connect(store_settings.model_copy(update={"s3_endpoint": url}), brisk=True)
    assert time.monotonic() - started_at < 10
    assert url in caught.value.message
    assert "boothline up" in caught.value.remedy


def test_connect_to_a_silent_server_fails_within_ten_seconds(store_settings: Settings) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(16)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        started_at = time.monotonic()
        with pytest.raises(ServiceError, match="does not answer"):
            Store.connect(store_settings.model_copy(update={"s3_endpoint": url}), brisk=True)
    assert time.monotonic() - started_at < 10


class NewBucket(BaseHTTPRequestHandler):
    """A store whose bucket is there and empty."""

    def do_GET(self) -> None:
        answer = b"<ListBucketResult><Name>boothline-tests</Name></ListBucketResult>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments: object) -> None:
        pass


def test_step_that_connects_while_the_store_starts_again_waits_for_it(
    store_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen on a cluster: the store's pod was replaced, and a training's ranks just began."""
    monkeypatch.setattr(s3, "BRISK", RetryPolicy(deadline_seconds=0.0))
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    settings = store_settings.model_copy(update={"s3_endpoint": f"http://127.0.0.1:{port}"})
    with pytest.raises(ServiceError, match="does not answer"):
        Store.connect(settings, brisk=True)

    def begin() -> None:
        time.sleep(1)
        with ThreadingHTTPServer(("127.0.0.1", port), NewBucket) as server:
            server.timeout = 20
            server.handle_request()

    beginning = threading.Thread(target=begin, daemon=True)
    beginning.start()
    Store.connect(settings)
    beginning.join(timeout=20)


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        ((200, b""), "ignores If-None-Match"),
        ((501, b"<Error><Code>NotImplemented</Code></Error>"), "does not know If-None-Match"),
    ],
    ids=["ignored", "not-implemented"],
)
def test_commit_to_a_store_without_conditional_puts_is_refused(
    store_settings: Settings, answer: tuple[int, bytes], what: str
) -> None:
    listing = b"<ListBucketResult><Name>boothline-tests</Name></ListBucketResult>"

    class Careless(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if "list-type" in self.path:
                self.answer(200, listing)
            else:
                self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")

        def do_HEAD(self) -> None:
            self.answer(404, b"")

        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(*answer if "If-None-Match" in self.headers else (200, b""))

        def do_DELETE(self) -> None:
            self.answer(204, b"")

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Careless) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        settings = store_settings.model_copy(update={"s3_endpoint": url})
        with pytest.raises(StoreError, match=what):
            Store.connect(settings).commit("steps/train/key", draft(b"content"))
        found = {finding.name: finding for finding in storage.examine(settings)}
        server.shutdown()
    assert found["store races"].status == "failed"
    assert what in found["store races"].detail
    assert "conditional puts" in found["store races"].remedy


def test_listing_without_what_every_s3_sends_is_an_error_of_the_store(
    store_settings: Settings,
) -> None:
    class Terse(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<ListBucketResult></ListBucketResult>")

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Terse) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        bucket = Bucket.connect(store_settings.model_copy(update={"s3_endpoint": url}))
        with pytest.raises(StoreError, match=r"failed to list .*<Name> not found"):
            bucket.keys("steps/")
        server.shutdown()


def test_connect_to_a_web_server_says_that_it_is_no_store(store_settings: Settings) -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        with pytest.raises(StoreError, match="not an S3 object store"):
            Store.connect(store_settings.model_copy(update={"s3_endpoint": url}))
        server.shutdown()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("s3_endpoint", ""),
        ("s3_endpoint", "localhost:8333"),
        ("s3_endpoint", "http://localhost:8333/path"),
        ("s3_access_key", ""),
        ("bucket", "No_Bucket"),
        ("prefix", "a/../b"),
    ],
)
def test_connect_with_a_wrong_setting_names_it(
    store_settings: Settings, field: str, value: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        Store.connect(store_settings.model_copy(update={field: value}))
    assert field.split("_")[-1] in str(caught.value).lower()
