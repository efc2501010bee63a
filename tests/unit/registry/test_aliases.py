"""An alias that two processes set at once, of which MLflow's database refuses one."""

from typing import Any

import pytest

from boothline.registry.mirror import set_alias
from boothline.tracking.client import RejectedError


class Refusing:
    """A client whose server refuses an alias and says what it has."""

    def __init__(self, **has: int) -> None:
        self._aliases = [{"alias": name, "version": str(number)} for name, number in has.items()]
        self.asked: list[tuple[str, object]] = []

    def post(self, endpoint: str, **sent: object) -> dict[str, Any]:
        self.asked.append((endpoint, sent["method"]))
        raise RejectedError("UNIQUE constraint failed: registered_model_aliases")

    def get(self, endpoint: str, **sent: object) -> dict[str, Any]:
        self.asked.append((endpoint, sent["name"]))
        return {"registered_model": {"aliases": self._aliases}}


@pytest.mark.parametrize(("has", "wanted"), [({"challenger": 1}, 1), ({}, None)])
def test_refused_alias_that_another_process_has_set_is_set(
    has: dict[str, int], wanted: int | None
) -> None:
    client = Refusing(**has)
    set_alias(client, "bear", "challenger", wanted)  # type: ignore[arg-type]
    sent = ("registered-models/alias", "POST" if wanted else "DELETE")
    assert client.asked == [sent, ("registered-models/get", "bear")]


@pytest.mark.parametrize(("has", "wanted"), [({"challenger": 2}, 1), ({}, 1), ({"champion": 1}, 1)])
def test_refused_alias_that_means_something_else_is_an_error(
    has: dict[str, int], wanted: int
) -> None:
    with pytest.raises(RejectedError, match="UNIQUE"):
        set_alias(Refusing(**has), "bear", "challenger", wanted)  # type: ignore[arg-type]
