"""Marks of cases: which are run where."""

from typing import Any

import pytest


def rarely(*values: Any) -> Any:
    """A case that `make long` alone runs: others of its test are run for each change."""
    return pytest.param(*values, marks=pytest.mark.long)
