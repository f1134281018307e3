"""Config files: what a project puts on its servers before it is restarted, and the versions that they have had."""

import posixpath
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, NamedTuple, Self

from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from people.models import User
from people.record import actor
from people.rights import Person, reach
from people.roles import Action, Place
from projects.commands import config_templates
from projects.steps import FromTemplate
from projects.validators import (
    shared_path_list,
    validate_check_of_file,
    validate_config_path,
    validate_content,
    validate_mode,
    validate_owner,
)
from servers.fields import EncryptedTextField, is_unreadable
from servers.models import Server, ServerGroup
from servers.validators import validate_no_nul

#: Facts that a template of a config file may use, besides the project's variables: those of the server, and those that
#: each deployment has of its own.
FACTS_OF_SERVER = ("DEPLOY_PROJECT", "DEPLOY_ENVIRONMENT", "DEPLOY_SERVER", "DEPLOY_HOST", "DEPLOY_GROUPS")
FACTS_OF_DEPLOYMENT = ("DEPLOY_ID", "DEPLOY_TYPE", "DEPLOY_PATH", "DEPLOY_RELEASE", "DEPLOY_COMMIT")


def problem_of_template(content: str, known: Iterable[str]) -> str:
    """What is wrong with a template where these names have values, as a sentence; empty where nothing is."""
    try:
        used = config_templates.names(content)
    except config_templates.TemplateError as error:
        return str(error)
    names = {*known}
    unknown = next(((line, name) for name, line in used.items() if name not in names), None)
    return str(config_templates.TemplateError(unknown[0], config_templates.undefined(unknown[1]))) if unknown else ""


class ConfigFileQuerySet(models.QuerySet["ConfigFile"]):
    """Config files."""

    def reached_by(self, user: Person, action: Action = Action.SEE) -> Self:
        """Those of the projects with which ``user`` may do this."""
        return self.filter(reach(user, action).condition("project__environment", "project"))


ConfigFileManager = models.Manager.from_queryset(ConfigFileQuerySet)


