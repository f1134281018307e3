"""Every regular expression of the product, and the texts that could make it go round."""

import ast
import importlib
import re
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: There is no other door to the parser of patterns.
codes: Any = importlib.import_module("re._constants")
parser: Any = importlib.import_module("re._parser")

HOUSE = Path(__file__).resolve().parents[2]
ROOMS = ("deployer", "servers", "projects", "people", "pages")
FUNCTIONS = {"compile", "search", "match", "fullmatch", "sub", "subn", "split", "findall", "finditer"}
#: Functions and tables of ours that hand patterns on.
HANDED_ON = {"_first", "first", "_matching"}
TABLES = {"_EXPLAINED", "_SHAPES", "_BEGINS", "_ENDS"}
#: What stands behind the pump, so that nothing fits.
MISFITS = ("\0", "!", "\n", "")
LENGTHS = (4_096, 16_384, 65_536)
#: What takes less is no matter, and how much more four times the length may take: a square takes sixteen times.
SECONDS, TIMES = 0.05, 10


@dataclass(frozen=True)
class Pattern:
    """One regular expression, where it is written and by which functions it is used."""

    place: str
    text: str
    flags: int
    uses: frozenset[str]


def patterns() -> Iterator[Pattern]:
    """All of Python's, in the source of the product."""
    for room in ROOMS:
        for path in sorted((HOUSE / room).rglob("*.py")):
            if "migrations" not in path.parts:
                yield from _of_module(path)


def in_scripts() -> Iterator[Pattern]:
    """Those of the JavaScript that the product brings: literals, read as Python reads them."""
    for path in sorted((HOUSE / "pages" / "static").glob("*.js")):
        for text in re.findall(r"(?:[(=,:]\s*)/((?:[^/\\\n*]|\\.)(?:[^/\\\n]|\\.)*)/[gimsuy]*", path.read_text()):
            yield Pattern(path.name, re.sub(r"\(\?<(?=\w)", "(?P<", text), 0, frozenset({"search"}))


def _of_module(path: Path) -> Iterator[Pattern]:
    name = ".".join(path.relative_to(HOUSE).with_suffix("").parts).removesuffix(".__init__")
    source = path.read_text()
    if "re." not in source and "Regex" not in source and not any(word in source for word in HANDED_ON | TABLES):
        return
    values = vars(importlib.import_module(name))
    tree = ast.parse(source)
    owners = {
        id(node.value): target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        for expression, uses, flags in _patterns_of(node, owners, source, values):
            text = _text(expression, values)
            if text:
                yield Pattern(f"{path.relative_to(HOUSE)}:{expression.lineno}", text, flags, uses)


def _patterns_of(
    node: ast.AST, owners: dict[int, str], source: str, values: dict[str, Any]
) -> Iterator[tuple[ast.expr, frozenset[str], int]]:
    if isinstance(node, ast.Call) and node.args:
        function = node.func
        if isinstance(function, ast.Attribute) and getattr(function.value, "id", "") == "re":
            if function.attr in FUNCTIONS:
                owner = owners.get(id(node), "")
                used = frozenset(re.findall(rf"\b{owner}\.(\w+)\(", source)) if owner else frozenset()
                uses = (used & FUNCTIONS) or frozenset({"search"})
                uses = uses if function.attr == "compile" else frozenset({function.attr})
                yield node.args[0], uses, _flags(node)
        elif getattr(function, "id", "") in HANDED_ON | {"RegexValidator"}:
            yield node.args[0], frozenset({"search"}), _flags(node)
    is_table = isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict | ast.Tuple)
    if (
        isinstance(node, ast.Assign)
        and is_table
        and any(getattr(target, "id", "") in TABLES for target in node.targets)
    ):
        for part in ast.walk(node.value):
            if isinstance(part, ast.Constant) and isinstance(part.value, str) and "gettext" not in part.value:
                yield part, frozenset({"search"}), 0


def _flags(call: ast.Call) -> int:
    found = 0
    for given in [*call.args[1:], *(keyword.value for keyword in call.keywords)]:
        names = ast.unparse(given).split(" | ")
        if all(re.fullmatch(r"re\.[A-Z]+", name) for name in names):
            found |= sum(getattr(re, name[3:]) for name in names)
    return found


def _text(expression: ast.expr, values: dict[str, Any]) -> str:
    """The pattern, with a letter for what is known only where it is used."""
    if isinstance(expression, ast.JoinedStr):
        parts = [
            _text(part.value, values) if isinstance(part, ast.FormattedValue) else str(part.value)  # type: ignore[attr-defined]
            for part in expression.values
        ]
        return "".join(part or "x" for part in parts)
    try:
        value = eval(compile(ast.Expression(expression), "", "eval"), dict(values))  # noqa: S307 (our own source)
    except Exception:  # noqa: BLE001 (a name of the function that it stands in)
        return ""
    return value if isinstance(value, str) else ""


