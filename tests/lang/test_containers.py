"""Lists, dicts, sets and strings of known length: every method, in Python's order."""

from collections import Counter, OrderedDict, defaultdict, deque

from same import f32, gradient_agrees, same_everywhere


@same_everywhere((f32(3), 2.0))
def test_list_methods(x, s):
    xs = [x, s]
    xs.append(1)
    xs.extend((s, x))
    xs.insert(1, "a")
    xs.insert(-1, "b")
    popped, first = xs.pop(), xs.pop(0)
    copied = xs.copy()
    copied.reverse()
    xs.remove("a")
    numbers = [3, 1, 2, 1]
    numbers.sort()
    names = ["bb", "a", "ccc"]
    names.sort(key=len, reverse=True)
    where, n = numbers.index(2), numbers.count(1)
    copied.clear()
    return xs, popped, first, copied, numbers, names, where, n


@same_everywhere((f32(3), 2.0))
def test_assignment_of_items_and_slices(x, s):
    xs = [0, 1, 2, 3, 4, 5]
    xs[0] = x
    xs[-1] = s
    xs[1:3] = [s, s, s]
    xs[::2] = [9] * len(xs[::2])
    del xs[1]
    del xs[-2:]
    xs[len(xs):] = [x]
    xs += [1, 2]
    xs *= 2
    ys = [[0] * 2 for _ in range(2)]
    ys[1][0] = x
    ys[0], ys[1] = ys[1], ys[0]
    return xs, ys, xs + ys, [1, 2] * 2, (x,) + (s,), xs[1:4], xs[::-1]


@same_everywhere((f32(3), 2.0))
def test_sort_by_known_keys(x, s):
    pairs = [("b", x), ("a", s), ("c", 1)]
    pairs.sort(key=lambda p: p[0])
    by_number = sorted([(2, s), (1, x)], key=lambda p: p[0], reverse=True)
    return pairs, by_number, sorted({"z": 1, "y": 2}), min(pairs, key=lambda p: p[0])[1], max(
        [(1, "p"), (2, "q")])


@same_everywhere((f32(3), 2.0))
def test_a_list_grown_while_it_is_gone_through(x, s):
    xs = [1]
    for k in xs:
        if k < 4:
            xs.append(k + 1)
    ys = [1, 2, 3, 4]
    for y in ys:
        if y == 1:
            ys.remove(2)
    return x * sum(xs), xs, ys


@same_everywhere((f32(3), 2.0))
def test_dict_methods(x, s):
    d = {"a": x, **{"b": s}}
    d["c"] = 1
    d |= {"d": x}
    merged = {"a": 0} | d | dict(e=2)
    got = d.get("a"), d.get("z"), d.get("z", s)
    d.setdefault("f", []).append(x)
    d.setdefault("a", 0)
    popped, missing = d.pop("b"), d.pop("z", None)
    d.update({"g": 1}, h=s)
    d.update([("i", 2)])
    last = d.popitem()
    del d["c"]
    copied = d.copy()
    copied.clear()
    return (d, merged, got, popped, missing, last, copied, list(d.keys()), list(d.values()),
            [(k, v) for k, v in d.items()], "a" in d, len(d), dict.fromkeys("ab", 0),
            {v: k for k, v in {"p": 1}.items()}, list(reversed({"u": 1, "v": 2})),
            {"a": 1} == {"a": 1}, sorted({"q": 1}.keys() | {"r"}))


@same_everywhere((f32(3),))
def test_set_methods(x):
    a = {1, 2, 3}
    a.add(4)
    a.discard(9)
    a.remove(1)
    a.update([5], {6})
    b = frozenset([2, 4])
    a |= {7}
    return (sorted(a), sorted(a & b), sorted(a | b), sorted(a - b), sorted(a ^ b), a >= b,
            b.issubset(a), a.isdisjoint({0}), 4 in a, len(a), sorted(a.union([8])),
            sorted(a.intersection(b)), {(1, "a"): x}[(1, "a")], sorted({i % 3 for i in range(9)}))


@same_everywhere((f32(3), 2.0))
def test_tuples(x, s):
    t = (x, s, 1, 1)
    return (t + (2,), t * 2, t[1:], (1, 1, 2).count(1), (1, 2).index(2), (1, 2) < (1, 3), len(t),
            tuple(reversed(t)), (1, 2) == (1, 2))


