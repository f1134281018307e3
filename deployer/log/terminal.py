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
#: Of these, `clean` drops all but colours.
_OSC = re.compile(r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?")
_STRING = re.compile(r"\x1b[PX^_][^\x1b]*(?:\x1b\\)?")
_CSI_BUT_COLOUR = re.compile(r"\x1b\[(?![0-9;:]*m)[0-?]*+[ -/]*+[@-~]?")
_OTHER_ESCAPE = re.compile(r"\x1b(?!\[[0-9;:]*m)(?:[ -/]*+[0-~]|.)?")
#: Letters between these stand for the parts of a frame, as the table says; a rendition between them has letters too.
_FRAME = re.compile(r"\x1b\(0(.*?)(?:\x1b\([A-Z12]|$)")
_FRAME_PART = re.compile(r"\x1b\[[0-?]*+[ -/]*+[@-~]|\x1b.|[`-~]")
_FRAME_PARTS = dict(zip("`abcdefghijklmnopqrstuvwxyz{|}~", "◆▒␉␌␍␊°±␤␋┘┐┌└┼⎺⎻─⎼⎽├┤┴┬│≤≥π≠£·", strict=True))
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f]")
_COLOUR = re.compile(r"\x1b\[([0-9;:]*)m")
#: What moves the cursor or erases: a line with any of these is drawn.
_MOVES = re.compile(r"[\x08\r]|\x1b[78]|\x1b\[[0-9;:]*[ -/]*[A-H@JKPXfsu`]")
#: With these, all of a row goes; and with anything of these, text may be on more rows than it is long.
_ERASED = ("\r\x1b[K", "\r\x1b[0K", "\r\x1b[2K", "\x1b[2K\r", "\x1b[1G\x1b[2K", "\x1b[2K\x1b[1G", "\x1b[2K\x1b[G")
_FURTHER = re.compile(r"\t|\x1b(?!\[[0-9;:]*[mK]|\[1?G|\[\?[0-9]*[hl])")
#: What takes no cell, or more than one, or something else than a cell.
_UNEVEN = re.compile(r"[^\x20-\x7e\r]")
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
        text = _STRING.sub("", _OSC.sub("", text))
        text = _FRAME.sub(_framed, text) if "\x1b(0" in text else text
    if moves(text):
        text, pen = _rest(text, pen)
        simple = None if pen or _UNEVEN.search(text) else written_over(text.split("\r"))
        text, after = drawn(text, pen) if simple is None else (simple, "")
        return seen(text), after
    text = flat(text)
    if not pen and "\x1b" not in text:
        return text, ""
    after = pen_after(text, pen)
    return (f"\x1b[{pen}m{text}" if pen and text else text), after


def _framed(drawing: re.Match[str]) -> str:
    return _FRAME_PART.sub(lambda part: _FRAME_PARTS.get(part[0], part[0]), drawing[1])


def _rest(text: str, pen: str) -> tuple[str, str]:
    """What is behind the last place at which all of a line was erased, and the pen there."""
    begin = max(map(text.rfind, _ERASED))
    if begin <= 0:
        return text, pen
    gone = text[:begin]
    widest = COLUMNS if gone.isascii() else COLUMNS // 2
    if _FURTHER.search(gone) or max(map(len, gone.split("\r"))) > widest:
        return text, pen
    return text[begin:], pen_after(gone, pen)


def moves(text: str) -> bool:
    """Whether anything in a line may be written over."""
    return ("\x1b" in text or "\r" in text or "\b" in text) and _MOVES.search(text) is not None


def flat(text: str) -> str:
    """A line with everything that was written, one after the other, whatever was written over it."""
    if "\x1b" in text:
        text = _OTHER_ESCAPE.sub("", _CSI_BUT_COLOUR.sub("", _STRING.sub("", _OSC.sub("", text))))
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
    return _CONTROL.search(text) is None and not ("\x1b" in text and _OTHER_ESCAPE.search(text)) and seen(text) == text


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
