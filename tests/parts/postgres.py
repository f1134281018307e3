"""A PostgreSQL server of its own; ``python -m tests.parts.postgres COMMAND...`` runs a command against one."""

import getpass
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.parts.programs import PATIENCE, free_port, program


class PostgresServer:
    """A running server; ``url`` is the DATABASE_URL of its empty database.

    PostgreSQL refuses to run as root: there it runs as the user ``postgres`` that Debian's package makes.
    """

    def __init__(self) -> None:
        bins = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
        self._bin = Path(program("initdb", "postgresql", *map(str, bins))).resolve().parent
        self._as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] * (os.getuid() == 0)
        self._user = "postgres" if self._as_user else getpass.getuser()
        self.folder = Path(tempfile.mkdtemp(prefix="deployer-pg-"))
        if self._as_user:
            shutil.chown(self.folder, "postgres")
        self.port = free_port()
        self._pg("initdb", "-D", f"{self.folder}/data", "-A", "trust", "-U", self._user, "-E", "UTF8", "--no-sync")
        self.start()
        self.url = f"postgres://{self._user}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Answer (again) on the same port."""
        self._pg("pg_ctl", "-D", f"{self.folder}/data", "-l", f"{self.folder}/log", "-o", self._options, "-w", "start")

    def stop(self) -> None:
        """Cut every connection and stop answering."""
        self._pg("pg_ctl", "-D", f"{self.folder}/data", "-m", "immediate", "-w", "stop")

    @property
    def _options(self) -> str:
        return f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self.folder} -F -c max_connections=200"

    def _pg(self, name: str, *arguments: str) -> None:
        done = subprocess.run(
            [*self._as_user, str(self._bin / name), *arguments],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "PGCTLTIMEOUT": f"{PATIENCE:.0f}"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"{name} failed: {done.stderr.strip()}")

    def close(self) -> None:
        """Stop it and remove its files."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def main() -> int:
    """Run the command of the command line with TEST_DATABASE_URL set; gives its exit status."""
    server = PostgresServer()
    try:
        return subprocess.call(sys.argv[1:], env=os.environ | {"TEST_DATABASE_URL": server.url})
    finally:
        server.close()


if __name__ == "__main__":
    sys.exit(main())
