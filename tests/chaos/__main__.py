"""``python -m tests.chaos``: three machines under which everything is killed at random; prints what became of it all.

``SEED=n`` repeats the order of what happens; ``--minutes``, ``--deployments`` and ``--servers`` make it smaller.
Exit status 1 if something is stuck, was run twice, was lost, or ended otherwise than told.
"""

import argparse
import os
import random
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter
from typing import TYPE_CHECKING

from tests.parts.postgres import PostgresServer

if TYPE_CHECKING:
    from tests.chaos.truth import Truth
    from tests.chaos.world import World

#: Seconds within which all has to end once nothing is killed any more: a frozen worker is found after 35 to 45.
PATIENCE = 300
#: One launch of so many is of the project that is on all servers.
LARGE = 10


def main() -> int:
    """Run it on a database of its own; gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30, help="how long everything is killed (default 30)")
    parser.add_argument("--deployments", type=int, default=200, help="launches (default 200)")
    parser.add_argument("--servers", type=int, default=100, help="servers (default 100)")
    options = parser.parse_args()
    seed = int(os.environ.get("SEED") or secrets.randbelow(10**6))
    print(f"SEED={seed}", flush=True)
    postgres = PostgresServer()
    folder = tempfile.mkdtemp(prefix="deployer-chaos-data-")
    os.environ |= {
        "DEPLOYER_DATA_DIR": folder,
        "DATABASE_URL": postgres.url,
        "DEPLOYER_ALLOW_LOCAL_GIT": "yes",
        "DJANGO_SETTINGS_MODULE": "deployer.settings",
    }
    try:
        return carry_out(options, seed, postgres)
    finally:
        postgres.close()
        shutil.rmtree(folder, ignore_errors=True)


def carry_out(options: argparse.Namespace, seed: int, postgres: PostgresServer) -> int:
    """Launch, kill, wait until all has ended, and hold what deployer says against what the servers know."""
    import django

    django.setup()
    from django.core.management import call_command
    from django.db import connections

    from deployer.keyring import prepare_keys
    from tests.chaos.storm import Storm
    from tests.chaos.truth import truth_of
    from tests.chaos.world import World, wait_for_the_last
    from tests.parts.s3 import s3_server

    call_command("migrate", verbosity=0)
    prepare_keys()
    begun = time.monotonic()
    with s3_server() as storage:
        world = World(options.servers, postgres, storage)
        storm = Storm(world, seed)
        try:
            storm.start()
            keys = launch_all(world, random.Random(seed), options.deployments, options.minutes * 60)
            print(
                f"launched {len(keys)} in {time.monotonic() - begun:.0f} s; from here on nothing is killed", flush=True
            )
            storm.calm()
            connections.close_all()
            stuck = wait_for_the_last(PATIENCE)
            storm.end()
            found = truth_of(world)
        finally:
            storm.end()
            world.close()
    return tell(found, storm.counts, stuck, [*map(str, storm.errors)], keys)


def launch_all(world: "World", chance: random.Random, number: int, seconds: float) -> dict[str, int]:
    """Launch so many within so many seconds, each where nothing is at work; gives what each key has launched."""
    from deployer.database import insist
    from deployer.models import Deployment

    keys: dict[str, int] = {}
    begun = time.monotonic()
    while len(keys) < number or time.monotonic() < begun + seconds:
        key = f"chaos-{len(keys)}"
        active = insist(lambda: {*Deployment.objects.active().values_list("project__name", flat=True)})
        free = [at for at, project in enumerate(world.projects) if project.name not in active]
        small = [at for at in free if at]
        if len(keys) >= number or not small or time.monotonic() < begun + len(keys) * seconds / number:
            time.sleep(0.2)
            continue
        place = 0 if 0 in free and len(keys) % LARGE == 0 else chance.choice(small)
        kind = chance.choice(["full", "restart_only", "restart_only"])
        if kind == "full":
            world.commit()
        keys[key] = world.launch(place, kind, key)
    return keys


def tell(found: "Truth", counts: Counter[str], stuck: list[int], errors: list[str], keys: dict[str, int]) -> int:
    """Print what was found; gives the exit status."""
    launched_twice = sum(found.ends.values()) - len({*keys.values()})
    print("\nwhat happened")
    for what, count in counts.most_common():
        print(f"  {count:6} {what}")
    print("how deployments ended")
    for what, count in found.ends.most_common():
        print(f"  {count:6} {what}")
    print("how their servers ended")
    for what, count in found.servers.most_common():
        print(f"  {count:6} {what}")
    print(f"shared in slices: {found.shared} deployments")
    print(f"stuck: {len(stuck)} {stuck or ''}")
    print(f"launched twice: {launched_twice}, scripts run twice: {found.twice}")
    print(f"lines: {found.lines}, lost: {found.lost}, doubled: {found.doubled}")
    for sentence in [*found.wrong, *errors]:
        print(f"  ✘ {sentence}")
    print(f"ends that are not true: {len(found.wrong)}")
    is_well = not (stuck or launched_twice or found.wrong or errors)
    print("all well" if is_well else "NOT well")
    return int(not is_well)


if __name__ == "__main__":
    sys.exit(main())
