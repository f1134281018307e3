"""The receivers of notices: a mail server and a web server of this machine."""

from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

import pytest

from tests.parts.mailbox import MailServer
from tests.parts.sink import Sink


@pytest.fixture
def sink(settings: Any) -> Iterator[Sink]:
    """A web server that channels may send to."""
    settings.DEPLOYER_NOTICE_NETWORKS = [ip_network("127.0.0.0/8")]
    server = Sink()
    yield server
    server.stop()


@pytest.fixture
def mail_server(settings: Any) -> Iterator[MailServer]:
    """The mail server of the installation."""
    server = MailServer()
    for name, value in server.settings().items():
        setattr(settings, name, value)
    yield server
    server.stop()
