"""The text of supervised runs under the shells that a server's ``sh`` may be; each is given its own kind of tools."""

import os
import secrets
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from servers.shell import Script
from servers.ssh.channel import whole
from servers.supervised import script as supervised
from tests.parts.programs import PATIENCE

#: Debian has the first two. The others are tried where they are installed.
SHELLS = ["dash", "bash --posix", *filter(shutil.which, ["busybox", "mksh", "ksh93", "yash"])]
BUSYBOX = ("cat", "find", "grep", "head", "id", "kill", "mkdir", "mkfifo", "rm", "setsid", "sleep", "tail", "wc")
LONG = "\n".join(map(str, range(20_000)))
AWKWARD = 'it\'s "q" $HOME `id` \\ \n two'


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("text", "env", "stdout", "stderr", "record"),
    [
        ("echo out; echo err >&2; exit 7", {}, "out\n", "err\n", "7 4 4"),
        (
            'printf %s "$A$B"',
            {"A": "x" * 100_000, "B": AWKWARD},
            "x" * 100_000 + AWKWARD,
            "",
            f"0 {100_000 + len(AWKWARD)} 0",
        ),
        (f"cat <<'END'\n{LONG}\nEND", {}, LONG + "\n", "", f"0 {len(LONG) + 1} 0"),
        (
            "exec bash -c 'for n in 1 2; do echo o$n >/dev/stdout; echo e$n >/dev/stderr; done'",
            {},
            *["o1\no2\n", "e1\ne2\n"],
            "0 6 6",
        ),
        ("sleep 60 & echo up", {}, "up\n", "", "0 3 0 held"),
        ("exec >&- 2>&-; exit 3", {}, "", "", "3 0 0"),
    ],
    ids=["both streams", "variables", "long", "streams by name", "daemon", "closed streams"],
)
def test_a_run_is_the_same_under_every_shell(shell, text, env, stdout, stderr, record, tmp_path: Path):
    key, trailer = secrets.token_hex(16), "TRAILER"
    sent = supervised.follow(key, trailer, 0, 0, supervised.start(key, Script(text, env), "END_OF_TEXT"))
    done = run(shell, sent, tmp_path)
    assert done.stdout.decode() == f"\0{trailer}\n{stdout}\0{trailer} {record}\n"
    assert done.stderr.decode() == f"\0{trailer}\n{stderr}"
    again = run(shell, supervised.follow(key, trailer, 2, 0), tmp_path)
    assert again.stdout.decode() == f"\0{trailer}\n{stdout[2:]}\0{trailer} {record}\n"
    assert run(shell, supervised.close_gate(key), tmp_path).stdout == b"started\n"
    assert run(shell, supervised.kill(key), tmp_path).stdout == b"ended\n"
    run(shell, supervised.forget(key), tmp_path)
    assert list((tmp_path / ".deployer" / "runs").iterdir()) == []
    assert run(shell, supervised.close_gate(key), tmp_path).stdout == b"never\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_what_a_script_has_left_running_is_not_ended_before_its_end_is_recorded(shell, tmp_path: Path):
    left = tmp_path / "left"
    text = f"(while sleep 0.02; do echo x; done) & echo $! >{left}"
    waiting = f"until [ -s {tmp_path}/.deployer/runs/k/code ]; do sleep 0.01; done"
    run(shell, supervised.start("k", Script(text), "END_OF_TEXT") + waiting, tmp_path)
    try:
        assert run(shell, supervised.kill("k"), tmp_path).stdout == b"ended\n"
        assert (tmp_path / ".deployer" / "runs" / "k" / "rc").read_text().split()[0] == "0"
        os.kill(int(left.read_text()), 0)
    finally:
        os.kill(int(left.read_text()), signal.SIGKILL)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_clock_that_is_put_forward_by_weeks_takes_no_folder_from_a_run_under_way(shell, tmp_path: Path):
    runs, go = tmp_path / ".deployer" / "runs", tmp_path / "go"
    text = f"echo begun; until [ -e {go} ]; do sleep 0.01; done; echo done"
    begun = f"until [ -s {runs}/k/out ]; do sleep 0.01; done"
    run(shell, supervised.start("k", Script(text), "END_OF_TEXT") + begun, tmp_path)
    for name, record in {"killed": f"1 1 {'0' * 36}", "never": "", "reused": f"{os.getpid()} 1 {boot_id()}"}.items():
        (runs / name).mkdir()
        (runs / name / "pid").write_text(record)
    for folder in runs.iterdir():
        subprocess.run(["touch", "-d", "20 days ago", folder], check=True)
    run(shell, supervised.start("other", Script("true"), "END_OF_TEXT"), tmp_path)
    assert {folder.name for folder in runs.iterdir()} == {"k", "other"}
    go.touch()
    done = run(shell, supervised.follow("k", "TRAILER", 0, 0), tmp_path)
    assert done.stdout.decode() == "\0TRAILER\nbegun\ndone\n\0TRAILER 0 11 0\n"


