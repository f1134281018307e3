"""What each kind of service asks a server, and how it reads whatever comes back."""

import subprocess
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployer.probing.identity import Question
from projects.commands.kept import NOT_FOUND, Kept
from projects.commands.matching import Search
from projects.commands.processes import read_survey
from projects.commands.services import inventory
from projects.commands.services.kind import Does, Where
from projects.commands.services.kinds import KINDS, check_name, found_by, own_command
from tests.projects.test_matching import answer

#: A name of each kind.
NAMES = {
    "pidfile": "/run/shop.pid",
    "port": "8080",
    "systemd": "shop.service",
    "supervisor": "-c ~/s.conf shop:*",
    "pm2": "shop api",
    "docker": "shop/web",
}


def kept(kind: str, *lines: str, name: str = "", rows: Sequence[tuple[object, ...]] = ()) -> Kept:
    """What a keeper's answer says, beside these processes."""
    text = answer(*rows, unit="SERVICE 0\n" + "".join(f"{line}\n" for line in lines))
    return Question(name or NAMES[kind], kind).kept(read_survey(text))


@pytest.mark.parametrize(
    ("lines", "state", "is_up", "is_looping", "main"),
    [
        (
            ["shop:a  RUNNING   pid 12, uptime 0:00:03", "shop:b RUNNING pid 13, uptime 1 day"],
            "RUNNING",
            1,
            0,
            (12, 13),
        ),
        (["shop:a  RUNNING   pid 12, uptime 0:00:03", "shop:b STARTING"], "STARTING", 0, 0, (12,)),
        (["shop  BACKOFF   Exited too quickly"], "BACKOFF (Exited too quickly)", 0, 1, ()),
        (["shop  FATAL     can't find command"], "FATAL (can't find command)", 0, 0, ()),
        (["shop: ERROR (no such process)"], NOT_FOUND, 0, 0, ()),
    ],
)
def test_programs_of_supervisor(lines, state, is_up, is_looping, main):
    found = kept("supervisor", *lines)
    assert (found.state, found.is_up, found.is_looping, found.main) == (state, bool(is_up), bool(is_looping), main)


def test_a_supervisor_that_refuses_is_told_with_the_line_of_sudoers():
    found = kept("supervisor", "REFUSED deploy", "error: <class 'PermissionError'>, [Errno 13] Permission denied: file")
    assert (found.is_known, found.refused) == (False, "deploy")
    told = KINDS["supervisor"].unasked(found)
    assert told.remedy == "Allow it in sudoers: “deploy ALL=(root) NOPASSWD: /usr/bin/supervisorctl”"


@pytest.mark.parametrize(
    ("lines", "state", "is_up", "restarts", "main"),
    [
        (['APP ["shop",12,"online",3,"fork_mode",1]', "END"], "online", True, 3, (12,)),
        (['APP ["shop",12,"online",3,"x",1]', 'APP ["shop",0,"errored",15,"x",1]', "END"], "errored", False, 18, (12,)),
        (["END"], NOT_FOUND, False, 0, ()),
        (["DOWN"], "down", False, 0, ()),
        (['APP ["shop",true,7,null]', 'APP {"a": 1}', "APP [[[[", "END"], 'APP ["shop",true,7,null]', False, 0, ()),
    ],
)
def test_apps_of_pm2(lines, state, is_up, restarts, main):
    found = kept("pm2", *lines)
    assert (found.state, found.is_up, found.restarts, found.main) == (state, is_up, restarts, main)


def test_a_user_without_a_pm2_is_told_so():
    assert kept("pm2", "DOWN").problem == "no pm2 of this user is running"


def test_a_container_is_known_by_its_id_and_its_start():
    line = 'BOX ["abc","running","2026-11-26T17:50:12.123456789+01:00",12,2,0]'
    found = kept("docker", line)
    assert (found.is_up, found.run, found.restarts, found.main) == (
        True,
        "abc@2026-11-26T17:50:12.123456789+01:00",
        2,
        (12,),
    )
    assert found.since == "2026-11-26 16:50:12 UTC"
    assert kept("docker", line.replace("running", "exited").replace("2,0]", "2,137]")).state == "exited (137)"
    assert kept("docker", "[]", "Error: No such object: shop").state == NOT_FOUND
    assert kept("docker").state == NOT_FOUND
    refused = kept("docker", "REFUSED ann", "permission denied while trying to connect")
    assert "usermod -aG docker ann" in KINDS["docker"].unasked(refused).remedy


def test_who_listens_is_all_that_hold_the_socket_and_systemd_only_where_it_is_alone():
    both = 'LISTEN 0 5 *:8080 *:* users:(("nginx",pid=12,fd=3),("nginx",pid=13,fd=3),("systemd",pid=1,fd=9))'
    assert kept("port", both).main == (12, 13)
    alone = kept("port", 'LISTEN 0 5 *:8080 *:* users:(("systemd",pid=1,fd=9))')
    assert (alone.is_known, alone.main) == (False, ())
    assert (kept("port").is_up, kept("port").state) == (False, "closed")
    hidden = kept("port", "REFUSED ann", "LISTEN 0 5 *:8080 *:*")
    assert "ann ALL=(root) NOPASSWD: /usr/bin/ss" in KINDS["port"].unasked(hidden).remedy


