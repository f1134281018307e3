"""Servers and groups of an Ansible inventory, INI or YAML: hosts, ranges, children, and the variables of the link."""

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
from servers.imports.openssh import jumps_of, jumps_of_command

MAX_DEPTH = 40
#: Variables that say how a server is reached, by all of their names.
_VARIABLES = {
    "ansible_host": "host",
    "ansible_ssh_host": "host",
    "ansible_port": "port",
    "ansible_ssh_port": "port",
    "ansible_user": "user",
    "ansible_ssh_user": "user",
    "ansible_private_key_file": "key_file",
    "ansible_ssh_private_key_file": "key_file",
    "ansible_ssh_common_args": "common_args",
    "ansible_ssh_extra_args": "extra_args",
    "ansible_connection": "connection",
}
_SECRETS = {"ansible_password", "ansible_ssh_pass", "ansible_ssh_password", "ansible_ssh_private_key_passphrase"}
_SECTION = re.compile(r"\[([^:\]\s]+)(?::([a-z]+))?\]\s*(?:[#;].*)?\Z")
_RANGE = re.compile(r"\[([0-9]{1,9}|[A-Za-z]):([0-9]{1,9}|[A-Za-z])(?::([0-9]{1,9}))?\]")
_BUILT_IN = ("all", "ungrouped")


@dataclass
class _Group:
    hosts: dict[str, None] = field(default_factory=dict)
    children: dict[str, None] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)


class _Inventory:
    """An inventory while it is read."""

    def __init__(self) -> None:
        self.hosts: dict[str, dict[str, str]] = {}
        self.groups: dict[str, _Group] = {}
        self.listing = Listing()
        self.expanded = 0

    def group(self, name: str) -> _Group:
        if name not in self.groups and len(self.groups) >= MAX_GROUPS + len(_BUILT_IN):
            raise UnreadableListingError(_("There are more than %d groups in it. Import them in parts.") % MAX_GROUPS)
        return self.groups.setdefault(name, _Group())

    def add_hosts(self, group: str, pattern: str, values: dict[str, str], line: int = 0) -> None:
        """The servers that a pattern such as ``web[01:10].example.com`` names, as members of a group."""
        members = self.group(group).hosts
        for name in self.names(pattern, line):
            self.hosts.setdefault(name, {}).update(values)
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
        elif name in _VARIABLES:
            values[_VARIABLES[name]] = value

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
        for host, own in self.hosts.items():
            values: dict[str, str] = {}
            for name in sorted(groups_of.get(host, set()) | {"all"}, key=lambda name: (depth.get(name, 0), name)):
                values |= self.groups[name].values if name in self.groups else {}
            self.listing.servers.append(_found(host, values | own))
        self._collect_groups(order)
        return self.listing

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
    return read_yaml(text) if is_yaml(text, file_name) else read_ini(text)


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
            inventory.variable(inventory.group(name).values, key.strip(), _unquoted(value.strip()))
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
    pattern, values = words[0], dict[str, str]()
    if port := re.fullmatch(r"((?:[^:\[]|\[[^\]]*\])*):(\d{1,5})", pattern):
        pattern = port[1]
        values["port"] = port[2]
    for word in words[1:]:
        name, _equals, value = word.partition("=")
        inventory.variable(values, name, value)
    inventory.add_hosts(group, pattern, values, line)


def _unquoted(value: str) -> str:
    """The value without the pair of quotation marks around it."""
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value


class _Loader(yaml.BaseLoader):
    """Texts, lists and dicts only. Anchors could make a small file huge, so none is followed."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise UnreadableListingError(
                _("References to anchors (*name) are not followed. Write out the values instead.")
            )
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
    if not isinstance(tree, dict):
        raise UnreadableListingError(_("It is not an inventory: the names of groups are expected at its top."))
    inventory = _Inventory()
    for name, node in tree.items():
        _yaml_group(inventory, str(name), node)
    return inventory.finished()


def _yaml_group(inventory: _Inventory, name: str, node: Any) -> None:
    group = inventory.group(name)
    for key, value in _entries(inventory, name, node):
        if key == "vars":
            for variable, text in _entries(inventory, name, value):
                inventory.variable(group.values, variable, text if isinstance(text, str) else "")
        elif key == "hosts":
            for pattern, variables in _entries(inventory, name, value):
                values: dict[str, str] = {}
                for variable, text in _entries(inventory, pattern, variables):
                    inventory.variable(values, variable, text if isinstance(text, str) else "")
                inventory.add_hosts(name, pattern, values)
        elif key == "children":
            for child, below in _entries(inventory, name, value):
                group.children[child] = None
                _yaml_group(inventory, child, below)
        else:
            inventory.listing.note(
                _("“%(key)s” of “%(name)s” was left out.") % {"key": visible(key), "name": visible(name)}
            )


def _entries(inventory: _Inventory, name: str, node: Any) -> list[tuple[str, Any]]:
    """The entries of a mapping; nothing stands for an empty one."""
    if node in ("", "null", "~", None):
        return []
    if isinstance(node, dict):
        return [(str(key), value) for key, value in node.items()]
    inventory.listing.note(_("The content below “%s” was left out: it is not a mapping.") % visible(name))
    return []


def _span(low: str, high: str, step: str) -> list[str]:
    """The values of a range ``[low:high:step]``, both ends included; a leading zero keeps the width."""
    stride = int(step or 1)
    if stride < 1 or low.isdigit() != high.isdigit():
        return []
    if not low.isdigit():
        first, last = ascii_letters.index(low), ascii_letters.index(high)
        return [*ascii_letters[first : last + 1 : stride]]
    width = len(low) if low.startswith("0") else 0
    numbers = range(int(low), int(high) + 1, stride)
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


def _found(name: str, values: dict[str, str]) -> Found:
    found = Found(name, values.get("host", name), values.get("port", ""), values.get("user", ""))
    found.key_file = values.get("key_file", "")
    connection = values.get("connection", "ssh")
    if connection not in {"ssh", "smart", "paramiko", "paramiko_ssh", "ssh_connection"}:
        found.problem = _("it is not reached over SSH (ansible_connection is %s)") % visible(connection)
    if any("{{" in value or "{%" in value for value in values.values()):
        found.problem = _("one of its variables is a template, which only Ansible can fill in")
        return found
    for arguments in (values.get("common_args", ""), values.get("extra_args", "")):
        jumps = _jumps_in(arguments)
        if jumps is None:
            found.problem = _("it is reached by “%s”, which is not a jump host") % visible(arguments)
        elif jumps and not found.jumps:
            found.jumps = jumps
    return found


def _jumps_in(arguments: str) -> list[str] | None:
    """The hops in arguments of ssh: ``-J``, ``-o ProxyJump=``, ``-o ProxyCommand=``; nothing for another command."""
    try:
        words = shlex.split(arguments)
    except ValueError:
        return None
    rest = iter(words)
    for word in rest:
        if word[:2] == "-J":
            return jumps_of(word[2:] or next(rest, ""))
        if word[:2] != "-o":
            continue
        key, _equals, value = (word[2:] or next(rest, "")).partition("=")
        if key.strip().lower() == "proxyjump":
            return [] if value.strip().lower() == "none" else jumps_of(value)
        if key.strip().lower() == "proxycommand":
            return [] if value.strip().lower() == "none" else jumps_of_command(value)
    return []
