"""From an exported tree to a stored release, on this machine: install, build, pack.

The repository was fetched by deployer itself. What is done here runs what the repository says, and so in a room of its
own, as `deployer.releases.isolation` finds it: from the first of its scripts on, what is in there is not trusted.
"""

import hashlib
import json
import os
import stat
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from django.utils import timezone
from django.utils.translation import gettext as _

from deployer.database import insist
from deployer.engine.cloning import Checkout
from deployer.engine.scripts import BuildError, end_leftovers, run_here, tell_isolation
from deployer.engine.work import Work
from deployer.models import Release
from deployer.releases.archives import size_in_words
from deployer.releases.caches import kept_folders
from deployer.releases.contents import Contents
from deployer.releases.databases import lost_databases
from deployer.releases.isolation import BuildRoom
from deployer.releases.store import store
from projects.commands import build as build_commands
from projects.commands import release as release_commands
from servers.local import LocalShell
from servers.sentences import sentences
from servers.shell import Script


def build_key(work: Work, commit: str) -> str:
    """The digest of everything that goes into a build: two builds with the same digest make the same release."""
    plan = work.plan
    names = ("project_type", "auto_install", "install_script", "build_script", "output_dir")
    values = {name: getattr(plan, name) for name in names}
    # What is off leaves the digests as they were before it was known: their releases can still be used again.
    values |= {name: True for name in ("submodules", "lfs", "keeps_database_files") if getattr(plan, name)}
    ingredients = [commit, values, work.variables("build")]
    return hashlib.sha256(json.dumps(ingredients, sort_keys=True).encode()).hexdigest()


def built_before(work: Work, checkout: Checkout) -> Release | None:
    """The stored release of the same commit and build settings, unless it was bad or is to be built again."""
    if work.deployment.rebuild:
        return None
    same = Release.objects.stored().filter(
        project_id=work.deployment.project_id, build_key=build_key(work, checkout.commit)
    )
    if marked := insist(same.exclude(bad_at=None).first):
        raise BuildError(
            _("%s was built from this commit with the same settings") % marked,
            _("it is marked as bad: %s") % marked.bad_reason,
            _("Push a correction, or launch with “build again”."),
        )
    release = insist(same.exclude(state=Release.State.BAD).first)
    if release is not None:
        work.log.say(_("%s was built from this commit with the same settings: it is reused") % release)
    return release


@dataclass(frozen=True)
class Built:
    """A tree that was built and packed, and is not stored yet: what steps on the platform have of it.

    ``env`` are the variables of its build.
    """

    room: BuildRoom
    env: dict[str, str]
    release: Release


def build(work: Work, checkout: Checkout, prepare: Callable[[Built], None]) -> Release:
    """Install, build, pack, prepare, check and store; gives the release.

    What prepares it has the built tree, and the archive no more. A release that it fails is not stored: the next
    deployment builds it, and prepares it, again.
    """
    room = _room(work, checkout)
    env = {
        **room.environment,
        **work.variables("build"),
        "DEPLOY_ID": str(work.deployment.pk),
        "DEPLOY_TYPE": work.deployment.deployment_type,
        "DEPLOY_COMMIT": checkout.commit,
    }
    shell = LocalShell(work.deployment.claim, room.for_scripts())
    for what, script in _build_scripts(work, room, env, [path.name for path in checkout.tree.iterdir()]):
        work.log.say(what)
        run_here(work, shell, script, _("%s failed") % what)
        work.check()
    end_leftovers(work, shell)
    tar = _pack(work, checkout, room)
    release = Release(
        project_id=work.deployment.project_id,
        version=f"{timezone.now():%Y%m%d%H%M%S}-{work.deployment.pk}-{checkout.commit[:8]}",
        commit_hash=checkout.commit,
        commit_message=work.deployment.commit_message,
        build_key=build_key(work, checkout.commit),
        created_by=work.deployment.created_by,
    )
    prepare(Built(room, env, release))
    store(release, tar, lambda contents: _refuse_databases(work, tar, contents))
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


def _refuse_databases(work: Work, tar: Path, contents: Contents) -> None:
    """Refuse a release with a database in it that an application would write to, unless that is meant."""
    if work.plan.keeps_database_files:
        return
    if why := lost_databases(tar, contents, work.plan.shared):
        raise BuildError(
            _("The release was not packed"),
            why,
            _(
                "Name them in shared_paths, or delete them in the build script. If they are only read, tick "
                "“database files are meant” in the project (keeps_database_files)."
            ),
        )


def _room(work: Work, checkout: Checkout) -> BuildRoom:
    """Where the build runs; says how it is kept apart, and refuses where the settings want more than can be had."""
    apart = tell_isolation(work, _("The build was refused: %s"))
    if not apart.falls_short:
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
    run_here(work, shell, script, _("Packing failed"), explained)
    end_leftovers(work, shell)
    tar = (room.packed_here / "release.tar").rename(checkout.folder / "release.tar")
    if not stat.S_ISREG(tar.lstat().st_mode):
        raise BuildError(_("Packing failed"), _("the archive is no plain file"))
    if room.isolation.user is not None:  # what runs as that user from here on cannot change it
        os.chown(tar, os.geteuid(), os.getegid(), follow_symlinks=False)
        tar.chmod(0o600)
    return tar
