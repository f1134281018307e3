"""No page asks the database more often when there is more to show."""

from typing import Any

import pytest
from django.db import connection
from django.http import StreamingHttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext

from deployer.web.drawing import forget_drawings
from tests.factories import make_user
from tests.site import LEAD_ELSEWHERE, NOT_PAGES, PAGES, World, address_of, names


def queries_of(client: Client, name: str, world: World) -> list[str]:
    """What a page asks of the database, with nothing kept of what was drawn for others."""
    forget_drawings()
    with CaptureQueriesContext(connection) as queries:
        answer: Any = client.get(address_of(name, world))
        if isinstance(answer, StreamingHttpResponse):
            answer.getvalue()
    assert answer.status_code == (302 if name in LEAD_ELSEWHERE else 200), name
    return [query["sql"] for query in queries]


def test_every_page_is_listed() -> None:
    assert names() == PAGES.keys() | NOT_PAGES.keys()


@pytest.mark.django_db
@pytest.mark.any_database
def test_no_page_asks_the_database_more_often_when_there_is_more_to_show() -> None:
    client = Client()
    client.force_login(make_user())
    world = World()
    for name in PAGES:
        queries_of(client, name, world)  # what is asked once in a process
    few = {name: queries_of(client, name, world) for name in PAGES}
    for _round in range(4):
        world.grow()
    many = {name: queries_of(client, name, world) for name in PAGES}
    more = [name for name in PAGES if len(few[name]) != len(many[name])]
    assert not more, {name: [len(few[name]), len(many[name]), *(sql[:300] for sql in many[name][-6:])] for name in more}
