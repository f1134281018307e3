"""The JSON API below /api/v1/, with a bearer token: one file for each kind of thing, and what they share in `frame`.

Every error is a problem of RFC 9457 (application/problem+json) that says ``detail`` (a sentence), ``field`` (the input
at fault or "") and ``blocking`` (the deployment in the way, or null). 400: a body that cannot be read; 401: no valid
token; 403: the token's user sees it and has no right to do this, with who may; 404: an id that is not there, or out of
sight; 409: another deployment is in the way, a gate is closed, or this one is not in the state for it; 422: the input
does not fit, has a name that is not known, or the launch is refused; 429: too many requests, or too many wrong tokens,
came from this address.
"""

from deployer.api import about, commands, config_files, deployments, projects, releases
from deployer.api.frame import api

__all__ = ["about", "api", "commands", "config_files", "deployments", "projects", "releases"]
