"""Chat clients that people have, in two turns: ``make clients`` installs and runs them.

CLIENTS names the folder of their environments, ``python`` and ``node``; what is not there is
skipped. A program gets the server's address and an image (PNG) and prints the answers of two turns
as lines of JSON.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest
from PIL import Image

from factory import write_image
from qwen2vl_rs.config import RasterToRGB
from qwen2vl_rs.predict.session import Session
from qwen2vl_rs.raster import read_rgb
from serving import chat, serving

pytestmark = pytest.mark.slow
ALONE = "Each question is answered on its own, about the newest image."
FIRST, SECOND = "Is there a road?", "How many farms are there?"
FOLDER = Path(os.environ.get("CLIENTS", ".clients")).absolute()

# in Python, by the module that they import
PYTHON = {
    "openai": """
import base64, openai
client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
data = "data:image/png;base64," + base64.b64encode(open(image, "rb").read()).decode()
said = [{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": [
    {"type": "text", "text": first}, {"type": "image_url", "image_url": {"url": data}}]}]
for question in (second, None):
    done = client.chat.completions.create(model="small", messages=said).choices[0].message
    print(json.dumps(done.content))
    said += [done.model_dump(exclude_none=True), {"role": "user", "content": question}]
""",
    "litellm": """
import base64, litellm
litellm.suppress_debug_info = True
data = "data:image/png;base64," + base64.b64encode(open(image, "rb").read()).decode()
said = [{"role": "user", "content": [
    {"type": "text", "text": first}, {"type": "image_url", "image_url": {"url": data}}]}]
for question in (second, None):
    done = litellm.completion("openai/small", said, api_base=url, api_key="none", num_retries=0)
    message = done.choices[0].message
    print(json.dumps(message.content))
    said += [message.model_dump(), {"role": "user", "content": question}]
""",
    "langchain_openai": """
import base64
from langchain_openai import ChatOpenAI
from langchain_core.messages import HumanMessage
model = ChatOpenAI(model="small", base_url=url, api_key="none", max_retries=0)
data = "data:image/png;base64," + base64.b64encode(open(image, "rb").read()).decode()
said = [HumanMessage([{"type": "text", "text": first},
                      {"type": "image_url", "image_url": {"url": data}}])]
for question in (second, "?"):
    said.append(model.invoke(said))
    print(json.dumps(said[-1].content))
    said.append(HumanMessage(question))
""",
    "llm": """
import llm
from llm.default_plugins.openai_models import Chat
model = Chat("small", model_name="small", api_base=url, vision=True)
model.needs_key, model.can_stream = None, True
talk = model.conversation()
print(json.dumps(talk.prompt(first, attachments=[llm.Attachment(path=image)], key="none").text()))
print(json.dumps(talk.prompt(second, key="none").text()))
""",
    "inspect_ai": """
import asyncio, base64
from inspect_ai.model import (ChatMessageSystem, ChatMessageUser, ContentImage, ContentText,
                              get_model)
async def main():
    model = get_model("openai-api/own/small", base_url=url, api_key="none")
    data = "data:image/png;base64," + base64.b64encode(open(image, "rb").read()).decode()
    said = [ChatMessageSystem(content=""), ChatMessageUser(
        content=[ContentText(text=first), ContentImage(image=data)])]
    for question in (second, "?"):
        done = await model.generate(said)
        print(json.dumps(done.completion))
        said += [done.message, ChatMessageUser(content=question)]
asyncio.run(main())
""",
    "gradio": """
import gradio, inspect
from gradio.external import load_chat
chat = load_chat(url, model="small", token="none", file_types=["image"], streaming=False)
turn = {"text": first, "files": [image]}
history = []
for question in (second, None):
    found = chat.fn(turn, history)
    answer = list(found)[-1] if inspect.isgenerator(found) else found
    print(json.dumps(answer))
    if not history:
        history = [{"role": "user", "content": [{"type": "file", "file": {"path": image}}]},
                   {"role": "user", "content": [{"type": "text", "text": first}]}]
    history.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    turn = {"text": question, "files": []}
""",
}

# in JavaScript
OPENAI_JS = """
import OpenAI from "openai";
import fs from "node:fs";
const client = new OpenAI({ baseURL: url, apiKey: "none", maxRetries: 0 });
const data = "data:image/png;base64," + fs.readFileSync(image).toString("base64");
const said = [{ role: "user", content: [
  { type: "text", text: first }, { type: "image_url", image_url: { url: data } }] }];
