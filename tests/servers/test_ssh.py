"""Promises of the SSH shell, kept against a real OpenSSH server."""

import contextlib
import os
import secrets
import subprocess
import threading
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from servers.connection import try_connection
from servers.errors import (
    HostKeyChangedError,
    LinkLostError,
    LoginRefusedError,
    RunLostError,
    ScriptTimeoutError,
    StoppedError,
    TransferError,
    UnreachableError,
)
from servers.models import Server
from servers.shell import Script
from servers.ssh.shell import SSHShell, connect
from servers.supervised import script as supervised
from servers.supervised.run import SupervisedRun
from tests.factories import make_credential, make_server
from tests.parts.programs import PATIENCE, callers, command_line, kill_all, processes_running, wait_until
from tests.parts.proxy import Proxy

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]


class Collected:
    """Takes the output of a run."""

    def __init__(self) -> None:
        self.stdout = b""
        self.stderr = b""

    def __call__(self, stream: str, data: bytes) -> None:
        setattr(self, stream, getattr(self, stream) + data)


@pytest.fixture
def shell(sshd):
    with connect(make_server(sshd)) as shell:
        yield shell


def run(
    shell: SSHShell, text: str, timeout: float = PATIENCE, stop: threading.Event | None = None, **kwargs
) -> tuple[Any, ...]:
    collected = Collected()
    code = SupervisedRun(shell).run(Script(text, **kwargs), collected, timeout=timeout, stop=stop or threading.Event())
    return code, collected


def wait_until_gone(command: str) -> None:
    """Return when no process runs ``command``, which would run for an hour."""
    wait_until(lambda: not processes_running(command), f"{command} to end")


def test_a_run_gives_both_streams_and_the_exit_status(shell):
    code, output = run(shell, "echo out; echo err >&2; exit 7")
    assert (code, output.stdout, output.stderr) == (7, b"out\n", b"err\n")


def test_a_death_by_signal_is_recorded_as_such(shell):
    assert run(shell, "kill -9 $(exec sh -c 'echo $PPID')")[0] == 137


def test_eight_mebibytes_on_stderr_do_not_deadlock(shell):
    code, output = run(shell, "head -c 8388608 /dev/zero >&2; echo done")
    assert (code, len(output.stderr), output.stdout) == (0, 8 << 20, b"done\n")


def test_binary_output_arrives_as_it_is(shell):
    code, output = run(shell, r"printf '\000\001\377\r\n'; printf '\000'")
    assert output.stdout == b"\x00\x01\xff\r\n\x00"
    assert code == 0


@pytest.mark.parametrize("detach", ["nohup sleep 4711 &", "setsid sleep 4711 &", "sleep 4711 &", "(sleep 4711 &)"])
def test_a_script_that_leaves_a_daemon_returns_at_once_and_the_daemon_lives(shell, sshd, detach):
    code, output = run(shell, f"{detach}\necho started")
    assert (code, output.stdout) == (0, b"started\n")
    shell.close()
    daemons = [pid for pid in sshd.processes() if command_line(pid) == "sleep 4711"]
    assert len(daemons) == 1
    kill_all(daemons)


def test_a_script_that_opens_its_own_streams_by_name_loses_no_line(shell):
    lines = "for n in 1 2 3; do echo a$n; echo b$n >/dev/stdout; echo c$n >&2; echo d$n >/dev/stderr; done"
    code, output = run(shell, f"exec bash -c '{lines}'")
    assert (code, output.stdout.split(), output.stderr.split()) == (
        0,
        [b"a1", b"b1", b"a2", b"b2", b"a3", b"b3"],
        [b"c1", b"d1", b"c2", b"d2", b"c3", b"d3"],
    )


