"""`boothline serve` over a real socket: pinned, swapped without a failed request, bounded."""

import io
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from integration.components_torch.serving import NAME, ask, promote, served
from PIL import Image
from signing_keys import key_pair

from boothline.diffusion.loading import load_pipeline
from boothline.diffusion.signatures import ensure_signed
from boothline.errors import IntegrityError, ServiceError
from boothline.launch import serve
from boothline.launch.local.session import Session
from boothline.launch.serve import Followed, application, listen
from boothline.registry.loaded import LoadedModel
from boothline.registry.promotion import rollback
from boothline.registry.versions import ModelVersion

pytestmark = pytest.mark.services


class Load:
    """Clients that ask a server without pause, and what it answered.

    Args:
        url: of the server.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._over = threading.Event()
        self.answers: list[httpx.Response] = []

    def ask(self) -> None:
        self.answers.append(ask(self._url))

    def wait_for(self, is_so: Callable[[], bool]) -> None:
        """Ask until something is so, and once more then."""
        while not is_so():
            self.ask()
        self.ask()

    def serves(self, version: ModelVersion) -> bool:
        return bool(httpx.get(f"{self._url}/readyz").json()["digest"] == version.digest)

    def pictures(self) -> dict[str, set[bytes]]:
        """Return the pictures by the digest that each names, all as it should be."""
        assert {answer.status_code for answer in self.answers} == {200}
        found: dict[str, set[bytes]] = {}
        for answer in self.answers:
            with Image.open(io.BytesIO(answer.content), formats=("PNG",)) as image:
                assert image.text["model"] == answer.headers["boothline-model"]
                assert (image.text["seed"], answer.headers["boothline-seed"]) == ("7", "7")
                found.setdefault(image.text["model"], set()).add(image.tobytes())
        return found

    @contextmanager
    def on(self, *, num_clients: int = 3) -> Iterator[None]:
        """Ask from so many clients inside."""
        with ThreadPoolExecutor(num_clients) as pool:
            clients = [pool.submit(self._go_on) for _ in range(num_clients)]
            try:
                yield
            finally:
                self._over.set()
            for client in clients:
                client.result()

    def _go_on(self) -> None:
        while not self._over.is_set():
            self.ask()


@pytest.mark.proves("F53/swap")
def test_promotion_and_rollback_swap_the_model_without_a_failed_request(
    session: Session,
    publish: Callable[[float], ModelVersion],
    record_property: Callable[[str, object], None],
) -> None:
    first, second = publish(1.5), publish(2.0)
    promote(session, first)
    followed = Followed(session, NAME, "champion", interval_seconds=0.01)
    with served(followed) as url, followed.following():
        load = Load(url)
        with load.on():
            load.ask()
            promote(session, second)
            load.wait_for(lambda: load.serves(second))
            rollback(session.store, session.settings, NAME, reason="r", actor="x")
            load.wait_for(lambda: load.serves(first))
    pictures = load.pictures()
    assert pictures.keys() == {first.digest, second.digest}
    assert [len(each) for each in pictures.values()] == [1, 1]
    assert len(set.union(*pictures.values())) == 2
    record_property("requests", len(load.answers))


@pytest.mark.proves("F53/signed")
def test_unsigned_champion_never_answers_and_the_signed_ones_go_on(
    session: Session,
    publish: Callable[[float], ModelVersion],
    record_property: Callable[[str, object], None],
    tmp_path: Path,
) -> None:
    pytest.importorskip("model_signing", reason="needs the extra signing")
    private, public = key_pair(tmp_path / "keys")
    signing = session.settings.model_copy(update={"signing_key": private})
    first, unsigned, last = publish(1.5), publish(2.0), publish(2.5)
    for version in (first, last):
        folder = tmp_path / str(version.version)
        ensure_signed(session.store, signing, version.ref, folder=folder)
    session.__dict__["settings"] = session.settings.model_copy(update={"verification_key": public})
    promote(session, first)
    followed = Followed(session, NAME, "champion", interval_seconds=0.01)
    with served(followed) as url, followed.following():
        load = Load(url)
        with load.on():
            promote(session, unsigned)
            load.wait_for(lambda: followed.swaps["failed"] > 0)
            assert load.serves(first)
            promote(session, last)
            load.wait_for(lambda: load.serves(last))
    assert load.pictures().keys() == {first.digest, last.digest}
    record_property("requests", len(load.answers))


@pytest.mark.proves("F53/limit")
def test_request_beyond_the_queue_gets_429_and_those_within_are_answered(
    session: Session, publish: Callable[[float], ModelVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(session, publish(1.5))
    drawing, go_on = threading.Event(), threading.Event()
    draw = serve._draw

    def slow(*arguments):
        drawing.set()
        assert go_on.wait(60)
        return draw(*arguments)

    monkeypatch.setattr(serve, "_draw", slow)
    with (
        served(Followed(session, NAME, "champion"), queue_limit=1) as url,
        ThreadPoolExecutor(1) as pool,
    ):
        inside = pool.submit(ask, url)
        assert drawing.wait(60)
        refused = ask(url)
        assert httpx.get(f"{url}/healthz").json() == {"status": "ok"}
        go_on.set()
        assert inside.result().status_code == 200
        assert ask(url).status_code == 200
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")


def test_settings_that_cannot_be_used_are_refused_and_a_missing_seed_is_drawn(
    session: Session, publish: Callable[[float], ModelVersion]
) -> None:
    promote(session, publish(1.5))
    with served(Followed(session, NAME, "champion")) as url:
        assert ask(url, size="9x9").status_code == 422
        assert ask(url, step=4).status_code == 422
        assert ask(url, prompt="a\nb").status_code == 422
        drawn = [ask(url, seed=None) for _ in range(2)]
        again = ask(url, seed=int(drawn[0].headers["boothline-seed"]))
        described = httpx.get(f"{url}/openapi.json").json()
    assert drawn[0].content == again.content != drawn[1].content
    assert described["paths"].keys() == {"/generate", "/healthz", "/readyz", "/metrics"}


@pytest.mark.proves("F53/pinned")
def test_model_of_flow_matching_draws_as_it_usually_does_and_says_what_it_cannot(
    family_folders: Callable[[str], Path],
) -> None:
    version = SimpleNamespace(name=NAME, version=1, digest="0" * 64)
    pipeline = load_pipeline(family_folders("flux"), for_sampling=True)
    model = LoadedModel(version=version, facts=None, pipeline=pipeline)  # type: ignore[arg-type]
    followed: Any = SimpleNamespace(model=model, swaps=Counter())
    with served(followed) as url:
        assert ask(url).status_code == 200
        assert ask(url, guidance=2, sampler="euler").status_code == 200
        refused = ask(url, sampler="ddim")
        page = httpx.get(url).text
    assert refused.status_code == 422
    assert "ddim does not fit FLUX.1" in refused.json()["detail"]
    assert "<option>euler</option>" in page
    assert "ddim" not in page
    assert [image.size for image in model.generate("a bear", steps=1, size="32x32")] == [(32, 32)]


def test_champion_that_cannot_be_verified_is_not_served(
    session: Session, publish: Callable[[float], ModelVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = publish(1.5), publish(2.0)
    promote(session, good)
    followed = Followed(session, NAME, "champion")
    load = LoadedModel.load

    def verified(store, settings, version, **loaded):
        keyed = settings.model_copy(update={"verification_key": Path("/absent.pem")})
        return load(store, keyed, version, **loaded)

    monkeypatch.setattr(LoadedModel, "load", verified)
    promote(session, bad)
    with pytest.raises(IntegrityError, match="is not signed"):
        followed.look()
    assert followed.model.version == good
    with pytest.raises(IntegrityError, match="is not signed"):
        Followed(session, NAME, "champion")


def test_port_that_is_taken_is_named(
    session: Session, publish: Callable[[float], ModelVersion]
) -> None:
    promote(session, publish(1.5))
    app = application(Followed(session, NAME, "champion"), queue_limit=1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServiceError, match=f"Port {port} of 127.0.0.1 cannot be used"):
            listen(app, host="127.0.0.1", port=port)
