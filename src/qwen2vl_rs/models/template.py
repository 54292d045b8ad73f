"""Render untrusted chat templates (Jinja) in a subprocess with time and memory limits."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path

from ..errors import ModelError

_SECONDS, _BYTES, _LETTERS = 2, 1 << 30, 1 << 20
_PATIENCE = 60  # seconds of wall-clock time: the machine may be busy

# The settings are those of transformers (utils.chat_template_utils). Importing only jinja2 makes
# it start ten times faster; transformers itself renders afterwards.
_TRY = """
import json, resource, sys
limits = json.loads(sys.argv[1])
resource.setrlimit(resource.RLIMIT_CPU, (limits["seconds"], limits["seconds"]))
if sys.platform != "darwin":  # not supported there
    resource.setrlimit(resource.RLIMIT_AS, (limits["bytes"], limits["bytes"]))
sys.path[:] = limits["path"]
import jinja2, jinja2.ext, jinja2.nodes, jinja2.sandbox
class Generation(jinja2.ext.Extension):
    tags = {"generation"}
    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.Scope(body).set_lineno(line)
def fail(message):
    raise jinja2.TemplateError(message)
given = json.load(sys.stdin)
env = jinja2.sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
env.filters["tojson"] = lambda x, **more: json.dumps(x, ensure_ascii=False)
env.globals["raise_exception"] = fail
env.globals["strftime_now"] = lambda form: form
template = env.from_string(given["template"])
for chat in given["chats"]:
    text = template.render(messages=chat, tools=None, documents=None,
                           add_generation_prompt=chat[-1]["role"] == "user", **given["tokens"])
    if len(text) > limits["letters"]:
        sys.exit(9)
"""


def try_template(folder: Path, template: str, chats: str, tokens: str) -> None:
    """Render a template once in a subprocess with limits.

    Other errors of the template are reported by transformers when it renders it.

    Args:
        folder: folder of the base model, for the message.
        template: the chat template.
        chats: lists of messages, as JSON.
        tokens: names and texts of control tokens, as JSON.

    Raises:
        ModelError: it needs too much time or memory, or its output is too long.
    """
    if not _ends(template, chats, tokens):
        raise ModelError(
            f"the chat template in {folder} exceeds the limits for one question: {_SECONDS} "
            "seconds, 1 GB of memory, or a million characters",
            hint="fetch the model again: qwen2vl-rs load --verify",
        )


@functools.lru_cache(maxsize=16)
def _ends(template: str, chats: str, tokens: str) -> bool:
    limits = {"seconds": _SECONDS, "bytes": _BYTES, "letters": _LETTERS, "path": sys.path}
    given = {"template": template, "chats": json.loads(chats), "tokens": json.loads(tokens)}
    command = [sys.executable, "-I", "-S", "-c", _TRY, json.dumps(limits)]
    try:
        done = subprocess.run(
            command,
            input=json.dumps(given).encode(),
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    # killed (negative code) or out of memory; transformers reports any other failure
    return done.returncode >= 0 and done.returncode != 9 and b"MemoryError" not in done.stderr
