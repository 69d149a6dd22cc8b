"""What lists on tapes can do beyond push, pop and item: in Python, parsed like a user's code.

Each function is the meaning of a method or operator of `list`, and its gradient comes with it. The
items change places one by one, so that all of them take a time of the length. lists.py has them
parsed; what one calls is not, unless it is defined in it.
"""

from __future__ import annotations


def added(items, so_far):
    """sum(items, so_far)"""
    for x in items:
        so_far = so_far + x
    return so_far


def best(items, function):
    """min(items) or max(items)"""
    found = items[0]
    for x in items:
        found = function(found, x)
    return found


def equal(first, second):
    """first == second"""
    if len(first) != len(second):
        return False
    for i, y in enumerate(second):  # noqa: SIM110
        if first[i] != y:
            return False
    return True


def holds(items, x):
    """x in items"""
    for y in items:  # noqa: SIM110
        if y == x:
            return True
    return False


def place_of(items, x):
    """items.index(x), and -1 where it is not there"""
    for i in range(len(items)):
        if items[i] == x:
            return i
    return -1


def count(items, x):
    """items.count(x)"""
    found = 0
    for y in items:
        if y == x:
            found += 1
    return found


def copied(items):
    """list(items)"""
    return [x for x in items]  # noqa: C416


def together(first, second):
    """first + second"""
    found = [x for x in first]  # noqa: C416
    for x in second:
        found.append(x)
    return found


def extended(items, others):
    """items.extend(others)"""
    for x in others:
        items.append(x)


def part(items, start, stop, step):
    """items[start:stop:step]"""
    n = len(items)
    low, high = (0, n) if step > 0 else (-1, n - 1)

    def within(place):
        return min(max(place + n if place < 0 else place, low), high)

    first = (low if step > 0 else high) if start is None else within(start)
    end = (high if step > 0 else low) if stop is None else within(stop)
    return [items[i] for i in range(first, end, step)]


def popped(items, place):
    """items.pop(place), of an item that is there"""
    found = items[place]
    n = len(items)
    for i in range(place + n if place < 0 else place, n - 1):
        items[i] = items[i + 1]
    items.pop()
    return found


def inserted(items, place, x):
    """items.insert(place, x)"""
    n = len(items)
    items.append(x)
    first = min(max(place + n if place < 0 else place, 0), n)
    for i in range(n, first, -1):
        items[i] = items[i - 1]
    items[first] = x


def turned(items):
    """items.reverse()"""
    n = len(items)
    for i in range(n // 2):
        x = items[i]
        items[i] = items[n - 1 - i]
        items[n - 1 - i] = x


def ordered(items, key, reverse):
    """sorted(items, key=key, reverse=reverse): runs of twice the length are merged, again and again
    """
    def before(x, y):
        """Does x come before y, which was there first?"""
        if key is not None:
            x, y = key(x), key(y)
        return y < x if reverse else x < y

    n, width = len(items), 1
    found = [x for x in items]  # noqa: C416
    while width < n:
        merged = []
        for low in range(0, n, 2 * width):
            i, middle, high = low, min(low + width, n), min(low + 2 * width, n)
            j = middle
            while i < middle or j < high:
                if j >= high or (i < middle and not before(found[j], found[i])):
                    merged.append(found[i])
                    i += 1
                else:
                    merged.append(found[j])
                    j += 1
        found, width = merged, 2 * width
    return found
