"""The house stands: floors and rooms import downwards only, and each outside library has its own door."""

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

HOUSE = Path(__file__).resolve().parent.parent
#: From the ground up. A floor imports from itself and from those before it.
FLOORS = ["pages", "people", "servers", "projects", "deployer"]

#: Of each floor: its rooms (a folder or a file), and the rooms of the same floor that each may import from. A name with
#: a dot is one file of a room; where it has a line of its own, that holds. What stands on a lower floor is open to all.
ROOMS: dict[str, dict[str, set[str]]] = {}

ROOMS["pages"] = {
    "forms": set(),
    "names": set(),
    "problems": set(),
    "rows": {"sorting"},
    "sorting": set(),
    "times": set(),
}
ROOMS["people"] = {
    "writes": set(),
    "roles": set(),
    "visible": set(),
    "fingerprints": set(),
    "entries": set(),
    "lending": set(),
    "now": set(),
    "statements": set(),
    "snapshots": {"fingerprints", "visible"},
    "acting": {"entries", "origin"},
    "sinks": {"entries"},
    "record": {"acting", "entries", "roles", "sinks", "snapshots", "visible"},
    "browsers": set(),
    "refusals": set(),
    "models": {"browsers", "entries", "record", "roles", "writes"},
    "rights": {"models", "roles"},
    "reading": {"entries", "rights", "roles", "visible"},
    "access": {"models", "refusals", "rights", "roles"},
    "places": {"roles"},
    "sessions": {"models", "origin", "writes"},
    "preferences": {"models", "sessions"},
    "admins": {"models", "refusals", "roles"},
    "owned": {"models", "rights", "roles"},
    "accounts": {"admins", "models", "owned", "record", "refusals", "rights", "roles", "sessions"},
    "links": {"accounts", "models", "record", "refusals", "sessions"},
    "granting": {"accounts", "admins", "models", "places", "record", "refusals", "rights", "roles"},
    "forms": {"models", "places", "preferences", "record", "recorded_forms", "rights", "roles", "sign_in"},
    "shown": {"accounts", "factors", "forms", "granting", "models", "places", "rights", "roles", "sessions"},
    "views": {
        *("access", "accounts", "factors", "forms", "granting", "links", "models", "owned", "places", "provider"),
        "record",
        *("refusals", "rights", "roles", "sessions", "shown"),
    },
    "urls": {"provider", "views"},
    "tags": {"rights", "roles"},
    "guarded_admin": {"access", "rights", "roles"},
    "meanwhile": {"acting", "entries", "snapshots"},
    "recorded_forms": {"meanwhile", "record", "snapshots"},
    "recorded_admin": {"record", "recorded_forms"},
    "admin": {"admins", "forms", "guarded_admin", "models", "record", "recorded_admin", "refusals"},
    "apps": {"factors", "provider", "sessions", "sign_in"},
    "management": {"factors", "models", "record"},
    "origin": set(),
    "hashing": set(),
    "sealing": set(),
    "counting": {"models"},
    "limits": {"hashing"},
    "sign_in": {"models", "origin", "hashing", "limits", "fingerprints", "record"},
    "factors": {"accounts", "models", "record", "rights", "roles", "sealing", "sessions"},
    "provider": {"limits", "models", "record"},
}
_MACHINES = {"binding", "errors", "fields", "hosts", "keys", "models", "pauses", "sentences", "shell", "validators"}
ROOMS["servers"] = {
    "errors": {"sentences"},
    "fields": {"validators"},
    "keys": set(),
    "hosts": set(),
    "validators": {"hosts"},
    "models": {"fields", "hosts", "keys", "sentences", "validators"},
    "binding": {"errors", "hosts", "models"},
    "belonging": {"models"},
    "pauses": set(),
    "sentences": set(),
    "shell": set(),
    "processes": {"shell"},
    "isolation": {"errors", "processes", "shell"},
    "local": {"errors", "isolation", "processes", "shell"},
    "ssh": _MACHINES,
    "supervised": {*_MACHINES, "ssh"},
    "connection": {*_MACHINES, "ssh"},
    "imports": {"binding", "models", "sentences"},
    "removal": {"models"},
    "forms": {"belonging", "binding", "models", "imports", "removal"},
    "shown": {"models", "keys", "forms", "connection"},
    "views": {"binding", "models", "keys", "forms", "imports", "connection", "removal"},
    "admin": {"binding", "models", "keys", "forms", "connection", "removal"},
    "apps": set(),
    "urls": {"views"},
}
ROOMS["projects"] = {
    "commands": set(),
    "validators": {"commands", "cron"},
    "steps": {"validators"},
    "config_files": {"commands", "steps", "validators"},
    "ready_steps": {"steps"},
    "outside": set(),
    "models": {"commands", "config_files", "dotenv", "outside", "steps", "validators"},
    "frozen": set(),
    "effective": {"frozen"},
    "questions": {"effective"},
    "answer_forms": {"questions"},
    "cron": set(),
    "given": {"effective", "models", "questions"},
    "templates": {"models"},
    "config_file_forms": {"config_files"},
    "guess": {"commands", "models"},
    "forms": {"commands", "given", "models", "ready_steps", "steps", "templates"},
    "template_forms": {"forms", "models"},
    "template_views": {"models", "template_forms", "templates"},
    "dotenv": {"validators"},
    "pasting": {"dotenv", "given", "models"},
    "variable_forms": {"dotenv", "forms", "given", "models", "outside", "pasting"},
    "shown": {"effective", "given", "models"},
    "views": {"models", "forms", "guess", "ready_steps"},
    "variable_views": {"models", "pasting", "variable_forms"},
    "admin": {"models", "forms", "templates", "variable_forms"},
    "apps": set(),
    "urls": {"template_views", "variable_views", "views"},
}
_BASE = {"models", "plan", "database", "side_by_side"}
_EVERY_ROOM_OF_DEPLOYER = {
    *_BASE,
    *("log", "releases", "repositories", "probing", "engine", "board", "queue", "launching", "declaring", "host"),
    *("playground", "api", "settings", "keyring", "gates", "archiving", "commanding", "following", "taking_over"),
    *("notices", "trains", "triggers", "watching", "ids", "upkeep"),
}
ROOMS["deployer"] = {
    "database": set(),
    "side_by_side": set(),
    "plan": set(),
    "models": set(),
    "keyring": {"models", "host.keyfiles"},
    "ids": set(),
    "watching": {*_BASE, "host.kinds", "keyring", "queue.rollcall", "queue.sending", "releases"},
    "log": _BASE,
    "releases": _BASE,
    "probing": {*_BASE, "log.masking", "log.commandlines"},
    "declaring": {*_BASE, "notices"},
    "taking_over": {"declaring"},
    "host": set(),
    "repositories": {*_BASE, "releases"},
    "engine": {*_BASE, "log", "releases", "repositories", "probing"},
    "board": {*_BASE, "log", "releases", "repositories", "probing"},
    "gates": {*_BASE, "releases", "repositories"},
    "upkeep": {*_BASE, "log", "repositories", "releases", "keyring", "gates", "trains", "triggers", "host"},
    "archiving": {*_BASE, "releases", "upkeep"},
    "commanding": {*_BASE, "gates", "queue.sending", "log", "probing.place"},
    "following": {*_BASE, "log", "queue.sending"},
    "notices": {*_BASE, "log.masking", "host.addresses"},
    "notices.outbox": {*_BASE, "notices"},  # whoever writes to it loads nothing of what sends
    "trains": {*_BASE, "gates", "launching", "releases"},
    "queue": {
        *_BASE,
        *("commanding", "following", "engine", "board", "releases", "gates", "host", "keyring", "trains", "triggers"),
        *("ids", "upkeep"),
    },
    "queue.signs": set(),
    "queue.sending": {"queue.signs"},  # the site's side: it loads nothing of what a worker runs
    "queue.job": {"queue.sending"},
    "queue.turn": {"models", "gates", "queue.sending"},  # the site calls up who is next, as a worker does
    "queue.shortage": {"queue.sending", "queue.signs"},
    "queue.rollcall": {"host.kinds", "queue.sending", "queue.signs"},
    "queue.plain": set(),
    "launching": {*_BASE, "queue.sending", "gates", "releases", "repositories", "probing"},
    "triggers": {*_BASE, "launching", "gates", "queue.sending", "releases", "repositories"},
    "playground": {*_BASE, "declaring", "host", "releases", "repositories"},
    "api": {
        *_BASE,
        *("archiving", "board.since", "commanding", "gates", "launching", "log", "notices", "queue.sending"),
        "queue.turn",
        *("releases", "probing", "trains", "triggers"),
    },
    "web": {
        *_BASE,
        *("launching", "gates", "queue.sending", "queue.shortage", "queue.turn", "board", "log", "releases"),
        *(
            "repositories",
            "notices",
            "declaring",
            "playground",
            "probing",
            "archiving",
            "commanding",
            "following",
            "trains",
        ),
        *("triggers", "watching", "ids", "queue.rollcall", "keyring", "upkeep.made"),
    },
    "management": {*_EVERY_ROOM_OF_DEPLOYER, "checks", "serving"},
    "admin": _BASE,
    "apps": {"checks", "database", "notices.outbox", "queue.plain", "releases"},
    "checks": {"host"},
    "settings": {"host"},
    "urls": {"api", "web"},
    "wsgi": {"database", "host", "keyring"},
    "serving": {"wsgi", "web.uploads", "host.listening"},
    "__main__": set(),
}

