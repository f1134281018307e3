"""Servers and groups of an Ansible inventory, INI, YAML or JSON: hosts, ranges, children, and how each is reached."""

import ast
import ipaddress
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from itertools import product
from string import ascii_letters
from typing import Any

import yaml
from django.utils.translation import gettext as _

from servers.imports.hops import LONGEST_COMMAND, Arguments, jumps_in
from servers.imports.listing import (
    MAX_GROUPS,
    MAX_MEMBERSHIPS,
    MAX_SERVERS,
    Found,
    Listing,
    UnreadableListingError,
    too_many_servers,
    visible,
)

MAX_DEPTH = 40
#: Names and values that are read of one YAML or JSON inventory: references make a small file stand for a large one.
MAX_ENTRIES = 200_000
#: Variables that say how a server is reached; of several that are set, the last one counts.
_VARIABLES = {
    "host": ("ansible_host", "ansible_ssh_host"),
    "port": ("ansible_port", "ansible_ssh_port"),
    "user": ("ansible_user", "ansible_ssh_user"),
    "key_file": ("ansible_private_key_file", "ansible_ssh_private_key_file"),
    "first_args": ("ansible_ssh_args",),
    "common_args": ("ansible_ssh_common_args",),
    "extra_args": ("ansible_ssh_extra_args",),
    "connection": ("ansible_connection",),
}
_TAKEN = frozenset(name for names in _VARIABLES.values() for name in names)
_PRIORITY = "ansible_group_priority"
_SSH = {"ssh", "smart", "paramiko", "paramiko_ssh", "ssh_connection"}
_SECRETS = {"ansible_password", "ansible_ssh_pass", "ansible_ssh_password", "ansible_ssh_private_key_passphrase"}
_VAULT = "$ANSIBLE_VAULT;"
_SECTION = re.compile(r"\[([^:\]\s]+)(?::([a-z]+))?\]\s*(?:[#;].*)?\Z")
_RANGE = re.compile(r"\[([0-9]{0,9}|[A-Za-z]):([0-9]{1,9}|[A-Za-z])(?::([0-9]{1,9}))?\]")
_ADDRESS_AND_PORT = re.compile(r"(?:\[([^\[\]]+)\]|((?:[^:\[\]]|\[[^\]]*\])*)):([0-9]+)")
_TOML = re.compile(
    r"^\[[^\[\]\n]{1,200}\.(?:hosts|vars|children)(?:\.[^\[\]\n]{0,200})?\][ \t]*\n"
    r"\s*[\w.\"-]{1,200}[ \t]*=[ \t]*[\"'\[{0-9]",
    re.MULTILINE,
)
#: Values of Python, as which those of an INI inventory are read: texts behind one another, or a number.
_TEXTS = re.compile(
    r"""(?:[uUrR]?(?:"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')[ \t]*)+(?=#|\Z)""",
)
_NUMBER = re.compile(r"([1-9][0-9]{0,17}|0)[ \t]*(?:#.*)?")
_BUILT_IN = ("all", "ungrouped")


@dataclass
class _Group:
    hosts: dict[str, None] = field(default_factory=dict)
    children: dict[str, None] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    priority: int = 1


