"""The connection test: can this server be reached and logged in to, and if not, why and what to do."""

from dataclasses import dataclass

from django.utils.translation import gettext as _

from servers.keys import fingerprint
from servers.models import Server
from servers.shell import ShellError
from servers.ssh import connect


@dataclass(frozen=True)
class ConnectionReport:
    """What a connection test found. ``pinned_now``: the host key was seen for the first time."""

    ok: bool
    what: str
    why: str = ""
    remedy: str = ""
    fingerprint: str = ""
    pinned_now: bool = False


def test_connection(server: Server) -> ConnectionReport:
    """Connect, log in, run a command; store the result on the server. Connection problems are reported, not raised."""
    notices: list[str] = []
    try:
        with connect(server, on_notice=notices.append) as shell:
            answer = shell.capture('id -un; uname -sr; [ -x "$(command -v bash)" ] && echo bash')
    except ShellError as error:
        server.record_connection(str(error))
        return ConnectionReport(False, error.what, error.why, error.remedy, fingerprint(server.host_key))
    server.record_connection()
    user, system, *bash = [*answer.stdout.splitlines(), "", ""][:3]
    return ConnectionReport(
        ok=True,
        what=_("Connected to %(server)s as %(user)s (%(system)s)") % {"server": server, "user": user, "system": system},
        remedy="" if bash != [""] else _("bash was not found there: deploy scripts are run by bash. Install it."),
        fingerprint=fingerprint(server.host_key),
        pinned_now=bool(notices),
    )


test_connection.__test__ = False  # type: ignore[attr-defined]  # not a test, for all its name
