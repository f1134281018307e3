"""Servers that lie, and output that hurts: what is made of answers that make no sense, have no end or deceive."""

import base64
import contextlib
import json
import os
import random
import socket
import struct
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from shlex import quote as shell_quote
from typing import Any
from unittest import mock
from urllib.parse import quote, quote_plus

import paramiko
from django.conf import settings
from django.db import connections
from django.test import Client, override_settings

from deployer.engine.routines import carry_out
from deployer.log.lines import LineSplitter
from deployer.log.masking import MASK, Masker
from deployer.log.terminal import as_html, clean
from deployer.models import Deployment, LogLine, Sighting
from deployer.plan import Plan
from deployer.probing.health import ask_once
from deployer.probing.identity import Inquiry, Question
from deployer.probing.place import Visit
from projects.commands import health, look, manifest, processes, release
from projects.commands.matching import Name, Search
from projects.commands.services import systemd
from servers.connection import try_connection
from servers.errors import NonsenseError, ShellError
from servers.models import Server
from servers.shell import Script
from servers.ssh import chain
from servers.ssh.shell import SSHShell, connect
from servers.supervised.follower import EndlessError, Follower
from servers.supervised.run import SupervisedRun
from tests.factories import make_deployment, make_group, make_project, make_server, make_user
from tests.parts.git import GitRepository
from tests.parts.sshd import OpenSSHServer
from tests.security import patterns
from tests.security.liar import Liar, listening
from tests.security.table import attack

LIES = ("empty", "random", "endless", "cut", "another's", "numbers")
#: Megabytes that an answer may cost the process at most.
MEMORY = 150


