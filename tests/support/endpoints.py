"""An OpenAI-compatible server on the loopback that says what a test lets it say."""

import base64
import http.server
import io
import json
import threading
from contextlib import contextmanager

from PIL import Image

from qwen2vl_rs.cli import main
from qwen2vl_rs.config import InputConfig
from qwen2vl_rs.raster import read_rgb

LEAD = InputConfig().instruction + "\n"


class Patient(http.server.ThreadingHTTPServer):
    """A server that more may call at once than are accepted at once: none waits a second for it."""

    request_queue_size = 128

    def handle_error(self, *_):
        """Say nothing: a client hung up."""


class Api:
    """An OpenAI-compatible server on 127.0.0.1; ``answer`` gives what it does with a request."""

    def __init__(self, answer):
        self.seen, self.headers, api = [], [], self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else each answer takes 40 ms

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                api.headers.append(dict(self.headers))
                with api.lock:
                    api.seen.append(body)
                    reply = api.answer(body, len(api.seen))
                if reply is None:  # hang up
                    self.close_connection = True
                    return
                status, more, value = reply
                data = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                for name, text in {**more, "Content-Length": str(len(data))}.items():
                    self.send_header(name, text)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.answer, self.lock = answer, threading.Lock()
        self.server = Patient(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"


@contextmanager
def running(answer):
    api = Api(answer)
    thread = threading.Thread(target=api.server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield api
    finally:
        api.server.shutdown()
        thread.join()
        api.server.server_close()


def said(text):
    return 200, {}, {"choices": [{"message": {"role": "assistant", "content": text}}]}


def question_of(body):
    image, text = body["messages"][0]["content"]
    assert text["text"].startswith(LEAD)
    return image["image_url"]["url"], text["text"].removeprefix(LEAD)


def by_wording(body, _):
    return said("yes" if "road" in question_of(body)[1] else "0")


def run(url, *more):
    return main(
        ["eval", "--endpoint", url, "--model", "org/some model", "--test", "test.json", *more]
    )


def truth(samples):
    """The true answer of each question, by wording and picture."""
    known = {}

    def answer(body):
        url, question = question_of(body)
        return known[url, question]

    for s in samples:
        memory = io.BytesIO()
        Image.fromarray(read_rgb(s.image, InputConfig().image)).save(memory, "PNG")
        url = f"data:image/png;base64,{base64.b64encode(memory.getvalue()).decode()}"
        known[url, s.question] = s.answer
    return answer
