"""The shop as a server of its own: it answers with its pid and with the version that it was started from.

It listens on ``PORT``, or on the socket that systemd hands over. With ``WORKERS`` those answer, and HUP has them
replaced unless the new version is broken; without, HUP reads the version again. USR1 executes the program anew. Where
there is a file ``drain``, TERM and INT close the shop, and it ends only so many seconds later.
"""

import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any


class Shop:
    """The version that is sold, and the socket that it is sold at."""

    def __init__(self) -> None:
        self.read_version()
        if os.environ.get("LISTEN_FDS"):
            self.listener = socket.socket(fileno=3)
        else:
            self.listener = socket.create_server(("127.0.0.1", int(os.environ.get("PORT", "0"))))

    def read_version(self, *_signal: Any) -> None:
        """Become what the file says; raises where that is broken."""
        version, _colon, life = Path("version").read_text().strip().partition(":")
        if version == "broken":
            raise RuntimeError("this version is broken")
        if life:
            threading.Timer(float(life), os._exit, [1]).start()
        self.version = version

    def start_anew(self, *_signal: Any) -> None:
        """Execute the program once more, in place."""
        os.execv(sys.executable, [sys.executable, *sys.argv])  # noqa: S606 (no shell is wanted)

    def drain(self, *_signal: Any) -> None:
        """Let nobody in any more, and end once the last ones have left."""
        self.listener.close()
        time.sleep(float(Path("drain").read_text()))
        os._exit(0)

    def sell(self) -> None:
        """Answer until the end."""
        while True:
            customer, _address = self.listener.accept()
            with customer:
                customer.recv(4096)
                body = f"{os.getpid()} {self.version}\n"
                customer.sendall(f"HTTP/1.0 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())

    def hire(self, count: int) -> set[int]:
        """Start workers; gives their pids."""
        return {pid for _number in range(count) if (pid := self._fork())}

    def _fork(self) -> int:
        pid = os.fork()
        if pid == 0:
            for number in (signal.SIGHUP, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            self.sell()
        return pid

    def manage(self, count: int) -> None:
        """Keep workers until TERM."""
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP, signal.SIGTERM])
        workers = self.hire(count)
        while (number := signal.sigwait([signal.SIGHUP, signal.SIGTERM])) == signal.SIGHUP:
            try:
                self.read_version()
            except RuntimeError as error:
                print(error, flush=True)
                continue
            workers, old = self.hire(count), workers
            self.dismiss(old, number)
        self.dismiss(workers, number)

    def dismiss(self, workers: set[int], number: int) -> None:
        """End these workers."""
        for pid in workers:
            os.kill(pid, number)
        for pid in workers:
            os.waitpid(pid, 0)


def main() -> None:
    """Open the shop."""
    shop = Shop()
    if count := int(os.environ.get("WORKERS", "0")):
        shop.manage(count)
    else:
        signal.signal(signal.SIGHUP, shop.read_version)
        signal.signal(signal.SIGUSR1, shop.start_anew)
        if Path("drain").exists():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, shop.drain)
        shop.sell()


if __name__ == "__main__":
    main()
