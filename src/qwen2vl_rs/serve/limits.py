"""Limits of requests; a request beyond them gets a 4xx error that states the limit."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one server.

    Attributes:
        image_bytes: of an image file.
        pixels: width times height of an image, by its header.
        unpacked_bytes: of all its bands, decompressed.
        decoders: small images decoded at the same time.
        small_bytes: decompressed size of a small image; larger ones are decoded one at a time.
        decode_bytes: memory for decoding, beyond the process's own.
        decode_seconds: CPU time for decoding; the wall-clock limit is three times as long.
        images_waiting: requests that wait for a decoder.
        questions: in one request.
        question_chars: of one question.
        questions_bytes: of all questions of a request, as UTF-8; a token has at least one byte.
        json_text_bytes: of a JSON body without its images.
        json_parts: brackets and commas in a JSON body, as a small text can need much memory.
        body_seconds: length of the intervals in which the speed of a body is measured.
        body_rate: minimum bytes per second of a body in each interval.
        idle_seconds: without a new byte of a body.
        in_flight_bytes: of all bodies in memory.
        head_bytes: of a request's head.
        head_seconds: for a request's head to arrive.
        wait_seconds: of an idle connection between requests.
        connections: open at the same time.
        connections_of_a_peer: that an address keeps while others wait.
        stop_body_seconds: for bodies to arrive after the server was asked to stop.
        stop_seconds: for requests to be answered after that; then they are cancelled.
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
        """Maximum bytes of a form's questions, as UTF-8, with some margin."""
        return 4 * self.questions * (self.question_chars + 2) + 2**14

    @property
    def body_bytes(self) -> int:
        """Maximum bytes of a body: an image in base64 and some text."""
        return self.image_bytes * 4 // 3 + MIB


DEFAULT = Limits()
