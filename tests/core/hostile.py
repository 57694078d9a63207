"""Every callable of fastmesh._core with arguments that nobody should give it.  A script: what it looks for is a crash.

What there is to call it reads in the stub, so a new function, method, property or class is tried without a word
here.  A type that it does not know it refuses: say then in MAKE how a right value is made.

Run as ``python hostile.py [seed]``; it says what it tries before it tries it, so that its last line is the guilty one.
"""

from __future__ import annotations

import ast
import copy
import gc
import pickle
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastmesh import _core

STUB = Path(_core.__file__).with_name("_core.pyi")
REFUSALS = (TypeError, ValueError, OverflowError, IndexError, AttributeError, RuntimeError, BufferError, MemoryError)
RANDOM_CALLS = 4000
# What the extension calls of others: the stub's protocols, which are not there to be called.
PROTOCOLS = ("Dropping", "Framer", "Sink", "Source")


@dataclass(frozen=True)
class Callee:
    """One thing to call: a function, a method, a class, or the setting of an attribute."""

    owner: str  # a class, or ""
    name: str
    kind: str  # function, method, make, get or set
    parameters: tuple[tuple[str, str], ...]  # each one's name (`*` before a keyword's) and type

    def __str__(self) -> str:
        return f"{self.owner}.{self.name}({', '.join(type_ for _, type_ in self.parameters)})".lstrip(".")


def face() -> Iterator[Callee]:
    """All that the stub names."""
    for node in ast.parse(STUB.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            yield Callee("", node.name, "function", parameters(node, 0))
        elif isinstance(node, ast.ClassDef) and node.name not in PROTOCOLS:
            for member in node.body:
                if isinstance(member, ast.AnnAssign):
                    assert isinstance(member.target, ast.Name)
                    name = member.target.id
                    yield Callee(node.name, name, "get", ())
                    yield Callee(node.name, name, "set", (("value", ast.unparse(member.annotation)),))
                elif isinstance(member, ast.FunctionDef):
                    if member.decorator_list:
                        yield Callee(node.name, member.name, "get", ())
                    else:
                        kind = "make" if member.name in ("__new__", "__init__") else "method"
                        yield Callee(node.name, member.name, kind, parameters(member, 1))


def parameters(function: ast.FunctionDef, skip: int) -> tuple[tuple[str, str], ...]:
    """Each one's name and type."""
    plain = [(each.arg, each.annotation) for each in function.args.args[skip:]]
    keywords = [("*" + each.arg, each.annotation) for each in function.args.kwonlyargs]
    return tuple((name, ast.unparse(type_)) for name, type_ in plain + keywords if type_ is not None)


def lines(batch: _core.Batch, *_: object) -> bytes:
    """What an encoder's frame() answers."""
    return _core.frame_lines(batch, False)


def called(*_: object) -> float:
    """Whatever is to be called: a clock, too."""
    return 1.0


class Anything:
    """A stream, a sink, an encoder: has whatever is asked of it."""

    paused = False

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)
        return {"frame": lines, "note": bytes, "end": lambda: b""}.get(name, lambda *_: None)


class Grown(_core.Reader):
    """A reader with what a reader of Python's has."""

    def catch_up(self) -> bytes:
        self.next_seq = self.journal.ring.first
        return b""

    def grow(self) -> None:
        pass

    def count_others(self, seq: int, end: int) -> None:
        range(seq, end)

    def count_news(self) -> None:
        pass


def journal() -> _core.Journal:
    """One with a few frames."""
    made = _core.Journal(total(), called, b"id")
    for _ in range(3):
        made.append({"type": "result"})
    return made


def total() -> _core.MemoryTotal:
    return _core.MemoryTotal(1 << 20, called, called)


def ring() -> _core.RingBuffer:
    made = _core.RingBuffer()
    for _ in range(3):
        made.append(b"x" * 300, 0.0)
    return made


def pump() -> _core.Pump:
    return _core.Pump(called, quantum_bytes=100, turn_bytes=400, least_bytes=10)


def outlet() -> _core.Outlet:
    made = _core.Outlet(pump())
    made.transport, made.reader = Anything(), reader()
    return made


def reader() -> Grown:
    counts, handler = _core.SentCounts((1.0,)), _core.BackpressureHandler(100.0)
    return Grown(Anything(), journal(), Anything(), handler, Anything(), counts, None, None)


