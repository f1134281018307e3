"""What programs print for a terminal, as a page or a text file may show it: colours as classes, the rest as text.

The text is never trusted: HTML is escaped, and of all escape sequences only colours and weights survive.
"""

import re

from ansi2html import Ansi2HTMLConverter
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from deployer.log.screen import COLUMNS, Pen, codes_of, drawn, written_over
from servers.sentences import seen

#: Everything that is not text. The first group is what may stay: "select graphic rendition".
_SEQUENCE = re.compile(
    r"\x1b\[([0-9;:]{0,100})m"
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # operating system commands: window titles, links
    r"|\x1b[PX^_][^\x1b]*(?:\x1b\\)?"  # device control and private strings
    r"|\x1b\[[0-?]*[ -/]*[@-~]?"  # cursor movements and the like
    r"|\x1b[ -/]*[0-~]?"
    r"|[\x00-\x08\x0a-\x1f\x7f-\x9f]"
)
#: Of these, `clean` drops all but colours. None goes on behind the end of its line.
_STRINGS = r"\][^\x07\x1b\n]*+(?:\x07|\x1b\\)?|[PX^_][^\x1b\n]*+(?:\x1b\\)?"
_STRING = re.compile(rf"\x1b(?:{_STRINGS})")
_BUT_COLOUR = re.compile(
    rf"\x1b(?!\[[0-9;:]*+m)(?:{_STRINGS}|\[[0-?]*+[ -/]*+[@-~]?|[ -/]*+[0-~]|.)?",
)
#: Letters between these stand for the parts of a frame, as the table says; a rendition between them has letters too.
_FRAME = re.compile(r"\x1b\(0(.*?)(?:\x1b\([A-Z12]|$)")
_FRAME_PART = re.compile(r"\x1b\[[0-?]*+[ -/]*+[@-~]|\x1b.|[`-~]")
_FRAME_PARTS = dict(zip("`abcdefghijklmnopqrstuvwxyz{|}~", "◆▒␉␌␍␊°±␤␋┘┐┌└┼⎺⎻─⎼⎽├┤┴┬│≤≥π≠£·", strict=True))
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f]")
_COLOUR = re.compile(r"\x1b\[([0-9;:]*)m")
#: What moves the cursor or erases: a line with any of these is drawn.
_MOVES = re.compile(r"\x1b(?:[78]|\[[0-9;:]*+[ -/]*+[A-H@JKPXfsu`])")
#: What does nothing where a line begins, and what does nothing wherever the cursor has not been moved back.
_IDLE_FIRST = re.compile(r"\n(?:\r|\x1b\[(?:[0-9]*[ABDJK]|[01]?G|\?[0-9;]*[hl]))+")
_IDLE = re.compile(r"\x1b(?:\[0?K|\(B|\[\?[0-9;]*[hl])")
_FRAME_BEGINS = "\x1b(0"
#: With anything but these, text may be elsewhere than behind the last return.
_HOME = re.compile(r"\x1b\[[01]?G")
_FURTHER = re.compile(r"[\t\b]|\x1b(?!\[[0-9;:]*m|\[[02]?K|\[\?[0-9]*[hl])")
_OF_NO_WIDTH = re.compile(r"\x1b\[[0-9;:?]*[mKhl]")
_ERASERS = ("\x1b[K", "\x1b[0K", "\x1b[2K")
#: What takes no cell, or more than one, or something else than a cell.
_UNEVEN = re.compile(r"[^\x20-\x7e\r]")
_NOT_NARROW = re.compile(r"[^\x20-\x7e\xa1-\xac\xae-\u02ff\u2010-\u2026\u2190-\u21ff\u2500-\u25fc\u2800-\u28ff\r]")
_SIXTEEN = (
    *((0, 0, 0), (205, 0, 0), (0, 205, 0), (205, 205, 0), (0, 0, 238), (205, 0, 205), (0, 205, 205), (229, 229, 229)),
    *((127, 127, 127), (255, 0, 0), (0, 255, 0), (255, 255, 0), (92, 92, 255), (255, 0, 255), (0, 255, 255)),
    (255, 255, 255),
)
_LEVELS = (0, 95, 135, 175, 215, 255)
_converter = Ansi2HTMLConverter(inline=False)


