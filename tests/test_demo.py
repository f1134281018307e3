"""The demo's SSH servers behave like servers: exit statuses, bytes, files, and processes of their own."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployer.playground.servers import username
from servers.shell import Script
from servers.ssh.shell import SSHShell, connect
from servers.supervised.run import SupervisedRun
from tests.factories import make_credential, make_server
from tests.parts.programs import HOUSE, PATIENCE, free_port, kill_all, processes_with, stop_process, wait_until

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def machines(tmp_path_factory) -> Iterator[tuple[Path, list[int]]]:
    folder = tmp_path_factory.mktemp("demo")
    ports = [free_port(), free_port()]
    rows = [f"web-{number}:{port}:{number}" for number, port in enumerate(ports, start=1)]
    (folder / "machines").write_text("\n".join(rows))
    command = [sys.executable, "-m", "deployer.playground.servers", str(folder)]
    process = subprocess.Popen(command, cwd=HOUSE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert b"ready\n" in iter(process.stdout.readline, b"")
    yield folder, ports
    kill_all(processes_with(f"DEMO_FOLDER={folder}"))
    stop_process(process)
    process.stdout.close()


@pytest.fixture
def shells(machines: tuple[Path, list[int]]) -> Iterator[list[SSHShell]]:
    folder, ports = machines
    key = (folder / "keys" / "id_ed25519").read_text()
    credential = make_credential(username=username(), kind="ssh_key", private_key=key)
    shells = [connect(make_server(host="127.0.0.1", port=port, credential=credential)) for port in ports]
    yield shells
    for shell in shells:
        shell.close()


def test_each_server_has_a_home_of_its_own(shells: list[SSHShell], machines: tuple[Path, list[int]]) -> None:
    homes = [shell.capture('printf %s "$HOME"').stdout for shell in shells]
    assert homes == [str(machines[0] / "servers" / name) for name in ("web-1", "web-2")]


def test_exit_status_and_both_streams_arrive_apart_and_whole(shells: list[SSHShell]) -> None:
    done = shells[0].capture("head -c 3000000 /dev/zero | tr '\\0' x; echo wrong >&2; exit 7")
    assert (done.code, done.stdout, done.stderr) == (7, "x" * 3_000_000, "wrong\n")


def test_a_command_that_leaves_a_background_child_holding_its_output_ends(shells: list[SSHShell]) -> None:
    assert shells[0].capture("sleep 300 & echo left", timeout=PATIENCE).stdout == "left\n"


def test_a_look_through_the_processes_finds_the_server_s_own_alone(shells: list[SSHShell]) -> None:
    shells[0].capture("sleep 4321 >/dev/null 2>&1 </dev/null &")
    look = "grep -aH '' /proc/[0-9]*/cmdline | tr '\\0' ' '"

    def seen(shell: SSHShell) -> bool:
        return "sleep 4321" in shell.capture(look).stdout

    wait_until(lambda: seen(shells[0]), "the process to be seen")
    assert not seen(shells[1])


def test_a_supervised_run_works_as_on_a_real_server(shells: list[SSHShell]) -> None:
    lines: list[bytes] = []
    script, stop = Script("echo one; exit 3"), threading.Event()
    code = SupervisedRun(shells[0]).run(script, lambda _stream, data: lines.append(data), timeout=PATIENCE, stop=stop)
    assert (code, b"".join(lines)) == (3, b"one\n")
