"""Differences of config files: which lines come and go, and nothing of any secret, old or new."""

from projects.commands.config_differences import MASK, compare, with_secrets


def told(difference):
    return [f"{line.sign}{line.text}" for line in difference.lines]


def test_lines_that_come_and_go_are_shown_with_some_around_them():
    there = "".join(f"{n}\n" for n in range(30))
    it = compare(there, there.replace("15\n", "fifteen\n15.5\n"))
    assert told(it) == [" 12", " 13", " 14", "-15", "+fifteen", "+15.5", " 16", " 17", " 18"]
    assert (it.come, it.go, it.is_empty) == (2, 1, False)
    assert compare("a\n", "a\n").is_empty
    assert not compare("a", "a\n").is_empty


def test_neither_the_new_nor_the_old_value_of_a_secret_is_shown():
    template = "port={{ PORT }}\npassword={{ WORD }};user={{ USER }}\nlast\n"
    values = {"PORT": "80", "USER": "ann", "WORD": "new-s3cret"}
    there = "port=79\npassword=old-s3cret;user=ann\nadded=other-s3cret\ns3cret alone\nlast\n"
    it = with_secrets(there, template, values, {"WORD": "new-s3cret"})
    assert told(it) == [
        f"-port={MASK}",
        f"-password={MASK};user=ann",
        f"-added={MASK}",
        f"-{MASK}",
        "+port=80",
        f"+password={MASK};user=ann",
        " last",
    ]
    assert "s3cret" not in "".join(told(it))


def test_a_secret_of_several_lines_shows_no_line_at_all():
    values = {"KEY": "one\ntwo"}
    it = with_secrets("x\n", "{{ KEY }}\nx\n", values, values)
    assert (it.lines, it.come, it.go, it.is_hidden) == ((), 2, 0, True)
    it = with_secrets("x\n", "{{ KEY | json }}\nx\n", values, values)
    assert told(it) == [f'+"{MASK}"', " x"]
