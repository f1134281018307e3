"""The cached bare copies of git repositories on this machine: one for each repository, fetched into when needed."""

import base64
import contextlib
import fcntl
import hashlib
import http.client
import os
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from deployer.releases.workfolders import WorkFolder
from projects.commands import git
from projects.commands.git import Commit
from projects.models import Project
from projects.validators import git_endpoint, git_host, is_local_git_url, validate_git_url
from servers import binding
from servers.errors import NotReadyError, ShellError
from servers.fields import DecryptionError
from servers.keys import openssh_key
from servers.local import LocalShell
from servers.models import Credential
from servers.shell import Script

#: Seconds that a page waits for git.
READ_LIMIT, FETCH_LIMIT, ASK_LIMIT, REDIRECT_LIMIT = 10, 60, 25, 5
#: Characters of an address that are shown where a server has given it.
LONGEST_ADDRESS = 300
#: Branches, and tags, that a page proposes, and among how many it looks for what is typed.
NAMES, SEARCHED_NAMES = 200, 5000
#: The same of its commits.
COMMITS, SEARCHED_COMMITS = 20, 500
#: What a git that was killed, or a power cut, leaves in a mirror: all others would be refused because of a lock.
_LEFT = (
    *("*.lock", "refs/**/*.lock", "info/*.lock", "objects/info/**/*.lock", "objects/pack/*.lock", "reftable/*.lock"),
    *("objects/pack/tmp_*", "objects/pack/.tmp-*", "objects/??/tmp_obj_*", "objects/tmp_objdir-*"),
)
#: Seconds that are waited for another git, which may be at what would be deleted.
_OTHER_GIT = 5.0


def mirror_path(url: str) -> Path:
    """Where the mirror of a repository lies, whether it was made yet or not."""
    return Path(settings.MIRRORS_DIR) / (hashlib.sha256(url.encode()).hexdigest()[:32] + ".git")


def delete_unused(after: timedelta) -> int:
    """Delete the mirrors of repositories that no project has, once they were not used for so long; gives how many.

    One that a git is at just now is left alone.
    """
    used = {mirror_path(url) for url in Project.objects.exclude(git_url="").values_list("git_url", flat=True)}
    oldest = time.time() - after.total_seconds()
    gone = 0
    for path in Path(settings.MIRRORS_DIR).glob("*.git"):
        with contextlib.suppress(OSError), path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path in used or max(path.stat().st_mtime, _fetched(path)) > oldest:
                continue
            shutil.rmtree(path)
            gone += 1
    return gone


def _fetched(path: Path) -> float:
    """When a mirror was last fetched, in seconds since 1970; 0 if it never was."""
    try:
        return (path / "FETCH_HEAD").stat().st_mtime
    except OSError:
        return 0.0


