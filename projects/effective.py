"""Which value of a variable counts where: the precedence of all that gives one, as plain values. Nothing here asks.

answer at launch > server > group > project. In one place its own value counts before one of an attached set, and of the
sets the one that was attached last; then one for the build or the servers alone before one for both. Two groups of one
server that give different values of a name are a `Clash`, unless the server has a value of its own.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from projects.frozen import read_back

#: The scopes of a value, and those that a build or a script on a server reads: the first of them wins.
BUILD, DEPLOY, BOTH = "build", "deploy", "both"
_READ = {BUILD: (BUILD, BOTH), DEPLOY: (DEPLOY, BOTH)}
#: What gives a value.
ANSWER, SERVER, GROUP, SET, PROJECT = "answer", "server", "group", "set", "project"


@dataclass(frozen=True)
class Value:
    """A value of a variable. ``of_set`` is the name of the set that it comes from, if it does.

    With a ``source`` it is had from outside once for each deployment, and is empty here.
    """

    name: str
    value: str
    is_secret: bool
    scope: str
    of_set: str = ""
    source: str = ""

    @property
    def content(self) -> tuple[str, str]:
        """What makes it another one."""
        return self.value, self.source


@dataclass(frozen=True)
class Layer:
    """The values of one group or one server, and the ids of the ``servers`` on which they count."""

    kind: str
    number: int
    name: str
    servers: tuple[int, ...]
    values: tuple[Value, ...]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Layer":
        """Read back what `asdict` gave."""
        values = tuple(read_back(Value, row) for row in data["values"])
        return read_back(cls, {**data, "servers": tuple(data["servers"]), "values": values})


@dataclass(frozen=True)
class Origin:
    """What gives a value: its kind, and the name of the group, the server or the set."""

    kind: str
    name: str = ""


@dataclass(frozen=True)
class Effective:
    """A value that counts, and where it comes from."""

    value: Value
    origin: Origin


@dataclass(frozen=True)
class Clash:
    """Two groups of ``server`` that give it different values of ``name``."""

    name: str
    server: int
    groups: tuple[str, str]


@dataclass(frozen=True)
class Values:
    """All values of a launch: those that count everywhere, the differences of groups and then of servers, the answers.

    It grows with what is given, not with the servers on which it counts.
    """

    common: tuple[Value, ...] = ()
    layers: tuple[Layer, ...] = ()
    answers: tuple[Value, ...] = ()

    def everywhere(self, scope: str) -> dict[str, Effective]:
        """What counts where no group and no server has a value of its own, by name."""
        return self._counting(scope, ())

    def on(self, server: int | None, scope: str = DEPLOY) -> dict[str, Effective]:
        """What counts on a server, by its id."""
        return self._counting(scope, self._by_server.get(server, ()) if server is not None else ())

    def every(self) -> Iterator[Value]:
        """Each of them, also those that count nowhere."""
        yield from self.common
        for layer in self.layers:
            yield from layer.values
        yield from self.answers

    @cached_property
    def sourced(self) -> tuple[Value, ...]:
        """Those of them that are had from outside."""
        return tuple(each for each in self.every() if each.source)

    def alike(self, servers: Iterable[int]) -> dict[tuple[int, ...], list[int]]:
        """``servers`` by the layers that count on them: those of one entry have the same values."""
        found: dict[tuple[int, ...], list[int]] = {}
        places = {id(layer): index for index, layer in enumerate(self.layers)}
        for server in servers:
            layers = self._by_server.get(server, ())
            found.setdefault(tuple(places[id(layer)] for layer in layers), []).append(server)
        return found

    @cached_property
    def _by_server(self) -> dict[int, list[Layer]]:
        found: dict[int, list[Layer]] = {}
        for layer in sorted(self.layers, key=lambda layer: layer.kind == SERVER):
            for server in layer.servers:
                found.setdefault(server, []).append(layer)
        return found

    def _counting(self, scope: str, layers: Iterable[Layer]) -> dict[str, Effective]:
        found = {
            name: Effective(value, Origin(SET, value.of_set) if value.of_set else Origin(PROJECT))
            for name, value in winners(self.common, scope).items()
        }
        for layer in layers:
            for name, value in winners(layer.values, scope).items():
                known = found.get(name)
                # Of two groups that give the same, a secret stays one.
                if known is None or not (known.origin.kind == layer.kind == GROUP and known.value.is_secret):
                    found[name] = Effective(value, Origin(layer.kind, layer.name))
        answers = winners(self.answers, scope)
        return found | {name: Effective(value, Origin(ANSWER)) for name, value in answers.items()}


@dataclass(frozen=True)
class Given:
    """All that a project is given: its own values, those of its sets in the order in which they were attached, and
    those of its groups and servers by their ids. ``members`` are the servers of each group that counts.
    """

    own: Sequence[Value] = ()
    sets: Sequence[Sequence[Value]] = ()
    groups: Mapping[int, Sequence[Value]] = field(default_factory=dict)
    servers: Mapping[int, Sequence[Value]] = field(default_factory=dict)
    members: Mapping[int, Collection[int]] = field(default_factory=dict)
    names: Mapping[tuple[str, int], str] = field(default_factory=dict)

    def values(self, servers: Collection[int], answers: Iterable[Value] = ()) -> Values:
        """What counts on ``servers``. A group that does not count, or has none of them, leaves nothing."""
        layers = [*self._layers(GROUP, self.groups, servers), *self._layers(SERVER, self.servers, servers)]
        return Values(common(self.own, self.sets), tuple(layers), tuple(answers))

    @property
    def placed(self) -> set[int]:
        """The ids of all servers on which anything but what counts everywhere does."""
        return {*self.servers, *(server for group in self.groups for server in self.members.get(group, ()))}

    def clashes(self, servers: Collection[int] | None = None, answered: Collection[str] = ()) -> list[Clash]:
        """The names of which two groups of a server give different values: one server for each two groups.

        Of all servers, or those of ``servers``. What was ``answered`` is the same on all of them.
        """
        found: dict[tuple[str, int, int], Clash] = {}
        by_group = {number: winners(values, DEPLOY) for number, values in self.groups.items() if values}
        own = {number: winners(values, DEPLOY) for number, values in self.servers.items()}
        seen: dict[tuple[int, str], int] = {}
        for group, values in by_group.items():
            for server in sorted(self.members.get(group, ())):
                if servers is not None and server not in servers:
                    continue
                for name, value in values.items():
                    if name in answered or name in own.get(server, ()):
                        continue
                    other = seen.setdefault((server, name), group)
                    if by_group[other][name].content != value.content:
                        both = (self.names.get((GROUP, other), ""), self.names.get((GROUP, group), ""))
                        found.setdefault((name, other, group), Clash(name, server, both))
        return list(found.values())

    def _layers(self, kind: str, given: Mapping[int, Sequence[Value]], servers: Collection[int]) -> Iterator[Layer]:
        wanted = {*servers}
        for number, values in given.items():
            here = {number} if kind == SERVER else {*self.members.get(number, ())}
            if values and (counting := wanted & here):
                name = self.names.get((kind, number), "")
                yield Layer(kind, number, name, tuple(sorted(counting)), tuple(values))


def winners(values: Iterable[Value], scope: str) -> dict[str, Value]:
    """Of the values that are given in one place the one of each name that counts for ``scope``."""
    read = _READ[scope]
    found: dict[str, Value] = {}
    for value in values:
        known = found.get(value.name)
        if value.scope in read and (known is None or read.index(value.scope) < read.index(known.scope)):
            found[value.name] = value
    return found


def common(own: Iterable[Value], sets: Sequence[Iterable[Value]]) -> tuple[Value, ...]:
    """Of a project's own values and those of its sets the ones that count for the build or for scripts, by name.

    Of each name at most two are left, and the one for the scope alone is the one that counts there.
    """
    kept: set[Value] = set()
    for scope in (BUILD, DEPLOY):
        counting: dict[str, Value] = {}
        for place in [*sets, own]:
            counting |= winners(place, scope)
        kept |= {*counting.values()}
    return tuple(sorted(kept, key=lambda value: (value.name, value.scope)))


def layers_to_json(layers: Iterable[Layer]) -> list[dict[str, Any]]:
    """The form that a plan stores; `Layer.from_json` reads it."""
    return [asdict(layer) for layer in layers]
