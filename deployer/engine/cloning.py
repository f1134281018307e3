"""From a git address to an exported tree on this machine, by deployer itself: nothing of the repository runs yet.

The tree is whole: with its submodules and its large files where the project says so, and otherwise with a warning that
names them. Where a mirror is at fault, whatever is wrong with it, another one is made, once.
"""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from deployer.database import insist
from deployer.engine.scripts import BuildError, ScriptFailedError, end_leftovers, run_here
from deployer.engine.work import Work
from deployer.plan import Plan
from deployer.releases.archives import size_in_words
from deployer.releases.isolation import lacks, remedy_for_lacking
from deployer.releases.tools import missing_tools
from deployer.releases.workfolders import WorkFolder
from deployer.repositories.largefiles import LargeFile, forget_broken, forget_unused, large_files, put_in
from deployer.repositories.mirror import Mirror
from projects.commands import git, lfs
from projects.commands.build import automatic_install, tools_of_install
from projects.commands.git import Outline
from projects.commands.submodules import addresses
from projects.validators import git_endpoint, is_local_git_url, validate_git_url
from servers import binding
from servers.local import LocalShell
from servers.models import Credential
from servers.sentences import because, listed, sentences
from servers.shell import Script

T = TypeVar("T")
#: Submodules that a release may have in all, and how deep one may lie in others.
_SUBMODULES, _DEPTH = 100, 5


@dataclass(frozen=True)
class Checkout:
    """The exported tree of one commit: ``tree`` lies in ``folder``, which is deleted in the end."""

    folder: Path
    tree: Path
    commit: str


@contextlib.contextmanager
def clone(work: Work) -> Iterator[Checkout]:
    """Fetch once, resolve the branch to a commit and export it into a work folder of its own."""
    plan = work.plan
    try:
        validate_git_url(plan.git_url)
    except ValidationError as error:
        raise BuildError(_("The repository cannot be cloned"), " ".join(error.messages)) from error
    work_folder = WorkFolder(str(work.deployment.pk), work.deployment.claim)
    folder = work_folder.path
    shell = LocalShell(work.deployment.claim)
    try:
        with WorkFolder("git") as private:  # the login lies there, and is gone before anything of the tree runs
            commit = _Cloning(work, shell, _login(plan)).of_branch(private.path, folder)
        yield Checkout(folder, folder / "tree", commit)
    finally:
        end_leftovers(work, shell)
        work_folder.close()


def _login(plan: Plan) -> Credential | None:
    """The login to the repository; nothing where the project has none."""
    if plan.git_credential_id is None:
        return None
    login = insist(Credential.objects.filter(pk=plan.git_credential_id).first)
    if login is None:
        raise BuildError(
            _("The repository cannot be cloned"),
            _("the git credential of the project was deleted after the launch"),
            _("Choose another one in the project, then deploy again."),
        )
    return login


class _Part(NamedTuple):
    """A repository of which a commit was exported: its own submodules, and the address of each by its path."""

    url: str
    submodules: dict[str, str]
    addresses: dict[str, str]


