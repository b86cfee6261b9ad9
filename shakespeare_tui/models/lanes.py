"""Vectors of sixteen float32 for functions that numba compiles, as the processor computes them.

Loops over arrays that might overlap are compiled twice with a test before them, and short ones end
up one number at a time. What is written with these is what runs, and compiles in a fraction of the
time. A processor with narrower registers takes two or four for a vector.
"""

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba.core import cgutils, config, types
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

COUNT = 16
"""Numbers in a vector."""


def _compiles_for(feature: str) -> bool:
    """Whether numba may use something that only some processors have."""
    settings: Any = config
    if settings.CPU_FEATURES is None:
        is_host = settings.CPU_NAME is None
        return is_host and bool(binding.get_host_cpu_features().get(feature))
    return f"+{feature}" in settings.CPU_FEATURES.split(",")


HAS_WIDE_REGISTERS = _compiles_for("avx512f")
"""Whether a register holds a whole vector, and there are 32 of them."""
_FLAGS = ("contract",)
_FLOATS, _WHOLES = (ir.VectorType(kind, COUNT) for kind in (ir.FloatType(), ir.IntType(32)))


class Lanes(types.Type):
    """The type of a vector."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Lanes) -> None:
        super().__init__(manager, kind, _FLOATS)  # type: ignore[no-untyped-call]


LANES = Lanes()


def pointer(context: Any, builder: Any, kind: Any, array: Any, place: Any) -> Any:
    """Where an array's element is; ``place`` counts along its memory."""
    return builder.gep(context.make_array(kind)(context, builder, array).data, [place])


def splat(builder: Any, one: Any) -> Any:
    """A vector of one number, over and over."""
    undefined = _FLOATS(ir.Undefined)
    first = builder.insert_element(undefined, one, ir.IntType(32)(0))
    return builder.shuffle_vector(first, undefined, _WHOLES(None))


def _widened(builder: Any, start: Any, stored: Any) -> Any:
    """The vector of float32, or of bfloat16 as the uint16 of their bits, that begins there."""
    if stored == types.float32:
        return builder.load(builder.bitcast(start, _FLOATS.as_pointer()), align=4)
    halves = ir.VectorType(ir.IntType(16), COUNT)
    found = builder.load(builder.bitcast(start, halves.as_pointer()), align=2)
    shift = _WHOLES([16] * COUNT)
    return builder.bitcast(builder.shl(builder.zext(found, _WHOLES), shift), _FLOATS)


def _load(typing_context: Any, array: Any, place: Any) -> Any:
    """Numbers from ``place`` on, float32 or bfloat16 as the uint16 of its bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _widened(builder, pointer(context, builder, array, *arguments), array.dtype)

    return LANES(array, types.int64), generate


def nearest_bfloat16(builder: Any, x: Any, whole: Any, half: Any) -> Any:
    """The bits of the nearest bfloat16 of float32, of a number or a vector by the types given."""

    def each(number: int) -> Any:
        return whole([number] * COUNT) if isinstance(whole, ir.VectorType) else whole(number)

    bits = builder.bitcast(x, whole)
    odd = builder.and_(builder.lshr(bits, each(16)), each(1))
    nearest = builder.lshr(builder.add(bits, builder.add(odd, each(0x7FFF))), each(16))
    is_nan = builder.fcmp_unordered("uno", x, x)
    return builder.trunc(builder.select(is_nan, each(0x7FC0), nearest), half)


def _store(typing_context: Any, array: Any, place: Any, numbers: Any) -> Any:
    """Put numbers into an array from ``place`` on, rounded to what it stores."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        given, start, found = arguments
        to = pointer(context, builder, array, given, start)
        if array.dtype == types.float32:
            builder.store(found, builder.bitcast(to, _FLOATS.as_pointer()), align=4)
        else:
            halves = ir.VectorType(ir.IntType(16), COUNT)
            found = nearest_bfloat16(builder, found, _WHOLES, halves)
            builder.store(found, builder.bitcast(to, halves.as_pointer()), align=2)
        return context.get_dummy_value()

    return types.void(array, types.int64, LANES), generate


def _every(typing_context: Any, x: Any) -> Any:
    """A vector of one number."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return splat(builder, arguments[0])

    return LANES(types.float32), generate


def _total(typing_context: Any, x: Any) -> Any:
    """The sum of a vector's numbers, by halves."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _halved(builder, arguments[0], lambda a, b: builder.fadd(a, b, flags=_FLAGS))

    return types.float32(LANES), generate


