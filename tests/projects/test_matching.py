"""Which processes are taken for a service, by what a server's own list of processes says."""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployer.probing.identity import Question
from projects.commands.judging import Judge
from projects.commands.matching import Found, Name, Search, choose
from projects.commands.processes import read_survey
from projects.commands.proof import Proof
from projects.commands.services.kind import Does

#: pid, parent, command, and where they are not those of the application: folder, program, user, start, image.
Row = tuple[object, ...]


def answer(*rows: Row, folder: str = "/srv/shop", unit: str = "", user: str = "") -> str:
    """What a server prints about these processes."""
    listing, places = ["/proc/stat:btime 1700000000", *_stat(99_999, 1, 1_000_000)], []
    for row in rows:
        pid, parent, command, cwd, program, uid, start, image, group = _whole(row)
        listing += _stat(pid, parent, start, image)
        listing.append(f"/proc/{pid}/cmdline:{command.replace(' ', chr(0))}")
        listing.append(f"/proc/{pid}/cgroup:0::{group}")
        for name, leads in (("cwd", cwd), ("exe", program)):
            places.append(
                f"lrwxrwxrwx 1 {uid} {uid} 0 Nov 26 04:20 /proc/{pid}/{name}" + (f" -> {leads}" if leads else "")
            )
    head = f"BOOT one\nSELF 99999\nFOLDER {folder}\n" + (f"USER {user}\n" if user else "") + unit
    return head + "PROCESSES\n" + "\n".join(listing) + "\nPLACES\n" + "\n".join(places) + "\n"


def _stat(pid: int, parent: int, start: int, image: int = 7) -> list[str]:
    return [f"/proc/{pid}/stat:{pid} (a) b) S {parent} {'0 ' * 17}{start} 0 0 0 0 0 {image} 0"]


def _whole(row: Row) -> tuple[int, int, str, str, str, int, int, int, str]:
    pid, parent, command = row[:3]
    values: Any = row[3] if len(row) > 3 else {}
    first = str(command).split()[0].rstrip(":")
    return (
        int(str(pid)),
        int(str(parent)),
        str(command),
        values.get("cwd", "/srv/shop"),
        values.get("exe", f"/usr/bin/{first.rpartition('/')[2]}"),
        values.get("user", 33),
        values.get("start", int(str(pid)) * 10),
        values.get("image", 7),
        values.get("group", "/system.slice/cron.service"),
    )


def look(name: str, *rows: Row, derived: bool = False, **values: str) -> Found:
    return Search(read_survey(answer(*rows, **values)), "2").by_name(Name(name, derived=derived))


def pids(found: Iterable[object]) -> list[int]:
    return [it.pid for it in found]  # type: ignore[attr-defined]


def meant(name: str, *rows: Row, derived: bool = False) -> list[int]:
    return pids(choose((), look(name, *rows, derived=derived).processes).after)


PYTHON = {"exe": "/usr/bin/python3.11"}
NODE = {"exe": "/usr/bin/node"}
BUSY = {"exe": "/bin/busybox"}
ELSEWHERE = {"cwd": "/srv/other"}


@pytest.mark.parametrize(
    ("name", "command", "fits"),
    [
        ("server.js", "node /srv/shop/current/server.js", True),
        ("node server.js", "/usr/bin/node --max-old-space-size=512 /srv/shop/server.js --port 80", True),
        ("server.js", "node /srv/shop/server.json", False),
        ("server.js", "node /srv/shop/my-server.js", False),
        ("shop", "/opt/shop/bin/shop", True),
        ("shop", "/opt/shop/bin/shop-worker", True),  # only where there is none better: the folder has the name
        ("shop", "/opt/x/shop-worker", False),
        ("shop", "/opt/x/shop2", False),
        ("shop", "/opt/x/workshop", False),
        ("-jar shop", "java -Xmx512m -jar shop-1.4.2-SNAPSHOT.jar", True),
        ("-jar shop", "java -jar shopping.jar", False),
        ("php-fpm", "php-fpm: master process (/etc/php/8.2/fpm/php-fpm.conf)", True),
        ("php-fpm", "/usr/sbin/php-fpm8.2 --nodaemonize", True),
        ("nginx", "nginx: worker process", True),
        ("python app.py", "python3.11 -u app.py", True),
        ("./shop", "/srv/shop/current/shop", True),
        ("shop.wsgi", "gunicorn: master [shop.wsgi:application]", True),
        ("spring.profiles.active=prod", "java -Dspring.profiles.active=prod -jar x.jar", True),
        ("prod", "java -Dspring.profiles.active=prod -jar x.jar", True),
        ("prod", "java -Dspring.profiles.active=production -jar x.jar", False),
        ("gunicorn -w 2", "/venv/bin/python /venv/bin/gunicorn -w 2 app:app", True),
        ("gunicorn -w 2", "/venv/bin/python /venv/bin/gunicorn -w 4 app:app", False),
    ],
)
def test_the_words_of_a_name_are_whole_words_of_the_command(name, command, fits):
    assert (meant(name, (1, 0, command)) == [1]) is fits


