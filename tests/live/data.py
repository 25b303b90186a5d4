"""The collections of the live tests: what each server can hold, and rows that are hard to carry.

Everything is deterministic: the same name and number of rows give the same values.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import random
import struct
from dataclasses import dataclass, field
from typing import Any, Callable, Iterator

import numpy as np
from pymilvus import CollectionSchema, DataType as T, FieldSchema

I64_MIN, I64_MAX = -(2**63), 2**63 - 1
F32_MAX = struct.unpack("<f", b"\xff\xff\x7f\x7f")[0]
F32_TINY = struct.unpack("<f", b"\x01\x00\x00\x00")[0]  # the smallest denormal


@dataclass(frozen=True)
class Engine:
    """What one server takes, as it answered when asked (pymilvus 3.0.2, loopback)."""

    name: str
    # metric and index type per vector type; AUTOINDEX where the server takes it
    vectors: dict[T, tuple[str, str]]
    databases: bool = True
    partitions: bool = True
    aliases: bool = True
    # 2.3.5: "multiple vector fields is not supported, fields name: w, v"
    many_vectors: bool = True
    # What a JSON value may be at its top, beside an object.
    # 2.3.5: "json: cannot unmarshal array into Go value of type map[string]interface {}", the same for the others.
    # Lite 3.2.2: numbers and booleans "Expected bytes, got a 'int' object"; it takes a string and then answers
    # queries with bytes that are not JSON.
    json_arrays: bool = True
    json_scalars: bool = True
    # 2.3.5 counts a row with this key but its Query never returns it
    i64_max_key: bool = True
    # In a key literal a line break is `\n`; Lite 2.5.1 reads that as two characters and wants a backslash and the
    # line break itself. (A carriage return alone cannot be written there at all; no test uses one.)
    newline: str = "\\n"
    # Lite 3.2.2: "sparse vector must contain at least one nonzero float32 weight", and it drops explicit zeros
    sparse_empty: bool = True
    # Lite 3.2.2 describes collections and fields without descriptions, whatever was given at creation
    keeps_descriptions: bool = True
    # Lite 3.2.2 describes an array of VarChar without the max_length that it was created with
    keeps_array_length: bool = True
    # Both Lites always say Strong
    keeps_consistency: bool = True


ENGINES = {
    engine.name: engine
    for engine in [
        Engine(
            "milvus235",
            {
                T.FLOAT_VECTOR: ("L2", "AUTOINDEX"),
                T.BINARY_VECTOR: ("HAMMING", "AUTOINDEX"),
                T.FLOAT16_VECTOR: ("IP", "AUTOINDEX"),
                # bfloat16: the collection is created, every insert ends in "grpc: error while marshaling: string
                # field contains invalid UTF-8". sparse and int8: "is not supported now". Timestamptz and newer
                # types: the server process dies.
            },
            many_vectors=False,
            json_arrays=False,
            json_scalars=False,
            i64_max_key=False,
        ),
        Engine(
            "lite251",
            {
                T.FLOAT_VECTOR: ("COSINE", "AUTOINDEX"),
                T.BINARY_VECTOR: ("HAMMING", "BIN_FLAT"),
                T.FLOAT16_VECTOR: ("L2", "FLAT"),
                T.BFLOAT16_VECTOR: ("IP", "FLAT"),
                T.SPARSE_FLOAT_VECTOR: ("IP", "SPARSE_INVERTED_INDEX"),
                # int8: "unsupported scalar type ... segcore error" at the first insert
            },
            databases=False,
            partitions=False,
            aliases=False,
            newline="\\\n",
            keeps_consistency=False,
        ),
        Engine(
            "lite322",
            {
                T.FLOAT_VECTOR: ("COSINE", "AUTOINDEX"),
                T.SPARSE_FLOAT_VECTOR: ("IP", "SPARSE_INVERTED_INDEX"),
                # binary, float16, bfloat16, int8: "uses Milvus type BinaryVector which MilvusLite does not support"
            },
            json_scalars=False,
            sparse_empty=False,
            keeps_descriptions=False,
            keeps_array_length=False,
            keeps_consistency=False,
        ),
    ]
}


def both(a: Engine, b: Engine) -> Engine:
    """What can go from one server to the other: what both hold."""
    merged: dict[str, Any] = {}
    for name in (f.name for f in dataclasses.fields(Engine)):
        x, y = getattr(a, name), getattr(b, name)
        if name == "name":
            merged[name] = f"{x}-{y}"
        elif name == "newline":
            pass
        elif name == "vectors":
            merged[name] = {kind: x[kind] for kind in x if kind in y}
        else:
            merged[name] = x and y
    return Engine(**merged)


@dataclass
class Spec:
    """One collection: its schema, its rows by partition, its indexes and aliases."""

    name: str
    schema: CollectionSchema
    rows: dict[str, list[dict]]
    indexes: dict[str, tuple[str, str]]  # field -> (metric, index type)
    aliases: list[str] = field(default_factory=list)
    consistency: str = "Bounded"

    @property
    def key(self) -> str:
        return self.schema.primary_field.name

    @property
    def integer_key(self) -> bool:
        return self.schema.primary_field.dtype == T.INT64

    @property
    def all_rows(self) -> list[dict]:
        return list(itertools.chain.from_iterable(self.rows.values()))


# --- values -------------------------------------------------------------------------------------------------------

STRINGS = [
    "",
    " ",
    'say "yes"',
    "it's",
    "back\\slash",
    "\\n is not a newline",
    "line one\nline two\r\n\tand a tab",
    "zero\0inside",
    "\x01\x1f\x7f",
    "Grüße, 世界, 😀, ‏עברית",
    "e\u0301 is not \u00e9",
    "\u2028\ufeff\ufffd\U0010ffff",
    "%s {} $meta [0] -- '; DROP TABLE",
    "0",
    "null",
    "x" * 200,
]

JSON_OBJECTS = [
    {},
    {"big": I64_MAX, "small": I64_MIN, "unsigned": 2**64 - 1, "zero": 0},
    {"float": 0.1, "tiny": 5e-324, "huge": 1.7976931348623157e308, "whole": 1.0, "minus zero": -0.0},
    {"nested": {"list": [1, "two", 3.0, None, True, False, [], {}, [[["deep"]]]]}},
    {"": "empty key", "a.b": 1, "a/b": 2, "~": 3, 'q"uote': 4, "Grüße 😀": "世界"},
    {"text": "a \"quoted\" \\ line\nnext\ttab \u2028 end"},
    {"array": list(range(50)), "null": None},
]
JSON_ARRAYS = [[], [1, [2, {"a": None}]]]
JSON_SCALARS = [1, -0.5, True, "text with \"quotes\"", I64_MAX]


def i64(bits: int) -> int:
    return bits - 2**64 if bits >= 2**63 else bits


def ints(width: int) -> Callable[[random.Random], Iterator[int]]:
    low, high = -(2 ** (width - 1)), 2 ** (width - 1) - 1

    def values(rng: random.Random) -> Iterator[int]:
        yield from (low, high, 0, -1, 1, low + 1, high - 1)
        while True:
            yield rng.randint(low, high)

    return values


def f32s(rng: random.Random) -> Iterator[float]:
    yield from (0.0, -0.0, F32_MAX, -F32_MAX, F32_TINY, -F32_TINY, 1e-40, 1.1754943508222875e-38, 1.0)
    while True:
        exponent = rng.choice((rng.randint(1, 254), rng.randint(0, 2), rng.randint(120, 134)))
        bits = rng.getrandbits(1) << 31 | exponent << 23 | rng.getrandbits(23)
        yield struct.unpack("<f", struct.pack("<I", bits))[0]


def f64s(rng: random.Random) -> Iterator[float]:
    yield from (0.0, -0.0, 5e-324, -5e-324, 1.7976931348623157e308, 2.2250738585072014e-308, 0.1, 1 / 3)
    while True:
        bits = rng.getrandbits(1) << 63 | rng.randint(0, 2046) << 52 | rng.getrandbits(52)
        yield struct.unpack("<d", struct.pack("<Q", bits))[0]


def strings(rng: random.Random) -> Iterator[str]:
    yield from STRINGS
    while True:
        yield "".join(rng.choice(("a", "é", "世", "😀", '"', "\\", "\n", "'", "\t", " ")) for _ in range(rng.randint(0, 40)))


def bools(rng: random.Random) -> Iterator[bool]:
    while True:
        yield rng.random() < 0.5


def jsons(engine: Engine) -> Callable[[random.Random], Iterator[Any]]:
    fixed = JSON_OBJECTS + (JSON_ARRAYS if engine.json_arrays else []) + (JSON_SCALARS if engine.json_scalars else [])

    def values(rng: random.Random) -> Iterator[Any]:
        yield from fixed
        for n in itertools.count():
            yield {"n": n, "id": i64(rng.getrandbits(64)), "x": rng.random(), "tags": [rng.choice(STRINGS)] * rng.randint(0, 3)}

    return values


def arrays(element: Callable[[random.Random], Iterator[Any]], capacity: int) -> Callable[[random.Random], Iterator[list]]:
    def values(rng: random.Random) -> Iterator[list]:
        source = element(rng)
        yield []
        yield list(itertools.islice(source, capacity))
        yield list(itertools.islice(source, 1))
        while True:
            yield list(itertools.islice(source, rng.randint(0, capacity)))

    return values


def float_vectors(dim: int) -> Callable[[random.Random], Iterator[list[float]]]:
    def values(rng: random.Random) -> Iterator[list[float]]:
        yield list(itertools.islice(f32s(rng), dim))  # the extremes
        yield [0.0] * dim
        seeded = np.random.default_rng(rng.getrandbits(32))
        while True:
            yield seeded.standard_normal(dim, dtype=np.float32).tolist()

    return values


def half_vectors(dim: int, largest_exponent: int, exponent_bits: int, numpy_type: Any) -> Callable:
    """float16 or bfloat16 by bits: every finite pattern may occur."""
    mantissa = 15 - exponent_bits

    def values(rng: random.Random) -> Iterator[Any]:
        def one() -> int:
            return rng.getrandbits(1) << 15 | rng.randint(0, largest_exponent) << mantissa | rng.getrandbits(mantissa)

        first = [0x0000, 0x8000, 0x0001, largest_exponent << mantissa | (1 << mantissa) - 1]
        for n in itertools.count():
            bits = [first[i % 4] if n == 0 else one() for i in range(dim)]
            packed = struct.pack(f"<{dim}H", *bits)
            yield np.frombuffer(packed, dtype=np.float16) if numpy_type is np.float16 else packed

    return values


def binary_vectors(dim: int) -> Callable:
    def values(rng: random.Random) -> Iterator[bytes]:
        yield bytes(dim // 8)
        yield b"\xff" * (dim // 8)
        while True:
            yield rng.randbytes(dim // 8)

    return values


def sparse_vectors(engine: Engine) -> Callable:
    def values(rng: random.Random) -> Iterator[dict[int, float]]:
        yield {0: 1.0}
        yield {4294967294: F32_TINY, 7: F32_MAX, 1: 0.1}
        if engine.sparse_empty:
            yield {}
            yield {5: 0.0, 6: 1.0}
        while True:
            yield {rng.randint(0, 2**20): abs(rng.gauss(0, 1)) + 1e-3 for _ in range(rng.randint(1, 30))}

    return values


def vector_values(kind: T, dim: int, engine: Engine) -> Callable:
    return {
        T.FLOAT_VECTOR: float_vectors(dim),
        T.BINARY_VECTOR: binary_vectors(dim),
        T.FLOAT16_VECTOR: half_vectors(dim, 30, 5, np.float16),
        T.BFLOAT16_VECTOR: half_vectors(dim, 254, 8, None),
        T.SPARSE_FLOAT_VECTOR: sparse_vectors(engine),
    }[kind]


def int_keys(engine: Engine) -> Callable[[random.Random], Iterator[int]]:
    def values(rng: random.Random) -> Iterator[int]:
        fixed = [I64_MIN, I64_MIN + 1, -1, 0, 1, I64_MAX - 1] + ([I64_MAX] if engine.i64_max_key else [])
        yield from fixed
        used = set(fixed)
        while True:
            key = rng.choice((i64(rng.getrandbits(64)), rng.randint(-5000, 5000), rng.getrandbits(40)))
            if key not in used and key != I64_MAX:
                used.add(key)
                yield key

    return values


def string_keys(rng: random.Random) -> Iterator[str]:
    used = set(STRINGS)
    yield from STRINGS
    alphabet = ("a", "b", "é", "世", "😀", '"', "\\", "'", "\t", "\0", "\n", "\r\n", " ", "\x7f", "%")
    for n in itertools.count():
        key = "".join(rng.choice(alphabet) for _ in range(rng.randint(1, 12))) + f"{n:x}"
        if key not in used:
            used.add(key)
            yield key


# --- collections --------------------------------------------------------------------------------------------------


def wide(
    name: str,
    engine: Engine,
    rows: int = 300,
    key: T = T.INT64,
    vectors: list[T] | None = None,
    dynamic: bool = True,
    partitions: int = 3,
    aliases: list[str] | None = None,
    dim: int = 16,
    array_text: bool = True,
) -> Spec:
    """A collection with every scalar type, arrays, JSON, a dynamic field, and the given vector types."""
    rng = random.Random(f"{name.rsplit('__')[-1]}-{engine.name}-{key}")
    columns: list[tuple[FieldSchema, Callable]] = []

    def add(column: str, kind: T, values: Callable, **params: Any) -> None:
        columns.append((FieldSchema(column, kind, **params), values))

    if key == T.INT64:
        add("pk", T.INT64, int_keys(engine), is_primary=True, description="the key")
    else:
        add("pk", T.VARCHAR, string_keys, is_primary=True, max_length=1000)
    add("flag", T.BOOL, bools)
    add("i8", T.INT8, ints(8), description='one byte, "signed"')
    add("i16", T.INT16, ints(16))
    add("i32", T.INT32, ints(32))
    add("i64", T.INT64, ints(64))
    add("f32", T.FLOAT, f32s)
    add("f64", T.DOUBLE, f64s)
    add("text", T.VARCHAR, strings, max_length=2000, description="Unicode, Grüße 😀")
    add("doc", T.JSON, jsons(engine))
    for column, element, values in [
        *([("a_text", T.VARCHAR, strings)] if array_text else []),
        ("a_bool", T.BOOL, bools),
        ("a_i8", T.INT8, ints(8)),
        ("a_i16", T.INT16, ints(16)),
        ("a_i32", T.INT32, ints(32)),
        ("a_i64", T.INT64, ints(64)),
        ("a_f32", T.FLOAT, f32s),
        ("a_f64", T.DOUBLE, f64s),
    ]:
        extra = {"max_length": 1000} if element == T.VARCHAR else {}
        add(column, T.ARRAY, arrays(values, 8), element_type=element, max_capacity=8, **extra)
    kinds = vectors if vectors is not None else list(engine.vectors)[: None if engine.many_vectors else 1]
    indexes = {}
    for kind in kinds:
        column = "v_" + kind.name.split("_")[0].lower()
        add(column, kind, vector_values(kind, dim, engine), **({} if kind == T.SPARSE_FLOAT_VECTOR else {"dim": dim}))
        indexes[column] = engine.vectors[kind]

    schema = CollectionSchema(
        [column for column, _ in columns], description=f"every type, for {engine.name}", enable_dynamic_field=dynamic
    )
    generators = [values(rng) for _, values in columns]
    names = [column.name for column, _ in columns]
    extra = dynamic_rows(rng)
    table = []
    for _ in range(rows):
        row = dict(zip(names, (next(g) for g in generators)))
        if dynamic:
            row.update(next(extra))
        table.append(row)

    parted: dict[str, list[dict]] = {"_default": []}
    if engine.partitions and partitions > 1:
        parted.update({f"part_{n}": [] for n in range(1, partitions)})
        parted["nothing_in_it"] = []
    targets = [p for p in parted if p != "nothing_in_it"]
    for n, row in enumerate(table):
        parted[targets[n % len(targets)]].append(row)
    return Spec(name, schema, parted, indexes, aliases or [], consistency="Session")


def dynamic_rows(rng: random.Random) -> Iterator[dict]:
    """Keys outside the schema, different from row to row; some rows have none."""
    yield {}
    yield {"color": "red", "größe 😀": 1}
    yield {"big": I64_MAX, "list": [1, {"a": "b"}], "nothing": None}
    for n in itertools.count():
        yield {"n": n, f"k{n % 7}": rng.random(), **({"note": rng.choice(STRINGS)} if n % 3 else {})}


def plain(name: str, rows: int, dim: int = 8, partitions: int = 1, first: int = 0, metric: str = "L2", aliases: list[str] | None = None) -> Spec:
    """A small collection for the tests that are about something else: a key, a title, a float vector."""
    seeded = np.random.default_rng(rows * 31 + dim)
    schema = CollectionSchema(
        [
            FieldSchema("id", T.INT64, is_primary=True),
            FieldSchema("title", T.VARCHAR, max_length=100),
            FieldSchema("v", T.FLOAT_VECTOR, dim=dim),
        ]
    )
    vectors = seeded.standard_normal((rows, dim), dtype=np.float32).tolist()
    table = [{"id": first + n, "title": f"title {n}", "v": vectors[n]} for n in range(rows)]
    parted = {"_default": table}
    if partitions > 1:
        names = ["_default"] + [f"part_{n}" for n in range(1, partitions)]
        parted = {p: table[n::partitions] for n, p in enumerate(names)}
    return Spec(name, schema, parted, {"v": (metric, "AUTOINDEX")}, aliases or [])


def documents(name: str, rows: int, dim: int = 128, key: T = T.INT64) -> Spec:
    """The acceptance case: vectors with scalars, JSON and a dynamic field, in four partitions."""
    rng = random.Random(name.rsplit("__")[-1])
    seeded = np.random.default_rng(7)
    primary = FieldSchema("id", T.INT64, is_primary=True) if key == T.INT64 else FieldSchema("id", T.VARCHAR, is_primary=True, max_length=64)
    schema = CollectionSchema(
        [
            primary,
            FieldSchema("title", T.VARCHAR, max_length=200),
            FieldSchema("price", T.DOUBLE),
            FieldSchema("stock", T.INT32),
            FieldSchema("live", T.BOOL),
            FieldSchema("doc", T.JSON),
            FieldSchema("v", T.FLOAT_VECTOR, dim=dim),
        ],
        enable_dynamic_field=True,
    )
    vectors = seeded.standard_normal((rows, dim), dtype=np.float32)
    nasty = ('"', "\\", "'", "é", "世", "\t", " ", "%")
    table = []
    for n in range(rows):
        table.append(
            {
                "id": n * 3 - rows if key == T.INT64 else f"k{nasty[n % len(nasty)]}{rng.getrandbits(32):08x}-{n}",
                "title": f"document {n} 世界 \"{n % 10}\"",
                "price": rng.random() * 1000,
                "stock": rng.randint(-(2**31), 2**31 - 1),
                "live": n % 2 == 0,
                "doc": {"id": i64(rng.getrandbits(64)), "tags": ["a", "b"][: n % 3], "at": {"x": rng.random()}},
                "v": vectors[n].tolist(),
                "lang": ("de", "en", "zh")[n % 3],
                **({"score": rng.random()} if n % 5 == 0 else {}),
            }
        )
    parted: dict[str, list[dict]] = {p: table[n::4] for n, p in enumerate(["_default", "p1", "p2", "p3"])}
    return Spec(name, schema, parted, {"v": ("L2", "AUTOINDEX")})


def json_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
