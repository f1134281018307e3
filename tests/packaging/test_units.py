"""Units of systemd: what they say. `make install-check` runs them on a machine that systemd has booted."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deployer.host.given import Given, credentials, env_file
from deployer.host.listening import handed_over, tell_systemd
from deployer.host.units import Place, apart, in_one, next_steps, of_a_user
from tests.packaging.bare import UPKEEP, steps
from tests.parts.package import HOUSE
from tests.parts.worker import MANAGE

PLACE = Place(Path("/opt/deployer/bin/deployer"), "deployer", Path("/var/lib/deployer"), "127.0.0.1:8000")


def lines(unit: str) -> dict[str, str]:
    """The settings of a unit, the last of each name."""
    return dict(line.split("=", 1) for line in unit.splitlines() if "=" in line)


def test_one_unit_finishes_what_it_has_begun_and_comes_back() -> None:
    (unit,) = in_one(PLACE).values()
    found = lines(unit)
    assert found["ExecStart"] == "/opt/deployer/bin/deployer up"
    assert (found["Restart"], found["KillMode"], found["User"]) == ("always", "mixed", "deployer")
    assert (found["NoNewPrivileges"], found["ProtectSystem"], found["ProtectHome"]) == ("yes", "strict", "yes")
    assert "RestrictNamespaces" not in found, "builds have namespaces of their own"


def test_each_part_has_a_unit_and_what_builds_nothing_is_closed_further() -> None:
    units = apart(PLACE)
    started = {lines(text)["ExecStart"].partition(" ")[2] for name, text in units.items() if name.endswith(".service")}
    assert started == {"migrate", "web", "worker", "worker look", "worker follow", "courier"}
    assert "RestrictNamespaces" not in lines(units["deployer-worker@.service"])
    assert lines(units["deployer-web.service"])["RestrictNamespaces"] == "yes"
    assert lines(units["deployer-web.socket"])["ListenStream"] == "127.0.0.1:8000"
    assert all("deployer.target" in text for text in units.values() if "Description=deployer\n" not in text)


def test_the_paper_enables_what_is_written() -> None:
    paper = "\n".join(steps("In parts, on PostgreSQL"))
    assert all(step in paper for step in next_steps(apart(PLACE)))
    assert all(step in "\n".join(steps("As root")) for step in next_steps(in_one(PLACE)))
    assert all(step in "\n".join(steps("Without root")) for step in next_steps(of_a_user(PLACE), of_root=False))


def test_an_upgrade_in_parts_starts_each_of_them_again_the_form_of_the_database_first_and_workers_last() -> None:
    (block,) = steps("Upgrade", UPKEEP)
    restarted = re.findall(r"deployer-[a-z]+(?:@1)?\.service", block.replace("systemctl restart ", ""))
    written = {name.replace("@", "@1") for name in apart(PLACE) if name.endswith(".service")}
    assert {*restarted} == written
    assert restarted[:2] == ["deployer-migrate.service", "deployer-web.service"]
    assert restarted[-1] == "deployer-worker@1.service"
    migrates = block.partition("\n")[0]
    assert "web" not in migrates, "pages that are restarted with it would be away while it lasts"


def test_a_strange_path_stays_one_path() -> None:
    strange = Place(Path('/srv/a "b" 100%/deployer'), "deployer", Path("/home/ann/da ta"), "127.0.0.1:8000")
    found = lines(in_one(strange)["deployer.service"])
    assert found["ExecStart"] == r'"/srv/a \"b\" 100%%/deployer" up'
    assert found["ReadWritePaths"] == '"/home/ann/da ta"'
    assert found["ProtectHome"] == "read-only"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--user", "root\nExecStart=/bin/sh"], "is no name of a user"),
        (["--apart"], "set REDIS_URL"),
        (["--write", "--user", "nobody-of-that-name"], "useradd --system"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments: list[str], why: str, tmp_path: Path) -> None:
    if arguments[0] == "--write" and os.geteuid() != 0:
        pytest.skip("only root writes units of the system")
    environment = os.environ | {"DEPLOYER_DATA_DIR": str(tmp_path), "REDIS_URL": ""}
    environment |= {"DJANGO_SETTINGS_MODULE": "deployer.settings", "DATABASE_URL": ""}
    done = subprocess.run([*MANAGE, "units", *arguments], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert why in done.stderr


def test_a_unit_says_where_to_listen_only_where_the_settings_file_cannot(tmp_path: Path) -> None:
    file = tmp_path / "deployer.env"
    environment = {"PATH": os.environ["PATH"], "DEPLOYER_DATA_DIR": str(tmp_path), "DEPLOYER_ENV_FILE": str(file)}

    def written(**more: str) -> dict[str, str]:
        command = [*MANAGE, "units", "--user", "nobody"]
        return lines(subprocess.check_output(command, env=environment | more, text=True))

    file.write_text("")
    assert "DEPLOYER_BIND" not in written()["Environment"], "a line that is added later counts"
    file.write_text("DEPLOYER_BIND=127.0.0.1:9000\n")
    assert "DEPLOYER_BIND" not in written()["Environment"]
    file.write_text("")
    assert written(DEPLOYER_BIND="127.0.0.1:9001")["Environment"] == "DEPLOYER_BIND=127.0.0.1:9001"


def test_a_secret_comes_from_a_file_that_systemd_hands_over_and_what_is_set_counts_first(tmp_path: Path) -> None:
    (tmp_path / "deployer_DATABASE_URL").write_text("postgres://a:b@db/shop\n")
    (tmp_path / "another").write_text("not ours")
    found = credentials({"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert found == {"DATABASE_URL": "postgres://a:b@db/shop"}
    assert Given({**found, "DATABASE_URL": "sqlite:////x"}).text("DATABASE_URL") == "sqlite:////x"
    assert credentials({"CREDENTIALS_DIRECTORY": str(tmp_path / "nowhere")}) == {}


def test_the_settings_of_a_user_of_their_own_count_before_those_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    told = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert env_file(told) == Path("/etc/deployer/deployer.env")
    (tmp_path / "deployer").mkdir()
    (tmp_path / "deployer" / "deployer.env").touch()
    assert env_file(told) == tmp_path / "deployer" / "deployer.env"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert env_file(told) == Path("/etc/deployer/deployer.env")


def test_nothing_is_taken_from_or_told_to_a_systemd_that_is_not_there() -> None:
    assert handed_over({"LISTEN_PID": "1", "LISTEN_FDS": "1"}) is None
    tell_systemd("READY=1", {})
    tell_systemd("READY=1", {"NOTIFY_SOCKET": "/nowhere/socket"})


_HAND_OVER = """\
set -e
mount -t tmpfs tmpfs {folder} || exit 77
cd {folder}
mkdir lower upper work data outside
mkdir lower/inner
echo key >lower/secret.key
mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work data || exit 77
echo more >data/inner/file
echo theirs >outside/file
ln -s {folder}/outside/file data/link
mkdir data/mounted
mount --bind outside data/mounted
PYTHONPATH={house} {python} -c '
import pwd
from pathlib import Path
from deployer.host.processes import hand_over
hand_over(Path("data"), pwd.getpwnam("nobody"))
'
stat -c %U data data/secret.key data/inner data/inner/file outside/file data/mounted
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root hands over what is its own")
def test_a_folder_on_an_overlay_is_handed_over_whole_and_nothing_else(tmp_path: Path) -> None:
    script = _HAND_OVER.format(folder=tmp_path, house=HOUSE, python=sys.executable)
    done = subprocess.run(["unshare", "--mount", "bash", "-c", script], capture_output=True, text=True, check=False)
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip(f"this environment lets nobody mount: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [*["nobody"] * 4, "root", "root"]
