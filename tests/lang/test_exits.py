"""Ways out of loops that the program runs, with lists whose length only it knows."""

import numpy as np
import pytest
from same import same_everywhere

import cellc

STARTS = ((0.9, 3), (0.3, 8), (5.0, 50), (0.05, 10))


def a_list_that_another_way_binds_anew(x, n):
    ys, i = [], 0
    while i < n:
        i += 1
        if x > 0.1:
            for _ in range(n):
                if x > 0.5:
                    ys.append(x)
                    x = x * 0.9
                if x < 0.2:
                    ys.append(3 * x)
                    return x, ys
                x = x * 0.95
        else:
            x = x * 1.5
            ys = [x]
            ys.append(x)
    return x + 1.0, ys


def one_of_two_lists(x, n):
    ys, zs, i = [], [], 0
    while i < n:
        i += 1
        if x > 0.5:
            ys.append(x)
            x = x * 0.9
            zs.append(2 * x)
        if x < 0.2:
            return x, ys
        if x > 4.0:
            return x, zs
        x = x * 0.95
    return x + 1.0, ys


def a_known_list_or_one_that_grows(x, n):
    ys = []
    for _ in range(n):
        for _ in range(n):
            if x > 0.5:
                ys.append(x)
                x = x * 0.9
            if x < 0.2:
                return x, ys
            if x > 4.0:
                return x, []
            if x > 3.0:
                return x, [x]
            x = x * 0.95
    return x + 1.0, ys


def made_in_the_round(x, n):
    for _ in range(n):
        ys = []
        for _ in range(n):
            if x > 0.5:
                ys.append(x)
                x = x * 0.9
            if x < 0.2:
                return x, ys
            x = x * 0.95
    return x + 1.0, [x]


def bound_anew_by_a_finally(x, n):
    ys = []
    for _ in range(n):
        try:
            for _ in range(n):
                if x > 0.5:
                    ys.append(x)
                    x = x * 0.9
                if x < 0.2:
                    return x, ys
                x = x * 0.95
        finally:
            ys = [x * 2]
    return x + 1.0, ys


def a_variable_that_is_a_number_on_the_way_that_goes_on(x, n):
    i = r = 0
    while i < n:
        i += 1
        r = []
        while x > 0.3:
            x = x * 0.8
            r.append(x)
            if i > 2:
                return x, r
        r = x
        x = x + 1.0
    return x + r, [x]


def in_functions_called_in_rounds(x, n):
    def go(x):
        ys = []
        while x < 5.0:
            x = x * 1.3
            ys.append(x)
            if x > 2.5:
                return ys, x
            ys = ys[1:]
        return ys, x

    total = []
    for _ in range(n):
        a, x = go(x)
        total += a
        if x > 3.0:
            x = x * 0.1
        if x < 0.05:
            return x, total
    return x, total


def what_only_a_way_that_returns_makes_is_no_state(x, n):
    kind = 0.0
    while n > 0:
        n -= 1
        if x > 0.7:
            kind = "large"
            return x, len(kind)
        kind = kind + x
        x = x * 1.1
    return x + kind, 0


LISTS = (a_list_that_another_way_binds_anew, one_of_two_lists, a_known_list_or_one_that_grows,
         made_in_the_round, bound_anew_by_a_finally)
OTHERS = (a_variable_that_is_a_number_on_the_way_that_goes_on, in_functions_called_in_rounds,
          what_only_a_way_that_returns_makes_is_no_state)


@pytest.mark.parametrize("args", STARTS)
@pytest.mark.parametrize("program", (*LISTS, *OTHERS))
def test_values(program, args):
    same_everywhere(args)(program)(args)


@pytest.mark.parametrize("args", STARTS)
@pytest.mark.parametrize("program", LISTS)
def test_gradients(program, args):
    def loss(x, n):
        a, ys = program(x, n)
        return a + 0.5 * sum([y * y for y in ys], 0.0)

    x, n = args
    slope = (float(loss(x + 1e-6, n)) - float(loss(x - 1e-6, n))) / 2e-6
    np.testing.assert_allclose(cellc.jit(cellc.grad(loss))(x, n), slope, rtol=1e-6)
