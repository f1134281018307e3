"""What deployments left of the config files on servers, so that a change by hand is told from one of their own."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, NamedTuple

from django.db import models, transaction

from people.now import Now
from projects.models import Project
from servers.fields import EncryptedTextField
from servers.models import Server

_NOTHING_COMES: Mapping[str, Any] = {"coming": "", "coming_made_of": "", "coming_by": None}
_NO_FORMER: Mapping[str, Any] = {"former": "", "former_made_of": "", "former_by_id": None}


class Left(NamedTuple):
    """A file in ``release`` (empty: on the machine) with the SHA-256 of its bytes and what it was ``made_of``."""

    release: str
    path: str
    sha256: str
    made_of: str


class ConfigState(models.Model):
    """A config file of a project on a server: the one that deployer left there last.

    ``digest`` is the SHA-256 of its bytes, encrypted: nobody guesses a password from it. ``made_of`` is that of the
    content before the facts of one deployment were put in, of the mode and of the owner: it tells whether the file
    would be written again. ``deployment`` has left it. While another one, ``coming_by`` its number, replaces the file,
    ``coming`` is the digest of the new one, and either may be there; ``former`` is the one before, for the way back.
    Empty: there was none of ours.
    """

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="config_states")
    server = models.ForeignKey(Server, on_delete=models.CASCADE, related_name="config_states")
    release = models.CharField(max_length=300, blank=True)
    path = models.CharField(max_length=300)
    digest = EncryptedTextField(blank=True)
    made_of = EncryptedTextField(blank=True)
    coming = EncryptedTextField(blank=True)
    coming_made_of = EncryptedTextField(blank=True)
    coming_by = models.PositiveBigIntegerField(null=True)
    former = EncryptedTextField(blank=True)
    former_made_of = EncryptedTextField(blank=True)
    former_by = models.ForeignKey("deployer.Deployment", on_delete=models.SET_NULL, null=True, related_name="+")
    deployment = models.ForeignKey(
        "deployer.Deployment", on_delete=models.SET_NULL, null=True, related_name="config_states"
    )
    at = models.DateTimeField()

    class Meta:
        ordering: ClassVar = ["project", "server", "path"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["project", "server", "release", "path"], name="one_state_of_a_config_file"),
        ]

    def __str__(self) -> str:
        return f"{self.server}: {self.path}"

    def is_left(self, sha256: str) -> bool:
        """Whether deployer left a file with these bytes there, or was about to."""
        return sha256 in {self.digest, self.coming} - {""}

    def is_made_of(self, made_of: str) -> bool:
        """Whether the file that is there was made of this."""
        return self.made_of == _sha256(made_of)

    def is_as(self, file: Left) -> bool:
        """Whether it says that this file is there."""
        return not self.coming and self.is_left(file.sha256) and self.is_made_of(file.made_of)

    @classmethod
    def of(cls, project: int, server: int) -> "dict[tuple[str, str], ConfigState]":
        """The states of the files of a project on a server, by release and path."""
        return {(row.release, row.path): row for row in cls.objects.filter(project=project, server=server)}

    @classmethod
    def expect(cls, project: int, server: int, deployment: int, files: Iterable[Left]) -> None:
        """Write, before they are replaced, what these files are about to be."""
        for file in files:
            coming = {"coming": file.sha256, "coming_made_of": _sha256(file.made_of), "coming_by": deployment}
            cls._write(project, server, file, coming)

    @classmethod
    def adopt(cls, project: int, server: int, deployment: int, files: Iterable[Left]) -> None:
        """Write that these files are there, as they are to be, without having been replaced."""
        for file in files:
            there = {"digest": file.sha256, "made_of": _sha256(file.made_of), "deployment_id": deployment}
            cls._write(project, server, file, {**there, **_NOTHING_COMES})

    @classmethod
    def arrive(cls, project: int, server: int, deployment: int) -> None:
        """Write that the files which this deployment was about to replace have been replaced."""
        cls.objects.filter(project=project, server=server, coming_by=deployment).update(
            former=models.F("digest"),
            former_made_of=models.F("made_of"),
            former_by_id=models.F("deployment_id"),
            digest=models.F("coming"),
            made_of=models.F("coming_made_of"),
            deployment_id=deployment,
            at=Now(),
            **_NOTHING_COMES,
        )

    @classmethod
    def share(cls, project: int, server: int, other: int) -> None:
        """Write of ``other``, the same machine and folder under another name, what is known of ``server``."""
        known = list(cls.objects.filter(project=project, server=server))
        for row in known:
            row.pk, row.server_id, row._state.adding = None, other, True
        with transaction.atomic():
            cls.objects.filter(project=project, server=other).delete()
            cls.objects.bulk_create(known)

    @classmethod
    def was_changed_by(cls, deployment: int, server: int | None) -> bool:
        """Whether this deployment may have replaced files on a server."""
        return server in cls.changed_by(deployment)

    @classmethod
    def changed_by(cls, deployment: int) -> set[int | None]:
        """The servers on which this deployment may have replaced files."""
        theirs = models.Q(deployment=deployment) | models.Q(coming_by=deployment)
        return {*cls.objects.filter(theirs).values_list("server", flat=True)}

    @classmethod
    def go_back(cls, project: int, server: int, deployment: int, files: Iterable[tuple[str, str]]) -> None:
        """Write that these files (release and path) are again what they were before this deployment. Once is enough."""
        for release, path in files:
            one = cls.objects.filter(project=project, server=server, release=release, path=path)
            came = one.filter(coming_by=deployment).update(at=Now(), **_NOTHING_COMES)
            if not came:
                one.filter(deployment=deployment).update(
                    digest=models.F("former"),
                    made_of=models.F("former_made_of"),
                    deployment_id=models.F("former_by_id"),
                    at=Now(),
                    **_NO_FORMER,
                )
            one.filter(digest="", coming="").delete()

    @classmethod
    def forget_releases(cls, project: int, server: int, releases: Iterable[str]) -> None:
        """Forget the files of releases that are gone from a server."""
        cls.objects.filter(project=project, server=server, release__in=[*releases]).exclude(release="").delete()

    @classmethod
    def _write(cls, project: int, server: int, file: Left, values: Mapping[str, Any]) -> None:
        where: dict[str, Any] = {"project_id": project, "server_id": server, "release": file.release, "path": file.path}
        if not cls.objects.filter(**where).update(**values, at=Now()):
            cls.objects.update_or_create(**where, defaults={**values, "at": Now()})


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


#: Says of a file that nobody has replaced whether it came with the release itself: its path and SHA-256.
CameWithRelease = Callable[[str, str], bool]
