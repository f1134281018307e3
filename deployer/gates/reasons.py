"""Reasons that people give, as they are kept and shown beside what was decided: one line, with nothing hidden in it."""

from deployer.models import LONGEST_REASON
from servers.sentences import told


def said(text: str) -> str:
    """``text`` without line breaks and what shows nothing or turns text round, cut to what is kept of a reason."""
    return " ".join(told(text).split())[:LONGEST_REASON].rstrip()
