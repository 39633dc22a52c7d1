"""What a student's process and the grader say to each other: plain values as JSON, one message at a time.

The idea: whatever a student's code returns is taken apart in the student's process and put together anew in the
grader's: numbers, text, lists, tensors, and nothing else. So no method that a student wrote (an odd __eq__, a __str__
that never ends) ever runs in the grader. Pickle, which runs code when it is read, has no place here.
"""

import base64
import json
import struct
import sys

import numpy as np
import torch

from rlhf_lite.plain import plain

MOST = 32 * 2**20  # bytes in a message: the answers of the course's exercises take a few hundred
DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in (
    torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int8, torch.int16, torch.int32, torch.int64,
    torch.uint8, torch.bool)}


class Unreadable(ValueError):
    """What arrived is no message."""


class Odd:
    """Stands for a value that does not travel. It equals nothing but itself, so an exercise never accepts it."""

    def __repr__(self):
        return f"<{type(self).__name__}>"


# ---------------------------------------------------------------- values

def encode(value):
    """A value as something that JSON can hold; of objects that do not travel only the name of their type is left."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, np.generic):
        return {"number": _numbers(np.asarray(value))}
    if isinstance(value, (str, int, float)):  # of subclasses, the plain value
        kind = next(kind for kind in (str, int, float) if isinstance(value, kind))
        return kind(value)
    if isinstance(value, tuple) and type(value).__module__.startswith("rlhf_lite.") and hasattr(value, "_fields"):
        return {"named": [type(value).__module__, type(value).__name__, [encode(part) for part in value]]}
    for name, kind in (("list", list), ("tuple", tuple), ("set", (set, frozenset))):
        if isinstance(value, kind):
            return {name: [encode(part) for part in value]}
    if isinstance(value, dict):
        return {"dict": [[encode(key), encode(part)] for key, part in value.items()]}
    if isinstance(value, torch.Tensor):
        return _tensor(value)
    if isinstance(value, np.ndarray) and value.dtype.name in DTYPES:
        return {"array": _numbers(value)}
    return {"ellipsis": 1} if value is Ellipsis else {"odd": str(type(value).__name__)[:80]}


def _tensor(value):
    kind = str(value.dtype).removeprefix("torch.")
    if kind not in DTYPES or value.is_sparse or value.is_meta:
        return {"odd": f"Tensor of {kind}"}
    plain = value.detach().cpu()
    plain = plain.float() if kind == "bfloat16" else plain
    return {"tensor": [kind, bool(value.requires_grad), _numbers(plain.numpy())]}


def _numbers(array):
    return [array.dtype.name, list(array.shape), base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()]


def decode(said):
    """The value again, made of plain parts only; Unreadable if it is none."""
    try:
        return _decode(said)
    except (ValueError, TypeError, KeyError, AttributeError, ImportError, RecursionError, RuntimeError, MemoryError,
            OverflowError) as error:
        raise Unreadable(f"a value that cannot be read ({type(error).__name__})") from None


def _decode(said):
    if said is None or isinstance(said, (bool, str, int, float)):
        return said
    (kind, parts), = said.items()
    if kind in ("list", "tuple", "set"):
        return {"list": list, "tuple": tuple, "set": set}[kind](_decode(part) for part in parts)
    if kind == "dict":
        return {_decode(key): _decode(part) for key, part in parts}
    if kind == "named":
        return _named(*parts)
    if kind in ("array", "number"):
        found = _array(*parts)
        return found if kind == "array" else found[()]
    if kind == "tensor":
        name, gradient, numbers = parts
        found = torch.from_numpy(_array(*numbers)).to(DTYPES[name])
        return found.requires_grad_() if gradient is True and found.is_floating_point() else found
    return Ellipsis if kind == "ellipsis" else type(plain(str(parts), 80) or "object", (Odd,), {})()


def _array(kind, shape, data):
    if kind not in DTYPES or len(shape) > 16 or any(size < 0 for size in shape):
        raise Unreadable(f"an array of {kind}")
    flat = np.frombuffer(base64.b64decode(data, validate=True), dtype=kind)
    return flat.reshape([int(size) for size in shape]).copy()


def _named(module, name, parts):
    """A named tuple of the library, such as `sft.Example`. Nothing is imported for it, and no other class will do."""
    found = vars(sys.modules[module])[name] if module.startswith("rlhf_lite.") else None
    if not (isinstance(found, type) and issubclass(found, tuple) and hasattr(found, "_fields")):
        raise Unreadable("a class that does not travel")
    return found._make(_decode(part) for part in parts)


# ---------------------------------------------------------------- messages

class Channel:
    """Two byte streams, one to read and one to write, as a line for messages (JSON objects)."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    def send(self, **message):
        text = json.dumps(message).encode()
        self.writer.write(struct.pack(">Q", len(text)) + text)
        self.writer.flush()

    def receive(self, most=MOST):
        """The next message. EOFError at the end; Unreadable if it is too long or is no JSON object."""
        length, = struct.unpack(">Q", self._exactly(8))
        if length > most:
            raise Unreadable(f"a message of {length:,} bytes")
        try:
            message = json.loads(self._exactly(length))
        except (ValueError, RecursionError) as error:
            raise Unreadable(f"a message that is no JSON ({type(error).__name__})") from None
        if not isinstance(message, dict):
            raise Unreadable("a message that is no JSON object")
        return message

    def _exactly(self, length):
        found = bytearray()
        while len(found) < length:
            part = self.reader.read(min(length - len(found), 2**20))
            if not part:
                raise EOFError("the other side is gone")
            found += part
        return bytes(found)

    def close(self):
        for stream in (self.writer, self.reader):
            try:
                stream.close()
            except OSError:  # the other side was gone before the last byte
                pass