@same_everywhere((f32(3), 2.0))
def test_comprehensions(x, s):
    grid = [[x * i + j for j in range(2)] for i in range(2)]
    flat = [v for row in grid for v in row if row is not grid[0]]
    chosen = [v if k % 2 else -v for k, v in enumerate(flat)]
    named = {f"{i}{j}": x * j for i in range(2) for j in range(2) if i != j}
    first = [y := s, y ** 2]
    sizes = [n for v in grid if (n := len(v)) > 1]
    pairs = {k: [v for v in (x, s)] for k in "ab"}
    return grid, flat, chosen, named, first, sizes, n, pairs, [a + b for a, b in [(x, 1), (s, 2)]]


@same_everywhere((f32(3), 2.0))
def test_stars(x, s):
    xs, d = [x, s], {"a": 1}
    a, *b = xs
    *c, e = (1, 2, x)
    (f, (g, *h)), i = (x, (s, 1, 2)), 5
    first, *_, last = range(5)
    return ([*xs, *range(2), *"ab", *d], (*xs, 1), sorted({*d, *"z"}), {**d, "b": s, **{"a": x}},
            a, b, c, e, f, g,
            h, i, first, last)


@same_everywhere((f32(3),))
def test_walrus(x):
    items, found = [1, 5, 7], []
    while (k := items.pop()) > 1:
        found.append(k)
    if (n := len(found)) > 1 and (m := n * 2) > 3:
        return x * m, n, m, k
    return x


@same_everywhere((f32(3), 2.0))
def test_collections(x, s):
    d = defaultdict(list)
    d["a"].append(x)
    d["a"].append(s)
    total = defaultdict(float)
    for k in "aab":
        total[k] += 1
    q = deque([1, x], maxlen=3)
    q.append(s)
    q.appendleft(0)
    q.rotate(1)
    left, right = q.popleft(), q.pop()
    o = OrderedDict(b=x, a=1)
    o.move_to_end("b")
    c = Counter("abca")
    return (dict(d), dict(total), list(q), left, right, list(o), dict(c), c.most_common(1), c["z"],
            len(q))


@same_everywhere((f32(3),))
def test_strings(x):
    name = " Layer_1 "
    text = "{:>4}|{k!r}|{:.1f}".format("a", 2.0, k="v")
    return (name.strip().lower(), name.split("_"), text, "a-b".replace("-", "+"), "ab" * 2,
            "a" in "abc", "abc".find("c"), "a,b".partition(","), ",".join(["p", "q"]),
            "%d-%s" % (1, "x"), f"{3:02d}{'q':>3}", "abc"[::-1], "Abc".startswith(("A", "B")),
            "x1".isalnum(), "ab".encode(), "b" > "a", "ab".zfill(4), "%(k)s" % {"k": 1},
            "abc".translate(str.maketrans("a", "z")), [c for c in "xy"], len("abc"), ord("a"),
            chr(98),
            "a\nb".splitlines(), "abc".removeprefix("a"), "Tt".swapcase(), str(x.shape), hex(255),
            bin(5),
            x * len("abc"))


@same_everywhere((f32(3), 1.0), (f32(3), -1.0))
def test_lists_changed_in_branches(x, s):
    xs = [x, 1.0, 2.0]
    d = {"a": s}
    if s > 0:
        xs[0] = x * 2
        xs[1], xs[2] = xs[2], s
        d["a"] = 3.0
    else:
        xs.reverse()
        xs.reverse()
        xs[2] = s * 5
        d.update(a=4.0)
    return xs, d


@same_everywhere((f32(3), 2.0))
def test_comparison_of_lists(x, s):
    return ([1, 2] == [1, 2], [1] < [2], s in [1.0, 2.0], [s, 1] == [2.0, 1], (s, "a") == (2.0,
            "a"), s in (),
            None in [None, x], "a" in ["b", "a"], [] == [])


def test_gradients_through_containers():
    def f(x):
        xs = [x * k for k in range(3)]
        xs[1:2] = [x * x, x]
        xs.sort(key=lambda v: v.ndim)
        d = {k: v for k, v in zip("abcd", xs)}
        d["a"] = d.pop("b") * d["c"]
        return sum(d.values()).sum()

    gradient_agrees(f, f32(3))