def test_a_full_disk_is_said_and_the_end_is_known(tmp_path: Path):
    (tmp_path / ".deployer").mkdir(mode=0o700)
    small = f"mount -t tmpfs -o size=200k,mode=700 tmpfs {tmp_path}/.deployer || exit 1\n"
    sent = supervised.follow("k", "TRAILER", 0, 0, supervised.start("k", Script("seq 90000; exit 4"), "END_OF_TEXT"))
    done = run("dash", small + sent, tmp_path, "unshare", "--map-root-user", "--mount")
    record = done.stdout.rpartition(b"TRAILER ")[2].decode().split()
    assert (record[0], record[2:]) == ("4", ["0", "cut"]), done
    assert 0 < int(record[1]) < 200 << 10


@pytest.mark.parametrize(("tmp", "begins"), [("mode=700", True), ("mode=700,ro", False)])
def test_a_home_that_cannot_be_written_has_its_runs_below_tmp_and_without_that_nothing_is_started(
    tmp, begins, tmp_path: Path
):
    begun, below = tmp_path.with_suffix(".begun"), Path("/tmp/.deployer-0")
    run("dash", ":", tmp_path)
    below.mkdir(mode=0o700, exist_ok=True)
    sealed = f"mount -t tmpfs -o {tmp} tmpfs {below} && mount --bind {tmp_path} {tmp_path} || exit 1\n"
    sealed += f"mount -o remount,bind,ro {tmp_path} || exit 1\n"
    text = supervised.start("k", Script(f"touch {begun}; echo fine; exit 4"), "END_OF_TEXT")
    sent = f"{sealed}{supervised.follow('k', 'TRAILER', 0, 0, text)}ls -d {below}/runs/k\n"
    done = run("dash", sent, tmp_path, "unshare", "--map-root-user", "--mount")
    said = f"\0TRAILER\nfine\n\0TRAILER 4 5 0\n{below}/runs/k\n" if begins else ""
    assert (done.stdout.decode(), begun.exists(), done.returncode) == (said, begins, 0 if begins else 120), done
    assert not (tmp_path / ".deployer").exists()


def test_a_run_is_found_again_where_it_was_begun_whatever_became_of_the_home(tmp_path: Path):
    counted = tmp_path.with_suffix(".counted")
    text = supervised.start("k", Script(f"echo x >>{counted}; echo fine"), "END_OF_TEXT")
    sent = supervised.follow("k", "TRAILER", 0, 0, text)
    said = b"\0TRAILER\nfine\n\0TRAILER 0 5 0\n"
    assert run("dash", sent, tmp_path).stdout == said
    sealed = f"mount --bind {tmp_path} {tmp_path} && mount -o remount,bind,ro {tmp_path} || exit 1\n"
    done = run("dash", sealed + sent, tmp_path, "unshare", "--map-root-user", "--mount")
    assert (done.stdout, counted.read_text()) == (said, "x\n"), done


def test_the_end_is_recorded_even_if_the_tools_of_the_runner_are_ended(tmp_path: Path):
    run("dash", ":", tmp_path)
    counted = tmp_path / "counted"
    (tmp_path / "bin" / "wc").write_text(
        f'#!/bin/sh\n[ -e {counted} ] || {{ : >{counted}; kill -9 $$; }}\nexec /usr/bin/wc "$@"\n'
    )
    (tmp_path / "bin" / "wc").chmod(0o755)
    sent = supervised.follow("k", "TRAILER", 0, 0, supervised.start("k", Script("echo fine; exit 4"), "END_OF_TEXT"))
    assert run("dash", sent, tmp_path).stdout.endswith(b"fine\n\0TRAILER 4 5 0\n")
    assert counted.exists()


def run(shell: str, text: str, home: Path, *inside: str) -> subprocess.CompletedProcess[bytes]:
    """Send ``text`` to a server whose ``sh`` is ``shell``; that is run by the command ``inside``."""
    bins = home / "bin"
    if not bins.exists():
        bins.mkdir()
        command = "busybox sh" if shell == "busybox" else shell
        (bins / "sh").write_text(f'#!/bin/bash\nexec {command} "$@"\n')
        (bins / "sh").chmod(0o755)
        if shell == "busybox":
            for tool in BUSYBOX:
                (bins / tool).symlink_to(str(shutil.which("busybox")))
    environment = {"HOME": str(home), "PATH": f"{bins}:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    return subprocess.run(
        [*inside, bins / "sh", "-s"],
        input=whole(text),
        capture_output=True,
        env=environment,
        timeout=PATIENCE,
        start_new_session=True,
    )


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
