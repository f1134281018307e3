"""Files on their way in through a request: on disk, and without a name, so that none outlives its process."""

import io
import tempfile
from typing import IO, Any, cast

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import FileUploadHandler

from deployer.releases.contents import no_room
from deployer.releases.room import has_room


class _Unstored(io.RawIOBase):
    """Stands for a file that the disk had no room for: who reads it learns that. What else was sent is not lost."""

    def read(self, _size: int = -1, /) -> bytes:
        raise no_room()


class NamelessUploadHandler(FileUploadHandler):
    """Takes what is too large for memory. The kernel frees it once nobody has it open, killed processes too."""

    _is_refused = False
    _whole = 0

    def handle_raw_input(self, input_data: Any, META: Any, content_length: int, *rest: Any) -> None:  # noqa: N803
        self._whole = content_length

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        super().new_file(*args, **kwargs)
        file = tempfile.TemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR)  # noqa: SIM115 (open as long as the request)
        self.file = UploadedFile(file, self.file_name, self.content_type, 0, self.charset, self.content_type_extra)
        self._is_refused = not has_room(self._whole)

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        if not self._is_refused:
            try:
                self.file.write(raw_data)
            except OSError:
                self._is_refused = True

    def file_complete(self, file_size: int) -> "UploadedFile[bytes]":
        if self._is_refused:
            self.file.close()
            self.file.file = cast(IO[bytes], _Unstored())
        else:
            self.file.seek(0)
        self.file.size = file_size
        return self.file

    def upload_interrupted(self) -> None:
        if hasattr(self, "file"):
            self.file.close()
