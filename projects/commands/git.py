"""Shell text that fetches a repository into a cached mirror, resolves a name to a commit and exports it.

Every git command runs with no configuration but ours, no prompt, no hooks, and only the transports that are
allowed: an address or a branch that looks like an option or a command stays an address or a branch. The login is sent
to the host of the address alone, and nothing that the platform's own user has is offered to it: no key, no agent, no
netrc, no ticket.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from shlex import quote
from typing import NamedTuple

from django.utils.translation import gettext_lazy

from servers.sentences import last_words
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

#: The configuration of a mirror, written again before each fetch; by the kind of its hashes.
_OF_A_MIRROR = {
    "sha1": "[core]\n\trepositoryformatversion = 0\n\tbare = true\n",
    "sha256": "[core]\n\trepositoryformatversion = 1\n\tbare = true\n[extensions]\n\tobjectFormat = sha256\n",
}
#: The configuration of the repository within a build.
_OF_A_BUILD = {kind: text.replace("bare = true", "bare = false") for kind, text in _OF_A_MIRROR.items()}
#: The variables of deployer's own environment that name a proxy, as git reads them.
PROXY = ("https_proxy", "HTTPS_PROXY", "http_proxy", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY")


def environment(
    configuration: str, home: str, *, local_allowed: bool, proxy: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The variables that every git command runs with; ``home`` is an empty folder, ``proxy`` has those of `PROXY`."""
    return {
        **(proxy or {}),
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


#: GIT_ASKPASS and SSH_ASKPASS: answers the questions about the login to $DEPLOYER_GIT_HOST, and no other one; git-lfs
#: asks with other quotation marks than git. The login is in two files of a private folder: what is in the environment
#: is also in that of everything below.
ASKPASS = """#!/bin/sh
case $1 in
"Username for 'https://$DEPLOYER_GIT_HOST': ") exec cat -- "$DEPLOYER_GIT_LOGIN/username" ;;
"Password for 'https://"*"@$DEPLOYER_GIT_HOST': ") exec cat -- "$DEPLOYER_GIT_LOGIN/password" ;;
"Username for \"https://$DEPLOYER_GIT_HOST\"") exec cat -- "$DEPLOYER_GIT_LOGIN/username" ;;
"Password for \"https://"*"@$DEPLOYER_GIT_HOST\"") exec cat -- "$DEPLOYER_GIT_LOGIN/password" ;;
*"@$DEPLOYER_GIT_HOST's password: " | "("*"@$DEPLOYER_GIT_HOST) "*) exec cat -- "$DEPLOYER_GIT_LOGIN/password" ;;
*) exit 1 ;;
esac
"""


def fetch(mirror: str, url: str, env: Mapping[str, str]) -> Script:
    """Bring the bare mirror up to date with all branches and tags of ``url``; make it first where there is none.

    Its hashes are of the kind that the repository has; git says only in an error that they are SHA-256.
    """
    m = quote(mirror)
    return Script(
        f"""begin() {{
[ -d {m}/objects ] || git init --quiet --bare --object-format="$1" -- {m}
case $1 in sha256) printf {quote(_OF_A_MIRROR["sha256"])} ;; *) printf {quote(_OF_A_MIRROR["sha1"])} ;; esac >{m}/config
for other in {m}/objects/info/alternates {m}/objects/info/http-alternates; do
[ ! -e "$other" ] || rm -f "$other"
done
}}
bring() {{
git -C {m} fetch --quiet --prune --force --no-tags -- {quote(url)} \
'+refs/heads/*:refs/heads/*' '+refs/tags/*:refs/tags/*'
}}
if [ -d {m}/objects ]; then
case $([ ! -r {m}/config ] || echo "$(<{m}/config)") in *"objectFormat = sha256"*) begin sha256 ;; *) begin sha1 ;; esac
bring
exit
fi
begin sha1
if said=$(bring 2>&1); then exit 0; fi
case $said in
*"mismatched algorithms"*) rm -rf -- {m}; begin sha256; bring ;;
*) printf '%s\\n' "$said" >&2; exit 1 ;;
esac""",
        env,
    )


def has_commit(mirror: str, commit: str, env: Mapping[str, str]) -> Script:
    """Exit 0 where the mirror has the commit."""
    return Script(f"git -C {quote(mirror)} cat-file -e {quote(f'{commit}^{{commit}}')} 2>/dev/null", env)


def contains(mirror: str, newer: str, older: str, env: Mapping[str, str]) -> Script:
    """Exit 0 where ``older`` is ``newer`` or on the way to it; another status where it is not, or one is not there."""
    asked = f"merge-base --is-ancestor --end-of-options {quote(older)} {quote(newer)}"
    return Script(f"git -C {quote(mirror)} {asked} 2>/dev/null", env)


def fetch_commit(mirror: str, url: str, commit: str, env: Mapping[str, str]) -> Script:
    """Bring a commit that no branch and no tag leads to into the mirror."""
    return Script(f"git -C {quote(mirror)} fetch --quiet --no-tags -- {quote(url)} {quote(commit)}", env)


#: Bytes of the names of changed files that are read.
MOST_CHANGED = 8_000_000


def changed(mirror: str, base: str, head: str, env: Mapping[str, str]) -> Script:
    """Print the files that differ between two commits, each with a NUL behind it; of a renamed one both names."""
    asked = f"diff --name-only --no-renames --no-ext-diff -z --end-of-options {quote(base)} {quote(head)}"
    return Script(f"set -o pipefail\ngit -C {quote(mirror)} {asked} -- 2>/dev/null | head -c {MOST_CHANGED}", env)


def answers(url: str, env: Mapping[str, str]) -> Script:
    """Exit 0 where the repository at ``url`` answers and lets this login in. No mirror is used."""
    return Script(f"git ls-remote -- {quote(url)} HEAD >/dev/null", env)


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


#: What git says of a connection that broke, of a server that is broken itself, and of a full disk: whatever the mirror
#: is like, another one would not help.
_ELSEWHERE = (
    r"early EOF|RPC failed|hung up|unexpected disconnect|onnection (?:reset|closed|timed out)|peration timed out"
    r"|Could not resolve|Could not read from remote|expected flush|curl \d|^remote: (?:fatal|error)|remote error"
    r"|upload-pack: not our ref|No space left|Disk quota|Out of memory"
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


def is_elsewhere(said: str) -> bool:
    """Whether git failed, by what it said, for a reason that no other mirror would change."""
    return re.search(_ELSEWHERE, said, re.M) is not None


def is_redirected(said: str) -> bool:
    """Whether git failed, by what it said, because the address redirects."""
    return re.search(_REDIRECTED, said) is not None


def explain(said: str) -> tuple[str, str]:
    """Why git failed, by what it said on standard error, and what to do; its own words where nothing fits."""
    for pattern, why, remedy in _EXPLAINED:
        if re.search(pattern, said):
            return str(why), str(remedy)
    return last_words(said), ""


def resolve(mirror: str, name: str, env: Mapping[str, str]) -> Script:
    """Print the hash of a branch's commit, else a tag's, else of a commit; exit 4 when there is none."""
    return Script(f'{_find(mirror, name)}\nprintf "%s\\n" "$commit"', env)


def _find(mirror: str, name: str) -> str:
    """The text that sets $commit to the hash that a name leads to, or exits with 4."""
    candidates = " ".join(quote(f"{prefix}{name}^{{commit}}") for prefix in ("refs/heads/", "refs/tags/", ""))
    return (
        f"for name in {candidates}; do\n"
        f'commit=$(git -C {quote(mirror)} rev-parse --verify --quiet --end-of-options "$name") && break\n'
        "done\n"
        '[ -n "$commit" ] || exit 4'
    )


#: What a repository leaves out of archives, or fills in there, is part of a build all the same.
_ATTRIBUTES = "* -export-ignore -export-subst\n"


def export(mirror: str, commit: str, folder: str, env: Mapping[str, str]) -> Script:
    """Unpack the tree of ``commit`` into ``folder``, files with ``export-ignore`` too."""
    m = quote(mirror)
    return Script(
        f"[ -d {m}/info ] || mkdir {m}/info\nprintf %s {quote(_ATTRIBUTES)} >{m}/info/attributes\n"
        f"git -C {m} archive --format=tar {quote(commit)} | tar -x -C {quote(folder)}",
        env,
    )


def top_folder(mirror: str, commit: str, env: Mapping[str, str]) -> Script:
    """Print the names in the top folder of a commit, each with a NUL behind it."""
    return Script(f"git -C {quote(mirror)} ls-tree -z --name-only {quote(commit)}", env)


def size(mirror: str, commit: str, env: Mapping[str, str]) -> Script:
    """Print how many bytes the files of a commit have in all."""
    return Script(
        f"git -C {quote(mirror)} ls-tree -r -l {quote(commit)} | awk '{{n += $4}} END {{printf \"%d\", n}}'", env
    )


def settings_in(mirror: str, commit: str, file: str, env: Mapping[str, str]) -> Script:
    """Print the settings of a file of a commit that is written as git's configuration; `read_settings` reads them."""
    return Script(f"git -C {quote(mirror)} config --blob {quote(f'{commit}:{file}')} --null --list", env)


def read_settings(text: str) -> dict[str, str]:
    """Take apart what `settings_in` printed: by name, the last value."""
    rows = (row.partition("\n") for row in text.split("\0") if row)
    return {name: value for name, _newline, value in rows}


#: Commits and tags that a build's own repository has at most.
_PAST, _TAGS = 1000, 100
#: The mode of a submodule in a tree (gitlink).
_SUBMODULE = "160000"


class Outline(NamedTuple):
    """A commit that a name leads to: its hash and subject, its submodules (commit by path), its .gitattributes files.

    ``shallow`` are the commits at which the way back to the nearest tag ends, and ``tags`` the tags on that way.
    ``branches`` lead to the commit itself.
    """

    commit: str
    subject: str
    branches: list[str]
    tags: list[str]
    shallow: list[str]
    submodules: dict[str, str]
    attributes: list[str]


def outline(mirror: str, name: str, env: Mapping[str, str]) -> Script:
    """Print what `read_outline` reads of a branch, else a tag, else a commit; exit 4 when there is none.

    Nothing is said on standard error then: what is said there is about damage.
    """
    m = quote(mirror)
    past = (
        f"git -C {m} log --no-show-signature --decorate=full --decorate-refs=refs/tags/ --decorate-refs=refs/heads/ "
        "--format='%H%x09%P%x09%D%x09%s'"
    )
    return Script(
        f"""{_find(mirror, name)}
since=
for tags in {m}/refs/tags/*; do
if [ -e "$tags" ] || {{ [ -s {m}/packed-refs ] && grep -q ' refs/tags/' {m}/packed-refs; }}; then
since=$(git -C {m} describe --abbrev=0 "$commit" 2>/dev/null || \\
git -C {m} describe --tags --abbrev=0 "$commit" 2>/dev/null) || since=
fi
break
done
if [ -n "$since" ]; then {past} --max-count={_PAST + 1} "$commit" --not "refs/tags/$since^@" --
else {past} --max-count=1 "$commit" --
fi
printf '\\0'
git -C {m} ls-tree -r -z "$commit" | grep -zE '^{_SUBMODULE} |[/[:space:]]\\.gitattributes$' || [ $? = 1 ]""",
        env,
    )


def read_outline(text: str) -> Outline:
    """Take apart what `outline` printed."""
    past, _nul, special = text.partition("\0")
    rows = [line.split("\t", 3) for line in past.split("\n") if line.count("\t") >= 3]
    rows = rows if len(rows) <= _PAST else rows[:1]
    submodules, attributes = {}, []
    for entry in filter(None, special.split("\0")):
        told, _tab, path = entry.partition("\t")
        mode, _kind, object_id = told.split()
        if mode == _SUBMODULE:
            submodules[path] = object_id
        else:
            attributes.append(path)
    refs = [[name.removeprefix("tag: ").removeprefix("HEAD -> ") for name in row[2].split(", ")] for row in rows]
    tags = [name for names in refs for name in names if name.startswith("refs/tags/")][:_TAGS]
    ends = _ends((row[0], row[1].split()) for row in rows)
    return Outline(rows[0][0], rows[0][3], refs[0], tags, ends, submodules, attributes)


def _ends(rows: Iterable[tuple[str, list[str]]]) -> list[str]:
    """Where the history ends that is made of ``rows``: commits with their parents. Of a merge, all parents belong."""
    parents = dict(rows)
    ends: dict[str, None] = {}
    for commit, above in parents.items():
        missing = [each for each in above if each not in parents]
        ends |= dict.fromkeys([commit] if missing and len(missing) == len(above) else missing)
    return list(ends)


def small_repository(mirror: str, branch: str, folder: str, seen: Outline, env: Mapping[str, str]) -> Script:
    """Make ``folder`` the git folder of a work tree at a commit: that commit, and those back to the nearest tag.

    It has nothing of the mirror's, no remote and no login: `git describe` and `git rev-parse` answer in a build.
    """
    m, g, head = quote(mirror), quote(folder), f"refs/heads/{branch}"
    wanted = (*(f"--shallow {each}" for each in seen.shallow), seen.commit, *seen.tags)
    config = _OF_A_BUILD["sha256" if len(seen.commit) == 64 else "sha1"]
    packed = [f"printf %s {quote(_lines(f'{seen.commit} {head}'))}"] if head in seen.branches else []
    if seen.tags:
        packed.append(f"git -C {m} for-each-ref --format='%(objectname) %(refname)' {' '.join(map(quote, seen.tags))}")
    return Script(
        f"""mkdir -p {g}/objects/pack {g}/refs
printf {quote(config)} >{g}/config
printf %s {quote(_lines(f"ref: {head}" if head in seen.branches else seen.commit))} >{g}/HEAD
{f"printf %s {quote(_lines(*seen.shallow))} >{g}/shallow" if seen.shallow else ":"}
{{ :; {"; ".join([*packed, ""])}}} >{g}/packed-refs
printf %s {quote(_lines(*wanted))} |
git -C {m} pack-objects --quiet --window=0 --revs --shallow {g}/objects/pack/pack >/dev/null
git --git-dir={g} --work-tree={g} read-tree {quote(seen.commit)}""",
        env,
    )


def _lines(*texts: str) -> str:
    return "".join(f"{text}\n" for text in texts)


def both(one: Script, other: Script) -> Script:
    """Two scripts with the same variables at the same time; it fails where one of them fails."""
    return Script(f"(\n{one.text}\n) &\nfirst=$!\n(\n{other.text}\n)\nwait $first", other.env)


def names(mirror: str, limit: int, env: Mapping[str, str]) -> Script:
    """Print the branches, then the tags, each the newest first, at most ``limit`` of each, one a line.

    `read_names` reads it.
    """
    listed = f"git -C {quote(mirror)} for-each-ref --count={limit} --sort=-creatordate --format='%(refname)'"
    return Script(f"{listed} refs/heads\n{listed} refs/tags", env)


def read_names(text: str) -> tuple[list[str], list[str]]:
    """Take apart what `names` printed: the branches, and the tags."""
    branches, tags = (
        [row.removeprefix(place) for row in text.splitlines() if row.startswith(place)]
        for place in ("refs/heads/", "refs/tags/")
    )
    return branches, tags


#: How a commit is printed, for `Commit`.
_COMMIT = "--no-show-signature --format=%H%x00%an%x00%aI%x00%s"


def newest(mirror: str, name: str, limit: int, env: Mapping[str, str]) -> Script:
    """Print the newest ``limit`` commits of a branch, a tag or a commit; exit 4 when there is none.

    `read_commits` reads it.
    """
    listed = f'git -C {quote(mirror)} log --max-count={limit} {_COMMIT} "$commit" --'
    return Script(f"{_find(mirror, name)}\n{listed}", env)


def history(mirror: str, base: str, head: str, limit: int, env: Mapping[str, str]) -> Script:
    """Print how many commits ``head`` has that ``base`` has not, then the newest ``limit`` of them.

    `read_history` reads it. It fails where one of the two is not in the mirror.
    """
    span = quote(f"{base}..{head}")
    return Script(
        f"git -C {quote(mirror)} rev-list --count --end-of-options {span} --\n"
        f"git -C {quote(mirror)} log --max-count={limit} {_COMMIT} "
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
    count, _newline, rows = text.partition("\n")
    return int(count), read_commits(rows)


def read_commits(text: str) -> list[Commit]:
    """Take apart the commits that `newest` printed."""
    return [Commit(*row.split("\0", 3)) for row in text.split("\n") if row.count("\0") >= 3]
