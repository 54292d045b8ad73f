"""Further parameters of chat requests: which are accepted, and which are refused.

Answers are decoded greedily from one prompt. A parameter that would change that is accepted only
with a value that has no effect. An unknown parameter is refused, not ignored.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from .api_errors import Refusal

_NOTHING: tuple[Any, ...] = (None, False, [], {}, "auto", "none")
_OFF = """
tools tool_choice functions function_call logprobs top_logprobs logit_bias stop audio prediction
web_search_options reasoning_effort verbosity stop_token_ids bad_words guided_json guided_regex
guided_choice guided_grammar structured_outputs prompt_logprobs ignore_eos continue_final_message
echo use_beam_search chat_template chat_template_kwargs mm_processor_kwargs allowed_token_ids
include_stop_str_in_output
"""
_SAMPLING_AND_NAMES = """
temperature top_p seed user metadata store service_tier parallel_tool_calls safety_identifier
prompt_cache_key prompt_cache_retention request_id priority spaces_between_special_tokens
"""
#: Parameter → values without effect. OpenAI's API (platform.openai.com/docs/api-reference),
#: vLLM's and SGLang's extensions of it (docs.vllm.ai, "OpenAI-Compatible Server").
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    **dict.fromkeys(_OFF.split(), _NOTHING),
    "response_format": (*_NOTHING, {"type": "text"}),
    "modalities": (*_NOTHING, ["text"]),
    **dict.fromkeys(("add_generation_prompt", "skip_special_tokens"), (None, True)),
    **dict.fromkeys(("presence_penalty", "frequency_penalty", "min_p", "min_tokens"), (None, 0)),
    **dict.fromkeys(("repetition_penalty", "length_penalty", "best_of"), (None, 1)),
    "top_k": (None, -1, 0, 1),
}
UNUSED = frozenset(_SAMPLING_AND_NAMES.split())
"""Parameters of sampling and naming: they do not affect greedy decoding."""
SCHEMA: dict[str, Any] = {
    **{name: {} for name in sorted(UNUSED)},
    **{name: {"enum": list(values)} for name, values in NEUTRAL.items()},
}
"""The properties of these parameters in a JSON schema."""


def check_parameters(value: Mapping[str, Any], used: Iterable[str]) -> None:
    """Refuse parameters that are not supported.

    Args:
        value: the request.
        used: names of the parameters that are used.

    Raises:
        Refusal: for the first such parameter.
    """
    used = set(used)
    for name, one in value.items():
        if name in used or name in UNUSED:
            continue
        if name not in NEUTRAL:
            near = difflib.get_close_matches(name, [*used, *UNUSED, *NEUTRAL], 1)
            hint = f"did you mean {near[0]}?" if near else "leave it out"
            raise Refusal(
                400,
                "unknown_parameter",
                f"unknown parameter {name[:80]!r}",
                param=name[:80],
                hint=hint,
            )
        if not any(type(one) is type(each) and one == each for each in _spelt(NEUTRAL[name])):
            raise Refusal(400, "unsupported_parameter", f"{name} is not supported", param=name)


def _spelt(values: Iterable[Any]) -> list[Any]:
    """Return the values, with whole numbers also as floats, as in JSON."""
    return [w for v in values for w in ((v, float(v)) if type(v) is int else (v,))]
