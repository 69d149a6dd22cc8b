"""delay: products that the rounds of a loop add to an array are made for several rounds at once.

    while(%s, ...):                           while(%s, ..., %as, %bs, %kept):
      %d = dot(%a, %b)                          %as' = write(%as, %a, %kept), and so for %b
      %t = add(%s, %d)                ->        each eighth round: %t = %s + dot(%as', %bs')
                                              while of the rounds that are left:
                                                %t = %s + dot(%as[i], %bs[i])

The gradient of a recurrent cell adds to the gradient of each weight a product of as few terms as
there are sequences, in each round, and so reads and writes the sum as often as it multiplies. What
is multiplied is kept instead (small beside the sum) until there are terms enough for a product at
full speed: the delayed updates of McDaniel et al. (Journal of Chemical Physics 147, 2017), without
their corrections, since nobody reads the sum on the way. Assumes that `sums` has made such a sum a
state of the loop. LLVM sees one round.
"""

from __future__ import annotations

import math

from cellc.ir import arith
from cellc.ir.graph import Apply, Builder, Constant, Graph, Node, scalar
from cellc.ir.prims import control, element
from cellc.ir.prims import elementwise as e
from cellc.ir.prims.contraction import dot
from cellc.ir.types import TensorType, TupleType
from cellc.passes import dead_code
from cellc.passes.rebuild import (
    copy_input,
    everywhere,
    renew,
    touched,
    use_counts,
    with_inputs,
)
from cellc.record import record

TERMS = 256         # of a product at full speed
FEW = 16            # a product of more is fast enough,
LARGE = 1 << 20     # but for a sum of so many bytes, which no second-level cache holds,
SOME = 32           # where this is the limit
MOST = 64           # rounds that are kept: those that are left in the end are made one by one
LEAST = 4096        # elements of a sum that is worth it,
NARROW = 8          # and of its shorter side


@record(frozen=True)
class Update:
    """A state of a loop to which a round adds products."""

    state: int
    products: list[Apply]


def run(graph: Graph) -> Graph:
    if not any(node.prim.name == "while" for g in graph.reachable() for node in g.body):
        return graph
    return everywhere(graph, _delay)


def _delay(graph: Graph) -> Graph:
    found = {node: u for node in graph.body if node.prim.name == "while" and (u := _updates(node))}
    for node in graph.body:
        if node.prim.name != "item":        # it asks for a loop's states as one tuple
            for x in node.operands:
                found.pop(x, None)
    found.pop(graph.result, None)
    if not found:
        return graph
    env: dict[Node, Node] = {}
    now: dict[Node, list[Node]] = {}        # the values of a loop's items
    with Builder(graph.name, graph.inputs) as b:
        for node in graph.body:
            if node in found:
                b.loc = node.loc
                now[node] = _rewritten(renew(node, env), found[node])
            elif node.prim.name == "item" and node.operands[0] in now:
                env[node] = now[node.operands[0]][node.attrs["index"]]
            else:
                new = b.append(renew(node, env) if touched(node, env) else node)
                if new is not node:
                    env[node] = new
        return b.finish(env.get(graph.result, graph.result))


# -- what is worth it ------------------------------------------------------------------------------

def _updates(node: Apply) -> list[Update]:
    """The states of a loop to which a round only adds products of few terms."""
    test, body, n = node.attrs["test"], node.attrs["body"], control.state_size(node)
    if len(body.results) != n or n == 1:
        return []
    asked, uses = use_counts(test), use_counts(body)
    found = []
    for k, given in enumerate(body.inputs[:n]):
        terms = _added(body.results[k], uses)
        products = [x for x in terms if x is not given]
        if terms.count(given) == uses[given] == 1 and not asked[given] and products and all(
                uses[x] == 1 and _is_short(x) for x in products):
            found.append(Update(k, products))
    return found


def _added(x: Node, uses) -> list[Node]:
    """What a node adds up."""
    if isinstance(x, Apply) and x.prim.name == "add" and uses[x] == 1:
        return [*_added(x.operands[0], uses), *_added(x.operands[1], uses)]
    return [x]


def _is_short(x: Node) -> bool:
    """Is it a product of few terms, and large beside what is multiplied?"""
    if not (isinstance(x, Apply) and x.prim.name == "dot" and x.dtype.is_float):
        return False
    if any(isinstance(y, Constant) or not all(isinstance(n, int) for n in y.shape)
           for y in x.operands):
        return False
    terms = _terms_of(x)
    limit = SOME if x.size * x.dtype.itemsize >= LARGE else FEW
    return 0 < terms <= limit and x.size >= LEAST and all(
        x.size * terms >= NARROW * y.size for y in x.operands)


