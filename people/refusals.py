"""Why something cannot be done, in a sentence for whoever asked."""


class RefusedError(Exception):
    """It was not done; its text says why, and what to do instead. ``address`` is the page for that, if there is one."""

    address: str = ""