@contextlib.contextmanager
def little_memory(most: int = MEMORY) -> Iterator[None]:
    """Fail where the process takes more than ``most`` megabytes on top in the meantime."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _memory("VmRSS")
    yield
    grown = (_memory("VmHWM") - before) >> 10
    assert grown < most, f"it took {grown} MB"


def _memory(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


# --- patterns -------------------------------------------------------------------------------------------


@attack("output", "texts that make a regular expression go round for hours", short=False)
def pump(folder: Path) -> str:
    found = [*patterns.patterns(), *patterns.in_scripts()]
    assert len(found) > 80, f"only {len(found)} were found"
    slow = [told for each in found if (told := patterns.grows(each))]
    assert not slow, "\n".join(slow)
    return f"{len(found)} patterns of Python and JavaScript: none takes more than its share for a longer text"


@attack("output", "a line of 33,000 characters in the middle of an escape sequence")
def half_a_sequence(folder: Path) -> str:
    line = "\x1b[" + "!" * 33_000
    begun = time.thread_time()
    shown = clean(line), as_html(line), LineSplitter(Masker(["secret"])).feed(line.encode() + b"\n")
    took = time.thread_time() - begun
    assert took < 1, f"it took {took:.1f} s"
    return f"shown as {len(shown[0])} characters in {took * 1000:.0f} ms of processor time"


@attack("output", "five hundred secrets and a private key, against megabytes of coloured text")
def many_secrets(folder: Path) -> str:
    words = random.Random(3)
    secrets = ["".join(words.choices("abcdefghijkLMNOPQ0123456789+/", k=24)) for _number in range(500)]
    key = "\n".join("".join(words.choices("ABCDEFGHabcdefgh0123456789+/", k=64)) for _line in range(52))
    masker = Masker([*secrets, key])
    text = "\n".join(f"\x1b[32mINFO\x1b[0m {'a line of a log ' * 5}" for _line in range(10_000)) + "\n"
    splitter = LineSplitter(masker)
    begun = time.thread_time()
    data = text.encode()
    for begin in range(0, len(data), 16_384):
        splitter.feed(data[begin : begin + 16_384])
    took = time.thread_time() - begun
    rate = len(data) / 1e6 / took
    assert rate > 2, f"{rate:.1f} MB/s"  # it was 0.2; a machine under load is no fault
    return f"{rate:.0f} MB/s of processor time"


@attack("output", "secrets in other forms, split by colours, by pieces and by characters that show nothing")
def hidden_secrets(folder: Path) -> str:
    chance = random.Random(4)
    secrets = [
        "pass'w0rd/ü+geheim",
        "secret",
        "an inner secret of theirs",
        "line one\nline two\r\nline three",
        "Ångström\u0301x",
    ]
    masker = Masker(secrets)
    tried = 0
    for secret in secrets:
        for line in {secret, *secret.splitlines()}:
            data = line.encode()
            forms = [
                *(line, quote(line, safe=""), quote_plus(line), json.dumps(line)[1:-1], shell_quote(line).strip("'")),
                *(unicodedata.normalize(form, line) for form in ("NFC", "NFD")),
                *(base64.b64encode(b"x" * shift + data).decode() for shift in range(3)),
            ]
            for form in forms:
                for between in ("", "\x1b[31m", "\x1b[1m\x1b[0m", "\u200b", "\u200d"):
                    at = sorted(chance.sample(range(1, len(form)), min(3, len(form) - 1)))
                    split = between.join(form[a:b] for a, b in zip([0, *at], [*at, len(form)], strict=True))
                    shown = _through(masker, f"before {split} after\n".encode(), chance)
                    bare = "".join(piece for piece in shown if piece.isprintable())
                    assert MASK in bare, (form, between, shown)
                    assert line.splitlines()[0] not in bare, (form, between, shown)
                    tried += 1
    return f"{tried} forms of {len(secrets)} secrets were masked, wherever the pieces ended"


def _through(masker: Masker, data: bytes, chance: random.Random) -> str:
    splitter, lines = LineSplitter(masker), []
    while data:
        count = chance.randint(1, 9)
        lines += splitter.feed(data[:count])
        data = data[count:]
    return "\n".join([*lines, *splitter.finish()])


@attack("output", "characters that turn a line of the log round, or show nothing")
def turned_round(folder: Path) -> str:
    line = "rm -rf \u202egpj.exe\u202c \u200bok\u2066\ufeff \U000e0041done"
    (shown,) = LineSplitter(Masker([])).feed(line.encode() + b"\n")
    assert shown == "rm -rf gpj.exe ok done", shown
    facts = look.read("HOME /home/x\nSYSTEM \u202eDebian\u2066\nKERNEL 6\x1b[31m.1\n")
    assert facts.machine.system == "Debian", facts.machine.system
    assert "\x1b" not in facts.machine.kernel
    told = str(ShellError("it said", "\x1b]0;title\x07\u202eno\0\udc80"))
    assert not {"\x1b", "\u202e", "\0", "\udc80"} & {*told}, told
    return "left out of lines, of what a machine says of itself and of sentences"


# --- readers --------------------------------------------------------------------------------------------


@attack("server", "random, cut, swapped and doubled answers, for every reader")
def any_answer(folder: Path) -> str:
    survey = (
        "BOOT 0f0f\nSELF 7\nFOLDER /srv/shop\nUSER 0\nSERVICE 0\nUNIT system\nLoadState=loaded\nMainPID=5\nPROCESSES\n"
        "/proc/stat:btime 1700000000\n"
        + "".join(
            f"/proc/{pid}/stat:{pid} (x) S {pid - 1} {'0 ' * 17}{pid} 0 0 0 0 0 1 0\n/proc/{pid}/cmdline:shop\0{pid}\n"
            for pid in range(1, 30)
        )
        + "PLACES\nlrwxrwxrwx 1 0 0 0 Nov 26 04:20 /proc/5/cwd -> /srv/shop\n"
    )
    facts = "HOME /root\nMACHINE " + "a" * 32 + "\nTOOL bash\nFREE 100\nAT 1:2 /proc/self/ns/pid\nAT 1:3 /srv\n"
    state = "L releases/1\nA 1:2\nR 1\nR 2\nT zstd\nP 3\nS abc\nN file\n"
    tree = "f\t644\t5\t\ta\nd\t755\t\t\tb\nl\t\t\ta\tc\n-\n" + "0" * 64 + "\n"
    http = "HTTP/1.1 200 OK\nA: b\n\nbody\n0 200"
    want = manifest.Manifest([manifest.Entry("f", "a", 0o644, 5), manifest.Entry("d", "b", 0o755)])

    def survey_of(text: str) -> object:
        found = Search(processes.read_survey(text), "1")
        unit = Question("shop.service", "systemd").find(found)
        return found.by_name(Name("shop 5")).chosen, unit, found.by_name(Name("shop"))

    readers: list[tuple[str, Callable[[str], object]]] = [
        (survey, survey_of),
        (survey, Inquiry((Question("shop"),)).read),
        (facts, lambda text: look.read(text, "~/shop").learned()),
        (state, release.read_path_state),
        (state, lambda text: (release.superfluous(text, 2, ()), release.kept_back(text), release.leftovers(text))),
        (tree, manifest.Manifest.from_listing),
        (tree, lambda text: manifest.damage(text, want)),
        (http, lambda text: health.read_http(text, headers=True)),
        ("LoadState=loaded\nActiveState=active\n", lambda text: systemd.Unit.read(text.splitlines()).state),
    ]
    chance, tried = random.Random(int(os.environ.get("SEED", "5"))), 0
    for number in range(400):
        for good, reader in readers:
            text = _spoilt(good, readers[number % len(readers)][0], chance)
            with contextlib.suppress(ShellError):
                reader(text)
            tried += 1
    return f"{tried} answers: each was read, or refused with a reason"


def _spoilt(good: str, other: str, chance: random.Random) -> str:
    match chance.randrange(7):
        case 0:
            return good[: chance.randrange(len(good))]
        case 1:
            return good + good
        case 2:
            return other
        case 3:
            lines = good.split("\n")
            chance.shuffle(lines)
            return "\n".join(lines)
        case 4:
            number = chance.choice(["9" * 5000, "-1", "²", "٣", "1e9", "", "\0", "\udcff"])
            return "".join(number if letter.isdigit() and chance.random() < 0.3 else letter for letter in good)
        case 5:
            return chance.randbytes(300).decode(errors="surrogateescape")
    at = chance.randrange(len(good))
    return good[:at] + chance.choice(["\n", "\0", " ", "\t", "\udc80", "/", ":", "x" * 9000]) + good[at:]


@attack("server", "records of a run that are none, and output without an end behind its end")
def false_records(folder: Path) -> str:
    chance = random.Random(6)
    for _number in range(300):
        follower = Follower(lambda _stream, _data: None, {}, 100_000)
        mark = f"\0{follower.trailer}".encode()
        numbers = b"0 " + b"9" * 150 + b" 1"
        record = chance.choice([b"0 1", b"-1 -2 -3", numbers, b"\xff\xfe", b"", chance.randbytes(40)])
        sent = mark + b"\n" + b"out" + mark + b" " + record.replace(b"\n", b"") + b"\n" + chance.randbytes(20)
        while sent:
            count = chance.randint(1, 30)
            follower.take("stdout", sent[:count])
            sent = sent[count:]
        assert follower.record is not None
        run = SupervisedRun(SSHShell(Server(name="liar")), "k")
        with contextlib.suppress(ShellError):
            run._exit_status(follower, threading.Event())
    for head in (b"\n" + b"x" * 10, b"\n\0%b 0 0 0" % b"T" * 1):
        follower = Follower(lambda _stream, _data: None, {}, 100_000)
        follower.take("stdout", b"\0" + follower.trailer.encode() + head)
        with contextlib.suppress(EndlessError):
            for _piece in range(10):
                follower.take("stdout", b"x" * 60_000)
            raise AssertionError("there is no end to it")
    return "300 records were refused with a reason, and what has no end was ended"


@attack("server", "a chain of thirty thousand processes, each with the name that is looked for")
def long_chain(folder: Path) -> str:
    listing = "".join(
        f"/proc/{pid}/stat:{pid} (a) S {pid - 1} {'0 ' * 17}{pid} 0 0 0 0 0 1 0\n/proc/{pid}/cmdline:app -a -a\n"
        for pid in range(2, 30_000)
    )
    text = f"BOOT x\nSELF 29999\nPROCESSES\n{listing}PLACES\n"
    begun = time.thread_time()
    with little_memory():
        Search(processes.read_survey(text), "").by_name(Name("app"))
        words = "BOOT x\nSELF 9\nPROCESSES\n" + "".join(
            f"/proc/{pid}/stat:{pid} (a) S 1 {'0 ' * 17}{pid} 0 0 0 0 0 1 0\n"
            f"/proc/{pid}/cmdline:{'app -a -a '}{'app -a ' * 500}\n"
            for pid in range(10, 60)
        )
        Search(processes.read_survey(words + "PLACES\n"), "").by_name(Name("app server-a"))
    took = time.thread_time() - begun
    assert took < 20, f"it took {took:.0f} s"
    return f"looked through in {took:.1f} s of processor time"


# --- before a login -------------------------------------------------------------------------------------


@attack("server", "a greeting, a packet and a list without an end, before anybody has logged in")
def before_a_login(folder: Path) -> str:
    def greet_for_ever(link: socket.socket) -> None:
        while True:
            link.sendall(b"!" * 65_536)

    def huge_packet(link: socket.socket) -> None:
        link.sendall(b"SSH-2.0-liar\r\n" + struct.pack(">IB", 0xFFFF_FFF4, 4))
        while True:
            link.sendall(bytes(65_536))

    def noise(link: socket.socket) -> None:
        link.sendall(b"SSH-2.0-liar\r\n" + struct.pack(">IB", 12, 4) + b"\x14" + random.Random(1).randbytes(4000))

    told = []
    for speak in (greet_for_ever, huge_packet, noise):
        with listening(speak) as port, little_memory(60), mock.patch("servers.ssh.hop.TRIES", 1):
            report = try_connection(make_server(host="127.0.0.1", port=port))
        assert not report.ok
        told.append(report.steps[-1].why)
    return "; ".join(told)


class _Permissive(paramiko.ServerInterface):
    """Lets everybody in."""

    def check_auth_password(self, username: str, password: str) -> int:
        return 0  # AUTH_SUCCESSFUL

    def get_allowed_auths(self, username: str) -> str:
        return "password"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return 0  # OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: Any, command: bytes) -> bool:
        return True


def _served(interface: paramiko.ServerInterface, then: Any) -> Any:
    key = paramiko.RSAKey.generate(2048)

    def speak(link: socket.socket) -> None:
        with paramiko.Transport(link) as transport:
            transport.add_server_key(key)
            transport.start_server(server=interface)
            then(transport)
            while transport.is_active():
                time.sleep(0.05)

    return speak


@attack("server", "questions and extensions by the thousand million during the login")
def endless_lists(folder: Path) -> str:
    class Asking(_Permissive):
        transport: Any = None

        def check_auth_password(self, username: str, password: str) -> int:
            message = paramiko.Message()
            message.add_byte(b"\x07")  # the extensions of RFC 8308
            message.add_int(0xFFFF_FFFF)
            self.transport._send_message(message)
            return super().check_auth_password(username, password)

    asking = Asking()

    def keep(transport: Any) -> None:
        asking.transport = transport

    with listening(_served(asking, keep)) as port, little_memory(60), mock.patch("servers.ssh.hop.TRIES", 1):
        server = make_server(host="127.0.0.1", port=port)
        try:
            connect(server).capture("true", timeout=5)
        except ShellError as error:
            return str(error)
    raise AssertionError("it was let in")


@attack("server", "more bytes than there was room for, while nobody reads them")
def over_the_window(folder: Path) -> str:
    def flood(transport: Any) -> None:
        channel = transport.accept(20)
        while transport.is_active():
            channel.out_window_size = 1 << 30
            channel.sendall(b"!" * 30_000)

    with listening(_served(_Permissive(), flood)) as port, little_memory(100):
        shell = connect(make_server(host="127.0.0.1", port=port))
        stop = threading.Event()
        try:
            with mock.patch("servers.ssh.hop.TRIES", 1):
                shell.feed("cat", (b"x" * 1000 for _piece in range(20_000)), timeout=20, stop=stop)
        except ShellError as error:
            return str(error)
        finally:
            shell.close()
    raise AssertionError("it ended well")


@attack("server", "a command whose start is never answered, and input that is never taken")
def no_answer(folder: Path) -> str:
    class Silent(_Permissive):
        def check_channel_exec_request(self, channel: Any, command: bytes) -> bool:
            time.sleep(8)
            return True

    quick = mock.patch.object(chain, "ANSWER", 1.0), mock.patch("servers.ssh.shell.PATIENCE", 1.0)
    with listening(_served(Silent(), lambda _transport: None)) as port, quick[0], quick[1]:
        shell = connect(make_server(host="127.0.0.1", port=port))
        try:
            shell.capture("true", timeout=2)
        except ShellError as error:
            return str(error)
        finally:
            shell.close()
    raise AssertionError("it ended well")


# --- deployments ----------------------------------------------------------------------------------------


def _deploy(folder: Path, liar: Liar, honest: OpenSSHServer, number: int, how: str, kind: str, **values: Any) -> str:
    """Deploy to a server that lies and, behind it, to two that do not; says what became of the first."""
    folder = folder / f"{kind}-{number}-{how.replace(' ', '-')}"
    folder.mkdir()
    script = folder / "restart.sh"
    script.write_text(f'set -- $SSH_CONNECTION; echo run >>"{folder}/ran-$4"; echo done\n')
    project = make_project(
        deploy_script_path=str(script),
        deploy_path=f"~/{folder.name}-{folder.parent.name}" if kind == "full" else "",
        batches="1, 100%",
        max_failures=1,
        may_stop_last_healthy=True,
        script_timeout=15,
        watch_for=0,
        **values,
    )
    servers = [make_server(liar), make_server(honest)]
    group = make_group(*servers)
    # The one that lies is the first batch.
    names = dict(zip(("a", "b"), servers, strict=True))
    for name, server in names.items():
        Server.objects.filter(pk=server.pk).update(name=f"{name}-{server.name}")
    deployment = make_deployment(project, group, deployment_type=kind)
    liar.lie(number, how)
    with mock.patch("servers.ssh.shell.PATIENCE", 3.0), little_memory():
        assert carry_out(deployment.pk)
    ended = Deployment.objects.get(pk=deployment.pk)
    first, second = ended.targets.order_by("batch")
    told = f"{kind} {number} {how}: {first.status} ({first.error[:90]})"
    assert "itself failed" not in ended.error_message, told + ended.error_message
    assert second.status == "success", told + f"; the other one: {second.status}: {second.error}"
    assert first.status in {"failed", "unknown", "unchanged", "success"}, told
    if first.status != "success":
        assert first.error, told
    if (folder / f"ran-{liar.port}").exists():
        assert "Not started" not in first.error, told
        assert (folder / f"ran-{liar.port}").read_text().count("run") == 1, told
    connections.close_all()
    return told


def _all_lies(folder: Path, kind: str, rounds: list[tuple[int, str]], **values: Any) -> str:
    liar, honest = Liar(folder), OpenSSHServer()
    try:
        told = [_deploy(folder, liar, honest, number, how, kind, **values) for number, how in rounds]
    finally:
        liar.close()
        honest.close()
    lied = [each for each in told if ": success" not in each]
    assert lied, "no lie was noticed"
    return f"{len(told)} lies, {len(lied)} of them noticed; e.g. {lied[0]}; the other server succeeded each time"


@attack("server", "nonsense in place of each answer of a restart", short=False)
def restart_lies(folder: Path) -> str:
    return _all_lies(folder, "restart_only", [(1, "random"), (2, "numbers"), (2, "cut"), (3, "empty")])


@attack("server", "every kind of nonsense in place of each answer of a restart", short=False)
def all_restart_lies(folder: Path) -> str:
    rounds = [(number, how) for number in range(1, 5) for how in (*LIES, "minus", "doubled", "endless errors")]
    return _all_lies(folder, "restart_only", rounds)


@attack("server", "nonsense in place of each answer of a full deployment", short=False)
def full_lies(folder: Path) -> str:
    repository = GitRepository(folder / "repository")
    rounds = [(number, LIES[(number + shift) % len(LIES)]) for number in range(1, 13) for shift in (0, 3)]
    return _all_lies(folder, "full", rounds, git_url=repository.url, auto_install=False)


@attack("server", "a script that prints gigabytes, and its last line is the one that matters")
def endless_script(folder: Path) -> str:
    sshd = OpenSSHServer()
    script = folder / "restart.sh"
    script.write_text("head -c 40000000 /dev/zero | tr '\\0' '!' | fold -w 200; echo the reason; exit 3\n")
    try:
        with override_settings(DEPLOYER_LOG_MAX_MB=1), little_memory():
            project = make_project(deploy_script_path=str(script), deploy_path="", script_timeout=120)
            deployment = make_deployment(project, make_group(make_server(sshd)), deployment_type="restart_only")
            assert carry_out(deployment.pk)
    finally:
        sshd.close()
    target = deployment.targets.get()
    lines = [*LogLine.objects.filter(deployment=deployment).values_list("content", flat=True)]
    text = "\n".join(lines)
    assert target.exit_code == 3, target.error
    assert any("the reason" in line for line in lines), lines[-5:]
    assert "DEPLOYER_LOG_MAX_MB" in text
    assert len(text) < 2_000_000, len(text)
    return f"{len(text)} bytes are in the log, the last line of the script too: {target.error}"


@attack("server", "an HTTP answer that drips, byte by byte, for ever")
def drip(folder: Path) -> str:
    def speak(link: socket.socket) -> None:
        link.recv(1000)
        for letter in "HTTP/1.1 200 OK\r\n" + "X-A: b\r\n" * 10_000:
            link.sendall(letter.encode())
            time.sleep(0.2)

    sshd = OpenSSHServer()
    try:
        with listening(speak) as port, connect(make_server(sshd)) as link:
            project = make_project()
            check = project.health_checks.create(kind="http", target=f"http://127.0.0.1:{port}/", timeout=2, retries=0)
            plan = Plan.of(project, [])
            begun = time.monotonic()
            problem = ask_once(Visit(plan, link), plan.health_checks[0])
            took = time.monotonic() - begun
            assert check.pk
    finally:
        sshd.close()
    assert "no answer within 2 seconds" in problem, problem
    assert took < 60, took
    return problem


@attack("server", "names, commands and banners with markup, NUL and bytes that are no text, up to the page")
def up_to_the_page(folder: Path) -> str:
    evil = "<img src=x onerror=alert(1)>\u202e"
    boot, script = folder / "os", folder / "restart.sh"
    script.write_text(f"printf '%s\\n' {shell_quote(evil)}; printf 'a\\000b\\377\\n' >&2; exit 1\n")
    sshd = OpenSSHServer()
    try:
        project = make_project(deploy_script_path=str(script), deploy_path="")
        server = make_server(sshd)
        deployment = make_deployment(project, make_group(server), deployment_type="restart_only")
        assert carry_out(deployment.pk)
    finally:
        sshd.close()
    Sighting.record_failure(project, server, str(ShellError("it said", evil + "\0\udc80")))
    client = Client()
    client.force_login(make_user())
    pages = [f"/deployments/{deployment.pk}/", f"/projects/{project.pk}/", f"/servers/{server.pk}/"]
    for page in pages:
        answer = client.get(page, follow=True)
        assert answer.status_code == 200, (page, answer.status_code)
        assert b"<img src=x" not in answer.content, page
        assert "\u202e" not in answer.content.decode(), page
    assert not boot.exists()
    return f"{len(pages)} pages show it as text"


@attack("server", "an error that nobody has thought of, in the thread of one server")
def unexpected(folder: Path) -> str:
    script = folder / "restart.sh"
    script.write_text("echo done\n")
    first, second = OpenSSHServer(), OpenSSHServer()
    read = Inquiry.read

    def fail(self: Inquiry, answer: str, live: str = "") -> Any:
        if threading.current_thread().name.startswith("server") and not failed.is_set():
            failed.set()
            raise IndexError("list index out of range")
        return read(self, answer, live)

    failed = threading.Event()
    try:
        project = make_project(deploy_script_path=str(script), deploy_path="", batches="1, 100%", max_failures=1)
        type(project).objects.filter(pk=project.pk).update(may_stop_last_healthy=True)
        project.refresh_from_db()
        servers = make_server(first), make_server(second)
        deployment = make_deployment(project, make_group(*servers), deployment_type="restart_only")
        with mock.patch.object(Inquiry, "read", fail):
            assert carry_out(deployment.pk)
    finally:
        first.close()
        second.close()
    ended = Deployment.objects.get(pk=deployment.pk)
    ends = [*ended.targets.order_by("batch").values_list("status", flat=True)]
    assert ends == ["failed", "success"], ends
    assert "itself failed" not in ended.error_message, ended.error_message
    return ended.targets.order_by("batch")[0].error


@attack("server", "output beyond what its file can hold, from a server that keeps no limit")
def beyond_its_file(folder: Path) -> str:
    liar = Liar(folder)
    liar.lie(2, "flood")
    taken = [0]

    def take(_stream: str, data: bytes) -> None:
        taken[0] += len(data)

    try:
        with override_settings(DEPLOYER_LOG_MAX_MB=1), connect(make_server(liar)) as link, little_memory():
            link.capture("true")
            try:
                SupervisedRun(link).run(Script("true"), take, timeout=15, stop=threading.Event())
            except NonsenseError as error:
                assert taken[0] <= 3 << 20, taken[0]
                return str(error)
    finally:
        liar.close()
    raise AssertionError(f"it ended well, {settings.DEPLOYER_LOG_MAX_MB}")
