"""Questions that a server answers about an application, and how the answers are read."""

import hashlib
import re
from shlex import quote
from urllib.parse import urlsplit

from django.utils.translation import gettext as _

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


def http_from_server(url: str, host_header: str, timeout: int) -> str:
    """Ask ``url`` on the server itself: prints the body, then the status on a line of its own. Exit 127: no curl."""
    header = f"-H {quote(f'Host: {host_header}')} " if host_header else ""
    return (
        "command -v curl >/dev/null || exit 127\n"
        f"curl -gksS {header}-m {timeout} --max-filesize 10000000 -w '\\n%{{http_code}}\\n' -- {quote(url)} 2>&1"
    )


def tcp_from_server(host: str, port: int, timeout: int) -> str:
    """Connect on the server itself, with bash alone."""
    return f"timeout {timeout} bash -c {quote(f'exec 3<>/dev/tcp/{host}/{port}')} 2>&1"


def http_problem(status: int, body: str, expect: str) -> str:
    """The problem with an answer; empty when it is as expected.

    ``expect`` is a status (three digits) or a text that the body contains; by default any status from 200 to 399.
    """
    if re.fullmatch(r"[1-5][0-9][0-9]", expect):
        return (
            ""
            if status == int(expect)
            else _("it answered %(status)d instead of %(expect)s")
            % {
                "status": status,
                "expect": expect,
            }
        )
    if not 200 <= status < 400:
        return _("it answered %d") % status
    if expect and expect not in body:
        return _("its answer does not contain “%s”") % expect
    return ""
