"""Shell text that fetches a repository into a cached mirror, resolves a name to a commit and exports it.

Every git command runs with no configuration but ours, no prompt, no hooks, and only the transports that are
allowed: an address or a branch that looks like an option or a command stays an address or a branch.
"""

from collections.abc import Mapping
from shlex import quote
from typing import NamedTuple

from servers.shell import Script

#: The one configuration that git reads.
CONFIGURATION = """\
[core]
    hooksPath = /dev/null
[safe]
    directory = *
[gc]
    auto = 0
[advice]
    detachedHead = false
"""


def environment(configuration: str, *, local_allowed: bool) -> dict[str, str]:
    """The variables that every git command runs with."""
    return {
        "GIT_ALLOW_PROTOCOL": "https:ssh:file" if local_allowed else "https:ssh",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_GLOBAL": configuration,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_ASKPASS": "/bin/false",
        "LC_ALL": "C.UTF-8",
    }


def ssh_command(key_file: str, known_hosts: str, *, batch: bool) -> str:
    """GIT_SSH_COMMAND for a repository over SSH; a new host key is remembered, a changed one refused.

    ``batch``: never ask; otherwise the password comes from SSH_ASKPASS.
    """
    options = [
        f"ssh -F /dev/null -o BatchMode={'yes' if batch else 'no'} -o NumberOfPasswordPrompts=1 -o ConnectTimeout=15 ",
        "-o ServerAliveInterval=5 -o ServerAliveCountMax=3",
        f"-o StrictHostKeyChecking=accept-new -o UserKnownHostsFile={quote(known_hosts)}",
    ]
    if key_file:
        options.append(f"-o IdentitiesOnly=yes -i {quote(key_file)}")
    return " ".join(options)


#: GIT_ASKPASS: answers git's two questions from variables that only git sees.
ASKPASS = """#!/bin/sh
case $1 in
Username*) printf '%s\\n' "$DEPLOYER_GIT_USERNAME" ;;
*) printf '%s\\n' "$DEPLOYER_GIT_PASSWORD" ;;
esac
"""


def fetch(mirror: str, url: str, env: Mapping[str, str]) -> Script:
    """Bring the bare mirror up to date with all branches and tags of ``url``; make it first where there is none."""
    return Script(
        f"[ -d {quote(mirror)}/objects ] || git init --quiet --bare -- {quote(mirror)}\n"
        f"git -C {quote(mirror)} fetch --quiet --prune --force --no-tags -- {quote(url)}"
        " '+refs/heads/*:refs/heads/*' '+refs/tags/*:refs/tags/*'",
        env,
    )


def resolve(mirror: str, name: str, env: Mapping[str, str]) -> Script:
    """Print ``HASH<newline>SUBJECT`` of a branch, else a tag, else a commit; exit 4 when there is none."""
    candidates = " ".join(quote(f"{prefix}{name}^{{commit}}") for prefix in ("refs/heads/", "refs/tags/", ""))
    return Script(
        f"for name in {candidates}; do\n"
        f'if commit=$(git -C {quote(mirror)} rev-parse --verify --quiet --end-of-options "$name"); then\n'
        f'exec git -C {quote(mirror)} log -1 --no-show-signature --format=%H%n%s "$commit"\n'
        "fi\ndone\nexit 4",
        env,
    )


def export(mirror: str, commit: str, folder: str, env: Mapping[str, str]) -> Script:
    """Unpack the tree of ``commit`` into ``folder``."""
    return Script(
        f"git -C {quote(mirror)} archive --format=tar {quote(commit)} | tar -x -C {quote(folder)}",
        env,
    )


def names(mirror: str, limit: int, env: Mapping[str, str]) -> Script:
    """Print the branches, then the tags, each the newest first, at most ``limit`` of each, one a line."""
    listed = f"git -C {quote(mirror)} for-each-ref --count={limit} --sort=-creatordate --format='%(refname:strip=2)'"
    return Script(f"{listed} refs/heads\n{listed} refs/tags", env)


def history(mirror: str, base: str, head: str, limit: int, env: Mapping[str, str]) -> Script:
    """Print how many commits ``head`` has that ``base`` has not, then the newest ``limit`` of them.

    `read_history` reads it. It fails where one of the two is not in the mirror.
    """
    span = quote(f"{base}..{head}")
    return Script(
        f"git -C {quote(mirror)} rev-list --count --end-of-options {span} --\n"
        f"git -C {quote(mirror)} log --no-show-signature --max-count={limit} --format=%H%x00%an%x00%aI%x00%s "
        f"--end-of-options {span} --",
        env,
    )


class Commit(NamedTuple):
    """One commit: its hash, who wrote it, when (ISO 8601) and the first line of its message."""

    hash: str
    author: str
    at: str
    subject: str


def read_history(text: str) -> tuple[int, list[Commit]]:
    """Take apart what `history` printed: the number of all commits, and the newest of them."""
    count, *rows = text.split("\n")
    return int(count), [Commit(*row.split("\0", 3)) for row in rows if row.count("\0") >= 3]
