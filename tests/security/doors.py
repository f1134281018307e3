"""Strangers at the door: slow, many and large requests, guessed passwords and tokens, and what proxies may be told."""

import atexit
import http.client
import json
import os
import re
import socket
import sqlite3
import subprocess
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import cache, wraps
from pathlib import Path

from deployer.playground import scene
from deployer.serving.server import make_room
from tests.parts.programs import PATIENCE
from tests.parts.up import Up
from tests.security.table import NotRunError, attack

#: Seconds in which a normal request has to be answered while an attack goes on: a stalled site answers never.
ANSWERED = 20.0
PASSWORD = "right horse battery"
#: A token of `ann`, by the port of the site.
_tokens: dict[int, str] = {}


@contextmanager
def site(folder: Path, **environment: str) -> Iterator[Up]:
    """`deployer up` with the superusers `admin`, `eve` and `kim`, and the ordinary users `ann` and `bob`.

    The passwords of all but `admin` are `PASSWORD`.
    """
    up = Up(folder / "data", "--workers", "1", **environment)
    try:
        up.wait_ready(1)
        people = "from people.models import User, ApiToken; "
        people += f"[User.objects.create_user(name, password={PASSWORD!r}) for name in ('ann', 'bob')]; "
        people += f"[User.objects.create_superuser(name, password={PASSWORD!r}) for name in ('eve', 'kim')]; "
        people += "t = ApiToken(name='t', user=User.objects.get(username='ann')); print(t.renew()); t.save()"
        _tokens[up.port] = up.manage("shell", "-v", "0", "-c", people).split()[-1]
        yield up
    finally:
        up.end()


@cache
def shared_site() -> Up:
    """One for all attacks that leave it as it was; it ends with this process."""
    stack = ExitStack()
    atexit.register(stack.close)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="attacked-")))
    return stack.enter_context(site(folder))


def on_a_site(door: str, name: str, *, short: bool = False) -> Callable[[Callable[[Up], str]], Callable[[Path], str]]:
    """An attack on the shared site."""

    def mark(function: Callable[[Up], str]) -> Callable[[Path], str]:
        @wraps(function)
        def run(_folder: Path) -> str:
            return function(shared_site())

        return attack(door, name, short=short)(run)

    return mark


class Browser:
    """Keeps cookies, sends what it is told to."""

    def __init__(self, up: Up, address: str = "") -> None:
        self.up, self.address = up, address
        self.cookies: dict[str, str] = {}
        self.headers: dict[str, str] = {}
        self.text = ""

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> int:
        """The status of the answer; its text is kept."""
        connection = http.client.HTTPConnection("127.0.0.1", self.up.port, timeout=PATIENCE)
        given = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        if self.address:
            given["X-Forwarded-For"] = self.address
        with closing(connection):
            connection.request(method, path, body, given | {name.replace("_", "-"): it for name, it in headers.items()})
            answer = connection.getresponse()
            self.text = answer.read().decode(errors="replace")
            self.headers = {name.lower(): value for name, value in answer.getheaders()}
            for name, value in answer.getheaders():
                if name.lower() == "set-cookie":
                    key, _equals, rest = value.partition("=")
                    self.cookies[key] = rest.partition(";")[0]
        return answer.status

    def post(self, path: str, fields: dict[str, str], **headers: str) -> int:
        """Send a form, with the CSRF cookie that the browser has."""
        data = urllib.parse.urlencode({"csrfmiddlewaretoken": self.cookies.get("csrftoken", ""), **fields}).encode()
        return self.ask("POST", path, data, Content_Type="application/x-www-form-urlencoded", **headers)

    def log_in(self, name: str, password: str, path: str = "/login/") -> int:
        """302 where it worked, 200 where the password was wrong."""
        self.cookies.pop("sessionid", None)
        if self.ask("GET", path) == 302:  # the admin has no login of its own
            path = self.headers["location"]
            self.ask("GET", path)
        return self.post(path, {"username": name, "password": password, "next": "/"})


def answers_normally(up: Up) -> float:
    """Seconds that the login's page takes; fails where it does not come."""
    begun = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", up.port, timeout=ANSWERED)
    with closing(connection):
        try:
            connection.request("GET", "/login/")
            status = connection.getresponse().status
        except OSError as error:
            raise AssertionError(f"the site no longer answers: {error}") from error
    assert status == 200, status
    return time.monotonic() - begun


