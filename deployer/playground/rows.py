"""The playground's rows: the demo's servers and their shop beside the real ones, declared and deleted again."""

import shutil
from urllib.parse import quote

from django.db import models, transaction
from django.db.models import ProtectedError, Q
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from deployer.declaring.reading import DeclarationError, DeclarationFile
from deployer.declaring.writing import apply
from deployer.models import Deployment
from deployer.playground import keeping, scene
from deployer.playground.keeping import PlaygroundError
from deployer.releases.archives import StoreError, explained
from deployer.repositories.mirror import mirror_path
from people.record import delete
from projects.models import Project
from servers.models import Credential, Server, ServerGroup

KEY, GROUP, PROJECT = "playground-key", "playground", "playground-shop"
SERVERS = tuple(f"playground-{name}" for name in scene.SERVERS)


def make_playground() -> Project:
    """Have the servers started and declare them, their group and the shop; gives the project to launch.

    Where it is there already, what is missing is put right. Raises `PlaygroundError`.
    """
    if not keeping.can_be_made():
        raise PlaygroundError(_("deployer was not started by “deployer up”: nothing would keep the servers running."))
    with keeping.one_at_a_time():
        _refuse_names_of_others()
        declared = _declaration(keeping.bring_up())
        try:
            apply([DeclarationFile(PROJECT, declared.encode(), keeping.FOLDER)])
        except DeclarationError as error:
            raise PlaygroundError(" ".join(error.mistakes)) from error
        (keeping.FOLDER / "declared").touch()
    return Project.objects.current().get(name=PROJECT)


def remove_playground() -> list[str]:
    """Stop the servers and delete what was declared, with its deployments; returns sentences about the outcome.

    Refused, with a `PlaygroundError`, while something is being deployed there.
    """
    with keeping.one_at_a_time():
        there = Q(targets__server__name__in=SERVERS) | Q(project__name=PROJECT)
        busy = Deployment.objects.active().filter(there).first()
        if busy is not None:
            raise PlaygroundError(
                _("Deployment #%d is still running on its servers: wait for it to finish, or cancel it.") % busy.pk
            )
        keeping.bring_down()
        told = [_("The three servers and the shops on them are stopped."), *_delete_rows()]
        keeping.clear()
        (keeping.FOLDER / "declared").unlink(missing_ok=True)
    return told


def _declaration(ports: list[scene.Ports]) -> str:
    """What is declared. git reads the repository over SSH from the first server, as from a git server."""
    from deployer.playground.servers import username  # it loads an SSH library that nothing else here needs

    return scene.declaration(
        SERVERS,
        ports,
        key=KEY,
        group=GROUP,
        environment="development",
        project=PROJECT,
        repository=f"ssh://{username()}@127.0.0.1:{ports[0].ssh}{quote(str(keeping.REPOSITORY))}",
        git_credential=KEY,
    )


def _refuse_names_of_others() -> None:
    """Refuse to take over rows that have a name of the playground but do not belong to it."""
    if (keeping.FOLDER / "declared").exists():
        return
    known: list[tuple[type[models.Model], tuple[str, ...]]] = [
        (Project, (PROJECT,)),
        (ServerGroup, (GROUP,)),
        (Server, SERVERS),
        (Credential, (KEY,)),
    ]
    for model, names in known:
        if (taken := model._default_manager.filter(name__in=names).first()) is not None:
            raise PlaygroundError(
                _("The %(kind)s “%(name)s” does not belong to the playground: give it another name first.")
                % {"kind": model._meta.verbose_name, "name": taken}
            )


def _delete_rows() -> list[str]:
    """Delete the declared rows, and keep those that others use; a sentence for each."""
    told = [_delete_project(project) for project in Project.objects.filter(name=PROJECT)]
    delete(*ServerGroup.objects.filter(name=GROUP))
    rows: list[models.Model] = [*Server.objects.filter(name__in=SERVERS), *Credential.objects.filter(name=KEY)]
    held = [row for row in rows if not _deleted(row)]
    if not held:
        return [*told, _("Its group, its servers and its credential are deleted.")]
    Server.objects.filter(pk__in=[row.pk for row in held if isinstance(row, Server)]).update(is_active=False)
    why = _(
        "Its group is deleted. Something else still uses %s: they are kept, and the servers among them are now "
        "inactive."
    )
    return [*told, why % ", ".join(str(row) for row in held)]


def _deleted(row: models.Model) -> bool:
    try:
        delete(row)
    except ProtectedError:
        return False
    return True


def _delete_project(project: Project) -> str:
    """Delete the shop with its deployments, its stored releases and its mirror."""
    releases = list(project.releases.stored())
    try:
        with transaction.atomic():
            count = project.deployments.count()
            project.deployments.ended().delete()
            delete(project)
    except ProtectedError as error:
        raise PlaygroundError(
            _(
                "“%s” was launched in the meantime, and its servers are stopped: cancel that deployment, then remove "
                "the playground again."
            )
            % project
        ) from error
    shutil.rmtree(mirror_path(project.git_url), ignore_errors=True)
    try:
        with explained():
            for release in releases:
                for file in (release.archive, release.manifest):
                    if file:
                        file.storage.delete(str(file.name))
    except StoreError as error:
        return _("The project “%(project)s” is deleted, but its releases are still stored: %(why)s") % {
            "project": project,
            "why": error,
        }
    told = ngettext(
        "The project “%(project)s” is deleted, with its releases and %(count)d deployment.",
        "The project “%(project)s” is deleted, with its releases and %(count)d deployments.",
        count,
    )
    return told % {"project": project, "count": count}
