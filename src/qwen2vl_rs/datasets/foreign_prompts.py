"""Questions as other programs write them: named for what they are, with a way to ours."""

from __future__ import annotations

from typing import Any

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
    "messages": "JSON Lines in the form of ms-swift or TRL",
    "conversations": "JSON Lines in the form of LLaVA or LLaMA-Factory",
    "query": "JSON Lines in the form of ms-swift",
    "instruction": "JSON Lines in the form of Alpaca",
    "id": "JSON Lines, or a single record",
    "question": "JSON Lines",
    "image": "JSON Lines",
    "answers": "the answers of RSVQA",
}


def of_object(key: str | None) -> str | None:
    """What begins with an object of this first key; None where that is not known."""
    return _OBJECTS.get(key or "")


def of_record(record: dict[str, Any]) -> str | None:
    """Whose form a record of a JSON list has; None where it may be one of ours."""
    turns = record.get("conversations")
    if isinstance(turns, list):
        # ours may have "image" too: then the question ends with the path, and without a sign
        if "images" in record or "from" not in _first(turns):
            return "LLaMA-Factory's"
        text = str(_first(turns).get("value"))  # of ours a question may hold "<image>" too
        return "LLaVA's" if "<image>" in text and "<|vision_start|>" not in text else None
    if isinstance(record.get("messages"), list):
        return "LLaMA-Factory's" if "images" in record else "that of ms-swift, TRL or OpenAI"
    if "instruction" in record and "output" in record:
        return "Alpaca's"
    if "query" in record and "response" in record:
        return "ms-swift's"
    if "question" in record:
        return "that of plain records"
    return None


def _first(turns: list[Any]) -> dict[str, Any]:
    return turns[0] if turns and isinstance(turns[0], dict) else {"from": ""}