@pytest.mark.parametrize(
    ("name", "rows", "found"),
    [
        ("server.js", [(1, 0, "node server.js"), (2, 0, "tail -F server.js.log"), (3, 0, "vim server.js")], [1]),
        ("server.js", [(2, 0, "tail -F /srv/shop/server.js"), (3, 0, "less server.js")], []),
        ("server.js", [(2, 0, "vi server.js", {"exe": "/usr/bin/vim.basic"}), (3, 0, "tail server.js", BUSY)], []),
        ("tail -F a.log", [(2, 0, "tail -F a.log")], [2]),
        ("server.js", [(1, 0, "sh -c while :; do node server.js; done"), (2, 1, "node server.js")], [2]),
        ("run.sh", [(1, 0, "bash run.sh"), (2, 1, "java -jar a.jar", {"cwd": "/"})], [2]),
        ("run.sh", [(1, 0, "bash run.sh"), (2, 1, "sleep 5")], [1]),
        ("run.sh", [(1, 0, "bash run.sh"), (2, 1, "python job.py", {"start": 999_000})], [1]),
        ("server.js", [(1, 0, "node server.js"), (2, 0, "node server.js", ELSEWHERE)], [1]),
        ("shop", [(1, 0, "/srv/shop/shop"), (2, 0, "/srv/shop/shop-worker"), (3, 0, "/srv/shop/shop2")], [1]),
        ("shop", [(1, 0, "/usr/bin/python3 /usr/bin/supervisord -c /srv/shop/s.conf"), (2, 1, "./shop")], [2]),
        ("shop", [(1, 0, "PM2 v5.3: God Daemon (/srv/shop/.pm2)", NODE), (2, 1, "node /srv/shop/a.js")], [2]),
        (
            "gunicorn -w 2",
            [(1, 0, "gunicorn: master [app:app]", PYTHON), (2, 1, "gunicorn: worker [app:app]", PYTHON)],
            [1, 2],
        ),
        ("gunicorn -w 2", [(1, 0, "gunicorn: master [app:app]", PYTHON | ELSEWHERE)], []),
        ("cluster.js", [(1, 0, "node cluster.js"), (2, 1, "node child.js"), (3, 1, "ffmpeg -i x")], [1, 2]),
    ],
)
def test_of_those_that_have_the_words_the_application_is_meant(name, rows, found):
    assert meant(name, *rows) == found


def test_the_user_that_scripts_run_as_decides_where_the_folder_does_not():
    rows = [(1, 0, "node server.js", {"cwd": "/", "user": 33}), (2, 0, "node server.js", {"cwd": "/", "user": 34})]
    found = look("server.js", *rows, user="34")
    assert pids(choose((), found.processes, found.user).after) == [2]


def test_of_those_in_the_folder_the_user_that_scripts_run_as_is_meant_with_its_workers():
    master = (1, 0, "node server.js", {"user": 0})
    rows = [master, (2, 1, "node server.js", {"user": 33}), (3, 0, "node server.js", {"user": 65534})]
    found = look("server.js", *rows, user="0")
    assert pids(choose((), found.processes, found.user).after) == [1, 2]
    # A worker that has lost its master is not forgotten.
    orphan = look("server.js", (2, 0, "node server.js", {"user": 33, "start": 20}), user="0")
    assert Judge(found, named=True)(orphan, last=True).verdict == "unchanged"


