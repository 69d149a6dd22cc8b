"""Control: tuples, calls, branches, loops, and what passes put between them.

The interpreter runs `call`, `cond`, `while` and `fused`: their meaning is a graph's, not a
function's of arrays. `passes/grad.py` differentiates all of these: hence no `eval` or `vjp` for
them here.

A `while` has a state, as many operands as its body has results, and behind it invariants; test and
body take both. It gives the state with which the test first says no.

    %s = while(%x, %i, %n) {test=@more, body=@round} : (f32[], i64)

With `checkpoint='log'` its gradient keeps a few of its states, and computes the others again.
"""

from __future__ import annotations

import numpy as np

from cellc.errors import IRFault, TypeFault
from cellc.ir import numerics as num
from cellc.ir.graph import Apply, Graph, current_builder, primitive
from cellc.ir.types import ScalarType, TapeType, TupleType, boolean


def _takes_inputs(prim: str, graph: Graph, types) -> None:
    """The operands are what the graph takes."""
    if len(graph.inputs) != len(types):
        raise TypeFault(f"{prim}: found {len(types)} operands for {graph.name}, expected "
                        f"{len(graph.inputs)}")
    for x, found in zip(graph.inputs, types, strict=True):
        if x.type is not found and x.type != found:
            raise TypeFault(f"{prim}: found {found} for {x.name} of {graph.name}, "
                            f"expected {x.type}")


def _item_types(t, index):
    if not isinstance(t, TupleType):
        raise TypeFault(f"item: found {t}, expected a tuple")
    if not 0 <= index < len(t.items):
        raise IRFault(f"item: found index {index} of {t}, expected 0 to {len(t.items) - 1}")
    return t.items[index]


def _call_types(*xs, graph: Graph, bwd: Graph | None = None, fwd: Graph | None = None, wrt=()):
    _takes_inputs("call", graph, xs)
    if bwd is not None:
        _check_rule(xs, graph, bwd, fwd, wrt)
    return graph.type


def _check_rule(xs, graph: Graph, bwd: Graph, fwd: Graph | None, wrt) -> None:
    """A call's own rule for its gradient fits the call.

    bwd takes what the forward half keeps, then a cotangent for each float result of `graph`, and
    gives one for each operand listed in wrt. What is kept: the operands and the results; or, where
    there is a fwd, which gives the results as `graph` does, its further results.
    """
    results = [r.type for r in graph.results]
    kept = [*xs, *results]
    if fwd is not None:
        _takes_inputs("call", fwd, xs)
        found = [r.type for r in fwd.results]
        if found[:len(results)] != results:
            raise TypeFault(f"call: {fwd.name} gives {TupleType((*found,))}, expected it to begin "
                            f"with {TupleType((*results,))}")
        kept = found[len(results):]
    _takes_inputs("call", bwd, [*kept, *filter(is_differentiable, results)])
    found, wanted = (*(r.type for r in bwd.results),), (*(xs[i] for i in wrt),)
    if found != wanted:
        raise TypeFault(f"call: {bwd.name} gives {TupleType(found)}, expected {TupleType(wanted)}")


def is_differentiable(type) -> bool:
    """Whether values of this type have cotangents."""
    return not isinstance(type, (TupleType, TapeType)) and type.dtype.is_float


def _cond_types(pred, *xs, then: Graph, orelse: Graph):
    if pred != ScalarType(boolean):
        raise TypeFault(f"cond: found the condition {pred}, expected a bool number")
    _takes_inputs("cond", then, xs)
    _takes_inputs("cond", orelse, xs)
    if then.type != orelse.type:
        raise TypeFault(f"the two branches of an if give different types: {then.type} and "
                        f"{orelse.type}", "make both give one dtype and one shape")
    return then.type


def _while_types(*xs, test: Graph, body: Graph, checkpoint: str | None = None):
    _takes_inputs("while", test, xs)
    _takes_inputs("while", body, xs)
    if test.type != ScalarType(boolean):
        raise TypeFault(f"while: the test gives {test.type}, expected a bool number")
    state = body.type.items if isinstance(body.type, TupleType) else (body.type,)
    if tuple_of(xs[:len(state)]) != state:
        raise TypeFault(f"a round of a loop turns {', '.join(map(str, xs[:len(state)]))} into "
                        f"{', '.join(map(str, state))}", "a loop variable keeps one type")
    return body.type


def _fused_types(*xs, graph: Graph, **_):
    _takes_inputs("fused", graph, xs)
    return graph.type


def _empty(type):
    """A pattern that shows if it is read after all: NaN, or the largest number."""
    if isinstance(type, TupleType):
        return (*map(_empty, type.items),)
    if isinstance(type, TapeType):
        return None
    value = np.nan if type.dtype.is_float else True if type.dtype is boolean else np.iinfo(
        type.dtype.numpy).max
    return num.full(type.shape, value, type.dtype)


tuple_of = tuple        # the builtin: `tuple` is a primitive from here on
tuple = primitive("tuple", "*xs", doc="Several values as one.", kind="control",
                  types=lambda *xs: TupleType(xs), eval=lambda *xs: xs, vjp=None)
item = primitive("item", "t", doc="One value of a tuple.", kind="control", types=_item_types,
                 eval=lambda t, index: t[index], vjp=None)
call = primitive("call", "*xs", kind="control", types=_call_types, eval=None, vjp=None,
                 doc="The result of a graph on these operands; bwd, fwd and wrt are its gradient.")
cond = primitive("cond", "pred *xs", kind="control", types=_cond_types, eval=None, vjp=None,
                 doc="The result of one of two graphs on the operands xs: then or orelse.")
while_ = primitive("while", "*xs", kind="control", types=_while_types, eval=None, vjp=None,
                   doc="The state after the last round of a loop over `body`, while `test` holds.")
fused = primitive("fused", "*xs", doc="A call of a graph that becomes one kernel.", kind="control",
                  types=_fused_types, eval=None, vjp=None)
empty = primitive("empty", "", doc="A value that is never read.", kind="control",
                  types=lambda type: type, eval=_empty, vjp=None)
barrier = primitive("barrier", "x *after", kind="control", types=lambda x, *after: x,
                    eval=lambda x, *after: x,
                    doc="x, in what is computed when all of `after` is there, and not before.",
                    vjp=lambda g, y, x, *after: [g, *(None for _ in after)],
                    jvp=lambda dxs, y, x, *after: dxs[0])


_INDICES: list[dict] = []       # attributes of items, shared by all: nobody changes them


def items(whole) -> list:
    """All items of a tuple-typed node of the graph being built, as `item` of each would give them:
    a model of many cells has ten for each call."""
    types, builder = whole.type.items, current_builder()
    while len(_INDICES) < len(types):
        _INDICES.append({"index": len(_INDICES)})
    whole = builder.lift(whole)
    return [builder.append(Apply(item, (whole,), attrs, type, "", builder.loc))
            for type, attrs in zip(types, _INDICES, strict=False)]


def state_size(node) -> int:
    """How many operands of a `while` are its state; the rest are invariants."""
    return len(node.type.items) if isinstance(node.type, TupleType) else 1
