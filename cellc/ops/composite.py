"""Gradients as functions: `grad`, `value_and_grad`, and MindSpore's `GradOperation`.

All three return a GradFunction: a record that says what to differentiate by and how to arrange the
results. What happens when it is called depends on where:

- in graph mode, or where the parser meets it, it becomes a transformed graph (`passes/grad.py`);
- in eager mode the function runs on the tape (`ops/tape.py`), once forward and once backward.

Either way gradients nest: `grad(grad(f))`. The function's result may be a tensor or number of any
shape; what is differentiated is then the sum of its elements (or their sum weighted by `sens`).
"""

from __future__ import annotations

from cellc import context
from cellc.errors import TypeFault, ValueFault
from cellc.ir.graph import current_builder
from cellc.ir.types import TensorType
from cellc.ops import tape
from cellc.parameter import Parameter, ParameterTuple
from cellc.parser import hooks
from cellc.parser.transformed import Transform


class GradFunction(Transform):
    """The gradient of `fn`: called with fn's arguments, it gives gradients and perhaps the value.

    argnums     positions of arguments to differentiate by: an int, a tuple, or None for none
    weights     a Parameter, or a tuple of them, to differentiate by as well; None for none
    has_aux     fn returns (value, aux...); only the value is differentiated, the rest handed on
    with_value  whether the value is returned as well
    get_all, get_by_list, sens_param: GradOperation's way of saying these (`argnums` is None then)

    Results: `arrange` below. A class rather than a closure, so that the compiler can recognise it.
    """

    kind = "grad"

    def __init__(self, fn, argnums=0, weights=None, has_aux=False, with_value=False, get_all=None,
                 get_by_list=False, sens_param=False):
        self.fn, self.argnums, self.weights = fn, argnums, weights
        self.has_aux, self.with_value = has_aux, with_value
        self.get_all, self.get_by_list, self.sens_param = get_all, get_by_list, sens_param
        self.__name__ = f"grad of {getattr(fn, '__name__', type(fn).__name__)}"

    @property
    def options(self):
        """What distinguishes two gradients of one function."""
        return (self.argnums, tuple(map(id, self.weight_list)), type(self.weights), self.has_aux,
                self.with_value, self.get_all, self.get_by_list, self.sens_param)

    @property
    def weight_list(self) -> tuple:
        """The Parameters to differentiate by."""
        return listed(self.weights)

    def split(self, args: tuple):
        """(fn's own arguments, sens or None)."""
        if not self.sens_param:
            return tuple(args), None
        if not args:
            raise TypeFault("the gradient with sens_param takes fn's arguments and then sens")
        return tuple(args[:-1]), args[-1]

    def positions(self, args: tuple) -> tuple[int, ...]:
        """Which of fn's positional arguments are differentiated by.

        GradOperation with `get_all` takes all tensors; else the positions asked for must be there.
        """
        if self.get_all:
            return tuple(i for i, x in enumerate(args) if _holds_tensor(x))
        if self.argnums is None:
            return ()
        wanted = self.argnums if isinstance(self.argnums, tuple) else (self.argnums,)
        for i in wanted:
            if not -len(args) <= i < len(args):
                raise TypeFault(f"gradient by argument {i} of a call with {len(args)} positional "
                                "arguments", "pass what is differentiated by position")
        return tuple(i % len(args) for i in wanted)

    def arrange(self, result, inputs: tuple, weights: tuple):
        """The results as MindSpore arranges them, from fn's result and the gradients found.

        Gradients: by one position the gradient itself, by a tuple (or get_all) a tuple; by one
                   Parameter the gradient itself, by several a tuple; by both a pair
                   (inputs, weights).
        Before them the value if wanted: all that fn returned. Without it, aux follows as a tuple.
        """
        single = not self.get_all and not isinstance(self.argnums, tuple)
        of_inputs = inputs[0] if single and inputs else tuple(inputs)
        of_weights = weights[0] if isinstance(self.weights, Parameter) else tuple(weights)
        if self.weights is None:
            gradients = of_inputs
        elif self.argnums is None and not self.get_all:
            gradients = of_weights
        else:
            gradients = (of_inputs, of_weights)
        if self.with_value:
            return result, gradients
        return (gradients, tuple(result[1:])) if self.has_aux else gradients

    def eager(self, args, kwargs):
        return tape.gradient(self, args, kwargs)


def _outside(record: Transform, args: tuple, kwargs: dict):
    """A call of a transformed function from Python: compiled in graph mode, else at once."""
    if record.kind == "linear":
        tape.refuse(record, args)
    if current_builder() is None and (context.is_graph() or record.kind == "linear"):
        from cellc import compile

        return compile.call(record, args, kwargs)
    return record.eager(args, kwargs)


hooks.register_outside(_outside)


def listed(weights) -> tuple:
    """Weights as `weights_of` gives them, one by one."""
    if weights is None:
        return ()
    return (weights,) if isinstance(weights, Parameter) else tuple(weights)