for (const question of [second, ""]) {
  const done = await client.chat.completions.create({ model: "small", messages: said });
  console.log(JSON.stringify(done.choices[0].message.content));
  said.push(done.choices[0].message, { role: "user", content: question });
}
"""


@pytest.fixture(scope="module")
def server(small_base):
    with serving(Session.open(small_base)) as server:
        yield server


@pytest.fixture
def image(tmp_path):
    write_image(tmp_path / "a.tif", 56, 0)
    path = tmp_path / "a.png"
    Image.fromarray(read_rgb(tmp_path / "a.tif", RasterToRGB())).save(path)
    return path


@pytest.fixture
def expected(server, image):
    """The answers to both questions, asked alone."""
    answers = []
    for question in (FIRST, SECOND):
        body = {"model": "small", **chat(image.read_bytes(), question)}
        done = httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=60)
        answers.append(done.json()["choices"][0]["message"]["content"])
    return [answers[0], f"{answers[1]}\n\n{ALONE}"]


def run(program, tmp_path, **more):
    """What a program prints that has a home of its own."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {"HOME": str(tmp_path), "LLM_USER_PATH": str(tmp_path), **more}
    done = subprocess.run(
        list(map(str, program)), cwd=tmp_path, env=environment,
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


def installed(path):
    if not path.exists():
        pytest.skip(f"{path} is not installed: make clients")
    return path


def answers(printed):
    """The texts among the lines: libraries may print others."""
    return [json.loads(line) for line in printed.splitlines() if line.startswith('"')]


@pytest.mark.parametrize("client", PYTHON)
def test_two_turns_of_a_client_in_python(server, image, expected, tmp_path, client):
    python = installed(FOLDER / "python/bin/python")
    given = (f"{server.url}/v1", str(image), FIRST, SECOND)
    lead = f"import json\nurl, image, first, second = {given!r}\n"
    assert answers(run([python, "-c", lead + PYTHON[client]], tmp_path)) == expected


def node_modules(tmp_path):
    """The installed packages, where a program in the folder finds them."""
    if not shutil.which("node"):
        pytest.skip("node is not installed")
    (tmp_path / "node_modules").symlink_to(installed(FOLDER / "node/node_modules"))
    return tmp_path / "node_modules"


def test_two_turns_of_openai_in_javascript(server, image, expected, tmp_path):
    node_modules(tmp_path)
    given = json.dumps([f"{server.url}/v1", str(image), FIRST, SECOND])
    (tmp_path / "a.mjs").write_text(f"const [url, image, first, second] = {given};\n{OPENAI_JS}")
    assert answers(run(["node", "a.mjs"], tmp_path)) == expected


def test_two_turns_of_promptfoo(server, image, expected, tmp_path):
    """Its prompts are files of messages; the second turn holds the first."""
    program = installed(node_modules(tmp_path) / ".bin/promptfoo")
    messages = chat(image.read_bytes(), FIRST)["messages"]
    turns = [
        messages,
        [*messages, {"role": "assistant", "content": "yes"}, {"role": "user", "content": SECOND}],
    ]
    for number, turn in enumerate(turns):
        (tmp_path / f"{number}.json").write_text(json.dumps(turn))
    config = {
        "prompts": ["file://0.json", "file://1.json"],
        "providers": [{
            "id": "openai:chat:small",
            "config": {"apiBaseUrl": f"{server.url}/v1", "apiKey": "none", "temperature": 0},
        }],
        "tests": [{"vars": {"none": ""}}],
    }  # fmt: skip
    (tmp_path / "promptfooconfig.json").write_text(json.dumps(config))
    run(
        [program, "eval", "-c", "promptfooconfig.json", "-o", "out.json", "--no-cache"], tmp_path,
        PROMPTFOO_DISABLE_TELEMETRY="1", PROMPTFOO_DISABLE_UPDATE="1",
        PROMPTFOO_CONFIG_DIR=str(tmp_path),
    )  # fmt: skip
    found = json.loads((tmp_path / "out.json").read_text())["results"]["results"]
    by_turn = sorted(found, key=lambda one: one["promptIdx"])
    assert [one["response"]["output"] for one in by_turn] == expected
