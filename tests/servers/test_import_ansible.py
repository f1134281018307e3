"""Promises of the import of Ansible inventories: hosts, logins and groups are those of Ansible, or it is said."""

import json
import time
from itertools import permutations, product
from pathlib import Path

import pytest

from servers.imports import ansible
from servers.imports.listing import Listing, UnreadableListingError
from tests.parts.ansible import answers, listed

INI = {
    "a host": "web-1\n",
    "hosts without a group": "b\na\n[g]\na\n",
    "a port": "web-1:2222\nweb-2:22\n",
    "a port with a variable": "web-1:2222 ansible_port=23\n",
    "a port the second time": "web-1\n[g]\nweb-1:2222\n",
    "a port twice": "web-1:2222\n[g]\nweb-1:3333\n",
    "a port of a range": "web[1:3]:2222\n",
    "an address": "192.0.2.1\n192.0.2.2:2222\n",
    "an address of IPv6": "2001:db8::1\n[2001:db8::2]:2222\n",
    "an address of IPv6 in a variable": "web ansible_host=2001:db8::1 ansible_port=2222\n",
    "ranges": "web[01:03]\ndb[a:c]\nx[1:9:4]\n",
    "a range from nought": "web[:3]\n",
    "two ranges": "r[1:2]-[a:b].example.com\n",
    "both names of a host": "a ansible_host=one ansible_ssh_host=two\nb ansible_ssh_host=two ansible_host=one\n",
    "both names of a port": "a ansible_port=1 ansible_ssh_port=2\n",
    "both names of a user": "a ansible_user=one ansible_ssh_user=two\n",
    "both names of a key": "a ansible_private_key_file=one ansible_ssh_private_key_file=two\n",
    "the old name in a group": "[g]\na ansible_user=one\n[g:vars]\nansible_ssh_user=two\n",
    "the new name in a group": "[g]\na ansible_ssh_user=one\n[g:vars]\nansible_user=two\n",
    "variables of a group": "[g]\na\nb ansible_user=own\n[g:vars]\nansible_user=group\nansible_port=23\n",
    "variables of all": "[g]\na\n[all:vars]\nansible_user=all\n",
    "a group over all": "[g]\na\n[g:vars]\nansible_user=g\n[all:vars]\nansible_user=all\n",
    "variables of the ungrouped": "a\nb\n[g]\nb\n[ungrouped:vars]\nansible_user=alone\n",
    "two groups": "[b]\nh\n[a]\nh\n[a:vars]\nansible_user=a\n[b:vars]\nansible_user=b\n",
    "a child over its parent": "[c]\nh\n[p:children]\nc\n[p:vars]\nansible_user=p\n[c:vars]\nansible_user=c\n",
    "a child before z": "[a]\nh\n[z:children]\na\n[z:vars]\nansible_user=z\n[a:vars]\nansible_user=a\n",
    "a grandchild": "[a]\nh\n[m:children]\na\n[z:children]\nm\n[z:vars]\nansible_user=z\n[m:vars]\nansible_user=m\n",
    "of two depths": "[a]\nh\n[b:children]\na\n[z]\nh\n[z:vars]\nansible_user=z\n[a:vars]\nansible_user=a\n",
    "a diamond": "[a]\nh\n[l:children]\na\n[r:children]\na\n[l:vars]\nansible_port=1\n[r:vars]\nansible_port=2\n",
    "a priority": "[a]\nh\n[b]\nh\n[a:vars]\nansible_user=a\nansible_group_priority=10\n[b:vars]\nansible_user=b\n",
    "a priority below one": "[a]\nh\n[b]\nh\n[a:vars]\nansible_user=a\n[b:vars]\n"
    "ansible_user=b\nansible_group_priority=-5\n",
    "a priority of a parent": "[c]\nh\n[p:children]\nc\n[p:vars]\nansible_user=p\nansible_group_priority=99\n"
    "[c:vars]\nansible_user=c\n",
    "a priority in quotes": "[a]\nh\n[b]\nh\n[a:vars]\nansible_user=a\nansible_group_priority='7'\n"
    "[b:vars]\nansible_user=b\n",
    "quotes": "a ansible_user='jane doe'\nb ansible_user=\"jane doe\"\n",
    "quotes in variables": "[all:vars]\nansible_user='jane doe'\nansible_host=\"one.example.com\"\n[g]\na\n",
    "quotes within quotes": "[g]\na\n[g:vars]\nansible_user=\"ja\\\"ne\"\nansible_private_key_file='/k\\'s/id'\n",
    "quotes of Python": "a ansible_user='\"jane doe\"'\n",
    "texts of Python": "[g]\na\n[g:vars]\nansible_user='ja' \"ne\"\nansible_host='a\\x2db'\n",
    "a backslash": "[g]\na\n[g:vars]\nansible_user=CORP\\jane\n",
    "a backslash in quotes": "[g]\na\n[g:vars]\nansible_user='CORP\\\\jane'\n",
    "a backslash of a host": "a ansible_user=CORP\\jane\nb ansible_user='CORP\\jane'\n",
    "a hash": "[g]\na ansible_user=svc\\#1\n[g:vars]\nansible_host=h#1\n",
    "comments": "; no\n# no\na ansible_user=x # y\n[g] # the group\na\n",
    "a comment behind a variable": "[g]\na\n[g:vars]\nansible_port=23 # there\nansible_user='x' # who\n"
    "ansible_host=y # z\n",
    "spaces": "[g]\n  a   ansible_user=x\n[g:vars]\n ansible_port = 23 \n ansible_host= h\n",
    "equals signs": "[g]\na\n[g:vars]\nansible_user=a=b\n",
    "no value": "[g]\na ansible_user=\n[g:vars]\nansible_port=23\n",
    "children before they are there": "[p:children]\nc\n[c]\na\n",
    "variables before they are there": "[g:vars]\nansible_user=x\n[g]\na\n",
    "an empty group": "[e]\n[g]\na\n",
    "a group twice": "[g]\na\n[x]\nb\n[g]\nc\n",
    "a host twice": "a ansible_user=one\na ansible_port=2\n[g]\na ansible_user=two\n",
    "the group all": "[all]\na\n[g]\nb\n[all:vars]\nansible_user=x\n",
    "children of all": "[all:children]\ng\n[g]\na\n[all:vars]\nansible_user=x\n",
    "names with signs": "web_1.example-2.com\n[g.x-y]\nweb_1.example-2.com\n",
}
YAML = {
    "a host": "all: {hosts: {a: }}\n",
    "a host as text": "all: {hosts: a, children: g}\n",
    "variables": "all:\n  hosts:\n    a: {ansible_host: one, ansible_port: 23, ansible_user: x}\n",
    "ports": "all:\n  hosts:\n    a:2222:\n    'b[1:2]:23':\n    '[2001:db8::1]:24':\n",
    "both names": "all:\n  hosts:\n    a: {ansible_host: one, ansible_ssh_host: two}\n"
    "    b: {ansible_ssh_user: x, ansible_user: y}\n",
    "nothing": "all:\n  hosts:\n    a: {ansible_host: , ansible_user: null, ansible_port: ~}\n"
    "  vars: {ansible_user: x}\n",
    "children": "all:\n  children:\n    p:\n      children: {c: {hosts: {a: }, vars: {ansible_user: c}}}\n"
    "      vars: {ansible_user: p}\n",
    "groups at the top": "p:\n  hosts: {a: }\nq:\n  hosts: {a: , b: }\n  vars: {ansible_port: 9}\n"
    "all: {hosts: {c: }}\n",
    "priorities": "a: {hosts: {h: }, vars: {ansible_user: a, ansible_group_priority: 10}}\n"
    "b: {hosts: {h: }, vars: {ansible_user: b}}\n",
    "anchors": "all:\n  hosts:\n    a: &login {ansible_user: x, ansible_port: 23}\n    b: *login\n",
    "merges": "all:\n  vars: &base {ansible_user: x, ansible_port: 1}\n  hosts:\n    a: {<<: *base, ansible_port: 2}\n"
    "    b: {ansible_port: 3, <<: *base}\n",
    "merges of several": "a: &a {hosts: {h: {ansible_user: x}}}\nb: &b {hosts: {i: }, vars: {ansible_port: 4}}\n"
    "c: {<<: [*a, *b]}\n",
    "a group by its anchor": "all:\n  children:\n    a: &a {hosts: {h: {ansible_user: x}}}\n    b: *a\n",
    "hosts by their anchor": "a:\n  hosts: &h {one: , two: {ansible_port: 5}}\nb:\n  hosts: *h\n",
    "a group in two": "p: {children: {c: {hosts: {a: }}}}\nq: {children: {c: }, vars: {ansible_user: q}}\n",
    "quoted numbers": "all: {hosts: {a: {ansible_port: '23', ansible_user: \"7\"}}}\n",
    "signs in texts": 'all: {hosts: {a: {ansible_user: \'CORP\\jane\', ansible_private_key_file: "C:\\\\k\\"x"}}}\n',
    "JSON": '{"all": {"hosts": {"a": {"ansible_port": 23}}, "children": {"g": {"hosts": {"b": null}}}}}\n',
}


