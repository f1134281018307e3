"""What is in the data folder of a release: a row of every kind, and deployments that ended in every way."""

import io
import secrets
import tarfile
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from django.contrib.auth.models import Group, Permission

from deployer.models import Deployment, Lease, LogLine, Release, Sighting, Target
from deployer.releases.packages import store_package
from deployer.releases.store import store
from people.models import ApiToken, User
from projects.models import HealthCheck, Project, Variable
from servers.models import Credential, Server, ServerGroup
from tests.factories import make_deployment

#: What is encrypted or hashed in the dumps, so that a test can ask whether it can still be read. All made up.
USER, PASSWORD, TOKEN = "maria", "correct horse", "dpl_of-the-upgrade-tests-and-of-nothing-else"
PASSPHRASE, LOGIN_PASSWORD = "open sesame", "sk_login_password"
VARIABLES = {"API_KEY": "sk_variable", "STAGE": "production ✔"}

BOOT = "ef37dc9c-7656-4397-af28-d63bc0cb794f"
FIRST = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
SEEN = FIRST + timedelta(days=1)
GOOD, GONE, BAD = "20261120090000-0a1b2c3d", "20261119090000-4e5f6071", "20261121110000-8293a4b5"


def process(pid: int, minute: int, **more: Any) -> dict[str, Any]:
    """Who a service is, as a proof and a sighting hold it."""
    since = f"{FIRST + timedelta(minutes=minute):%Y-%m-%d %H:%M:%S} UTC"
    who = {"pid": pid, "parent": 1, "start": minute * 6_000, "command": "python shop.py", "boot": BOOT, "since": since}
    return who | more


