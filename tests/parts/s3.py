"""An S3 server on loopback, with one bucket."""

import contextlib
import logging
import os
from collections.abc import Iterator
from unittest import mock

import boto3
from moto.server import ThreadedMotoServer

BUCKET = "releases"
LOGIN = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests", "AWS_EC2_METADATA_DISABLED": "true"}


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """Gives the server's address; its login is in the environment meanwhile."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # not every request
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    with mock.patch.dict(os.environ, LOGIN):
        url = f"http://{host}:{port}"
        boto3.client("s3", endpoint_url=url, region_name="us-east-1").create_bucket(Bucket=BUCKET)
        try:
            yield url
        finally:
            server.stop()
