"""What to do about each error type of a row, in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_DAMAGED_FILE: Final = "copy it again, or source.damaged: keep"
_ADVICE: Final[Mapping[str, str]] = {
    "EmptyFile": "copy it again",
    "NotFound": "bring it back, then retry --errors all",
    "PermissionDenied": "give the rights, then retry --errors all",
    "LinkLoop": "repair the links",
    "NotARegularFile": "nothing; it is no image",
    "NoLocation": "complete the manifest, then --update",
    "NotLocal": "copy the image to a disk or a bucket",
    "TooManyBytes": "raise max_bytes, or make the file smaller",
    "NoImages": "source.exclude, or source.extensions",
    "NoImageColumn": "source.image_column",
    "NoImage": "nothing",
    "TruncatedArchive": "copy it again",
    "DamagedArchive": "copy it again, or pack it again",
    "DamagedMember": "pack the archive again",
    "DamagedTable": "copy it again, or write it again",
    "ArchiveChanged": "cvbatch run … --update",
    "UnsafeMember": "rename the member",
    "OverlappingMember": "pack the archive again",
    "EncryptedMember": "unpack it with its password",
    "UnsupportedCompression": "pack the archive again",
    "DecompressionBomb": "leave it out",
    "HostNotAllowed": "add the host, and use another output",
    "HostNotFound": "correct the URL",
    "InvalidUrl": "correct the URL",
    "PrivateAddress": "copy the image, or read about http_private",
    "SecretInUri": "name the image without it",
    "RedirectRefused": "name the target itself",
    "HttpStatus": "look at the page",
    "UnsupportedEncoding": "ask the owner of the server",
    "UntrustedCertificate": "SSL_CERT_FILE, if the certificate is your own",
    "UnknownFormat": "nothing, or correct the name",
    "TruncatedImage": _DAMAGED_FILE,
    "CorruptImage": _DAMAGED_FILE,
    "UnsupportedImage": "save it as error_message says",
    "NoSuchPage": "cvbatch run … --update",
    "TooManyPages": "raise max_pages, or leave the file out by exclude",
    "TooManyPixels": "raise max_pixels, or crop the image",
    "MissingExtra": "pip install 'cvbatch[heif]', then retry --errors all",
    "InvalidOutput": "correct the model",
    "ProcessDied": "more memory, or leave the image out",
    "TimedOut": "leave the image out, or raise stalled_after",
    "OutOfMemoryError": "a smaller batch_size, more memory",
    "MemoryError": "a smaller batch_size, more memory",
    "UnavailableError": "cvbatch retry",
    "ChangedSinceRun": "cvbatch run … --update, then edit to another place; after run --evolve: cvbatch retry",
    "MaskSize": "label the image again",
    "OtherSize": "label the image again",
    "MultipleFrames": "leave it out, or split it",
    "DeepColours": "save it with 8 bits",
    "UnsupportedMode": "save it as RGB",
    "NotWritable": "save it in another format",
    "NameNotPossible": "another --to",
    "NothingAround": "cvbatch redact",
    "NotInRun": "finish the run",
    "RemovedFromSource": "nothing",
}
_OTHER_ERRORS: Final = "read the message"


def advice_for_error(error_type: str) -> str:
    """Say what to do about an error.

    Args:
        error_type: As a row has it; names of other libraries and of own models are general.

    Returns:
        A sentence without markup; README.md beside this module has the same ones.
    """
    return _ADVICE.get(error_type, _OTHER_ERRORS)
