"""Questions that a server answers about an application, and how the answers are read."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from shlex import quote
from urllib.parse import urlsplit

from django.utils.translation import gettext as _

from projects.commands import expectation
from projects.commands.expectation import Live
from servers.sentences import clauses

#: The status and the headers of one answer as curl prints them, up to the first empty line.
_HEADERS = re.compile(r"HTTP/[0-9.]+ +([0-9]{3})[^\n]*\n((?:[^\r\n][^\n]*\n)*)\r?\n")
#: Heads of answers before the one that is asked for: of a proxy, 100 Continue, 103 Early Hints.
_BLOCKS = 20
_FINDS_ITSELF = re.compile(r"\bps\b[^|]*\|\s*(?:e|f)?grep\b(?![^|]*\[[^\]]\])")


def check_target(kind: str, target: str) -> None:
    """Refuse, with a `ValueError` that says why, a target that does not fit the kind of check."""
    if kind == "http":
        url = urlsplit(target)
        if url.scheme not in {"http", "https"} or not url.hostname:
            raise ValueError(_("An HTTP check needs a URL, like http://127.0.0.1:8080/up."))
    elif kind == "tcp":
        tcp_address(target)
    elif kind == "systemd" and not re.fullmatch(r"[A-Za-z0-9:_.@\\-]+", target):
        raise ValueError(_("A systemd check needs the name of a unit, like shop.service."))
    elif kind == "command" and _FINDS_ITSELF.search(target) and not re.search(r"grep\s+-v\s+grep", target):
        raise ValueError(
            _("“ps … | grep” finds its own grep and is never unhealthy: use a process check, or “grep [n]ame”.")
        )


def tcp_address(target: str) -> tuple[str, int]:
    """``8080`` or ``host:8080`` as (host, port); the host is 127.0.0.1 unless given. Raises `ValueError`."""
    host, _colon, port = target.rpartition(":")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(_("A TCP check needs a port or host:port, like 8080 or 127.0.0.1:8080."))
    return host.strip("[]") or "127.0.0.1", int(port)


def port_of(kind: str, target: str) -> int:
    """The port that a check of this kind asks; 0 where it asks none."""
    if kind == "tcp":
        return tcp_address(target)[1]
    if kind == "http":
        url = urlsplit(target)
        return url.port or (443 if url.scheme == "https" else 80)
    return 0


def command(text: str, timeout: int) -> str:
    """Run the operator's own command with bash; its exit status is the answer.

    The text is in no command line, so that `pgrep -f` in it does not find the shell that runs it.
    """
    delimiter = "END_" + hashlib.sha256(text.encode()).hexdigest()
    return f"timeout {timeout} bash /dev/fd/3 3<<'{delimiter}' 2>&1\n{text}\n{delimiter}\n"


@dataclass(frozen=True)
class HttpAnswer:
    """An answer to a GET. ``headers`` are names in small letters, each with all that was said under it, on one line."""

    status: int
    body: str
    headers: Mapping[str, Sequence[str]] = field(default_factory=dict)


def http_from_server(url: str, host_header: str, timeout: int, *, headers: bool = False) -> str:
    """Ask ``url`` on the server itself: prints what `read_http` reads. Exit 127: no curl."""
    header = f"-H {quote(f'Host: {host_header}')} " if host_header else ""
    return (
        "command -v curl >/dev/null || exit 127\n"
        f"curl -gksS{'i' if headers else ''} {header}-m {timeout} --max-filesize 10000000 "
        f"-w '\\n%{{http_connect}} %{{http_code}}\\n' -- {quote(url)} 2>&1"
    )


def read_http(text: str, *, headers: bool = False) -> HttpAnswer | None:
    """The answer in what curl printed: the headers if they were asked for, the body, then two statuses on a line.

    These are of a proxy, if there was one, and of the answer. None where there was no answer.
    """
    body, _newline, statuses = text.rstrip("\n").rpartition("\n")
    match = re.fullmatch(r"([0-9]{1,3}) ([0-9]{1,3})", statuses)
    if match is None or int(match[2]) == 0:
        return None
    told_before = int(match[1]) != 0  # by the proxy
    found: dict[str, list[str]] = {}
    begin = 0
    for _number in range(_BLOCKS if headers else 0):
        if (block := _HEADERS.match(body, begin)) is None:
            break
        begin = block.end()
        if block[1].startswith("1"):
            continue  # 100 Continue, 103 Early Hints
        if not told_before:
            lines = re.sub(r"\r?\n[ \t]+", " ", block[2]).split("\n")
            found = one_line_each(line.partition(":")[::2] for line in lines if ":" in line)
            break
        told_before = False
    return HttpAnswer(int(match[2]), body[begin:], found)


def one_line_each(headers: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Headers by their names in small letters, each value on one line."""
    found: dict[str, list[str]] = {}
    for name, value in headers:
        found.setdefault(name.strip().lower(), []).append(" ".join(value.split()))
    return found


def tcp_from_server(host: str, port: int, timeout: int) -> str:
    """Connect on the server itself, with bash alone."""
    return f"timeout {timeout} bash -c {quote(f'exec 3<>/dev/tcp/{host}/{port}')} 2>&1"


def http_problem(answer: HttpAnswer, expect: str, expect_header: str, live: Live) -> str:
    """The problem with an answer; empty when it is as expected.

    ``expect`` is a status (three digits) or a text that the body contains; by default any status from 200 to 399.
    ``expect_header`` is ``Name: text``: one of the headers of that name contains it. What is ``live`` is filled in.
    """
    status = answer.status
    if re.fullmatch(r"[1-5][0-9][0-9]", expect):
        if status != int(expect):
            return _("it answered %(status)d instead of %(expect)s") % {"status": status, "expect": expect}
    elif not 200 <= status < 400:
        return _("it answered %d") % status
    elif problem := text_problem(answer.body, expect, live, _("its answer does not contain “%s”")):
        return problem
    return _header_problem(answer, expect_header, live) if expect_header else ""


def text_problem(answer: str, expect: str, live: Live, missing: str) -> str:
    """The problem with an answer that must contain ``expect``, which is said as ``missing``; empty when it does."""
    if problem := expectation.unknown(expect, live):
        return problem
    if expectation.says(answer, expect, live):
        return ""
    if problem := expectation.another(answer, expect, live):
        return problem
    shown = expectation.beginning(answer)
    return clauses(
        missing % expectation.filled(expect, live), _("it begins with “%s”") % shown if shown else _("it is empty")
    )


def _header_problem(answer: HttpAnswer, expect_header: str, live: Live) -> str:
    name, _colon, expect = (part.strip() for part in expect_header.partition(":"))
    if problem := expectation.unknown(expect, live):
        return problem
    values = answer.headers.get(name.lower(), ())
    if any(expectation.says(value, expect, live) for value in values):
        return ""
    if not values:
        return _("its answer has no header %s") % name
    return expectation.another("\n".join(values), expect, live) or _(
        "its header %(name)s is “%(shown)s”, not “%(expected)s”"
    ) % {
        "name": name,
        "shown": expectation.beginning(", ".join(values)),
        "expected": expectation.filled(expect, live),
    }
