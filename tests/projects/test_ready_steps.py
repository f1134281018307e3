"""The steps to pick from do what they say, with the real programs where those are installed."""

import http.server
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from projects.commands import steps as commands
from projects.ready_steps import READY_STEPS
from tests.parts.programs import free_port, program, wait_until


def script(key: str, name: str, *, undoes: bool = False) -> str:
    ready = next(each for each in READY_STEPS if each.key == key)
    step = next(each for each in ready.steps if each["name"] == name)
    return str(step["undone_by" if undoes else "script"])


def run(text: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a step as a server does."""
    command = commands.script(text, {}, str(folder)).text
    around = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"} | env  # that one is ours
    return subprocess.run(["sh", "-c", command], cwd=folder, env=around, capture_output=True, text=True, timeout=120)


def done(text: str, folder: Path, **env: str) -> str:
    ended = run(text, folder, **env)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


MANAGE = """\
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "site_settings"
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""
SETTINGS = """\
SECRET_KEY = "x"
INSTALLED_APPS = ["shop", "django.contrib.staticfiles"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "shop.db"}}
STATIC_URL, STATIC_ROOT = "/static/", "collected"
"""
MIGRATION = """\
from django.db import migrations, models
class Migration(migrations.Migration):
    operations = [migrations.CreateModel("Thing", [("id", models.AutoField(primary_key=True))])]
"""


@pytest.fixture
def django_site(tmp_path: Path) -> Path:
    """A Django project of the smallest kind, with its virtual environment."""
    (tmp_path / "manage.py").write_text(MANAGE)
    (tmp_path / "site_settings.py").write_text(SETTINGS)
    (tmp_path / "shop" / "migrations").mkdir(parents=True)
    (tmp_path / "shop" / "static").mkdir()
    (tmp_path / "shop" / "static" / "shop.css").write_text("a{}")
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "migrations" / "__init__.py").touch()
    (tmp_path / "shop" / "migrations" / "0001_initial.py").write_text(MIGRATION)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    return tmp_path


def tables(file: Path) -> set[str]:
    with closing(sqlite3.connect(file)) as database:
        return {name for (name,) in database.execute("SELECT name FROM sqlite_master")}


def test_django_is_migrated_and_fails_where_it_cannot_be(django_site: Path) -> None:
    done(script("django", "migrate"), django_site)
    assert "shop_thing" in tables(django_site / "shop.db")
    done("python3 manage.py migrate shop zero", django_site, PATH=f"{sys.prefix}/bin:{os.environ['PATH']}")
    assert "shop_thing" not in tables(django_site / "shop.db")
    (django_site / "shop" / "migrations" / "0002_broken.py").write_text("raise SystemExit(7)")
    assert run(script("django", "migrate"), django_site).returncode != 0


def test_static_files_of_django_are_collected(django_site: Path) -> None:
    done(script("django-static", "static files"), django_site)
    assert (django_site / "collected" / "shop.css").read_text() == "a{}"


def test_a_virtual_environment_is_made_in_the_release(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").touch()
    done(script("virtualenv", "virtual environment"), tmp_path)
    assert done(". .venv/bin/activate\npython -c 'import sys; print(sys.prefix)'", tmp_path).strip() == str(
        tmp_path / ".venv"
    )


def test_packages_of_node_are_those_of_the_lock_file(tmp_path: Path) -> None:
    program("npm", "npm")
    (tmp_path / "package.json").write_text('{"name": "shop", "version": "1.0.0", "dependencies": {"own": "file:own"}}')
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "package.json").write_text('{"name": "own", "version": "1.0.0"}')
    assert run(script("npm", "packages"), tmp_path).returncode != 0, "there is no lock file"
    done("npm install --package-lock-only --offline --no-audit", tmp_path)
    done(script("npm", "packages"), tmp_path)
    assert (tmp_path / "node_modules" / "own").exists()


