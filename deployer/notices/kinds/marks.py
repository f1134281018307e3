"""Marks in other systems: GitHub's and GitLab's deployments, Sentry's releases. They say what a deployment came to."""

import re
from typing import Any, ClassVar
from urllib.parse import quote

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from deployer.models import ChannelKind, Deployment, Event
from deployer.notices.kinds.kind import (
    Address,
    Answer,
    Field,
    Kind,
    Net,
    Outcome,
    Parcel,
    Request,
    Response,
    judged,
    web_address,
)

_Status = Deployment.Status
_TOKEN = Field("token", gettext_lazy("Token"), is_secret=True)


def _server(usual: str) -> Field:
    words = gettext_lazy("Only for a server of your own.")
    return Field("server", gettext_lazy("Server"), words, usual, required=False, check=web_address)


def repository(value: str) -> None:
    """Raise `ValidationError` for what is no owner and name of a repository."""
    if not re.fullmatch(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)+", value) or ".." in value:
        raise ValidationError(_("Give it as OWNER/NAME."))


def slugs(value: str) -> None:
    """Raise `ValidationError` for what are no short names, separated by commas."""
    if not all(re.fullmatch(r"[A-Za-z0-9_-]+", slug.strip()) for slug in value.split(",")):
        raise ValidationError(_("Give the short names, separated by commas."))


class _Mark(Kind):
    is_mark = True
    has_readers = False

    def send(self, address: Address, parcel: Parcel, net: Net) -> Answer:
        if parcel.message.event == Event.TEST:
            return self.look(address, net)
        if parcel.deployment is None:
            return Answer(Outcome.NOTHING, _("The deployment is not there any more."))
        return self.mark(address, parcel, parcel.deployment, net)

    def look(self, address: Address, net: Net) -> Answer:
        """Whether the address is right, without leaving a mark."""
        raise NotImplementedError

    def mark(self, address: Address, parcel: Parcel, it: Deployment, net: Net) -> Answer:
        """Say what ``it`` has come to."""
        raise NotImplementedError


def _number(response: Response, name: str = "id") -> str:
    document = response.json
    found = document.get(name) if isinstance(document, dict) else None
    return str(found) if isinstance(found, int) else ""


class GitHub(_Mark):
    """A deployment there for each of ours, known by ours in its payload, and a status for what it came to."""

    kind = ChannelKind.GITHUB
    fields = (
        Field("repository", gettext_lazy("Repository"), placeholder="owner/name", check=repository),
        _TOKEN,
        _server("https://api.github.com"),
    )
    help = gettext_lazy("The token may read and write deployments of this repository, and nothing else.")
    #: Read from the deployment as it is now: what is sent late must not take an end back.
    STATES: ClassVar = {
        _Status.QUEUED: "queued",
        _Status.WAITING: "pending",
        _Status.SUCCESS: "success",
        _Status.FAILED: "failure",
        _Status.INTERRUPTED: "error",
        _Status.CANCELLED: "inactive",
        _Status.EXPIRED: "inactive",
    }

    def look(self, address: Address, net: Net) -> Answer:
        return judged(net.ask(self._request(address, "/deployments?per_page=1", None, "GET")))

    def mark(self, address: Address, parcel: Parcel, it: Deployment, net: Net) -> Answer:
        ref = it.commit_hash or it.branch
        if not ref:
            return Answer(Outcome.NOTHING, _("It has no commit."))
        number = parcel.reference or self._known(address, it, net)
        if not number:
            document = {
                "ref": ref,
                "environment": it.environment,
                "description": _cut(parcel.message.subject),
                "auto_merge": False,
                "required_contexts": [],
                "production_environment": it.environment == "production",
                "payload": {"deployer": it.pk},
            }
            made = net.ask(self._request(address, "/deployments", document))
            number = _number(made)
            if not (200 <= made.status < 300 and number):
                return judged(made) if not 200 <= made.status < 300 else Answer(Outcome.REFUSED, made.told)
        document = {
            "state": self.STATES.get(_Status(it.status), "in_progress"),
            "description": _cut(parcel.message.subject),
            "log_url": parcel.message.link,
            "environment": it.environment,
        }
        answer = judged(net.ask(self._request(address, f"/deployments/{number}/statuses", document)))
        return Answer(answer.outcome, answer.told, answer.wait, number)

    def _known(self, address: Address, it: Deployment, net: Net) -> str:
        """What an earlier try may have made; a mark for the same deployment is not made twice."""
        ref = quote(it.commit_hash or it.branch, safe="")
        path = f"/deployments?per_page=50&environment={it.environment}&{'sha' if it.commit_hash else 'ref'}={ref}"
        rows = net.ask(self._request(address, path, None, "GET")).json
        for row in rows if isinstance(rows, list) else ():
            payload = row.get("payload") if isinstance(row, dict) else None
            if isinstance(payload, dict) and payload.get("deployer") == it.pk and isinstance(row.get("id"), int):
                return str(row["id"])
        return ""

    @staticmethod
    def _request(address: Address, path: str, document: Any, method: str = "POST") -> Request:
        server = (address.get("server") or "https://api.github.com").rstrip("/")
        headers = {"Authorization": f"Bearer {address['token']}", "X_GitHub_Api_Version": "2022-11-28"}
        url = f"{server}/repos/{address['repository']}{path}"
        return Request.json(url, document, method, Accept="application/vnd.github+json", **headers)


