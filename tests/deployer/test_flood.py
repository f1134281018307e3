"""Scripts that print more than can be written down at once: nothing is lost, little is held, and nobody looks lost."""

import resource
import threading
import time
from collections.abc import Iterator

import pytest
from django.db import OperationalError, connection

from deployer.engine.routines import carry_out, settle_lost
from deployer.log import rows
from deployer.log.lines import LINE_LIMIT
from deployer.log.masking import Masker
from deployer.log.writing import BATCH, HELD, Log
from deployer.models import Deployment, LogLine, Target
from deployer.queue.sweep import sweep, work_horse_killed
from servers.models import Server
from servers.shell import Script
from servers.ssh.shell import connect
from servers.supervised.follower import Follower
from servers.supervised.run import SupervisedRun
from tests.factories import make_deployment, make_group, make_project, make_server
from tests.parts.cue import Cue
from tests.parts.programs import PATIENCE, wait_for_end, wait_until
from tests.parts.queue import QueueServer
from tests.parts.sshd import OpenSSHServer
from tests.parts.worker import Worker

pytestmark = pytest.mark.django_db(transaction=True)

LINES = 300_000
MANY = 100_000


def launched(sshd, folder, text: str, **values) -> Deployment:
    path = folder / "restart.sh"
    path.write_text(text)
    project = make_project(deploy_script_path=str(path), **values)
    return make_deployment(project, make_group(make_server(sshd, name="web-1")), deployment_type="restart_only")


def numbers(deployment: Deployment, stream: str = "stdout") -> Iterator[int]:
    contents = deployment.log_lines.filter(stream=stream).order_by("id").values_list("content", flat=True)
    return map(int, contents.iterator(chunk_size=5000))


def is_whole(deployment: Deployment, stream: str = "stdout", last: int = LINES) -> bool:
    """Whether each line from 1 to ``last`` is there once, in its place."""
    return list(numbers(deployment, stream)) == list(range(1, last + 1))


