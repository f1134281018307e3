"""Record what a real program prints on a terminal of 200 columns: ``python -m tests.parts.recording FILE COMMAND…``.

Record in a folder that says nothing of the machine, and look for names and addresses of it in the file.
"""

import fcntl
import os
import pty
import struct
import sys
import termios
from pathlib import Path

from deployer.log.screen import COLUMNS

#: Bytes that are kept; the recording ends with a line.
MOST = 30_000
_ROWS = 50


def record(command: list[str]) -> bytes:
    """All that ``command`` prints, as the terminal gets it."""
    child, terminal = pty.fork()
    if not child:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, COLUMNS, 0, 0))
        os.execvpe(command[0], command, {**os.environ, "TERM": "xterm-256color"})  # noqa: S606 (it is what was asked for)
    found = bytearray()
    try:
        while data := os.read(terminal, 65_536):
            found += data
    except OSError:  # the end of a terminal
        os.waitpid(child, 0)
    return bytes(found)


def main() -> None:
    """Write the recording down."""
    file, *command = sys.argv[1:]
    data = record(command)
    if len(data) > MOST:
        data = data[: data.rfind(b"\n", 0, MOST) + 1] or data[: data.rfind(b"\r", 0, MOST)]
    Path(file).write_bytes(data)


if __name__ == "__main__":
    main()