def generated() -> dict[str, str]:
    """Inventories of three groups in every order of depth, with and without priorities."""
    found = {}
    for (first, second, third), ranks in product(permutations("abc"), ((1, 1, 1), (3, 1, 2))):
        text = f"[{first}]\nh\n[{second}:children]\n{first}\n[{third}]\nh\n"
        for name, rank in zip("abc", ranks, strict=True):
            text += f"[{name}:vars]\nansible_user={name}\nansible_group_priority={rank}\n"
        found[f"{first} below {second}, beside {third}, {ranks}"] = text
    return found


INVENTORIES = {
    **{f"{name}.ini": text for name, text in {**INI, **generated()}.items()},
    **{f"{name}.yml": text for name, text in YAML.items()},
}


def facts(listing: Listing) -> dict[str, object]:
    assert not [found.problem for found in listing.servers if found.problem]
    hosts = {
        found.name: {"host": found.host, "port": found.port, "user": found.username, "key_file": found.key_file}
        for found in listing.servers
    }
    return {"hosts": hosts, "groups": {name: sorted(members) for name, members in listing.groups.items()}}


def test_eighty_inventories_are_read_as_ansible_itself_reads_them(tmp_path: Path) -> None:
    assert len(INVENTORIES) >= 80
    files = {}
    for number, (name, text) in enumerate(INVENTORIES.items()):
        files[name] = tmp_path / f"{number}{Path(name).suffix}"
        files[name].write_text(text)
    real = answers(files, tmp_path)
    for name, answer in real.items():
        assert "error" not in answer, (name, answer)
        groups = answer["groups"].items()
        answer["groups"] = {
            group: sorted(members) for group, members in groups if members and group not in ("all", "ungrouped")
        }
    mine = {name: facts(ansible.read(text, name)) for name, text in INVENTORIES.items()}
    assert {name: (mine[name], real[name]) for name in real if mine[name] != real[name]} == {}


