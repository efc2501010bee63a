"""moto's S3 server with conditional writes one after the other: python moto_in_turn.py -p PORT.

By itself it looks and then writes, so that two writers of one key now and then both win.
"""

import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from moto import server

_TURN = threading.Lock()


class _InTurn(server.DomainDispatcherApplication):  # type: ignore[misc, unused-ignore]
    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        if "HTTP_IF_NONE_MATCH" not in environ:
            return super().__call__(environ, start_response)
        with _TURN:
            return super().__call__(environ, start_response)


if __name__ == "__main__":
    server.DomainDispatcherApplication = _InTurn
    server.main(sys.argv[1:])
