"""How the API refuses: one shape for every error, the problem details of RFC 9457."""

from django.http import HttpResponse
from ninja import Field, Schema

from deployer.api.shapes import example
from pages.problems import details, problem


class ErrorShape(Schema):
    """Why a request was refused, as RFC 9457 has it. ``field`` is the input at fault, ``blocking`` the deployment in
    the way.
    """

    model_config = example(
        **details(404, "There is no deployment with the id 4711.", field="deployment_id"),
    )

    type: str
    title: str
    status: int = Field(ge=400, le=599)
    detail: str
    field: str
    blocking: int | None


class RefusedError(Exception):
    """A request that is answered with an `ErrorShape`; ``wait``: the seconds after which it may be sent again."""

    def __init__(
        self, status: int, detail: str, *, field: str = "", blocking: int | None = None, wait: int | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.field, self.blocking, self.wait = status, detail, field, blocking, wait

    def answer(self) -> HttpResponse:
        """The answer that says so."""
        found = problem(self.status, self.detail, field=self.field, blocking=self.blocking)
        if self.wait is not None:
            found["Retry-After"] = str(self.wait)
        return found
