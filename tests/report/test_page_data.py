"""The data of the page is plain data that JSON can hold."""

from __future__ import annotations

import json
from dataclasses import asdict, fields

from cvbatch.report.page_data import GalleryImage, ImageElement, PageData, ReportHead


def test_page_data_goes_through_json() -> None:
    element = ImageElement("detection", "__proto__", 0.5, (0.1, 0.2, 0.3, 0.4), [[0.0, 0.0, 1.0, 0.0, 1.0, 1.0]])
    image = GalleryImage(
        row_id=7,
        uri="/photos/</script>.jpg",
        name="</script>.jpg",
        folder="",
        link=None,
        status="ok",
        message=None,
        reason="sure",
        width=4,
        height=3,
        thumbnail=None,
        elements=[element],
    )
    head = ReportHead("photos", ["/photos"], [], [], None, True, "every image has exactly one row")
    data = PageData(head, [], [], [], [image], [], [], ["no thumbnails"])
    read = json.loads(json.dumps(asdict(data)))
    assert list(read) == [field.name for field in fields(PageData)]
    assert read["gallery"][0]["elements"][0]["box"] == [0.1, 0.2, 0.3, 0.4]
    assert read["gallery"][0]["elements"][0]["label"] == "__proto__"
