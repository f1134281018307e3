"""A large team's data, written by the database itself, and what each page of the site costs with it."""

import json
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from bench.targets import note

#: Of a team at the scale 1.
PROJECTS, SERVERS, DEPLOYMENTS, LINES = 200, 1000, 10_000, 5_000_000
#: Servers of the largest project, and the lines of the longest log.
WIDE, LONGEST = 500, 2_000_000
#: Servers of a project, in turns.
SIZES = (4, 10, 20, 30, 40, 60)
#: What a page may take: milliseconds, thousands of bytes before they are packed, and times a small site's.
MOST_MS, MOST_KB, MOST_RATIO = 300, 500, 2.0
ROUNDS, LONG_ENOUGH = 5, 3.0  # seconds

_PROCESS = {
    "pid": 4242,
    "since": "2026-01-01 10:00:00 UTC",
    "command": "/usr/bin/python3 /srv/shop/current/server.py --port 8000",
    "folder": "/srv/shop/releases/v1",
    "start": 7,
    "boot": "0" * 36,
}
_PROOF = {
    "verdict": "replaced",
    "name": "server.py",
    "before": [_PROCESS | {"pid": 4141}],
    "after": [_PROCESS],
    "sentence": "pid 4242 since 2026-01-01 10:00:00 UTC replaced pid 4141 since 2025-12-31 10:00:00 UTC",
}


@dataclass(frozen=True)
class Team:
    """The rows whose pages are measured, by their ids."""

    project: int
    group: int
    server: int
    wide: int
    """A deployment to `WIDE` servers that runs."""
    ended: int
    """One like it that has ended."""
    long: int
    """The deployment with the longest log."""


