"""From the bytes of a program's output to the lines of a log: whole, decoded, masked and clean."""

from django.utils.translation import gettext as _

from deployer.log.masking import Masker
from deployer.log.terminal import flat, has_to_be_drawn, is_clean, pen_after, plain, settled, shown

#: Bytes of a line that are kept; the rest is counted and left out.
LINE_LIMIT = 16_384


class LineSplitter:
    """Turns bytes that end anywhere into whole, decoded, masked and clean lines.

    What lies beyond `LINE_LIMIT` of a line is counted, not kept; masking comes before the cut, so that no
    half of a secret is left at the edge. A colour that a line leaves on is that of the next one: ``pen``. ``taken`` is
    where the first line begins that has not been given yet: the offset, in bytes, at which somebody else can go on.
    """

    def __init__(self, mask: Masker, taken: int = 0, pen: str = "") -> None:
        self._mask = mask
        self._held = bytearray()
        self._left_out = 0
        self.pen = pen
        self.taken = self._fed = taken

    def feed(self, data: bytes) -> list[str]:
        """The lines that ``data`` completes."""
        self._fed += len(data)
        end = data.rfind(b"\n") + 1
        if not end:
            self._hold(data)
            return []
        self.taken = self._fed - (len(data) - end)
        lines = []
        begin = 0
        if self._held or self._left_out:
            begin = data.index(b"\n") + 1
            self._hold(data[: begin - 1])
            lines.append(self._line())
        if begin < end:
            lines += self._whole_lines(data[begin : end - 1])
        self._hold(data[end:])
        return lines

    def finish(self) -> list[str]:
        """The last line, if it had no newline."""
        self.taken = self._fed
        return [self._line()] if self._held or self._left_out else []

    @property
    def unfinished(self) -> str:
        """The line that has not ended yet as it is seen now, masked and without colours; any thread may ask."""
        text = self._mask(bytes(self._held).decode(errors="ignore"))
        if self._mask.finds(whole := flat(text)):
            return plain(self._mask(whole))
        return plain(self._mask(shown(text)[0]))

    def _whole_lines(self, block: bytes) -> list[str]:
        """Lines that came whole: at once where no secret is in them, which is nearly always, else each alone."""
        text = block.decode(errors="replace")
        lines = text.split("\n")
        if len(max(lines, key=len)) <= LINE_LIMIT and (found := self._at_once(text, lines)) is not None:
            return found
        lines = []
        for piece in block.split(b"\n"):
            self._hold(piece)
            lines.append(self._line())
        return lines

    def _at_once(self, text: str, lines: list[str]) -> list[str] | None:
        """The ``lines`` of ``text``, or nothing where a secret may be in them.

        What is written over is looked at as it was written, and as it is seen: either may be where a secret is whole.
        """
        simple = whole = text
        if not is_clean(text):
            simple = settled(text)
            whole = simple if is_clean(simple) else flat(simple)
        if self._mask.finds(whole) or (self._mask.knows_unseen and whole != text and self._mask.finds(text)):
            return None
        if whole is text:
            return self._coloured(lines) if self.pen or "\x1b" in text else lines
        flats = whole.split("\n")
        if not has_to_be_drawn(simple):
            return self._coloured(flats)
        before, found, drawn = self.pen, [], []
        for raw, line, written in zip(lines, simple.split("\n"), flats, strict=True):
            if has_to_be_drawn(line):
                seen, self.pen = shown(raw, self.pen)
                drawn.append(seen)
                found.append(seen)
            else:
                found += self._coloured([written])
        if self._mask.finds("\n".join(drawn)):
            self.pen = before
            return None
        return found

    def _coloured(self, lines: list[str]) -> list[str]:
        """Lines that are clean, each with the colours in which the one before has left the terminal."""
        pen, found = self.pen, []
        for line in lines:
            found.append(f"\x1b[{pen}m{line}" if pen and line else line)
            if "\x1b" in line:
                pen = pen_after(line, pen)
        self.pen = pen
        return found

    def _hold(self, piece: bytes) -> None:
        # Twice the limit leaves room for a secret across the cut and for the states of a progress bar.
        most = 2 * LINE_LIMIT + self._mask.longest
        if len(self._held) + len(piece) > most:
            self._fold(piece, most)
            return
        self._held += piece

    def _fold(self, piece: bytes, most: int) -> None:
        """Take in more than there is room for: what was written over goes first, then the end."""
        self._held += piece[: 4 * most]
        self._left_out += max(0, len(piece) - 4 * most)
        begin = self._held.rfind(b"\r") + 1
        if begin > 1:
            text, _pen = shown(self._mask(self._held[:begin].decode(errors="replace")), self.pen)
            self._held[:begin] = text[:LINE_LIMIT].encode() + b"\r"
        self._left_out += max(0, len(self._held) - most)
        del self._held[most:]

    def _line(self) -> str:
        # Masked again when clean: a control character within a secret hides it from the first look. One that was
        # written in pieces, at different places of the line, is masked where all of them stand one after the other.
        text = self._held.decode(errors="replace")
        whole = flat(text)
        if self._mask.knows_unseen or self._mask.finds(whole):
            text = self._mask(text)
            whole = flat(text)
        if self._mask.finds(whole):
            text, self.pen = self._mask(whole), pen_after(whole, self.pen)
        else:
            text, self.pen = shown(text, self.pen)
            text = self._mask(text)
        beyond = len(text) - LINE_LIMIT + self._left_out
        self._held.clear()
        self._left_out = 0
        return text if beyond <= 0 else text[:LINE_LIMIT] + _(" … [line cut: %d more]") % beyond
