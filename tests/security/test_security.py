"""A short form of the table of attacks; `make security` runs all of it."""

import pytest

from tests.security.matrix import unlisted
from tests.security.table import carry_out, table

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("each", [each for each in table() if each.short], ids=str)
def test_an_attack_is_refused(each, queue_server):
    outcome = carry_out(each)
    if outcome.not_run:
        pytest.skip(outcome.not_run)
    assert not outcome.through


def test_it_is_listed_for_every_address_who_may_ask_for_it():
    assert not unlisted()


def test_each_attack_has_a_name_of_its_own():
    names = [str(each) for each in table()]
    assert len(set(names)) == len(names)
