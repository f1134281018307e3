"""The services of the table: what lies in their folder, the words that scripts are made of, and how they are asked."""

import contextlib
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.parts.programs import free_port
from tests.proofs import parts

#: Behind a command: in the background, its output in a file.
AWAY = ">>log 2>&1 </dev/null &"
#: End the process whose pid is in a file, and wait until it has ended.
STOP = 'read -r pid <{file}; kill "$pid"; while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done'


class Place:
    """The folder of one service on its server, and the port that it listens on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        #: Another folder like this one, with a service of its own.
        self.other = folder.with_name("b")


@dataclass(frozen=True)
class Service:
    """One kind of service, in one place.

    ``programs`` are files of ``tests/proofs/shop`` that it runs. ``files`` are texts by name, in which ``@VERSION@``
    is the version to come, and ``@BROKEN@`` a fault where that is broken. ``words`` is what scripts can do. ``binds``
    are programs that sessions find by name, or the text of such a program.
    """

    words: Mapping[str, str]
    programs: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    binds: Mapping[str, str] = field(default_factory=dict)
    #: Whether what answers is a worker: the service's first process is the highest of the same program above it.
    has_master: bool = False
    #: What it answers: its pid and its version. Raises `OSError` where nobody does.
    ask: Callable[[Place], str] = lambda place: ask_http(place.port)


# --- asking ------------------------------------------------------------------------------------------


def ask_http(port: int) -> str:
    """The body of the answer to a request."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as link:
        link.sendall(b"GET / HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
        answer = _all_of(link)
    head, _blank, body = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head.splitlines()[0] + b" ":
        raise OSError(f"answered {head[:100]!r}")
    return body.decode()


def ask_fastcgi(place: Place) -> str:
    """The body of what the FastCGI server gives for the shop in PHP."""

    def record(kind: int, content: bytes) -> bytes:
        return struct.pack("!BBHHBB", 1, kind, 1, len(content), 0, 0) + content

    parameters = {"REQUEST_METHOD": "GET", "SCRIPT_FILENAME": str(place.folder / "index.php")}
    pairs = (bytes((len(name), len(value))) + (name + value).encode() for name, value in parameters.items())
    with socket.create_connection(("127.0.0.1", place.port), timeout=5) as link:
        link.sendall(
            record(1, struct.pack("!HB5x", 1, 0)) + record(4, b"".join(pairs)) + record(4, b"") + record(5, b"")
        )
        answer = _all_of(link)
    body = b""
    while len(answer) >= 8:
        _version, kind, _id, length, padding, _reserved = struct.unpack("!BBHHBB", answer[:8])
        body += answer[8 : 8 + length] if kind == 6 else b""
        answer = answer[8 + length + padding :]
    return body.partition(b"\r\n\r\n")[2].decode()


def ask_file(place: Place) -> str:
    """What a service that does not stay has left behind."""
    return (place.folder / "state").read_text()


def _all_of(link: socket.socket) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while data := link.recv(65536):
            received += data
    if not received:
        raise OSError("no answer")
    return received


# --- Python ------------------------------------------------------------------------------------------


def _gunicorn(place: Place, program: str) -> Service:
    start = f"gunicorn -w 2 -b 127.0.0.1:{place.port} app:app {AWAY}"
    return Service(
        programs=("app.py",),
        binds={"gunicorn": program},
        has_master=True,
        words={
            "start": f"{start}\necho $! >pid",
            "stop": STOP.format(file="pid"),
            "hup": 'kill -HUP "$(cat pid)"',
            "usr2": 'kill -USR2 "$(cat pid)"; sleep 1.5',
            "quit-old": 'kill -QUIT "$(cat pid)"',
        },
    )


def gunicorn(place: Place) -> Service:
    """gunicorn that shows the command line that it was started with."""
    return _gunicorn(place, parts.gunicorn())


def titled_gunicorn(place: Place) -> Service:
    """gunicorn that gives its processes titles."""
    return _gunicorn(place, parts.titled_gunicorn())


def uwsgi(place: Place) -> Service:
    """uwsgi with a master and two workers."""
    options = "--plugin python3 --master --processes 2 --need-app --wsgi-file app.py --callable app"
    return Service(
        programs=("app.py",),
        binds={"uwsgi": parts.uwsgi()},
        has_master=True,
        words={
            "start": f"uwsgi --http-socket 127.0.0.1:{place.port} {options} --safe-pidfile pid --daemonize log",
            "stop": 'read -r pid <pid; kill -INT "$pid"; while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done',
            "reload": "uwsgi --reload pid",
        },
    )


def python(place: Place) -> Service:
    """A server in Python, started by a script."""
    start = f"PORT={place.port} python3 server.py {AWAY}"
    loop = "bash -c 'while :; do python3 server.py; done'"
    return Service(
        programs=("server.py",),
        words={
            "start": f"{start}\necho $! >pid",
            "stop": STOP.format(file="pid"),
            "hup": 'kill -HUP "$(cat pid)"',
            "start-workers": f"WORKERS=2 {start}\necho $! >pid",
            "start-loop": f"PORT={place.port} {loop} {AWAY}\necho $! >pid",
            "start-as-nobody": f"PORT={free_port()} setpriv --reuid=65534 --clear-groups python3 server.py {AWAY}"
            "\necho $! >>beside",
            "tail": f"tail -F server.py.log {AWAY}\necho $! >>beside",
            "stop-loop": f"{STOP.format(file='pid')}\npkill -f '^python3 server.py'; sleep 0.1",
            "usr1": 'kill -USR1 "$(cat pid)"; sleep 0.3',
            "begin-to-stop": 'kill "$(cat pid)"; sleep 0.5',
            "keep": f"PORT={place.port} bash -c 'while :; do python3 server.py & echo $! >pid; wait $!; done' {AWAY}"
            "\necho $! >loop; sleep 0.3",
            "stop-keeping": "kill $(cat loop pid); sleep 0.2",
            "kill": 'kill -9 "$(cat pid)"; sleep 0.1',
            "start-other": f"(cd {place.other} && exec env PORT={free_port()} python3 server.py) {AWAY}\n"
            "echo $! >>beside",
            "start-twin": _twin(place),
            "restart-twin": f"kill $(cat beside); sleep 0.2; {_twin(place)}",
        },
    )


def _twin(place: Place) -> str:
    """Start one whose name is like that of the service."""
    return (
        f"[ -e my-server.py ] || cp server.py my-server.py\n"
        f"PORT={free_port()} python3 my-server.py {AWAY}\necho $! >>beside"
    )


def python_released(place: Place) -> Service:
    """A server in Python that is started from the live release."""
    folder = place.folder
    return Service(
        words={
            "start": f"cd {folder}/current; PORT={place.port} python3 server.py {AWAY}\necho $! >{folder}/pid",
            "stop": STOP.format(file=folder / "pid"),
        },
    )


def python_workers(place: Place) -> Service:
    """A server in Python with a master and two workers."""
    plain = python(place)
    return Service(
        programs=plain.programs, has_master=True, words={**plain.words, "start": plain.words["start-workers"]}
    )


# --- Node.js and Java --------------------------------------------------------------------------------


def node(place: Place) -> Service:
    """A server in Node.js, started by a script."""
    run = f"PORT={place.port} node server.js {AWAY}"
    loop = "while :; do node server.js; sleep 0.3; done"
    typed = f"sleep 600 | script --quiet --command '{{}} server.js' /dev/null {AWAY}"  # on a terminal that stays
    return Service(
        programs=("server.js",),
        binds={"node": parts.find("node")},
        words={
            "start": f"{run}\necho $! >pid",
            "stop": STOP.format(file="pid"),
            "start-loop": f"PORT={place.port} bash -c '{loop}' {AWAY}\necho $! >loop",
            "kill-in-loop": 'pkill -P "$(cat loop)" node',
            "tail": f"touch server.js.log; tail -F server.js.log {AWAY}\necho $! >>beside",
            "edit": typed.format("vi"),
            "read": typed.format("less"),
            "start-other": f"(cd {place.other} && exec env PORT={free_port()} node server.js) {AWAY}\necho $! >>beside",
            "restart-other": f'kill "$(cat beside)"; sleep 0.2; (cd {place.other} && exec env PORT={free_port()} '
            f"node server.js) {AWAY}\necho $! >beside",
        },
    )


def pm2(place: Place) -> Service:
    """A server in Node.js that pm2 keeps."""
    run = f"PORT={place.port} pm2 start server.js --name shop"
    return Service(
        programs=("server.js",),
        binds={"node": parts.find("node"), "pm2": parts.pm2()},
        words={
            "start": run,
            "start-cluster": f"{run} -i 2",
            "restart": "pm2 restart shop",
            "reload": "pm2 reload shop",
            "delete": "pm2 delete shop",
            "stop": "pm2 stop shop",
            "kill": 'kill -9 "$(pm2 pid shop)"',
            "drain-restart": "pm2 restart shop",
            "start-draining": f"{run} --kill-timeout 40000",
            "start-other": f"(cd {place.other} && PORT={free_port()} pm2 start server.js --name other)\n"
            "pm2 pid other >>beside",
            "start-twin": f"PORT={free_port()} pm2 start server.js --name shop2\npm2 pid shop2 >>beside",
            "restart-twin": "pm2 restart shop2\npm2 pid shop2 >>beside",
        },
    )


def pm2_python(place: Place) -> Service:
    """A server in Python that pm2 keeps, with workers if it is started so."""
    run = f"PORT={place.port} pm2 start server.py --interpreter python3 --name shop"
    wrapper = f"#!/bin/bash\nPORT={place.port} python3 server.py & wait $!; sleep infinity\n"
    return Service(
        programs=("server.py",),
        files={"wrapper": wrapper},
        has_master=True,
        binds={"node": parts.find("node"), "pm2": parts.pm2()},
        words={
            "start": run,
            "start-workers": f"WORKERS=2 {run}",
            "start-wrapper": "pm2 start ./wrapper --interpreter bash --name shop --no-treekill",
            "restart": "pm2 restart shop",
            "hup": "pm2 sendSignal SIGHUP shop",
            "usr1": "pm2 sendSignal SIGUSR1 shop; sleep 0.3",
        },
    )


def java(place: Place) -> Service:
    """A server in a jar."""
    start = f"PORT={place.port} java -Xmx32m -XX:TieredStopAtLevel=1 -jar shop.jar {AWAY}"
    return Service(
        binds={"java": parts.find("java"), "shop.jar": str(parts.shop_jar())},
        words={
            "start": f"[ -e shop.jar ] || cp ~/bin/shop.jar .\n{start}\necho $! >pid",
            "stop": STOP.format(file="pid"),
        },
    )


# --- servers of pages --------------------------------------------------------------------------------

NGINX = """\
pid pid; error_log error.log; worker_processes 2; @BROKEN@
events {{}}
http {{
    access_log off;
    client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;
    server {{ listen 127.0.0.1:{port}; default_type text/plain; location / {{ return 200 "$pid @VERSION@\\n"; }} }}
}}
"""
PHP_FPM = """\
[global]
pid = {folder}/pid
error_log = {folder}/error.log
@BROKEN@
[www]
user = nobody
group = nogroup
listen = 127.0.0.1:{port}
pm = static
pm.max_children = 2
env[VERSION] = @VERSION@
"""


def nginx(place: Place) -> Service:
    """nginx, whose version is in its configuration."""
    return Service(
        files={"nginx.conf": NGINX.format(port=place.port)},
        binds={"nginx": parts.find("nginx")},
        has_master=True,
        words={
            "start": 'nginx -p "$PWD" -c nginx.conf || true',
            "stop": STOP.format(file="pid"),
            "reload": 'kill -HUP "$(cat pid)"',
        },
    )


def php_fpm(place: Place) -> Service:
    """php-fpm, whose version is in its configuration."""
    program = parts.php_fpm()
    name = Path(program).name
    return Service(
        programs=("index.php",),
        files={"php-fpm.conf": PHP_FPM.format(port=place.port, folder=place.folder)},
        binds={name: program},
        has_master=True,
        ask=ask_fastcgi,
        words={
            "start": f'{name} --nodaemonize --fpm-config "$PWD/php-fpm.conf" {AWAY}',
            "start-daemon": f'{name} --fpm-config "$PWD/php-fpm.conf"',
            "stop": STOP.format(file="pid"),
            "reload": 'kill -USR2 "$(cat pid)"',
        },
    )


# --- keepers -----------------------------------------------------------------------------------------

SUPERVISOR = """\
[supervisord]
logfile={folder}/supervisor.log
pidfile={folder}/supervisor.pid
childlogdir={folder}
[unix_http_server]
file={folder}/supervisor.sock
[supervisorctl]
serverurl=unix://{folder}/supervisor.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""
PROGRAM = """\
[program:{name}]
command={folder}/{name}
environment=PORT={port},WORKERS={workers}
autorestart=true
stopwaitsecs=40
"""


def supervisor(place: Place, workers: int = 0, wrapper: str = "") -> Service:
    """Three programs that supervisor keeps, whose names begin alike."""
    parts.find("supervisord")
    ports = {"shop": place.port, "shop-worker": 0, "shop2": 0}
    programs = "".join(
        PROGRAM.format(name=name, folder=place.folder, port=port, workers=workers) for name, port in ports.items()
    )
    server = (Path(__file__).parent / "shop" / "server.py").read_text()
    control = "supervisorctl -c supervisor.conf"
    return Service(
        files={
            "supervisor.conf": SUPERVISOR.format(folder=place.folder) + programs,
            **dict.fromkeys(ports, f"#!/usr/bin/python3\n{server}"),
            **({"shop": wrapper, "server.py": server} if wrapper else {}),
        },
        has_master=bool(workers),
        words={
            "start": "supervisord -c supervisor.conf\n"
            f"sleep 1.2; for name in shop-worker shop2; do {control} pid $name; done >>beside",
            "restart": f"{control} restart shop || true",
            "restart-worker": f"{control} restart shop-worker\n{control} pid shop-worker >>beside",
            "stop": f"{control} stop shop",
            "kill": f'kill -9 "$({control} pid shop)"',
            "hup": f"{control} signal HUP shop",
            "usr1": f"{control} signal USR1 shop; sleep 0.3",
        },
    )


def supervisor_workers(place: Place) -> Service:
    """Programs with workers."""
    return supervisor(place, workers=2)


def supervisor_wrapper(place: Place) -> Service:
    """A program whose wrapper alone is ended when it is stopped."""
    return supervisor(place, wrapper="#!/bin/bash\n/usr/bin/python3 server.py & wait $!; sleep infinity\n")


UNIT = """\
[Unit]
StartLimitIntervalSec=0
[Service]
WorkingDirectory={folder}
Environment=PORT={port} WORKERS={workers}
ExecStart={command}
{more}
"""
#: A wrapper that outlives its application.
WRAPPER = "/bin/bash -c 'python3 server.py & wait $!; sleep infinity'"


def _unit(place: Place, command: str = "/usr/bin/python3 server.py", more: str = "", workers: int = 0) -> Service:
    text = UNIT.format(folder=place.folder, port=place.port, workers=workers, command=command, more=more)
    return Service(
        programs=("server.py",),
        files={"shop.service": text},
        has_master=bool(workers),
        words={
            "start": "cp shop.service /etc/systemd/system/; systemctl daemon-reload; systemctl start shop",
            "restart": "systemctl restart shop",
            "reload": "systemctl reload shop",
            "stop": "systemctl stop shop",
            "kill": "systemctl kill -s KILL shop",
            "usr1": "systemctl kill -s USR1 --kill-who=main shop; sleep 0.3",
            "start-twin": "sed -e 's/PORT=[0-9]*/PORT=0/' shop.service >/etc/systemd/system/shop-worker.service\n"
            "systemctl daemon-reload; systemctl start shop-worker\n"
            "systemctl show -p MainPID --value shop-worker >>beside",
            "restart-twin": "systemctl restart shop-worker\nsystemctl show -p MainPID --value shop-worker >>beside",
        },
    )


def systemd(place: Place) -> Service:
    """A unit that is left alone when it ends."""
    return _unit(place)


def systemd_restarting(place: Place) -> Service:
    """A unit that is started again whenever it ends."""
    return _unit(place, more="Restart=always\nRestartSec=0.2")


def systemd_wrapper(place: Place) -> Service:
    """A unit whose main process is a wrapper around the application."""
    return _unit(place, WRAPPER)


def systemd_killing_main(place: Place) -> Service:
    """A unit whose main process alone is ended when it is stopped."""
    return _unit(place, WRAPPER, "KillMode=process")


def systemd_workers(place: Place) -> Service:
    """A unit with workers that can be reloaded."""
    return _unit(place, more="ExecReload=/bin/kill -HUP $MAINPID", workers=2)


def systemd_oneshot(place: Place) -> Service:
    """A unit that does its work, and is active without a process."""
    command = "/bin/sh -c 'echo 0 $(cat version) >state'"
    unit = _unit(place, command, "Type=oneshot\nRemainAfterExit=yes")
    return Service(programs=unit.programs, files=unit.files, words=unit.words, ask=ask_file)


def systemd_socket(place: Place) -> Service:
    """A socket unit; the service behind it starts when it is asked."""
    unit = _unit(place)
    units = "shop.socket shop.service"
    return Service(
        programs=unit.programs,
        files={**unit.files, "shop.socket": f"[Socket]\nListenStream=127.0.0.1:{place.port}\n"},
        words={
            "start": f"cp {units} /etc/systemd/system/; systemctl daemon-reload; systemctl start shop.socket",
            "restart": f"systemctl stop {units}; systemctl start shop.socket",
        },
    )


def systemd_user(place: Place) -> Service:
    """A unit of the login's own systemd."""
    return _user_unit(_unit(place))


def systemd_user_workers(place: Place) -> Service:
    """The same, with workers that can be reloaded."""
    return _user_unit(systemd_workers(place))


def systemd_user_restarting(place: Place) -> Service:
    """The same, started again whenever it ends."""
    return _user_unit(systemd_restarting(place))


def systemd_user_killing_main(place: Place) -> Service:
    """The same, of which the main process alone is ended when it is stopped."""
    return _user_unit(systemd_killing_main(place))


def _user_unit(unit: Service) -> Service:
    folder = "~/.config/systemd/user"
    control = "systemctl --user"
    return replace(
        unit,
        words={
            "start": f"loginctl enable-linger; mkdir -p {folder}; cp shop.service {folder}; "
            f"{control} daemon-reload; {control} start shop",
            "restart": f"{control} restart shop",
            "reload": f"{control} reload shop",
            "stop": f"{control} stop shop",
            "kill": f"{control} kill -s KILL shop",
            "usr1": f"{control} kill -s USR1 --kill-who=main shop; sleep 0.3",
            "start-twin": f"sed -e 's/PORT=[0-9]*/PORT=0/' shop.service >{folder}/shop-worker.service\n"
            f"{control} daemon-reload; {control} start shop-worker\n"
            f"{control} show -p MainPID --value shop-worker >>beside",
            "restart-twin": f"{control} restart shop-worker\n{control} show -p MainPID --value shop-worker >>beside",
        },
    )


# --- containers --------------------------------------------------------------------------------------


def podman(place: Place) -> Service:
    """A server in Python in a container."""
    program, tree = parts.find("podman"), parts.debian()
    home = place.folder.parent
    options = "--cgroup-manager=cgroupfs --events-backend=file --storage-driver=vfs"
    folders = f"--root {home}/podman/root --runroot {home}/podman/run"
    limits = "--ulimit nofile=1024:1024 --ulimit nproc=4096:4096 --network=host --cgroups=disabled"
    mounts = f"--volume {place.folder}:/srv --workdir /srv --env PORT={{port}} {{more}}"
    run = f"podman run --detach --name {{name}} {limits} {mounts} --rootfs {tree}:O python3 server.py"
    pid = "podman inspect --format '{{.State.Pid}}' shop2 >>beside"
    return Service(
        programs=("server.py",),
        binds={"podman": f'#!/bin/sh\nexec {program} {options} {folders} "$@"\n'},
        words={
            "start": run.format(name="shop", port=place.port, more=""),
            "start-workers": run.format(name="shop", port=place.port, more="--env WORKERS=2"),
            "start-always": run.format(name="shop", port=place.port, more="--restart always"),
            "restart": "podman restart --time 1 shop",
            "drain-restart": "podman restart --time 40 shop",
            "drain-stop": "podman stop --time 40 shop",
            "stop": "podman stop --time 1 shop",
            "kill": "kill -9 \"$(podman inspect --format '{{.State.Pid}}' shop)\"",
            "hup": "podman kill --signal HUP shop",
            "usr1": "podman kill --signal USR1 shop; sleep 0.5",
            "start-twin": run.format(name="shop2", port=free_port(), more="") + "\n" + pid,
            "restart-twin": f"podman restart --time 1 shop2\n{pid}",
        },
    )


def podman_workers(place: Place) -> Service:
    """A server in Python in a container, with workers."""
    plain = podman(place)
    return replace(plain, has_master=True, words={**plain.words, "start": plain.words["start-workers"]})


SERVICES: dict[str, Callable[[Place], Service]] = {
    "python": python,
    "python, full deployment": python_released,
    "python with workers": python_workers,
    "gunicorn": gunicorn,
    "gunicorn with setproctitle": titled_gunicorn,
    "uwsgi": uwsgi,
    "node": node,
    "pm2": pm2,
    "java": java,
    "nginx": nginx,
    "php-fpm": php_fpm,
    "supervisor": supervisor,
    "systemd": systemd,
    "systemd, Restart=always": systemd_restarting,
    "systemd, a wrapper": systemd_wrapper,
    "systemd, KillMode=process": systemd_killing_main,
    "systemd with workers": systemd_workers,
    "systemd, oneshot": systemd_oneshot,
    "systemd, socket": systemd_socket,
    "systemd --user": systemd_user,
    "systemd --user with workers": systemd_user_workers,
    "systemd --user, Restart=always": systemd_user_restarting,
    "systemd --user, KillMode=process": systemd_user_killing_main,
    "podman": podman,
    "podman with workers": podman_workers,
    "pm2, python": pm2_python,
    "supervisor with workers": supervisor_workers,
    "supervisor, a wrapper": supervisor_wrapper,
}
