"""From the bytes of a program's output to the lines of a log: whole, decoded, masked and clean."""

from django.utils.translation import gettext as _

from deployer.log.masking import Masker
from deployer.log.terminal import clean, is_clean

#: Bytes of a line that are kept; the rest is counted and left out.
LINE_LIMIT = 16_384


class LineSplitter:
    """Turns bytes that end anywhere into whole, decoded, masked and clean lines.

    What lies beyond `LINE_LIMIT` of a line is counted, not kept; masking comes before the cut, so that no
    half of a secret is left at the edge. ``taken`` is where the first line begins that has not been given yet: the
    offset, in bytes, at which somebody else can go on.
    """

    def __init__(self, mask: Masker, taken: int = 0) -> None:
        self._mask = mask
        self._held = bytearray()
        self._left_out = 0
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

    def _whole_lines(self, block: bytes) -> list[str]:
        """Lines that came whole: at once where no secret is in them, which is nearly always, else each alone."""
        text = block.decode(errors="replace")
        lines = text.split("\n")
        if len(max(lines, key=len)) <= LINE_LIMIT and not self._mask.finds(text):
            if is_clean(text):
                return lines
            lines = [clean(line) for line in lines]
            if not self._mask.finds("\n".join(lines)):
                return lines
        lines = []
        for piece in block.split(b"\n"):
            self._hold(piece)
            lines.append(self._line())
        return lines

    def _hold(self, piece: bytes) -> None:
        # Twice the limit leaves room for a secret across the cut and for the states of a progress bar.
        room = max(0, 2 * LINE_LIMIT + self._mask.longest - len(self._held))
        if len(piece) > room and b"\r" in piece:
            self._held.clear()  # a progress bar: only its last state counts
            piece = piece[piece.rstrip(b"\r").rfind(b"\r") + 1 :]
            room = 2 * LINE_LIMIT + self._mask.longest
        self._held += piece[:room]
        self._left_out += max(0, len(piece) - room)

    def _line(self) -> str:
        # Masked again when clean: a control character within a secret hides it from the first look.
        text = self._mask(clean(self._mask(self._held.decode(errors="replace"))))
        beyond = len(text) - LINE_LIMIT + self._left_out
        self._held.clear()
        self._left_out = 0
        return text if beyond <= 0 else text[:LINE_LIMIT] + _(" … [line cut: %d more]") % beyond