class _Inventory:
    """An inventory while it is read."""

    def __init__(self) -> None:
        self.hosts: dict[str, dict[str, str]] = {}
        self.groups: dict[str, _Group] = {}
        self.listing = Listing()
        self.expanded = self.entries = 0

    def group(self, name: str) -> _Group:
        if name not in self.groups and len(self.groups) >= MAX_GROUPS + len(_BUILT_IN):
            raise UnreadableListingError(_("There are more than %d groups in it. Import them in parts.") % MAX_GROUPS)
        return self.groups.setdefault(name, _Group())

    def add_hosts(self, group: str, pattern: str, values: dict[str, str], line: int = 0) -> None:
        """The servers that a pattern such as ``web[01:10].example.com:2222`` names, as members of a group."""
        address, port = _address_and_port(pattern)
        for name in self.names(address, line):
            self.add_host(group, name, values, port)

    def add_host(self, group: str, name: str, values: dict[str, str], port: str = "") -> None:
        """One server as a member of a group; the port beside its name counts where it is named first."""
        members = self.group(group).hosts
        if name not in self.hosts:
            self.hosts[name] = {"ansible_port": port} if port else {}
        self.hosts[name].update(values)
        if len(self.hosts) > MAX_SERVERS:
            raise too_many_servers()
        members[name] = None

    def names(self, pattern: str, line: int) -> Iterator[str]:
        spans, number = list[list[str]](), 1
        for low, high, step in [] if "::" in pattern else _RANGE.findall(pattern):
            spans.append(_span(low, high, step))
            number *= len(spans[-1])
            self.expanded += len(spans[-1])
            if number > MAX_SERVERS or self.expanded > MAX_MEMBERSHIPS:  # before the next range is written out
                raise too_many_servers()
        if not number:
            self.listing.note(
                _("“%(text)s” was left out: its range is empty.") % {"text": visible(pattern)}
                if not line
                else _("Line %(line)d: “%(text)s” was left out: its range is empty.")
                % {"line": line, "text": visible(pattern)}
            )
            return
        self.expanded += number
        if self.expanded > MAX_MEMBERSHIPS:
            raise too_many_servers()
        pieces = _RANGE.sub("\0", pattern.replace("\0", "")).split("\0") if spans else [pattern]
        for values in product(*spans):
            yield pieces[0] + "".join(value + piece for value, piece in zip(values, pieces[1:], strict=True))

    def variable(self, values: dict[str, str], name: str, value: str) -> None:
        """Keep a variable that says how a server is reached; a secret is never kept."""
        if name in _SECRETS:
            self.listing.note(_("Passwords in the inventory are not imported. Create a credential for them."))
        elif name in _TAKEN:
            values[name] = value

    def group_variable(self, group: str, name: str, value: str) -> None:
        """Keep a variable of a group, or the group's rank among those of the same depth."""
        if name == _PRIORITY and re.fullmatch(r"\s*[-+]?[0-9]{1,9}\s*", value):
            self.group(group).priority = int(value)
        else:
            self.variable(self.group(group).values, name, value)

    def count(self, number: int) -> None:
        """Count what was read. Raises `UnreadableListingError` where it is too much."""
        self.entries += number
        if self.entries > MAX_ENTRIES:
            raise UnreadableListingError(_("There is too much in it. Import it in parts."))

    def finished(self) -> Listing:
        """The servers with the values that count for them, and the groups with all their members."""
        if not self.hosts:
            raise UnreadableListingError(_("It contains no servers."))
        parents: dict[str, set[str]] = {name: set() for name in self.groups}
        for name, group in self.groups.items():
            for child in group.children:
                parents.setdefault(child, set()).add(name)
        try:
            order = list(TopologicalSorter(parents).static_order())
        except CycleError as error:
            circle = " → ".join(visible(str(name)) for name in error.args[1][:6])
            raise UnreadableListingError(_("Its groups contain one another: %s.") % circle) from error
        above, depth = _above(order, parents)
        groups_of: dict[str, set[str]] = {}
        for name, group in self.groups.items():
            for host in group.hosts:
                groups_of.setdefault(host, set()).update(above[name])
        ranks = {name: (depth.get(name, 0), group.priority, name) for name, group in self.groups.items()}
        for host, own in self.hosts.items():
            values: dict[str, str] = {}
            named = groups_of.get(host, set()) - {*_BUILT_IN} or {"ungrouped"}
            for name in sorted((named | {"all"}) & ranks.keys(), key=ranks.__getitem__):
                values |= self.groups[name].values
            self.listing.take(self._found(host, values | own))
        self._collect_groups(order)
        return self.listing

    def _found(self, name: str, variables: dict[str, str]) -> Found:
        values = {
            meaning: next((value for each in reversed(names) if (value := variables.get(each, ""))), "")
            for meaning, names in _VARIABLES.items()
        }
        found = Found(name, values["host"] or name, values["port"], values["user"], values["key_file"])
        if any(value.startswith(_VAULT) for value in values.values()):
            found.host = name
            found.port = found.username = found.key_file = ""
            found.problem = _("one of its variables is encrypted by ansible-vault")
            return found
        connection = values["connection"] or "ssh"
        if connection.removeprefix("ansible.builtin.") not in _SSH:
            found.problem = _("it is not reached over SSH (ansible_connection is %s)") % visible(connection)
        if any("{{" in value or "{%" in value for value in values.values()):
            found.problem = _("one of its variables is a template, which only Ansible can fill in")
            return found
        self._take_arguments(found, [values["first_args"], values["common_args"], values["extra_args"]])
        return found

    def _take_arguments(self, found: Found, arguments: list[str]) -> None:
        """Take over what the arguments of ssh say; Ansible names the user and the port behind the first of them."""
        try:
            first, *others = map(shlex.split, arguments if sum(map(len, arguments)) < LONGEST_COMMAND else ["'"])
        except ValueError:
            found.problem = _("it is reached by “%s”, which is not a jump host") % visible(" ".join(arguments).strip())
            return
        begun, told = Arguments.of(first), Arguments.of([word for words in (first, *others) for word in words])
        found.port = begun.options.get("port") or found.port or told.options.get("port", "")
        found.username = begun.options.get("user") or found.username or told.options.get("user", "")
        found.host = told.options.get("hostname", found.host)
        if config := told.options.get("-F"):
            self.listing.note(
                _("“%s”, a config of ssh that the inventory names, is not followed. Import that file too.")
                % visible(config)
            )
        jumps = jumps_in(told, found)
        if jumps is None:
            found.problem = _("it is reached by “%s”, which is not a jump host") % visible(" ".join(arguments).strip())
        found.jumps = jumps or []

    def _collect_groups(self, order: list[str]) -> None:
        members: dict[str, dict[str, None]] = {}
        number = 0
        for name in reversed(order):
            group = self.groups.get(name, _Group())
            own = dict(group.hosts)
            for child in group.children:
                own |= members.get(child, {})
            members[name] = own
            number += len(own)
            if number > MAX_MEMBERSHIPS:
                raise UnreadableListingError(_("Its groups have too many members. Import them in parts."))
        for name in self.groups:
            if name not in _BUILT_IN and members[name]:
                self.listing.groups[name] = [*members[name]]


