"""From LLVM text to machine code in memory.

    data = compile_text(text)                    # object code, from the caches where possible
    loaded = load(data, {"cellc_parallel": address})
    loaded.address("main")                       # valid as long as `loaded` lives

compile_text(text, opt=0, cache_dir=None) -> bytes
    opt=0 runs no mid-level passes (the text is already vectorised), opt=1..3 run LLVM's pipeline of
    that level (for scalar text). Codegen level 2 always.
compile_many(texts, opt=0, cache_dir=None) -> list[bytes]
    the same for several modules, on two threads.
load(data, symbols={}) -> Loaded
    link one object; names not in `symbols` are looked up in the process (libc, libm).
timings() -> Timings
    seconds spent so far in parse, passes, codegen, load; hits and misses of the caches.
cpu() -> (name, features) of the machine code.
"""