def raw(up: Up, data: bytes, patience: float = PATIENCE) -> bytes:
    """All that is answered to these bytes until the site closes the connection."""
    with socket.create_connection(("127.0.0.1", up.port), timeout=patience) as link:
        found = b""
        with suppress(OSError):  # it may be refused, and closed, before all is sent
            link.sendall(data)
            link.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            while piece := link.recv(65536):
                found += piece
        return found


def statuses(answer: bytes) -> list[int]:
    return [int(code) for code in re.findall(rb"HTTP/1\.[01] (\d{3})", answer)]


def web_processes(up: Up) -> list[int]:
    lines = [(pid, Path(f"/proc/{pid}/cmdline")) for pid in up.processes]
    return [pid for pid, line in lines if line.exists() and b"\0web\0" in line.read_bytes()]


def disk(up: Up) -> int:
    """Bytes that the data folder's files take, nameless ones that the site has open among them."""
    named = sum(path.stat().st_size for path in up.folder.rglob("*") if path.is_file() and "sqlite" not in path.name)
    nameless = 0
    for pid in web_processes(up):
        for handle in Path(f"/proc/{pid}/fd").iterdir():
            try:
                if "(deleted)" in str(handle.readlink()):
                    nameless += handle.stat().st_size
            except OSError:
                continue
    return named + nameless


def multipart(size: int) -> tuple[bytes, str]:
    head = b'--x\r\nContent-Disposition: form-data; name="package"; filename="a.tar"\r\n\r\n'
    return head + b"a" * size + b"\r\n--x--\r\n", "multipart/form-data; boundary=x"


# --- slow, many, large -----------------------------------------------------------------------------


@on_a_site("page", "two hundred requests stall in their bodies")
def stalled_bodies(up: Up) -> str:
    with ExitStack() as stack:
        for _number in range(200):
            link = stack.enter_context(socket.create_connection(("127.0.0.1", up.port), timeout=PATIENCE))
            link.sendall(b"POST /login/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5000\r\n\r\nusername=")
        took = answers_normally(up)
    return f"the login's page came in {took:.2f} s beside 200 of them"


