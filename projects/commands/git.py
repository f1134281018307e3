"""Shell text that fetches a repository into a cached mirror, resolves a name to a commit and exports it.

Every git command runs with no configuration but ours, no prompt, no hooks, and only the transports that are
allowed: an address or a branch that looks like an option or a command stays an address or a branch. The login is sent
to the host of the address alone, and nothing that the platform's own user has is offered to it: no key, no agent, no
netrc, no ticket.
"""

import re
from collections.abc import Mapping, Sequence
from shlex import quote
from typing import NamedTuple

from django.utils.translation import gettext_lazy

from servers.shell import Script

#: The one configuration that git reads. Without redirects, a server of the old kind cannot name another one as an
#: alternate either.
CONFIGURATION = """\
[core]
    hooksPath = /dev/null
    fsmonitor = false
[safe]
    directory = *
[gc]
    auto = 0
[advice]
    detachedHead = false
[http]
    followRedirects = false
    emptyAuth = false
[credential]
    helper =
[transfer]
    bundleURI = false
[fetch]
    recurseSubmodules = false
[init]
    templateDir =
"""

#: The configuration of a mirror, written again before each fetch.
_OF_A_MIRROR = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n"


def environment(configuration: str, home: str, *, local_allowed: bool) -> dict[str, str]:
    """The variables that every git command runs with; ``home`` is an empty folder."""
    return {
        "HOME": home,
        "XDG_CONFIG_HOME": home,
        "GIT_ALLOW_PROTOCOL": "https:ssh:file" if local_allowed else "https:ssh",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_GLOBAL": configuration,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_LFS_SKIP_SMUDGE": "1",
        "GIT_ASKPASS": "/bin/false",
        "GIT_SSH_VARIANT": "ssh",
        "LC_ALL": "C.UTF-8",
    }


#: What ssh is told besides: it uses nothing that the platform's own user has, and runs nothing of a configuration.
_NOTHING_OF_OUR_OWN = (
    *("IdentitiesOnly=yes", "IdentityAgent=none", "AddKeysToAgent=no", "ForwardAgent=no", "PKCS11Provider=none"),
    *("GSSAPIAuthentication=no", "HostbasedAuthentication=no", "ControlMaster=no", "ControlPath=none"),
    *("ProxyCommand=none", "PermitLocalCommand=no", "CanonicalizeHostname=no", "UpdateHostKeys=no"),
)


def ssh_command(key_file: str, known_hosts: str, *, batch: bool) -> str:
    """GIT_SSH_COMMAND for a repository over SSH; a new host key is remembered, a changed one refused.

    ``batch``: never ask; otherwise the password comes from SSH_ASKPASS. Without a ``key_file`` no key is offered.
    """
    key = f"IdentityFile={key_file}" if key_file else "IdentityFile=none"
    options = (
        *(f"BatchMode={'yes' if batch else 'no'}", "NumberOfPasswordPrompts=1", "ConnectTimeout=15"),
        *("ServerAliveInterval=5", "ServerAliveCountMax=3"),
        *("StrictHostKeyChecking=accept-new", f"UserKnownHostsFile={known_hosts}"),
        *(*_NOTHING_OF_OUR_OWN, f"PubkeyAuthentication={'yes' if key_file else 'no'}", key),
    )
    return " ".join(["ssh -F /dev/null", *(f"-o {quote(option)}" for option in options)])


#: GIT_ASKPASS and SSH_ASKPASS: answers the questions about the login to $DEPLOYER_GIT_HOST, and no other one. The
#: login is in two files of a private folder: what is in the environment is also in that of everything below.
ASKPASS = """#!/bin/sh
case $1 in
"Username for 'https://$DEPLOYER_GIT_HOST': ") exec cat -- "$DEPLOYER_GIT_LOGIN/username" ;;
"Password for 'https://"*"@$DEPLOYER_GIT_HOST': ") exec cat -- "$DEPLOYER_GIT_LOGIN/password" ;;
*"@$DEPLOYER_GIT_HOST's password: " | "("*"@$DEPLOYER_GIT_HOST) "*) exec cat -- "$DEPLOYER_GIT_LOGIN/password" ;;
*) exit 1 ;;
esac
"""


def fetch(mirror: str, url: str, env: Mapping[str, str]) -> Script:
    """Bring the bare mirror up to date with all branches and tags of ``url``; make it first where there is none."""
    return Script(
        f"[ -d {quote(mirror)}/objects ] || git init --quiet --bare -- {quote(mirror)}\n"
        f"printf {quote(_OF_A_MIRROR)} >{quote(mirror)}/config\n"
        f"rm -f {quote(mirror)}/objects/info/alternates {quote(mirror)}/objects/info/http-alternates\n"
        f"git -C {quote(mirror)} fetch --quiet --prune --force --no-tags -- {quote(url)}"
        " '+refs/heads/*:refs/heads/*' '+refs/tags/*:refs/tags/*'",
        env,
    )


