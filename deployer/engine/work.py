"""What everything that carries out one deployment shares."""

import threading
from collections.abc import Iterable
from typing import Any, TypeVar, cast

from django.utils.translation import gettext as _

from deployer.database import insist
from deployer.engine.journal import Journal
from deployer.log.masking import Masker
from deployer.log.writing import Log
from deployer.models import Deployment, Release
from deployer.plan import Plan
from deployer.releases.archives import Archive, contents_of
from projects.commands.expectation import Live
from servers.errors import StoppedError

T = TypeVar("T")


class Work:
    """A claimed deployment, its plan, its log, its release, and the wishes of people about it.

    ``stop`` is set when somebody cancels: no further step is begun, a build or an upload is ended, a restart
    that has begun finishes. ``force`` is set when that is to be ended too.
    """

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.plan = Plan.from_json(cast(dict[str, Any], deployment.plan))
        self.journal = Journal(deployment, self.plan)
        #: The names of all servers that are worked on, in their order.
        self.server_names: list[str] = []
        #: Why it has failed although every server is as it should be, and what else is to be said where it has not.
        self.failure = ""
        self.warnings: list[str] = []
        self._known = {*self.plan.secrets()}
        self.log = Log(deployment, Masker(self._known))
        self._learning = threading.Lock()
        #: The values that were had from outside, by their sources.
        self.outside: dict[str, str] = {}
        self.fetching = threading.Lock()
        self.stop = threading.Event()
        self.force = threading.Event()
        #: The same for scripts of this machine, which end with the claim, too.
        self.force_here = threading.Event()
        #: By the number of each server: set once its release is there, or cannot be brought there.
        self.stagings: dict[int, threading.Event] = {}
        self._release = insist(lambda: deployment.release)
        self._archive: Archive | None = None
        self._preparing = threading.Lock()
        self._commits: dict[str, str] = {}
        self._asking = threading.Lock()
        self._places: dict[str, object] = {}
        #: Whether several workers carry this out, each some of its servers.
        self.is_shared = bool(deployment.helper)
        #: The SHA-256 of each file that a release came with, by its version.
        self.contents = contents_of(deployment.project)

    def mask(self, text: str) -> str:
        """``text`` without the secrets that are known by now."""
        return self.log.mask(text)

    def variables(self, scope: str, server: int | None = None, plan: Plan | None = None) -> dict[str, str]:
        """As `Plan.variables_for`, of this deployment or of another ``plan``, with the values that are from outside."""
        return (plan or self.plan).variables_for(scope, server, self.outside)

    def learn(self, secrets: Iterable[str]) -> None:
        """Let nothing that is written from here on show ``secrets`` either."""
        with self._learning:
            if unknown := {*secrets} - self._known:
                self._known |= unknown
                self.log.mask = self.log.mask.knowing(sorted(unknown))

    def first_at(self, place: str, server: T) -> T:
        """The server that came first to a real place in this deployment: ``server`` itself if none did before."""
        return cast(T, self._places.setdefault(place, server))

    def share(self) -> None:
        """From here on, other workers work on servers of this deployment as well, and write its log."""
        self.log.share()
        self.is_shared = True

    def check(self) -> None:
        """Raise `StoppedError` when somebody cancelled or the claim is gone."""
        if self.stop.is_set():
            raise StoppedError(_("Cancelled"))

    @property
    def has_release(self) -> bool:
        """Whether what is deployed is there already: a retry or a rollback, or the build has ended."""
        return self._release is not None

    @property
    def release(self) -> Release:
        """The release that is deployed; available from the end of the build on."""
        assert self._release is not None  # noqa: S101 (a full deployment builds before it stages)
        return self._release

    @release.setter
    def release(self, release: Release) -> None:
        self._release = release
        self.deployment.release = release
        insist(lambda: self.deployment.held().update(release=release))

    def live(self, version: str) -> Live:
        """What is live where ``version`` is; the commit of each version is asked for once."""
        if self._release is not None and self._release.version == version:
            return Live(version, self._release.commit_hash)
        with self._asking:
            if version and version not in self._commits:
                self._commits[version] = insist(lambda: Release.objects.commit_of(self.deployment.project, version))
        return Live(version, self._commits.get(version, ""))

    @property
    def archive(self) -> Archive:
        """The release's archive as it is sent to the servers; made once, and kept until `close`."""
        with self._preparing:
            if self._archive is None:
                self._archive = Archive(self.release)
            return self._archive

    def close(self) -> None:
        """Delete what the archive needs on this machine."""
        if self._archive is not None:
            self._archive.close()
