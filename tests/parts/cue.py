"""A place in a script at which it waits until the test says so, in whatever time either of them needs."""

from pathlib import Path

from tests.parts.programs import wait_until


class Cue:
    """Its text is the shell text that waits: ``f"echo begun; {cue}; echo ended"``."""

    def __init__(self, folder: Path, name: str = "cue") -> None:
        self._reached = folder / f"{name}-reached"
        self._given = folder / f"{name}-given"

    def __str__(self) -> str:
        return f"touch {self._reached}; until [ -e {self._given} ]; do sleep 0.02; done"

    @property
    def is_reached(self) -> bool:
        return self._reached.exists()

    def wait(self) -> None:
        """Return when a script waits here."""
        wait_until(self._reached.exists, f"a script to reach {self._reached}")

    def give(self) -> None:
        """Let whoever waits here go on, and whoever comes here later pass."""
        self._given.touch()
