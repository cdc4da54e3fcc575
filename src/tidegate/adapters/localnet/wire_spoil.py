"""Bytes made wrong on purpose: HTTP answers (N06) and WebSocket frames (N07)."""

import gzip
import random

_TEXT, _BINARY, _CLOSE = 0x1, 0x2, 0x8
_PAGE = b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"


class Answer:
    """Collects the bytes of one HTTP answer until it is whole."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> bytes | None:
        """The whole answer, when ``data`` completes it."""
        self._bytes += data
        head, mark, body = bytes(self._bytes).partition(b"\r\n\r\n")
        if not mark:
            return None
        length = _length(head)
        whole = body.endswith(b"0\r\n\r\n") if length is None else len(body) >= length
        return bytes(self._bytes) if whole else None


def _length(head: bytes) -> int | None:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return 0 if head.split(b" ", 2)[1] in (b"101", b"204", b"304") else None


def _with_header(head: bytes, name: bytes, value: bytes) -> bytes:
    kept = [line for line in head.split(b"\r\n") if line.partition(b":")[0].strip().lower() != name.lower()]
    return b"\r\n".join([*kept, name + b": " + value])


def spoilt_answer(answer: bytes, mode: str) -> tuple[bytes, bool]:
    """A whole HTTP answer made wrong, and whether the connection has to close after it."""
    head, _, body = answer.partition(b"\r\n\r\n")
    match mode:
        case "truncated":
            return head + b"\r\n\r\n" + body[: len(body) // 2], True
        case "long_length":
            return _with_header(head, b"Content-Length", b"%d" % (len(body) + 10)) + b"\r\n\r\n" + body, True
        case "short_length":
            return _with_header(head, b"Content-Length", b"%d" % (len(body) // 2)) + b"\r\n\r\n" + body, False
        case "gzip":
            packed = bytearray(gzip.compress(body, mtime=0))
            packed[len(packed) // 2] ^= 0xFF
            head = _with_header(
                _with_header(head, b"Content-Encoding", b"gzip"), b"Content-Length", b"%d" % len(packed)
            )
            return head + b"\r\n\r\n" + bytes(packed), False
        case _:
            status = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d" % len(_PAGE)
            return status + b"\r\n\r\n" + _PAGE, False


def frame(payload: bytes, opcode: int = _TEXT, final: bool = True) -> bytes:
    """A frame as a server sends it, without a mask."""
    first = (0x80 if final else 0) | opcode
    if len(payload) < 126:
        return bytes((first, len(payload))) + payload
    if len(payload) < 65536:
        return bytes((first, 126)) + len(payload).to_bytes(2) + payload
    return bytes((first, 127)) + len(payload).to_bytes(8) + payload


def message_in(data: bytes) -> bytes | None:
    """The payload when ``data`` is exactly one whole text frame, as the server writes its messages."""
    if len(data) < 2 or data[0] != 0x80 | _TEXT:
        return None
    length, start = data[1], 2
    if length == 126:
        length, start = int.from_bytes(data[2:4]), 4
    elif length == 127:
        length, start = int.from_bytes(data[2:10]), 10
    return data[start:] if len(data) - start == length else None


def spoilt_frame(payload: bytes, mode: str, rng: random.Random) -> list[bytes]:
    """What goes out in place of a text frame: the pieces, which must not be joined when there are several."""
    half = len(payload) // 2
    match mode:
        case "invalid_utf8":
            return [frame(payload[:half] + b"\xff" + payload[half:])]
        case "split":
            whole = frame(payload)
            cuts = sorted({rng.randrange(1, len(whole)) for _ in range(min(8, len(whole) - 1))} | {1})
            return [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
        case "oversized":
            return [bytes((0x80 | _TEXT, 127)) + (1 << 31).to_bytes(8) + payload]
        case "binary":
            return [frame(payload, _BINARY)]
        case "fragmented":
            return [frame(payload[:half], _TEXT, final=False) + frame(payload[half:], 0)]
        case "bad_close":
            return [frame((1005).to_bytes(2), _CLOSE)]
        case _:  # coalesced: the frame itself, held back by the caller
            return [frame(payload)]


def going_away() -> bytes:
    """The close frame of a server that goes away: code 1001."""
    return frame((1001).to_bytes(2), _CLOSE)