@pytest.mark.parametrize(
    ("line", "state"),
    [
        ("PID 10 1700000099", "running"),
        ("PID 11 1700000099", "stale"),  # it has ended
        ("PID 10 1699999999", "stale"),  # began long after the file was written: another one's pid
        ("PID  1700000099", "empty"),
        ("PID x 1700000099", "empty"),
    ],
)
def test_a_pid_file_names_only_the_process_that_wrote_it(line, state):
    row = (10, 1, "node a.js", {"start": 1000})
    assert kept("pidfile", line, rows=[row]).state == state


def test_what_is_kept_is_what_its_keeper_names_and_all_below_it():
    rows = [(10, 1, "sh run.sh"), (11, 10, "node a.js"), (12, 11, "node b.js"), (20, 1, "node a.js")]
    text = answer(*rows, unit='SERVICE 0\nAPP ["shop",10,"online",0]\nEND\n')
    found = Question("shop", "pm2").find(Search(read_survey(text), ""))
    assert [it.pid for it in found.processes] == [10, 11, 12]


@pytest.mark.parametrize("kind", KINDS)
@given(text=st.text(alphabet=st.characters(codec="utf-8"), max_size=300), who=st.sampled_from(["", "REFUSED x\n"]))
def test_whatever_a_keeper_says_is_read_and_bounded(kind, text, who):
    said = answer((10, 1, "node a.js"), unit=f"SERVICE 0\n{who}BOX {text}\nAPP {text}\nLISTEN {text}\n{text}\n")
    found = Question(NAMES[kind], kind).find(
        Search(read_survey(said.replace("PROCESSES\n", "", said.count("PROCESSES\n") - 1)), "")
    )
    assert found.kept is None or len(found.kept.state) <= 1000


@given(text=st.text(alphabet=st.characters(codec="utf-8"), max_size=500))
def test_whatever_a_server_says_of_its_services_is_read(text):
    for part in ("systemd", "user", "supervisor", "pm2", "docker", "port"):
        found = inventory.read(f"PART {part}\n{text}\nId={text}\nAPP [{text}]\n")
        assert all(len(it.name) <= 200 and it.kind in KINDS for it in found.offered)


@pytest.mark.parametrize("kind", KINDS)
def test_every_text_is_one_that_sh_can_read(kind):
    """Quoted, also where another user is asked."""
    for where in (Where("/srv/it's mine"), Where("~/shop", "o'neill")):
        it, name = KINDS[kind], NAMES[kind]
        texts = [it.ask(name, where), it.evidence(name, where)]
        texts += [text for does in Does for text in (it.act(name, where, does), it.permission(name, where, does))]
        for text in (*texts, inventory.question(where.run_as)):
            done = subprocess.run(["sh", "-n"], input=text, capture_output=True, text=True)
            assert (done.returncode, done.stderr) == (0, ""), text


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("port", "0"),
        ("port", "http"),
        ("systemd", "-H evil"),
        ("systemd", "a b"),
        ("supervisor", "all; id"),
        ("supervisor", "-c -x shop"),
        ("pm2", "all"),
        ("pm2", "--kill"),
        ("docker", "-v"),
        ("docker", "a/b/c"),
        ("docker", ""),
    ],
)
def test_a_name_that_no_service_has_is_refused(kind, name):
    with pytest.raises(ValueError, match=r"\."):
        check_name(kind, name)


def test_a_pid_file_is_told_from_words_by_its_path():
    assert [found_by("process", it) for it in ("node server.js", "/run/a.pid", "tmp/a.pid", "~/a")] == [
        "process",
        "pidfile",
        "pidfile",
        "pidfile",
    ]


def test_the_restart_of_several_services_is_that_of_each_or_none():
    two = [("systemd", "web"), ("pm2", "api")]
    assert own_command(two, Does.RESTART) == "systemctl restart web && pm2 reload api"
    assert own_command([("systemd", "web")], Does.RELOAD) == "systemctl reload web"
    assert own_command([("systemd", "web"), ("port", "80")], Does.RESTART) == ""
    assert own_command([("process", "server.py")], Does.RESTART) == ""


def test_several_services_are_stopped_from_the_last_to_the_first():
    three = [("systemd", "web"), ("supervisor", "worker"), ("docker", "shop/db")]
    assert own_command(three, Does.STOP) == (
        "docker compose -p shop stop db && supervisorctl stop worker && systemctl stop web"
    )
    assert own_command(three, Does.START).startswith("systemctl start web && supervisorctl start worker && ")
