"""The measurements as tables of Markdown."""

from benchmarks.runner import CELLC
from benchmarks.workloads import WORKLOADS


def markdown(report: dict) -> str:
    """Every table that the report has rows for."""
    rows = report["workloads"]
    steady = {name: row for name, row in rows.items() if name in WORKLOADS}
    starts = {name: row for name, row in rows.items() if name not in WORKLOADS}
    parts = [_machine(report)]
    if steady:
        limits = report["limits"]
        parts += ["One call, median:", _table(steady, "median", _time, limits)]
        parts += ["First call, nothing cached:", _table(steady, "first", _time)]
        parts += ["Peak memory of the process:", _table(steady, "bytes", _megabytes)]
    for state in ("cold", "warm"):
        if starts:
            parts += [f"Process start to first loss, {state} cache:"]
            parts += [_table(starts, f"{state} process", _time)]
            parts += [f"of that the first call, {state} cache:"]
            parts += [_table(starts, f"{state} first", _time)]
    return "\n\n".join(parts) + "\n"


def _machine(report: dict) -> str:
    limits = report["limits"]
    packages = ", ".join(f"{label} {version}" for label, version in report["versions"].items())
    return (
        f"{report['cpu']}, {report['threads']} threads: {limits['flops'] / 1e9:.0f} GFLOP/s of f32 "
        f"multiply-add, {limits['bytes'] / 1e9:.0f} GB/s copying. Python {report['python']}; "
        f"{packages}."
    )


def _table(rows: dict, field: str, show, limits: dict | None = None) -> str:
    """`field` of every peer in each row, and cellc's ratio to the best of the others."""
    labels = list(dict.fromkeys(label for row in rows.values() for label in row))
    head = ["workload", *labels, f"{CELLC} ÷ best"]
    if limits:
        head += ["by minima", f"{CELLC} of limit"]
    lines = [head, ["---"] + ["--:"] * (len(head) - 1)]
    for name, row in rows.items():
        line = [name] + [_entry(row.get(label), field, show) for label in labels]
        line += [_ratio(row, field)]
        if limits:
            line += [_ratio(row, "min"), _share(name, row, limits)]
        lines.append(line)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _entry(result: dict | None, field: str, show) -> str:
    if result is None:
        return "–"
    if "failed" in result:
        return "failed"
    return show(result[field]) + ("" if result.get("agrees", True) else " (differs)")


def _ratio(row: dict, field: str) -> str:
    others = [result[field] for label, result in row.items() if label != CELLC and field in result]
    ours = row.get(CELLC, {}).get(field)
    return f"{ours / min(others):.2f}" if others and ours else "–"


def _share(name: str, row: dict, limits: dict) -> str:
    """How much of the machine's limit a call of cellc's reaches, at its best."""
    bound, ours = WORKLOADS[name].bound, row.get(CELLC, {}).get("min")
    if not bound or not ours:
        return "–"
    unit, amount = bound
    return f"{amount / limits[unit] / ours:.0%}"


def _time(seconds: float) -> str:
    for unit, scale in (("s", 1), ("ms", 1e3), ("µs", 1e6)):
        if seconds * scale >= 1 or unit == "µs":
            return f"{seconds * scale:.3g} {unit}"
    raise AssertionError("the last unit takes everything")


def _megabytes(count: float) -> str:
    return f"{count / 1e6:.0f} MB"
