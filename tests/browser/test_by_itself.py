"""A push is deployed by itself, and everybody is told once, whatever dies meanwhile."""

import re
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import opened
from tests.parts.git import GitRepository
from tests.parts.mailbox import MailServer
from tests.parts.person import log_in
from tests.parts.programs import children_of, command_line, free_port, kill_all, wait_until
from tests.parts.sink import Sink
from tests.parts.sshd import OpenSSHServer
from tests.parts.up import Up

#: What the repository runs when something was pushed: it tells of it as GitHub does.
HOOK = """\
#!{python}
import hashlib, hmac, json, sys, urllib.request, uuid

for line in sys.stdin:
    before, after, ref = line.split()
    body = json.dumps({{
        "ref": ref, "before": before, "after": after, "deleted": False,
        "head_commit": {{"id": after, "message": "Sell more"}},
        "commits": [], "pusher": {{"name": "bo", "email": "bo@example.com"}}, "sender": {{"login": "bo"}},
    }}).encode()
    signature = hmac.new({secret!r}.encode(), body, hashlib.sha256).hexdigest()
    headers = {{
        "Content-Type": "application/json", "X-GitHub-Event": "push", "X-GitHub-Delivery": str(uuid.uuid4()),
        "X-Hub-Signature-256": "sha256=" + signature,
    }}
    with urllib.request.urlopen(urllib.request.Request({address!r}, body, headers)) as answer:
        assert answer.status == 202, answer.status
"""
#: The restart says that it has begun, and waits for the test.
DECLARED = """\
credentials:
  - {{name: key, username: {user}, kind: ssh_key, private_key_file: {folder}/key}}
servers:
  - {{name: web-1, host: {host}, port: {port}, credential: key}}
groups:
  - {{name: web, servers: [web-1]}}
projects:
  - name: shop
    server_groups: [web]
    git_url: {repository}
    deploy_path: {folder}/shop
    restart_script: |
      echo begun >>{folder}/ledger
      until [ -e {folder}/go ]; do sleep 0.05; done
"""
#: What the ends that a deployment may come to here are called in notices.
EVENT_OF = {"success": "succeeded", "interrupted": "interrupted", "failed": "failed"}
#: Notices that are still to be sent.
OPEN = "SELECT count(*) FROM deployer_notice WHERE status IN ('waiting', 'sending', 'unknown')"


@pytest.fixture
def mail_server() -> Iterator[MailServer]:
    server = MailServer()
    yield server
    server.stop()


def test_a_push_is_deployed_and_told_of_once_through_a_killed_worker_and_a_dead_receiver(
    up: Callable[..., Up], sshd: OpenSSHServer, git_repo: GitRepository, tmp_path: Path, mail_server: MailServer
) -> None:
    folder, port = tmp_path / "there", free_port()
    folder.mkdir()
    git_repo.git("clone", "--quiet", "--bare", ".", str(tmp_path / "shop.git"))
    site = up(
        DEPLOYER_ALLOW_LOCAL_GIT="yes",
        DEPLOYER_EMAIL_URL=f"smtp://127.0.0.1:{mail_server.port}",
        DEPLOYER_EMAIL_FROM="deployer@example.com",
        DEPLOYER_NOTICE_NETWORKS="127.0.0.0/8",
    ).wait_ready()
    _declare(site, sshd, folder, tmp_path / "shop.git")
    with opened(f"http://127.0.0.1:{site.port}") as page:
        password = re.search(r"password (\w{20})$", site.log, re.MULTILINE)
        assert password is not None
        log_in(page, "/channels/add/?kind=mail", "admin", password[1])
        _fill_channel(page, name="People", a_to="ops@example.com")
        page.goto("/channels/add/?kind=webhook")
        _fill_channel(page, name="Machines", a_url=f"http://127.0.0.1:{port}/told", a_secret="between us")
        secret, address = _add_webhook(page)

        hook = tmp_path / "shop.git" / "hooks" / "post-receive"
        hook.write_text(HOOK.format(python=sys.executable, secret=secret, address=address))
        hook.chmod(0o755)
        pushed = git_repo.commit({"index.html": "more\n"}, "Sell more")
        git_repo.git("push", "--quiet", str(tmp_path / "shop.git"), "main")

        wait_until((folder / "ledger").exists, "the script to begin")
        _kill_the_worker_that_has_it(site)
        (folder / "go").touch()
        wait_until(lambda: _row(site, "SELECT finished_at FROM deployer_deployment") != (None,), "the end")
        ended, commit = _row(site, "SELECT status, commit_hash FROM deployer_deployment")
        assert commit == pushed
        wait_until(lambda: len(mail_server.letters) >= 2, "the mail about the launch and the end")

        receiver = Sink(port)
        try:
            wait_until(lambda: len(receiver.sent) >= 2, "the receiver that was dead to be told")
            wait_until(lambda: _row(site, OPEN) == (0,), "nothing to be left in the outbox")
        finally:
            receiver.stop()
        events = [sent.json["event"] for sent in receiver.sent]
        assert sorted(events) == sorted(["launched", EVENT_OF[ended]])
        assert len({letter["Message-ID"] for letter in mail_server.letters}) == len(mail_server.letters) == 2
        assert _row(site, "SELECT count(*) FROM deployer_deployment") == (1,)
        assert (folder / "ledger").read_text() == "begun\n"

        page.goto("/channels/")
        expect(page.locator("li", has_text="Machines")).to_contain_text("200")


def _declare(site: Up, sshd: OpenSSHServer, folder: Path, repository: Path) -> None:
    (folder / "key").write_text(sshd.private_key)
    words = {"user": sshd.username, "host": sshd.host, "port": sshd.port, "folder": folder, "repository": repository}
    (folder / "shop.yaml").write_text(DECLARED.format(**words))
    site.manage("apply", str(folder / "shop.yaml"))


def _fill_channel(page: Page, **boxes: str) -> None:
    for name, value in boxes.items():
        page.locator(f"[name={name}]").fill(value)
    for event in ("launched", "succeeded"):
        page.locator(f"[name=events][value={event}]").check()
    page.get_by_role("button", name="Save").last.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(boxes["name"])


def _add_webhook(page: Page) -> tuple[str, str]:
    """Its secret and its address, as they are shown once."""
    page.goto("/projects/")
    page.get_by_role("link", name="shop").first.click()
    page.get_by_role("link", name="Triggers").first.click()
    page.get_by_role("link", name="Add a webhook").click()
    page.locator("[name=name]").fill("Pushes")
    page.locator("[name=provider]").select_option("github")
    page.get_by_role("button", name="Save").last.click()
    return page.locator("#secret").inner_text(), page.locator("#address").inner_text()


def _kill_the_worker_that_has_it(site: Up) -> None:
    """With the process that it has forked for the deployment."""
    workers = {pid for pid in site.processes if "worker build deploy" in command_line(pid)}
    busy = [pid for pid in workers if children_of(pid)]
    assert busy
    kill_all([*busy, *(child for pid in busy for child in children_of(pid))])


def _row(site: Up, statement: str) -> Any:
    with closing(sqlite3.connect(site.folder / "db.sqlite3", timeout=30)) as database:
        return database.execute(statement).fetchone()
