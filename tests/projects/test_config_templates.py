"""Templates of config files: what is replaced, what is left alone, what is refused, and how values are written."""

import json
import shlex
import subprocess

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from projects.commands.config_templates import TemplateError, as_env, names, parse, render

VALUES = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00\r"), max_size=40)


def test_a_name_is_replaced_by_its_value_as_it_is():
    assert render("port={{ PORT }};{{HOST}}\n", {"PORT": "80", "HOST": "a\nb"}) == "port=80;a\nb\n"


@pytest.mark.parametrize(
    "text",
    [
        "{{ $labels.instance }} is down",  # Prometheus
        "{{ .Values.port }}{{- end }}{{/* no */}}",  # Helm, Go
        '{{ "x" }} {{{ a: 1 }}}'.replace("{{{ a", "{ {a"),
        "}} {{",
        "${VALUE} %s {%",
    ],
)
def test_what_begins_otherwise_than_with_a_letter_is_left_as_it_is(text):
    assert render(text, {}) == text


def test_two_braces_before_a_letter_can_be_meant_as_they_stand():
    assert render("{{ '{{' }} message }}", {}) == "{{ message }}"


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a\n{{ NAME", 2, "no expression"),
        ("{{ NAME | json | yaml }}", 1, "no expression"),
        ("{{ name.other }}", 1, "no expression"),
        ("\n\n{{ NAME | jsn }}", 3, "jsn"),
        ("x\n{{ MISSING }}", 2, "MISSING"),
    ],
)
def test_what_cannot_be_filled_in_is_an_error_that_names_its_line(text, line, said):
    with pytest.raises(TemplateError, match=said) as raised:
        render(text, {"NAME": "x"})
    assert raised.value.line == line


def test_the_names_are_known_before_there_are_values():
    assert names("{{ ONE }}\n{{ TWO | json }} {{ ONE }}") == {"ONE": 1, "TWO": 2}
    assert [part.filter for part in parse("{{ TWO | json }}") if part.name] == ["json"]


@given(VALUES)
def test_each_filter_gives_back_the_value_to_whoever_reads_it(value):
    values = {"V": value}
    assert json.loads(render('{"a": {{ V | json }}}', values)) == {"a": value}
    assert yaml.safe_load(render("a: {{ V | yaml }}\n", values)) == {"a": value}
    assert shlex.split(render("a {{ V | shell }}", values)) == ["a", value]


@given(VALUES)
def test_a_shell_reads_an_env_file_as_it_was_meant(value):
    text = f'V={as_env(value)}\nprintf %s "$V"'
    said = subprocess.run(["sh", "-c", text], capture_output=True, check=True).stdout
    assert said.decode() == value
