"""From a git address to a stored release, on this machine: clone, install, build, pack.

The repository is fetched by deployer itself. Everything after that runs what the repository says, and so in a room of
its own, as `deployer.releases.isolation` finds it: from the first of its scripts on, what is in there is not trusted.
"""

import contextlib
import hashlib
import json
import signal
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext as _

from deployer.database import insist
from deployer.engine.work import Work
from deployer.models import Release
from deployer.plan import Plan
from deployer.releases.archives import size_in_words
from deployer.releases.caches import kept_folders
from deployer.releases.isolation import BuildRoom, isolation
from deployer.releases.store import store
from deployer.releases.workfolders import WorkFolder
from deployer.repositories.mirror import Mirror
from projects.commands import build as build_commands
from projects.commands import git
from projects.commands import release as release_commands
from projects.validators import validate_git_url
from servers.errors import ScriptTimeoutError, ShellError
from servers.isolation import LimitError
from servers.local import LocalShell
from servers.models import Credential
from servers.sentences import because, sentences
from servers.shell import Script


class BuildError(ShellError):
    """The code could not be fetched, built or packed."""


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
    work_folder = WorkFolder(str(work.deployment.pk))
    folder = work_folder.path
    shell = LocalShell(work.deployment.claim)
    try:
        tree = folder / "tree"
        tree.mkdir()
        tree.chmod(0o755)  # a release has its mode, whatever the umask here
        with WorkFolder("git") as private:  # the login lies there, and is gone before anything of the tree runs
            commit = _export(work, shell, private.path, tree)
        yield Checkout(folder, tree, commit)
    finally:
        _end_leftovers(work, shell)
        work_folder.close()


def _export(work: Work, shell: LocalShell, private: Path, tree: Path) -> str:
    """Fetch, and export the branch's commit into ``tree``; gives its hash."""
    plan, deployment = work.plan, work.deployment
    mirror = Mirror(plan.git_url, _login(plan), private)
    work.log.mask = work.log.mask.knowing(mirror.secrets)
    path, env = str(mirror.path), mirror.env
    work.log.say(_("Fetching %s") % plan.git_url)
    with mirror.locked(work.check):
        _fetch(work, shell, mirror)
        found: list[bytes] = []
        code = shell.run(
            git.resolve(path, deployment.branch, env),
            lambda _stream, data: found.append(data),
            timeout=60,
            stop=work.stop,
        )
        if code:
            raise BuildError(
                _("“%s” was not found in the repository") % deployment.branch,
                _("there is no branch, tag or commit with that name"),
                _("Push it first, or choose another one."),
            )
        commit, subject = [*b"".join(found).decode(errors="replace").split("\n"), ""][:2]
        _run(work, shell, git.export(path, commit, str(tree), env), _("The commit could not be exported"))
    deployment.commit_hash, deployment.commit_message = commit, subject
    insist(lambda: deployment.held().update(commit_hash=commit, commit_message=subject))
    work.log.say(f"{deployment.branch} → {commit[:12]} {subject}")
    return commit


def _fetch(work: Work, shell: LocalShell, mirror: Mirror) -> None:
    """Bring the mirror up to date; a redirect is explained."""
    what = _("Fetching %s failed") % mirror.url
    try:
        _run(work, shell, mirror.fetching(), what)
    except BuildError as error:
        if git.is_redirected(error.why):
            raise BuildError(what, *mirror.explain(error.why)) from error
        raise


def _end_leftovers(work: Work, shell: LocalShell) -> None:
    if left := shell.sweep():
        work.log.warn(_("Ended %d processes that the build had left running") % left)


def _login(plan: Plan) -> Credential | None:
    """The login to the repository; nothing where the project has none."""
    if plan.git_credential_id is None:
        return None
    login = Credential.objects.filter(pk=plan.git_credential_id).first()
    if login is None:
        raise BuildError(
            _("The repository cannot be cloned"),
            _("the git credential of the project was deleted after the launch"),
            _("Choose another one in the project, then deploy again."),
        )
    return login


def build_key(plan: Plan, commit: str) -> str:
    """The digest of everything that goes into a build: two builds with the same digest make the same release."""
    names = ("project_type", "auto_install", "install_script", "build_script", "output_dir")
    ingredients = [commit, {name: getattr(plan, name) for name in names}, plan.variables_for("build")]
    return hashlib.sha256(json.dumps(ingredients, sort_keys=True).encode()).hexdigest()


def built_before(work: Work, checkout: Checkout) -> Release | None:
    """The stored release of the same commit and build settings, unless it was bad or is to be built again."""
    if work.deployment.rebuild:
        return None
    same = Release.objects.stored().filter(
        project_id=work.deployment.project_id, build_key=build_key(work.plan, checkout.commit)
    )
    release = same.exclude(state=Release.State.BAD).first()
    if release is not None:
        work.log.say(_("%s was built from this commit with the same settings: it is reused") % release)
    return release