def _cut(text: str, most: int = 140) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


class GitLab(_Mark):
    """A deployment there for each of ours that has a commit: made with its state, and changed to what it came to."""

    kind = ChannelKind.GITLAB
    fields = (
        Field("repository", gettext_lazy("Project"), placeholder="group/name", check=repository),
        _TOKEN,
        _server("https://gitlab.com"),
    )
    help = gettext_lazy("The token of the project has the role Developer at least, and the scope api.")
    STATES: ClassVar = {
        _Status.SUCCESS: "success",
        _Status.FAILED: "failed",
        _Status.INTERRUPTED: "failed",
        _Status.CANCELLED: "canceled",
        _Status.EXPIRED: "canceled",
    }

    def look(self, address: Address, net: Net) -> Answer:
        return judged(net.ask(self._request(address, "/deployments?per_page=1", None, "GET")))

    def mark(self, address: Address, parcel: Parcel, it: Deployment, net: Net) -> Answer:
        state = self.STATES.get(_Status(it.status), "running")
        if parcel.reference:
            request = self._request(address, f"/deployments/{parcel.reference}", {"status": state}, "PUT")
            answer = judged(net.ask(request))
            return Answer(answer.outcome, answer.told, answer.wait, parcel.reference)
        if not it.commit_hash:
            return Answer(Outcome.NOTHING, _("Its commit is not known yet."))
        document = {
            "environment": it.environment,
            "sha": it.commit_hash,
            "ref": it.branch or it.commit_hash,
            "tag": False,
            "status": state,
        }
        made = net.ask(self._request(address, "/deployments", document))
        answer = judged(made)
        return Answer(answer.outcome, answer.told, answer.wait, _number(made))

    @staticmethod
    def _request(address: Address, path: str, document: Any, method: str = "POST") -> Request:
        server = (address.get("server") or "https://gitlab.com").rstrip("/")
        project = quote(address["repository"], safe="")
        url = f"{server}/api/v4/projects/{project}{path}"
        return Request.json(url, document, method, PRIVATE_TOKEN=address["token"])


class Sentry(_Mark):
    """A release there for each that went live, and that it was deployed."""

    kind = ChannelKind.SENTRY
    fields = (
        Field("organization", gettext_lazy("Organization"), placeholder="my-company", check=slugs),
        Field(
            "projects", gettext_lazy("Projects"), gettext_lazy("Separated by commas."), "shop, shop-api", check=slugs
        ),
        _TOKEN,
        _server("https://sentry.io"),
    )
    help = gettext_lazy("The token has the scope project:releases. A release is named by its commit.")

    def look(self, address: Address, net: Net) -> Answer:
        return judged(net.ask(self._request(address, "?per_page=1", None, "GET")))

    def mark(self, address: Address, parcel: Parcel, it: Deployment, net: Net) -> Answer:
        if it.status != Deployment.Status.SUCCESS or it.keeps_release:
            return Answer(Outcome.NOTHING, _("No release went live."))
        version = it.commit_hash or (it.release.version if it.release is not None else "")
        if not version:
            return Answer(Outcome.NOTHING, _("It has no commit."))
        projects = [slug.strip() for slug in address["projects"].split(",")]
        made = judged(net.ask(self._request(address, "", {"version": version, "projects": projects})))
        if made.outcome is not Outcome.SENT:
            return made
        document = {"environment": it.environment, "name": f"#{it.pk}", "url": parcel.message.link}
        for name, moment in (("dateStarted", it.started_at), ("dateFinished", it.finished_at)):
            if moment is not None:
                document[name] = moment.isoformat()
        return judged(net.ask(self._request(address, f"{quote(version, safe='')}/deploys/", document)))

    @staticmethod
    def _request(address: Address, path: str, document: Any, method: str = "POST") -> Request:
        server = (address.get("server") or "https://sentry.io").rstrip("/")
        url = f"{server}/api/0/organizations/{address['organization']}/releases/{path}"
        return Request.json(url, document, method, Authorization=f"Bearer {address['token']}")
