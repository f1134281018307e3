"""A small web application: says which version it is, and which process."""

import json
import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FACTS = {
    "version": Path(__file__).with_name("VERSION").read_text().strip(),
    "pid": os.getpid(),
    "started": time.time(),
}


class Shop(BaseHTTPRequestHandler):
    """``/up`` answers with the facts as JSON, everything else with a page."""

    def do_GET(self) -> None:
        if self.path == "/up":
            kind, body = "application/json", json.dumps(FACTS)
        else:
            kind, body = "text/html; charset=utf-8", f"<h1>Shop {FACTS['version']}</h1><p>process {FACTS['pid']}</p>"
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["SHOP_PORT"])), Shop).serve_forever()