def read(text: str, file_name: str = "") -> Listing:
    """The servers and groups of an inventory; its format is told by the file's name or by its first line.

    Raises `UnreadableListingError`.
    """
    _insist_on_inventory(text, file_name)
    if text.lstrip().startswith("{"):
        try:
            tree = json.loads(text)
        except RecursionError as error:
            raise UnreadableListingError(_("It is nested too deeply.")) from error
        except ValueError:
            return read_yaml(text)
        return _read_listed(tree) if _is_listed(tree) else _read_tree(tree)
    return read_yaml(text) if is_yaml(text, file_name) else read_ini(text)


def _insist_on_inventory(text: str, file_name: str) -> None:
    """Refuse what has the words of an inventory in it, or none, and is another thing."""
    start = text.lstrip()
    if start.startswith(_VAULT):
        raise UnreadableListingError(_("It is encrypted by ansible-vault. Decrypt it first."))
    if file_name.lower().endswith(".toml") or _TOML.search(text):
        raise UnreadableListingError(
            _("Inventories in TOML are not read. Import what “ansible-inventory --list” says of it.")
        )
    if start.startswith("#!"):
        raise UnreadableListingError(_("It is a program. Import what “ansible-inventory --list” says of it."))


def is_yaml(text: str, file_name: str = "") -> bool:
    """Whether it is an inventory in YAML and not in INI."""
    ending = file_name.rpartition(".")[2].lower()
    if ending in {"yml", "yaml", "json"}:
        return True
    if ending in {"ini", "cfg"}:
        return False
    lines = (line.strip() for line in text.splitlines())
    first = next((line for line in lines if line and not line.startswith(("#", ";"))), "")
    return first.startswith(("---", "{")) or bool(re.fullmatch(r"[^\s=\[\]]+:(?:\s+[{&#!].*)?", first))


def read_ini(text: str) -> Listing:
    """An inventory in INI: ``[group]``, ``[group:children]``, ``[group:vars]``. Raises `UnreadableListingError`."""
    inventory = _Inventory()
    name, kind = "ungrouped", "hosts"
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith(("#", ";")):
            continue
        if section := _SECTION.match(line):
            name, kind = section[1], section[2] or "hosts"
            inventory.group(name)
            if kind not in {"hosts", "children", "vars"}:
                inventory.listing.note(
                    _("Line %(line)d: the section “%(text)s” was left out.") % {"line": number, "text": visible(line)}
                )
            continue
        if kind == "vars":
            key, _equals, value = line.partition("=")
            inventory.group_variable(name, key.strip(), _value(value.strip()))
            continue
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            inventory.listing.note(_("Line %(line)d was left out: a quotation mark is missing.") % {"line": number})
            continue
        if kind == "children":
            inventory.group(name).children[words[0]] = None
            inventory.group(words[0])
        elif kind == "hosts":
            _ini_host(inventory, name, words, number)
    return inventory.finished()