def build(work: Work, checkout: Checkout) -> Release:
    """Install, build, pack, check and store; gives the release."""
    plan = work.plan
    room = _room(work, checkout)
    env = {
        **room.environment,
        **plan.variables_for("build"),
        "DEPLOY_ID": str(work.deployment.pk),
        "DEPLOY_TYPE": work.deployment.deployment_type,
        "DEPLOY_COMMIT": checkout.commit,
    }
    shell = LocalShell(work.deployment.claim, room.for_scripts())
    for what, script in _build_scripts(work, room, env, [path.name for path in checkout.tree.iterdir()]):
        work.log.say(what)
        _run(work, shell, script, _("%s failed") % what)
        work.check()
    _end_leftovers(work, shell)
    tar = _pack(work, checkout, room)
    release = Release(
        project_id=work.deployment.project_id,
        version=f"{timezone.now():%Y%m%d%H%M%S}-{work.deployment.pk}-{checkout.commit[:8]}",
        commit_hash=checkout.commit,
        commit_message=work.deployment.commit_message,
        build_key=build_key(plan, checkout.commit),
        created_by=work.deployment.created_by,
    )
    store(release, tar)
    work.log.say(
        _("Built %(version)s: %(files)d files, %(size)s, packed %(packed)s")
        % {
            "version": release.version,
            "files": release.file_count,
            "size": size_in_words(release.unpacked_size),
            "packed": size_in_words(release.size),
        }
    )
    return release


def _room(work: Work, checkout: Checkout) -> BuildRoom:
    """Where the build runs; says how it is kept apart, and refuses where the settings want more than can be had."""
    apart = isolation()
    if apart.is_refused:
        raise BuildError(_("The build was refused: %s") % apart.told(), apart.reason(), apart.remedy())
    if apart.falls_short:
        work.log.warn(sentences(because(apart.told(), apart.reason()), apart.remedy()))
    else:
        work.log.say(sentences(apart.told()))
    room = BuildRoom(apart, checkout.folder, kept_folders(work.deployment.project_id))
    room.furnish()
    return room


def _build_scripts(
    work: Work, room: BuildRoom, env: dict[str, str], files: Collection[str]
) -> Iterator[tuple[str, Script]]:
    """The scripts in their order, with what to call each; ``files`` are in the tree's top folder."""
    plan = work.plan
    if plan.install_script:
        yield _("Install script"), Script(plan.install_script, env, room.tree)
    elif plan.auto_install:
        command = build_commands.automatic_install(plan.project_type, files)
        if not command:
            work.log.warn(_("Nothing to install: the repository has no lock file or list of requirements."))
        elif build_commands.needs_python_environment(command):
            yield command, build_commands.with_python_environment(command, room.tree, quote(room.python), env)
            env["PATH"] = f"{room.python}/bin:" + env.get("PATH", room.search_path)
            env["VIRTUAL_ENV"] = room.python
        else:
            yield command, Script(command, env, room.tree)
    if plan.build_script:
        yield _("Build script"), Script(plan.build_script, env, room.tree)


def _pack(work: Work, checkout: Checkout, room: BuildRoom) -> Path:
    """Pack the output folder; gives the archive, where no build can write.

    The tree is the build's, and may be full of traps: only the packing, which is kept apart, too, ever reads it.
    """
    output = work.plan.output_dir
    shell = LocalShell(work.deployment.claim, room.for_packing())
    script = Script(release_commands.pack(room.tree, output, f"{room.packed}/release.tar"), room.environment)
    explained = {
        release_commands.OUTSIDE: BuildError(_("The output folder %s points outside the repository") % output),
        release_commands.NO_FOLDER: BuildError(
            _("The output folder %s does not exist after the build") % output,
            "",
            _("Correct output_dir, or the build script that should create it."),
        ),
    }
    _run(work, shell, script, _("Packing failed"), explained)
    _end_leftovers(work, shell)
    tar = (room.packed_here / "release.tar").rename(checkout.folder / "release.tar")
    if not stat.S_ISREG(tar.lstat().st_mode):
        raise BuildError(_("Packing failed"), _("the archive is no plain file"))
    return tar


#: By the name of a limit, its setting.
_SETTINGS = {
    "memory": "DEPLOYER_BUILD_MEMORY_MB",
    "processes": "DEPLOYER_BUILD_PROCESSES",
    "disk": "DEPLOYER_BUILD_DISK_MB",
    "free": "DEPLOYER_KEEP_FREE_MB",
}
#: The status of a script that was killed because a file of it grew too large.
_FILE_TOO_LARGE = 128 + signal.SIGXFSZ


def _run(
    work: Work, shell: LocalShell, script: Script, what: str, explained: Mapping[int, BuildError] | None = None
) -> None:
    """Run one script with its output in the log; a failing one is a `BuildError` with its last words.

    ``explained``: the errors of statuses that mean something.
    """
    output = work.log.output()
    last: list[bytes] = []

    def take(stream: str, data: bytes) -> None:
        output(stream, data)
        if stream == "stderr":
            last[:] = [(b"".join(last) + data)[-2000:]]

    try:
        code = shell.run(script, take, timeout=work.plan.script_timeout, stop=work.stop, room=work.log.room)
    except ScriptTimeoutError as error:
        raise BuildError(
            what,
            _("it ran longer than its limit of %d seconds and was ended") % work.plan.script_timeout,
            _("Raise script_timeout if it needs longer."),
        ) from error
    except LimitError as error:
        raise _over(what, error.what, _SETTINGS[error.limit]) from error
    finally:
        output.finish()
    if explained and code in explained:
        raise explained[code]
    if code == _FILE_TOO_LARGE:
        raise _over(what, _("a file of it became larger than it may"), _SETTINGS["disk"])
    if code:
        words = work.log.mask(b"".join(last).decode(errors="replace"))
        lines = [line.strip() for line in words.splitlines() if line.strip()][-4:]
        raise BuildError(what, _("status %d") % code + (f" ({' / '.join(lines)[-400:]})" if lines else ""))


def _over(what: str, why: str, setting: str) -> BuildError:
    """The end of a script that took more than it may."""
    remedy = _("Correct the build, or change %(setting)s.") % {"setting": setting}
    return BuildError(what, f"{why} ({setting}={getattr(settings, setting)})", remedy)