#: Library: the files and folders that may import it. Everybody else asks those.
DOORS = {
    "cronsim": ["projects/cron.py"],
    "allauth": ["people/"],
    "apprise": ["deployer/notices/kinds/other.py"],
    "paramiko": ["servers/ssh/"],
    "rq": ["deployer/queue/"],
    "django_rq": ["deployer/queue/"],
    "prometheus_client": ["deployer/watching/metrics.py"],
}


def _modules() -> list[Path]:
    return sorted(path for floor in FLOORS for path in (HOUSE / floor).rglob("*.py"))


@cache
def _imports(path: Path) -> frozenset[str]:
    """The dotted names that a file imports, wherever in it, relative ones made whole."""
    return frozenset(_found_imports(path))


def _found_imports(path: Path) -> Iterator[str]:
    package = path.relative_to(HOUSE).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            for whole in (f"{module}.{alias.name}" for alias in node.names):
                yield whole if _is_module(whole) else module


def _is_module(name: str) -> bool:
    place = HOUSE.joinpath(*name.split("."))
    return place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()


def _module_name(path: Path) -> str:
    return ".".join(path.relative_to(HOUSE).with_suffix("").parts).removesuffix(".__init__")


def _room(name: str) -> str:
    """The room of a dotted name within its floor; empty for the floor itself."""
    return name.split(".")[1] if "." in name else ""