class Watched:
    """Sees each sign of life, and how much of the log is held at most."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.beats: list[float] = []
        self.held = 0
        beat, add = Deployment.beat, Log.add

        def watched_beat(deployment: Deployment) -> bool:
            alive = beat(deployment)
            self.beats.append(time.monotonic())
            return alive

        def watched_add(log: Log, *args, **values) -> None:
            add(log, *args, **values)
            self.held = max(self.held, sum(piece.weight for piece in list(log._held)))

        monkeypatch.setattr("deployer.engine.run.BEAT_EVERY", 0.2)
        monkeypatch.setattr("deployer.engine.run.LOOK_FOR_WISHES_EVERY", 0.1)
        monkeypatch.setattr(Deployment, "beat", watched_beat)
        monkeypatch.setattr(Log, "add", watched_add)


def test_while_no_row_can_be_written_a_worker_shows_signs_of_life_and_reads_no_more(sshd, tmp_path, monkeypatch):
    watched, may_write = Watched(monkeypatch), threading.Event()
    write = rows.write

    def held_up(writer: rows.Writer, last_number: int, pieces, *book) -> int | None:
        if any(piece.stream == "stdout" for piece in pieces):
            may_write.wait(PATIENCE)
        return write(writer, last_number, pieces, *book)

    monkeypatch.setattr(rows, "write", held_up)
    deployment = launched(sshd, tmp_path, f"seq {LINES}; touch {tmp_path}/ended")
    worker = threading.Thread(target=carry_out, args=[deployment.pk], name="the worker")
    worker.start()
    wait_until(lambda: watched.held >= HELD, "the log to be full")
    wait_until((tmp_path / "ended").exists, "the script, which waits for nothing")
    before = len(watched.beats)
    wait_until(lambda: len(watched.beats) >= before + 5, "signs of life")
    # A channel gives so much at once; of each stream, one such piece may come when the log is all but full.
    assert watched.held < HELD + 8 * (1 << 20)
    assert not deployment.log_lines.filter(stream="stdout").exists()
    may_write.set()
    wait_for_end(worker)
    deployment.refresh_from_db()
    assert deployment.status == "success", deployment.error_message
    assert is_whole(deployment)


def test_a_slow_log_keeps_the_server_waiting_and_every_line_arrives_in_order(sshd, tmp_path, monkeypatch):
    watched = Watched(monkeypatch)
    write = rows.write

    def slow(*args) -> int | None:
        time.sleep(0.15)
        return write(*args)

    monkeypatch.setattr(rows, "write", slow)
    deployment = launched(sshd, tmp_path, f"seq {LINES} & seq {LINES} >&2; wait", script_timeout=3)
    assert carry_out(deployment.pk)
    deployment.refresh_from_db()
    assert deployment.status == "success", deployment.error_message
    assert is_whole(deployment, "stdout")
    assert is_whole(deployment, "stderr")
    assert watched.held < HELD + 8 * (1 << 20)
    assert max(b - a for a, b in zip(watched.beats, watched.beats[1:], strict=False)) < 20
    target = deployment.targets.get()
    size = sum(len(f"{number}\n") for number in range(1, LINES + 1))
    assert (target.stdout_logged, target.stderr_logged) == (size, size)


def test_a_table_that_somebody_has_locked_makes_no_worker_look_lost(sshd, tmp_path, monkeypatch):
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one lock for all: nobody can be found lost either while somebody holds it")
    watched = Watched(monkeypatch)
    deployment = launched(sshd, tmp_path, f"{Cue(tmp_path)}; seq {LINES}")
    cue = Cue(tmp_path)
    worker = threading.Thread(target=carry_out, args=[deployment.pk], name="the worker")
    worker.start()
    cue.wait()
    with connection.cursor() as cursor:
        cursor.execute("BEGIN; LOCK TABLE deployer_logline IN ACCESS EXCLUSIVE MODE")
        try:
            cue.give()
            wait_until(lambda: watched.held >= HELD, "the log to be full")
            before = len(watched.beats)
            wait_until(lambda: len(watched.beats) >= before + 10, "signs of life")
        finally:
            cursor.execute("COMMIT")
    wait_for_end(worker)
    assert is_whole(deployment)


def test_a_build_that_prints_more_than_can_be_written_waits_for_the_log(sshd, git_repo, tmp_path, monkeypatch):
    watched = Watched(monkeypatch)
    (tmp_path / "restart.sh").touch()
    project = make_project(
        git_url=git_repo.url,
        build_script=f"seq {LINES}",
        deploy_path=str(tmp_path / "srv"),
        deploy_script_path=f"{tmp_path}/restart.sh",
    )
    deployment = make_deployment(project, make_group(make_server(sshd)))
    assert carry_out(deployment.pk)
    deployment.refresh_from_db()
    assert deployment.status == "success", deployment.error_message
    assert is_whole(deployment)
    assert watched.held < HELD + 8 * (1 << 20)


def test_after_a_work_horse_was_killed_in_a_flood_no_line_is_lost_or_doubled(sshd, worker, tmp_path):
    deployment = launched(sshd, tmp_path, f"echo x >>{tmp_path}/n; seq {LINES} & seq {LINES} >&2; wait")
    for enough in (20_000, 200_000):
        wait_until(deployment.log_lines.filter(number__gt=enough).exists, "the flood to be under way")
        worker.kill_horse()
    wait_until(lambda: Deployment.objects.ended().filter(pk=deployment.pk).exists(), "the deployment to end")
    deployment.refresh_from_db()
    assert deployment.status == "success", deployment.error_message
    assert is_whole(deployment, "stdout")
    assert is_whole(deployment, "stderr")
    assert (tmp_path / "n").read_text() == "x\n"
    numbers = deployment.log_lines.order_by("id").values_list("number", flat=True)
    assert list(numbers) == list(range(1, len(numbers) + 1))


def lost_in_the_middle(sshd: OpenSSHServer, folder, monkeypatch: pytest.MonkeyPatch) -> tuple[Deployment, Target, Log]:
    """A deployment whose script has printed 1 to 100,000, and the log of its worker."""
    monkeypatch.setattr("deployer.queue.sweep.GRACE", 0.1)
    deployment = launched(sshd, folder, "true")
    assert deployment.claim_for_worker()
    target = deployment.targets.get()
    target.deployment = deployment
    assert target.move(Target.Status.RESTARTING)
    with connect(Server.objects.get()) as shell:
        run = SupervisedRun(shell, target.run_key)
        run.run(Script(f"seq {MANY}"), lambda _stream, _data: None, timeout=PATIENCE, stop=threading.Event())
    return deployment, target, Log(deployment, Masker([]))


def settle(deployment: Deployment) -> int:
    """Have it settled; gives how many bytes of the output were read for that."""
    Deployment.objects.filter(pk=deployment.pk).update(heartbeat_at="2000-01-01T00:00:00Z")
    assert sweep()["lost"] == [deployment.pk]
    read = 0
    hand_on = Follower.hand_on

    def counted(follower: Follower, stream: str, data: bytes) -> None:
        nonlocal read
        read += len(data)
        hand_on(follower, stream, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Follower, "hand_on", counted)
        assert settle_lost(deployment.pk)
    return read


def test_a_settlement_reads_on_where_the_log_ends(sshd, queue_server: QueueServer, tmp_path, monkeypatch):
    deployment, target, log = lost_in_the_middle(sshd, tmp_path, monkeypatch)
    sink = log.output(target)
    text = b"".join(b"%d\n" % number for number in range(1, MANY - 50))
    sink("stdout", text + b"99")  # a line that is not whole
    log.flush()
    target.refresh_from_db()
    assert target.stdout_logged == len(text)
    assert settle(deployment) == sum(len(f"{number}\n") for number in range(MANY - 50, MANY + 1))
    deployment.refresh_from_db()
    assert deployment.status == "success", deployment.error_message
    assert is_whole(deployment, last=MANY)


def test_what_a_worker_of_the_first_version_left_is_not_written_twice(sshd, queue_server, tmp_path, monkeypatch):
    deployment, target, log = lost_in_the_middle(sshd, tmp_path, monkeypatch)
    sink = log.output(target)
    sink("stdout", b"".join(b"%d\n" % number for number in range(1, 601)))
    log.flush()
    Target.objects.filter(pk=target.pk).update(stdout_logged=0)  # it did not write that down
    assert settle(deployment) > 500_000
    assert is_whole(deployment, last=MANY)


def test_the_output_of_a_rollback_is_read_on_too(sshd, worker: Worker, git_repo, tmp_path):
    cue = Cue(tmp_path)
    script = "echo I am $DEPLOY_RELEASE\n"
    git_repo.commit({"restart.sh": f"{script}[ -e {tmp_path}/go ] || {{ {cue}; }}\necho fine"})
    values = {"git_url": git_repo.url, "deploy_path": str(tmp_path / "srv"), "deploy_script_path": "restart.sh"}
    project, group = make_project(auto_rollback=True, **values), make_group(make_server(sshd))
    (tmp_path / "go").touch()
    first = make_deployment(project, group)
    wait_until(lambda: Deployment.objects.ended().filter(pk=first.pk).exists(), "the first release")
    before = first.targets.get().release_after
    (tmp_path / "go").unlink()
    git_repo.commit({"restart.sh": script + "exit 3\n"})
    second = make_deployment(project, group)
    cue.wait()
    printed = second.log_lines.filter(stream="stdout", target__isnull=False).values_list("content", flat=True)
    wait_until(lambda: f"I am {before}" in list(printed.all()), "the first line of the rollback")
    worker.kill_horse()
    cue.give()
    wait_until(lambda: Deployment.objects.ended().filter(pk=second.pk).exists(), "the deployment to end")
    second.refresh_from_db()
    assert second.targets.get().status == "rolled_back"
    assert list(printed.all()) == [f"I am {second.release}", f"I am {before}", "fine"]


@pytest.mark.parametrize("committed", [True, False])
def test_a_write_of_which_nobody_knows_whether_it_was_made_is_not_made_twice(sshd, tmp_path, monkeypatch, committed):
    deployment = launched(sshd, tmp_path, "true")
    assert deployment.claim_for_worker()
    log = Log(deployment, Masker([]))
    log.say("one")
    write = rows.write

    def cut(*args) -> bool:
        if committed:
            write(*args)
        raise OperationalError("the connection was cut")

    with monkeypatch.context() as patch:
        patch.setattr(rows, "write", cut)
        with pytest.raises(OperationalError):
            log.flush()
    log.say("two")
    log.flush()
    assert list(deployment.log_lines.order_by("id").values_list("number", "content")) == [(1, "one"), (2, "two")]


def test_a_line_without_end_takes_little_memory_and_is_cut(sshd, tmp_path):
    deployment = launched(
        sshd, tmp_path, r"head -c 60000000 /dev/zero | tr '\0' x; echo; echo next; head -c 99 /dev/zero"
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert carry_out(deployment.pk)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40_000
    first, second, last = deployment.log_lines.filter(stream="stdout").order_by("id").values_list("content", flat=True)
    assert first == "x" * LINE_LIMIT + f" … [line cut: {60_000_000 - LINE_LIMIT} more]"
    assert (second, last) == ("next", "")


def test_a_text_of_any_kind_is_written_as_it_is(sshd, tmp_path):
    deployment = launched(sshd, tmp_path, "true")
    assert deployment.claim_for_worker()
    log = Log(deployment, Masker([]))
    texts = ['"', "\\", "\\u0000", "{}", "'; --", "%s", "é 中 😀", "\ttab", "", "null", "123", "x" * BATCH]
    log.add(None, "stdout", "info", texts)
    log.say("half a character: \udc80")
    log.flush()
    found = list(deployment.log_lines.order_by("id").values_list("content", flat=True))
    assert found == [*texts, "half a character: ?"]
    assert LogLine.objects.filter(deployment=deployment).latest("id").number == len(found)


def test_a_worker_that_shows_a_sign_of_life_in_time_is_not_lost(sshd, queue_server, tmp_path, monkeypatch):
    monkeypatch.setattr("deployer.queue.sweep.GRACE", 1.0)
    deployment = launched(sshd, tmp_path, "true")
    assert deployment.claim_for_worker()
    # As when the clock was put forward, or the database was away.
    Deployment.objects.filter(pk=deployment.pk).update(heartbeat_at="2000-01-01T00:00:00Z")

    def beat() -> None:
        deployment.beat()
        connection.close()

    timer = threading.Timer(0.3, beat)
    timer.start()
    assert sweep()["lost"] == []
    timer.join()
    # Neither is it when the process is gone that had held it before.
    assert not work_horse_killed(deployment.pk, "another claim", 9)
    assert Deployment.objects.get(pk=deployment.pk).claim == deployment.claim
    assert work_horse_killed(deployment.pk, deployment.claim, 9)