def test_what_ansible_itself_lists_is_read_as_the_inventory_that_it_was_made_of(tmp_path: Path) -> None:
    text = (
        "lonely ansible_host=192.0.2.9\n[web]\nweb[01:03]:2222 ansible_user='jane doe'\n[db]\ndb-1\n[db:vars]\n"
        "ansible_user=CORP\\jane\n[shop:children]\nweb\ndb\n[shop:vars]\nansible_port=23\n[all:vars]\nansible_user=all\n"
    )
    (tmp_path / "hosts").write_text(text)
    answer = listed(tmp_path / "hosts", tmp_path)
    assert facts(ansible.read(answer)) == facts(ansible.read(text))
    assert facts(ansible.read(answer, "hosts.json")) == facts(ansible.read(text))


def test_the_answer_of_a_dynamic_inventory_is_read() -> None:
    answer = {
        "_meta": {"hostvars": {"a": {"ansible_host": "192.0.2.1", "ansible_port": 2222}, "unknown": {}}},
        "web": {"hosts": ["a", "b"], "vars": {"ansible_user": "deploy"}, "children": ["inner"]},
        "inner": ["c"],
        "alone": {"ansible_user": "x"},
        "all": {"children": ["web", "ungrouped"]},
    }
    listing = ansible.read(json.dumps(answer, indent=1))
    assert {found.name: (found.host, found.port, found.username) for found in listing.servers} == {
        "a": ("192.0.2.1", "2222", "deploy"),
        "b": ("b", "", "deploy"),
        "c": ("c", "", "deploy"),
        "alone": ("alone", "", "x"),
    }
    assert listing.groups == {"web": ["a", "b", "c"], "inner": ["c"], "alone": ["alone"]}


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("$ANSIBLE_VAULT;1.1;AES256\n6238\n", "", "encrypted by ansible-vault"),
        ("\n$ANSIBLE_VAULT;1.2;AES256;x\n6238\n", "hosts.yml", "encrypted by ansible-vault"),
        ("[web.hosts]\na = { ansible_port = 23 }\n", "hosts.toml", "in TOML are not read"),
        ("a\n", "hosts.TOML", "in TOML are not read"),
        ('# hosts\n[all.vars]\nansible_user = "x"\n\n[web.hosts.a]\nansible_host = "y"\n', "", "in TOML are not read"),
        ("#!/usr/bin/env python\nimport json\n", "", "It is a program"),
        ("plugin: amazon.aws.aws_ec2\nregions: [eu-west-1]\n", "aws_ec2.yml", "the plugin “amazon.aws.aws_ec2”"),
        ("- hosts: all\n  tasks: []\n", "site.yml", "It is not an inventory"),
        ("[1, 2]\n", "hosts.json", "It is not an inventory"),
        ('{"_meta": {"hostvars": {"a": {}}}}', "", "It contains no servers"),
    ],
)
def test_what_is_no_inventory_is_refused_as_what_it_is(text: str, name: str, said: str) -> None:
    with pytest.raises(UnreadableListingError, match=said):
        ansible.read(text, name)


