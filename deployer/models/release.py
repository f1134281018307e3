"""Releases: what a build made or somebody uploaded."""

from collections.abc import Iterable
from typing import ClassVar, Self

from django.db import models
from django.utils.translation import gettext_lazy as _

from people.models import User
from people.rights import Person, reach
from people.roles import Action, Place
from projects.models import Project
from servers.validators import validate_one_line


class ReleaseQuerySet(models.QuerySet["Release"]):
    """Releases by whether their archive is still there."""

    def reached_by(self, user: Person, action: Action = Action.SEE) -> Self:
        """Those of the projects with which ``user`` may do this."""
        return self.filter(reach(user, action).condition("project__environment", "project"))

    def stored(self) -> Self:
        """Those that can be sent to a server."""
        return self.exclude(archive="")

    def deployable_to(self, project: Project) -> Self:
        """The stored ones of ``project``, and of other projects of the same repository: what staging has proved."""
        return self.stored().of_same_code(project)

    def of_same_code(self, project: Project) -> Self:
        """Those of ``project``, and of other projects of the same repository."""
        same = models.Q(project=project)
        if project.git_url:
            same |= models.Q(project__git_url=project.git_url)
        return self.filter(same)

    def known_to(self, project: Project, version: str) -> "Release | None":
        """The release that ``version`` is on a server of ``project``; none where it is not deployer's."""
        rows = self.of_same_code(project).filter(version=version).select_related("project")
        return min(rows, key=lambda row: row.project_id != project.pk, default=None)

    def commit_of(self, project: Project, version: str) -> str:
        """The commit of ``version`` on a server of ``project``; empty where it was uploaded, or is not deployer's."""
        rows = self.of_same_code(project).filter(version=version).only("commit_hash", "project")
        return next((row.commit_hash for row in sorted(rows, key=lambda row: row.project_id != project.pk)), "")

    def by_version(self, versions: Iterable[str]) -> "dict[str, Release]":
        """The releases with ``versions`` that deployer knows, by version."""
        return {release.version: release for release in self.filter(version__in={*versions})}


ReleaseManager = models.Manager.from_queryset(ReleaseQuerySet)


class Release(models.Model):
    """A release that was built or uploaded: an archive, stored once, sent to every server.

    ``size`` and ``unpacked_size`` are in bytes, ``sha256`` in hexadecimal; ``version`` names the folder below
    ``releases/``. ``manifest`` is the list of its entries with their hashes (see `projects.commands.manifest`).
    Releases with the same ``build_key`` need not be built, or stored, again. One that was uploaded has no commit, and
    its ``commit_message`` is what was said of it. Without ``archive`` it is no longer stored: the row only records
    that it was built. One that somebody has marked as bad (``bad_at``) is not deployed any more, whoever asks;
    ``state`` is what deployments have shown.
    """

    class State(models.TextChoices):
        BUILT = "built", _("Built")
        GOOD = "good", _("Good")
        BAD = "bad", _("Bad")

    class Origin(models.TextChoices):
        BUILT = "built", _("Built")
        UPLOADED = "uploaded", _("Uploaded")

    #: What tells its stored archive from another one, where it was stored by this process: see `archives.remember`.
    stored_as: object = None

    objects = ReleaseManager()

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="releases", verbose_name=_("project"))
    version = models.CharField(_("version"), max_length=100)
    commit_hash = models.CharField(_("commit"), max_length=64, blank=True)
    commit_message = models.TextField(_("commit message"), blank=True)
    archive = models.FileField(_("archive"), upload_to="releases/%Y/%m/", max_length=300, blank=True)
    size = models.BigIntegerField(_("size"), default=0)
    sha256 = models.CharField(_("SHA-256"), max_length=64, blank=True)
    manifest = models.FileField(_("manifest"), upload_to="releases/%Y/%m/", max_length=300, blank=True)
    file_count = models.PositiveIntegerField(_("files"), default=0)
    unpacked_size = models.BigIntegerField(_("unpacked size"), default=0)
    build_key = models.CharField(max_length=64, blank=True, editable=False, db_index=True)
    origin = models.CharField(_("origin"), max_length=10, choices=Origin, default=Origin.BUILT)
    state = models.CharField(_("state"), max_length=10, choices=State, default=State.BUILT)
    created_by = models.ForeignKey(
        User,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="releases",
        verbose_name=_("created by"),
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    bad_reason = models.CharField(_("why it is bad"), max_length=500, blank=True, validators=[validate_one_line])
    bad_by = models.ForeignKey(
        User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("marked as bad by")
    )
    bad_at = models.DateTimeField(_("marked as bad"), null=True, blank=True)

    class Meta:
        ordering: ClassVar = ["-id"]
        verbose_name = _("release")
        verbose_name_plural = _("releases")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["project", "version"], name="release_version_once_in_a_project"),
        ]

    @property
    def is_marked_bad(self) -> bool:
        """Whether somebody has marked it as bad."""
        return self.bad_at is not None

    @property
    def places(self) -> list[Place]:
        """Those of its project."""
        return self.project.places

    @property
    def seen_from(self) -> list[Place]:
        """The same."""
        return self.places

    def __str__(self) -> str:
        return self.version
