"""What a terminal shows of a line in which the cursor was moved: the last that was written at each place.

Only such lines are drawn cell by cell. A line is all that a program prints up to its newline; one that is longer than
`COLUMNS` is on several rows of a terminal, between which the cursor can move, and becomes one line again. Lines before
it are written down already: the cursor does not reach them.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from itertools import islice
from typing import ClassVar

#: Of the terminal. Programs that are not told how wide theirs is draw for 80, few for more than this.
COLUMNS = 200
#: Numbers of a colour: an index of the palette, or red, green and blue.
_NUMBERS = {5: 1, 2: 3}
#: Parameters of a movement are no larger.
_FAR = 9999

#: A sequence that may move or erase, a rendition, a control character, or text.
_PIECE = re.compile(
    r"\x1b\[(?P<parameters>[0-9;:]{0,100})[ -/]*(?P<final>[@-~])"
    r"|\x1b(?P<escape>[78])"
    r"|(?P<control>[\x08\x09\x0d])"
    r"|(?P<text>[^\x00-\x1f\x7f-\x9f]+)"
    r"|\x1b\[[0-?]*+[ -/]*+[@-~]?|\x1b[ -/]*+[0-~]?"  # of no concern for what is seen
    r"|[\x00-\x1f\x7f-\x9f]",
)


class Pen:
    """How text is drawn: a colour of each layer, and what else was switched on. Nothing of it is a colour by name."""

    _OFF: ClassVar = {22: ("1", "2"), 23: ("3",), 24: ("4",), 25: ("5",), 27: ("7",), 28: ("8",), 29: ("9",)}

    def __init__(self, codes: str = "") -> None:
        self._codes: dict[str, str] = {}
        if codes:
            self.take(codes)

    def take(self, parameters: str) -> None:
        """Change it as the parameters of a rendition say."""
        for code in codes_of(parameters):
            number = code[0]
            if number == 0:
                self._codes.clear()
            elif number in self._OFF:
                for name in self._OFF[number]:
                    self._codes.pop(name, None)
            elif 30 <= number <= 38 or 90 <= number <= 97:
                self._codes["fg"] = ";".join(map(str, code))
            elif 40 <= number <= 48 or 100 <= number <= 107:
                self._codes["bg"] = ";".join(map(str, code))
            elif number in {39, 49}:
                self._codes.pop("fg" if number == 39 else "bg", None)
            elif 1 <= number <= 9:
                self._codes[str(5 if number == 6 else number)] = str(number)

    @property
    def codes(self) -> str:
        """The parameters that lead to it from nothing; empty where it is nothing."""
        return ";".join(self._codes[name] for name in sorted(self._codes))


def codes_of(parameters: str) -> Iterator[tuple[int, ...]]:
    """The renditions among the parameters: ``(number,)``, or a colour as ``(38, 5, index)`` or ``(38, 2, r, g, b)``."""
    parts = iter(parameters.split(";"))
    for part in parts:
        numbers = [_number(each) for each in part.split(":")]
        number = numbers[0]
        if number not in {38, 48, 58}:
            yield (24,) if number == 4 and numbers[1:2] == [0] else (number,)
            continue
        if len(numbers) == 1:  # the older form: what follows is parted as all else is
            kind = _number(next(parts, ""))
            rest = [_number(each) for each in islice(parts, _NUMBERS.get(kind, 0))]
        else:
            kind = numbers[1] if len(numbers) > 1 else 0
            rest = numbers[3:6] if kind == 2 and len(numbers) > 5 else numbers[2 : 2 + _NUMBERS.get(kind, 0)]
        if kind not in _NUMBERS or len(rest) < _NUMBERS[kind]:
            return  # not a colour, and what follows cannot be told apart from its parameters
        if number != 58:
            yield (number, kind, *rest)


def _number(text: str) -> int:
    return min(int(text), 999) if text.isascii() and text.isdigit() else 0


def drawn(text: str, pen: str = "") -> tuple[str, str]:
    """The line as a terminal shows it, with its renditions, and the pen behind it; it begins with ``pen``."""
    screen = _Screen(pen)
    for piece in _PIECE.finditer(text):
        screen.take(piece)
    return screen.shown(), screen.pen.codes


class _Screen:
    """The rows of one line. A cell is a character with all that combines with it, and its pen; None is untouched."""

    def __init__(self, pen: str) -> None:
        self.pen = Pen(pen)
        self._codes = pen
        self._cells: list[tuple[str, str] | None] = []
        self._row = self._column = 0
        self._saved = 0, 0, pen
        self._may_leave = self._is_elsewhere = False

    def take(self, piece: re.Match[str]) -> None:
        if self._is_elsewhere and piece["escape"] != "8" and piece["final"] not in {"m", "u"}:
            return
        if text := piece["text"]:
            self._write_all(text)
        elif control := piece["control"]:
            if control == "\r":
                self._column = 0
            elif control == "\b":
                self._move(-1)
            else:
                self._column = min((self._column // 8 + 1) * 8, COLUMNS - 1)
        elif escape := piece["escape"]:
            self._save() if escape == "7" else self._restore()
        elif final := piece["final"]:
            if final == "m":
                self.pen.take(piece["parameters"])
                self._codes = self.pen.codes
            elif action := _ACTIONS.get(final):
                action(self, [_number(each) for each in piece["parameters"].split(";")])

    def shown(self) -> str:
        cells = self._cells
        while cells and cells[-1] is None:
            cells.pop()
        found, codes = [], ""
        for cell in cells:
            character, own = cell or (" ", "")
            if own != codes:
                found.append(f"\x1b[{own}m" if own and not codes else f"\x1b[0;{own}m" if own else "\x1b[0m")
                codes = own
            found.append(character)
        if self._codes != codes:
            found.append(f"\x1b[0;{self._codes}m" if self._codes else "\x1b[0m")
        return "".join(found)

    @property
    def _place(self) -> int:
        return self._row * COLUMNS + self._column

    def _write_all(self, text: str) -> None:
        while text:
            if not text.isascii():
                for character in text:
                    self._write(character)
                return
            if self._column == COLUMNS:
                self._row, self._column = self._row + 1, 0
            here, text = text[: COLUMNS - self._column], text[COLUMNS - self._column :]
            self._reach(self._place)
            self._part(self._place, self._place + len(here))
            self._cells[self._place : self._place + len(here)] = [(character, self._codes) for character in here]
            self._column += len(here)

    def _write(self, character: str) -> None:
        width = _width(character)
        if width == 0:
            if self._place and self._place <= len(self._cells) and (last := self._cells[self._place - 1]):
                self._cells[self._place - 1] = last[0] + character, last[1]
            return
        if self._column + width > COLUMNS:  # a full row: only what follows goes on to the next one
            self._row, self._column = self._row + 1, 0
        self._reach(self._place + width)
        self._part(self._place, self._place + width)
        self._cells[self._place] = character, self._codes
        if width == 2:
            self._cells[self._place + 1] = "", self._codes
        self._column += width

    def _part(self, begin: int, end: int) -> None:
        """Leave a blank of each wide character of which one half is about to go."""
        for half, other in ((begin, begin - 1), (end, end)):
            if half < len(self._cells) and (cell := self._cells[half]) and not cell[0]:
                self._cells[other] = " ", cell[1]

    def _reach(self, length: int) -> None:
        self._cells += [None] * (length - len(self._cells))

    def _move(self, columns: int = 0, rows: int = 0) -> None:
        if columns:
            self._column = min(max(min(self._column, COLUMNS - 1) + columns, 0), COLUMNS - 1)
        self._row = min(max(self._row + rows, 0), max(len(self._cells) - 1, 0) // COLUMNS)

    def _to_column(self, column: int) -> None:
        self._column = min(max(column, 1), COLUMNS) - 1

    def _to_place(self, row: int, column: int = 1) -> None:
        """Go to a row of the screen: where the cursor comes back from there, what is drawn there is a line of status.

        No line knows on which row it is. Without a way back, or to the first row, it is drawn here: nothing is lost.
        """
        self._is_elsewhere = self._may_leave and row > 1
        self._to_column(column)

    def _erase(self, begin: int, end: int) -> None:
        for at in range(begin, min(end, len(self._cells))):
            self._cells[at] = None

    def _erase_in_line(self, how: int) -> None:
        row, here = self._row * COLUMNS, self._place
        begin, end = {0: (here, row + COLUMNS), 1: (row, min(here + 1, row + COLUMNS))}.get(how, (row, row + COLUMNS))
        self._erase(begin, end)

    def _erase_in_display(self, how: int) -> None:
        here = self._place
        # Clearing all of the screen is no word on this line: what it has said stays.
        begin, end = {0: (here, len(self._cells)), 1: (0, here + 1)}.get(how, (0, 0))
        self._erase(begin, end)

    def _shift(self, by: int) -> None:
        """Push the rest of the row away by so many untouched cells, or pull it here over so many."""
        begin, end = self._place, (self._row + 1) * COLUMNS
        self._reach(begin)
        row = self._cells[begin:end]
        row = [*[None] * by, *row] if by > 0 else [*row[-by:], *[None] * min(-by, len(row))]
        self._cells[begin:end] = row[: end - begin]

    def _save(self) -> None:
        self._saved = self._row, self._column, self._codes
        self._may_leave = True

    def _restore(self) -> None:
        self._is_elsewhere = self._may_leave = False
        self._row, column, self._codes = self._saved
        self.pen = Pen(self._codes)
        self._column = min(column, COLUMNS - 1)


def written_over(states: list[str]) -> str | None:
    """What is seen of texts of which each was written over the one before; nothing where that has to be drawn."""
    if max(map(len, states)) > COLUMNS:
        return None
    found = ""
    for state in reversed(states):
        found += state[len(found) :]
    return found


def _width(character: str) -> int:
    """The cells that a character takes."""
    if character < "\u0300":
        return 1
    if unicodedata.combining(character) or unicodedata.category(character) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _count(parameters: list[int]) -> int:
    return min(max(parameters[0], 1), _FAR)


#: By its last character, what a sequence does.
_ACTIONS: dict[str, Callable[[_Screen, list[int]], None]] = {
    "A": lambda screen, n: screen._move(rows=-_count(n)),
    "B": lambda screen, n: screen._move(rows=_count(n)),
    "C": lambda screen, n: screen._move(_count(n)),
    "D": lambda screen, n: screen._move(-_count(n)),
    "E": lambda screen, n: screen._move(-COLUMNS, _count(n)),
    "F": lambda screen, n: screen._move(-COLUMNS, -_count(n)),
    "G": lambda screen, n: screen._to_column(n[0]),
    "`": lambda screen, n: screen._to_column(n[0]),
    "H": lambda screen, n: screen._to_place(*n[:2]),
    "f": lambda screen, n: screen._to_place(*n[:2]),
    "J": lambda screen, n: screen._erase_in_display(n[0]),
    "K": lambda screen, n: screen._erase_in_line(n[0]),
    "X": lambda screen, n: screen._erase(screen._place, min(screen._place + _count(n), (screen._row + 1) * COLUMNS)),
    "@": lambda screen, n: screen._shift(min(_count(n), COLUMNS)),
    "P": lambda screen, n: screen._shift(-min(_count(n), COLUMNS)),
    "s": lambda screen, n: screen._save(),
    "u": lambda screen, n: screen._restore(),
}
