"""Promises of the log: whole lines, no secrets, no control characters, nothing lost."""

import base64
import json
from shlex import quote as shell_quote
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployer.log.lines import LINE_LIMIT, LineSplitter
from deployer.log.masking import MASK, Masker


def lines(data: bytes, *secrets: str, piece: int = 7) -> list[str]:
    splitter = LineSplitter(Masker(secrets))
    found = []
    for begin in range(0, len(data), piece):
        found += splitter.feed(data[begin : begin + piece])
    return found + splitter.finish()


@given(st.lists(st.text(st.characters(exclude_categories=["C"]), max_size=40)), st.integers(1, 50))
def test_lines_come_out_as_they_went_in_wherever_the_pieces_end(texts, piece):
    assert lines("".join(f"{text}\n" for text in texts).encode(), piece=piece) == texts


@given(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=6, max_size=40), st.integers(1, 30))
def test_no_form_of_a_secret_gets_through_wherever_the_pieces_end(secret, piece):
    data = secret.encode()
    forms = [
        secret,
        quote(secret, safe=""),
        quote_plus(secret),
        shell_quote(secret)[1:-1] if "'" in secret else secret,
        json.dumps(secret)[1:-1],
        base64.b64encode(data).decode().rstrip("="),
    ]
    for form in forms:
        (line,) = lines(f"before {form} after".encode(), secret, piece=piece)
        assert MASK in line
        assert secret not in line


@pytest.mark.parametrize("prefix", [b"", b"u:", b"user:"])
def test_a_secret_inside_an_encoded_header_is_masked(prefix):
    encoded = base64.b64encode(prefix + b"correct-horse-battery").decode()
    (line,) = lines(f"Authorization: Basic {encoded}".encode(), "correct-horse-battery")
    assert MASK in line
    assert encoded not in line


def test_every_line_of_a_secret_with_several_is_masked():
    secret = "-----BEGIN KEY-----\nabcdefgh\n-----END KEY-----"
    assert lines(secret.encode() + b"\n", secret) == [MASK] * 3


#: What output is made of, and what makes it hard.
HARD = [b"\n", b"\n\n", b"\r", b"\0", b"\t", b"\x1b[31m", b"\x1b]0;x", b"\xff", b"\x85", "é中".encode()]
BYTES = st.lists(st.sampled_from([*HARD, b"s3cr3t-v4lu3", b"s3cr3t", b"words of a line"]), max_size=40).map(b"".join)


@given(BYTES, st.integers(1, 300))
def test_lines_that_come_whole_are_those_that_come_in_pieces(data, piece):
    secrets = ("s3cr3t-v4lu3", "words of a line\nx")
    assert lines(data, *secrets, piece=max(len(data), 1)) == lines(data, *secrets, piece=piece)


@given(BYTES, st.integers(1, 300), st.integers(0, 40))
def test_whoever_goes_on_at_the_offset_of_the_last_whole_line_loses_and_doubles_none(data, piece, pieces):
    splitter = LineSplitter(Masker(["s3cr3t-v4lu3"]))
    found = []
    for begin in range(0, min(len(data), piece * pieces), piece):
        found += splitter.feed(data[begin : begin + piece])
    rest = LineSplitter(Masker(["s3cr3t-v4lu3"]), splitter.taken, splitter.pen)
    found += rest.feed(data[splitter.taken :]) + rest.finish()
    assert found == lines(data, "s3cr3t-v4lu3", piece=max(len(data), 1))
    assert rest.taken == len(data)


def test_a_private_key_is_masked_line_by_line_also_where_the_colour_changes():
    key = "\n".join(base64.b64encode(f"{number:048}".encode()).decode() for number in range(30))
    first, *_between, last = key.split("\n")
    coloured = "\x1b[1m".join(first)
    assert lines(f"{key}\n{coloured}\n a{last}b\n".encode(), key) == [MASK] * 31 + [f" a{MASK}b"]


def test_a_progress_bar_is_folded_to_its_last_state():
    assert lines(b" 10%\r 50%\r100%\r\nnext\r\n") == ["100%", "next"]


def test_a_progress_bar_without_an_end_stays_small():
    splitter = LineSplitter(Masker([]))
    for number in range(50_000):
        assert splitter.feed(b"%6d%% of the way\r" % number) == []
    assert splitter.feed(b"done\n") == ["done99% of the way"]
    assert splitter.feed(b"%6d%% of the way\r\x1b[Kdone\n" % 1) == ["done"]


def test_a_very_long_line_is_cut_with_a_mark_and_what_follows_is_kept():
    found = lines(b"x" * (5 * LINE_LIMIT) + b"\nnext\n", piece=4096)
    assert found[0].startswith("x" * LINE_LIMIT + " … [line cut: ")
    assert str(4 * LINE_LIMIT) in found[0]
    assert found[1] == "next"


@pytest.mark.parametrize("offset", range(-12, 12, 3))
def test_a_secret_across_the_cut_is_masked(offset):
    secret = "s3cr3t-v4lu3"
    (line,) = lines(b"x" * (LINE_LIMIT + offset) + secret.encode() + b"y" * 100, secret)
    assert not any(secret[:n] in line for n in range(3, len(secret)))


def test_colours_stay_and_everything_else_that_moves_a_terminal_goes():
    data = b"\x1b[1;31mred\x1b[0m \x1b[2K\x1b[10;5Hx \x1b]8;;http://evil\x07link\x1b]8;;\x07 \x00\x07\x9b\n"
    assert lines(data) == ["    x link \ufffd"]
    assert lines(data.replace(b"\x1b[2K\x1b[10;5H", b"")) == ["\x1b[1;31mred\x1b[0m x link \ufffd"]


def test_broken_utf8_is_replaced_and_not_refused():
    assert lines(b"\xff\xfe caf\xc3\xa9 \xc3\n") == ["\ufffd\ufffd café \ufffd"]


@pytest.mark.parametrize("between", [b"\x07", b"\x00", b"\x1b]0;title\x07", b"\x1b[2K"])
def test_a_secret_with_control_characters_in_it_is_masked(between):
    assert lines(b"sup3r" + between + b"secret\n", "sup3rsecret", piece=100) == [MASK]


def test_a_secret_in_which_the_colour_changes_is_masked():
    assert lines(b"sup3r-\x1b[1ms3cret\x1b[0m-v4lue\n", "sup3r-s3cret-v4lue") == [MASK]
