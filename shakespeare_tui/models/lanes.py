"""Vectors of sixteen float32 for functions that numba compiles, as the processor computes them.

Loops over arrays that might overlap are compiled twice with a test before them, and short ones end
up one number at a time. What is written with these is what runs, and compiles in a fraction of the
time. A processor with narrower registers takes two or four for a vector.
"""

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

COUNT = 16
"""Numbers in a vector."""
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


def _load(typing_context: Any, array: Any, place: Any) -> Any:
    """Numbers from ``place`` on, float32 or bfloat16 as the uint16 of its bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        start = pointer(context, builder, array, *arguments)
        if array.dtype == types.float32:
            return builder.load(builder.bitcast(start, _FLOATS.as_pointer()), align=4)
        halves = ir.VectorType(ir.IntType(16), COUNT)
        found = builder.load(builder.bitcast(start, halves.as_pointer()), align=2)
        shift = _WHOLES([16] * COUNT)
        return builder.bitcast(builder.shl(builder.zext(found, _WHOLES), shift), _FLOATS)

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
