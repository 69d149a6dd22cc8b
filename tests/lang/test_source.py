"""A function parsed from its own lines is the same, places included, as one found in its file."""

import argparse
import ast
import dataclasses
import decimal
import linecache
import typing

import numpy.ma.core
import pytest

from cellc.parser import source


@pytest.mark.parametrize("module", [argparse, dataclasses, decimal, typing, numpy.ma.core, source],
                         ids=lambda m: m.__name__)
def test_alone_as_in_the_file(module):
    lines = linecache.getlines(module.__file__)
    text = "".join(lines)
    codes = [code for code in source._codes(compile(text, module.__file__, "exec"))
             if not code.co_name.startswith("<") and "." in code.co_qualname]
    for code in codes:
        whole = source._in_file(code, lines)
        if whole is None:
            continue                    # the body of a class
        alone = source._alone(code, lines)
        assert ast.dump(alone, include_attributes=True) == ast.dump(whole, include_attributes=True)


def test_what_never_runs_may_end_at_the_margin():
    def f(x):
        return x
        x = (
            1
)

    assert source._alone(f.__code__, linecache.getlines(__file__)) is None
    assert len(source.source_of(f).node.body) == 2
