"""No small picture of what is hidden stays in a file, wherever a camera or a program has put it."""

from __future__ import annotations

import base64
import struct

import pytest
from PIL import ExifTags, Image

from cvbatch.edits.base import FoundObject, OriginalImage
from cvbatch.edits.metadata import kept_xmp
from cvbatch.edits.redact import Redact
from tests.edits.test_picture import BOX, MAX_PIXELS, SIZE, noise, opened, saved

THUMBNAIL = saved(noise("RGB").resize((8, 6)), "JPEG", comment=b"a small picture")
XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">{}</r:RDF></x:xmpmeta>'
OF_A_CAMERA = '<r:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Model="Camera"/>'


def exif_with_pictures() -> bytes:
    """A block with a name, a position, a maker's note with a preview, and a thumbnail in its second directory."""
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Maker"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote] = b"NIKON" + THUMBNAIL
    block = exif.tobytes()[6:]
    (first,) = struct.unpack_from(">I", block, 4)
    (count,) = struct.unpack_from(">H", block, first)
    link = first + 2 + 12 * count  # where the first directory says where the second one is
    second = struct.pack(">HHHIIHHIII", 2, 0x201, 4, 1, len(block) + 30, 0x202, 4, 1, len(THUMBNAIL), 0)
    return b"Exif\0\0" + block[:link] + struct.pack(">I", len(block)) + block[link + 4 :] + second + THUMBNAIL


def with_pictures(kind: str) -> bytes:
    """A photo with small pictures in its metadata."""
    data = saved(noise("RGB"), kind, exif=exif_with_pictures())
    assert opened(data).getexif().get_ifd(ExifTags.IFD.IFD1)[0x202] == len(THUMBNAIL)
    if kind == "JPEG":  # Photoshop's resource 1036 is a thumbnail, too
        resource = b"Photoshop 3.0\x008BIM\x04\x0c\0\0" + struct.pack(">I", len(THUMBNAIL) + 28) + bytes(28) + THUMBNAIL
        data = data[:2] + b"\xff\xed" + struct.pack(">H", len(resource) + 2) + resource + data[2:] + THUMBNAIL
    return data


@pytest.mark.parametrize("keep_metadata", [False, True])
@pytest.mark.parametrize("box", [BOX, (100.0, 100.0, 120.0, 120.0)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_no_thumbnail_stays(kind: str, box: tuple[float, float, float, float], keep_metadata: bool) -> None:
    objects = [FoundObject("person", 0.9, box)]
    image = OriginalImage("a.x", with_pictures(kind), SIZE, MAX_PIXELS, objects)
    edited = Redact("fill", 0.0, keep_metadata).edit_image(image).files[0].data
    assert b"a small picture" not in edited
    assert edited.count(b"\xff\xd8\xff") == (1 if kind == "JPEG" else 0)
    tags = opened(edited).getexif()
    assert tags.get(ExifTags.Base.Make) == ("Maker" if keep_metadata else None)
    assert bool(tags.get_ifd(ExifTags.IFD.GPSInfo)) is keep_metadata


def test_a_maker_s_note_without_a_picture_stays() -> None:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote] = b"Nikon lens"
    image = OriginalImage("a.x", saved(noise("RGB"), "JPEG", exif=exif.tobytes()), SIZE, MAX_PIXELS, [])
    assert b"Nikon lens" in Redact("fill", 0.0, keep_metadata=True).edit_image(image).files[0].data


@pytest.mark.parametrize("line", ["{}", "&#xA;{}", "\n{}"])
@pytest.mark.parametrize("picture", [THUMBNAIL, saved(noise("L"), "PNG")])
def test_xmp_with_a_picture_goes(picture: bytes, line: str) -> None:
    encoded = line.format(base64.b64encode(picture).decode())
    packet = XMP.format(OF_A_CAMERA + f"<xmpGImg:image>{encoded}</xmpGImg:image>").encode()
    assert kept_xmp(packet) is None
    image = OriginalImage("a.x", saved(noise("RGB"), "JPEG", xmp=packet), SIZE, MAX_PIXELS, [])
    for found in ([], [FoundObject("person", 0.9, BOX)]):
        image = OriginalImage(image.path, image.data, SIZE, MAX_PIXELS, found)
        assert b"xmpGImg" not in Redact("fill", 0.0, keep_metadata=True).edit_image(image).files[0].data
    plain = XMP.format(OF_A_CAMERA).encode()
    assert kept_xmp(plain) == plain
