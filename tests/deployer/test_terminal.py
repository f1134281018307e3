"""What terminal output may become on a page: text and colours, never markup."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployer.log.terminal import as_html, plain


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("\x1b[31m<b>&\x1b[0m", '<span class="ansi31">&lt;b&gt;&amp;</span>'),
        ("\x1b]8;;javascript:alert(1)\x07click\x1b]8;;\x07", "click"),
        ('\x1b]8;;https://x/"><img>\x1b\\click\x1b]8;;\x1b\\', "click"),
        ("\x1b]0;window title\x07text", "text"),
        ("a\x1b[2Kb\x1b[1Ac\x1b(0d\x1b", "abcd"),
        ("bell\x07 nul\x00 tab\t", "bell nul tab\t"),
        ("\x1b[38;2;250;5;5mred\x1b[0m", '<span class="ansi91">red</span>'),
        ("\x1b[48;5;21mblue\x1b[0m", '<span class="ansi44">blue</span>'),
        ("\x1b[1;32mok\x1b[m plain", '<span class="ansi1 ansi32">ok</span> plain'),
        ("\x1b[38;5mnothing", "nothing"),
    ],
)
def test_only_text_and_colours_reach_the_page(text: str, html: str) -> None:
    assert as_html(text) == html


@given(st.text(st.sampled_from("\x1b[]()<>&\"';:m0123456789AK\x07\\x\t\x9b"), max_size=60))
def test_no_log_text_makes_a_tag_other_than_a_colour(text: str) -> None:
    html = as_html(text)
    for tag in html.split("<")[1:]:
        assert tag.startswith(("span class=", "/span>"))
    assert "\x1b" not in html


def test_text_files_hold_no_escape_sequence() -> None:
    assert plain("\x1b[31mred\x1b[0m \x1b]8;;x\x07link\x1b]8;;\x07") == "red link"
