"""The real Ansible, in an environment of its own: what it makes of inventories, all of them in one process."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HOUSE = Path(__file__).parents[2]
#: Environments that hold ansible-core, by the requirements of the proofs or of the benchmarks.
PLACES = (HOUSE / ".venv-proofs", HOUSE / ".venv-bench")

#: Run by Ansible's own Python: reads each inventory as its command does, and asks the ssh plugin for its options.
_ASK = """
import json, sys
from ansible import constants
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import connection_loader
from ansible.vars.manager import VariableManager

connection_loader.get("ssh", class_only=True)
OPTIONS = {"host": "host", "port": "port", "user": "remote_user", "key_file": "private_key_file"}
answers = {}
for name, path in json.load(sys.stdin).items():
    try:
        loader = DataLoader()
        inventory = InventoryManager(loader=loader, sources=[path])
        manager = VariableManager(loader=loader, inventory=inventory)
        hosts = {}
        for host in inventory.get_hosts("all"):
            variables = manager.get_vars(host=host, include_hostvars=False)
            hosts[host.name] = {
                word: str(constants.config.get_config_value(
                    option, plugin_type="connection", plugin_name="ssh", variables=variables) or "")
                for word, option in OPTIONS.items()
            }
        groups = {group: [each.name for each in inventory.groups[group].get_hosts()] for group in inventory.groups}
        answers[name] = {"hosts": hosts, "groups": groups}
    except Exception as error:
        answers[name] = {"error": str(error)}
json.dump(answers, sys.stdout)
"""


class MissingError(Exception):
    """There is no Ansible here."""


def program(name: str) -> str:
    """The path of a program of Ansible."""
    for place in PLACES:
        if (place / "bin" / name).exists() and (place / "bin" / "ansible-inventory").exists():
            return str(place / "bin" / name)
    raise MissingError("ansible-core is missing: .ci/venv requirements-proofs.txt .venv-proofs")


def answers(inventories: Mapping[str, Path], home: Path) -> dict[str, dict[str, Any]]:
    """Of each inventory the options of each host for ssh, and the members of each group; or why it is refused."""
    said = subprocess.run(
        [program("python"), "-c", _ASK],
        input=json.dumps({name: str(path) for name, path in inventories.items()}),
        env=_environment(home),
        check=True,
        capture_output=True,
        text=True,
    )
    answers: dict[str, dict[str, Any]] = json.loads(said.stdout)
    return answers


def listed(inventory: Path, home: Path) -> str:
    """What ``ansible-inventory --list`` says of an inventory."""
    said = subprocess.run(
        [program("ansible-inventory"), "-i", inventory, "--list"],
        env=_environment(home),
        check=True,
        capture_output=True,
        text=True,
    )
    return said.stdout


def _environment(home: Path) -> dict[str, str]:
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "yes",
        "ANSIBLE_LOCALHOST_WARNING": "no",
    }