def test_a_daemon_that_keeps_the_scripts_output_is_said_and_can_go_on_writing(sshd):
    key, go, done = secrets.token_hex(16), sshd.home / "go", sshd.home / "wrote-all"
    said: list[str] = []
    daemon = f"(until [ -e {go} ]; do sleep 0.05; done; head -c 300000 /dev/zero && touch {done}) & echo started"
    with connect(make_server(sshd), on_notice=said.append) as shell:
        collected = Collected()
        assert SupervisedRun(shell, key).run(Script(daemon), collected, timeout=PATIENCE, stop=threading.Event()) == 0
        assert collected.stdout == b"started\n"
        assert any("still holds its output" in sentence for sentence in said)
        SupervisedRun(shell, key).forget()
    assert not (sshd.home / ".deployer" / "runs" / key).exists()
    go.touch()  # what is written now is more than a pipe holds
    wait_until(done.exists, "the daemon to write it all")


def test_output_that_cannot_be_stored_is_said_and_the_script_goes_on(make_sshd):
    said: list[str] = []
    sshd = make_sshd()
    (sshd.home / ".bashrc").write_text("ulimit -f 500\n")  # what a full disk does to whoever writes
    with connect(make_server(sshd), on_notice=said.append) as shell:
        code, output = run(shell, "head -c 3000000 /dev/zero && echo fine >&2")
    assert (code, output.stderr, output.stdout) == (0, b"fine\n", bytes(500 * 1024))
    assert any("The output is incomplete" in sentence for sentence in said)


def test_a_script_that_has_ended_has_not_run_over_its_time_with_the_question_behind_it(shell):
    asked: tuple[int, str] | None = None
    for timeout in (1, 10, 100):  # a busy machine needs longer until the script has ended
        with contextlib.suppress(ScriptTimeoutError):
            asked = SupervisedRun(shell).carry_out(
                Script("exit 3"), "sleep 1000", Collected(), timeout=timeout, stop=threading.Event()
            )
            break
    assert asked == (3, "")


def test_a_server_that_cannot_say_whether_a_script_was_started_is_not_believed(make_sshd):
    sshd = make_sshd()
    (sshd.home / ".deployer").write_text("no folder")
    with connect(make_server(sshd)) as shell, pytest.raises(TransferError, match="does not say whether"):
        SupervisedRun(shell).close_gate()


def test_a_daemon_inherits_no_ignored_signals_and_the_logins_own_umask(shell):
    expected = shell.capture("umask; grep SigIgn /proc/self/status").stdout
    _code, output = run(shell, "umask; grep SigIgn /proc/self/status")
    assert output.stdout.decode() == expected


def test_variables_arrive_whole_and_never_in_a_command_line(shell):
    value = "a'b\"c$(id)`id`\n;\\ end \t é"
    script = 'printf %s "$SECRET"; tr "\\0" "\\n" < /proc/$PPID/cmdline; cat /proc/[0-9]*/cmdline | tr "\\0" "\\n"'
    code, output = run(shell, script, env={"SECRET": value})
    assert output.stdout.decode().startswith(value)
    assert output.stdout.decode().count("a'b") == 1
    assert code == 0


def test_noise_of_the_login_is_not_taken_for_output(sshd):
    (sshd.home / ".bashrc").write_text("echo NOISE; echo NOISE >&2\n")
    try:
        with connect(make_server(sshd)) as shell:
            assert shell.capture("echo fine").stdout == "fine\n"
            code, output = run(shell, "echo out; echo err >&2")
    finally:
        (sshd.home / ".bashrc").unlink()
    assert (code, output.stdout, output.stderr) == (0, b"out\n", b"err\n")


def test_a_link_that_drops_again_and_again_loses_no_line_and_starts_the_script_once(sshd):
    done, output = threading.Event(), Collected()
    lines = "echo x >> starts; for i in $(seq 3000); do echo line $i; [ $((i%10)) = 0 ] && sleep 0.01; done"

    def cut() -> None:
        """Cut every new link, once something has come through it: a busy machine needs long for a login."""
        seen = 0
        while not done.wait(0.4):
            if len(output.stdout) > seen:
                seen = len(output.stdout)
                sshd.drop_links()

    with connect(make_server(sshd)) as shell:
        cutter = threading.Thread(target=cut)
        cutter.start()
        try:
            code = SupervisedRun(shell).run(Script(lines), output, timeout=PATIENCE, stop=threading.Event())
        finally:
            done.set()
            cutter.join()
    starts = sshd.home / "starts"
    assert starts.read_text() == "x\n"
    starts.unlink()
    assert code == 0
    assert output.stdout.decode().splitlines() == [f"line {i}" for i in range(1, 3001)]


