"""`boothline serve` over a real socket: pinned, swapped without a failed request, bounded."""

import io
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from integration.components_torch.serving import NAME, ask, promote, served
from PIL import Image

from boothline.errors import IntegrityError, ServiceError
from boothline.launch import serve
from boothline.launch.local.session import Session
from boothline.launch.serve import Followed, application, listen
from boothline.registry.loaded import LoadedModel
from boothline.registry.promotion import rollback
from boothline.registry.versions import ModelVersion

pytestmark = pytest.mark.services


@pytest.mark.proves("F53/swap")
def test_promotion_and_rollback_swap_the_model_without_a_failed_request(
    session: Session, publish: Callable[[float], ModelVersion]
) -> None:
    first, second = publish(1.5), publish(2.0)
    promote(session, first)
    followed = Followed(session, NAME, "champion", interval_seconds=0.01)
    answers: list[httpx.Response] = []
    over = threading.Event()

    def load(url: str) -> None:
        while not over.is_set():
            answers.append(ask(url))

    def wait_for(url: str, version: ModelVersion) -> None:
        while httpx.get(f"{url}/readyz").json()["digest"] != version.digest:
            answers.append(ask(url))

    with served(followed) as url, followed.following(), ThreadPoolExecutor(3) as pool:
        clients = [pool.submit(load, url) for _ in range(3)]
        try:
            answers.append(ask(url))
            promote(session, second)
            wait_for(url, second)
            answers.append(ask(url))
            rollback(session.store, session.settings, NAME, reason="r", actor="x")
            wait_for(url, first)
            answers.append(ask(url))
        finally:
            over.set()
        for client in clients:
            client.result()

    assert {answer.status_code for answer in answers} == {200}
    pictures: dict[str, set[bytes]] = {}
    for answer in answers:
        with Image.open(io.BytesIO(answer.content), formats=("PNG",)) as image:
            assert image.text["model"] == answer.headers["boothline-model"]
            assert (image.text["seed"], answer.headers["boothline-seed"]) == ("7", "7")
            pictures.setdefault(image.text["model"], set()).add(image.tobytes())
    assert pictures.keys() == {first.digest, second.digest}
    assert [len(each) for each in pictures.values()] == [1, 1]
    assert len(set.union(*pictures.values())) == 2


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
def test_champion_that_cannot_be_verified_is_not_served(
    session: Session, publish: Callable[[float], ModelVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = publish(1.5), publish(2.0)
    promote(session, good)
    followed = Followed(session, NAME, "champion")
    load = LoadedModel.load

    def verified(store, settings, version):
        keyed = settings.model_copy(update={"verification_key": Path("/absent.pem")})
        return load(store, keyed, version)

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
