"""nginx and Caddy in front of the site, by the configurations that `deployer proxy` prints."""

import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.marks import rarely
from tests.parts.programs import answers, free_port, program, stop_process, wait_until
from tests.parts.up import Up

NAME = "deploy.example.com"
TOKEN = "a-token-of-the-monitor-of-the-proxies"


class Front:
    """A web server on a free port that speaks https as `NAME`, in front of a running site."""

    def __init__(self, kind: str, site: Up, folder: Path) -> None:
        self.port, self.certificate = free_port(), folder / "cert.pem"
        subprocess.run(
            [
                *(program("openssl", "openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt"),
                *("ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", f"/CN={NAME}"),
                *("-addext", f"subjectAltName=DNS:{NAME}", "-keyout", folder / "key.pem", "-out", self.certificate),
            ],
            check=True,
            capture_output=True,
        )
        options = ["--name", NAME, "--port", str(self.port)]
        options += ["--certificate", str(self.certificate), "--key", str(folder / "key.pem")]
        printed = site.manage("proxy", kind, *options)
        if kind == "nginx":
            places = " ".join(f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi"))
            places += f" uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi; access_log off;"
            (folder / "nginx.conf").write_text(
                f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/errors;\n"
                f"events {{}}\nhttp {{ {places}\n{printed} }}\n"
            )
            command: list[str | Path] = [
                program("nginx", "nginx"),
                "-c",
                folder / "nginx.conf",
                "-e",
                folder / "errors",
            ]
        else:
            head = "{\n    admin off\n    auto_https disable_redirects\n    skip_install_trust\n}\n"
            (folder / "Caddyfile").write_text(head + printed)
            command = [program("caddy", "caddy"), "run", "--config", f"{folder}/Caddyfile", "--adapter", "caddyfile"]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=(folder / "out").open("wb"),
            stderr=subprocess.STDOUT,
            env={"HOME": str(folder), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )
        wait_until(lambda: answers(self.port) or self._process.poll() is not None, f"{kind} to listen")
        assert self._process.poll() is None, (folder / "out").read_text()

    def ask(self, path: str, *options: str | Path, may_break: bool = False) -> tuple[int, str]:
        """The status and the text of an answer; with ``may_break`` as much of that as came."""
        done = subprocess.run(
            [
                *(program("curl", "curl"), "--silent", "--show-error", "--max-time", "100", "--cacert"),
                *(self.certificate, "--resolve", f"{NAME}:{self.port}:127.0.0.1", "--write-out", "\n%{http_code}"),
                *(*options, f"https://{NAME}:{self.port}{path}"),
            ],
            check=not may_break,
            capture_output=True,
            text=True,
        )
        text, _line, status = done.stdout.rpartition("\n")
        return int(status), text

    def close(self) -> None:
        stop_process(self._process, signal.SIGTERM)


@pytest.fixture(params=["nginx", rarely("caddy")])
def front(request: pytest.FixtureRequest, up: Callable[..., Up], tmp_path: Path) -> Iterator[Front]:
    site = up(
        *("--workers", "1"),
        DEPLOYER_HTTPS="yes",
        DEPLOYER_ALLOWED_HOSTS=NAME,
        DEPLOYER_METRICS_TOKEN=TOKEN,
        DEPLOYER_METRICS_NETWORKS="192.0.2.0/24",
    ).wait_ready(1)
    folder = tmp_path / request.param
    folder.mkdir()
    it = Front(request.param, site, folder)
    yield it
    it.close()


def test_it_serves_the_site_over_https(front: Front, tmp_path: Path) -> None:
    status, page = front.ask("/login/", "--include")
    assert status == 200
    assert "strict-transport-security" in page.lower()
    assert "secure" in next(line for line in page.splitlines() if line.lower().startswith("set-cookie")).lower()
    assert front.ask("/health/ready")[0] == 200
    # A body that nobody may send is refused at once, and not by the web server, whatever its own limit is.
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(64 << 20)
    sent = ("--data-binary", f"@{large}", "--header", "Expect:")
    status, answer = front.ask("/api/v1/projects", "--include", *sent, may_break=True)  # Caddy may cut the text of it
    assert status == 413
    assert "application/problem+json" in answer
    # The site knows who asks by what the web server has seen, and by nothing that a client says.
    forged = ("--header", "X-Forwarded-For: 192.0.2.7")
    assert front.ask("/metrics", *forged)[0] == 404
    assert front.ask("/metrics", "--header", f"Authorization: Bearer {TOKEN}")[0] == 200
    # An id goes through, made by the web server where the client has none.
    named = [
        line for line in front.ask("/login/", "--include")[1].splitlines() if line.lower().startswith("x-request-id")
    ]
    assert len(named) == 1


def test_a_name_with_more_in_it_is_refused(up: Callable[..., Up]) -> None:
    site = up("--help")  # no site is needed, only its settings
    site.process.wait()
    for hostile in ("a b", "x;}", "$(id)", "a\nb"):
        with pytest.raises(AssertionError, match="ended with 2:"):
            site.manage("proxy", "nginx", "--name", hostile)
