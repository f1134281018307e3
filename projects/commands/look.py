"""Shell text that looks at a server before it is touched, and the facts it brings back. It changes nothing."""

from dataclasses import dataclass

from projects.commands.service import in_shell
from servers.shell import as_user

TOOLS = ("bash", "setsid", "tar", "gzip", "readlink", "mv", "grep", "mkfifo")


def question(script: str, deploy_path: str, run_as: str = "", *, writes: bool) -> str:
    """Print one fact a line: ``HOME path``, ``LIVE link``, ``TOOL name``, ``SCRIPT``, ``WINDOWS``, ``SUDO``.

    Where the deployment ``writes`` to the deploy path, ``FOLDER``, ``CURRENT`` and ``FREE kilobytes`` too. Both paths
    may begin with ``~/``.
    """
    tools = " ".join(TOOLS)
    text = f"""printf 'HOME %s\\n' "$HOME"
for tool in {tools}; do command -v $tool >/dev/null 2>&1 && echo TOOL $tool; done
"""
    if run_as:
        text += f"{as_user(run_as, 'true')} </dev/null >/dev/null 2>&1 || echo SUDO refused\n"
    path = in_shell(script)
    text += f"""if [ ! -f {path} ]; then echo SCRIPT missing; elif [ ! -r {path} ]; then echo SCRIPT unreadable
else IFS= read -r line <{path}; case $line in *'\r') echo WINDOWS lines ;; esac; fi
"""
    folder = in_shell(deploy_path)
    if deploy_path:
        text += f"""[ ! -L {folder}/current ] || printf 'LIVE %s\\n' "$(readlink {folder}/current)"\n"""
    if writes:
        text += f"""near={folder}
while [ ! -e "$near" ] && [ "$near" != / ]; do near=$(dirname -- "$near"); done
[ -d "$near" ] && [ -w "$near" ] && [ -x "$near" ] || echo FOLDER "$near"
[ -e {folder}/current ] && [ ! -L {folder}/current ] && echo CURRENT
echo FREE "$(df -Pk -- "$near" 2>/dev/null | awk 'NR==2 {{print $4}}')"
"""
    return text


@dataclass(frozen=True)
class Facts:
    """The answer to `question`. ``script`` and ``folder`` are empty when all is well; ``free`` is in bytes or -1.

    ``home`` is the login's, ``live`` where ``current`` leads; empty where there is none.

    ``may_run_as``: the login may become the user that was named, if one was. ``windows_lines``: the script's first line
    ends in CR LF.
    """

    home: str
    live: str
    tools: frozenset[str]
    script: str
    folder: str
    current_is_folder: bool
    may_run_as: bool
    free: int
    windows_lines: bool = False


def read(text: str) -> Facts:
    """Take the answer apart."""
    rows = [line.partition(" ")[::2] for line in text.split("\n")]
    values = dict(rows)
    free = values.get("FREE", "").strip()
    return Facts(
        home=values.get("HOME", ""),
        live=values.get("LIVE", ""),
        tools=frozenset(value for name, value in rows if name == "TOOL"),
        script=values.get("SCRIPT", ""),
        folder=values.get("FOLDER", ""),
        current_is_folder="CURRENT" in values,
        may_run_as="SUDO" not in values,
        free=int(free) * 1024 if free.isdecimal() else -1,
        windows_lines="WINDOWS" in values,
    )
