"""What an answer must say: a text, in which {commit} and {release} stand for what is live on the server."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from django.utils.translation import gettext as _

#: What a text may hold; all other braces stand for themselves.
COMMIT, RELEASE = "{commit}", "{release}"
_PLACEHOLDER = re.compile(r"(\{commit\}|\{release\})")
#: What looks like a placeholder: one word in braces. JSON has quotes there, or nothing.
_WORD_IN_BRACES = re.compile(r"\{[ \t]*[A-Za-z_][A-Za-z0-9_.-]*[ \t]*\}")
#: The shortest abbreviation of a commit that counts; git's own has as many digits.
ABBREVIATION = 7
#: What deployer's versions and git's commits look like. A short commit has a letter and a digit: it is no other word.
_SHAPES = {
    RELEASE: r"([0-9]{14}-(?:[0-9]+-)?[0-9a-f]{8})",
    COMMIT: r"([0-9a-f]{64}|[0-9a-f]{40}|(?=[0-9]*[a-f])(?=[a-f]*[0-9])[0-9a-f]{7,39})",
}
#: Where a value stands at an end of the text, it must be a whole word there: 1.2 is not in 1.2.3, nor in 11.2.
#: `git describe` puts a g before a commit.
_BEGINS = {RELEASE: r"(?<![0-9A-Za-z])(?<![0-9A-Za-z]\.)", COMMIT: r"(?:(?<![0-9A-Za-z])|(?<=-g))"}
_ENDS = {RELEASE: r"(?!\.?[0-9A-Za-z_-])", COMMIT: r"(?![0-9A-Za-z])"}
#: Characters of an answer that are searched for another release than the expected one, and that are shown of it.
_SEARCHED, _SHOWN = 100_000, 100


@dataclass(frozen=True)
class Live:
    """What is live on a server: the version of its release and the commit of that. Empty where it is not known."""

    release: str = ""
    commit: str = ""


NOTHING = Live()


def placeholder_problem(text: str) -> str:
    """Why ``text`` cannot be expected: a word in braces stands for nothing. Empty where all is well."""
    for word in _WORD_IN_BRACES.findall(text):
        if word not in (COMMIT, RELEASE):
            return _("“%s” stands for nothing: only {commit} and {release} are filled in.") % str(word)
    return ""


def placeholders(*texts: str) -> frozenset[str]:
    """The placeholders in ``texts``."""
    return frozenset(found for text in texts for found in _PLACEHOLDER.findall(text))


def unknown(text: str, live: Live) -> str:
    """Why ``text`` cannot be compared with any answer; empty where all that it names is known."""
    named = placeholders(text)
    if named and not live.release:
        return _("it is not known which release is live here: the answer cannot be compared with “%s”") % text
    if COMMIT in named and not live.commit:
        return (
            _(
                "the commit of release %s is not known, as of one that was uploaded or made by hand: expect {release} "
                "instead of {commit}"
            )
            % live.release
        )
    return ""


def says(answer: str, text: str, live: Live) -> bool:
    """Whether ``answer`` contains ``text``, filled in with what is ``live``.

    For a commit, an abbreviation of at least `ABBREVIATION` digits does, as a whole word.
    """
    if not placeholders(text):
        return text in answer
    pattern = _pattern(text, {RELEASE: re.escape(live.release), COMMIT: rf"([0-9A-Fa-f]{{{ABBREVIATION},64}})"})
    return any(
        all(live.commit.startswith(commit.lower()) for commit in match.groups()) for match in pattern.finditer(answer)
    )


def filled(text: str, live: Live) -> str:
    """``text`` as people read it."""
    return text.replace(COMMIT, live.commit).replace(RELEASE, live.release)


def another(answer: str, text: str, live: Live) -> str:
    """The release or the commit that ``answer`` has in the place of the expected one, as a sentence; empty if none."""
    order = _PLACEHOLDER.findall(text)
    match = _pattern(text, _SHAPES).search(answer[:_SEARCHED]) if order else None
    for name, shown in zip(order, match.groups() if match else (), strict=False):
        if name == RELEASE and shown != live.release:
            return _("it answers with release %(shown)s, not %(expected)s") % {
                "shown": shown,
                "expected": live.release,
            }
        if name == COMMIT and not live.commit.startswith(shown):
            return _("it answers with commit %(shown)s, not %(expected)s") % {"shown": shown, "expected": live.commit}
    return ""


def confirmed(named: frozenset[str], live: Live) -> str:
    """What an answer that was as expected has shown, in words that follow its check's name; empty if nothing."""
    if named == {COMMIT, RELEASE}:
        return _("answers with release %(release)s and commit %(commit)s") % {
            "release": live.release,
            "commit": live.commit,
        }
    if RELEASE in named:
        return _("answers with release %s") % live.release
    return _("answers with commit %s") % live.commit if named else ""


def beginning(answer: str) -> str:
    """The first words of an answer, on one line and without control characters."""
    text = "".join(letter for letter in answer[: 10 * _SHOWN] if letter.isprintable() or letter.isspace())
    shown = " ".join(text.split())
    return shown[:_SHOWN] + ("…" if len(shown) > _SHOWN else "")


def _pattern(text: str, values: Mapping[str, str]) -> re.Pattern[str]:
    """``text`` as a pattern, with ``values`` (patterns too) for its placeholders."""
    pieces = [piece for piece in _PLACEHOLDER.split(text) if piece]
    body = "".join(values.get(piece) or re.escape(piece) for piece in pieces)
    return re.compile(_BEGINS.get(pieces[0], "") + body + _ENDS.get(pieces[-1], ""))