def test_a_run_under_one_key_is_executed_once(sshd):
    server = make_server(sshd)
    codes: list[int | None] = []

    def start() -> None:
        with connect(Server.objects.get(pk=server.pk)) as shell:
            collected = Collected()
            script = Script("echo x >> once; sleep 0.5; exit 3")
            try:
                run = SupervisedRun(shell, "f" * 32)
                codes.append(run.run(script, collected, timeout=PATIENCE, stop=threading.Event()))
            except RunLostError:
                codes.append(None)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sshd.home / "once").read_text() == "x\n"
    (sshd.home / "once").unlink()
    assert 3 in codes


class Slow(Collected):
    """Takes less than is printed: there is always more to be read."""

    def __call__(self, stream: str, data: bytes) -> None:
        self.stdout = data
        time.sleep(0.05)


@pytest.mark.parametrize("error", [ScriptTimeoutError, StoppedError])
def test_output_that_never_pauses_hides_neither_the_time_limit_nor_a_stop(shell, monkeypatch, error):
    monkeypatch.setattr("servers.supervised.run._LAST_WORDS", 1)
    said: list[str] = []
    shell.notice = said.append
    endless, stop = f"while :; do echo endless {os.getpid()}; done", threading.Event()
    timeout = 2 if error is ScriptTimeoutError else PATIENCE
    slow = Slow()
    timer = threading.Timer(2, stop.set)
    if error is StoppedError:
        timer.start()
    with pytest.raises(error):
        SupervisedRun(shell).run(Script(f"exec bash -c '{endless}'"), slow, timeout=timeout, stop=stop)
    assert slow.stdout
    assert not processes_running(f"bash -c {endless}")


def test_without_room_nothing_is_read_and_the_script_is_not_kept_waiting(shell, sshd):
    room, output = threading.Event(), Collected()
    results: list[int] = []
    text = Script(f"seq 2000000; touch {sshd.home}/printed-all")
    work = threading.Thread(
        target=lambda: results.append(
            SupervisedRun(shell).run(text, output, timeout=3, stop=threading.Event(), room=room)
        )
    )
    work.start()
    wait_until((sshd.home / "printed-all").exists, "the script to end")
    time.sleep(4)  # its time limit has passed, but it had ended before
    assert not output.stdout
    room.set()
    work.join(PATIENCE)
    assert results == [0]
    assert output.stdout == b"".join(b"%d\n" % number for number in range(1, 2_000_001))


def test_without_room_the_time_limit_of_a_script_holds(shell, monkeypatch):
    monkeypatch.setattr("servers.supervised.run._LAST_WORDS", 1)
    with pytest.raises(ScriptTimeoutError):
        SupervisedRun(shell).run(
            Script("seq 500000; sleep 4712"), Collected(), timeout=2, stop=threading.Event(), room=threading.Event()
        )
    assert not processes_running("sleep 4712")


def test_a_run_is_read_on_from_where_somebody_has_read_to(shell):
    run, output = SupervisedRun(shell), Collected()
    text = "echo one; echo two; echo a >&2; echo b >&2"
    assert run.run(Script(text), Collected(), timeout=PATIENCE, stop=threading.Event()) == 0
    taken = {"stdout": 4, "stderr": 2}
    run.carry_out(Script(text), "", output, timeout=PATIENCE, stop=threading.Event(), taken=taken)
    assert (output.stdout, output.stderr) == (b"two\n", b"b\n")


def test_a_script_over_its_time_is_ended_with_all_its_children(shell):
    nap = f"sleep 5300.{os.getpid()}"
    with pytest.raises(ScriptTimeoutError):
        run(shell, f"trap '' TERM; setsid {nap} & {nap} & while :; do {nap}; done", timeout=1)
    wait_until_gone(nap)


