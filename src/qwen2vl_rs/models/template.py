"""A chat template is a program of somebody else's: it is tried in a process with limits."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path

from ..errors import ModelError

_SECONDS, _BYTES, _LETTERS = 2, 1 << 30, 1 << 20
_PATIENCE = 60  # seconds by the clock: a machine may be busy with other work

# With the settings under which transformers renders (utils.chat_template_utils). It needs jinja2
# alone, and so starts in a tenth of the time; transformers' own rendering comes afterwards.
_TRY = """
import json, resource, sys
limits = json.loads(sys.argv[1])
resource.setrlimit(resource.RLIMIT_CPU, (limits["seconds"], limits["seconds"]))
if sys.platform != "darwin":  # which refuses this one
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
    """Render a template once, in a process that may neither take long nor grow large.

    What else is wrong with it, transformers says when it renders it.

    Args:
        folder: of the base, for the message.
        template: the chat template.
        chats: lists of messages, as JSON.
        tokens: names and texts of control tokens, as JSON.

    Raises:
        ModelError: it takes too long, or too much memory, or writes too much.
    """
    if not _ends(template, chats, tokens):
        raise ModelError(
            f"the chat template in {folder} does not come to an end: {_SECONDS} seconds, 1 GB of "
            "memory or a million letters are not enough for one question",
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
    # killed (by a negative code), or out of memory; any other failure is the template's own
    return done.returncode >= 0 and done.returncode != 9 and b"MemoryError" not in done.stderr
