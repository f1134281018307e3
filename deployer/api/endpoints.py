from deployer.api import (
    about,
    commands,
    config_files,
    deployments,
    gates,
    parts,
    people,
    projects,
    releases,
    servers,
    variable_sets,
)
from deployer.api.frame import api
from deployer.api.nouns import NOUNS

__all__ = [
    "NOUNS",
    "about",
    "api",
    "commands",
    "config_files",
    "deployments",
    "gates",
    "parts",
    "people",
    "projects",
    "releases",
    "servers",
    "variable_sets",
]