def _largest(typing_context: Any, x: Any) -> Any:
    """The largest of a vector's numbers; any of them where one is NaN."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _halved(builder, arguments[0], lambda a, b: _greater(builder, a, b))

    return types.float32(LANES), generate


def _halved(builder: Any, x: Any, join: Callable[[Any, Any], Any]) -> Any:
    width = COUNT
    while width > 1:
        width //= 2
        low, high = (
            builder.shuffle_vector(
                x, x, ir.VectorType(ir.IntType(32), width)([start + n for n in range(width)])
            )
            for start in (0, width)
        )
        x = join(low, high)
    return builder.extract_element(x, ir.IntType(32)(0))


def _greater(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered("ogt", a, b), a, b)


def _maximum(typing_context: Any, x: Any, y: Any) -> Any:
    """The larger number of each place; of NaN and another either."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _greater(builder, *arguments)

    return LANES(LANES, LANES), generate


def _root(typing_context: Any, x: Any) -> Any:
    """The square root of each number."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(_FLOATS, [_FLOATS])
        name = f"llvm.sqrt.v{COUNT}f32"
        root = cgutils.get_or_insert_function(builder.module, kind, name)  # type: ignore[no-untyped-call]
        return builder.call(root, arguments)

    return LANES(LANES), generate


def _leading(typing_context: Any, x: Any, count: Any, rest: Any) -> Any:
    """The first ``count`` numbers, and ``rest`` after them."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        found, count, rest = arguments
        bound = builder.trunc(count, ir.IntType(32))
        undefined = _WHOLES(ir.Undefined)
        bound = builder.insert_element(undefined, bound, ir.IntType(32)(0))
        bound = builder.shuffle_vector(bound, undefined, _WHOLES(None))
        places = _WHOLES(list(range(COUNT)))
        is_kept = builder.icmp_signed("<", places, bound)
        return builder.select(is_kept, found, splat(builder, rest))

    return LANES(LANES, types.int64, types.float32), generate


# From the finaliser of MurmurHash3, and 2^32 over the golden ratio.
_SPREAD, _FIRST_MIX, _SECOND_MIX = 0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35


def _drop(typing_context: Any, x: Any, place: Any, key: Any, limit: Any, scale: Any) -> Any:
    """Each number times ``scale`` or 0: 0 for a share of ``limit`` / 2^32 of all places.

    Which of them depends on ``key`` and on where a number stands, so that it can be told again.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, place, key, limit, scale = arguments
        whole, long = ir.IntType(32), ir.IntType(64)

        def every_whole(number: Any) -> Any:
            undefined = _WHOLES(ir.Undefined)
            first = builder.insert_element(undefined, builder.trunc(number, whole), whole(0))
            return builder.shuffle_vector(first, undefined, _WHOLES(None))

        def folded(bits: Any, shift: int) -> Any:
            return builder.xor(bits, builder.lshr(bits, _WHOLES([shift] * COUNT)))

        def times(bits: Any, factor: int) -> Any:
            return builder.mul(bits, _WHOLES([factor] * COUNT))

        bits = builder.add(every_whole(place), _WHOLES(list(range(COUNT))))
        bits = folded(builder.add(times(bits, _SPREAD), every_whole(key)), 16)
        bits = builder.xor(bits, every_whole(builder.lshr(key, long(32))))
        bits = folded(times(bits, _FIRST_MIX), 13)
        bits = folded(times(bits, _SECOND_MIX), 16)
        is_kept = builder.icmp_unsigned(">=", bits, every_whole(limit))
        kept = builder.fmul(x, splat(builder, scale), flags=_FLAGS)
        return builder.select(is_kept, kept, _FLOATS(None))

    return LANES(LANES, types.int64, types.int64, types.int64, types.float32), generate


_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1 / 6, 0.5)


def _exp(typing_context: Any, x: Any) -> Any:
    """e^x as ``numpy_kernels.exp``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def each(number: float) -> Any:
            return _FLOATS([number] * COUNT)

        def times_plus(a: Any, b: Any, c: Any) -> Any:
            return builder.fadd(builder.fmul(a, b, flags=_FLAGS), c, flags=_FLAGS)

        (x,) = arguments
        # NaN stays: no comparison with it holds.
        x = builder.select(builder.fcmp_ordered("olt", x, each(-87)), each(-87), x)
        x = builder.select(builder.fcmp_ordered("ogt", x, each(88)), each(88), x)
        kind = ir.FunctionType(_FLOATS, [_FLOATS])
        name = f"llvm.floor.v{COUNT}f32"
        floor = cgutils.get_or_insert_function(builder.module, kind, name)  # type: ignore[no-untyped-call]
        power = builder.call(floor, [times_plus(x, each(1.44269504), each(0.5))])
        rest = times_plus(power, each(-0.693359375), x)
        rest = times_plus(power, each(2.12194440e-4), rest)
        tail = each(_EXP[0])
        for coefficient in _EXP[1:]:
            tail = times_plus(tail, rest, each(coefficient))
        tail = times_plus(builder.fmul(tail, rest, flags=_FLAGS), rest, rest)
        tail = builder.fadd(tail, each(1), flags=_FLAGS)
        bits = builder.add(builder.fptosi(power, _WHOLES), _WHOLES([127] * COUNT))
        bits = builder.shl(bits, _WHOLES([23] * COUNT))
        return builder.fmul(tail, builder.bitcast(bits, _FLOATS), flags=_FLAGS)

    return LANES(LANES), generate


