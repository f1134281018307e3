"""Which value of a variable counts on which server: the whole table of precedences, and what must hold for any."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from itertools import product

import pytest
from hypothesis import given as holds_for
from hypothesis import strategies as st

from projects.effective import (
    ANSWER,
    BOTH,
    BUILD,
    DEPLOY,
    GROUP,
    PROJECT,
    SERVER,
    SET,
    Clash,
    Given,
    Layer,
    Origin,
    Value,
    Values,
)

#: What may give the one variable of the table, the strongest first, and what the server then sees.
_PLACES = ["answer", "server", "group", "own", "last set", "first set"]
_ORIGINS = {
    "answer": Origin(ANSWER),
    "server": Origin(SERVER, "web-1"),
    "group": Origin(GROUP, "web"),
    "own": Origin(PROJECT),
    "last set": Origin(SET, "last"),
    "first set": Origin(SET, "first"),
}


def _value(value: str, scope: str = BOTH, of_set: str = "", name: str = "X") -> Value:
    return Value(name, value, False, scope, of_set)


def _rows() -> Iterator[tuple[dict[str, tuple[str, ...]], str]]:
    """Every combination of places that give it or do not, each for the scope alone, for both, or with both kinds."""
    kinds: list[tuple[str, ...]] = [(), (BOTH,), (DEPLOY,), (BOTH, DEPLOY)]
    for chosen in product(kinds, repeat=len(_PLACES)):
        given = dict(zip(_PLACES, chosen, strict=True))
        if len(given["answer"]) < 2:  # a name is asked for once
            yield given, next((place for place in _PLACES if given[place]), "")


def _given(scopes: dict[str, tuple[str, ...]]) -> tuple[Values, Given]:
    def values(place: str) -> list[Value]:
        of_set = place.removesuffix(" set") if place.endswith("set") else ""
        return [_value(f"{place} {scope}", scope, of_set) for scope in scopes[place]]

    given = Given(
        own=values("own"),
        sets=[values("first set"), values("last set")],
        groups={7: values("group")},
        servers={1: values("server")},
        members={7: [1, 2]},
        names={(GROUP, 7): "web", (SERVER, 1): "web-1"},
    )
    return given.values([1], values("answer")), given


def test_the_table_of_precedences_holds_in_every_row() -> None:
    count = 0
    for scopes, place in _rows():
        count += 1
        values, _whole = _given(scopes)
        found = values.on(1).get("X")
        if not place:
            assert found is None
            continue
        scope = DEPLOY if DEPLOY in scopes[place] else BOTH
        assert found is not None, scopes
        assert (found.value.value, found.origin) == (f"{place} {scope}", _ORIGINS[place]), scopes
    assert count == 3 * 4**5


def test_the_build_reads_no_value_of_a_group_or_a_server() -> None:
    given = Given(own=[_value("all")], groups={7: [_value("g")]}, servers={1: [_value("s")]}, members={7: [1]})
    values = given.values([1])
    assert values.everywhere(BUILD)["X"].value.value == "all"
    assert values.on(1)["X"].value.value == "s"


@pytest.mark.parametrize("scope", [BUILD, DEPLOY])
def test_an_own_value_for_both_counts_before_one_of_a_set_for_the_scope_alone(scope: str) -> None:
    values = Given(own=[_value("own")], sets=[[_value("set", scope, "s")]]).values([])
    assert values.everywhere(scope)["X"].value.value == "own"


def test_two_groups_that_differ_clash_and_name_both() -> None:
    given = Given(
        groups={7: [_value("a")], 8: [_value("b", DEPLOY)]},
        members={7: [1, 2], 8: [2, 3]},
        names={(GROUP, 7): "web", (GROUP, 8): "eu"},
    )
    assert given.clashes() == [Clash("X", 2, ("web", "eu"))]
    assert given.clashes({1, 3}) == []
    assert given.clashes(answered={"X"}) == []


def test_the_same_value_of_two_groups_does_not_clash_and_stays_a_secret() -> None:
    for one, other in [(True, False), (False, True)]:
        given = Given(
            groups={7: [Value("X", "a", one, BOTH)], 8: [Value("X", "a", other, BOTH)]}, members={7: [1], 8: [1]}
        )
        assert not given.clashes()
        assert given.values([1]).on(1)["X"].value.is_secret


def test_a_server_with_a_value_of_its_own_is_left_alone_by_groups_that_differ() -> None:
    given = Given(groups={7: [_value("a")], 8: [_value("b")]}, servers={1: [_value("c")]}, members={7: [1], 8: [1]})
    assert not given.clashes()
    assert given.values([1]).on(1)["X"].value.value == "c"


def test_a_group_that_does_not_count_gives_nothing() -> None:
    given = Given(own=[_value("all")], groups={7: [_value("g")]}, members={})
    assert given.values([1]).on(1)["X"].value.value == "all"


def test_what_is_frozen_grows_with_what_is_given_and_not_with_the_servers() -> None:
    servers = range(1, 501)
    given = Given(
        own=[_value("all", name=f"V{number}") for number in range(20)],
        groups={7: [_value("g", name=f"V{number}") for number in range(20)]},
        servers={number: [_value("s")] for number in servers},
        members={7: servers},
    )
    values = given.values(servers)
    frozen = json.dumps(asdict(values))
    assert len(frozen) < 500 * 200
    assert sum(1 for _each in values.every()) == 20 + 20 + 500


_names = st.sampled_from(["A", "B", "C"])
_some_values = st.lists(
    st.builds(Value, _names, st.text("xyz", max_size=2), st.booleans(), st.sampled_from([BUILD, DEPLOY, BOTH])),
    max_size=4,
    unique_by=lambda value: (value.name, value.scope),
)
_placed = st.dictionaries(st.integers(1, 3), _some_values.map(lambda all_: [v for v in all_ if v.scope != BUILD]))
_anything = st.builds(
    Given,
    own=_some_values,
    sets=st.lists(_some_values, max_size=2),
    groups=_placed,
    servers=_placed,
    members=st.dictionaries(st.integers(1, 3), st.sets(st.integers(1, 4))),
)


@holds_for(_anything)
def test_whatever_is_given_one_place_decides_and_freezing_changes_nothing(given: Given) -> None:
    values = given.values([1, 2, 3, 4])
    data = json.loads(json.dumps(asdict(values)))
    read = Values(
        tuple(Value(**row) for row in data["common"]),
        tuple(Layer.from_json(row) for row in data["layers"]),
        tuple(Value(**row) for row in data["answers"]),
    )
    clashing = {clash.name for clash in given.clashes()}
    for server in (1, 2, 3, 4):
        found = values.on(server)
        assert read.on(server) == found
        for name in "ABC":
            own = [v for v in given.servers.get(server, ()) if v.name == name]
            in_groups = [
                v
                for group, rows in given.groups.items()
                if server in given.members.get(group, ())
                for v in rows
                if v.name == name
            ]
            of_project = [v for rows in [given.own, *given.sets] for v in rows if v.name == name and v.scope != BUILD]
            source = own or in_groups or of_project
            assert (name in found) == bool(source)
            if source and name not in clashing:
                assert found[name].value.value in {v.value for v in source}
                assert found[name].origin.kind == (SERVER if own else GROUP if in_groups else found[name].origin.kind)
    for alike in values.alike([1, 2, 3, 4]).values():
        assert all(values.on(server) == values.on(alike[0]) for server in alike)
