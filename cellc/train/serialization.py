"""Weights on disk, in the safetensors format: a header of names, dtypes and shapes, then the bytes.

    save_checkpoint(net, "net.safetensors")
    load_param_into_net(net, load_checkpoint("net.safetensors"))

A file is written beside its place and moved there when whole. A net is changed only after
everything that is to be loaded has been checked.
"""

from __future__ import annotations

import os
import tempfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import safetensors
from safetensors import SafetensorError

from cellc.errors import CheckpointFault, TypeFault, ValueFault
from cellc.ir.types import DTYPES, dtype
from cellc.nn.cell import Cell
from cellc.parameter import Parameter
from cellc.tensor import Tensor, wrap

SUFFIX = ".safetensors"
_IN_FILE = {d.name.upper(): d for d in DTYPES}          # F32, BF16, I64, BOOL, ...
_WRITER = {"format": "cellc"}


def save_checkpoint(save_obj, ckpt_file_name, append_dict=None) -> None:
    """Save the Parameters of a cell, or a dict {name: tensor}, or a list of {"name", "data"}.

    ckpt_file_name: a path; without a suffix it gets `.safetensors`. append_dict: further
    {name: value}. An existing file stays as it was until the new one is whole.
    Errors: TypeFault for what is none of these; ValueFault where two values have one name; OSError
            from the file system.
    """
    tensors = _named(save_obj)
    for name, value in (append_dict or {}).items():
        if name in tensors:
            raise ValueFault(f"the name {name!r} of append_dict is that of a parameter")
        tensors[name] = value if isinstance(value, Tensor) else Tensor(value)
    arrays = {name: t._array for name, t in tensors.items()}
    specs = {name: _spec(array) for name, array in arrays.items()}
    _write(_path(ckpt_file_name), safetensors.serialize(specs, metadata=_WRITER))


def _named(save_obj) -> OrderedDict:
    if isinstance(save_obj, Cell):
        pairs = [(p.name, p) for p in save_obj.get_parameters()]
    elif isinstance(save_obj, dict):
        pairs = list(save_obj.items())
    elif isinstance(save_obj, (list, tuple)) and all(isinstance(x, dict) for x in save_obj):
        pairs = [(x["name"], x["data"]) for x in save_obj]
    else:
        raise TypeFault(f"save_checkpoint of {type(save_obj).__name__}",
                        "a cell, a dict {name: tensor}, or a list of {'name': ..., 'data': ...}")
    found: OrderedDict = OrderedDict()
    for name, value in pairs:
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise TypeFault(f"save_checkpoint: found {name!r}: {type(value).__name__}, expected a "
                            "name and a tensor")
        if name in found and found[name] is not value:
            raise ValueFault(f"two tensors are named {name!r}", "name them apart")
        found[name] = value
    return found


def _spec(array: np.ndarray):
    """One tensor as safetensors takes it; its interface changed with 0.8."""
    of = dtype(array.dtype).long_name
    if hasattr(safetensors, "TensorSpec"):
        return safetensors.TensorSpec(dtype=of, shape=list(array.shape),
                                      data_ptr=array.ctypes.data, data_len=array.nbytes)
    return {"dtype": of, "shape": list(array.shape), "data": array.tobytes()}


def _path(name) -> Path:
    path = Path(name)
    return path if path.suffix else path.with_suffix(SUFFIX)


def _write(path: Path, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name + ".")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def load_checkpoint(ckpt_file_name, net=None, strict_load=False, filter_prefix=None) -> OrderedDict:
    """The Parameters in a file by name; with `net` they are loaded into it as well.

    filter_prefix: a str or several: names that begin so are left out.
    Errors: CheckpointFault for a file that is missing, truncated, damaged or (with `net`) from
            another net.
    """
    path = _path(ckpt_file_name)
    try:
        stored = safetensors.deserialize(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointFault(f"there is no checkpoint {path}") from None
    except SafetensorError as error:
        raise CheckpointFault(f"{path} is no whole checkpoint: {error}",
                              "save it again with save_checkpoint(net, path)") from None
    prefixes = (filter_prefix,) if isinstance(filter_prefix, str) else tuple(filter_prefix or ())
    found: OrderedDict = OrderedDict()
    for name, entry in sorted(stored, key=lambda item: item[0]):
        if not name.startswith(prefixes) or not prefixes:
            found[name] = _parameter(path, name, entry)
    if net is not None:
        load_param_into_net(net, found, strict_load)
    return found


def _parameter(path: Path, name: str, entry: dict) -> Parameter:
    of = _IN_FILE.get(entry["dtype"])
    if of is None:
        raise CheckpointFault(f"{path}: {name} has the dtype {entry['dtype']}, which cellc has not")
    array = np.frombuffer(entry["data"], of.numpy).reshape(entry["shape"])
    return Parameter(wrap(array, None), name=name)


def load_param_into_net(net, parameter_dict, strict_load=False):
    """Set a net's Parameters to those of the same name.

    Returns (names of the net that were not in the dict, names of the dict that are not in the net).
    Errors: CheckpointFault where a shape differs, a dtype cannot be cast, no name fits at all, or
            with `strict_load` any name of the net is missing. Nothing has been changed then.
    """
    if not isinstance(net, Cell):
        raise TypeFault(f"load_param_into_net into {type(net).__name__}, expected a cell")
    if not isinstance(parameter_dict, dict):
        raise TypeFault(f"load_param_into_net from {type(parameter_dict).__name__}",
                        "the dict that load_checkpoint returns")
    own = net.parameters_dict()
    missing = [name for name in own if name not in parameter_dict]
    unused = [name for name in parameter_dict if name not in own]
    if own and len(missing) == len(own):
        raise CheckpointFault(f"no parameter of the net is in the checkpoint: the net has "
                              f"{_some(own)}, the checkpoint {_some(parameter_dict)}",
                              "load the checkpoint of this net")
    if strict_load and missing:
        raise CheckpointFault(f"the checkpoint lacks {_some(missing)}", "strict_load=False")
    for name, parameter in own.items():
        if name in parameter_dict:
            _check_fits(parameter, parameter_dict[name])
    for name, parameter in own.items():
        if name in parameter_dict:
            parameter.set_data(parameter_dict[name])
    return missing, unused


def _some(names) -> str:
    names = list(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _check_fits(parameter: Parameter, value) -> None:
    if not isinstance(value, Tensor):
        raise TypeFault(f"{parameter.name}: found {type(value).__name__}, expected a tensor")
    if value.shape != parameter.shape:
        raise CheckpointFault(f"{parameter.name} has the shape {list(parameter.shape)}, in the "
                              f"checkpoint {list(value.shape)}", "load the checkpoint of this net")
    if value.dtype.kind != parameter.dtype.kind:
        raise CheckpointFault(f"{parameter.name} is {parameter.dtype}, in the checkpoint "
                              f"{value.dtype}", "load the checkpoint of this net")
