"""`if` on known and traced conditions: joins, early returns, breaks, what does not meet."""

from dataclasses import dataclass

from same import f32, parse, same_everywhere

from cellc import ops
from cellc.ir.graph import Graph

SIGNS = (1.0, -1.0)


@same_everywhere(*SIGNS)
def test_join_of_variables(x):
    y = 0.0
    z = x
    if x > 0:
        y = x * 2
        t = y + 1
        z = t
    elif x < -5:
        z = 3
    else:
        y = 1
    return y, z


@same_everywhere((f32(3), 1.0), (f32(3), -1.0))
def test_join_of_tensors(x, s):
    if s > 0:
        y = ops.tanh(x)
    else:
        y = x * x
    return y.sum()


@same_everywhere(*SIGNS)
def test_known_values_stay_known(x):
    n = 3
    if x > 0:
        n, name = 3, "same"
    else:
        n, name = 3, "same"
    return x * n, name, list(range(n))


@same_everywhere(*SIGNS, 0.5)
def test_numbers_become_one_type(x):
    if x > 0:
        a, b = 1, True
    else:
        a, b = 2.5, False
    return a, b


@same_everywhere(*SIGNS)
def test_join_of_containers(x):
    if x > 0:
        pair, named = (x, [1, x]), {"a": x}
    else:
        pair, named = (-x, [1, 2.0]), {"a": 0.0}
    return pair, named


@same_everywhere(*SIGNS)
def test_early_return(x):
    if x > 0:
        return x * 2
    y = x - 1
    return y


@same_everywhere(-2.0, -1.0, 0.5, 3.0)
def test_nested_early_returns(x):
    if x < 0:
        if x < -1.5:
            return 100.0
        x = x + 1
    if x > 2:
        return x * 2
    elif x > 1:
        return x * 3
    x = x - 1
    if x < 0:
        return -x
    return x


@same_everywhere(*SIGNS)
def test_return_of_structures(x):
    if x > 0:
        return x, {"k": [x, 1]}
    return 0.0, {"k": [x * 2, 1]}


@same_everywhere((f32(3), 0.5), (f32(3), 2.5), (f32(3), 10.0))
def test_break_in_an_unrolled_loop(x, limit):
    total = 0.0
    for i in range(4):
        if total > limit:
            break
        total = total + i
        x = x * 2
    else:
        total = total + 100
    return x, total


@same_everywhere(0.0, 1.0, 2.0)
def test_continue_in_an_unrolled_loop(x):
    total = 0.0
    for i in range(4):
        if i == x:
            continue
        total += i
    return total


@same_everywhere(0.0, 1.0, 5.0)
def test_return_in_an_unrolled_loop(x):
    for i in range(3):
        for j in range(2):
            if i + j == x:
                return i * 10.0 + j
        x = x + 0.5
    return -x


@same_everywhere(*SIGNS)
def test_containers_changed_in_a_branch(x):
    made = [x, x]
    alias = made
    named = {"a": 1.0}
    if x > 0:
        made[0] = x * 3
        named["a"] = x
    else:
        made[1] = 7.0
    return alias, named


@same_everywhere(*SIGNS)
def test_a_list_grown_alike_in_both_branches(x):
    made = []
    if x > 0:
        made.append(x)
    else:
        made.append(-2 * x)
    return made


@dataclass
class Point:
    a: object
    b: object


@same_everywhere(*SIGNS)
def test_objects_made_in_branches(x):
    p = Point(x, 1)
    if x > 0:
        q = Point(x * 2, 5)
        p.a = 3.0
    else:
        q = Point(0.0, 5)
    return q.a, q.b, p.a


@same_everywhere(*SIGNS)
def test_closures_see_joined_variables(x):
    k = 1.0

    def scaled(v):
        return v * k

    if x > 0:
        k = x * 3
    return scaled(x)