class ConfigFile(FromTemplate):
    """A file that deployments of a project put on its servers before they restart it.

    A relative ``path`` lies in the release, so each release has its own; one that begins with ``/`` or ``~/`` lies on
    the machine, and stays there when this row is deleted. It is for all servers, for those of a group or for one: of
    several for one path, the most specific is taken. ``check_command`` must accept ``{file}``, the new content beside
    the old one. ``owner`` is a user, or ``user:group``; empty: whoever has the file now. It is a template only where
    ``is_template`` says so; see `projects.commands.config_templates`.
    """

    objects = ConfigFileManager()
    UNRECORDED: ClassVar = frozenset[str]()
    #: Versions that are kept of each.
    VERSIONS = 30

    project = models.ForeignKey(
        "Project", on_delete=models.CASCADE, related_name="config_files", verbose_name=_("project")
    )
    path = models.CharField(
        _("path"),
        max_length=300,
        validators=[validate_config_path],
        help_text=_("Relative: in the release. Absolute, or with ~/: on the machine; its folder must be there."),
    )
    content = EncryptedTextField(_("content"), blank=True, validators=[validate_no_nul, validate_content])
    is_secret = models.BooleanField(
        _("secret"),
        default=False,
        help_text=_("Its content is never shown again, and masked in every log."),
    )
    is_template = models.BooleanField(
        _("template"),
        default=False,
        help_text=_(
            "{{ NAME }} is replaced by a variable or a fact of the deployment, {{ NAME | json }} by its value as JSON; "
            "also yaml, shell and env."
        ),
    )
    check_command = models.CharField(
        _("check"),
        max_length=500,
        blank=True,
        validators=[validate_check_of_file],
        help_text=_(
            "A command that must succeed before anything is replaced, like “nginx -t -c {file}”; {file} is the new "
            "content, beside the old file."
        ),
    )
    mode = models.CharField(_("mode"), max_length=4, default="0640", validators=[validate_mode])
    owner = models.CharField(
        _("owner"),
        max_length=70,
        blank=True,
        validators=[validate_owner],
        help_text=_("A user, or user:group. Empty: as it is now, or the user that writes it."),
    )
    server_group = models.ForeignKey(
        ServerGroup,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="config_files",
        verbose_name=_("server group"),
        help_text=_("Only on its servers, in place of the file for all."),
    )
    server = models.ForeignKey(
        Server,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="config_files",
        verbose_name=_("server"),
        help_text=_("Only there, in place of every other."),
    )
    position = models.PositiveIntegerField(_("position"), default=0)

    class Meta:
        ordering: ClassVar = ["position", "path", "id"]
        verbose_name = _("config file")
        verbose_name_plural = _("config files")
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["project", "path"],
                condition=models.Q(server_group=None, server=None),
                name="config_file_once_for_all",
                violation_error_message=_("There is such a file for all servers already."),
            ),
            models.UniqueConstraint(
                fields=["project", "path", "server_group"],
                condition=models.Q(server_group__isnull=False),
                name="config_file_once_for_a_group",
                violation_error_message=_("There is such a file for this group already."),
            ),
            models.UniqueConstraint(
                fields=["project", "path", "server"],
                condition=models.Q(server__isnull=False),
                name="config_file_once_for_a_server",
                violation_error_message=_("There is such a file for this server already."),
            ),
            models.CheckConstraint(
                condition=models.Q(server_group=None) | models.Q(server=None), name="config_file_for_one_place"
            ),
        ]

    def __str__(self) -> str:
        return self.path if self.is_for_all else f"{self.path} ({self.place})"

    @property
    def places(self) -> list[Place]:
        """Those of its project."""
        return self.project.places

    @property
    def is_for_all(self) -> bool:
        return self.server_group_id is None and self.server_id is None

    @property
    def place(self) -> str:
        """The server or the group that it is for; empty where it is for all."""
        return str(self.server or self.server_group or "")

    @property
    def is_in_release(self) -> bool:
        """Whether each release has its own."""
        return not self.path.startswith(("/", "~/"))

    def in_clear(self, name: str) -> str | None:
        """Its content, unless it is a secret or cannot be read: all contents are encrypted."""
        return self.content if name == "content" and not self.is_secret and not is_unreadable(self) else None

    def clean(self) -> None:
        """It must have a place in the release, one place to be for, and a template that can be filled in."""
        if wrong := dict(self._objections()):
            raise ValidationError(wrong)

    def _objections(self) -> Iterator[tuple[str, str]]:
        if self.server_group_id is not None and self.server_id is not None:
            yield "server", str(_("Choose a group or a server, not both."))
        for field, where in (("server_group", self.server_group), ("server", self.server)):
            if where is not None and not self._may_be_for(where):
                yield field, gettext("“%s” is not of the environment of the project.") % where
        if self.is_in_release:
            if not self.project.deploy_path:
                yield "path", gettext("A relative path lies in the release: set the deploy path of the project first.")
            elif (shared := self._shared_with()) is not None:
                yield (
                    "path",
                    gettext(
                        "“%s” is a shared path: all releases would have this file. Take it out of the shared paths, or "
                        "give the absolute path."
                    )
                    % shared,
                )
        if not self.project.is_being_declared and (why := self.problem_of_template(self.project.names_for_files())):
            yield "content", why
        if clash := self._clash():
            yield "server_group", clash

    def _may_be_for(self, where: Server | ServerGroup) -> bool:
        groups = [where] if isinstance(where, ServerGroup) else [*where.groups.all()] if where.pk else []
        return not groups or any(group.environment == self.project.environment for group in groups)

    def _shared_with(self) -> str | None:
        for path in shared_path_list(self.project.shared_paths):
            one, other = f"{path.rstrip('/')}/", f"{posixpath.normpath(self.path)}/"
            if one.startswith(other) or other.startswith(one):
                return path
        return None

    def problem_of_template(self, known: Iterable[str]) -> str:
        """What is wrong with it as a template where these names have values, as a sentence; empty where nothing is."""
        if not self.is_template or is_unreadable(self):
            return ""
        return problem_of_template(self.content, known)

    def _clash(self) -> str:
        """Another group that has such a file for one of the same servers, as a sentence."""
        if self.server_group_id is None or self.project_id is None or self.project.is_being_declared:
            return ""
        others = ConfigFile.objects.filter(project=self.project, path=self.path, server_group__isnull=False)
        for other in others.exclude(pk=self.pk).exclude(server_group=self.server_group_id):
            return next((clash.sentence for clash in clashes([self, other])), "")
        return ""

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Write it, and a version of it where its content is another one than before."""
        with transaction.atomic():
            super().save(*args, **kwargs)
            if not is_unreadable(self):
                ConfigVersion.keep(self)


class Clash(NamedTuple):
    """Two groups that have a file of one path for the same server."""

    path: str
    server: str
    groups: tuple[str, str]

    @property
    def sentence(self) -> str:
        words = {"server": self.server, "path": self.path, "one": self.groups[0], "other": self.groups[1]}
        return (
            gettext(
                "%(server)s is in the groups “%(one)s” and “%(other)s”, and both have a file %(path)s: give it to one "
                "of them, or to the server itself."
            )
            % words
        )


def clashes(files: Iterable[ConfigFile]) -> list[Clash]:
    """Where two groups have a file of one path for one server that has none of its own, by path and server.

    The groups of the files count, whichever of them a launch chooses: what a server gets never depends on how it was
    reached.
    """
    rows = list(files)
    own = {(row.path, row.server_id) for row in rows if row.server_id is not None}
    by_group = {row.server_group_id: row.server_group for row in rows if row.server_group is not None}
    links = ServerGroup.servers.through.objects.filter(servergroup__in=[*by_group])
    members: dict[int, dict[int, str]] = {}
    for group, server, name in links.values_list("servergroup", "server", "server__name"):
        members.setdefault(group, {})[server] = name
    found: list[Clash] = []
    seen: dict[tuple[str, int], str] = {}
    for row in sorted((row for row in rows if row.server_group is not None), key=lambda row: row.place):
        for server, name in members.get(row.server_group_id or 0, {}).items():
            first = seen.setdefault((row.path, server), row.place)
            if first != row.place and (row.path, server) not in own:
                found.append(Clash(row.path, name, (first, row.place)))
    return sorted(found)


class ConfigVersion(models.Model):
    """The content that a config file has had since ``at``, and who has given it that. The newest is what it has now."""

    file = models.ForeignKey(ConfigFile, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField(_("version"))
    content = EncryptedTextField(_("content"), blank=True)
    at = models.DateTimeField(_("changed"), auto_now_add=True)
    by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    by_name = models.CharField(_("changed by"), max_length=200, blank=True)

    class Meta:
        ordering: ClassVar = ["file", "-number"]
        verbose_name = _("version of a config file")
        verbose_name_plural = _("versions of config files")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["file", "number"], name="config_version_once"),
        ]

    def __str__(self) -> str:
        return f"{self.file} v{self.number}"

    @classmethod
    def keep(cls, file: ConfigFile) -> None:
        """Keep the content of ``file`` if it is not that of its newest version, and no more versions than are kept."""
        newest = cls.objects.filter(file=file).first()
        if newest is not None and not is_unreadable(newest) and newest.content == file.content:
            return
        who = actor()
        number = newest.number + 1 if newest is not None else 1
        cls.objects.create(
            file=file, number=number, content=file.content, by_id=who.user, by_name=(who.user_name or who.login)[:200]
        )
        cls.objects.filter(file=file, number__lte=number - ConfigFile.VERSIONS).delete()
