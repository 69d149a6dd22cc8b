"""effects: checks and prints as instructions of a host function, and how a program fails."""

from __future__ import annotations

from cellc.ir.graph import Apply, calling_themselves, subgraphs
from cellc.ir.types import Dim
from cellc.kernels.frame import Frame
from cellc.kernels.places import in_register
from cellc.kernels.program import ERROR_MESSAGE

_FAIL = ("check", "show", "push", "tape_new", "tape_of", "tape_add", "set_size", "resized")


class Effects:
    """What `Region` writes for effects; its registers and pointers are those of the region."""

    # -- effects -------------------------------------------------------------------------------
    def _emit_check(self, frame: Frame, node: Apply) -> None:
        f, (condition, *xs) = frame.f, node.operands
        wrong = f.op(f"xor i1 {self.register(condition)}, true")
        with frame.failing(wrong):
            self._message(frame, node, xs, "1")
            f.store("i64", str(ERROR_MESSAGE), "%error")
            self._site(frame, node.loc)

    def _emit_show(self, frame: Frame, node: Apply) -> None:
        f = frame.f
        status = self._message(frame, node, node.operands, "0")
        self._fail(frame, f.op(f"icmp ne i32 {status}, 0"), node.loc, str(ERROR_MESSAGE))

    def _message(self, frame: Frame, node: Apply, xs, wants_fault: str) -> str:
        """Call Python with a message's number and its values: their addresses, then the sizes of
        their symbolic dimensions in order."""
        f = frame.f
        words = [("ptr", frame.spilled(x.type, self.register(x)) if in_register(x.type)
                  else self.pointer(x)) for x in xs]
        words += [("i64", frame.extent(n)) for x in xs for n in x.type.shape if isinstance(n, Dim)]
        context = frame.alloca(f"[{max(1, len(words))} x i64]")
        for i, (ty, value) in enumerate(words):
            f.store(ty, value, f.gep("i64", context, str(i)))
        return f.call("i32", "cellc_message", ("i64", str(node.attrs["message"])),
                      ("i32", wants_fault), ("ptr", context))


def failing_apply(node: Apply) -> Apply | None:
    """The apply in a group (or the apply itself) whose kernel checks indices."""
    if node.prim.name in ("gather", "scatter_add", "last_entry"):
        return node
    body = node.attrs.get("graph") if node.prim.name == "fused" else None
    return next((x for x in body.body if x.prim.name == "gather"), None) if body else None


def may_end(node: Apply) -> bool:
    """Can the program end while it runs an apply: by a failure, or by an interrupt (in a loop, or
    in a function that calls itself)?"""
    if node.prim.name == "while":
        return True
    graphs = [g for inner in subgraphs(node).values() for g in inner.reachable()]
    return (bool(calling_themselves(graphs)) or may_fail(node)
            or any(inner.prim.name == "while" for g in graphs for inner in g.body))


def may_fail(node: Apply) -> bool:
    """Can running an apply end the program?"""
    if node.prim.name in ("read", "write", "accumulate", "tape_read"):
        return node.attrs.get("checked", True)
    if node.prim.name in _FAIL or failing_apply(node) is not None:
        return True
    if node.prim.name == "fused":
        return False
    return any(any(map(may_fail, g.body)) for inner in subgraphs(node).values()
               for g in inner.reachable())
