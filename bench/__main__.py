"""``python -m bench [NAME...] [--quick]``: the benchmarks, or some of them, as tables."""

import argparse
import os
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench import targets

#: A place in memory, if there are so many bytes of it: a disk takes everybody the same time and hides the difference.
MEMORY, ROOM = Path("/dev/shm"), 8 << 30  # noqa: S108 (folders of our own are made in it)
NAMES = ("transfer", "restart", "wide", "pages", "flood", "year")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all of them if none is named")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and fewer servers")
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}: choose of {', '.join(NAMES)}")
    if "TMPDIR" not in os.environ and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM:
        tempfile.tempdir = os.environ["TMPDIR"] = str(MEMORY)
    print(f"All files are kept below {tempfile.gettempdir()}; TMPDIR names another place.")
    folder = tempfile.mkdtemp(prefix="deployer-bench-data-")
    os.environ |= {"DEPLOYER_DATA_DIR": folder, "DEPLOYER_ALLOW_LOCAL_GIT": "yes"}
    os.environ |= {"DJANGO_SETTINGS_MODULE": "deployer.settings", "REDIS_URL": f"unix://{folder}/queue.sock"}
    os.environ[targets.VARIABLE] = f"{folder}/found"
    import django

    django.setup()
    from django.core.management import call_command

    from bench import flood, pages, restart, transfer, wide, year
    from tests.parts.queue import QueueServer

    call_command("migrate", verbosity=0)
    queue = QueueServer(Path(folder) / "queue.sock")
    try:
        benchmarks: dict[str, Callable[..., None]] = {
            "transfer": transfer.main,
            "restart": partial(restart.main, queue),
            "wide": wide.main,
            "pages": pages.main,
            "flood": flood.main,
            "year": year.main,
        }
        taken, failed = {}, []
        Path(os.environ[targets.VARIABLE]).touch()
        for name in options.names or NAMES:
            begun = time.monotonic()
            try:
                benchmarks[name](1 if options.quick else 4, quick=options.quick)
            except (Exception, SystemExit) as error:  # noqa: BLE001 (whatever it is, the others are measured)
                traceback.print_exception(error)
                failed.append(name)
                targets.note(f"the benchmark {name}", f"{error}"[-40:], "its end", met=False)
            taken[name] = time.monotonic() - begun
        targets.summary()
        print(f"\nIt took {', '.join(f'{name} {seconds:.0f} s' for name, seconds in taken.items())}.")
        if failed:
            raise SystemExit(f"These did not come to their end: {', '.join(failed)}.")
    finally:
        queue.close()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
