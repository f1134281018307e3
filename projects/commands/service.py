"""How an application is restarted, and what a server shows about a failure: shell text."""

from collections.abc import Iterable, Mapping
from shlex import quote

from servers.shell import Script

#: Bytes of a log that are looked at: its lines may be of any length.
EVIDENCE = 100_000


def script_path(path: str, deploy_path: str) -> str:
    """The script's absolute path: as given, or below ``{deploy_path}/current``."""
    return path if path.startswith(("/", "~/")) else f"{deploy_path}/current/{path}"


def in_release(path: str, deploy_path: str, version: str) -> str:
    """Where a script below ``current`` will come from once ``version`` is live; other paths stay."""
    current = f"{deploy_path}/current/"
    return f"{deploy_path}/releases/{version}/{path[len(current) :]}" if path.startswith(current) else path


def at_home(path: str, home: str) -> str:
    """``path`` with a leading ``~/`` replaced by the login's home."""
    return home.rstrip("/") + path[1:] if path.startswith("~/") else path


def in_shell(path: str) -> str:
    """``path`` for sh, quoted; a leading ``~/`` becomes the login's home there."""
    return '"${HOME%/}"' + quote(path[1:]) if path.startswith("~/") else quote(path)


def own_folder(script: str) -> str:
    """The folder of a script, if it looks like one application's own: not the login's home, nor one of the system's."""
    folder = script.rpartition("/")[0]
    parts = folder.split("/")
    is_shared = len(parts) < 3 or (parts[1] in {"bin", "sbin", "lib", "usr", "etc", "home", "var"} and len(parts) < 4)
    return "" if parts[0] not in {"", "~"} or is_shared or folder.startswith(("/usr/", "/etc/")) else folder


def restart(script: str, env: Mapping[str, str], run_as: str = "") -> Script:
    """``bash SCRIPT`` in the script's own folder, as another user if one is named."""
    folder, _slash, name = script.rpartition("/")
    return Script(f"exec bash {quote('./' + name)}", env, folder or "/", run_as)


#: The variable in which a kept script travels: no list of processes shows it.
_KEPT_SCRIPT = "DEPLOYER_RESTART_SCRIPT"


def restart_by_text(text: str, env: Mapping[str, str], folder: str = "", run_as: str = "") -> Script:
    """bash with a script that is on no server, in ``folder`` or the home, as another user if one is named.

    What it starts inherits neither the text nor the file that bash reads it from.
    """
    begin = f"""script=${_KEPT_SCRIPT}
unset {_KEPT_SCRIPT}
exec bash /dev/fd/3 3<<DEPLOYER_END
$script
DEPLOYER_END
"""
    return Script(begin, {**env, _KEPT_SCRIPT: f"exec 3<&-; {text}"}, folder, run_as)


def derived_process_name(project_name: str) -> str:
    """The name of a process that is named after its project: lower case, spaces and hyphens removed."""
    return project_name.lower().replace(" ", "").replace("-", "")


def evidence(log_path: str, services: Iterable[str], ports: Iterable[int]) -> str:
    """Print the end of the application's log, what the keepers of its services show, and who listens on the ports.

    ``services`` are the texts that ask those keepers.
    """
    parts = []
    if log_path:
        parts.append(f"echo '== '{quote(log_path)}\ntail -n 40 {quote(log_path)} 2>&1 | tail -c {EVIDENCE}\n")
    parts += services
    for port in ports:
        parts.append(f"echo '== port {port}'\nss -Hltnp 'sport = :{port}' 2>&1 || echo 'ss is not installed'\n")
    return "".join(parts)
