"""HTML as tests read it: how a template is laid out does not matter."""

import re
from html.parser import HTMLParser


def tight(html: str) -> str:
    """Each run of white space as one space, and none where an element or a tag begins or ends."""
    html = re.sub(r"\s+", " ", html).replace(" >", ">")
    return re.sub(r"(<\w[^>]*>) ", r"\1", html).replace(" </", "</")


def values_of(html: str, box: str) -> dict[str, list[str]]:
    """What a browser sends from the form with a box whose name ends like this, untouched; nothing if there is none."""
    reader = _Forms()
    reader.feed(html)
    return next((form for form in reader.forms if any(name.endswith(box) for name in form)), {})


class _Forms(HTMLParser):
    """The forms of a page, each by the names of its boxes."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[dict[str, list[str]]] = []
        self._template = 0
        self._text: str | None = None
        self._select: str | None = None
        self._chosen: list[str] = []
        self._first: str | None = None
        self._is_multiple = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        name = given.get("name", "")
        if tag == "template":
            self._template += 1
        elif tag == "form":
            self.forms.append({})
        elif not self.forms or self._template:
            return
        elif tag == "input" and name and not self._is_left_out(given):
            self._add(name, given.get("value", "on" if given.get("type") in ("checkbox", "radio") else ""))
        elif tag == "textarea":
            self._add(name, "")
            self._text = name
        elif tag == "select":
            self._select, self._chosen, self._first, self._is_multiple = name, [], None, "multiple" in given
        elif tag == "option" and self._select is not None:
            value = given.get("value", "")
            self._first = value if self._first is None else self._first
            self._chosen += [value] if "selected" in given else []

    def handle_endtag(self, tag: str) -> None:
        if tag == "template":
            self._template -= 1
        elif tag == "textarea":
            self._text = None
        elif tag == "select" and self._select:
            first = [] if self._is_multiple or self._first is None else [self._first]
            for value in self._chosen or first:
                self._add(self._select, value)
            self._select = None

    def handle_data(self, data: str) -> None:
        if self._text is not None:
            before = self.forms[-1][self._text].pop()
            self.forms[-1][self._text].append(before + (data if before else data.removeprefix("\n")))

    def _add(self, name: str, value: str) -> None:
        self.forms[-1].setdefault(name, []).append(value)

    @staticmethod
    def _is_left_out(given: dict[str, str]) -> bool:
        kind = given.get("type", "text")
        return kind in ("submit", "button", "file") or (kind in ("checkbox", "radio") and "checked" not in given)
