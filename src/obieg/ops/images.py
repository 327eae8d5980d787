"""Builds what a node knows of images, from its settings."""

from __future__ import annotations

from obieg.edges.image_archive import DicomwebArchive
from obieg.ops.failure import Failure
from obieg.ops.settings import Settings
from obieg.ops.tls import calling


def image_archive(settings: Settings) -> DicomwebArchive | None:
    """The archive of images; None where there is none. Raises Failure where its password cannot be read."""
    images = settings.images
    if not images.archive_url:
        return None
    password = ""
    if images.password_file is not None:
        try:
            password = images.password_file.read_text("utf-8").partition("\n")[0].strip("\r")
        except (OSError, UnicodeDecodeError) as error:
            raise Failure(
                f"The password in {images.password_file} cannot be read: {error}.",
                "The archive of images would refuse the node, so it does not start.",
                "Correct images.password_file in the settings, or the rights of that file.",
            ) from error
    tls = calling(settings, images.ca_file) if images.archive_url.startswith("https://") else None
    return DicomwebArchive(images.archive_url, user=images.user, password=password, tls=tls)
