"""Archive a project and restore it. What runs on its servers is left alone by both."""

from contextlib import suppress
from itertools import count

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from deployer.models import Deployment
from people.models import User
from people.record import Act, actor, changes, record, snapshot
from people.refusals import RefusedError
from people.rights import insist
from people.roles import Action
from projects.models import Project
from projects.templates import follow
from servers.belonging import strange_groups
from servers.sentences import as_stored

#: What a restored project is called where its name is taken, is looked for among so many.
_TRIED = 1000


class StillAtWorkError(RefusedError):
    """A deployment of the project has the place of the active one: it is ``blocking``."""

    def __init__(self, blocking: Deployment) -> None:
        told = _("Deployment #%d has not ended yet: wait for it to finish, or cancel it.") % blocking.pk
        super().__init__(told)
        self.blocking = blocking


class NameTakenError(RefusedError):
    """Another project has the name by now."""


def archive(project: Project, by: User | None, reason: str = "", login: str = "") -> int:
    """Hide it, free its name and let nothing of it be launched any more; what stands in line is cancelled.

    Gives how many those were. Raises `NotAllowedError`, `ArchivedError` where it is archived already, and
    `StillAtWorkError`.
    """
    if by is not None:
        insist(by, Action.EDIT, project)
    with transaction.atomic():
        row = _locked(project)
        row.insist_on_current()
        refuse_while_at_work(row)
        before = snapshot(row)
        row.archived_at, row.archived_by, row.archived_for = timezone.now(), by, "" if by else login
        row.archive_reason = reason
        _save(row)
        record(actor(), Act.ARCHIVED, row, *changes(before, snapshot(row)))
        cancelled = _cancel_line(row)
    project.refresh_from_db()
    return cancelled


def restore(project: Project, by: User | None, name: str = "") -> None:
    """Show it again, under another ``name`` if one is given. Groups that have moved to another environment lose it.

    Raises `NotAllowedError`, `NameTakenError`, and `RefusedError` where it is not archived or that is no name.
    """
    if by is not None:
        insist(by, Action.EDIT, project)
    try:
        with transaction.atomic():
            _restore(_locked(project), name)
    except IntegrityError as error:
        raise _taken(name or project.name) from error
    project.refresh_from_db()


def _restore(row: Project, name: str) -> None:
    if not row.is_archived:
        raise RefusedError(_("Project “%s” is not archived.") % row.name)
    before = snapshot(row)
    row.name = name or row.name
    row.archived_at, row.archived_by, row.archived_for, row.archive_reason = None, None, "", ""
    try:
        row.clean_fields(exclude={field.name for field in row._meta.fields} - {"name"})
    except ValidationError as error:
        raise RefusedError(" ".join(error.messages)) from error
    if is_taken(row.name):
        raise _taken(row.name)
    _save(row)
    with suppress(RefusedError):  # what it can no longer follow stays as it was
        follow(row)
    row.server_groups.remove(*strange_groups(row.server_groups.all(), row.environment))
    record(actor(), Act.RESTORED, row, *changes(before, snapshot(row)))


def is_taken(name: str) -> bool:
    """Whether a project that is not archived has the name."""
    return Project.objects.current().filter(name=name).exists()


def free_name(project: Project) -> str:
    """Its name, or where that is taken one like it that is free."""
    longest = Project._meta.get_field("name").max_length or 0
    for number in count(2):
        name = project.name if number == 2 else f"{project.name[: longest - 5]}-{number - 1}"
        if number > _TRIED or not is_taken(name):
            return name
    raise AssertionError("unreachable")


def refuse_while_at_work(project: Project) -> None:
    """Raises `StillAtWorkError`."""
    blocking = Deployment.objects.at_work().filter(project=project).defer("plan").first()
    if blocking is not None:
        raise StillAtWorkError(blocking)


def _cancel_line(project: Project) -> int:
    cancelled = 0
    with as_stored():
        why = _("The project was archived.")
    for it in Deployment.objects.in_line().filter(project=project).select_related("project").defer("plan"):
        status = it.status
        if it.end_in_line(Deployment.Status.CANCELLED, why):
            record(actor(), Act.CANCELLED, it, {"status": status}, {"status": it.status}, why)
            cancelled += 1
    return cancelled


def _locked(project: Project) -> Project:
    """The row, kept from other writers. Raises `RefusedError`."""
    row = Project.objects.select_for_update(of=("self",)).filter(pk=project.pk).first()
    if row is None:
        raise RefusedError(_("Project “%s” was deleted in the meantime.") % project.name)
    return row


def _save(row: Project) -> None:
    row.save(
        update_fields=["name", "archived_at", "archived_by", "archived_for", "archive_reason", "updated_at"],
    )


def _taken(name: str) -> NameTakenError:
    return NameTakenError(_("There is another project “%s” by now: restore this one under another name.") % name)
