"""What a request may hold; beyond it the answer is a 4xx that says so."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one server.

    Attributes:
        image_bytes: size of an image file.
        pixels: width times height of an image, by its header.
        unpacked_bytes: of all its bands, unpacked.
        decoders: small images decoded at the same time.
        small_bytes: unpacked, of an image that is decoded beside others; larger ones go one by one.
        decode_bytes: memory that a decoding may take beyond its process's own.
        decode_seconds: of computing that it may take, and three times as many in all.
        images_waiting: requests that may wait for a decoder.
        questions: in one request.
        question_chars: of one question.
        questions_bytes: of all questions of a request, as UTF-8: no token has less than one.
        json_text_bytes: of a JSON body beside its images.
        json_parts: brackets and commas in a JSON body: a small text can unpack to much memory.
        body_seconds: a stretch of time of a body.
        body_rate: bytes a second that have to come in each of them, on average.
        idle_seconds: without any new byte of a body.
        in_flight_bytes: bodies that are held at the same time, of all requests.
        head_bytes: of a request's head.
        head_seconds: until it has to be there.
        wait_seconds: for which a connection may wait between requests.
        connections: open at the same time.
        connections_of_a_peer: that an address keeps while others wait.
        stop_body_seconds: for which bodies may still come when the server is told to stop.
        stop_seconds: after which requests that are not answered by then are given up.
    """

    image_bytes: int = 64 * MIB
    pixels: int = 50_000_000
    unpacked_bytes: int = 512 * MIB
    decoders: int = 2
    small_bytes: int = 64 * MIB
    decode_bytes: int = 1536 * MIB
    decode_seconds: float = 20.0
    images_waiting: int = 32
    questions: int = 100
    question_chars: int = 500
    questions_bytes: int = 32 * 2**10
    json_text_bytes: int = 4 * MIB
    json_parts: int = 10_000
    body_seconds: float = 10.0
    body_rate: int = 10_000
    idle_seconds: float = 10.0
    in_flight_bytes: int = 512 * MIB
    head_bytes: int = 16 * 2**10
    head_seconds: float = 10.0
    wait_seconds: float = 30.0
    connections: int = 256
    connections_of_a_peer: int = 32
    stop_body_seconds: float = 3.0
    stop_seconds: float = 30.0

    @property
    def text_bytes(self) -> int:
        """Of the questions in a form, as UTF-8, with some room."""
        return 4 * self.questions * (self.question_chars + 2) + 2**14

    @property
    def body_bytes(self) -> int:
        """Size of a body: an image in base64, with some text."""
        return self.image_bytes * 4 // 3 + MIB


DEFAULT = Limits()
