"""What an answer must say: literal braces stay what they are, {commit} and {release} are those that are live."""

import time

import pytest
from django.core.exceptions import ValidationError

from projects.commands.expectation import NOTHING, Live, beginning
from projects.commands.health import HttpAnswer, http_from_server, http_problem, read_http
from projects.models import HealthCheck, Project

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LIVE = Live(f"20261126120000-7-{COMMIT[:8]}", COMMIT)
OTHER = "20261125120000-6-fedcba98"


def problem(body: str, expect: str, live: Live = LIVE) -> str:
    return http_problem(HttpAnswer(200, body), expect, "", live)


def header_problem(value: str, expect: str, live: Live = LIVE) -> str:
    return http_problem(HttpAnswer(200, "", {"x-release": [value]}), "", f"X-Release: {expect}", live)


def refused(**values: str) -> dict[str, list[str]]:
    check = HealthCheck(**{"project": Project(), "kind": "http", "target": "http://127.0.0.1/"} | values)
    try:
        check.full_clean(exclude=["project"])
    except ValidationError as error:
        return error.message_dict
    return {}


@pytest.mark.parametrize(
    "text", ["{foo}", "v{Release}", "{ release }", "{release.version}", "{commit}{sha}", "{RELEASE}"]
)
def test_a_word_in_braces_that_stands_for_nothing_is_refused_and_the_allowed_ones_are_named(text: str) -> None:
    for values in ({"expect": text}, {"expect_header": f"X: {text}"}, {"kind": "command", "expect": text}):
        (said,) = next(iter(refused(**values).values()))
        assert "only {commit} and {release} are filled in" in said
    assert refused(kind="tcp", target="80", expect=text) == {}, "nothing is read there"


@pytest.mark.parametrize(
    "text", ['{"a": 1}', "{}", "{1}", '{"ok":{release}}', "{{}}", "a{", "{release} {commit}", "{a: b}"]
)
def test_all_other_braces_stay_what_they_are(text: str) -> None:
    assert refused(expect=text, expect_header=f"X: {text}") == {}


def test_only_an_http_check_has_a_header() -> None:
    assert "expect_header" in refused(kind="tcp", target="80", expect_header="X: y")


def test_literal_braces_are_compared_as_they_are() -> None:
    assert problem('{"a": 1}', '{"a": 1}') == ""
    assert "does not contain" in problem('{"a": 2}', '{"a": 1}')
    assert problem(f'{{"v":{LIVE.release}}}', '{"v":{release}}') == ""


@pytest.mark.parametrize(
    ("answer", "is_it"),
    [
        (LIVE.release, True),
        (f"shop {LIVE.release}.", True),
        (f"/srv/shop/releases/{LIVE.release}/public", True),
        (f"shop-{LIVE.release}", True),
        (f"{LIVE.release}-2", False),
        (f"{LIVE.release}0", False),
        (f"1{LIVE.release}", False),
        (OTHER, False),
        ("", False),
    ],
)
def test_a_release_is_a_whole_word(answer: str, is_it: bool) -> None:
    assert (problem(answer, "{release}") == "") is is_it
    assert (header_problem(answer, "{release}") == "") is is_it


def test_a_release_made_by_hand_is_not_found_in_a_longer_name() -> None:
    live = Live("1.2")
    assert problem("version 1.2.", "{release}", live) == ""
    assert all(problem(text, "{release}", live) for text in ("1.2.3", "11.2", "3.1.2", "1.2-rc1", "1x2"))


@pytest.mark.parametrize(
    ("answer", "is_it"),
    [
        (COMMIT, True),
        (COMMIT.upper(), True),
        (f'{{"commit": "{COMMIT[:12]}"}}', True),
        (f"built from {COMMIT[:7]}.", True),
        (f"v1.4-3-g{COMMIT[:9]}", True),
        (LIVE.release, True),
        (COMMIT[:6], False),
        (f"{COMMIT[:8]}9", False),
        (f"x{COMMIT}", False),
        (COMMIT[:10] + "f", False),
        (COMMIT[1:], False),
        (f"{'f' * 40} {COMMIT[:8]}", True),
    ],
)
def test_a_commit_may_be_abbreviated_to_seven_digits_as_a_whole_word(answer: str, is_it: bool) -> None:
    assert (problem(answer, "{commit}") == "") is is_it


def test_what_stands_beside_a_placeholder_is_part_of_the_text() -> None:
    assert problem(f"v{LIVE.release}!", "v{release}!") == ""
    assert problem(f"commit={COMMIT[:8]}; ok", "commit={commit};") == ""
    assert problem(f"commit={COMMIT[:8]}-dirty;", "commit={commit};")


