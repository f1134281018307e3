"""The API keeps to its own description, whatever is sent: data that fits it, and data that does not."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from people.models import ApiToken, FailureCount
from servers.models import ServerGroup
from tests.factories import make_deployment, make_group, make_project, make_server, make_user
from tests.marks import rarely

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]

#: Endpoints that are described.
OPERATIONS = 194
#: Requests of each kind to each endpoint.
EXAMPLES = 4
#: A launch keeps rules that no description can hold: whether there is such a release, who is in the way.
HAS_RULES = {"POST", "PATCH"}


@pytest.fixture
def application() -> Iterator[WSGIHandler]:
    """The site as a web server calls it, but that it leaves the test's own connection open."""
    signals = (request_started, request_finished)
    for signal in signals:
        signal.disconnect(close_old_connections)
    yield WSGIHandler()
    for signal in signals:
        signal.connect(close_old_connections)


@pytest.fixture
def api_schema(application: WSGIHandler, settings: Any) -> Any:
    """The description, as somebody with a token gets it, of a site that has one of everything; and their headers."""
    settings.ALLOWED_HOSTS = ["*"]
    row = ApiToken(name="ci", user=make_user("ci"))
    token = row.renew()
    row.save()
    it = make_deployment(make_project(), make_group(make_server()))
    it.request_cancel()
    ServerGroup.objects.all().delete()  # none that a launch could be made to: no server is asked
    headers = {"Authorization": f"Bearer {token}", "Accept-Encoding": "identity"}
    schema = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", application, headers=headers)
    schema.config.update(headers=headers)
    return schema, headers


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, rarely(GenerationMode.NEGATIVE)])
def test_every_answer_is_one_that_the_description_has(api_schema: Any, mode: GenerationMode) -> None:
    schema, headers = api_schema
    asked, takes_nothing = [], []
    for found in schema.get_all_operations():
        operation = found.ok()
        asked.append(operation.label)

        @effort(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: Any) -> None:
            FailureCount.objects.all().delete()  # wrong tokens are sent too: else they are soon too many
            excluded = [positive_data_acceptance] if case.method in HAS_RULES else []
            case.call_and_validate(headers=headers, excluded_checks=excluded)

        try:
            check()
        except Unsatisfiable:
            takes_nothing.append(operation.label)
    assert len(asked) == OPERATIONS
    assert takes_nothing == ([] if mode is GenerationMode.POSITIVE else ["GET /api/v1/version"])
