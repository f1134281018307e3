"""The image, built on a base that debootstrap made, and run with nothing that it may write to but its volume."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.packaging.bare import VOUCHERS, reaches
from tests.parts.package import HOUSE
from tests.parts.programs import free_port
from tests.proofs.machines import FOR_CONTAINERS, NAMESPACE
from tests.proofs.parts import debian, find

_READ_ONLY = "--read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges --volume deployer:/data"
#: What this environment grants to a container: no group of its own, and no more files than it has itself.
_HERE = "--network host --cgroups=disabled --ulimit nofile=1024:1024 --ulimit nproc=4096:4096"
_RUN = """\
set -e
ready() {{
    for _try in $(seq 120); do curl --silent --fail http://127.0.0.1:{port}/health/ready && return; sleep 1; done
    {podman} logs site
    exit 1
}}
{podman} run --detach --name site {options} --env DEPLOYER_BIND=127.0.0.1:{port} localhost/deployer 2>/dev/null
ready
test "$({podman} exec site id --user)" = 10001
! {podman} exec site touch /opt/deployer/file 2>/dev/null
{podman} exec site deployer version
{podman} logs site 2>&1 | grep --count 'with the password'
{podman} stop --time 60 site 2>/dev/null
{podman} start site 2>/dev/null
ready
test "$({podman} logs site 2>&1 | grep --count 'with the password')" = 1
{podman} stop --time 60 site 2>/dev/null
"""


def image(wheel: Path) -> str:
    """Build the image of a wheel and run it twice on one volume; gives what was printed. It must succeed."""
    find("podman")
    with tempfile.TemporaryDirectory(prefix="deployer-image-") as name:
        folder = Path(name)
        (folder / "dist").mkdir()
        shutil.copy(wheel, folder / "dist")
        for file in ("Dockerfile", ".dockerignore"):
            shutil.copy(HOUSE / file, folder)
        podman = f"podman --root {folder}/root --runroot {folder}/run --cgroup-manager cgroupfs --events-backend=file"
        podman += " --storage-driver vfs"
        told = [f"--volume {path}:{path}:ro" for path in reaches()]
        if VOUCHERS.exists():
            told += [f"--volume {VOUCHERS}:/vouchers:ro", "--env PIP_CERT=/vouchers"]
        built = (
            f"tar --create --directory {debian()} . | {podman} import --quiet - bare\n"
            f"{podman} build --quiet --isolation chroot --network host --format docker --build-arg BASE=localhost/bare "
            f"{' '.join(told)} --tag deployer {folder}\n"
        )
        script = built + _RUN.format(podman=podman, port=free_port(), options=f"{_READ_ONLY} {_HERE}")
        # A namespace of its own: podman's mounts and processes end with it.
        done = subprocess.run(
            [*NAMESPACE, "sh", "-c", FOR_CONTAINERS, "sh", "bash", "-c", script],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout
