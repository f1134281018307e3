"""What real programs print on a terminal of 200 columns is shown as that terminal shows it; pyte is the terminal.

`tests.parts.recording` makes the recordings.
"""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pyte
import pytest

from deployer.log.lines import LineSplitter
from deployer.log.masking import Masker
from deployer.log.screen import COLUMNS

_RECORDINGS = {path.stem: path.read_bytes() for path in (Path(__file__).parent / "recordings").glob("*.tty")}
#: Their cursor moves up to lines that are in the log already, and these stay: each state of them is in the log, and is
#: compared alone. Whatever their terminal shows at the end is in the log all the same.
_GO_UP = {
    "apt-fancy",
    "jest",
    "listr",
    "pnpm-install",
    "rich-many",
    "rich-table",
    "tqdm-nested",
    "vitest",
}

Cells = list[tuple[Any, ...]]
Each = TypeVar("Each")


class _Terminal(pyte.Screen):
    """Knows which of its rows go on with the line above. The last of them is at its lower edge: nothing is below.

    What is erased has no colour here. A terminal fills it with the background up to its right edge; a log has none.
    """

    def __init__(self, text: str) -> None:
        super().__init__(COLUMNS, 600)
        self._is_drawing = False
        self._lowest = 0
        self._continued: set[int] = set()
        stream = pyte.Stream(self)
        stream.use_utf8 = False  # else it does not know the characters that draw frames
        stream.feed(text)

    def draw(self, data: str) -> None:
        self._is_drawing = True
        for character in data:  # one at a time: it forgets what is behind a selector of variants
            super().draw(character)
        self._is_drawing = False

    def linefeed(self) -> None:
        self.cursor.x, self.cursor.y = 0, self.cursor.y + 1
        self._lowest = max(self._lowest, self.cursor.y)
        (self._continued.add if self._is_drawing else self._continued.discard)(self.cursor.y)

    def cursor_down(self, count: int | None = None) -> None:
        self.cursor.y = min(self.cursor.y + (count or 1), self._lowest)

    def erase_in_line(self, how: int = 0, private: bool = False) -> None:
        self._uncoloured(super().erase_in_line, how)

    def erase_in_display(self, how: int = 0, *_rest: Any, **_words: Any) -> None:
        self._uncoloured(super().erase_in_display, how)

    def erase_characters(self, count: int | None = None) -> None:
        self._uncoloured(super().erase_characters, count)

    def _uncoloured(self, erase: Callable[..., None], *how: int | None) -> None:
        attributes, self.cursor.attrs = self.cursor.attrs, self.default_char
        erase(*how)
        self.cursor.attrs = attributes

    def written(self) -> list[Cells]:
        """The cells of each line, without what is untouched at its end, up to the last that has any."""
        found: list[Cells] = []
        blank = tuple(self.default_char)
        for y in range(max(self.buffer, default=-1) + 1):
            row = [tuple(self.buffer[y][x]) for x in range(COLUMNS)]
            if y in self._continued:
                found[-1] += row
            else:
                found.append(row)
        return _ended([_ended(line, blank) for line in found], [])


def _ended(found: list[Each], nothing: Each) -> list[Each]:
    while found and found[-1] == nothing:
        found.pop()
    return found


def _logged(data: bytes, size: Callable[[], int]) -> list[str]:
    """The lines that the log has of it, where it comes in pieces of these sizes."""
    splitter, found = LineSplitter(Masker(["a secret that nobody prints"])), []
    while data:
        most = size()
        found += splitter.feed(data[:most])
        data = data[most:]
    return found + splitter.finish()


def _cells(line: str) -> Cells:
    return next(iter(_Terminal(line).written()), [])


def _text(cells: Cells) -> str:
    return "".join(cell[0] for cell in cells).rstrip()


@pytest.mark.parametrize("name", sorted(_RECORDINGS))
def test_what_a_real_program_prints_is_shown_as_a_terminal_shows_it(name: str) -> None:
    data = _RECORDINGS[name]
    lines = _logged(data, lambda: len(data))
    found = [_cells(line) for line in lines]
    terminal = _Terminal(data.decode(errors="replace")).written()
    if name in _GO_UP:
        assert {_text(line) for line in terminal} <= {_text(line) for line in found}
        printed = data.decode(errors="replace").split("\n")
        assert found == [_cells(line) for line in printed[: len(found)]]
    else:
        assert _ended(found, []) == terminal
    chance = random.Random(name)
    assert _logged(data, lambda: chance.randint(1, 7)) == lines
    assert _logged(data, lambda: chance.randint(1, 400)) == lines
