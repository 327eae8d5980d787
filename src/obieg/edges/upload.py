"""Forms with a file, as browsers send them (RFC 7578)."""

from __future__ import annotations

from obieg.wire.mime import MimeRefused, MultipartParser, PartData, PartEnd, PartStart, content_type

MEDIA_TYPE = "multipart/form-data"
_FIELD_BYTES_MAX = 16 * 1024
_FIELDS_MAX = 40
_FILE = "file"  # the one field that may be large


class UploadForm:
    """Feed it bytes; then ``pairs`` are the fields in order, and ``file`` the content of the field ``file``."""

    def __init__(self, header: str, *, file_bytes_max: int) -> None:
        """``header``: Content-Type. Raises ValueError where it is none of a form with files."""
        media, parameters = content_type(header)
        if media != MEDIA_TYPE:
            raise ValueError(f"it is {media[:60]}")
        try:
            self._parser = MultipartParser(parameters.get("boundary", ""), parts_max=_FIELDS_MAX)
        except MimeRefused as error:
            raise ValueError(str(error)) from None
        self._file_bytes_max = file_bytes_max
        self._name = ""
        self._value = bytearray()
        self.pairs: list[tuple[str, str]] = []
        self.file: bytes | None = None
        self.too_large = False  # the file, which is then left out

    def feed(self, data: bytes) -> None:
        """Raises ValueError for what is no such form, or has fields that are too long."""
        try:
            for event in self._parser.feed(data):
                match event:
                    case PartStart(headers):
                        self._name = _name_of(headers.get("content-disposition", ""))
                        self._value = bytearray()
                    case PartData(piece):
                        self._add(piece)
                    case PartEnd():
                        self._end()
        except MimeRefused as error:
            raise ValueError(str(error)) from None

    def finish(self) -> None:
        """Raises ValueError where the form is not whole."""
        try:
            self._parser.finish()
        except MimeRefused as error:
            raise ValueError(str(error)) from None

    def _add(self, piece: bytes) -> None:
        if self._name != _FILE:
            if len(self._value) + len(piece) > _FIELD_BYTES_MAX:
                raise ValueError("a field is too long")
        elif len(self._value) + len(piece) > self._file_bytes_max:
            self.too_large = True
            self._value.clear()
        if not (self._name == _FILE and self.too_large):
            self._value += piece

    def _end(self) -> None:
        if self._name != _FILE:
            self.pairs.append((self._name, self._value.decode("utf-8")))
        elif self.file is not None:
            raise ValueError("there are two files")
        else:
            self.file = bytes(self._value)


def _name_of(disposition: str) -> str:
    kind, parameters = content_type(disposition)
    name = parameters.get("name", "")
    if kind != "form-data" or not name.isascii() or not name:
        raise ValueError("a part has no name")
    return name