@same_everywhere((f32(1),), (f32(),))
def test_a_tensor_of_one_element_is_a_condition(x):
    if x > 0:
        return x * 2
    return x * 3


@same_everywhere((f32(3),), (f32(3) * -1,))
def test_any_and_all_as_conditions(x):
    if (x > 0).any() and not (x > 100).all():
        x = x + 1
    return x


@same_everywhere(0.0, 1.0)
def test_short_circuit_guards_the_right_side(x):
    return x != 0 and 1 / x > 0.5, x == 0 or 1 / x > 0.5


@same_everywhere((1.0, 2.0), (-1.0, 2.0), (1.0, -2.0), (-1.0, -2.0))
def test_branches_in_branches(x, y):
    z = x
    if x > 0:
        if y > 0:
            z = x + y
        else:
            w = x * y
            z = w
        z = z * 2
    else:
        z = -y if y < 0 else z
    return z


@same_everywhere(*SIGNS)
def test_functions_called_in_branches(x):
    def relu(v):
        if v > 0:
            return v
        return 0.0

    return relu(x) + relu(-x) * 2


def count(graph, seen=None):
    """Applies of a graph and of every graph in it, each graph once."""
    seen = set() if seen is None else seen
    if id(graph) in seen:
        return 0
    seen.add(id(graph))
    inner = [g for node in graph.body for g in node.attrs.values() if isinstance(g, Graph)]
    return len(graph.body) + sum(count(g, seen) for g in inner)


def ladder(x, y):
    """Nine times a return within a branch, which code after it would be copied for."""
    if x > 1:
        if y > 1:
            return x
        y = y + 1
    if x > 2:
        if y > 2:
            return x
        y = y + 1
    if x > 3:
        if y > 3:
            return x
        y = y + 1
    if x > 4:
        if y > 4:
            return x
        y = y + 1
    if x > 5:
        if y > 5:
            return x
        y = y + 1
    if x > 6:
        if y > 6:
            return x
        y = y + 1
    if x > 7:
        if y > 7:
            return x
        y = y + 1
    if x > 8:
        if y > 8:
            return x
        y = y + 1
    if x > 9:
        if y > 9:
            return x
        y = y + 1
    return x + y


@same_everywhere((0.5, 1.0), (3.5, 0.0), (9.5, 2.0), (9.5, -8.0))
def test_returns_in_branches(x, y):
    return ladder(x, y)


def test_code_after_branches_is_not_copied():
    traced, _ = parse(ladder, 1.0, 2.0)
    assert count(traced.graph) < 250


@same_everywhere(0.5, 1.5, -1.0)
def test_a_break_in_the_else_of_a_loop_leaves_the_loop_around_it(x):
    total = 0.0
    for i in range(3):
        for j in range(2):
            if x > 1:
                if total > 2:
                    return total
            elif x > 0:
                continue
            total = total + 1
        else:
            if x < 0:
                break
            total = total + 10
            continue
        total = total + 100
    return total


def _sign(x):
    if x > 0:
        y = 1.0
    else:
        y = -1.0
    return y


def _doubled_to(x, limit):
    y = x
    while y < limit:
        y = y * 2.0
    return y


@same_everywhere(2.0, 0.5, -3.0)
def test_variables_of_functions_called_in_a_branch_are_no_change(x):
    """What a branch made itself is not joined with what the other has of it: nothing."""
    found = []
    if x > 1:
        z = _sign(x - 1.5)
        inner = [z]
        if z > 0:
            inner[0] = x * z
        found.append(inner[-1])
    else:
        z = _doubled_to(abs(x), 10.0)
        found.append(z)
    return z, found


@same_everywhere((f32(12), 5.0))
def test_functions_with_branches_and_loops_called_in_a_loop(xs, limit):
    total = 0.0
    for i in range(12):
        total = total + _doubled_to(abs(xs[i]) + 0.5, limit) * _sign(xs[i])
    return total