NGINX = """\
pid {folder}/pid;
error_log {folder}/log;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ listen 127.0.0.1:{port}; include {folder}/deployer-drained.conf*; location / {{ return 200; }} }}
}}
"""


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """An nginx of its own, and a program `nginx` that speaks to that one."""
    real, port = program("nginx", "nginx", "/usr/sbin"), free_port()
    config = tmp_path / "nginx.conf"
    config.write_text(NGINX.format(folder=tmp_path, port=port))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "nginx").write_text(f'#!/bin/sh\nexec {real} -c {config} "$@"\n')
    (tmp_path / "bin" / "nginx").chmod(0o755)
    subprocess.run([tmp_path / "bin" / "nginx"], check=True)
    yield tmp_path, port
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)


def answer(port: int) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_nginx_is_drained_and_put_back(nginx: tuple[Path, int]) -> None:
    folder, port = nginx
    path = f"{folder}/bin:{os.environ['PATH']}"

    def here(name: str) -> str:
        return script("nginx", name).replace("/etc/nginx/", f"{folder}/").replace("sleep 5", "sleep 0.1")

    wait_until(lambda: answer(port) == 200, "nginx to answer")
    done(here("drain"), folder, PATH=path)
    wait_until(lambda: answer(port) == 503, "nginx to be drained")
    done(here("put back"), folder, PATH=path)
    wait_until(lambda: answer(port) == 200, "nginx to be back")
    (folder / "nginx.conf").write_text("broken")
    assert run(here("drain"), folder, PATH=path).returncode != 0


HAPROXY = """\
global
  stats socket {folder}/admin.sock level admin
defaults
  mode http
  timeout connect 1s
  timeout client 1s
  timeout server 1s
backend app
  server web-1 127.0.0.1:9
"""


@pytest.fixture
def haproxy(tmp_path: Path) -> Iterator[Path]:
    program("haproxy", "haproxy", "/usr/sbin")
    program("socat", "socat")
    (tmp_path / "haproxy.cfg").write_text(HAPROXY.format(folder=tmp_path))
    haproxy = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin") or ""
    with subprocess.Popen([haproxy, "-db", "-f", tmp_path / "haproxy.cfg"]) as process:
        wait_until((tmp_path / "admin.sock").exists, "haproxy to listen")
        yield tmp_path
        process.terminate()


def test_haproxy_drains_and_puts_back_the_server_by_its_name(haproxy: Path) -> None:
    def here(name: str) -> str:
        text = script("haproxy", name).replace("/run/haproxy/admin.sock", f"{haproxy}/admin.sock")
        return text.replace("sleep 5", "sleep 0.1")

    def state() -> str:
        rows = done(f"echo show servers state app | socat - UNIX-CONNECT:{haproxy}/admin.sock", haproxy).split("\n")
        return rows[2].split()[6]

    done(here("drain"), haproxy, DEPLOY_SERVER="web-1")
    assert int(state()) & 0x18, "it is drained"
    done(here("put back"), haproxy, DEPLOY_SERVER="web-1")
    assert not int(state()) & 0x18
    assert run(here("drain"), haproxy, DEPLOY_SERVER="web-9").returncode != 0


def test_alembic_goes_forth_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proofs = Path(__file__).parents[2] / ".venv-proofs" / "bin"
    monkeypatch.setenv("PATH", f"{proofs}:{os.environ['PATH']}")
    assert shutil.which("alembic", path=str(proofs)), "missing: .ci/venv requirements-proofs.txt .venv-proofs"
    done("alembic init versions", tmp_path)
    config = (tmp_path / "alembic.ini").read_text().replace("driver://user:pass@localhost/dbname", "sqlite:///shop.db")
    (tmp_path / "alembic.ini").write_text(config)
    done("alembic revision -m thing", tmp_path)
    (file,) = (tmp_path / "versions" / "versions").glob("*_thing.py")
    text = file.read_text().replace("pass", "op.execute('CREATE TABLE thing (id)')", 1)
    file.write_text(text.replace("    pass", "    op.execute('DROP TABLE thing')"))
    done(script("alembic", "migrate"), tmp_path)
    assert "thing" in tables(tmp_path / "shop.db")
    done(script("alembic", "migrate", undoes=True), tmp_path)
    assert "thing" not in tables(tmp_path / "shop.db")


