"""What a line of the log shows is what a terminal of 200 columns shows at its end; pyte is the terminal."""

import re

import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployer.log.lines import LINE_LIMIT, LineSplitter
from deployer.log.masking import MASK, Masker
from deployer.log.screen import COLUMNS, drawn
from deployer.log.terminal import as_html, plain


def lines(data: bytes, *secrets: str, piece: int = 0) -> list[str]:
    splitter = LineSplitter(Masker(secrets))
    size = piece or max(len(data), 1)
    found = [line for begin in range(0, len(data), size) for line in splitter.feed(data[begin : begin + size])]
    return found + splitter.finish()


def on_a_terminal(line: str) -> str:
    """The rows of a line, one after the other."""
    screen = pyte.Screen(COLUMNS, 60)
    pyte.Stream(screen).feed(line)
    return "".join(screen.display).rstrip()


#: What moves, erases, colours and is written; what leads to a row that the line does not have is left out.
_MOVING = ["\r", "\b", "\x1b[G", "\x1b[K", "\x1b[1K", "\x1b[2K", "\x1b[J", "\x1b[1J", "\x1b7bar\x1b8"]
_BY = [f"\x1b[{n}{final}" for final in "GCDPXA" for n in (1, 3, 17, 199, 201)]
_DRAWN = ["\x1b[31m", "\x1b[m", "\x1b(B", "\x1b[?25l", "\x07", "words ", "a", "50%", "x" * 70, "─█"]


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from([*_MOVING, *_BY, *_DRAWN]), max_size=40).map("".join))
def test_whatever_is_written_over_a_line_it_shows_what_a_terminal_shows(line: str) -> None:
    (found,) = lines(line.encode() + b"\n")
    assert plain(found).rstrip() == on_a_terminal(line)
    among_others = lines(f"one\n{line}\ntwo\n".encode())
    assert plain(among_others[1]).rstrip() == on_a_terminal(line)


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"\x1b[31mFATAL: disk full\r\x1b[0m\n", "FATAL: disk full"),
        (b"bold\x1b(B\x1b[m text\n", "bold text"),
        (b"  5%\x1b[1G 50%\x1b[1G100%\n", "100%"),
        (b"wait |\x1b[1D/\x1b[1D-\x1b[1Ddone\n", "wait done"),
        (b"long state\x1b[2K\rshort\n", "short"),
        (b"12%\b\b\b99%\n", "99%"),
        (b"a program that clears the screen\x1b[2J\x1b[3J\n", "a program that clears the screen"),
        (b"a\x1bP1;2;3q secret sauce \x1b\\b\n", "ab"),
        (b"a\x1b[>4;2mb\n", "ab"),
        (b"\r\r\r\n", ""),
        (b"Unpacking\x1b7\x1b[50;0f\x1b[42m[##..]\x1b[K\x1b8 tea\n", "Unpacking tea"),
        (b"no way back\x1b[50;1Hx\n", "xo way back"),
        (b"\x1b(0lq\x1b[31mqk\x1b(B frame\n", "\u250c\u2500\u2500\u2510 frame"),
        (b"a\tb\rx\n", "x       b"),
        (b"ab\x1b[1G\x1b[2@x\n", "x ab"),
        ("漢字 e\u0301\x1b[1Ga\n".encode(), "a 字 e\u0301"),
        ("漢字\x1b[2Gab\n".encode(), " ab "),
    ],
)
def test_a_line_is_read_as_it_stands_at_its_end(data: bytes, shown: str) -> None:
    assert [plain(line) for line in lines(data)] == [shown]


def test_a_colour_carries_on_to_the_lines_behind_it_until_it_ends() -> None:
    found = lines(b"\x1b[1;31mone\ntwo\x1b[39m\n\nthree\x1b[0m\nfour\n", piece=3)
    assert found == ["\x1b[1;31mone", "\x1b[1;31mtwo\x1b[39m", "", "\x1b[1mthree\x1b[0m", "four"]


def test_the_cursor_comes_back_in_the_colour_in_which_it_was_saved() -> None:
    assert lines(b"\x1b[32mgreen\x1b7\x1b[50;1H\x1b[41mstatus\x1b8 too\n") == ["\x1b[32mgreen too"]


