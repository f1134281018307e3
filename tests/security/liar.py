"""A server that lies: a real sshd whose every command goes through a program that spoils one of the answers."""

import contextlib
import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.parts.sshd import OpenSSHServer

#: Runs what was asked for, but for the command with the number that is to be lied about, counted from 1.
_PROGRAM = r"""
import fcntl, json, os, random, re, subprocess, sys
here = os.path.dirname(os.path.abspath(__file__))
command = ["/bin/sh", "-c", os.environ["SSH_ORIGINAL_COMMAND"]]
with open(here + "/count", "a+") as count:
    fcntl.flock(count, fcntl.LOCK_EX)
    count.seek(0)
    number = len(count.read()) + 1
    count.write("x")
lie = json.load(open(here + "/lie"))
if number != lie["number"]:
    os.execv(command[0], command)
how = lie["how"]
out, err = sys.stdout.buffer, sys.stderr.buffer
if how == "empty":
    sys.exit(0)
if how == "random":
    out.write(random.Random(1).randbytes(50_000)); out.flush()
    err.write(random.Random(2).randbytes(5_000)); err.flush()
    sys.exit(0)
if how == "flood":
    trailer = re.search(rb"printf '\\0%s\\n' (\w+)", sys.stdin.buffer.read())[1]
    for stream in (out, err):
        stream.write(b"\0" + trailer + b"\n"); stream.flush()
if how in ("endless", "endless errors", "flood"):
    stream = err if how == "endless errors" else out
    while True:
        stream.write(b"!" * 65536); stream.flush()
done = subprocess.run(command, stdin=0, capture_output=True)
said = done.stdout
if how == "cut":
    said = said[:len(said) // 2]
elif how == "another's":
    said = said.partition(b"\n")[0] + b"\nHOME /\nR 1\nL releases/1\nnever\nended\n"
elif how == "numbers":
    said = re.sub(rb"\d+", b"9" * 5000, said)
elif how == "minus":
    said = re.sub(rb" (\d)", rb" -\1", said)
elif how == "doubled":
    said = said + said
out.write(said); out.flush()
err.write(done.stderr); err.flush()
sys.exit(300 % 256 if how == "status" else done.returncode)
"""


class Liar(OpenSSHServer):
    """An SSH server that answers as it should, but for one command."""

    def __init__(self, folder: Path) -> None:
        program = folder / "liar.py"
        program.write_text(_PROGRAM)
        self._lie, self._count = folder / "lie", folder / "count"
        self.lie(0, "")
        super().__init__(extra=f"ForceCommand exec {sys.executable} {program}")

    def lie(self, number: int, how: str) -> None:
        """Lie about the command with this number from now on."""
        self._lie.write_text(json.dumps({"number": number, "how": how}))
        self._count.write_text("")

    @property
    def asked(self) -> int:
        """How many commands there were since then."""
        return len(self._count.read_text())


@contextlib.contextmanager
def listening(speak: Callable[[Any], None]) -> Iterator[int]:
    """A port at which ``speak`` is given each connection, in a thread of its own; what it runs into is its end."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(link: socket.socket) -> None:
            with link, contextlib.suppress(Exception):
                speak(link)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=[listener.accept()[0]], daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
