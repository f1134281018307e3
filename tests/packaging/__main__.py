"""``python -m tests.packaging [paper|image]``: follow docs/install.md on a bare machine, build and run the image."""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()  # the machine is one that servers of tests are, too

from tests.packaging.bare import Bare, steps  # noqa: E402
from tests.packaging.image import image  # noqa: E402
from tests.parts.package import Package  # noqa: E402
from tests.parts.programs import wait_until  # noqa: E402

NAME = "deploy.example.com"


def as_root(machine: Bare) -> None:
    """The first part; then the site answers behind https, by name, and comes back after a crash."""
    for step in steps("As root"):
        print(machine.run(step), end="")
    ask = f"curl --silent --fail --cacert /etc/deployer/tls/cert.pem --resolve {NAME}:443:127.0.0.1 https://{NAME}"
    machine.run("apt-get install --yes curl")
    assert '"ready": true' in machine.run(f"{ask}/health/ready")
    assert "csrf" in machine.run(f"{ask}/login/")
    wait_until(lambda: '"well"' in machine.run(f"{ask}/health/status"), "everything to run")
    assert machine.run("stat -c %U:%a /var/lib/deployer/encryption.key").strip() == "deployer:600"
    users = machine.run("ps -o user= -C deployer,python3 | sort -u").split()
    assert "root" not in users, users
    machine.run("systemctl kill --signal=KILL deployer.service")
    wait_until(lambda: '"ready": true' in machine.run(f"{ask}/health/ready || true"), "it to come back")
    exposure = machine.run("systemd-analyze security deployer.service | tail -1")
    print(exposure.strip())
    machine.run("systemctl stop deployer.service; systemctl reset-failed deployer.service || true")
    assert not machine.run("pgrep -u deployer || true").strip(), "nothing is left of it"


def in_parts(machine: Bare) -> None:
    """The second part, on the machine of the first; then a part is started again, and nobody is turned away."""
    machine.run("systemctl start deployer.service")
    for step in steps("In parts, on PostgreSQL"):
        print(machine.run(step), end="")
    ask = f"curl --silent --fail --cacert /etc/deployer/tls/cert.pem --resolve {NAME}:443:127.0.0.1 https://{NAME}"
    wait_until(lambda: '"well"' in machine.run(f"{ask}/health/status || true"), "every part to run")
    machine.run(
        f"(for try in $(seq 40); do {ask}/health/live || echo refused; sleep 0.1; done) >/tmp/asked &\n"
        "sleep 0.5; systemctl restart deployer-web.service; wait"
    )
    asked = machine.run("cat /tmp/asked").split()
    assert asked == ["ok"] * 40, asked
    for name in ("web", "courier", "look", "worker@1"):
        print(machine.run(f"systemd-analyze security deployer-{name}.service | tail -1").strip())
    machine.run("systemctl stop deployer.target deployer-web.socket")
    wait_until(lambda: not machine.run("pgrep -u deployer || true").strip(), "every part to end")


def without_root(machine: Bare) -> None:
    """The last part."""
    machine.run(
        "useradd --create-home --shell /bin/bash ann; loginctl enable-linger ann; systemctl stop nginx\n"
        "cp /root/*.whl /home/ann"
    )
    for step in steps("Without root"):
        print(machine.run(f"export PATH=$HOME/.local/bin:$PATH\n{step}", "ann"), end="")
    ask = "curl --silent --fail http://127.0.0.1:8000"
    wait_until(lambda: '"ready": true' in machine.run(f"{ask}/health/ready || true", "ann"), "the site to answer")
    wait_until(lambda: '"well"' in machine.run(f"{ask}/health/status || true", "ann"), "everything to run")
    assert machine.run("stat -c %a ~/.local/share/deployer/encryption.key", "ann").strip() == "600"
    machine.run("systemctl --user stop deployer.service", "ann")


def main(only: str) -> int:
    with tempfile.TemporaryDirectory(prefix="deployer-package-") as folder:
        wheel = Package(Path(folder)).wheel
        if only != "image":
            machine = Bare(wheel)
            try:
                for part in (as_root, in_parts, without_root):
                    _timed(f"docs/install.md, {part.__name__.replace('_', ' ')}", partial(part, machine))
            finally:
                machine.close()
        if only in {"", "image"}:
            _timed("Dockerfile, built and run read-only", lambda: print(image(wheel), end=""))
    return 0


def _timed(name: str, carry_out: Callable[[], None]) -> None:
    begun = time.monotonic()
    carry_out()
    print(f"✔ {name}: {time.monotonic() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))