# A right value of each type of the stub: its maker.
MAKE: dict[str, Callable[[], Any]] = {
    "Batch": lambda: _core.Batch([b'{"type":"a"}']),
    "BackpressureHandler": lambda: _core.BackpressureHandler(100.0),
    "Buckets": lambda: _core.Buckets((1.0, 2.0)),
    "Journal": journal,
    "MemoryTotal": total,
    "Outlet": outlet,
    "Pump": pump,
    "Reader": reader,
    "RingBuffer": ring,
    "SentCounts": lambda: _core.SentCounts((1.0,)),
    "Any": Anything,
    **dict.fromkeys(PROTOCOLS, Anything),
    "Exception": lambda: ZeroDivisionError("given"),
    "asyncio.Transport": Anything,
    "bool": lambda: True,
    "bytes": lambda: b"x",
    "dict[str, Any]": lambda: {"type": "result"},
    "float": lambda: 1.0,
    "int": lambda: 2,
    "list[_R]": lambda: [reader()],
    "list[bytes]": lambda: [b'{"type":"a"}'],
    "object": Anything,
    "tuple[float, ...]": lambda: (1.0, 2.0),
}
# Values of the right type that are strange.
ODD: dict[str, list[Callable[[], Any]]] = {
    "bytes": [bytes, lambda: b"\n" * 100_000],
    "dict[str, Any]": [dict, lambda: {1: 2}, lambda: {"a": object()}, lambda: {"seq": 1 << 99}, lambda: deep(300)],
    "float": [lambda number=number: number for number in (0.0, -1.0, 1e308, float("inf"), float("-inf"), float("nan"))],
    "int": [
        lambda number=number: number
        for number in (0, -1, -7, 4, 5, 2**31, -(2**31) - 1, 2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 2**64, 10**30)
    ],
    "list[_R]": [
        *(lambda item=item: [item] for item in (None, 7, object())),
        lambda: [reader(), None, reader()],
        lambda: [_core.Reader.__new__(_core.Reader)],
        lambda: [reader()] * 1000,
    ],
    "list[bytes]": [*(lambda item=item: [item] for item in (None, 7, "x", b"", b'{"type":"')), lambda: [b"x"] * 1000],
    "tuple[float, ...]": [
        tuple,
        lambda: (None,),
        lambda: ("x",),
        lambda: tuple(range(17)),
        lambda: (float("nan"),) * 16,
    ],
}
PLAIN: list[Callable[[], Any]] = [lambda: None, object, str, lambda: 7, lambda: 1.5, lambda: b"x", list, tuple, dict]
TAKES_ALL = ("Exception", "asyncio.Transport", "bool", *PROTOCOLS)


def deep(depth: int) -> dict[str, Any]:
    """More than a JSON document may be."""
    whole: dict[str, Any] = {}
    for _ in range(depth):
        whole = {"a": whole}
    return whole


def bare(name: str) -> list[Any]:
    """One of that class whose __init__ was never called, if there can be such."""
    try:
        return [getattr(_core, name).__new__(getattr(_core, name))]
    except (AttributeError, TypeError):
        return []


def right(type_: str) -> Any:
    """A right value of *type_*."""
    if type_.startswith("Callable["):
        return called
    return MAKE[type_.removesuffix(" | None")]()


def odd(type_: str) -> list[Any]:
    """Strange values of *type_*."""
    type_ = type_.removesuffix(" | None")
    return [make() for make in ODD.get(type_, [])] + bare(type_)


def wrong(type_: str) -> list[Any]:
    """Values that are not of *type_*."""
    plain, given = type_.removesuffix(" | None"), [make() for make in PLAIN]
    if plain in TAKES_ALL:
        return []
    if plain.startswith("Callable["):
        return [value for value in given if not callable(value)]
    fits = {"float": (int, float), "int": (int,), "bytes": (bytes,)}.get(plain)
    if fits is None:
        fits = (getattr(_core, plain, None) or type(MAKE[plain]()),)
    others = [make() for name, make in MAKE.items() if name in vars(_core)]
    none_fits = plain != type_
    return [value for value in given + others if not isinstance(value, fits) and not (value is None and none_fits)]