def plain(text: str) -> str:
    """``text`` without any escape sequence or control character but the tab."""
    return _SEQUENCE.sub("", text)


def clean(text: str) -> str:
    """What a terminal shows of a line: colours and tabs stay, every other sequence and control character goes.

    Characters that show nothing or turn the text round go too: a reader sees what is there.
    """
    return shown(text)[0]


def shown(text: str, pen: str = "") -> tuple[str, str]:
    """The same of a line that begins with the colours of ``pen``, and the pen behind it; see `screen.Pen`."""
    text = text.rstrip("\r")
    if "\x1b" in text:
        text = _STRING.sub("", text)
        text = _FRAME.sub(_framed, text) if _FRAME_BEGINS in text else text
    if has_to_be_drawn(rest := settled(text)):
        simple = _simply_written_over(text, pen)
        if simple is None:
            text, pen = _rest(text, pen)
            simple = _simply_written_over(text, pen)
        text, after = drawn(text, pen) if simple is None else (simple, "")
        return seen(text), after
    text = flat(rest)
    if not pen and "\x1b" not in text:
        return text, ""
    after = pen_after(text, pen)
    return (f"\x1b[{pen}m{text}" if pen and text else text), after


def _simply_written_over(text: str, pen: str) -> str | None:
    return None if pen or _UNEVEN.search(text) else written_over(text.split("\r"))


def _framed(drawing: re.Match[str]) -> str:
    return _FRAME_PART.sub(lambda part: _FRAME_PARTS.get(part[0], part[0]), drawing[1])


def _rest(text: str, pen: str) -> tuple[str, str]:
    """What is left to see of a line that was written again and again from its beginning, and the pen there."""
    text = _HOME.sub("\r", text) if "G" in text else text
    if _FURTHER.search(text):
        return text, pen
    states = text.split("\r")
    # Behind the last place at which the rest of the row was erased, and where that state is written, nothing is left.
    first = text.count("\r", 0, max(0, *map(text.rfind, _ERASERS)))
    if 2 * max(map(len, states)) > COLUMNS or first == 0:
        bare = (_OF_NO_WIDTH.sub("", text) if "\x1b" in text else text).split("\r")
    else:
        bare = [*[""] * first, *(_OF_NO_WIDTH.sub("", state) for state in states[first:])]
    width = _width if any(map(_NOT_NARROW.search, bare)) else _exactly
    widths = [width(state) for state in bare]
    if max(most for _least, most in widths) > COLUMNS:
        return text, pen
    covered, kept = 0, []
    for number in range(len(states) - 1, first - 1, -1):
        least, most = widths[number]
        if most > covered or number == first:
            kept.append(number)
            covered = max(covered, least)
    begin, found = 0, []
    for number in reversed(kept):
        pen = pen_after("".join(states[begin:number]), pen)
        found.append(f"\x1b[0;{pen}m{states[number]}" if pen or "\x1b" in text else states[number])
        pen, begin = pen_after(states[number], pen), number + 1
    pen = pen_after("".join(states[begin:]), pen)
    return "\r".join(found) + (f"\x1b[0;{pen}m" if "\x1b" in text or pen else ""), ""


def _width(state: str) -> tuple[int, int]:
    """The cells that a text takes at least and at most."""
    return (0, 2 * len(state)) if _NOT_NARROW.search(state) else _exactly(state)


def _exactly(state: str) -> tuple[int, int]:
    return len(state), len(state)


