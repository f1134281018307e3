"""Serving the site in this process."""

import os
import signal
import socket
import sys
import tempfile

from django.conf import settings

from deployer.host.listening import tell_systemd
from deployer.serving.server import Server, make_room


def serve(listener: socket.socket, *, is_supervised: bool = False) -> None:
    """Serve the site on a listening socket until SIGTERM; then end this process. Else systemd may wait for it."""
    from deployer.web.uploads import largest_body  # the application's parts are there once it is loaded
    from deployer.wsgi import application

    # A large body is kept in a nameless file: on disk beside the data, for the system's folder is often memory.
    tempfile.tempdir = str(settings.FILE_UPLOAD_TEMP_DIR)
    # Threads that answer let the one that reads have its turn after this time: with Python's 5 ms a poll takes twice.
    sys.setswitchinterval(0.0005)
    server = Server(application, listener, largest_body, connections=make_room())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_args: server.stop())
    if not is_supervised:
        tell_systemd("READY=1")
    server.serve()
    os._exit(0)  # an answer that is not done by now is not waited for