@on_a_site("page", "heads and bodies drip, a byte now and then, for longer than they may")
def dripping(up: Up) -> str:
    begun = time.monotonic()
    with ExitStack() as stack:
        links = [
            stack.enter_context(socket.create_connection(("127.0.0.1", up.port), timeout=PATIENCE)) for _n in range(50)
        ]
        for link in links:
            link.sendall(b"GET /login/ HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
        left = list(links)
        while left and time.monotonic() - begun < 60:
            answers_normally(up)
            for link in list(left):
                try:
                    link.send(b"x")
                    link.setblocking(False)
                    if link.recv(100) == b"":
                        left.remove(link)
                except BlockingIOError:
                    pass
                except OSError:
                    left.remove(link)
            time.sleep(1)
    assert not left, f"{len(left)} connections were still there after a minute"
    return f"all were let go within {time.monotonic() - begun:.0f} s"


@on_a_site("page", "two thousand connections keep still")
def idle(up: Up) -> str:
    make_room()  # for the attacker's end of them
    with ExitStack() as stack:
        for _number in range(2000):
            stack.enter_context(socket.create_connection(("127.0.0.1", up.port), timeout=PATIENCE))
        took = answers_normally(up)
    return f"the login's page came in {took:.2f} s beside 2,000 of them"


@on_a_site("page", "a stranger uploads 50 MB to the login", short=True)
def upload_to_login(up: Up) -> str:
    before, most = disk(up), 0
    body, kind = multipart(50_000_000)
    with socket.create_connection(("127.0.0.1", up.port), timeout=PATIENCE) as link:
        head = (
            f"POST /login/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        link.sendall(head.encode())
        try:
            for begin in range(0, len(body), 1_000_000):
                link.sendall(body[begin : begin + 1_000_000])
                most = max(most, disk(up) - before)
        except OSError:
            pass
        try:
            answer = link.recv(65536)
        except ConnectionResetError:
            answer = b""
    assert most < 1_000_000, f"{most} bytes of it were written"
    assert not answer or statuses(answer) == [413], answer[:100]
    return f"refused with {statuses(answer)}; {most} bytes were written"


@on_a_site("page", "bodies without a length, with a wrong one, and with two", short=True)
def lying_lengths(up: Up) -> str:
    chunk = b"%x\r\n" % 100_000 + b"a" * 100_000 + b"\r\n"
    head = b"POST /login/ HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    chunked = raw(up, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 20 + b"0\r\n\r\n")
    assert statuses(chunked) in ([413], []), chunked[:80]
    for length in (b"-1", b"99999999999999999999999", b"1e3", b"5, 6", b"0x10"):
        got = statuses(raw(up, head + b"Content-Length: " + length + b"\r\n\r\nhello"))
        assert got in ([400], [413]), (length, got)
    answers_normally(up)
    return "all refused, by 400 or 413"


@on_a_site("page", "somebody without the permission brings a file for the import, and a stranger a package")
def unasked_files(up: Up) -> str:
    ann = Browser(up)
    assert ann.log_in("ann", PASSWORD) == 302
    body, kind = multipart(5_000_000)
    token = {"X_CSRFToken": ann.cookies["csrftoken"]}
    assert ann.ask("POST", "/servers/import/", body, Content_Type=kind, **token) == 413
    small, kind = multipart(1000)
    assert ann.ask("POST", "/servers/import/", small, Content_Type=kind, **token) == 403
    stranger = Browser(up)
    stranger.cookies["sessionid"] = "a" * 32
    assert stranger.ask("POST", "/projects/1/releases/", body, Content_Type=kind) == 413
    assert stranger.ask("POST", "/api/v1/projects/1/releases", body, Content_Type=kind, Authorization="Bearer x") == 413
    make = "from people.models import User, ApiToken; from projects.models import Project; "
    make += "t = ApiToken(name='e', user=User.objects.get(username='eve')); print(t.renew()); t.save(); "
    make += "print(Project.objects.create(name='shop', deploy_path='/srv/x').pk)"
    may, project = up.manage("shell", "-v", "0", "-c", make).split()[-2:]
    large, kind = multipart(5_000_000)
    got = [
        stranger.ask(
            "POST", f"/api/v1/projects/{number}/releases", large, Content_Type=kind, Authorization=f"Bearer {token}"
        )
        for number, token in ((project, _tokens[up.port]), (int(project) + 1, may), (project, may))
    ]
    assert got == [413, 413, 422], got  # the last was read, for somebody who may: it is no package
    up.manage("shell", "-v", "0", "-c", "from projects.models import Project; Project.objects.all().delete()")
    return "413 before the body was read; 403 for a small one; a token that may send packages there gets on"


@on_a_site("page", "heads that are too large, and thousands of fields and files", short=True)
def large_heads(up: Up) -> str:
    got = statuses(raw(up, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X-A: " + b"a" * 200_000 + b"\r\n\r\n"))
    assert got in ([431], []), got
    fields = "&".join(f"a{number}=" for number in range(9000)).encode()
    kind = "application/x-www-form-urlencoded"
    assert Browser(up).ask("POST", "/login/", fields, Content_Type=kind) in (400, 403, 413)
    part = b'--x\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n\r\n'
    files = part * 900 + b"--x--\r\n"
    got_files = Browser(up).ask("POST", "/login/", files, Content_Type="multipart/form-data; boundary=x")
    assert got_files in (400, 403), got_files
    answers_normally(up)
    return f"{got}, 400 and {got_files}"


@on_a_site("API", "JSON that is nested a hundred thousand deep, and one that is too large", short=True)
def deep_json(up: Up) -> str:
    who = {"Authorization": f"Bearer {_tokens[up.port]}", "Content_Type": "application/json"}
    browser = Browser(up)
    deep = browser.ask("POST", "/api/v1/deployments", b"[" * 30_000, **who)
    assert deep in (400, 422), deep
    deeper = browser.ask("POST", "/api/v1/deployments", b"[" * 1_000_000, **who)
    assert deeper in (400, 422), deeper
    large = browser.ask("POST", "/api/v1/deployments", b'{"a": "' + b"a" * 5_000_000 + b'"}', **who)
    assert large == 413, large
    answers_normally(up)
    return f"{deep}, {deeper} and {large}"


# --- what a proxy and this server could understand differently --------------------------------------


@on_a_site("page", "a request is smuggled behind another one", short=True)
def smuggling(up: Up) -> str:
    inner = b"GET /smuggled HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    head = b"POST /login/ HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    tries = {
        "both lengths": head + b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % (5 + len(inner)),
        "chunked in HTTP/1.0": head.replace(b"1.1", b"1.0")
        + b"Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "an unknown encoding": head + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "a hidden encoding": head + b"Transfer-Encoding: \x0bchunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "a space before the colon": head + b"Content-Length : 5\r\n\r\n0\r\n\r\n",
        "bare line feeds": head.replace(b"\r\n", b"\n") + b"Content-Length: 5\n\n0\r\n\r\n",
        "a bare carriage return": head + b"X-A: a\rContent-Length: 5\r\n\r\n",
    }
    told = []
    for name, data in tries.items():
        got = statuses(raw(up, data + inner))
        assert got in ([], [400], [501]), f"{name}: {got}"
        told.append(f"{name} {got or 'nothing'}")
    return "; ".join(told)


@on_a_site("page", "another host's name, in every place where it can stand", short=True)
def foreign_hosts(up: Up) -> str:
    browser = Browser(up)
    assert browser.ask("GET", "/login/", Host="evil.example") == 400
    assert browser.ask("GET", "/login/", X_Forwarded_Host="evil.example") == 200
    assert "evil.example" not in browser.text + str(browser.headers)
    assert browser.ask("GET", "/", X_Forwarded_Host="evil.example", X_Forwarded_Proto="https") == 302
    assert browser.headers["location"].startswith("/login/")
    absolute = raw(up, b"GET http://evil.example/login/ HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    assert b"evil.example" not in absolute
    two = raw(up, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
    assert statuses(two) == [400]
    return "refused, or not believed"


@on_a_site("page", "static files, from folders above; other methods; a way out by ?next=", short=True)
def ways_out(up: Up) -> str:
    paths = ("/static/../secret.key", "/static/%2e%2e/secret.key", "/static/..%2fsecret.key", "//secret.key")
    for path in (*paths, "/static/%2e%2e%2f%2e%2e%2fetc/passwd", "/static//etc/passwd"):
        answer = raw(up, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        assert statuses(answer)[0] in (301, 302, 400, 404), (path, answer[:100])
        assert (up.folder / "secret.key").read_bytes() not in answer
    browser = Browser(up)
    assert browser.ask("GET", "/login/?next=/") == 200
    for way in ("//evil.example/", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "\thttps://e.x"):
        browser.cookies.pop("sessionid", None)
        got = browser.post("/login/", {"username": "ann", "password": PASSWORD, "next": way})
        assert got == 302, f"{way}: {got}"
        assert browser.headers["location"] == "/", browser.headers["location"]
    for name in ("X_HTTP_Method_Override", "X_Method_Override"):
        got = browser.ask("GET", "/playground/make/", b"", **{name: "POST"})
        assert got == 405, got
    browser.cookies.clear()
    got = browser.ask("TRACE", "/login/")
    assert got == 405, got
    return "404, 405, and home"


# --- guessing --------------------------------------------------------------------------------------


def _guess(up: Up, path: str, who: str, password: str) -> str:
    stranger, owner, bob = Browser(up), Browser(up), Browser(up)
    assert owner.log_in(who, password) == 302
    got = [stranger.log_in(who, f"wrong {number}", path) for number in range(30)]
    looked_at = got.count(200)
    assert looked_at <= 12, f"{looked_at} of 30 wrong passwords were looked at"
    assert got[-1] == 429, got
    assert int(stranger.headers["retry-after"]) > 0
    assert stranger.log_in(who, password, path) == 429, "the right one was looked at, too"
    assert owner.log_in(who, password, path) == 302, "the owner was kept out of a browser that is known"
    assert bob.log_in("bob", PASSWORD) == 302, "another user of the same address was kept out"
    return f"{looked_at} of 30 were looked at; the owner's own browser and another user got in"


@on_a_site("sign-in", "thirty wrong passwords for the admin", short=True)
def guesses(up: Up) -> str:
    told = _guess(up, "/login/", "admin", up.password)
    with sqlite3.connect(up.folder / "db.sqlite3") as database:
        rows = database.execute("SELECT count(*) FROM people_failurecount").fetchone()[0]
    assert rows < 100, f"{rows} rows"
    return told


@on_a_site("sign-in", "the same at the admin's own login, by spoofed addresses")
def guesses_in_admin(up: Up) -> str:
    told = _guess(up, "/admin/login/", "kim", PASSWORD)  # nobody logs in as her after it
    got = [Browser(up, f"203.0.113.{number}").log_in("kim", "wrong") for number in range(5)]
    assert got == [429] * 5, f"X-Forwarded-For was believed: {got}"
    return told


@attack("sign-in", "one address after another guesses behind a trusted proxy", short=False)
def guesses_by_proxy(folder: Path) -> str:
    with site(folder, DEPLOYER_TRUSTED_PROXIES="127.0.0.1") as up:
        return _guess_by_proxy(up)


def _guess_by_proxy(up: Up) -> str:
    got = [Browser(up, f"9.9.9.9, 203.0.113.{number // 6}").log_in("ann", "wrong") for number in range(60)]
    assert got.count(200) == 60, got
    # What a client says itself, before the address that the proxy has seen, changes nothing.
    same = [Browser(up, f"10.0.0.{number}, 198.51.100.7").log_in("bob", "wrong") for number in range(15)]
    assert same.count(200) <= 11, same
    return "each address has its own count, and only the proxy names it"


@on_a_site("sign-in", "sixteen logins at once for the memory of hashes", short=True)
def parallel_logins(up: Up) -> str:
    def resident() -> int:
        texts = [Path(f"/proc/{pid}/status").read_text() for pid in web_processes(up)]
        return sum(int(number) for text in texts for number in re.findall(r"VmHWM:\s+(\d+)", text)) // 1024

    browsers = [Browser(up) for _number in range(16)]
    for browser in browsers:
        browser.ask("GET", "/login/")
    before, got = resident(), []
    threads = [
        threading.Thread(target=lambda it=it, n=n: got.append(it.log_in(f"person-{n}", "wrong")))
        for n, it in enumerate(browsers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 16
    assert set(got) <= {200, 503}, got
    assert resident() - before < 400, f"{resident() - before} MB more"
    answers_normally(up)
    return f"{resident() - before} MB more at the peak; {got.count(200)} looked at, {got.count(503)} asked to wait"


@on_a_site("API", "tokens are guessed", short=True)
def token_guesses(up: Up) -> str:
    browser = Browser(up)
    got = [browser.ask("GET", "/api/v1/version", Authorization=f"Bearer dpl_{number}") for number in range(60)]
    assert (got[0], got[-1]) == (401, 429), got
    assert json.loads(browser.text)["detail"]
    assert browser.ask("GET", "/api/v1/version", Authorization=f"Bearer {_tokens[up.port]}") == 200
    return f"{got.count(401)} were answered with 401, the others with 429; a valid token is answered"


@on_a_site("API", "a reader while somebody else holds the database's only write lock", short=True)
def reading_under_a_lock(up: Up) -> str:
    browser = Browser(up)
    with closing(sqlite3.connect(up.folder / "db.sqlite3", isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        begun = time.monotonic()
        got = [
            browser.ask("GET", "/api/v1/version", Authorization=f"Bearer {_tokens[up.port]}") for _number in range(5)
        ]
        got.append(browser.ask("GET", "/api/v1/version", Authorization="Bearer wrong"))
        took = time.monotonic() - begun
        database.execute("ROLLBACK")
    assert got[:5] == [200] * 5, got
    assert got[5] in (401, 429), got
    assert took < 15, f"it waited for {took:.0f} s"
    return f"six answers in {took:.2f} s"


# --- the playground --------------------------------------------------------------------------------


@attack("server", "the playground's servers read the data folder, its keys, and write beside their homes")
def playground_reads_key(folder: Path) -> str:
    if not scene.is_isolated():
        raise NotRunError("this machine lets nobody make a sandbox")
    key, place = folder / "encryption.key", folder / "playground"
    key.write_text("the key")
    for name in ("keys", "repository", "servers"):
        (place / name).mkdir(parents=True)
    (place / "machines").write_text("")
    script = f"""
cat {key} 2>/dev/null && echo READ
ls {folder} | grep -v playground
cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | grep -a MARK_OF_OUTSIDE && echo SEEN
echo x >{place}/keys/x 2>/dev/null && echo WROTE KEYS
echo x >{place}/machines 2>/dev/null && echo WROTE MACHINES
ln -s {key} {place}/servers/link && cat {place}/servers/link 2>/dev/null && echo FOLLOWED
kill -0 {os.getpid()} 2>/dev/null && echo SIGNALLED
touch /etc/x /usr/x 2>/dev/null && echo WROTE SYSTEM
echo >{place}/servers/own && echo done
"""
    words = scene.servers_command(place)
    said = subprocess.run(
        [*words[words.index("bwrap") :], "/bin/sh", "-c", script], capture_output=True, text=True, timeout=PATIENCE
    )
    assert said.stdout.split() == ["done"], said.stdout + said.stderr
    assert key.read_text() == "the key"
    return "they saw their own folder, and wrote to their homes alone"