def settled(text: str) -> str:
    """Lines without what does nothing, if nothing is left that moves the cursor in them."""
    text = _without_returns(text) if "\r" in text else text
    if not has_to_be_drawn(text):
        return text
    text = _IDLE_FIRST.sub("\n", "\n" + text)[1:]
    if "\n" not in text and ("\r" in text or "\b" in text):
        return text
    # A return that ends its line only now was no idle one: what stood behind it may have erased the line.
    return _IDLE.sub("", text) if "\x1b" in text else text


def _without_returns(text: str) -> str:
    """Lines without the returns at their ends."""
    text = text.replace("\r\n", "\n")
    if "\r\n" in text:
        text = "\n".join([line.rstrip("\r") for line in text.split("\n")])
    return text.rstrip("\r")


def has_to_be_drawn(text: str) -> bool:
    """Whether anything in a line, or in any line of a text, may be written over; a frame is drawn too."""
    if "\r" in text or "\b" in text:
        return True
    return "\x1b" in text and (_FRAME_BEGINS in text or _MOVES.search(text) is not None)


def flat(text: str) -> str:
    """A line with everything that was written, one after the other, whatever was written over it."""
    if "\x1b" in text:
        text = _BUT_COLOUR.sub("", text)
    text = text.replace("\r", "")
    return seen(_CONTROL.sub("", text))


def pen_after(text: str, pen: str = "") -> str:
    """The pen behind a line that is clean."""
    if "\x1b" not in text:
        return pen
    reset = max(text.rfind("\x1b[0m"), text.rfind("\x1b[m"))
    if reset >= 0:
        text, pen = text[reset + 1 :], ""
    if "\x1b" not in text:
        return pen
    found = Pen(pen)
    for colour in _COLOUR.findall(text):
        found.take(colour)
    return found.codes


def is_clean(text: str) -> bool:
    """Whether `clean` has nothing to do in any line of ``text``."""
    return _CONTROL.search(text) is None and not ("\x1b" in text and _BUT_COLOUR.search(text)) and seen(text) == text


def clean_lines(text: str) -> str:
    """`clean` for each line of a text."""
    return "\n".join(clean(line) for line in text.encode(errors="replace").decode().split("\n"))


def as_html(text: str) -> SafeString:
    """``text`` as HTML: escaped, colours as ``<span class="ansi31">``; links and cursor movements are dropped."""
    coloured = _SEQUENCE.sub(_kept, text)
    if "\x1b" not in coloured:
        return escape(coloured)
    return mark_safe(_converter.convert(coloured, full=False).rstrip("\n"))  # noqa: S308 (escaped by the converter)


def _kept(sequence: re.Match[str]) -> str:
    rendition = "" if sequence[1] is None else _sixteen_colours(sequence[1])
    return rendition and f"\x1b[{rendition}m"


def _sixteen_colours(parameters: str) -> str:
    """The same rendition in the sixteen colours that the stylesheet has for both of its themes."""
    result: list[int] = []
    for code in codes_of(parameters):
        if len(code) == 1:
            result.append(code[0])
        else:
            red_green_blue = _of_256(code[2]) if code[1] == 5 else (code[2], code[3], code[4])
            result.append(_code(code[0], red_green_blue))
    return ";".join(str(number) for number in result)


def _code(layer: int, colour: tuple[int, int, int]) -> int:
    """The code of the nearest of the sixteen colours, as a foreground (``layer`` 38) or a background (48)."""
    nearest = min(range(16), key=lambda index: sum((a - b) ** 2 for a, b in zip(_SIXTEEN[index], colour, strict=True)))
    return layer - 8 + nearest if nearest < 8 else layer + 52 + nearest - 8


def _of_256(index: int) -> tuple[int, int, int]:
    """Red, green and blue of a colour of the 256-colour palette."""
    if index < 16:
        return _SIXTEEN[index]
    if index < 232:
        index -= 16
        return _LEVELS[index // 36], _LEVELS[index // 6 % 6], _LEVELS[index % 6]
    grey = 8 + 10 * (min(index, 255) - 232)
    return grey, grey, grey