@pytest.mark.parametrize("colour", ["38:2::255:0:0", "38:2:255:0:0", "38;2;255;0;0", "38:5:196", "38;5;196"])
def test_every_form_of_a_colour_is_read(colour: str) -> None:
    assert as_html(f"\x1b[{colour}mred\x1b[0m plain") == '<span class="ansi91">red</span> plain'
    (found,) = lines(f"xx\x1b[{colour}mred\x1b[0m\x1b[1G--\n".encode())
    assert as_html(found) == '--<span class="ansi91">red</span>'


def test_a_secret_that_is_written_in_pieces_at_different_places_is_masked() -> None:
    for between in (b"\x1b[2K", b"\r", b"\b", b"\x1b[1G", b"\x1b[5C"):
        assert lines(b"sup3r" + between + b"secret\n", "sup3rsecret") == [MASK]


def test_a_line_that_is_drawn_again_and_again_stays_small_and_nothing_of_its_end_is_lost() -> None:
    splitter = LineSplitter(Masker([]))
    for number in range(20_000):
        splitter.feed(b"\x1b[33m%6d\x1b[0m of 20000\x1b[K\r" % number)
        assert len(splitter._held) < 4 * LINE_LIMIT
    assert [plain(line) for line in splitter.feed(b"\x1b[31mFATAL\r\x1b[0m\n")] == ["FATAL9 of 20000"]


@given(st.lists(st.sampled_from(["\r", "x" * 50, "\x1b[2K", "\x1b[1A", "word ", "\x1b[32m"]), max_size=60).map("".join))
def test_it_makes_no_difference_in_which_pieces_a_line_comes(line: str) -> None:
    data = line.encode() + b"\n"
    assert lines(data, piece=1) == lines(data)


@pytest.mark.parametrize("end", ["\r\x1b[K", "\r\x1b[K\x1b[?25h", "\r\x1b(B\x1b[0K\r"])
def test_a_line_that_is_taken_back_is_blank_among_others_too(end: str) -> None:
    data = f"one\na state{end}\ntwo\n".encode()
    assert lines(data) == lines(data, piece=1) == ["one", "", "two"]


_AGAIN = [
    "\r",
    "\r",
    "\x1b[K",
    "\x1b[2K",
    "\x1b[1K",
    "\x1b[1G",
    "\x1b[31m",
    "\x1b[1;42m",
    "\x1b[0m",
    "\x1b[?25l",
    "\n",
    "\b",
]
_END = re.compile(r"(?:\x1b\[[0-9;]*m| )+$")
_STATES = [
    "50% ",
    "x" * 90,
    "\u2588\u2588",
    "\u6f22\u5b57",
    "e\u0301",
    "a",
    "\t",
    "\x1b]0;title\x07",
    "\x1b(B",
    "\x1b[1A",
]


@settings(max_examples=800, deadline=None)
@given(st.lists(st.sampled_from([*_AGAIN, *_STATES]), max_size=30).map("".join))
def test_leaving_out_what_is_not_seen_makes_no_difference(text: str) -> None:
    at_once, pen = lines(text.encode() + b"\n"), ""
    assert lines(text.encode() + b"\n", piece=1) == at_once
    for number, line in enumerate(text.split("\n")):
        bare = line.replace("\x1b]0;title\x07", "").rstrip("\r")
        all_of_it, pen = drawn(bare, pen)
        again, _pen = drawn(at_once[number])  # there are many ways to write one colour
        assert _END.sub("", again) == _END.sub("", all_of_it)


@given(
    st.lists(st.sampled_from([*_AGAIN[:-2], "\b", "\x1b(B", "\x1b[1C", "\x1b]0;t\x07", "\x00"]), min_size=1, max_size=4)
)
def test_a_secret_is_masked_whatever_stands_between_its_parts(between: list[str]) -> None:
    for more in ("", "\x1b[2K\rcompiled\n", "\x1b[31mred\n", "\rone\rtwo\n"):
        data = f"{more}it is sup3r{''.join(between)}secret now\n{more}".encode()
        for piece in (0, 5):
            assert "secret" not in "".join(map(plain, lines(data, "sup3rsecret", piece=piece)))


def test_no_sequence_is_left_in_what_is_shown() -> None:
    for found in lines(b"\x1b[1;2;3;4;5;6;7m\x1b[12\n\x1b]0;title\n\x1b[\n\x1b\n"):
        assert not re.search(r"\x1b(?!\[[0-9;]*m)", found)
