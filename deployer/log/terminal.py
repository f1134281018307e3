"""What programs print for a terminal, as a page or a text file may show it: colours as classes, the rest as text.

The text is never trusted: HTML is escaped, and of all escape sequences only colours and weights survive.
"""

import re

from ansi2html import Ansi2HTMLConverter
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

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
_CSI_BUT_COLOUR = re.compile(r"\x1b\[[0-9;:?<=>!]*+[ -/]*+[@-ln-~]")
_OTHER_ESCAPE = re.compile(r"\x1b(?!\[[0-9;:]*m).?")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f]")
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
    """Keep colours and tabs; drop every other control character, cursor movement and title sequence.

    Characters that show nothing or turn the text round go too: a reader sees what is there.
    """
    if "\r" in text:  # a progress bar shows its last state
        text = next((part for part in reversed(text.split("\r")) if part), "")
    text = _OSC.sub("", text)
    text = _CSI_BUT_COLOUR.sub("", text)
    text = _OTHER_ESCAPE.sub("", text)
    return seen(_CONTROL.sub("", text))


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
    numbers = [int(number or "0") for number in re.split("[;:]", parameters)]
    result: list[int] = []
    while numbers:
        number = numbers.pop(0)
        if number not in {38, 48}:
            result.append(number)
        elif numbers[:1] == [5] and len(numbers) >= 2:
            result.append(_code(number, _of_256(numbers[1])))
            del numbers[:2]
        elif numbers[:1] == [2] and len(numbers) >= 4:
            result.append(_code(number, (numbers[1], numbers[2], numbers[3])))
            del numbers[:4]
        else:
            break  # not a colour, and what follows cannot be told apart from its parameters
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