def test_a_stopped_run_leaves_no_process(shell):
    stop, nap = threading.Event(), f"sleep 5400.{os.getpid()}"

    def stop_when_it_runs() -> None:
        wait_until(lambda: len(processes_running(nap)) == 3, "the script to run")
        stop.set()

    threading.Thread(target=stop_when_it_runs).start()
    with pytest.raises(StoppedError):
        run(shell, f"({nap}; echo never) | cat & setsid {nap} & {nap}", stop=stop)
    wait_until_gone(nap)


def test_killing_a_run_that_has_ended_leaves_its_daemon_alone(shell, sshd):
    key, nap = "e" * 32, f"sleep 5500.{os.getpid()}"
    until_ended = f"until [ -s ~/.deployer/runs/{key}/code ]; do sleep 0.01; done"
    shell.capture(supervised.start(key, Script(f"setsid {nap} & exit 0"), "END") + until_ended)
    wait_until(lambda: processes_running(nap), "the daemon to run")
    assert shell.capture(supervised.kill(key)).stdout == "ended\n"
    time.sleep(0.3)  # what it might have been sent arrives
    daemons = processes_running(nap)
    kill_all(daemons)
    assert len(daemons) == 1


def test_a_number_that_somebody_else_has_by_now_is_not_killed(shell, sshd):
    key = secrets.token_hex(16)
    place = sshd.home / ".deployer" / "runs" / key
    shell.capture(supervised.follow(key, "T", 0, 0, supervised.start(key, Script("kill -9 $$"), "END")))
    stranger = subprocess.Popen(["sleep", "6000"], start_new_session=True)
    try:
        _pid, start, boot = (place / "pid").read_text().split()
        (place / "pid").write_text(f"{stranger.pid} {start} {boot}\n")
        assert shell.capture(supervised.kill(key)).stdout == "killed\n"
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_runner_that_was_killed_is_a_lost_run_and_not_a_success(shell):
    with pytest.raises(RunLostError, match="no record"):
        run(shell, "sleep 0.5; kill -9 $$; sleep 0.2")


def test_the_first_host_key_is_pinned_and_said(sshd):
    notices: list[str] = []
    server = make_server(sshd)
    connect(server, on_notice=notices.append).close()
    server.refresh_from_db()
    assert server.host_key == sshd.host_key
    assert "SHA256:" in notices[0]


def test_a_changed_host_key_is_refused_with_both_fingerprints(make_sshd):
    sshd = make_sshd()
    server = make_server(sshd)
    connect(server).close()
    sshd.change_host_key()
    with pytest.raises(HostKeyChangedError) as caught:
        connect(server)
    assert str(caught.value).count("SHA256:") == 2


def test_a_wrong_key_is_refused_with_the_credentials_name(sshd):
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    credential = make_credential(name="old key", username=sshd.username, kind="ssh_key", private_key=key.decode())
    with pytest.raises(LoginRefusedError, match="old key"):
        connect(make_server(sshd, credential=credential))


def test_a_dead_port_is_said_to_be_refused():
    server = make_server(host="127.0.0.1", port=1)
    report = try_connection(server)
    assert not report.ok
    assert "refused" in report.steps[-1].why
    assert Server.objects.get(pk=server.pk).connection_status == "offline"


def test_something_else_on_the_port_is_not_an_ssh_server(make_sshd):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            for _ in range(8):
                link, _address = listener.accept()
                link.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")
                link.close()

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(UnreachableError, match="SSH server"):
            connect(make_server(host="127.0.0.1", port=listener.getsockname()[1]))


