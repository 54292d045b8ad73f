"""Name unsupported JSON formats in error messages, with a hint how to convert them."""

from __future__ import annotations

HINT = (
    "write a CSV table with the columns image_path,question,answer, one row per question; then: "
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


def describe_object(key: str | None) -> str | None:
    """Describe a JSON object by its first key; None if it is unknown."""
    return _OBJECTS.get(key or "")
