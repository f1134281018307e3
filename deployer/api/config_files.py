"""Config files of projects."""

from typing import Any

from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import IntegrityError, transaction
from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja import Status

from deployer.api.columns import Columns
from deployer.api.filling import keep
from deployer.api.frame import ACTS, READS, TELLS_OF_ONE, Id, api, row_of
from deployer.api.nouns import Filter, Noun, register
from deployer.api.refused import RefusedError
from deployer.api.shapes import ConfigFileInput, ConfigFileShape
from deployer.api.tokens import user_of
from people.models import User
from people.record import delete, saving
from people.rights import insist, may
from people.roles import Action
from projects.config_file_forms import ConfigFileForm
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


def of_current_project(user: User, it: Any, action: Action = Action.EDIT) -> Any:
    """A row of a project, if ``user`` may do this with it and the project is not archived.

    Raises `NotAllowedError` or `ArchivedError`.
    """
    insist(user, action, it)
    it.project.insist_on_current()
    return it


# --- by their own numbers ------------------------------------------------------------------------------

_COLUMNS = Columns(
    ConfigFile,
    (
        *("path", "content", "is_template", "is_secret", "check_command"),
        *("mode", "owner", "server_group", "server", "position"),
    ),
    hides=("content",),
)


def _told(file: ConfigFile, user: User) -> dict[str, Any]:
    newest = file.versions.first()
    hidden = {} if may(user, Action.EDIT, file.project) and not file.is_secret else {"content": None}
    return _COLUMNS.told(file, project_id=file.project_id, version=newest.number if newest else 0) | hidden


def _make(user: User, values: dict[str, Any]) -> ConfigFile:
    project = editable(user, values.pop("project_id"))
    return _kept(user, ConfigFile(project=project), values)


def _edit(user: User, file: ConfigFile, values: dict[str, Any]) -> ConfigFile:
    editable(user, file.project_id)
    return _kept(user, file, values)


def _kept(user: User, file: ConfigFile, values: dict[str, Any]) -> ConfigFile:
    boxes = {_COLUMNS.inside[name]: value for name, value in values.items()}
    outside = {inside: name for name, inside in _COLUMNS.inside.items()}
    found: ConfigFile = keep(lambda data: ConfigFileForm(data, instance=file, user=user), boxes, outside)
    return found


def _remove(user: User, file: ConfigFile) -> None:
    editable(user, file.project_id)
    delete(file)


register(
    Noun(
        path="config-files",
        one="config file",
        tag="parts of projects",
        about="The config files of projects. A content is null where it is a secret, and for who may not edit it.",
        shape=_COLUMNS.shape(
            "StoredConfigFileShape",
            "A config file as it is stored, with the number of its newest version.",
            shown={
                "id": 3,
                "path": "/etc/shop/app.conf",
                "content": "port={{ PORT }}\n",
                "is_template": True,
                "is_secret": False,
                "check_command": "shop --check {file}",
                "mode": "0640",
                "owner": "root:shop",
                "server_group_id": None,
                "server_id": None,
                "position": 0,
                "project_id": 1,
                "version": 7,
            },
            project_id=(int, ...),
            version=(int, ...),
        ),
        rows=lambda user: (
            ConfigFile.objects.reached_by(user)
            .order_by("project", "position", "path", "pk")
            .select_related("project")
            .prefetch_related("versions")
        ),
        told=_told,
        filters={"project_id": Filter(Id, "project"), "path": Filter(str, "path")},
        new=_COLUMNS.new("NewConfigFile", "A new config file.", needed=("path",), project_id=(Id, ...)),
        make=_make,
        change=_COLUMNS.change("ConfigFileChange", "What is to be another in a config file."),
        edit=_edit,
        remove=_remove,
        about_remove="Forget a config file and its versions. The files on the servers stay as they are.",
    )
)
