"""A port of this machine before Kubeflow's API that says who asks, as an ingress does."""

import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from kubernetes_here import Forward

USER_HEADER = "kubeflow-userid"
_PASSED_ON = ("Content-Type", "Accept")


class UserProxy:
    """The proxy; in place of the `Forward` behind it.

    Args:
        forward: leads to the API.
        user: whom every request comes from.
    """

    def __init__(self, forward: Forward, user: str) -> None:
        self._forward = forward

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *arguments: object) -> None:
                """Stay quiet."""

            def handle_one(self) -> None:
                """Pass a request on; a connection is dropped where there is no answer."""
                size = int(self.headers.get("Content-Length") or 0)
                headers = {n: self.headers[n] for n in _PASSED_ON if n in self.headers}
                request = urllib.request.Request(  # noqa: S310  (a port of this machine)
                    f"{forward.url}{self.path}",
                    data=self.rfile.read(size) if size else None,
                    headers={**headers, USER_HEADER: user},
                    method=self.command,
                )
                try:
                    with urllib.request.urlopen(request) as answer:  # noqa: S310
                        self.send(answer.status, answer.read())
                except urllib.error.HTTPError as refusal:
                    self.send(refusal.code, refusal.read())
                except OSError:  # the forward is made again
                    return

            def send(self, status: int, body: bytes) -> None:
                """Answer."""
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_DELETE = handle_one

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop it and what is behind it."""
        self._server.shutdown()
        self._server.server_close()
        self._forward.close()