def proof(verdict: str, before: list[dict[str, Any]], after: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """The evidence of a restart, as it is stored."""
    told = f"As it was told then: {verdict}."
    return {
        "verdict": verdict,
        "name": "shop.py",
        "before": before,
        "after": after,
        "reloads": False,
        "sentence": told,
    } | more


OLD, NEW = process(700, 10), process(801, 70, folder="/srv/shop/current", old="")
REPLACED = proof("replaced", [OLD], [NEW])
UNCHANGED = proof("unchanged", [OLD], [OLD | {"folder": "/srv/shop/current", "old": GONE}])
CRASHING = proof("crash-looping", [OLD], [NEW])
UNDONE = proof("replaced", [NEW], [process(912, 130, folder="/srv/shop/current", old="")], undone=[NEW])


class Data:
    """Writes it all into the database and the store of the settings."""

    def __init__(self) -> None:
        self.people()
        self.servers()
        self.projects()
        self.releases()
        self.deployments()
        self.board()

    def people(self) -> None:
        self.maria = User.objects.create_superuser(USER, "maria@example.com", PASSWORD, first_name="Maria")
        operators = Group.objects.create(name="operators")
        operators.permissions.set(Permission.objects.filter(codename__in=["view_project", "change_project"]))
        self.jo = User.objects.create_user("jo", password=PASSWORD, is_staff=True)
        self.jo.groups.add(operators)
        self.jo.user_permissions.add(Permission.objects.get(codename="view_server"))
        User.objects.create_user("former", password=None, is_active=False)
        digest = ApiToken.digest_of(TOKEN)
        ApiToken.objects.create(name="ci", user=self.jo, prefix=TOKEN[:12], digest=digest, last_used_at=FIRST)

    def servers(self) -> None:
        key = ed25519.Ed25519PrivateKey.generate()
        text = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(PASSPHRASE.encode()),
        ).decode()
        self.key = Credential.objects.create(
            name="deploy-key", username="deploy", kind="ssh_key", private_key=text, passphrase=PASSPHRASE
        )
        self.login = Credential.objects.create(
            name="gate-login", username="gate", kind="password", password=LOGIN_PASSWORD
        )
        host_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA=="
        online = {"connection_status": "online", "last_checked_at": FIRST, "host_key": host_key}
        self.gate = Server.objects.create(name="gate", host="gate.example.com", credential=self.login, **online)
        behind = {"credential": self.key, "jump_host": self.gate}
        away = {"connection_status": "offline", "connection_error": "No answer within 10 seconds."}
        self.webs = [
            Server.objects.create(name="web-1", host="10.0.0.1", **behind, **online),
            Server.objects.create(name="web-2", host="fd00::2", port=2222, **behind, **online),
            Server.objects.create(name="web-3", host="web-3.internal", **behind, **away),
            Server.objects.create(name="web-4", host="10.0.0.4", **behind, is_active=False),
        ]
        self.group = ServerGroup.objects.create(name="web", environment="production", description="What visitors see")
        self.group.servers.set(self.webs)
        ServerGroup.objects.create(name="empty", environment="staging")

    def projects(self) -> None:
        shop = {
            "git_url": "https://git.example.com/shop.git",
            "git_credential": self.login,
            "deploy_path": "/srv/shop",
            "deploy_script_path": "bin/restart.sh",
            "shared_paths": "uploads/, .env",
            "process_name": "shop.py",
            "build_script": "make release\n",
            "output_dir": "dist",
        }
        self.shop = Project.objects.create(
            name="shop", environment="production", project_type="backend", batches="1, 100%", max_failures=1, **shop
        )
        Project.objects.create(name="shop-staging", environment="staging", **shop)
        self.mailer = Project.objects.create(
            name="mailer", environment="production", deploy_script_path="/srv/mailer/restart.sh", run_as="mail"
        )
        targets = {"process": "shop.py", "systemd": "shop.service", "tcp": "8080", "command": "test -e /srv/shop/up"}
        for kind, target in targets.items():
            HealthCheck.objects.create(project=self.shop, kind=kind, target=target, required=kind == "tcp")
        HealthCheck.objects.create(
            project=self.shop, kind="http", target="http://127.0.0.1:8080/up", expect="200", host_header="shop.example"
        )
        for name, value in VARIABLES.items():
            Variable.objects.create(project=self.shop, name=name, value=value, is_secret=name == "API_KEY")
        Variable.objects.create(project=self.shop, name="EMPTY", value="", scope="build")

    def releases(self) -> None:
        built = {"project": self.shop, "commit_hash": "5" * 40, "commit_message": "Sell more\n\nAnd faster."}
        self.good = Release(version=GOOD, state="good", build_key=secrets.token_hex(32), created_by=self.maria, **built)
        with tempfile.TemporaryDirectory() as folder:
            tar = Path(folder) / "release.tar"
            tar.write_bytes(tar_of({"bin/restart.sh": "exec systemctl restart shop\n", "shop.py": "print('shop')\n"}))
            store(self.good, tar)
        self.gone = Release.objects.create(version=GONE, state="good", size=5_000, **built)
        self.bad = Release.objects.create(version=BAD, state="bad", size=6_000, **built | {"commit_hash": "6" * 40})
        package = io.BytesIO(tar_of({"shop.jar": "not really\n"}))
        self.uploaded = store_package(self.shop, "shop.tar", package, note="From the build server", created_by=self.jo)

    def deployments(self) -> None:
        web_1, web_2, web_3, _inactive = (server.name for server in self.webs)
        shop = self.shop
        restart: dict[str, Any] = {"deployment_type": "restart_only"}
        well = {"status": "success", "exit_code": 0, "proof": REPLACED}
        moved = {"release_before": GONE, "release_after": GOOD}
        self.ended(shop, "success", dict.fromkeys((web_1, web_2, web_3), well | moved), release=self.good)
        slow = {"status": "unchanged", "exit_code": 0, "proof": UNCHANGED, "error": "The process was not replaced."}
        loop = {"status": "failed", "exit_code": 1, "proof": CRASHING, "evidence": "== log ==\nTraceback: no port\n"}
        left = {"status": "skipped", "error": "2 servers failed, and only 1 is allowed to."}
        failed = self.ended(shop, "failed", {web_1: slow, web_2: loop, web_3: left}, **restart)
        self.ended(shop, "success", dict.fromkeys((web_1, web_2, web_3), well), retry_of=failed, **restart)
        back = {"status": "rolled_back", "release_before": GOOD, "release_after": GOOD, "proof": UNDONE, "exit_code": 0}
        broken = loop | {"release_before": GOOD, "release_after": BAD, "undo_key": secrets.token_hex(16)}
        partly = self.ended(shop, "failed", {web_1: back, web_2: broken, web_3: left}, release=self.bad)
        again = {"release_before": BAD, "release_after": GOOD}
        self.ended(shop, "success", {web_1: well | again, web_2: well | again}, release=self.good, rollback_from=partly)
        stopped = {"status": "cancelled", "error": "Cancelled before it started."}
        self.ended(shop, "cancelled", dict.fromkeys((web_1, web_2, web_3), stopped), branch="v2.0")
        lost = {"status": "unknown", "error": "Nobody knows how the script ended."}
        self.ended(self.mailer, "interrupted", {web_1: {"status": "success", "exit_code": 0}, web_2: lost}, **restart)
        self.ended(shop, "success", {web_1: well, web_2: well, web_3: well}, release=self.uploaded, trigger="api")
        # One that no worker had taken when the site was stopped.
        self.waits = make_deployment(self.mailer, self.group, created_by=self.jo, trigger="web", **restart)

    def ended(
        self,
        project: Project,
        status: str,
        ends: dict[str, dict[str, Any]],
        release: Release | None = None,
        **asked: Any,
    ) -> Deployment:
        """A deployment that ended so, with ``ends`` as the fields of its servers."""
        by: dict[str, Any] = {"created_by": self.maria, "trigger": "web"}
        it = make_deployment(project, self.group, **by | asked)
        began = FIRST + timedelta(hours=it.pk)
        moments = {"created_at": began, "started_at": began, "finished_at": began + timedelta(minutes=4)}
        if not it.is_restart_only:
            moments |= {"building_at": began + timedelta(seconds=9), "deploying_at": began + timedelta(seconds=70)}
        code: dict[str, Any] = {"release": release}
        if release is not None:
            code |= {"commit_hash": release.commit_hash, "commit_message": release.commit_message}
        why = {"error_message": f"It {status}."} if status != "success" else {}
        Deployment.objects.filter(pk=it.pk).update(status=status, claim=secrets.token_hex(16), **moments, **code, **why)
        for name, values in ends.items():
            target = it.targets.get(server_name=name)
            times = {"started_at": began, "begun_at": began, "finished_at": began + timedelta(minutes=3)}
            Target.objects.filter(pk=target.pk).update(**times, **values)
            self.say(it, target)
        self.say(it, None)
        return it

    def say(self, it: Deployment, target: Target | None) -> None:
        """Lines of every level and stream, with colours and letters of several alphabets."""
        lines = [
            ("system", "info", "Running /srv/shop/current/bin/restart.sh"),
            ("stdout", "info", f"\x1b[32mrestarted\x1b[0m {target or 'all'} – 已重启"),
            ("stderr", "warning", "the cache was cold"),
            ("system", "error", f"✘ {target or 'all'}: <not> what was wanted"),
        ]
        LogLine.objects.bulk_create(
            LogLine(deployment=it, target=target, stream=stream, level=level, content=content, timestamp=FIRST)
            for stream, level, content in lines
        )

    def board(self) -> None:
        web_1, web_2, web_3, _inactive = self.webs
        stray = [process(999, 500, folder="/srv/shop/releases/x", old=GONE)]
        Sighting.objects.create(project=self.shop, server=web_1, release=GOOD, processes=[NEW], seen_at=SEEN)
        Sighting.objects.create(project=self.shop, server=web_2, release=GONE, processes=stray, seen_at=SEEN)
        Sighting.objects.create(project=self.shop, server=web_3, problem="No answer.", seen_at=SEEN)
        for server in (web_1, web_2):
            newest = self.shop.deployments.filter(targets__server=server).order_by("-id")[0]
            Lease.objects.create(server=server, path="/srv/shop", deployment=newest)


def tar_of(files: dict[str, str]) -> bytes:
    """A plain archive of small files."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(text.encode()), 0o755 if name.endswith(".sh") else 0o644
            tar.addfile(member, io.BytesIO(text.encode()))
    return packed.getvalue()