def test_what_runs_from_the_folder_under_other_words_is_near():
    found = look(
        "gunicorn", (1, 0, "puma 6.4 [shop]", {"exe": "/usr/bin/ruby3.1"}), (2, 0, "tail -f a.log"), (3, 0, "sh")
    )
    assert (pids(found.processes), pids(found.near)) == ([], [1])


def test_a_name_of_two_letters_is_derived_from_nothing():
    assert meant("ab", (1, 0, "about"), derived=True) == []
    assert meant("abc", (1, 0, "ab-c"), derived=True) == [1]


def test_a_folder_cannot_pass_for_the_folder_of_another_process():
    text = answer((1, 0, "node a.js"), (2, 0, "node b.js", {"cwd": "/x /proc/1/cwd -> /srv/evil"}))
    place = read_survey(text.replace("/proc/1/cwd -> /srv/shop", "/proc/1/cwd", 1)).place(1)
    assert place.folder == ""


def test_old_code_is_known_by_the_release_it_works_in_also_through_links():
    text = answer((1, 0, "node a.js", {"cwd": "/data/releases/1/app (deleted)"}))
    text = text.replace("PROCESSES", "RELEASES /data/releases\nPROCESSES", 1)
    (process,) = Search(read_survey(text), "2").by_name(Name("a.js")).processes
    assert (process.old, process.inside) == ("1", True)


@given(st.text(max_size=300), st.text(max_size=60))
def test_whatever_a_server_says_is_read(text, name):
    survey = read_survey(
        f"BOOT x\nSELF 1\nPROCESSES\n/proc/7/stat:7 ({text}) S 1 {'3 ' * 40}\n/proc/7/cmdline:{text}\n{text}"
    )
    Search(survey, "1").by_name(Name(name))


# --- verdicts -----------------------------------------------------------------------------------------

MASTER = (10, 1, "gunicorn: master [app]", PYTHON)


def worker(pid: int, parent: int = 10) -> Row:
    return (pid, parent, "gunicorn: worker [app]", PYTHON)


@pytest.mark.parametrize(
    ("reloads", "before", "after", "verdict"),
    [
        (False, [MASTER, worker(11)], [(20, 1, "gunicorn: master [app]", PYTHON), worker(21, 20)], "replaced"),
        (False, [MASTER, worker(11)], [MASTER, worker(21)], "unchanged"),
        (True, [MASTER, worker(11), worker(12)], [MASTER, worker(21), worker(22)], "reloaded"),
        (True, [MASTER, worker(11)], [MASTER, worker(11)], "unchanged"),
        (True, [MASTER, worker(11)], [MASTER, worker(11), worker(21)], "reloaded"),  # at the end of its time
        (True, [MASTER, worker(11), worker(12)], [MASTER, worker(11), worker(12), worker(21)], "unchanged"),
        # USR2: a second master, the child of the first one
        (True, [MASTER, worker(11)], [MASTER, worker(11), (20, 10, MASTER[2], PYTHON), worker(21, 20)], "unchanged"),
        (True, [MASTER, worker(11), worker(12)], [MASTER, (20, 10, MASTER[2], PYTHON), worker(21, 20)], "unchanged"),
        # a worker with a child of its own
        (True, [MASTER, worker(11), worker(12)], [MASTER, worker(21), worker(22), worker(23, 21)], "reloaded"),
        (True, [MASTER], [MASTER], "unknown"),
        (True, [MASTER], [], "dead"),
        (False, [], [], "dead"),
        # executed anew in place
        (False, [MASTER, worker(11)], [(*MASTER[:3], PYTHON | {"image": 8}), worker(21)], "reloaded"),
        # the new one dies, its log is followed
        (False, [(1, 0, "node gunicorn")], [(2, 0, "tail -F gunicorn.log")], "dead"),
        (False, [(1, 0, "sh -c while :; do node gunicorn; done"), (2, 1, "node gunicorn")],
         [(1, 0, "sh -c while :; do node gunicorn; done"), (3, 1, "node gunicorn")], "replaced"),
    ],
)  # fmt: skip
def test_the_verdict_is_on_the_set_of_processes(reloads, before, after, verdict):
    judge = Judge(look("gunicorn", *before), named=True, does=Does.RELOAD if reloads else Does.RESTART)
    assert judge(look("gunicorn", *after), last=True).verdict == verdict


