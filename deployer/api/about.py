"""Which deployer answers."""

from django.http import HttpRequest
from ninja import Schema

from deployer import __version__
from deployer.api.frame import TELLS, api
from deployer.api.shapes import example


class VersionShape(Schema):
    """Which deployer answers."""

    model_config = example(version=__version__)

    version: str


@api.get("/version", response={200: VersionShape, **TELLS}, tags=["about"])
def read_version(request: HttpRequest) -> dict[str, str]:
    """Which deployer this is."""
    return {"version": __version__}