# --- texts ----------------------------------------------------------------------------------------------


def _sample(tree: Any) -> str:
    """A text that fits a parsed pattern, about."""
    return "".join(_letter(code, given) for code, given in tree)


def _letter(code: Any, given: Any) -> str:
    match code:
        case codes.LITERAL:
            return chr(given)
        case codes.NOT_LITERAL:
            return "0" if given != ord("0") else "1"
        case codes.ANY:
            return "0"
        case codes.IN:
            return _of_class(given)
        case codes.BRANCH:
            return _sample(given[1][0])
        case codes.SUBPATTERN:
            return _sample(given[-1])
        case codes.ATOMIC_GROUP:
            return _sample(given)
        case codes.MAX_REPEAT | codes.MIN_REPEAT | codes.POSSESSIVE_REPEAT:
            least, _most, tree = given
            return _sample(tree) * min(int(least), 70)
    return ""


def _of_class(members: Any) -> str:
    """A letter of a class, one that others are likely to have too."""
    for letter in "0a A.-:;!?=<> /\t_\\\r\n\x1b\0\x01":
        if any(_is_in(letter, code, given) for code, given in members if code != codes.NEGATE) != (
            members[0][0] == codes.NEGATE
        ):
            return letter
    code, given = members[-1]
    return chr(given if code == codes.LITERAL else given[0])


def _is_in(letter: str, code: Any, given: Any) -> bool:
    match code:
        case codes.LITERAL:
            return bool(ord(letter) == given)
        case codes.RANGE:
            return bool(given[0] <= ord(letter) <= given[1])
        case codes.CATEGORY:
            kind = str(given)
            test = {"DIGIT": r"\d", "SPACE": r"\s", "WORD": r"\w"}[kind.rpartition("_")[2]]
            return bool(re.match(test, letter)) != ("_NOT_" in kind)
    return False


def pumps(tree: Any, before: str = "") -> Iterator[tuple[str, str]]:
    """What leads to each repetition without a near end, and what fills it."""
    for code, given in tree:
        match code:
            case codes.MAX_REPEAT | codes.MIN_REPEAT | codes.POSSESSIVE_REPEAT:
                _least, most, body = given
                if most > 100:
                    yield from (
                        (before, letter) for letter in dict.fromkeys((_sample(body), *_letters(body))) if letter
                    )
                yield from pumps(body, before)
            case codes.SUBPATTERN:
                yield from pumps(given[-1], before)
            case codes.ATOMIC_GROUP:
                yield from pumps(given, before)
            case codes.BRANCH:
                for branch in given[1]:
                    yield from pumps(branch, before)
            case codes.ASSERT | codes.ASSERT_NOT:
                yield from pumps(given[1], before)
        before += _letter(code, given)


def _letters(body: Any) -> Iterator[str]:
    """Letters that a class has of those by which classes overlap."""
    for code, given in body:
        if code == codes.IN:
            negated = given[0][0] == codes.NEGATE
            for letter in "!/ 0a.-\n\t":
                if any(_is_in(letter, *one) for one in given if one[0] != codes.NEGATE) != negated:
                    yield letter


def texts(pattern: Pattern, length: int) -> Iterator[str]:
    """Texts of about this length: each pump alone, and with what leads to it again and again."""
    tree = parser.parse(pattern.text, pattern.flags)
    seen: set[str] = set()
    for before, fill in pumps(tree):
        for misfit in MISFITS:
            for text in (
                before + fill * (length // len(fill)) + misfit,
                (before + fill) * (length // len(before + fill)) + misfit,
            ):
                if text not in seen:
                    seen.add(text)
                    yield text


def grows(pattern: Pattern) -> str:
    """How it goes round, where it takes more than its share of time for a longer text."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = re.compile(pattern.text, pattern.flags)
    for use in pattern.uses:
        apply = _application(compiled, use)
        for short, middle, long in zip(*(texts(pattern, length) for length in LENGTHS), strict=False):
            for less, more in ((short, middle), (middle, long)):
                took = _cost(apply, more, SECONDS)
                if took >= SECONDS and took > TIMES * _cost(apply, less, 0):
                    return f"{pattern.place}: {pattern.text!r} takes {took:.3f} s for {more[:40]!r}…"
    return ""


def _application(compiled: re.Pattern[str], use: str) -> Callable[[str], Any]:
    if use in {"sub", "subn"}:
        return lambda text: compiled.sub("", text)
    if use == "finditer":
        return lambda text: sum(1 for _match in compiled.finditer(text))
    return getattr(compiled, use, compiled.search)


def _cost(apply: Callable[[str], Any], text: str, enough: float) -> float:
    """The least processor time of three tries; one is enough where it took less than that."""
    best = float("inf")
    for _time in range(3):
        begun = time.thread_time()
        apply(text)
        best = min(best, time.thread_time() - begun)
        if best < enough:
            break
    return best
