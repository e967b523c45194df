"""A page for the browser and the server that it talks to, both on loopback; everybody may log in.

python examples/browser.py [PORT_OF_THE_PAGE [PORT_OF_THE_SERVER]]"""

import http.server
import sys
import threading
from pathlib import Path

import rtm_sync
from rtm_sansio import ServerConfig

PAGE = Path(__file__).with_name("browser") / "index.html"


class PageHandler(http.server.BaseHTTPRequestHandler):
    """The one page, whatever is asked for."""

    def do_GET(self) -> None:
        """Give the page; it reads the query by itself."""
        is_page = self.path.split("?")[0] == "/"
        body = PAGE.read_bytes() if is_page else b""
        self.send_response(200 if is_page else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class BrowserDemo:
    """A page over HTTP, and an RTM server that browsers may reach from that page alone."""

    def __init__(self, page_port: int = 0, server_port: int = 0) -> None:
        self._pages = http.server.ThreadingHTTPServer(("127.0.0.1", page_port), PageHandler)
        port = self._pages.server_port
        # A browser says where the page is from; without the list every page of the web could use this server.
        self.config = ServerConfig(allowed_origins=(f"http://127.0.0.1:{port}", f"http://localhost:{port}"))
        self.server = rtm_sync.Server(port=server_port, authenticate=rtm_sync.allow_any_uid, config=self.config)
        self.origin = f"http://127.0.0.1:{port}"
        self._thread = threading.Thread(target=self._pages.serve_forever, name="pages", daemon=True)

    def url(self, server_url: str | None = None) -> str:
        """The page's address; it finds the server at ``server_url``, its own one if that is None."""
        return f"{self.origin}/?server={server_url or self.server.url}"

    def __enter__(self) -> "BrowserDemo":
        self.server.start()
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._pages.shutdown()
        self._pages.server_close()
        self._thread.join()
        self.server.close()


def main(*ports: str) -> None:
    """Serve until Ctrl-C."""
    with BrowserDemo(*map(int, ports)) as demo:
        print(f"open {demo.url()} in two windows, and: rtm listen --uid bob --url {demo.server.url} lobby", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main(*sys.argv[1:])