def _terms_of(x: Apply) -> int:
    """How many terms each sum of a product has."""
    return math.prod(x.operands[0].shape[i] for i in x.attrs["contract"][0])


# -- rewriting -------------------------------------------------------------------------------------

def _rewritten(node: Apply, updates: list[Update]) -> list[Node]:
    """Append the loop that keeps what is multiplied, and one for what is left of it; the states."""
    n, body = control.state_size(node), node.attrs["body"]
    products = [x for u in updates for x in u.products]
    rounds = min(MOST, -(-TERMS // min(map(_terms_of, products))))
    kept = list(dict.fromkeys(x for p in products for x in p.operands))
    types = [TensorType(x.dtype, (rounds, *x.shape)) for x in kept]
    more = (*types, element.INDEX)
    together = _Together(body.name, updates, kept)
    loop = control.while_(
        *node.operands[:n], *(control.empty(type=t) for t in types), 0, *node.operands[n:],
        **node.attrs | {"test": with_inputs(node.attrs["test"], n, more),
                        "body": _round(body, n, together, more, rounds)})
    results = control.items(loop)
    left = together.one_by_one([results[u.state] for u in updates], results[n:])
    for u, value in zip(updates, left, strict=True):
        results[u.state] = value
    return results[:n]


def _round(body: Graph, n: int, together: _Together, more, rounds: int) -> Graph:
    """A round that keeps what is multiplied, and multiplies when that is enough."""
    with Builder(body.name, map(copy_input, body.inputs[:n])) as b:
        *buffers, count = (b.input(t, "kept") for t in more)
        rest = [b.input(x.type, x.name) for x in body.inputs[n:]]
        env = dict(zip(body.inputs, [*b.inputs[:n], *rest], strict=True))
        for node in body.body[:-1]:         # the last one is the tuple of results
            env[node] = b.append(renew(node, env))
        results = [env.get(x, x) for x in body.results]
        buffers = [element.write(x, env[y], count, checked=False)
                   for x, y in zip(buffers, together.kept, strict=True)]
        count = arith.add(count, 1)
        full = arith.equal(count, rounds)
        sums = [b.inputs[u.state] for u in together.updates]
        made = _items(control.cond(full, *sums, *buffers, then=together.graph(more[:-1], True),
                                     orelse=together.graph(more[:-1], False)))
        for u, value in zip(together.updates, made, strict=True):
            results[u.state] = value
        done = b.finish(control.tuple(*results, *buffers, e.select(full, 0, count)))
    return dead_code.sweep(done)


def _items(value: Node) -> list[Node]:
    return control.items(value) if isinstance(value.type, TupleType) else [value]


@record(frozen=True)
class _Together:
    """The sums of a loop, and the operands of their products, that it keeps."""

    name: str
    updates: list[Update]
    kept: list[Node]

    def plus(self, sums, operands, shift: int) -> list[Node]:
        """The sums with their products, of operands with so many further axes that are summed."""
        at = dict(zip(self.kept, operands, strict=True))
        found = []
        for value, u in zip(sums, self.updates, strict=True):
            for p in u.products:
                contract, batch = (tuple(tuple(i + shift for i in axes) for axes in p.attrs[key])
                                   for key in ("contract", "batch"))
                contract = tuple((*range(shift), *axes) for axes in contract)
                left, right = (at[x] for x in p.operands)
                value = e.add(value, dot(left, right, **p.attrs | {"contract": contract,
                                                                   "batch": batch}))
            found.append(value)
        return found

    def graph(self, types, full: bool) -> Graph:
        """From the sums and what is kept: the sums, with all the products where it is `full`."""
        with Builder(f"{self.name}.{'full' if full else 'kept'}") as b:
            sums = [b.input(u.products[0].type, "sum") for u in self.updates]
            buffers = [b.input(t, "kept") for t in types]
            made = self.plus(sums, buffers, 1) if full else sums
            return b.finish(control.tuple(*made) if len(made) > 1 else made[0])

    def one_by_one(self, sums: list[Node], rest: list[Node]) -> list[Node]:
        """Append the loop over what was kept since the last products; the sums."""
        given = [*sums, scalar(0), *rest]
        with Builder(f"{self.name}.any") as b:
            inputs = [b.input(x.type, "sum") for x in given]
            test = b.finish(arith.less(inputs[len(sums)], inputs[-1]))
        with Builder(f"{self.name}.rest") as b:
            inputs = [b.input(x.type, "sum") for x in given]
            i = inputs[len(sums)]
            operands = [element.read(x, i, checked=False) for x in inputs[len(sums) + 1:-1]]
            made = self.plus(inputs[:len(sums)], operands, 0)
            body = b.finish(control.tuple(*made, arith.add(i, 1)))
        return control.items(control.while_(*given, test=test, body=body))[:len(sums)]
