"""Marks of cases: which are run where."""

from typing import Any

import pytest


def rarely(*values: Any) -> Any:
    """A case that `make long` alone runs: others of its test are run for each change."""
    return pytest.param(*values, marks=pytest.mark.long)


def on_each_database(*values: Any) -> Any:
    """A case that is run on each kind of database, where the other cases of its test are run on one."""
    return pytest.param(*values, marks=pytest.mark.every_case)