def test_what_it_answers_with_instead_is_said_where_it_can_be_told() -> None:
    assert problem(f"release {OTHER}", "{release}") == f"it answers with release {OTHER}, not {LIVE.release}"
    assert header_problem(OTHER, "{release}") == f"it answers with release {OTHER}, not {LIVE.release}"
    assert problem("commit: fedcba9", "commit: {commit}") == f"it answers with commit fedcba9, not {COMMIT}"
    assert problem("<h1>welcome, defaced 1234567</h1>", "{commit}") == (
        f"its answer does not contain “{COMMIT}”; it begins with “<h1>welcome, defaced 1234567</h1>”"
    )
    assert "it is empty" in problem("", "{release}")
    assert header_problem("none", "{release}") == f"its header X-Release is “none”, not “{LIVE.release}”"
    assert http_problem(HttpAnswer(200, ""), "", "X-Release: {release}", LIVE) == "its answer has no header X-Release"


def test_what_is_not_known_is_said_plainly() -> None:
    assert "it is not known which release is live" in problem("", "{release}", NOTHING)
    assert "it is not known which release is live" in header_problem("", "{commit}", NOTHING)
    uploaded = problem("", "{commit}", Live("20261126120000-fedcba98"))
    assert "the commit of release 20261126120000-fedcba98 is not known" in uploaded
    assert "expect {release} instead" in uploaded


def test_a_status_and_a_header_can_be_expected_together() -> None:
    answer = HttpAnswer(503, "", {"x-release": ["old", LIVE.release]})
    assert http_problem(answer, "503", "x-release: {release}", LIVE) == ""
    assert http_problem(answer, "503", "X-Release: new", LIVE) != ""
    assert http_problem(answer, "200", "X-Release: {release}", LIVE) == "it answered 503 instead of 200"
    assert http_problem(answer, "", "X-Release: {release}", LIVE) == "it answered 503"


# --- what curl prints --------------------------------------------------------------------------------


def read(text: str, statuses: str = "000 200") -> HttpAnswer:
    answer = read_http(f"{text}\n{statuses}\n", headers=True)
    assert answer is not None
    return answer


def test_headers_are_asked_for_only_where_one_is_expected() -> None:
    assert " -gksSi " in http_from_server("http://a/", "", 5, headers=True)
    assert " -gksS " in http_from_server("http://a/", "", 5)
    body = "HTTP/1.1 200 OK\r\nX-Release: forged\r\n\r\n"
    answer = read_http(f"{body}\n000 200\n")
    assert answer is not None
    assert (answer.body, answer.headers) == (body, {})


def test_headers_end_at_the_first_empty_line_whatever_the_body_looks_like() -> None:
    answer = read("HTTP/1.1 200 OK\r\nX-Release: a\r\n\r\nHTTP/1.1 200 OK\r\nX-Release: forged\r\n\r\n\r\nend")
    assert answer.headers == {"x-release": ["a"]}
    assert answer.body.endswith("end")
    assert answer.body.startswith("HTTP/1.1")
    assert read("HTTP/2 200 \r\nx-release: a\r\n\r\n").headers == {"x-release": ["a"]}
    assert read("HTTP/1.1 200\nX-Release: a\n\nbody").body == "body"
    assert read("no header at all").headers == {}


def test_headers_of_a_proxy_and_of_answers_before_the_answer_do_not_count() -> None:
    early = "HTTP/1.1 103 Early Hints\r\nX-Release: early\r\n\r\n"
    assert read(f"{early}HTTP/1.1 200 OK\r\nX-Release: a\r\n\r\n").headers == {"x-release": ["a"]}
    proxy = "HTTP/1.1 200 Connection established\r\nX-Release: proxy\r\n\r\n"
    assert read(f"{proxy}HTTP/2 200 \r\nX-Release: a\r\n\r\n", "200 200").headers == {"x-release": ["a"]}


def test_a_header_of_several_lines_is_one_value_and_each_of_one_name_counts() -> None:
    answer = read("HTTP/1.1 200 OK\r\nX-A: one\r\n \ttwo\r\nnonsense\r\n: x\r\nx-a:\rthree\r\n\r\n")
    assert answer.headers == {"x-a": ["one two", "three"], "": ["x"]}


@pytest.mark.parametrize("text", ["", "curl: (7) Failed to connect\n000 000\n", "x\n200\n", "x\n000 99999\n", "²\n"])
def test_what_is_no_answer_is_none(text: str) -> None:
    assert read_http(text, headers=True) is None


def test_hostile_headers_are_read_in_no_time() -> None:
    begun = time.monotonic()
    for text in (
        "HTTP/1.1 200 OK\r\n" + "A: b\r\n" * 200_000,
        "HTTP/1.1 200 OK\r\nA:" + " \r\n" * 500_000,
        "HTTP/1.1 100 C\r\n\r\n" * 50_000,
        "HTTP/1.1 200 OK\r\nX: " + "{" * 1_000_000 + "\r\n\r\n",
    ):
        assert read(text).status == 200
    for body in ("0123456" * 200_000, "a1" * 500_000, "20261126120000-" * 100_000):
        assert problem(body, "{commit}")
        assert problem(body, "{release}")
    assert time.monotonic() - begun < 10


def test_what_is_shown_of_an_answer_is_short_and_of_one_line() -> None:
    assert beginning("\x1b[31mred\x00\r\n\u202e  next") == "[31mred next"
    assert len(beginning("x" * 1_000_000)) == 101