def call(callee: Callee, arguments: list[Any], on: Any = None) -> Any:
    """Call it."""
    names = [name for name, _ in callee.parameters]
    plain = [value for name, value in zip(names, arguments, strict=True) if name[0] != "*"]
    keywords = {name[1:]: value for name, value in zip(names, arguments, strict=True) if name[0] == "*"}
    if callee.kind == "function":
        return getattr(_core, callee.name)(*plain, **keywords)
    cls = getattr(_core, callee.owner)
    if callee.kind == "make":
        return cls(*plain, **keywords)
    if on is None:
        on = right(callee.owner)
    if callee.kind == "get":
        return getattr(on, callee.name)
    if callee.kind == "set":
        return setattr(on, callee.name, *plain)
    return getattr(on, callee.name)(*plain, **keywords)


def attempt(what: str, deed: Callable[..., Any], *given: Any, refused: bool = False) -> Any:
    """Do *deed*: it may be refused, and if *refused* it must; any other exception is a fault."""
    print(what, flush=True)
    try:
        done = deed(*given)
    except REFUSALS:
        return None
    except ZeroDivisionError:  # what a right argument had in it
        return None
    assert not refused, "was taken"
    return done


def short(value: object) -> str:
    """What it is, in a few letters."""
    return repr(value)[:60]


def one_by_one() -> None:
    """Each callable: rightly, then with each argument in turn wrong or strange."""
    for callee in face():
        types = [type_ for _, type_ in callee.parameters]
        print(f"{callee} rightly", flush=True)
        try:
            call(callee, [right(type_) for type_ in types])
        except ZeroDivisionError:
            assert callee.name == "failed"
        except IndexError:
            assert callee.name == "offset" or types.count("int") > 1
        for at, type_ in enumerate(types):
            for values, refused in ((wrong(type_), True), (odd(type_), False)):
                for value in values:
                    given = [right(other) for other in types]
                    given[at] = value
                    what = f"{callee} with {short(value)} at {at}"
                    attempt(what, call, callee, given, refused=refused)


def never_begun() -> None:
    """Objects whose __init__ was not called, or twice; classes of others; copies."""
    callees = list(face())
    for name in sorted({callee.owner for callee in callees if callee.owner}):
        cls = getattr(_core, name)
        begin = next(callee for callee in callees if callee.owner == name and callee.kind == "make")
        for callee in callees:
            if callee.owner == name and callee.kind != "make":
                for on in bare(name):
                    given = [right(type_) for _, type_ in callee.parameters]
                    attempt(f"{callee} of a bare one", call, callee, given, on)
            if callee.owner == name and callee.kind == "method":
                attempt(f"{callee} of another", getattr(cls, callee.name), object(), refused=True)
        on = right(name)
        given = [right(type_) for type_name, type_ in begin.parameters if type_name[0] != "*"]
        attempt(f"{name}.__init__ twice", on.__init__, *given, refused=begin.name == "__init__")
        for tried in (copy.copy, copy.deepcopy, pickle.dumps):
            attempt(f"{tried.__name__} of {name}", tried, right(name), refused=True)
        attempt(f"object.__new__({name})", object.__new__, cls, refused=True)
        attempt(f"{name} as its own subclass", type, name, (cls,), {})


def at_random(seed: int) -> None:
    """Calls in any order, of objects that keep what was done to them and know each other."""
    chance = random.Random(seed)
    callees = list(face())
    kept: dict[str, list[Any]] = {}

    def value(type_: str) -> Any:
        name = type_.removesuffix(" | None")
        roll = chance.random()
        if kept.get(name) and roll < 0.6:
            return chance.choice(kept[name])
        if roll < 0.85:
            return right(type_)
        return chance.choice([*odd(type_), *wrong(type_), right(type_)])

    for _ in range(RANDOM_CALLS):
        callee = chance.choice(callees)
        given = [value(type_) for _, type_ in callee.parameters]
        on = value(callee.owner) if callee.kind in ("get", "set", "method") else None
        if callee.owner and on is not None and not isinstance(on, getattr(_core, callee.owner)):
            continue
        for thing in (attempt(f"{callee} at random", call, callee, given, on), on):
            name = next((base.__name__ for base in type(thing).__mro__ if base.__module__ == _core.__name__), "")
            if name:
                kept.setdefault(name, []).append(thing)
                del kept[name][:-20]
        if chance.random() < 0.01:
            gc.collect()


def main(seed: int) -> None:
    """All of it; what no exception can be raised out of is a fault as well."""
    unraisable: list[str] = []
    sys.unraisablehook = lambda about: unraisable.append(f"{about.err_msg} {about.object!r} {about.exc_value!r}")
    one_by_one()
    never_begun()
    at_random(seed)
    gc.collect()
    assert not unraisable, unraisable
    print("done")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
