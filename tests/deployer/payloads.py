"""Deliveries as git servers send them: the shapes of their documentation, with data of our own, and their signatures.

GitHub: https://docs.github.com/en/webhooks/webhook-events-and-payloads
GitLab: https://docs.gitlab.com/user/project/integrations/webhook_events/
Gitea:  https://docs.gitea.com/usage/repository/webhooks
"""

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass, field
from typing import Any

ZEROS = "0" * 40
PUSHER = "ada@example.com"


@dataclass(frozen=True)
class Sample:
    """A delivery before it is signed: the name of its event, and its payload."""

    provider: str
    event: str
    payload: dict[str, Any]
    number: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        return json.dumps(self.payload).encode()

    def signed(self, secret: str, body: bytes | None = None) -> dict[str, str]:
        """The headers that its sender sends with it, or with another ``body``."""
        return sign(self.provider, secret, self.body if body is None else body, self.event, self.number) | self.headers


def sign(provider: str, secret: str, body: bytes, event: str = "push", number: str = "") -> dict[str, str]:
    """The headers of a delivery."""
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    if provider == "github":
        own = {"X-GitHub-Event": event, "X-GitHub-Delivery": number, "X-Hub-Signature-256": f"sha256={digest}"}
    elif provider == "gitlab":
        own = {"X-Gitlab-Event": event, "X-Gitlab-Event-UUID": number, "X-Gitlab-Token": secret}
    elif provider == "gitea":
        own = {"X-Gitea-Event": event, "X-Gitea-Delivery": number, "X-Gitea-Signature": digest}
    else:
        own = {"Idempotency-Key": number, "X-Signature-256": f"sha256={digest}"}
    return {name: value for name, value in own.items() if value} | {"Content-Type": "application/json"}