load: Any = intrinsic(_load)
store: Any = intrinsic(_store)
every: Any = intrinsic(_every)
total: Any = intrinsic(_total)
largest: Any = intrinsic(_largest)
maximum: Any = intrinsic(_maximum)
root: Any = intrinsic(_root)
leading: Any = intrinsic(_leading)
exp: Any = intrinsic(_exp)
drop: Any = intrinsic(_drop)


def _operator(function: Any, instruction: str) -> None:
    """Let an operator compute place by place; a number stands for a vector of it."""
    pairs = ((LANES, LANES), (LANES, types.float32), (types.float32, LANES))

    class Operator(ConcreteTemplate):
        cases = tuple(signature(LANES, *pair) for pair in pairs)  # type: ignore[no-untyped-call]

    def compute(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds = zip(signature.args, arguments, strict=True)
        both = [given if kind == LANES else splat(builder, given) for kind, given in kinds]
        return getattr(builder, instruction)(*both, flags=_FLAGS)

    infer_global(function)(Operator)  # type: ignore[no-untyped-call]
    for pair in pairs:
        lower_builtin(function, *pair)(compute)  # type: ignore[no-untyped-call]


for _function, _instruction in (
    (operator.add, "fadd"),
    (operator.iadd, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _operator(_function, _instruction)


def tile(rows: int, columns: int, *, adds: bool = False) -> Any:
    """The intrinsic of a tile [rows, columns] of C = A B, or of C += A B, that registers hold."""

    def product(
        typing_context: Any,
        a: Any,
        a_start: Any,
        a_row: Any,
        a_column: Any,
        b: Any,
        b_start: Any,
        b_row: Any,
        c: Any,
        c_start: Any,
        c_row: Any,
        depth: Any,
    ) -> Any:
        """A tile of a product, ``depth`` deep, of arrays with these strides.

        A and C are float32, B float32 or bfloat16. The sums stay in registers: what loops would
        compile to reads and writes them once a term. Each is in the order of its terms.
        """

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            whole = ir.IntType(64)
            _, _, a_row, a_column, _, _, b_row, _, _, c_row, depth = arguments
            a, b, c = (
                pointer(context, builder, signature.args[place], *arguments[place : place + 2])
                for place in (0, 4, 7)
            )
            down = [builder.gep(a, [builder.mul(a_row, whole(r))]) for r in range(rows)]
            places = _vectors(builder, c, c_row, rows, columns)
            begun = [builder.load(p, align=4) if adds else _FLOATS(None) for p in places]

            def term(k: Any, sums: list[Any]) -> list[Any]:
                row = builder.gep(b, [builder.mul(b_row, k)])
                across = [
                    _widened(builder, builder.gep(row, [whole(column)]), signature.args[4].dtype)
                    for column in range(0, columns, COUNT)
                ]
                offset = builder.mul(a_column, k)
                numbers = [splat(builder, builder.load(builder.gep(r, [offset]))) for r in down]
                products = [builder.fmul(x, y, flags=_FLAGS) for x in numbers for y in across]
                both = zip(products, sums, strict=True)
                return [builder.fadd(product, sum_, flags=_FLAGS) for product, sum_ in both]

            for sum_, place in zip(_summed(builder, depth, begun, term), places, strict=True):
                builder.store(sum_, place, align=4)
            return context.get_dummy_value()

        ints = [types.int64] * 3
        return types.void(a, *ints, b, *ints[:2], c, *ints), generate

    return intrinsic(product)


def whole_tile(rows: int, columns: int) -> Any:
    """The intrinsic of a tile [rows, columns] of C = A B of whole numbers, two terms at a time."""

    def product(
        typing_context: Any,
        a: Any,
        a_start: Any,
        a_row: Any,
        b: Any,
        b_start: Any,
        b_row: Any,
        c: Any,
        c_start: Any,
        c_row: Any,
        depth: Any,
    ) -> Any:
        """A tile of a product, twice ``depth`` deep; its sums are exact below 2^31.

        A is int16 with rows of an even length, B int8, of whose rows two lie together, number by
        number; C is float32.
        """

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            whole = ir.IntType(64)
            _, _, a_row, _, _, b_row, _, _, c_row, depth = arguments
            a, b, c = (
                pointer(context, builder, signature.args[place], *arguments[place : place + 2])
                for place in (0, 3, 6)
            )
            down = [
                builder.bitcast(
                    builder.gep(a, [builder.mul(a_row, whole(r))]), ir.IntType(32).as_pointer()
                )
                for r in range(rows)
            ]
            places = _vectors(builder, c, c_row, rows, columns)
            pairs = ir.VectorType(ir.IntType(8), 2 * COUNT)
            wide = ir.VectorType(ir.IntType(16), 2 * COUNT)

            def term(k: Any, sums: list[Any]) -> list[Any]:
                row = builder.gep(b, [builder.mul(b_row, k)])
                across = []
                for column in range(0, 2 * columns, 2 * COUNT):
                    start = builder.bitcast(builder.gep(row, [whole(column)]), pairs.as_pointer())
                    across.append(builder.sext(builder.load(start, align=1), wide))
                numbers = []
                for pair in (builder.load(builder.gep(r, [k]), align=2) for r in down):
                    undefined = _WHOLES(ir.Undefined)
                    first = builder.insert_element(undefined, pair, ir.IntType(32)(0))
                    both = builder.shuffle_vector(first, undefined, _WHOLES(None))
                    numbers.append(builder.bitcast(both, wide))
                of = [(x, y) for x in numbers for y in across]
                return [_dot(builder, s, x, y) for s, (x, y) in zip(sums, of, strict=True)]

            found = _summed(builder, depth, [_WHOLES(None) for _ in places], term)
            for sum_, place in zip(found, places, strict=True):
                builder.store(builder.sitofp(sum_, _FLOATS), place, align=4)
            return context.get_dummy_value()

        ints = [types.int64] * 3
        return types.void(a, *ints[:2], b, *ints[:2], c, *ints), generate

    return intrinsic(product)


def _vectors(builder: Any, start: Any, stride: Any, rows: int, columns: int) -> list[Any]:
    """Where the vectors of a tile are, row by row."""
    whole = ir.IntType(64)
    return [
        builder.bitcast(builder.gep(row, [whole(column)]), _FLOATS.as_pointer())
        for row in (builder.gep(start, [builder.mul(stride, whole(r))]) for r in range(rows))
        for column in range(0, columns, COUNT)
    ]


def _summed(
    builder: Any, depth: Any, begun: list[Any], term: Callable[[Any, list[Any]], list[Any]]
) -> list[Any]:
    """What ``term`` makes of the sums ``begun``, called for each k below ``depth``."""
    whole, before = ir.IntType(64), builder.block
    head, body, end = (builder.append_basic_block(f"tile.{n}") for n in ("k", "sum", "end"))
    builder.branch(head)
    builder.position_at_end(head)
    k, sums = builder.phi(whole), [builder.phi(first.type) for first in begun]
    k.add_incoming(whole(0), before)
    for phi, first in zip(sums, begun, strict=True):
        phi.add_incoming(first, before)
    builder.cbranch(builder.icmp_signed("<", k, depth), body, end)
    builder.position_at_end(body)
    for phi, sum_ in zip(sums, term(k, sums), strict=True):
        phi.add_incoming(sum_, body)
    k.add_incoming(builder.add(k, whole(1)), body)
    builder.branch(head)
    builder.position_at_end(end)
    return sums


_HAS_DOT = _compiles_for("avx512vnni")


def _dot(builder: Any, sums: Any, x: Any, y: Any) -> Any:
    """To each of the sums two neighbouring products of int16."""
    if _HAS_DOT:
        kind = ir.FunctionType(_WHOLES, [_WHOLES] * 3)
        name = "llvm.x86.avx512.vpdpwssd.512"
        add = cgutils.get_or_insert_function(builder.module, kind, name)  # type: ignore[no-untyped-call]
        return builder.call(add, [sums, *(builder.bitcast(each, _WHOLES) for each in (x, y))])
    wide = ir.VectorType(ir.IntType(32), 2 * COUNT)
    products = builder.mul(builder.sext(x, wide), builder.sext(y, wide))
    even, odd = (
        builder.shuffle_vector(products, products, _WHOLES(list(range(n, 2 * COUNT, 2))))
        for n in (0, 1)
    )
    return builder.add(sums, builder.add(even, odd))
