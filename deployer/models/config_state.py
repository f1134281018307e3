"""What deployments left of the config files on servers, so that a change by hand is told from one of their own."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, NamedTuple

from django.db import models
from django.db.models.functions import Now

from people.fingerprints import fingerprint, matches
from projects.models import Project
from servers.models import Server

_DIGEST, _MADE_OF = "deployer.configstate.digest", "deployer.configstate.made_of"


class Left(NamedTuple):
    """A file in ``release`` (empty: on the machine) with the SHA-256 of its bytes and what it was ``made_of``."""

    release: str
    path: str
    sha256: str
    made_of: str


class ConfigState(models.Model):
    """A config file of a project on a server: the one that deployer left there last.

    Digests are keyed fingerprints: nobody guesses a password from them. ``made_of`` stands for the content before the
    facts of one deployment were put in, for the mode and for the owner: it tells whether the file would be written
    again. While it is being replaced, ``coming`` is the digest of the new one, and either may be there; ``former`` is
    the one before, for the way back. Empty: there was none of ours.
    """

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="config_states")
    server = models.ForeignKey(Server, on_delete=models.CASCADE, related_name="config_states")
    release = models.CharField(max_length=300, blank=True)
    path = models.CharField(max_length=300)
    digest = models.CharField(max_length=40, blank=True)
    made_of = models.CharField(max_length=40, blank=True)
    coming = models.CharField(max_length=40, blank=True)
    coming_made_of = models.CharField(max_length=40, blank=True)
    former = models.CharField(max_length=40, blank=True)
    former_made_of = models.CharField(max_length=40, blank=True)
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
        return any(matches(sha256, _DIGEST, digest) for digest in (self.digest, self.coming) if digest)

    def is_made_of(self, made_of: str) -> bool:
        """Whether the file that is there was made of this."""
        return bool(self.made_of) and matches(made_of, _MADE_OF, self.made_of)

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
            coming = {"coming": _digest(file), "coming_made_of": _made_of(file)}
            cls._write(project, server, file, {**coming, "deployment_id": deployment, "at": Now()})

    @classmethod
    def adopt(cls, project: int, server: int, deployment: int, files: Iterable[Left]) -> None:
        """Write that these files are there, as they are to be, without having been replaced."""
        for file in files:
            there = {"digest": _digest(file), "made_of": _made_of(file), "coming": "", "coming_made_of": ""}
            cls._write(project, server, file, {**there, "deployment_id": deployment, "at": Now()})

    @classmethod
    def arrive(cls, project: int, server: int, deployment: int) -> None:
        """Write that the files of this deployment have been replaced."""
        cls._rows(project, server, deployment).exclude(coming="").update(
            former=models.F("digest"),
            former_made_of=models.F("made_of"),
            digest=models.F("coming"),
            made_of=models.F("coming_made_of"),
            coming="",
            coming_made_of="",
            at=Now(),
        )

    @classmethod
    def go_back(cls, project: int, server: int, deployment: int, files: Iterable[tuple[str, str]]) -> None:
        """Write that these files (release and path) of this deployment are again what they were before it."""
        rows = cls._rows(project, server, deployment)
        for release, path in files:
            one = rows.filter(release=release, path=path)
            if not one.exclude(coming="").update(coming="", coming_made_of="", at=Now()):
                one.update(
                    digest=models.F("former"),
                    made_of=models.F("former_made_of"),
                    former="",
                    former_made_of="",
                    at=Now(),
                )
            one.filter(digest="", coming="").delete()

    @classmethod
    def forget_releases(cls, project: int, server: int, releases: Iterable[str]) -> None:
        """Forget the files of releases that are gone from a server."""
        cls.objects.filter(project=project, server=server, release__in=[*releases]).exclude(release="").delete()

    @classmethod
    def _rows(cls, project: int, server: int, deployment: int) -> "models.QuerySet[ConfigState]":
        return cls.objects.filter(project=project, server=server, deployment=deployment)

    @classmethod
    def _write(cls, project: int, server: int, file: Left, values: Mapping[str, Any]) -> None:
        where: dict[str, Any] = {"project_id": project, "server_id": server, "release": file.release, "path": file.path}
        if not cls.objects.filter(**where).update(**values):
            cls.objects.update_or_create(**where, defaults={**values})


def _digest(file: Left) -> str:
    return fingerprint(file.sha256, _DIGEST)


def _made_of(file: Left) -> str:
    return fingerprint(file.made_of, _MADE_OF)


#: Says of a file that nobody has replaced whether it came with the release itself: its path and SHA-256.
CameWithRelease = Callable[[str, str], bool]