def test_a_maintenance_page_is_there_for_the_rollout_alone(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    done(script("maintenance", "maintenance page"), tmp_path, DEPLOY_PATH=str(tmp_path))
    assert (tmp_path / "shared" / "maintenance").exists()
    done(script("maintenance", "end of maintenance"), tmp_path, DEPLOY_PATH=str(tmp_path))
    assert not (tmp_path / "shared" / "maintenance").exists()


RAILS_MIGRATION = """\
class Thing < ActiveRecord::Migration[6.0]
  def change
    create_table :things
  end
end
"""


def test_rails_goes_forth_and_back(tmp_path: Path) -> None:
    if shutil.which("rails") is None or shutil.which("bundle") is None:
        pytest.skip("rails is not installed: apt-get install rails (half a gigabyte, which no other test needs)")
    left_out = ["bundle", "javascript", "webpack-install", "sprockets", "spring", "bootsnap", "test", "listen"]
    done(f"rails new shop -q {' '.join(f'--skip-{part}' for part in left_out)}", tmp_path)
    shop = tmp_path / "shop"
    (shop / "Gemfile").write_text("gem 'rails'\ngem 'sqlite3'\n")
    if run("bundle install --local", shop).returncode:
        pytest.skip("the gems of rails are not installed")
    (shop / "db" / "migrate").mkdir(parents=True)
    (shop / "db" / "migrate" / "20260101000000_thing.rb").write_text(RAILS_MIGRATION)
    done(script("rails", "migrate"), shop, SECRET_KEY_BASE="x")
    assert "things" in tables(shop / "db" / "production.sqlite3")
    done(script("rails", "migrate", undoes=True), shop, SECRET_KEY_BASE="x")
    assert "things" not in tables(shop / "db" / "production.sqlite3")


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[tuple[str, str, bytes]]]]:
    """An address that takes what is sent to it: the path, the authorization and the body of each request."""
    taken: list[tuple[str, str, bytes]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            taken.append((self.path, self.headers.get("Authorization", ""), body))
            self.send_response(500 if self.path == "/broken" else 200)
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", taken
        server.shutdown()


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_source_maps_are_uploaded_each_by_its_name(tmp_path: Path, receiver: Any) -> None:
    address, taken = receiver
    (tmp_path / "dist" / "js").mkdir(parents=True)
    for name in ("app.js", "app.js.map", "js/two words.js.map"):
        (tmp_path / "dist" / name).write_text(f"content of {name}")
    text = script("source-maps", "source maps")
    env = {"SOURCE_MAPS_URL": f"{address}/maps", "SOURCE_MAPS_TOKEN": "sesame", "DEPLOY_RELEASE": "2026-1"}
    done(text, tmp_path, **env)
    assert {(path, token) for path, token, _body in taken} == {("/maps", "Bearer sesame")}
    bodies = sorted(body.decode() for _path, _token, body in taken)
    assert len(bodies) == 2
    for name in ("app.js.map", "js/two words.js.map"):
        assert sum(f"content of {name}" in body and f"\r\n{name}\r\n" in body for body in bodies) == 1
    assert all("2026-1" in body for body in bodies)
    assert run(text, tmp_path, **env | {"SOURCE_MAPS_URL": f"{address}/broken"}).returncode != 0


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_an_address_is_called(tmp_path: Path, receiver: Any) -> None:
    address, taken = receiver
    env = {"CALL_URL": f"{address}/deployed", "DEPLOY_ID": "7", "DEPLOY_RELEASE": "2026-1"}
    done(script("call", "call"), tmp_path, **env)
    ((path, _token, body),) = taken
    assert (path, json.loads(body)) == ("/deployed", {"deployment": 7, "release": "2026-1"})
    assert run(script("call", "call"), tmp_path, **env | {"CALL_URL": f"{address}/broken"}).returncode != 0
