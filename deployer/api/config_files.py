"""Config files of projects."""

from typing import Any

from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import IntegrityError, transaction
from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja import Status

from deployer.api.frame import ACTS, READS, TELLS_OF_ONE, Id, api, row_of
from deployer.api.refused import RefusedError
from deployer.api.shapes import ConfigFileInput, ConfigFileShape
from deployer.api.tokens import user_of
from people.models import User
from people.record import delete, saving
from people.rights import insist, may
from people.roles import Action
from projects.models import ConfigFile, Project
from servers.models import Server, ServerGroup


@api.get(
    "/projects/{project_id}/config-files",
    response={200: list[ConfigFileShape], **TELLS_OF_ONE},
    tags=["projects and groups"],
)
def list_config_files(request: HttpRequest, project_id: Id) -> list[ConfigFileShape]:
    """The config files of a project, in their order."""
    user = user_of(request)
    project = row_of(Project.objects.reached_by(user), project_id, "project_id")
    sees_content = may(user, Action.EDIT, project)
    files = project.config_files.select_related("server").prefetch_related("versions")
    return [ConfigFileShape.of(file, sees_content=sees_content) for file in files]


@api.post("/projects/{project_id}/config-files", response={200: ConfigFileShape, **READS}, tags=["projects and groups"])
def save_config_file(request: Any, project_id: Id, asked: ConfigFileInput) -> ConfigFileShape:
    """Save a config file: in place of the one with the same path for the same servers, or as a new one."""
    user = user_of(request)
    project = editable(user, project_id)
    try:
        return _saved_file(user, project, asked)
    except IntegrityError:  # somebody else has just made it: it is there now
        return _saved_file(user, project, asked)


def _saved_file(user: User, project: Project, asked: ConfigFileInput) -> ConfigFileShape:
    where: dict[str, Any] = {"server_group": None, "server": None}
    if asked.server_group_id is not None:
        where["server_group"] = row_of(ServerGroup.objects.reached_by(user), asked.server_group_id, "server_group_id")
    if asked.server is not None:
        where["server"] = Server.objects.reached_by(user).filter(name=asked.server).first()
        if where["server"] is None:
            raise RefusedError(404, _("There is no server “%s”.") % asked.server, field="server")
    with transaction.atomic():
        file = project.config_files.filter(path=asked.path, **where).first() or ConfigFile(project=project)
        values = asked.model_dump(exclude={"server_group_id", "server", "check"})
        for name, value in {**values, **where, "check_command": asked.check}.items():
            setattr(file, name, value)
        try:
            file.full_clean()
        except DjangoValidationError as error:
            name, told = next(iter(error.message_dict.items()))
            raise RefusedError(422, " ".join(told), field=_FIELDS.get(name, name)) from error
        with saving(file):
            file.save()
    return ConfigFileShape.of(file, sees_content=True)


@api.delete("/projects/{project_id}/config-files/{file_id}", response={204: None, **ACTS}, tags=["projects and groups"])
def delete_config_file(request: Any, project_id: Id, file_id: Id) -> Status[Any]:
    """Forget a config file and its versions. The files on the servers stay as they are."""
    project = editable(user_of(request), project_id)
    file = row_of(project.config_files.all(), file_id, "file_id")
    file.insist_on_own()
    delete(file)
    return Status(204, None)


#: The fields of a config file that this API calls something else.
_FIELDS = {"check_command": "check", "server_group": "server_group_id", "__all__": "path"}


def editable(user: User, project_id: int) -> Project:
    project = row_of(Project.objects.reached_by(user), project_id, "project_id")
    insist(user, Action.EDIT, project)
    project.insist_on_current()
    return project