def _holds_tensor(x) -> bool:
    """Whether an argument is a tensor or a structure of them, and not of numbers."""
    if isinstance(x, (tuple, list)):
        return bool(x) and all(map(_holds_tensor, x))
    if isinstance(x, dict):
        return bool(x) and all(map(_holds_tensor, x.values()))
    return isinstance(getattr(x, "type", None), TensorType) or hasattr(x, "__array_interface__")


# -- what users call ------------------------------------------------------------------------------


def position_of(argnums, grad_position):
    if grad_position is not UNSET:
        if argnums is not UNSET:
            raise TypeFault("argnums and grad_position are two names for one thing: give one")
        argnums = grad_position
    if argnums is UNSET:
        return 0
    if isinstance(argnums, list):
        argnums = tuple(argnums)
    if grad_position is not UNSET and isinstance(argnums, tuple) and len(argnums) == 1:
        argnums = argnums[0]        # as MindSpore has it
    wanted = argnums if isinstance(argnums, tuple) else () if argnums is None else (argnums,)
    if any(isinstance(i, bool) or not isinstance(i, int) for i in wanted) or argnums == ():
        raise TypeFault(f"argnums is {argnums!r}", "an int, a tuple of ints, or None")
    if len(set(wanted)) != len(wanted):
        raise ValueFault(f"argnums {argnums} names an argument twice")
    return argnums


def weights_of(weights):
    if weights is None or isinstance(weights, Parameter):
        return weights
    if not isinstance(weights, (tuple, list)):
        raise TypeFault(f"weights is {type(weights).__name__}",
                        "a Parameter, or a tuple or list of them: net.trainable_params()")
    return ParameterTuple(weights)


UNSET = object()


def _gradient(fn, argnums, weights, has_aux, with_value):
    if not callable(fn):
        raise TypeFault(f"the gradient of {type(fn).__name__}, expected a function or a cell")
    if argnums is None and weights is None:
        raise ValueFault("a gradient by nothing: argnums and weights are both None",
                         "argnums=0, or weights=net.trainable_params()")
    return GradFunction(fn, argnums, weights_of(weights), bool(has_aux), with_value)


def mutable(input_data, dynamic_len=False):
    """input_data itself. MindSpore's mark of a number or tuple that may differ from call to call.

    Numbers and tuples given to a compiled call are its arguments here in any case.
    """
    return input_data


def grad(fn, grad_position=UNSET, weights=None, has_aux=False, *, argnums=UNSET):
    """The gradient of fn by some of its arguments and of its weights.

    grad_position: an int, or a tuple of one, gives one gradient, a tuple a tuple of them, None
             none. argnums: the same, but a tuple of one gives a tuple of one.
    weights: a Parameter or several; the result is then (by arguments, by weights).
    has_aux: fn returns (value, aux, ...); the result is (gradients, (aux, ...)).
    Errors:  TypeFault for arguments that are no floats or are not there.

        cellc.grad(cellc.ops.tanh)(2.0)            # 0.07065082
    """
    return _gradient(fn, position_of(argnums, grad_position), weights, has_aux, False)


def value_and_grad(fn, grad_position=UNSET, weights=None, has_aux=False, *, argnums=UNSET):
    """(what fn returns, its gradients as `grad` gives them) in one go.

        loss, gradients = cellc.value_and_grad(forward, None, net.trainable_params())(x, y)
    """
    return _gradient(fn, position_of(argnums, grad_position), weights, has_aux, True)


class GradOperation:
    """MindSpore's gradient: GradOperation(get_all, get_by_list, sens_param)(fn, weights).

    Without flags the gradient by the first input; `get_all` a tuple by all tensor inputs;
    `get_by_list` by the weights (those fn trains where none are given); both flags a pair of the
    two. With `sens_param` the last argument of the call is the cotangent of the result.
    """

    def __init__(self, get_all=False, get_by_list=False, sens_param=False):
        for name, flag in (("get_all", get_all), ("get_by_list", get_by_list),
                           ("sens_param", sens_param)):
            if not isinstance(flag, bool):
                raise TypeFault(f"GradOperation: {name} is {flag!r}, expected a bool")
        self.get_all, self.get_by_list, self.sens_param = get_all, get_by_list, sens_param

    def __call__(self, fn, weights=None):
        if not callable(fn):
            raise TypeFault(f"the gradient of {type(fn).__name__}, expected a function or a cell")
        if self.get_by_list and weights is None:
            if not hasattr(fn, "trainable_params"):
                raise ValueFault("get_by_list needs the weights of a function",
                                 "grad_op(fn, ParameterTuple(net.trainable_params()))")
            weights = fn.trainable_params()
        first = 0 if not self.get_all and not self.get_by_list else None
        return GradFunction(fn, first, weights_of(weights) if self.get_by_list else None,
                            get_all=self.get_all, get_by_list=self.get_by_list,
                            sens_param=self.sens_param)