def _relative(paths: Iterable[Path]) -> list[str]:
    return [str(path.relative_to(HOUSE)) for path in paths]


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(HOUSE)))
def test_a_module_imports_only_where_an_arrow_leads(path: Path) -> None:
    floor = path.relative_to(HOUSE).parts[0]
    below = FLOORS[: FLOORS.index(floor)]
    module = _module_name(path)
    file = ".".join(module.split(".")[1:])
    room = file if file in ROOMS[floor] else _room(module)
    allowed = ROOMS[floor].get(room)
    if "migrations" in path.parts or not room:
        allowed = set(ROOMS[floor])
    assert allowed is not None, f"{floor}/{room} is not in the table of rooms"
    for name in sorted(_imports(path)):
        top = name.split(".")[0]
        assert top in FLOORS or not _is_module(top), f"{name}: beside the house, and not part of the product"
        if top not in FLOORS or top in below:
            continue
        assert top == floor, f"{name}: a floor above"
        theirs = _room(name)
        inner = ".".join(name.split(".")[1:3])
        assert theirs in {"", room} or theirs in allowed or inner in allowed, f"{name}: no arrow leads there"


@pytest.mark.parametrize(("floor", "room"), [(floor, room) for floor, rooms in ROOMS.items() for room in rooms])
def test_a_room_of_the_table_is_there(floor: str, room: str) -> None:
    assert _is_module(f"{floor}.{room}")


def test_no_modules_import_one_another_in_a_circle() -> None:
    names = {_module_name(path): path for path in _modules()}
    below = {
        name: {found for found in _imports(path) if found in names and found != name} for name, path in names.items()
    }
    while leaves := {name for name, others in below.items() if not others & below.keys()}:
        for name in leaves:
            del below[name]
    while tops := below.keys() - {other for others in below.values() for other in others}:
        for name in tops:
            del below[name]
    assert not sorted(below)


@pytest.mark.parametrize("library", DOORS)
def test_a_library_is_imported_by_its_own_files_only(library: str) -> None:
    users = [path for path in _modules() if library in {name.split(".")[0] for name in _imports(path)}]
    assert users
    assert not [user for user in _relative(users) if not any(user.startswith(door) for door in DOORS[library])]


#: A group that gives nothing back, or an atomic one.
_KEEPS_ALL = re.compile(r"\(\?>|(?<!\\)\)(?:[*+?]|\{[0-9,]+\})\+")


def test_no_pattern_has_a_group_that_gives_nothing_back() -> None:
    """Python 3.11.2, as Debian 12 has it, goes on in the middle of the try that such a group has given up."""
    for path in _modules():
        for node in ast.walk(ast.parse(path.read_text())):
            text = node.value if isinstance(node, ast.Constant) else None
            assert not (isinstance(text, str) and _KEEPS_ALL.search(text)), f"{path}: {text}"


def test_no_module_has_a_name_that_says_nothing() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "misc"}
    assert not [path for path in _modules() if path.stem in vague or path.parent.name in vague]


@pytest.mark.parametrize("floor", ["people", "servers", "projects"])
def test_templates_of_a_floor_name_nothing_above_it_but_addresses(floor: str) -> None:
    above = re.compile(r"{% load [^%]*\bdeployments\b|[\"']deployer/[^\"']*\.html")
    templates = sorted((HOUSE / "pages" / "templates" / floor).rglob("*.html"))
    assert templates
    assert not [path.name for path in templates if above.search(path.read_text())]


def test_tags_and_filters_ask_the_database_nothing() -> None:
    libraries = [path for path in _modules() if "template.Library()" in path.read_text()]
    assert libraries
    managers = {"objects", "_default_manager", "_base_manager"}
    for path in libraries:
        asked = [node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)]
        assert not managers & set(asked), path
        assert not [name for name in _imports(path) if name.startswith("django.db")], path


def test_every_test_that_a_guarantee_names_is_there() -> None:
    text = (HOUSE / "docs" / "guarantees.md").read_text()
    named = re.findall(r"`(tests/[^`:]+)::([^`]+)`", text)
    assert named
    assert not [
        f"{path}::{name}" for path, name in named if not re.search(rf"^def {name}\(", (HOUSE / path).read_text(), re.M)
    ]
