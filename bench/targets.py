"""What the benchmarks found, target by target, and the README's table; several processes write it down together."""

import json
import os
from pathlib import Path

#: Names the file that all processes of one run write to.
VARIABLE = "BENCH_FOUND"


def note(what: str, figure: str, target: str, *, met: bool) -> str:
    """Write a target down with what was found; gives ``met`` or ``MISSED``."""
    _write({"what": what, "figure": figure, "target": target, "met": met})
    return "met" if met else "MISSED"


def print_line(what: str, figure: str, target: str, met: bool) -> None:
    """Print a target with what was found, and write it down."""
    print(f"  {what:54}{figure:>50}  {target:14}{note(what, figure, target, met=met)}", flush=True)


def readme(what: str, own: str, others: str) -> None:
    """Write a row of the README's table down."""
    _write({"row": [what, own, others]})


def summary() -> None:
    """Print every target that was looked at, and the table for the README."""
    lines = [json.loads(line) for line in Path(os.environ[VARIABLE]).read_text().splitlines()]
    targets = [line for line in lines if "what" in line]
    missed = [line for line in targets if not line["met"]]
    print(f"\nAll targets: {len(targets) - len(missed)} met, {len(missed)} missed")
    for line in targets:
        verdict = "met" if line["met"] else "MISSED"
        print(f"  {verdict:8}{line['what'].strip():72}{line['figure']:>42}  of {line['target']}")
    if rows := [line["row"] for line in lines if "row" in line]:
        print("\nFor the README:\n\n| | deployer | beside it |\n|---|---|---|")
        for row in rows:
            print(f"| {' | '.join(row)} |")


def _write(line: dict[str, object]) -> None:
    if path := os.environ.get(VARIABLE):
        with Path(path).open("a") as file:
            file.write(json.dumps(line) + "\n")
