"""Questions as other programs write them: named for what they are, with a way to ours."""

from __future__ import annotations

HINT = (
    "write a CSV table with the columns image_path,question,answer, a row for each question; then: "
    "qwen2vl-rs csv2json"
)

_OBJECTS = {
    "info": "a file of COCO or VQA v2",
    "licenses": "a file of COCO or VQA v2",
    "license": "a file of VQA v2",
    "images": "a list of images (of COCO, or RSVQA's …images.json)",
    "annotations": "a file of annotations (COCO, VQA v2)",
    "categories": "a file of COCO",
    "type": "GeoJSON, or JSON Lines",
    "id": "JSON Lines, or a single record",
    "question": "JSON Lines without an image",
    "doc_id": "samples of lmms-eval, which score reads",
    "prompt": "predictions of LLaMA-Factory, which score reads",
    "response": "results of ms-swift, which score reads",
    "answers": "the answers of RSVQA",
}


def of_object(key: str | None) -> str | None:
    """What begins with an object of this first key; None where that is not known."""
    return _OBJECTS.get(key or "")
