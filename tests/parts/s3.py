"""An S3 server on loopback, with one bucket."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any
from unittest import mock

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server, make_ssl_devcert

from tests.parts.programs import wait_for_end

BUCKET = "releases"
LOGIN = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests", "AWS_EC2_METADATA_DISABLED": "true"}


class _Plain:
    """Refuses bodies in chunks with a checksum at the end, as OpenStack Swift does."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self.app = app

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        if "aws-chunked" in environ.get("HTTP_CONTENT_ENCODING", ""):
            environ["wsgi.input"].read()
            start_response("501 Not Implemented", [("Content-Type", "application/xml")])
            return [b"<Error><Code>NotImplemented</Code><Message>aws-chunked is not supported</Message></Error>"]
        return self.app(environ, start_response)


@contextlib.contextmanager
def s3_server(certificates: Path | None = None) -> Iterator[str]:
    """Gives the server's address; its login is in the environment meanwhile.

    With a folder for ``certificates`` it speaks TLS, by its ``s3.crt``.
    """
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # not every request
    tls = make_ssl_devcert(str(certificates / "s3"), host="localhost") if certificates else None
    app = _Plain(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=MotoRequestHandler, ssl_context=tls)
    thread = Thread(target=server.serve_forever, name="s3", daemon=True)
    thread.start()
    with mock.patch.dict(os.environ, LOGIN):
        url = f"https://localhost:{server.port}" if tls else f"http://127.0.0.1:{server.port}"
        bucket = boto3.resource("s3", endpoint_url=url, region_name="us-east-1", verify=tls and tls[0]).Bucket(BUCKET)
        try:
            bucket.create()
            yield url
        finally:
            bucket.objects.delete()  # what is stored outlives the server
            server.shutdown()
            server.server_close()
            wait_for_end(thread)
