"""One module for each peer. Each has

    VERSION               of the package measured
    VARIANTS              names of the ways the peer can be run
    prepare(variant)      once, before anything: switches, threads
    make(workload, variant) -> call, or None where the peer has no such thing
    wait(result)          returns when the result is computed
    array(result)         the result as a NumPy array

`call()` runs the workload once on arrays already in the peer's own form and returns its result as
the peer gives it, computed or not. The arrays come from `benchmarks.workloads`.
"""