@pytest.mark.parametrize("kind", ["rsa-pkcs1", "rsa-pkcs8", "rsa-openssh", "ecdsa-sec1", "ecdsa-pkcs8", "passphrase"])
def test_keys_of_every_usual_kind_log_in(make_sshd, kind):
    sshd = make_sshd()
    key = ec.generate_private_key(ec.SECP256R1()) if kind.startswith("ecdsa") else rsa.generate_private_key(65537, 2048)
    form = {
        "pkcs8": serialization.PrivateFormat.PKCS8,
        "openssh": serialization.PrivateFormat.OpenSSH,
        "passphrase": serialization.PrivateFormat.OpenSSH,
    }.get(kind.rpartition("-")[2], serialization.PrivateFormat.TraditionalOpenSSL)
    lock = serialization.BestAvailableEncryption(b"open it") if kind == "passphrase" else serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, form, lock).decode()
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    (sshd.folder / "authorized_keys").write_bytes(public + b"\n")
    credential = make_credential(
        username=sshd.username, kind="ssh_key", private_key=pem, passphrase="open it" if kind == "passphrase" else ""
    )
    credential.full_clean()
    report = try_connection(make_server(sshd, credential=credential))
    assert report.ok, report


def test_a_server_behind_a_jump_host_is_reached(make_sshd):
    door, inner = make_sshd(), make_sshd()
    server = make_server(inner, jump_host=make_server(door))
    with connect(server) as shell:
        assert shell.capture("echo $HOME").stdout.strip() == str(inner.home)


def test_a_jump_host_that_does_not_forward_is_named_as_the_reason(make_sshd):
    door, inner = make_sshd("AllowTcpForwarding no"), make_sshd()
    with pytest.raises(UnreachableError, match="jump host"):
        connect(make_server(inner, jump_host=make_server(door)))


def test_a_port_that_accepts_and_never_speaks_is_given_up_after_one_wait(monkeypatch):
    import socket

    monkeypatch.setattr("servers.ssh.hop.LOGIN_TIMEOUT", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with pytest.raises(UnreachableError, match="sent nothing"):
            connect(make_server(host="127.0.0.1", port=listener.getsockname()[1]))
        assert callers(listener) == 1


def test_a_run_that_is_stopped_while_its_server_is_away_gives_up_at_once(make_sshd):
    sshd, stop = make_sshd(), threading.Event()
    said: list[str] = []

    def notice(sentence: str) -> None:
        said.append(sentence)
        stop.set()

    server = make_server(sshd)
    connect(server).close()  # its key is pinned, so the first thing that is said is that the link is lost
    with connect(server, on_notice=notice) as shell, pytest.raises(UnreachableError):
        SupervisedRun(shell).run(Script("echo begun; sleep 1000"), lambda *_: sshd.stop(), timeout=PATIENCE, stop=stop)
    assert [sentence.endswith("Connecting again.") for sentence in said] == [True]


def test_a_file_in_the_way_of_its_folder_stops_a_run_before_it_begins(make_sshd):
    sshd = make_sshd()
    (sshd.home / ".deployer").write_text("in the way")
    with connect(make_server(sshd)) as shell, pytest.raises(TransferError, match="could not be started"):
        SupervisedRun(shell).run(Script("true"), Collected(), timeout=PATIENCE, stop=threading.Event())


@pytest.fixture
def proxy(sshd):
    proxy = Proxy(sshd.port)
    yield proxy
    proxy.close()


@pytest.mark.parametrize("blow", ["fin", "reset"])
def test_a_link_that_is_cut_anywhere_in_a_login_is_not_a_refused_login(sshd, proxy, blow):
    server = make_server(sshd, port=proxy.port)
    for after in range(1, 5000, 1000):
        proxy.strike_next(blow, after)
        with connect(server) as shell:
            assert shell.capture("echo fine").stdout == "fine\n"


@pytest.mark.parametrize("blow", ["fin", "reset"])
def test_a_link_that_is_cut_in_an_upload_is_a_lost_link_and_no_full_disk(sshd, proxy, tmp_path, blow):
    proxy.strike_next(blow, 500_000)
    with connect(make_server(sshd, port=proxy.port)) as shell, pytest.raises(LinkLostError):
        shell.feed(f"cat >{tmp_path}/part", [bytes(300_000)] * 10, timeout=PATIENCE, stop=threading.Event())
