"""A short form of the table of proofs; `make proofs` runs all of it."""

import pytest

from tests.proofs.by_kind import services
from tests.proofs.cells import Cell, run, table
from tests.proofs.logs import LogCell, logs, run_log

pytestmark = pytest.mark.django_db(transaction=True)

#: A cell of each kind of fault that needs neither a machine of its own nor much time.
SHORT = {
    "gunicorn with setproctitle · good restart · gunicorn -w 2",
    "gunicorn with setproctitle · the old one was not stopped · gunicorn -w 2",
    "node · died at import, the script starts a tail · server.js",
    "node · another one in another folder · server.js",
    "nginx · reload with a broken configuration · nginx",
    "python · died after 3 s · server.py",
    "python · loops, lives of 1.3 s · server.py",
    "python with workers · HUP · server.py",
}


#: The same of the table of services: what needs little time and few packages.
SHORT_OF_KINDS = {
    "process, by its pid file · a real restart · process {folder}/pid",
    "process, by its pid file · an exec in place · process {folder}/pid",
    "port · a restart of its own · port {port}",
    "port · a graceful drain of 25 s · port {port}",
    "supervisor · a restart of its own · supervisor -c {folder}/supervisor.conf shop",
    "process, by its words · a stop beside a second application · process server.py",
    "process, by its pid file · a restart of what is stopped · process {folder}/pid",
    "port · a stop, and its keeper starts it again · port {port}",
    "supervisor · a stop · supervisor -c {folder}/supervisor.conf shop",
    "supervisor · a stop, and its keeper starts it again · supervisor -c {folder}/supervisor.conf shop",
    "supervisor · a start of what runs · supervisor -c {folder}/supervisor.conf shop",
    "supervisor · the old one stays and serves · supervisor -c {folder}/supervisor.conf shop",
}


def chosen() -> list[Cell]:
    """The cells of the short form."""
    wanted = SHORT | SHORT_OF_KINDS
    cells = [cell for cell in (*table(), *services()) if str(cell) in wanted]
    assert {str(cell) for cell in cells} == wanted
    return cells


@pytest.mark.parametrize("cell", chosen(), ids=str)
def test_what_deployer_says_of_a_restart_is_true(cell, queue_server):
    outcome = run(cell)
    if outcome.not_run and not outcome.can_run:
        pytest.skip(outcome.not_run)
    assert not outcome.not_run
    assert not outcome.problems


#: The same of followed logs.
SHORT_OF_LOGS = {
    "log of supervisor · restarted with a fault · supervisor -c {folder}/supervisor.conf shop",
    "log of supervisor · there is no such service · supervisor -c {folder}/supervisor.conf nothere",
}


def chosen_logs() -> list[LogCell]:
    """The logs of the short form."""
    cells = [cell for cell in logs() if str(cell) in SHORT_OF_LOGS]
    assert {str(cell) for cell in cells} == SHORT_OF_LOGS
    return cells


@pytest.mark.parametrize("cell", chosen_logs(), ids=str)
def test_a_followed_log_shows_what_the_keeper_has_and_nothing_is_left(cell, queue_server):
    outcome = run_log(cell)
    if outcome.not_run and not outcome.can_run:
        pytest.skip(outcome.not_run)
    assert not outcome.not_run
    assert not outcome.problems


def test_each_cell_of_the_table_has_a_name_of_its_own():
    names = [str(cell) for cell in (*table(), *services(), *logs())]
    assert len(names) >= 60
    assert len(set(names)) == len(names)
