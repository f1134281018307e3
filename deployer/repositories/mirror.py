"""The cached bare copies of git repositories on this machine: one for each repository, fetched into when needed."""

import base64
import contextlib
import fcntl
import hashlib
import http.client
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from deployer.releases.workfolders import WorkFolder
from projects.commands import git
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


def mirror_path(url: str) -> Path:
    """Where the mirror of a repository lies, whether it was made yet or not."""
    return Path(settings.MIRRORS_DIR) / (hashlib.sha256(url.encode()).hexdigest()[:32] + ".git")


class Mirror:
    """The mirror of one repository, and the variables with which git reads it and may log in to its origin.

    ``folder`` is a private one for the login's files; it is the caller's to delete. Without a credential, what is
    there can be read, and a public repository fetched. A credential that is not for the host of ``url`` is not used,
    unless it was ``chosen`` for it just now by somebody who may. Raises a `NotReadyError` for one that cannot be used.
    """

    def __init__(self, url: str, credential: Credential | None, folder: Path, *, chosen: bool = False) -> None:
        self.url = url
        self.path = mirror_path(url)
        self.secrets: list[str] = []
        self._refusal = "" if credential is None or chosen else _refusal(url, credential)
        settings.MIRRORS_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
        configuration, home = folder / "gitconfig", folder / "nobody"
        configuration.write_text(git.CONFIGURATION)
        home.mkdir(mode=0o700, exist_ok=True)
        self.env = git.environment(str(configuration), str(home), local_allowed=is_local_git_url(url))
        login = None if self._refusal else credential
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
        self.secrets = login.secrets()
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
        if self._refusal:
            raise NotReadyError(_("%s was not fetched") % self.url, self._refusal, binding.remedy())
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
        try:
            return datetime.fromtimestamp((self.path / "FETCH_HEAD").stat().st_mtime, UTC)
        except OSError:
            return None

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
            self._delete_old_locks()
            yield

    def _delete_old_locks(self) -> None:
        """Delete what a git that was killed has left locked: every other one would be refused for ever."""
        left = [*self.path.glob("*.lock"), *(self.path / "refs").rglob("*.lock")]
        if left and not _is_named(str(self.path)):
            for path in left:
                path.unlink(missing_ok=True)

    def read(self, script: Script, timeout: float = READ_LIMIT) -> tuple[int, str, str]:
        """Run a short git command; gives its status and what it printed on both streams."""
        said: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        code = LocalShell().run(
            script, lambda stream, data: said[stream].append(data), timeout=timeout, stop=threading.Event()
        )
        stdout, stderr = (b"".join(said[stream]).decode(errors="replace") for stream in ("stdout", "stderr"))
        return code, stdout, stderr

    def names(self, part: str = "") -> list[str]:
        """Its branches, then its tags, the newest first, as they were when it was fetched: those that have ``part``."""
        code, stdout, _stderr = self.read(git.names(str(self.path), SEARCHED_NAMES if part else NAMES, self.env))
        wanted = part.strip().casefold()
        return [] if code else [name for name in stdout.splitlines() if wanted in name.casefold()][: 2 * NAMES]

    def resolve(self, name: str) -> str:
        """The commit of a branch, a tag or a commit; empty where there is none of that name."""
        code, stdout, _stderr = self.read(git.resolve(str(self.path), name, self.env))
        return "" if code else stdout.split("\n")[0]


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
        raise NotReadyError(what, *mirror.explain(stderr))
    return stdout


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
            _asked(mirror, mirror.fetching(), what, max(until - time.monotonic(), 1))


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


def _private(path: Path, text: str) -> Path:
    path.touch(mode=0o600)
    path.write_text(text)
    return path