class Mirror:
    """The mirror of one repository, and the variables with which git reads it and may log in to its origin.

    ``folder`` is a private one for the login's files; it is the caller's to delete. Without a credential, what is
    there can be read, and a public repository fetched. A credential that is not for the host of ``url`` is not used,
    unless it was ``chosen`` for it just now by somebody who may. Raises a `NotReadyError` for one that cannot be used.
    """

    def __init__(self, url: str, credential: Credential | None, folder: Path, *, chosen: bool = False) -> None:
        self.url = url
        self.path = mirror_path(url)
        proxy = {name: os.environ[name] for name in git.PROXY if name in os.environ}
        self.secrets = [*_passwords_in(proxy.values())]
        #: Why the credential is not sent to the host of ``url``; empty if it is.
        self.refusal = "" if credential is None or chosen else _refusal(url, credential)
        settings.MIRRORS_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
        configuration, home = folder / "gitconfig", folder / "nobody"
        configuration.write_text(git.CONFIGURATION)
        home.mkdir(mode=0o700, exist_ok=True)
        self.env = git.environment(str(configuration), str(home), local_allowed=is_local_git_url(url), proxy=proxy)
        login = None if self.refusal else credential
        try:
            key_file = self._log_in(login, folder)
        except (ValidationError, DecryptionError) as error:
            what, why = _("%s could not be read") % url, _("the credential “%s” cannot be used") % credential
            raise NotReadyError(what, why, _("Enter its key or its password again.")) from error
        self.env["GIT_SSH_COMMAND"] = git.ssh_command(
            key_file,
            str(settings.MIRRORS_DIR / "known_hosts"),
            batch=login is None or login.kind == Credential.Kind.SSH_KEY,
        )

    def _log_in(self, login: Credential | None, folder: Path) -> str:
        """Let git use the login; gives the file of its key. Raises an error where it cannot be read."""
        if login is None:
            return ""
        self.secrets += login.secrets()
        if login.kind == Credential.Kind.SSH_KEY:
            return str(_private(folder / "git_key", openssh_key(login.private_key, login.passphrase)))
        askpass = _private(folder / "askpass", git.ASKPASS)
        askpass.chmod(0o700)
        _private(folder / "username", f"{login.username}\n")
        _private(folder / "password", f"{login.password}\n")
        self.env |= {
            "GIT_ASKPASS": str(askpass),
            "SSH_ASKPASS": str(askpass),
            "SSH_ASKPASS_REQUIRE": "force",
            "DEPLOYER_GIT_HOST": git_host(self.url),
            "DEPLOYER_GIT_LOGIN": str(folder),
        }
        return ""

    def fetching(self) -> Script:
        """The command that brings it up to date.

        Raises `NotReadyError` where the credential is not for the host of the repository.
        """
        if self.refusal:
            raise NotReadyError(_("%s was not fetched") % self.url, self.refusal, binding.remedy())
        return git.fetch(str(self.path), self.url, self.env)

    def explain(self, said: str) -> tuple[str, str]:
        """Why git failed, by what it said, and what to do; a redirect is named, if it leads to a repository."""
        if git.is_redirected(said) and (target := _redirect_of(self.url)):
            return _("the address redirects to %s, and a login is sent to no other address") % target, _(
                "Enter that address, if it is meant."
            )
        return git.explain(said)

    @property
    def fetched_at(self) -> datetime | None:
        """When it was last fetched; nothing if it never was."""
        moment = _fetched(self.path)
        return datetime.fromtimestamp(moment, UTC) if moment else None

    @contextlib.contextmanager
    def locked(self, check: Callable[[], None]) -> Iterator[None]:
        """One git at a time; ``check`` is called while waiting, and ends the wait by raising."""
        with self.path.with_suffix(".lock").open("w") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    check()
                    time.sleep(0.2)
            self._delete_leftovers(check)
            yield

    def _delete_leftovers(self, check: Callable[[], None]) -> None:
        """Delete what a git that is gone has left; what another one, which still runs, may be at is left alone."""
        _delete(self._aside)
        left = [path for pattern in _LEFT for path in self.path.glob(pattern)]
        until = time.monotonic() + _OTHER_GIT
        while left and _is_named(str(self.path)):
            if time.monotonic() > until:
                return
            check()
            time.sleep(0.2)
        for path in left:
            _delete(path)

    @property
    def _aside(self) -> Path:
        return self.path.with_name(f"{self.path.name}.damaged")

    def is_at_fault(self, said: str) -> bool:
        """Whether git said this because of the mirror: the repository itself answers, and lets this login in."""
        if git.is_elsewhere(said):
            return False
        try:
            return self.read(git.answers(self.url, self.env), ASK_LIMIT)[0] == 0
        except ShellError:
            return False

    @contextlib.contextmanager
    def set_aside(self) -> Iterator[None]:
        """Within it another mirror is made, under the same lock; where that fails, this one comes back."""
        if os.path.lexists(self.path):
            self.path.rename(self._aside)
        try:
            yield
        except BaseException:
            if os.path.lexists(self._aside):
                _delete(self.path)
                self._aside.rename(self.path)
            raise
        _delete(self._aside)

    def read(self, script: Script, timeout: float = READ_LIMIT) -> tuple[int, str, str]:
        """Run a short git command; gives its status and what it printed on both streams."""
        said: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        code = LocalShell().run(
            script, lambda stream, data: said[stream].append(data), timeout=timeout, stop=threading.Event()
        )
        stdout, stderr = (b"".join(said[stream]).decode(errors="replace") for stream in ("stdout", "stderr"))
        return code, stdout, stderr

    def names(self, part: str = "") -> tuple[list[str], list[str]]:
        """Its branches, and its tags, the newest first, as they were when it was fetched: those that have ``part``."""
        wanted = part.strip().casefold()
        code, stdout, _stderr = self.read(git.names(str(self.path), SEARCHED_NAMES if wanted else NAMES, self.env))
        found = git.read_names("" if code else stdout)
        branches, tags = ([name for name in names if wanted in name.casefold()][:NAMES] for names in found)
        return branches, tags

    def commits(self, name: str, part: str = "") -> list[Commit]:
        """The newest commits of a branch, a tag or a commit: those with ``part`` in their subject or author, or which
        begin with it.
        """
        wanted = part.strip().casefold()
        code, stdout, _stderr = self.read(
            git.newest(str(self.path), name, SEARCHED_COMMITS if wanted else COMMITS, self.env)
        )
        found = [] if code else git.read_commits(stdout)
        return [it for it in found if it.hash.startswith(wanted) or wanted in f"{it.subject}\0{it.author}".casefold()]

    def resolve(self, name: str) -> str:
        """The commit of a branch, a tag or a commit; empty where there is none of that name."""
        code, stdout, _stderr = self.read(git.resolve(str(self.path), name, self.env))
        return "" if code else stdout.split("\n")[0]

    def distance(self, base: str, head: str) -> int | None:
        """How many commits ``head`` has that ``base`` has not; nothing where one of them is not there."""
        code, stdout, _stderr = self.read(git.history(str(self.path), base, head, 0, self.env))
        return None if code else git.read_history(stdout)[0]

    def contains(self, newer: str, older: str) -> bool:
        """Whether one commit is another, or on the way to it; not so where one of them is not there."""
        return self.read(git.contains(str(self.path), newer, older, self.env))[0] == 0

    def changed_files(self, base: str, head: str) -> list[str] | None:
        """The files that differ between two commits; nothing where one is not there, or they are too many to tell."""
        code, stdout, _stderr = self.read(git.changed(str(self.path), base, head, self.env))
        if code or len(stdout) >= git.MOST_CHANGED:
            return None
        return [each for each in stdout.split("\0") if each]

    def top_folder(self, name: str) -> list[str]:
        """The names in the top folder of a branch, a tag or a commit; none where there is none of that name."""
        if self.fetched_at is None or not (commit := self.resolve(name)):
            return []
        code, stdout, _stderr = self.read(git.top_folder(str(self.path), commit, self.env))
        return [] if code else [each for each in stdout.split("\0") if each]


