"""The house stands: floors import downwards only, and each outside library has its own door."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

HOUSE = Path(__file__).resolve().parent.parent
FLOORS = {
    "people": {"people"},
    "servers": {"servers", "people"},
    "projects": {"projects", "servers", "people"},
    "deployer": {"deployer", "projects", "servers", "people"},
}
#: Library: the files that may import it. Everybody else asks those.
DOORS = {
    "paramiko": {"servers/ssh/shell.py"},
    "rq": {"deployer/queue/jobs.py", "deployer/queue/worker.py"},
    "django_rq": {"deployer/queue/jobs.py", "deployer/queue/worker.py"},
}


def _modules() -> list[Path]:
    return sorted(path for floor in FLOORS for path in (HOUSE / floor).rglob("*.py"))


def _imports(path: Path) -> Iterator[str]:
    """The dotted names that a file imports, wherever in it, relative ones made whole."""
    package = path.relative_to(HOUSE).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(HOUSE)))
def test_a_module_imports_from_its_own_floor_and_those_below(path: Path) -> None:
    allowed = FLOORS[path.relative_to(HOUSE).parts[0]]
    upwards = sorted(name for name in _imports(path) if (top := name.split(".")[0]) in FLOORS and top not in allowed)
    assert not upwards, f"{path.relative_to(HOUSE)} imports from a floor above it"


@pytest.mark.parametrize("library", DOORS)
def test_a_library_is_imported_by_its_own_files_only(library: str) -> None:
    users = {
        str(path.relative_to(HOUSE))
        for path in _modules()
        if library in {name.split(".")[0] for name in _imports(path)}
    }
    assert users <= DOORS[library]


@pytest.mark.parametrize("floor", FLOORS)
def test_models_import_neither_shells_nor_jobs_nor_pages(floor: str) -> None:
    active = {"shell", "ssh", "supervised", "queue", "views", "web", "engine"}
    files = [
        path
        for path in _modules()
        if path.is_relative_to(HOUSE / floor / "models") or path == HOUSE / floor / "models.py"
    ]
    assert files
    assert not [name for path in files for name in _imports(path) if active & set(name.split(".")[1:2])]


def test_no_module_has_a_name_that_says_nothing() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "misc"}
    assert not [path for path in _modules() if path.stem in vague or path.parent.name in vague]


def test_every_test_that_a_guarantee_names_is_there() -> None:
    text = (HOUSE / "docs" / "guarantees.md").read_text()
    named = re.findall(r"`(tests/[^`:]+)::([^`]+)`", text)
    assert named
    assert not [
        f"{path}::{name}" for path, name in named if not re.search(rf"^def {name}\(", (HOUSE / path).read_text(), re.M)
    ]