class _Cloning:
    """One deployment's way from repositories to a tree, with the project's ``login``."""

    def __init__(self, work: Work, shell: LocalShell, login: Credential | None) -> None:
        self._work, self._shell, self._login = work, shell, login
        self._submodules = 0
        self._size = 0

    def of_branch(self, private: Path, folder: Path) -> str:
        """Export the branch's commit into ``folder``/tree, with a small repository of its own; gives its hash."""
        work, tree = self._work, folder / "tree"
        mirror = self._mirror(work.plan.git_url, private, self._login)
        for tool in missing_tools(work.plan):
            work.log.warn(
                sentences(_("The scripts seem to need %s, which builds do not find") % tool, remedy_for_lacking())
            )
        work.log.say(_("Fetching %s") % work.plan.git_url)

        def use() -> Outline:
            self._fetch(mirror, _("Fetching %s failed") % mirror.url)
            seen = self._found(mirror)
            self._insist_on_tools(mirror, seen.commit)
            self._export(mirror, seen, tree, folder / "git")
            return seen

        with mirror.locked(work.check):
            seen = self._mended(mirror, use)
            commit, subject, deployment = seen.commit, seen.subject, work.deployment
            deployment.commit_hash, deployment.commit_message = commit, subject
            insist(lambda: deployment.held().update(commit_hash=commit, commit_message=subject))
            work.log.say(f"{deployment.branch} → {commit[:12]} {subject}")
            part = self._completed(mirror, private, commit, seen, tree, "")
        self._add_submodules(part, tree, "", 1)
        return commit

    def _mirror(self, url: str, private: Path, login: Credential | None) -> Mirror:
        mirror = Mirror(url, login, private)
        self._work.log.mask = self._work.log.mask.knowing(mirror.secrets)
        return mirror

    def _mended(self, mirror: Mirror, use: Callable[[], T]) -> T:
        """Use a locked mirror; where it is at fault, another one is made in its place and used instead."""
        try:
            return use()
        except ScriptFailedError as error:
            if not mirror.is_at_fault(error.said):
                raise
            self._work.log.warn(
                because(_("The copy of %s on this machine cannot be used and is fetched again") % mirror.url, error.why)
            )
            with mirror.set_aside():
                return use()

    def _fetch(self, mirror: Mirror, what: str) -> None:
        """Bring the mirror up to date; a redirect is explained."""
        try:
            run_here(self._work, self._shell, mirror.fetching(), what)
        except ScriptFailedError as error:
            if git.is_redirected(error.why):
                raise BuildError(what, *mirror.explain(error.why)) from error
            raise

    def _found(self, mirror: Mirror) -> Outline:
        """The commit that the deployment's branch leads to; where it had to wait, the one that it led to then."""
        branch = self._work.plan.commit or self._work.deployment.branch
        missing = _("“%s” was not found in the repository") % branch
        try:
            return self._outline(mirror, branch, missing)
        except ScriptFailedError as error:
            if error.said.strip():  # git has found something, and could not read it
                raise
            raise BuildError(
                missing,
                _("there is no branch, tag or commit with that name"),
                _("Push it first, or choose another one."),
            ) from error

    def _outline(self, mirror: Mirror, name: str, what: str) -> Outline:
        return git.read_outline(self._asked(git.outline(str(mirror.path), name, mirror.env), what))

    def _insist_on_tools(self, mirror: Mirror, commit: str) -> None:
        """Refuse to begin a build whose automatic install cannot run here."""
        plan = self._work.plan
        if plan.install_script or not plan.auto_install:
            return
        command = automatic_install(plan.project_type, mirror.top_folder(commit))
        for tool in tools_of_install(command):
            if lacks(tool, plan.variables_for("build")):
                what = _("%s failed") % command
                raise BuildError(what, _("builds do not find the program %s") % tool, remedy_for_lacking())

    def _export(self, mirror: Mirror, seen: Outline, tree: Path, repository: Path | None = None) -> None:
        """Export a commit into ``tree``, which is emptied first; a small ``repository`` of it becomes its .git."""
        shutil.rmtree(tree, ignore_errors=True)
        tree.mkdir()
        tree.chmod(0o755)  # a release has its mode, whatever the umask here
        path, env = str(mirror.path), mirror.env
        script = git.export(path, seen.commit, str(tree), env)
        if repository is not None:
            shutil.rmtree(repository, ignore_errors=True)
            branch = self._work.deployment.branch
            script = git.both(script, git.small_repository(path, branch, str(repository), seen, env))
        run_here(self._work, self._shell, script, _("The commit could not be exported"))
        own = tree / ".git"  # a hostile tree has one, whose settings git would run
        if own.is_dir() and not own.is_symlink():
            shutil.rmtree(own)
        own.unlink(missing_ok=True)
        if repository is not None:
            repository.rename(own)

    def _completed(self, mirror: Mirror, private: Path, commit: str, seen: Outline, tree: Path, within: str) -> _Part:
        """Put the large files into an exported tree; gives what is known of its submodules."""
        if files := large_files(tree, seen.attributes):
            if self._work.plan.lfs:
                self._add_large_files(mirror, private, commit, files, tree)
            else:
                names = listed([f"{within}{file.path}" for file in files])
                self._work.log.warn(
                    _(
                        "Files in git LFS are not fetched, in their places are pointers: %s. Turn on “LFS files” in "
                        "the project if they are needed."
                    )
                    % names
                )
        if not seen.submodules:
            return _Part(mirror.url, {}, {})
        if not self._work.plan.submodules:
            names = listed([f"{within}{path}" for path in seen.submodules])
            self._work.log.warn(
                _(
                    "Submodules are not fetched, their folders are empty: %s. Turn on “submodules” in the project if "
                    "they are needed."
                )
                % names
            )
            return _Part(mirror.url, {}, {})
        told = git.read_settings(self._file(mirror, commit, ".gitmodules"))
        return _Part(mirror.url, seen.submodules, addresses(told, mirror.url))

    def _add_submodules(self, part: _Part, tree: Path, within: str, depth: int) -> None:
        """Export the submodules of a repository into their folders, and theirs in turn."""
        for path, commit in part.submodules.items():
            self._work.check()
            self._submodules += 1
            name, url = f"{within}{path}", part.addresses.get(path, "")
            what = _("The submodule %s could not be fetched") % name
            if depth > _DEPTH or self._submodules > _SUBMODULES:
                words = {"most": _SUBMODULES, "depth": _DEPTH}
                why = _("a release has at most %(most)d submodules, in at most %(depth)d levels") % words
                raise BuildError(what, why, _("Fetch the others in the build script."))
            if not url:
                raise BuildError(what, _(".gitmodules has no address for it, or one that leads out of its host"))
            if (tree / path).resolve() != tree.resolve() / path:
                raise BuildError(what, _("its folder is not inside the repository"))
            if is_local_git_url(url) and not is_local_git_url(part.url):
                raise BuildError(what, _("its address is a folder of this machine"))
            try:
                validate_git_url(url)
            except ValidationError as error:
                raise BuildError(what, " ".join(error.messages)) from error
            self._add_submodule(url, commit, tree / path, name, depth)

    def _add_submodule(self, url: str, commit: str, folder: Path, name: str, depth: int) -> None:
        work, what = self._work, _("The submodule %s could not be fetched") % name
        with WorkFolder("git") as private:
            mirror = self._mirror(url, private.path, self._login)
            refusal = mirror.refusal
            if refusal:  # everybody may be able to read it
                mirror = self._mirror(url, private.path, None)
            work.log.say(_("Fetching the submodule %(name)s: %(url)s") % {"name": name, "url": url})

            def use() -> tuple[Outline, int]:
                self._fetch_commit(mirror, commit, what)
                seen = self._outline(mirror, commit, what)
                size = int(self._asked(git.size(str(mirror.path), commit, mirror.env), what))
                self._insist_on_size(what, size)
                self._export(mirror, seen, folder)
                return seen, size

            with mirror.locked(work.check):
                try:
                    seen, size = self._mended(mirror, use)
                except ScriptFailedError as error:
                    if not refusal:
                        raise
                    raise BuildError(error.what, f"{error.why}; {refusal}", binding.remedy()) from error
                self._size += size
                part = self._completed(mirror, private.path, commit, seen, folder, f"{name}/")
        self._add_submodules(part, folder, f"{name}/", depth + 1)

    def _fetch_commit(self, mirror: Mirror, commit: str, what: str) -> None:
        """Bring a submodule's commit into its mirror, unless it is there."""
        there = git.has_commit(str(mirror.path), commit, mirror.env)
        if mirror.read(there)[0] == 0:
            return
        self._fetch(mirror, what)
        if mirror.read(there)[0] != 0:
            run_here(self._work, self._shell, git.fetch_commit(str(mirror.path), mirror.url, commit, mirror.env), what)

    def _add_large_files(self, mirror: Mirror, private: Path, commit: str, files: list[LargeFile], tree: Path) -> None:
        """Fetch the contents of large files, and put them into the tree."""
        what = _("The LFS files could not be fetched")
        if shutil.which("git-lfs") is None:
            raise BuildError(
                what,
                _("git-lfs is not installed on deployer's machine"),
                _("Install it there (apt-get install git-lfs), or turn off “LFS files” in the project."),
            )
        size = sum(file.content.size for file in files)
        self._insist_on_size(what, size)
        self._size += size
        endpoint, env = self._endpoint(mirror, private, commit, what)
        forget_broken(mirror.path, files)
        run_here(self._work, self._shell, lfs.fetch(str(mirror.path), mirror.url, endpoint, commit, env), what)
        put_in(mirror.path, tree, files)
        forget_unused(mirror.path)
        words = {"count": len(files), "size": size_in_words(size)}
        self._work.log.say(_("LFS files: %(count)d, %(size)s") % words)

    def _endpoint(self, mirror: Mirror, private: Path, commit: str, what: str) -> tuple[str, dict[str, str]]:
        """Where the large files are, and the variables to fetch them with: the login goes only where it may."""
        told = git.read_settings(self._file(mirror, commit, ".lfsconfig")).get("lfs.url", "")
        if not told:
            return lfs.endpoint(mirror.url), mirror.env
        try:
            validate_git_url(told)
        except ValidationError as error:
            raise BuildError(
                what, " ".join([_("the address in .lfsconfig cannot be used:"), *error.messages])
            ) from error
        if not told.startswith("https://"):
            raise BuildError(what, _("the address in .lfsconfig does not begin with https://"))
        if git_endpoint(told) == git_endpoint(mirror.url):
            return told, mirror.env
        there = self._mirror(told, private, self._login)
        return told, (self._mirror(told, private, None) if there.refusal else there).env

    def _file(self, mirror: Mirror, commit: str, name: str) -> str:
        """The settings in a file of a commit; nothing where there is no such file."""
        code, told, _said = mirror.read(git.settings_in(str(mirror.path), commit, name, mirror.env))
        return "" if code else told

    def _insist_on_size(self, what: str, more: int) -> None:
        """Refuse more bytes than a release may have, before they are unpacked."""
        if self._size + more > settings.DEPLOYER_RELEASE_MAX_MB * 1_000_000:
            why = _("its submodules and LFS files have more than %d MB") % settings.DEPLOYER_RELEASE_MAX_MB
            raise BuildError(what, why, _("Raise DEPLOYER_RELEASE_MAX_MB, or fetch fewer of them."))

    def _asked(self, script: Script, what: str) -> str:
        """The output of a git command that is none of the log's."""
        said: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        code = self._shell.run(
            script,
            lambda stream, data: said[stream].append(data),
            timeout=self._work.plan.script_timeout,
            stop=self._work.stop,
        )
        output, errors = (b"".join(said[stream]) for stream in ("stdout", "stderr"))
        if code:
            words = self._work.log.mask(errors.decode(errors="replace"))
            raise ScriptFailedError(words, what, git.explain(words)[0])
        return output.decode(errors="replace")