def test_an_ini_inventory_may_have_a_group_whose_name_ends_like_a_table_of_toml() -> None:
    assert ansible.read("[example.hosts]\nweb-1 ansible_user=x\n").groups == {"example.hosts": ["web-1"]}


def test_a_line_that_ansible_would_refuse_is_left_out_and_said() -> None:
    listing = ansible.read("web-1\nthis is prose\n")
    assert [found.name for found in listing.servers] == ["web-1"]
    assert "Line 2 was left out: “is” is not a variable" in listing.notes[0]


def test_an_encrypted_variable_makes_a_server_that_cannot_be_taken() -> None:
    text = "all:\n  hosts:\n    a:\n      ansible_host: !vault |\n        $ANSIBLE_VAULT;1.1;AES256\n"
    text += "        6238\n    b:\n"
    first, second = ansible.read(text).servers
    assert "encrypted by ansible-vault" in first.problem
    assert ("VAULT" in str(first), second.problem) == (False, "")


@pytest.mark.parametrize(
    ("variables", "host", "port", "user", "jumps"),
    [
        ("ansible_ssh_common_args=-o ProxyJump=ops@gate", "a", "", "", ["ops@gate"]),
        ("ansible_ssh_args=-J one\nansible_ssh_common_args=-J two", "a", "", "", ["one"]),
        ("ansible_ssh_common_args=-o Port=23 -l x", "a", "23", "x", []),
        ("ansible_port=24\nansible_user=y\nansible_ssh_common_args=-o Port=23 -o User=x", "a", "24", "y", []),
        ("ansible_port=24\nansible_ssh_args=-p 23", "a", "23", "", []),
        ("ansible_ssh_extra_args=-o HostName=b", "b", "", "", []),
        (
            "ansible_port=24\nansible_ssh_common_args=-o ProxyCommand='ssh -W %h:%p -p 99 gate'",
            "a",
            "24",
            "",
            ["gate:99"],
        ),
    ],
)
def test_the_arguments_of_ssh_are_taken_over(variables: str, host: str, port: str, user: str, jumps: list[str]) -> None:
    found = ansible.read(f"[g]\na\n[g:vars]\n{variables}\n").servers[0]
    assert (found.host, found.port, found.username, found.jumps, found.problem) == (host, port, user, jumps, "")


def test_a_config_that_an_inventory_names_is_not_opened_and_said() -> None:
    listing = ansible.read("[g]\na\n[g:vars]\nansible_ssh_common_args=-F /etc/passwd\n")
    assert "“/etc/passwd”, a config of ssh" in listing.notes[0]


def _chain(step: str) -> str:
    return "a0: &a0 {hosts: {h: }}\n" + "".join(f"a{n}: &a{n} {step.format(n - 1)}\n" for n in range(1, 1000))


HOSTILE = {
    "groups in groups by anchors": _chain("{{children: {{x: *a{0}, y: *a{0}}}}}"),
    "merges of merges": _chain("{{<<: [*a{0}, *a{0}]}}"),
    "a long chain of groups": _chain("{{children: {{x: *a{0}}}}}"),
    "a long chain of merges": _chain("{{<<: *a{0}}}"),
    "large merges": "a: &a {"
    + ",".join(f"k{n}: " for n in range(5000))
    + "}\nb:\n  hosts:\n"
    + "".join(f"    h{n}: {{<<: *a}}\n" for n in range(1900)),
    "large variables": "v: &v {"
    + ",".join(f"k{n}: " for n in range(5000))
    + "}\nb:\n  hosts:\n"
    + "".join(f"    h{n}: *v\n" for n in range(1900)),
    "itself": "a: &a {hosts: {h: }, children: {b: *a}}\n",
    "itself merged": "a: &a {<<: *a, hosts: {h: }}\n",
    "deep JSON": '{"a":' * 40_000,
    "deep JSON to its end": '{"a":' * 20_000 + "1" + "}" * 20_000,
    "a large number": '{"a": {"hosts": [' + "9" * 200_000 + "]}}",
    "brackets of no TOML": "[" * 200_000 + "\n[a:children]\na\n",
    "tables of no TOML": "[a.hosts]\n" * 20_000 + "[b:nothing]\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_an_inventory_that_is_made_to_be_too_much_is_refused(name: str) -> None:
    begun = time.process_time()
    with pytest.raises(UnreadableListingError):
        ansible.read(HOSTILE[name])
    assert time.process_time() - begun < 20
