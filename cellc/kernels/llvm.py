"""LLVM's parser and code generator, for threads that compile while another one writes text.

llvmlite gives up the GIL at each of its calls, and holds a lock for the whole process meanwhile.
Behind the lock two threads that generate code would be no faster than one; contexts and target
machines belong to one thread here, and LLVM asks for no more. Nor should a call of microseconds
give up the GIL: where another thread is computing it comes back after 5 ms, and each kernel makes a
dozen such calls. So they are made past llvmlite: the long ones without the GIL, the short ones
with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import threading
from types import SimpleNamespace

from cellc import config
from cellc.kernels.target import host


@functools.cache
def binding():
    """llvmlite's own interface, imported and initialised when first needed."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()      # inline assembly aborts the process without it
    return llvm


@functools.cache
def cpu() -> tuple[str, str]:
    """Name and feature string of the CPU that code is generated for."""
    target = host(config.get("CPU") or None)
    return target.name, target.features


@functools.cache
def identity() -> str:
    """What object code depends on besides its text."""
    import llvmlite

    version = ".".join(map(str, binding().llvm_version_info))
    return "\n".join([*cpu(), version, llvmlite.__version__])


def new_machine(codegen: int):
    """A target machine of the CPU, at a level of code generation."""
    name, features = cpu()
    return binding().Target.from_default_triple().create_target_machine(
        cpu=name, features=features, opt=codegen, reloc="default", codemodel="jitdefault")


_this_thread = threading.local()


def machine(codegen: int):
    """This thread's own target machine of a level: they are not thread-safe."""
    machines = _this_thread.__dict__.setdefault("machines", {})
    if codegen not in machines:
        machines[codegen] = new_machine(codegen)
    return machines[codegen]


@functools.cache
def _calls() -> SimpleNamespace:
    from llvmlite.binding import ffi

    context, module = ffi.LLVMContextRef, ffi.LLVMModuleRef
    buffer, text = ffi.LLVMMemoryBufferRef, ctypes.c_char_p
    fault = ctypes.POINTER(ctypes.c_void_p)
    without_gil, with_gil = ctypes.CDLL(ffi.lib._name), ctypes.PyDLL(ffi.lib._name)

    def call(library, name: str, result, *arguments):
        function = getattr(library, f"LLVMPY_{name}")
        function.argtypes, function.restype = arguments, result
        return function

    return SimpleNamespace(
        parse=call(without_gil, "ParseAssembly", module, context, text, fault),
        verify=call(without_gil, "VerifyModule", ctypes.c_bool, module, fault),
        emit=call(without_gil, "TargetMachineEmitToMemory", buffer, ffi.LLVMTargetMachineRef,
                  module, ctypes.c_int, fault),
        create_context=call(with_gil, "ContextCreate", context),
        dispose_context=call(with_gil, "ContextDispose", None, context),
        dispose_module=call(with_gil, "DisposeModule", None, module),
        dispose_buffer=call(with_gil, "DisposeMemoryBuffer", None, buffer),
        dispose_string=call(with_gil, "DisposeString", None, ctypes.c_void_p),
        set_triple=call(with_gil, "SetTarget", None, module, text),
        set_layout=call(with_gil, "SetDataLayout", None, module, text),
        start=call(with_gil, "GetBufferStart", ctypes.c_void_p, buffer),
        size=call(with_gil, "GetBufferSize", ctypes.c_size_t, buffer))


@functools.cache
def _target() -> tuple[bytes, bytes]:
    """The triple and the data layout of this machine."""
    return (binding().get_default_triple().encode(),
            str(new_machine(0).target_data).encode())


@contextlib.contextmanager
def module(text: str, check: bool):
    """A text as a module, in a context of its own; RuntimeError with LLVM's message."""
    calls, fault, made = _calls(), ctypes.c_void_p(), None
    context = calls.create_context()
    try:
        made = calls.parse(context, text.encode(), ctypes.byref(fault))
        if not made:
            raise RuntimeError(f"LLVM IR parsing error\n{_taken(fault)}")
        triple, layout = _target()
        calls.set_triple(made, triple)
        calls.set_layout(made, layout)
        if check and calls.verify(made, ctypes.byref(fault)):
            raise RuntimeError(_taken(fault))
        yield made
    finally:
        if made:
            calls.dispose_module(made)
        calls.dispose_context(context)


def _taken(fault: ctypes.c_void_p) -> str:
    """A message that LLVM allocated, freed."""
    if not fault:
        return "LLVM gave no reason"
    try:
        return ctypes.string_at(fault.value).decode()
    finally:
        _calls().dispose_string(fault)


def run_passes(machine, module, opt: int) -> None:
    """LLVM's mid-level passes: none at 0, at 1 variables become registers, from 2 its pipelines."""
    llvm = binding()
    if opt == 0:
        return
    options = llvm.create_pipeline_tuning_options(speed_level=opt)
    builder = llvm.create_pass_builder(machine, options)
    if opt > 1:
        passes = builder.getModulePassManager()
    else:
        passes = llvm.create_new_module_pass_manager()
        passes.add_sroa_pass()
    passes.run(module, builder)


def emit(machine, module) -> bytes:
    """The object code of a module; RuntimeError with LLVM's message."""
    calls, fault = _calls(), ctypes.c_void_p()
    buffer = calls.emit(machine._ptr, module, 1, ctypes.byref(fault))
    if not buffer:
        raise RuntimeError(_taken(fault))
    try:
        return ctypes.string_at(calls.start(buffer), calls.size(buffer))
    finally:
        calls.dispose_buffer(buffer)