@contextlib.contextmanager
def mirror_of(project: Project) -> Iterator[Mirror]:
    """The mirror of a project's repository, to be read: with the login to it, or without one that cannot be used."""
    with WorkFolder("git") as folder:
        try:
            mirror = Mirror(project.git_url, project.git_credential, folder.path)
        except NotReadyError:
            mirror = Mirror(project.git_url, None, folder.path)
        yield mirror


@dataclass(frozen=True)
class Look:
    """The branches of a repository, the default one first, and the files in the top folder of ``branch``.

    ``files`` have their content where it was asked for. ``problem`` says why there are none, while there are branches.
    """

    branches: list[str]
    branch: str
    files: dict[str, str]
    problem: str = ""


def look_at(url: str, credential: Credential | None, telling: Collection[str], branch: str = "") -> Look:
    """Ask a repository for its branches and one of them for its files, while somebody waits. No mirror is made.

    Somebody who may see the credential has chosen it for this address: it is sent there, and bound to it only later.
    Raises a `ShellError` that explains itself when the repository cannot be reached.
    """
    what = _("%s could not be read") % url
    try:
        validate_git_url(url)
    except ValidationError as error:
        raise NotReadyError(what, " ".join(error.messages)) from error
    with WorkFolder("git") as folder:
        mirror = Mirror(url, credential, folder.path, chosen=True)
        branches = git.read_branches(_asked(mirror, git.remote_branches(url, mirror.env), what, ASK_LIMIT))
        if not branches:
            raise NotReadyError(what, _("it has no branch yet"), _("Push a first commit."))
        chosen = branch if branch in branches else branches[0]
        try:
            files = _top_folder(mirror, folder.path / "peek.git", chosen, telling)
        except NotReadyError as error:
            return Look(branches[:NAMES], chosen, {}, str(error))
        return Look(branches[:NAMES], chosen, files)