def standard_webhooks(secret: str, body: bytes, number: str = "msg_1", moment: str = "1790000000") -> dict[str, str]:
    """The headers of GitLab's signing token."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{number}.{moment}.".encode() + body, hashlib.sha256).digest()
    signature = f"v1,{base64.b64encode(digest).decode()}"
    return {"webhook-id": number, "webhook-timestamp": moment, "webhook-signature": signature}


def _person() -> dict[str, Any]:
    return {"name": "Ada", "email": PUSHER, "username": "ada"}


def _commit(commit: str, title: str) -> dict[str, Any]:
    return {
        "id": commit,
        "message": f"{title}\n\nAnd why.",
        "timestamp": "2026-11-27T09:00:00+01:00",
        "url": f"https://git.example.com/shop/commit/{commit}",
        "author": _person(),
        "committer": _person(),
        "added": ["new.txt"],
        "removed": [],
        "modified": ["index.html"],
    }


_REPOSITORY = {
    "id": 7,
    "name": "shop",
    "full_name": "team/shop",
    "default_branch": "main",
    "clone_url": "https://git.example.com/team/shop.git",
}


def github_push(commit: str, before: str = ZEROS, ref: str = "refs/heads/main", title: str = "Sell more") -> Sample:
    is_deleted = commit == ZEROS
    head = None if is_deleted else _commit(commit, title)
    payload = {
        "ref": ref,
        "before": before,
        "after": commit,
        "created": before == ZEROS,
        "deleted": is_deleted,
        "forced": False,
        "base_ref": None,
        "compare": "https://github.com/team/shop/compare/x...y",
        "commits": [head] if head else [],
        "head_commit": head,
        "repository": _REPOSITORY,
        "pusher": {"name": "ada", "email": PUSHER},
        "sender": {"login": "ada", "id": 3},
    }
    return Sample("github", "push", payload, f"gh-{ref}-{commit}")


def github_ping() -> Sample:
    payload = {"zen": "Keep it small.", "hook_id": 5, "hook": {"type": "Repository", "active": True}}
    return Sample("github", "ping", payload | {"repository": _REPOSITORY}, "gh-ping")


def github_delete(ref: str = "main", sort: str = "branch") -> Sample:
    payload = {"ref": ref, "ref_type": sort, "pusher_type": "user", "repository": _REPOSITORY}
    return Sample("github", "delete", payload, f"gh-delete-{ref}")


def workflow_run(
    commit: str,
    provider: str = "github",
    *,
    action: str = "completed",
    conclusion: str | None = "success",
    branch: str = "main",
    name: str = "CI",
    repository: str = "team/shop",
) -> Sample:
    payload = {
        "action": action,
        "workflow_run": {
            "id": 30433642,
            "name": name,
            "head_branch": branch,
            "head_sha": commit,
            "display_title": "Sell more",
            "event": "push",
            "status": "completed" if action == "completed" else "in_progress",
            "conclusion": conclusion,
            "run_attempt": 1,
            "head_commit": {"id": commit, "message": "Sell more\n\nAnd why.", "author": _person()},
            "head_repository": {"full_name": repository},
        },
        "workflow": {"id": 1, "name": name, "path": ".github/workflows/ci.yml"},
        "repository": _REPOSITORY,
    }
    return Sample(provider, "workflow_run", payload, f"{provider}-run-{commit}-{conclusion}-{name}")


def gitlab_push(commit: str, before: str = ZEROS, ref: str = "refs/heads/main") -> Sample:
    is_tag = ref.startswith("refs/tags/")
    commits = [] if commit == ZEROS else [_commit("1" * 40, "An older one"), _commit(commit, "Sell more")]
    payload = {
        "object_kind": "tag_push" if is_tag else "push",
        "event_name": "tag_push" if is_tag else "push",
        "before": before,
        "after": commit,
        "ref": ref,
        "ref_protected": True,
        "checkout_sha": commit,
        "user_id": 4,
        "user_name": "Ada",
        "user_username": "ada",
        "user_email": PUSHER,
        "project_id": 15,
        "project": {"id": 15, "name": "shop", "default_branch": "main", "path_with_namespace": "team/shop"},
        "commits": commits,
        "total_commits_count": 44,
        "repository": {"name": "shop"},
    }
    return Sample("gitlab", "Tag Push Hook" if is_tag else "Push Hook", payload, f"gl-{ref}-{commit}")


def gitlab_pipeline(commit: str, status: str = "success", source: str = "push", name: str = "Build") -> Sample:
    payload = {
        "object_kind": "pipeline",
        "object_attributes": {
            "id": 31,
            "iid": 3,
            "name": name,
            "ref": "main",
            "tag": False,
            "sha": commit,
            "before_sha": ZEROS,
            "source": source,
            "status": status,
            "detailed_status": "passed",
            "stages": ["build", "test"],
        },
        "user": {"id": 1, "name": "Ada", "username": "ada", "email": PUSHER},
        "project": {"id": 1, "name": "shop", "path_with_namespace": "team/shop", "default_branch": "main"},
        "commit": {"id": commit, "message": "Sell more\n", "author": {"name": "Grace", "email": "grace@example.com"}},
        "builds": [],
    }
    return Sample("gitlab", "Pipeline Hook", payload, f"gl-run-{commit}-{status}-{source}")


def gitea_push(commit: str, before: str = ZEROS, ref: str = "refs/heads/main") -> Sample:
    head = None if commit == ZEROS else _commit(commit, "Sell more")
    payload = {
        "ref": ref,
        "before": before,
        "after": commit,
        "compare_url": "https://git.example.com/team/shop/compare/x...y",
        "commits": [head] if head else [],
        "total_commits": 1,
        "head_commit": head,
        "repository": _REPOSITORY,
        "pusher": {"id": 1, "login": "ada", "full_name": "Ada", "email": PUSHER},
        "sender": {"id": 1, "login": "ada", "email": PUSHER},
    }
    return Sample("gitea", "push", payload, f"gt-{ref}-{commit}")


def forgejo_run(commit: str, status: str = "success") -> Sample:
    run = {
        "id": 12,
        "title": "Sell more",
        "workflow_id": "ci.yml",
        "prettyref": "main",
        "commit_sha": commit,
        "status": status,
        "trigger_user": {"id": 1, "login": "ada", "email": PUSHER},
    }
    return Sample("gitea", f"action_run_{status}", {"action": status, "run": run}, f"fj-run-{commit}-{status}")


def generic(**fields: Any) -> Sample:
    return Sample("generic", "", fields)