def remote_branches(url: str, env: Mapping[str, str]) -> Script:
    """Ask ``url`` itself for its branches, the default one first; `read_branches` reads it. Nothing is fetched."""
    return Script(f"git ls-remote --symref -- {quote(url)} HEAD 'refs/heads/*'", env)


def read_branches(text: str) -> list[str]:
    """Take apart what `remote_branches` printed: the default branch, then the others in their order."""
    rows = [line.partition("\t")[::2] for line in text.splitlines()]
    default = [
        left.removeprefix("ref: refs/heads/") for left, name in rows if left.startswith("ref:") and name == "HEAD"
    ]
    others = [name.removeprefix("refs/heads/") for _left, name in rows if name.startswith("refs/heads/")]
    return list(dict.fromkeys([*(name for name in default if name in others), *others]))


#: A file of a repository that is larger than this is not read to guess what the repository is.
TELLING_SIZE = 60_000


def peek(folder: str, url: str, branch: str, env: Mapping[str, str]) -> Script:
    """Fetch the newest commit of a branch alone into a bare repository of its own, and print its top folder.

    `read_top_folder` reads it.
    """
    return Script(
        f"git init --quiet --bare -- {quote(folder)}\n"
        f"git -C {quote(folder)} fetch --quiet --depth=1 --no-tags -- {quote(url)} "
        f"{quote(f'+refs/heads/{branch}:refs/heads/peek')}\n"
        f"git -C {quote(folder)} ls-tree -z -l refs/heads/peek",
        env,
    )


def read_top_folder(text: str) -> dict[str, str]:
    """Take apart what `peek` printed: by name, the id of each file that may be read; empty for all others."""
    found = {}
    for row in text.split("\0"):
        told, _tab, name = row.partition("\t")
        _mode, kind, object_id, size = [*told.split(), "", "", "", ""][:4]
        if name:
            readable = kind == "blob" and size.isdecimal() and int(size) <= TELLING_SIZE
            found[name] = object_id if readable else ""
    return found


def contents(folder: str, object_ids: Sequence[str], env: Mapping[str, str]) -> Script:
    """Print each file, one a line, in base64: whatever is in it, the lines stay apart."""
    return Script(
        "".join(f"git -C {quote(folder)} cat-file blob {quote(each)} | base64 -w0\necho\n" for each in object_ids), env
    )


_REDIRECTED = r"returned error: 30[12378]"
#: What git asks a server first; a redirect leads to the same below another address.
FIRST_QUESTION = "/info/refs?service=git-upload-pack"
#: What git and ssh say, why that is, and what to do; the first that is said decides.
_EXPLAINED = (
    (
        _REDIRECTED,
        gettext_lazy("the address redirects to another one, and a login is sent to no other address"),
        gettext_lazy("Enter the address that it leads to."),
    ),
    (
        r"Could not resolve host",
        gettext_lazy("there is no host of that name"),
        gettext_lazy("Check how the host in the address is spelled."),
    ),
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|Host key verification failed",
        gettext_lazy("the git server shows another host key than before"),
        gettext_lazy(
            "Somebody may be intercepting the connection. If the key was changed on purpose, remove the old one from "
            "mirrors/known_hosts."
        ),
    ),
    (
        r"Permission denied|Authentication failed|could not read (?:Username|Password)|terminal prompts disabled"
        r"|returned error: 40[13]|Too many authentication failures|HTTP Basic: Access denied",
        gettext_lazy("the git server refuses the login, or asks for one"),
        gettext_lazy("Choose a credential that may read the repository."),
    ),
    (
        r"does not appear to be a git repository|not found|does not exist|returned error: 404"
        r"|not valid: is this a git repository",
        gettext_lazy("there is no such repository, or this login may not see it"),
        gettext_lazy("Check the path in the address; for a private repository choose a credential."),
    ),
    (
        r"SSL certificate|certificate verif|TLS",
        gettext_lazy("the certificate of the git server is not trusted"),
        gettext_lazy("Add the authority that signed it to this machine's certificates."),
    ),
    (
        r"onnection refused|onnection timed out|No route to host|unreachable|Failed to connect|onnection reset",
        gettext_lazy("no git server answers at that address"),
        gettext_lazy("Check the host and the port, and that no firewall is in between."),
    ),
)


def is_redirected(said: str) -> bool:
    """Whether git failed, by what it said, because the address redirects."""
    return re.search(_REDIRECTED, said) is not None


def explain(said: str) -> tuple[str, str]:
    """Why git failed, by what it said on standard error, and what to do; its own words where nothing fits."""
    for pattern, why, remedy in _EXPLAINED:
        if re.search(pattern, said):
            return str(why), str(remedy)
    return " / ".join(line.strip() for line in said.splitlines() if line.strip())[:400], ""


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
