"""Releases of projects."""

from typing import IO, Any, cast

from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja import File, Form, Status, UploadedFile
from ninja.pagination import paginate

from deployer.api.frame import READS, TELLS_OF_ONE, Id, Pages, api, row_of
from deployer.api.refused import RefusedError
from deployer.api.shapes import ReleaseShape, StoredShape
from deployer.api.tokens import user_of
from deployer.models import Release
from deployer.releases.archives import StoreError
from deployer.releases.contents import UnsafeArchiveError
from deployer.releases.packages import store_package
from deployer.releases.reader.names import ENCODINGS
from people.rights import insist
from people.roles import Action
from projects.models import Project


@api.get("/projects/{project_id}/releases", response={200: list[ReleaseShape], **TELLS_OF_ONE}, tags=["releases"])
@paginate(Pages)
def list_releases(request: HttpRequest, project_id: Id) -> QuerySet[Release]:
    """The releases that were built or uploaded, the newest first."""
    project = row_of(Project.objects.reached_by(user_of(request)), project_id, "project_id")
    return project.releases.select_related("created_by")


@api.post(
    "/projects/{project_id}/releases",
    response={201: StoredShape, **READS},
    exclude_defaults=True,
    tags=["releases"],
)
def upload_release(
    request: Any, project_id: Id, package: File[UploadedFile], note: Form[str] = "", encoding: Form[str] = ""
) -> Status[Any]:
    """Store a package that was built elsewhere: an archive or a jar. Deploy it by its `version`.

    `encoding` is that of the names in it, where it does not say that and it is not UTF-8: `gbk`, `shift-jis`, `big5`,
    `euc-kr`, `cp437` or `utf-8`.
    """
    user = user_of(request)
    project = row_of(Project.objects.reached_by(user), project_id, "project_id")
    insist(user, Action.OPERATE, project)
    project.insist_on_current()
    if encoding and encoding not in ENCODINGS:
        known = ", ".join(ENCODINGS)
        raise RefusedError(422, _("This encoding is not known. Known are: %s.") % known, field="encoding")
    if "\0" in note:
        raise RefusedError(422, _("a NUL character is in it"), field="note")
    values = {"note": note[:500], "encoding": encoding}
    file = cast(IO[bytes], package.file)
    try:
        release = store_package(project, str(package.name), file, **values, created_by=user)
    except (UnsafeArchiveError, StoreError) as error:
        raise RefusedError(422, str(error), field="package") from error
    return Status(201, release)
