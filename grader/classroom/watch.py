"""The class report, live, on this machine only: a small read-only server on 127.0.0.1 with a token in its address."""

import http.server
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import unquote, urlsplit

Page = Callable[[str], str | None]  # "" is the report, "feedback/ada.html" a student's page; None: there is none


@contextmanager
def serving(page: Page) -> Iterator[str]:
    """Serve while the block runs, at a port that is free; gives the address."""
    token = secrets.token_urlsafe(16)

    class Handler(http.server.BaseHTTPRequestHandler):
        """Answers GET below /<token>/ and nothing else."""

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            text = page(path.removeprefix(f"/{token}/")) if path.startswith(f"/{token}/") else None
            body = (text if text is not None else "not found").encode()
            self.send_response(200 if text is not None else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8" if text is not None else "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("Referrer-Policy", "no-referrer")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing: the terminal shows progress."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/{token}/"
    finally:
        server.shutdown()
        server.server_close()
