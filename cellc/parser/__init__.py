"""From Python source to a graph: an abstract interpreter over the Python AST.

It walks the user's code once with two kinds of value. *Known* values are ordinary Python objects;
work on them happens now, as Python would do it. *Traced* values are nodes of the graph; work on
them appends applies to the current builder. Where to look:

    source       the AST of a function, found in its file
    syntax       the fence: what is taken of the language, what is refused and what to write instead
    frame        the names of one activation; evaluation of expressions, execution of blocks
    expressions  statements  matching               what each kind of syntax means
    control  branches  protected  exceptions        where it goes on: branches, loops, with, try
    iteration  generators  tasks  managers          what is gone through, what is entered
    operators    attributes  text                   what is done with values
    calls  cells  objects  transforms  gradients    what is called
    builtins  sequences  library                    what is called of Python itself
    hints        what parameters promise to be
    session      guards  values  hooks              what one parse keeps, read, and marks
    transformed  rule                               records that users' functions are put into
    trace        traced                             the entry: a callable and types in, a Traced out
"""