def make_team(scale: float = 1.0) -> Team:
    """Write a team's data; ``scale`` 1 is the large one."""
    from django.db import connection
    from django.utils import timezone

    from deployer.models import Deployment, Release
    from projects.models import Project
    from servers.models import Credential, Server, ServerGroup
    from tests.factories import make_credential

    projects, servers = max(int(PROJECTS * scale), 2), max(int(SERVERS * scale), 4)
    deployments, lines = max(int(DEPLOYMENTS * scale), 20), max(int(LINES * scale), 1000)
    wide, longest = max(int(WIDE * scale), 3), max(int(LONGEST * scale), 100)
    login: Credential = make_credential()
    now = timezone.now()
    online = Server.ConnectionStatus.ONLINE
    machines = Server.objects.bulk_create(
        [
            Server(
                name=f"web-{number:04}.example.com",
                host=f"10.0.{number // 250}.{number % 250 + 1}",
                credential=login,
                connection_status=Server.ConnectionStatus.OFFLINE if number % 50 == 49 else online,
                connection_error="No route to host." if number % 50 == 49 else "",
                last_checked_at=now,
            )
            for number in range(servers)
        ]
    )
    made = Project.objects.bulk_create(
        [
            Project(
                name=f"project-{number:03}",
                description="A service of the shop.",
                environment=("production", "staging", "development")[number % 3] if number else "production",
                git_url=f"https://git.example.com/project-{number}.git",
                deploy_path=f"/srv/project-{number}",
                deploy_script_path=f"/srv/project-{number}/restart.sh",
                process_name=f"project-{number}",
            )
            for number in range(projects)
        ]
    )
    groups = ServerGroup.objects.bulk_create(
        [ServerGroup(name=f"group-{number:03}", environment=it.environment) for number, it in enumerate(made)]
    )
    sizes = [wide, *(min(SIZES[number % len(SIZES)], servers) for number in range(1, projects))]
    members = ServerGroup.servers.through
    members.objects.bulk_create(
        [
            members(servergroup=group, server=machines[(7 * number + place) % servers])
            for number, (group, size) in enumerate(zip(groups, sizes, strict=True))
            for place in range(size)
        ],
        batch_size=5000,
    )
    Release.objects.bulk_create(
        [
            Release(project=it, version="v1", commit_hash=f"{number:040x}", commit_message="Faster", archive="x")
            for number, it in enumerate(made)
        ]
    )
    launched = []
    for number in range(deployments):
        # The last round is of every project once, the first of them again to the most servers.
        it = made[number % projects]
        age = timedelta(minutes=40 * (deployments - number))
        launched.append(
            Deployment(
                project=it,
                environment=it.environment,
                deployment_type="full" if number % 3 else "restart_only",
                branch="main" if number % 3 else "",
                status="failed" if number % 17 == 16 else "success",
                error_message="web-0003 failed: exit status 3." if number % 17 == 16 else "",
                started_at=now - age,
                finished_at=now - age + timedelta(seconds=30 + number % 300),
            )
        )
    launched = Deployment.objects.bulk_create(launched, batch_size=1000)
    for each in launched:
        each.created_at = each.started_at or now
    Deployment.objects.bulk_update(launched, ["created_at"], batch_size=500)
    through = Deployment.server_groups.through
    of = {it.pk: group for it, group in zip(made, groups, strict=True)}
    through.objects.bulk_create(
        [through(deployment=it, servergroup=of[it.project_id]) for it in launched], batch_size=5000
    )
    _write_targets("WHERE d.finished_at IS NOT NULL", "'success'")
    ended = next(it for it in reversed(launched) if it.project_id == made[0].pk)
    running = [_run(made[0], groups[0]), *(_run(made[n], groups[n]) for n in range(5, projects, max(projects // 4, 1)))]
    _write_targets("WHERE d.finished_at IS NULL", "'restarting'")
    _write_sightings()
    from bench.pages import insert

    level = "CASE WHEN n % 1000 = 0 THEN 'error' ELSE 'info' END"
    insert(longest, f"{launched[-2].pk}, NULL, n, 'stdout', {level}")
    share = max((lines - longest) // min(deployments - 10, 1000), 1)
    first = launched[-min(deployments - 10, 1000) - 3].pk
    insert(lines - longest, f"{first} + (n - 1) / {share}, NULL, (n - 1) % {share} + 1, 'stdout', {level}")
    insert(1000, f"{running[0].pk}, NULL, n, 'stdout', 'info'")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
        if connection.vendor == "sqlite":
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return Team(made[0].pk, groups[0].pk, machines[0].pk, running[0].pk, ended.pk, launched[-2].pk)


def _run(project: Any, group: Any) -> Any:
    """A deployment that a worker has taken."""
    from django.utils import timezone

    from deployer.models import Deployment

    now = timezone.now()
    it = Deployment.objects.create(
        project=project,
        environment=project.environment,
        deployment_type="restart_only",
        status="restarting",
        claim="x",
        started_at=now,
        heartbeat_at=now,
    )
    it.server_groups.add(group)
    return it


def _write_targets(which: str, status: str) -> None:
    """The servers of deployments: those of their groups."""
    from django.db import connection

    json_type = "::jsonb" if connection.vendor == "postgresql" else ""
    moment = "d.started_at"
    ended = "d.finished_at"
    statement = f"""
INSERT INTO deployer_target (deployment_id, server_id, server_name, host, batch, status, started_at, begun_at,
    finished_at, exit_code, error, release_at_launch, release_before, release_after, proof, evidence, progress,
    kept_out, run_key, undo_key, stdout_logged, stderr_logged, revision)
SELECT d.id, s.id, s.name, s.host, 1,
    CASE WHEN d.status = 'failed' AND s.id %% 10 = 3 THEN 'failed' ELSE {status} END,
    {moment}, {moment}, {ended}, 0, '', 'v0', 'v0', 'v1', %s{json_type}, '', '', '', '', '', 0, 0, 0
FROM deployer_deployment d
JOIN deployer_deployment_server_groups g ON g.deployment_id = d.id
JOIN servers_servergroup_servers m ON m.servergroup_id = g.servergroup_id
JOIN servers_server s ON s.id = m.server_id
{which} AND NOT EXISTS (SELECT 1 FROM deployer_target t WHERE t.deployment_id = d.id)
ORDER BY d.id, s.id"""  # noqa: S608 (all of it is ours)
    with connection.cursor() as cursor:
        cursor.execute(statement, [json.dumps(_PROOF)])


def _write_sightings() -> None:
    """What was seen on every server of every project: one in thirty differs, one in fifty could not be asked.

    What is kept of each is renewed, as whatever writes a deployment's server does.
    """
    from django.db.models import Max
    from django.utils import timezone

    from deployer.models import Sighting, Target
    from deployer.models.standing import renew_of_targets
    from projects.models import Project

    rows = []
    pairs = (
        Project.objects.order_by("pk").values_list("pk", "deployments__server_groups__servers", named=False).distinct()
    )
    for number, (project, server) in enumerate(pairs):
        if server is None:
            continue
        process = _PROCESS | ({"pid": 99, "since": "2026-02-02 10:00:00 UTC"} if number % 30 == 29 else {})
        rows.append(
            Sighting(
                project_id=project,
                server_id=server,
                release="v1",
                processes=[process],
                problem="No route to host." if number % 50 == 49 else "",
                seen_at=timezone.now(),
                failed_at=timezone.now() if number % 50 == 49 else None,
            )
        )
    Sighting.objects.bulk_create(rows, batch_size=2000)
    newest = Target.objects.order_by().values("deployment__project", "server").annotate(newest=Max("pk"))
    renew_of_targets(newest.values_list("newest", flat=True))


@dataclass(frozen=True)
class Cost:
    """What one page takes: milliseconds, those of the processor in this process, bytes before they are packed, queries.

    SQLite works in this process, PostgreSQL in one of its own.
    """

    ms: float
    cpu: float
    size: int
    queries: int
    slowest: str


def addresses(team: Team) -> dict[str, str]:
    """Every page and poll that is measured, with its address."""
    wide = f"/deployments/{team.wide}"
    return {
        "overview": "/",
        "overview's poll: activity": "/activity/",
        "overview's poll: what runs where": "/overview/",
        "deployments": "/deployments/",
        "deployments, page 100": "/deployments/?page=100",
        "deployments that failed": "/deployments/?status=failed",
        "projects": "/projects/",
        "project": f"/projects/{team.project}/",
        "project: what runs where": f"/projects/{team.project}/board/",
        "releases": f"/projects/{team.project}/releases/",
        "launch": f"/projects/{team.project}/launch/",
        "launch: order of 500 servers": f"/projects/{team.project}/changes/"
        f"?deployment_type=full&branch=main&server_groups={team.group}",
        "servers": "/servers/",
        "server": f"/servers/{team.server}/",
        "groups": "/servers/groups/",
        "group": f"/servers/groups/{team.group}/",
        "deployment to 500, running": f"{wide}/",
        "deployment to 500, poll: nothing": "poll",
        "deployment to 500, poll: a server": "poll+server",
        "deployment to 500, cancel": f"{wide}/cancel/",
        "deployment to 500, ended": f"/deployments/{team.ended}/",
        "long log": f"/deployments/{team.long}/",
        "long log, search": f"/deployments/{team.long}/?text=nowhere",
        "API: deployments": "/api/v1/deployments",
        "API: deployments, limit=500": "/api/v1/deployments?limit=500",
        "API: projects": "/api/v1/projects?limit=500",
        "API: groups": "/api/v1/server-groups?limit=500",
        "API: the longest log": f"/api/v1/deployments/{team.long}/log",
        "API: log of another": f"/api/v1/deployments/{team.ended}/log",
    }


def measure(team: Team, only: str = "") -> dict[str, Cost]:
    """What each page takes, or the one named, in the quickest of some rounds: the machine does other things, too."""
    from django.conf import settings
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    from bench.viewers import poll_of
    from deployer.models import Target
    from people.models import ApiToken, User
    from tests.factories import make_user

    user = User.objects.first() or make_user()
    client = Client(headers={"host": settings.ALLOWED_HOSTS[0]})
    client.force_login(user)
    text = "bench-" + "x" * 40
    ApiToken.objects.get_or_create(user=user, name="bench", digest=ApiToken.digest_of(text))
    client.get("/servers/credentials/")  # what a process loads once
    found = {}
    for name, address in addresses(team).items():
        if only not in {"", name}:
            continue
        taken: list[float] = []
        worked: list[float] = []
        while len(taken) < ROUNDS and sum(taken) < LONG_ENOUGH:
            asked = address
            if address.startswith("poll"):
                asked = poll_of(client.get(f"/deployments/{team.wide}/").content)
                if address == "poll+server":
                    Target.objects.filter(deployment=team.wide, server=team.server).update(progress="x")
            headers = {"authorization": f"Bearer {text}"} if address.startswith("/api") else {}
            with CaptureQueriesContext(connection) as queries:
                begun, worked_before = time.perf_counter(), time.process_time()
                answer: Any = client.get(asked, headers=headers)
                taken.append(time.perf_counter() - begun)
                worked.append(time.process_time() - worked_before)
            if answer.status_code not in {200, 204}:
                raise SystemExit(f"{asked} was answered with {answer.status_code}")
        slowest = max(queries, key=lambda query: float(query["time"]), default={"sql": "", "time": "0"})
        words = f"{slowest['time']} s: {slowest['sql'][:3000]}"
        found[name] = Cost(1000 * min(taken), 1000 * min(worked), len(answer.content), len(queries), words)
    return found


def explain(team: Team) -> dict[str, str]:
    """Of each page, the table of a large team that one of its queries reads from end to end, if there is one."""
    from django.conf import settings
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    from people.models import User

    client = Client(headers={"host": settings.ALLOWED_HOSTS[0]})
    client.force_login(User.objects.all()[0])
    words = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN (COSTS OFF)"
    found = {}
    for name, address in addresses(team).items():
        if not address.startswith("/") or address.startswith("/api"):
            continue
        with CaptureQueriesContext(connection) as queries:
            client.get(address)
        for query in queries:
            if not query["sql"].startswith(("SELECT", "WITH")):
                continue
            with connection.cursor() as cursor:
                cursor.execute(f"{words} {query['sql'].replace('%', '%%')}", ())
                plan = [str(row[-1]) for row in cursor.fetchall()]
            whole = [line.strip() for line in plan if _reads_all(line.strip())]
            if whole:
                found[name] = whole[0]
    return found


def _reads_all(line: str) -> bool:
    """Whether a line of a plan reads one of the large tables from end to end."""
    is_scan = "Seq Scan on" in line or (line.startswith("SCAN") and "USING" not in line)
    return is_scan and ("deployer_target" in line or "deployer_logline" in line)


def show_costs(large: dict[str, Cost], small: dict[str, Cost] | None = None) -> None:
    """The table of `measure`."""
    print(f"  {'page':36}{'ms':>9}{'CPU ms':>9}{'small CPU':>10}{'ratio':>7}{'KB':>9}{'queries':>9}")
    for name, cost in large.items():
        other = (small or {}).get(name)
        ratio = cost.cpu / other.cpu if other else 0
        met = cost.ms <= MOST_MS and cost.size <= 1000 * MOST_KB and ratio <= MOST_RATIO
        figures = f"{cost.ms:>9.1f}{cost.cpu:>9.1f}{other.cpu if other else 0:>10.1f}{ratio:>7.1f}"
        figures += f"{cost.size / 1000:>9.1f}{cost.queries:>9}"
        found, target = f"{cost.ms:.0f} ms, {ratio:.1f} of a small team's", f"{MOST_MS} ms, {MOST_RATIO}"
        print(f"  {name:36}{figures}  {note(f'page of a large team: {name}', found, target, met=met)}", flush=True)