def _top_folder(mirror: Mirror, folder: Path, branch: str, telling: Collection[str]) -> dict[str, str]:
    """The files of a branch's newest commit: their names, and the content of the ``telling`` ones."""
    what = _("The files of %s could not be listed") % branch
    found = git.read_top_folder(_asked(mirror, git.peek(str(folder), mirror.url, branch, mirror.env), what, ASK_LIMIT))
    ids = {name: found[name] for name in telling if found.get(name)}
    texts = _asked(mirror, git.contents(str(folder), [*ids.values()], mirror.env), what, READ_LIMIT).splitlines()
    read = {name: base64.b64decode(text).decode(errors="replace") for name, text in zip(ids, texts, strict=True)}
    return dict.fromkeys(found, "") | read


def _asked(mirror: Mirror, script: Script, what: str, limit: float) -> str:
    """The output of a git command; raises `NotReadyError`, about ``what``, with a reason and a remedy."""
    try:
        code, stdout, stderr = mirror.read(script, limit)
    except ShellError as error:
        why = _("git did not answer within %d seconds") % limit
        raise NotReadyError(what, why, _("Check the address, or try again.")) from error
    if code:
        for secret in mirror.secrets:
            stderr = stderr.replace(secret, "••••••")
        raise _GitFailedError(stderr, what, *mirror.explain(stderr))
    return stdout


class _GitFailedError(NotReadyError):
    """A git command that failed, and what it ``said``."""

    def __init__(self, said: str, *words: str) -> None:
        super().__init__(*words)
        self.said = said


def fetch(project: Project) -> None:
    """Bring the mirror up to date, while somebody waits. Raises a `ShellError` that explains itself."""
    what = _("%s could not be fetched") % project.git_url
    try:
        validate_git_url(project.git_url)
    except ValidationError as error:
        raise NotReadyError(what, " ".join(error.messages)) from error
    until = time.monotonic() + FETCH_LIMIT

    def check() -> None:
        if time.monotonic() > until:
            raise NotReadyError(what, _("a deployment is fetching it"), _("Try again in a moment."))

    with WorkFolder("git") as folder:
        mirror = Mirror(project.git_url, project.git_credential, folder.path)
        with mirror.locked(check):
            try:
                _asked(mirror, mirror.fetching(), what, max(until - time.monotonic(), 1))
            except _GitFailedError as error:
                if not mirror.is_at_fault(error.said):
                    raise
                with mirror.set_aside():
                    _asked(mirror, mirror.fetching(), what, FETCH_LIMIT)


def _refusal(url: str, credential: Credential) -> str:
    """Why ``credential`` may not be sent to the host of ``url``; empty if it may."""
    endpoint = git_endpoint(url)
    return binding.not_for(credential, endpoint, Credential.Purpose.GIT) if endpoint else ""


def _redirect_of(url: str) -> str:
    """The repository that an https address redirects to, asked without a login; empty where that is not told."""
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        return ""
    connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=REDIRECT_LIMIT)
    try:
        connection.request("GET", parts.path + git.FIRST_QUESTION, headers={"User-Agent": "git/2"})
        answer = connection.getresponse()
        target = answer.headers.get("Location", "")
        target = urljoin(url, target).removesuffix(git.FIRST_QUESTION)
        validate_git_url(target)
    except (OSError, http.client.HTTPException, ValueError, ValidationError):
        return ""
    finally:
        connection.close()
    return target if target != url and len(target) <= LONGEST_ADDRESS and target.isprintable() else ""


def _is_named(name: str) -> bool:
    """Whether a process of this machine has ``name`` in its command line or as its working folder."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if name.encode() in (process / "cmdline").read_bytes() or name == str((process / "cwd").readlink()):
                return True
    return False


def _delete(path: Path) -> None:
    """Delete a file, a link or a folder, whatever is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _passwords_in(proxies: Iterable[str]) -> Iterator[str]:
    """The passwords in the addresses of proxies, as they stand there and as they are meant."""
    for proxy in proxies:
        with contextlib.suppress(ValueError):
            if password := urlsplit(proxy).password:
                yield from {password, unquote(password)}


def _private(path: Path, text: str) -> Path:
    path.touch(mode=0o600)
    path.write_text(text)
    return path
