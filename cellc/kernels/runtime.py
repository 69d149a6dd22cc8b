"""The runtime: what compiled programs call, itself LLVM IR compiled once and kept on disk.

Exported to programs (resolved by name when a program is loaded):

- `void cellc_parallel(ptr fn, ptr ctx, i64 n)` runs `void fn(ptr ctx, i64 task, i64 n)` for every
  task in 0..n-1 on the pool and returns when all are done. A call from inside a task, or while
  another thread is inside a region, runs its tasks in order on the calling thread.
- `i64 cellc_threads()` is the number of threads a region may use.
- `ptr cellc_alloc(i64 bytes)`, `void cellc_free(ptr)`: 64-byte aligned blocks, recycled, so that a
  program called again touches no fresh pages. Null when there is no memory.

For Python: `load() -> Runtime` (compiled, started once per process), `symbols() -> dict[str, int]`
for `engine.load`, `set_threads(n)`, `get_threads()`, `trim()`, `set_cache_limit(bytes)`,
`memory() -> Memory`.
"""