def _ini_host(inventory: _Inventory, group: str, words: list[str], line: int) -> None:
    values = dict[str, str]()
    for word in words[1:]:
        name, equals, value = word.partition("=")
        if not equals:
            text = {"line": line, "text": visible(word)}
            inventory.listing.note(_("Line %(line)d was left out: “%(text)s” is not a variable (name=value).") % text)
            return
        inventory.variable(values, name, _value(value))
    inventory.add_hosts(group, words[0], values, line)


def _value(text: str) -> str:
    """A value as Ansible reads it: as one of Python, where it is one, and else as it is."""
    if found := _NUMBER.fullmatch(text):
        return found[1]
    if found := _TEXTS.match(text):
        try:
            return str(ast.literal_eval(found[0].strip()))
        except (ValueError, SyntaxError):
            return text
    return text


def _address_and_port(pattern: str) -> tuple[str, str]:
    """The parts of ``host:2222`` and ``[v6]:2222``; a pattern that has no port stays as it is."""
    found = _ADDRESS_AND_PORT.fullmatch(pattern)
    if found is None:
        return pattern, ""
    if found[1] is None:
        return found[2], found[3]
    try:
        ipaddress.ip_address(found[1])
    except ValueError:
        return pattern, ""
    return found[1], found[3]


class _Loader(yaml.BaseLoader):
    """Texts, lists and dicts only. What is referred to again is the same object again, not a copy."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise UnreadableListingError(_("It is nested too deeply."))
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def read_yaml(text: str) -> Listing:
    """An inventory in YAML: groups with ``hosts``, ``children`` and ``vars``. Raises `UnreadableListingError`."""
    try:
        tree = yaml.load(text, _Loader)  # noqa: S506 (it makes texts, lists and dicts only)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise UnreadableListingError(
            _("Line %(line)d is not YAML: %(why)s.")
            % {"line": line, "why": visible(str(error.problem or error.context))}
        ) from error
    except yaml.YAMLError as error:
        raise UnreadableListingError(_("It contains characters that YAML does not allow.")) from error
    return _read_tree(tree)


def _read_tree(tree: Any) -> Listing:
    """An inventory of groups in one another, as YAML has them."""
    if not isinstance(tree, dict):
        raise UnreadableListingError(_("It is not an inventory: the names of groups are expected at its top."))
    if isinstance(tree.get("plugin"), str):
        raise UnreadableListingError(
            _("It configures the plugin “%s” and has no servers in it. Import what “ansible-inventory --list” says.")
            % visible(tree["plugin"])
        )
    inventory = _Inventory()
    for name, node in _entries(inventory, "", tree):
        _tree_group(inventory, name, node, 1)
    return inventory.finished()


def _tree_group(inventory: _Inventory, name: str, node: Any, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise UnreadableListingError(_("It is nested too deeply."))
    group = inventory.group(name)
    for key, value in _entries(inventory, name, node):
        if key == "vars":
            for variable, text in _entries(inventory, name, value):
                inventory.group_variable(name, variable, _text(text))
        elif key == "hosts":
            for pattern, variables in _named(inventory, name, value):
                inventory.add_hosts(name, pattern, _variables(inventory, pattern, variables))
        elif key == "children":
            for child, below in _named(inventory, name, value):
                group.children[child] = None
                _tree_group(inventory, child, below, depth + 1)
        else:
            inventory.listing.note(
                _("“%(key)s” of “%(name)s” was left out.") % {"key": visible(key), "name": visible(name)}
            )


def _is_listed(tree: Any) -> bool:
    """Whether it is what ``ansible-inventory --list`` and dynamic inventories say: groups beside one another."""
    if not isinstance(tree, dict):
        return False
    groups = [group for group in tree.values() if isinstance(group, dict)]
    lists = [value for group in groups for key in ("hosts", "children") if isinstance(value := group.get(key), list)]
    return "_meta" in tree or bool(lists) or len(groups) < len(tree)


def _read_listed(tree: dict[str, Any]) -> Listing:
    """The answer of a dynamic inventory; the variables of servers are in ``_meta``."""
    inventory = _Inventory()
    for name, node in _entries(inventory, "", tree):
        if name != "_meta":
            _listed_group(inventory, name, node)
    meta = tree.get("_meta")
    hostvars = meta.get("hostvars") if isinstance(meta, dict) else None
    for host, variables in _entries(inventory, "hostvars", hostvars):
        if host in inventory.hosts:
            inventory.hosts[host].update(_variables(inventory, host, variables))
    return inventory.finished()


def _listed_group(inventory: _Inventory, name: str, node: Any) -> None:
    if isinstance(node, list):
        node = {"hosts": node}
    elif isinstance(node, dict) and not node.keys() & {"hosts", "vars", "children"}:
        node = {"hosts": [name], "vars": node}
    group = inventory.group(name)
    for key, value in _entries(inventory, name, node):
        names = [each for each in value if isinstance(each, str)] if isinstance(value, list) else []
        inventory.count(len(names))
        if key == "hosts":
            for host in names:
                inventory.add_host(name, host, {})
        elif key == "children":
            for child in names:
                group.children[child] = None
                inventory.group(child)
        elif key == "vars":
            for variable, text in _entries(inventory, name, value):
                inventory.group_variable(name, variable, _text(text))


def _variables(inventory: _Inventory, name: str, node: Any) -> dict[str, str]:
    values: dict[str, str] = {}
    for variable, text in _entries(inventory, name, node):
        inventory.variable(values, variable, _text(text))
    return values


def _text(value: Any) -> str:
    """A value of YAML or JSON as text; lists, mappings and nothing are empty."""
    if isinstance(value, str):
        return "" if value in ("null", "~") else value
    return str(value) if isinstance(value, int | float) else ""


def _named(inventory: _Inventory, name: str, node: Any) -> list[tuple[str, Any]]:
    """The entries of a mapping, or one name alone."""
    if isinstance(node, str) and node not in ("", "null", "~"):
        return [(node, None)]
    return _entries(inventory, name, node)


def _entries(inventory: _Inventory, name: str, node: Any, depth: int = 1) -> list[tuple[str, Any]]:
    """The entries of a mapping, with those that it takes over from others; nothing stands for an empty one."""
    if node in ("", "null", "~", None):
        return []
    if not isinstance(node, dict):
        inventory.listing.note(_("The content below “%s” was left out: it is not a mapping.") % visible(name))
        return []
    inventory.count(len(node))
    if "<<" not in node:
        return [(str(key), value) for key, value in node.items()]
    if depth > MAX_DEPTH:
        raise UnreadableListingError(_("It is nested too deeply."))
    sources = node["<<"] if isinstance(node["<<"], list) else [node["<<"]]
    merged: dict[str, Any] = {}
    for source in sources:  # of several the last one counts, as for Ansible
        merged.update(_entries(inventory, name, source, depth + 1))
    return [*(merged | {str(key): value for key, value in node.items() if key != "<<"}).items()]


def _span(low: str, high: str, step: str) -> list[str]:
    """The values of a range ``[low:high:step]``, both ends included; a leading zero keeps the width."""
    stride = int(step or 1)
    if stride < 1 or (low or "0").isdigit() != high.isdigit():
        return []
    if not high.isdigit():
        first, last = ascii_letters.index(low), ascii_letters.index(high)
        return [*ascii_letters[first : last + 1 : stride]]
    width = len(low) if low.startswith("0") else 0
    numbers = range(int(low or 0), int(high) + 1, stride)
    if len(numbers) > MAX_SERVERS:
        raise too_many_servers()
    return [str(number).zfill(width) for number in numbers]


def _above(order: list[str], parents: dict[str, set[str]]) -> tuple[dict[str, set[str]], dict[str, int]]:
    """Of each group: itself with all groups that it is in, and how far below the top it is."""
    above: dict[str, set[str]] = {}
    depth: dict[str, int] = {"all": 0}
    for name in order:
        above[name] = {name}.union(*(above[parent] for parent in parents.get(name, ())))
        if name != "all":
            depth[name] = 1 + max((depth[parent] for parent in parents.get(name, ())), default=0)
    return above, depth