def test_one_that_goes_by_another_title_by_now_is_still_the_same():
    judge = Judge(look("gunicorn -w 2", (10, 1, "gunicorn -w 2 app:app", PYTHON | ELSEWHERE)), named=True)
    after = look("gunicorn -w 2", (10, 1, "gunicorn: master [app:app]", PYTHON | ELSEWHERE))
    assert judge(after).verdict == "unchanged"


def of_unit(*rows: Row, **facts: object) -> Found:
    known = {
        "LoadState": "loaded",
        "ActiveState": "active",
        "SubState": "running",
        "Type": "simple",
        "Result": "success",
    }
    values = (
        known | {"ControlGroup": "/system.slice/shop.service"} | {name: str(value) for name, value in facts.items()}
    )
    text = "SERVICE 0\nUNIT system\n" + "".join(f"{name}={value}\n" for name, value in values.items())
    return Question("shop.service", "systemd").find(Search(read_survey(answer(*rows, unit=text)), ""))


GROUP = {"group": "/system.slice/shop.service"}


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (((1, 0, "node a.js", GROUP),), ((2, 0, "node a.js", GROUP),), "replaced"),
        # KillMode=process: the shell was replaced, the application it had started was not
        (
            ((1, 0, "sh run.sh", GROUP), (2, 1, "node a.js", GROUP)),
            ((2, 0, "node a.js", GROUP), (3, 0, "sh run.sh", GROUP)),
            "unchanged",
        ),
        # the shell was replaced, and the application below it is dead
        (((1, 0, "sh run.sh", GROUP), (2, 1, "node a.js", GROUP)), ((3, 0, "sh run.sh", GROUP),), "dead"),
        # so it is where something else waits in its place
        (((1, 0, "sh run.sh", GROUP), (2, 1, "node a.js", GROUP)), ((3, 0, "sleep infinity", GROUP),), "dead"),
        # an old one has left the group and still runs
        (((1, 0, "node a.js", GROUP),), ((1, 0, "node a.js"), (2, 0, "node a.js", GROUP)), "unchanged"),
    ],
)
def test_a_unit_is_all_the_processes_of_its_group(before, after, verdict):
    old, new = of_unit(*before, MainPID=1, InvocationID="a"), of_unit(*after, MainPID=after[-1][0], InvocationID="b")
    assert Judge(old, named=True)(new, last=True).verdict == verdict


@pytest.mark.parametrize(
    ("facts", "verdict", "words"),
    [
        ({"InvocationID": "b", "Type": "oneshot", "SubState": "exited"}, "replaced", "shop.service since 20"),
        ({"InvocationID": "a", "Type": "oneshot", "SubState": "exited"}, "unchanged", "shop.service since 20"),
        ({"InvocationID": "b", "Type": "oneshot", "ActiveState": "inactive", "SubState": "dead"}, "replaced", "shop"),
        ({"InvocationID": "b", "ActiveState": "failed", "Result": "exit-code"}, "dead", ""),
        ({"InvocationID": "b", "ActiveState": "activating", "SubState": "auto-restart"}, "crash-looping", ""),
        ({"LoadState": "not-found", "ActiveState": "inactive"}, "dead", ""),
    ],
)
def test_a_unit_without_a_process_is_known_by_its_run(facts, verdict, words):
    before = of_unit(InvocationID="a", Type="oneshot", SubState="exited")
    judgement = Judge(before, named=True)(of_unit(**facts), last=True)
    assert judgement.verdict == verdict
    told = " ".join(map(str, judgement.after))
    assert words in told
    assert "pid 0" not in told


def test_where_only_the_shell_of_a_unit_runs_it_is_not_said_to_be_dead_and_active() -> None:
    old = of_unit((1, 0, "sh run.sh", GROUP), (2, 1, "node a.js", GROUP), MainPID=1, InvocationID="a")
    new = of_unit((3, 0, "sh run.sh", GROUP), MainPID=3, InvocationID="b")
    found = Judge(old, named=True)(new, last=True)
    proof = Proof(found.before, found.after, found.verdict, "shop.service", state="active (running)")
    assert proof.in_words.startswith("The application of shop.service is not running: there is only pid 3 “sh run.sh”")
