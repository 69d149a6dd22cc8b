"""Text to machine code: values, caches, faults, unloading, threads."""

import ctypes
import os
import stat
import subprocess
import sys

import pytest

from cellc.kernels import engine
from cellc.kernels.objectcache import ObjectCache

ADD = "define i64 @add(i64 %a, i64 %b) {\n  %s = add i64 %a, %b\n  ret i64 %s\n}\n"


def call(address, *arguments):
    function = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * len(arguments))(address)
    return function(*arguments)


def numbered(n):
    return ADD.replace("%s = add i64 %a, %b", f"%t = add i64 %a, %b\n  %s = add i64 %t, {n}")


@pytest.mark.parametrize("opt", [0, 1, 2])
def test_compiled_code_runs(tmp_path, opt):
    loaded = engine.load(engine.compile_text(ADD, opt, tmp_path, check=True))
    assert call(loaded.address("add"), 40, 2) == 42


def test_scalar_text_is_vectorised_by_the_pipeline(tmp_path):
    loop = """
define void @scale(ptr noalias %x, ptr noalias %y) {
entry:
  br label %body
body:
  %i = phi i64 [ 0, %entry ], [ %n, %body ]
  %p = getelementptr float, ptr %x, i64 %i
  %q = getelementptr float, ptr %y, i64 %i
  %v = load float, ptr %p
  %w = fmul float %v, %v
  store float %w, ptr %q
  %n = add i64 %i, 1
  %c = icmp eq i64 %n, 4096
  br i1 %c, label %done, label %body
done:
  ret void
}
"""
    assert engine.compile_text(loop, 0, tmp_path) != engine.compile_text(loop, 2, tmp_path)


def test_same_names_in_two_objects_do_not_meet(tmp_path):
    first, second = (engine.load(engine.compile_text(numbered(n), 0, tmp_path)) for n in (1, 2))
    assert call(first.address("add"), 0, 0) == 1
    assert call(second.address("add"), 0, 0) == 2


def test_symbols_come_from_the_caller_and_from_the_process(tmp_path):
    text = ("declare i64 @given(i64)\ndeclare i64 @labs(i64)\n"
            "define i64 @f(i64 %x) {\n  %a = call i64 @labs(i64 %x)\n"
            "  %b = call i64 @given(i64 %a)\n  ret i64 %b\n}\n")
    triple = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(lambda x: 3 * x)
    address = ctypes.cast(triple, ctypes.c_void_p).value
    loaded = engine.load(engine.compile_text(text, 0, tmp_path), {"given": address}, ["f"])
    assert call(loaded.address("f"), -5) == 15


def test_an_unknown_symbol_is_a_fault(tmp_path):
    text = ("declare void @no_such_thing()\n"
            "define void @f() {\n  call void @no_such_thing()\n  ret void\n}\n")
    with pytest.raises(engine.CompileFault, match="materialize"):
        engine.load(engine.compile_text(text, 0, tmp_path), exports=["f"])


def test_bad_text_is_a_fault_with_llvms_words(tmp_path):
    with pytest.raises(engine.CompileFault, match="expected"):
        engine.compile_text("define i64 @f( {", 0, tmp_path)


def test_memory_then_disk_then_compiler(tmp_path):
    engine.forget()
    before = engine.timings()
    text = numbered(77)
    data = engine.compile_text(text, 0, tmp_path)
    assert engine.compile_text(text, 0, tmp_path) == data
    engine.forget()
    assert engine.compile_text(text, 0, tmp_path) == data
    after = engine.timings()
    assert after.compiled == before.compiled + 1
    assert after.memory_hits == before.memory_hits + 1
    assert after.disk_hits == before.disk_hits + 1


def test_a_corrupted_file_is_compiled_again(tmp_path):
    text = numbered(78)
    data = engine.compile_text(text, 0, tmp_path)
    path = tmp_path / f"{engine.object_key(text)}.o"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    engine.forget()
    assert engine.compile_text(text, 0, tmp_path) == data
    engine.forget()
    before = engine.timings().disk_hits
    engine.compile_text(text, 0, tmp_path)
    assert engine.timings().disk_hits == before + 1


def test_the_directory_is_private(tmp_path):
    directory = tmp_path / "a" / "cache"
    engine.compile_text(ADD + "; private", 0, directory)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(p.stat().st_mode) == 0o600 for p in directory.iterdir())
    assert not list(directory.glob("*.part"))


def test_a_directory_others_can_write_is_not_used(tmp_path):
    directory = tmp_path / "open"
    directory.mkdir()
    directory.chmod(0o777)
    with pytest.warns(UserWarning, match="others may write"):
        engine.compile_text(ADD + "; open", 0, directory)
    assert not list(directory.iterdir())


def test_the_oldest_files_go_first(tmp_path):
    cache = ObjectCache(tmp_path, limit=10_000)
    for n in range(20):
        cache.write(f"{n:02}", bytes(900))
        os.utime(tmp_path / f"{n:02}.o", ns=(n, n))
    kept = sorted(p.stem for p in tmp_path.iterdir())
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) <= 10_000
    assert kept == [f"{n:02}" for n in range(20 - len(kept), 20)]
    assert len(kept) >= 8


def test_many_texts_on_two_threads(tmp_path):
    texts = [numbered(1000 + n) for n in range(12)]
    for n, data in enumerate((engine.submit(t, cache_dir=tmp_path).result() for t in texts)):
        assert call(engine.load(data).address("add"), 0, 0) == 1000 + n


def test_unloading_gives_the_address_space_back(tmp_path):
    data = engine.compile_text(ADD, 0, tmp_path)

    def mapped():
        with open("/proc/self/maps") as file:
            return sum("x" in line.split()[1] and not line.split()[-1].startswith("/")
                       for line in file)
    if not os.path.exists("/proc/self/maps"):
        pytest.skip("needs /proc")
    engine.load(data).address("add")
    before = mapped()
    for _ in range(50):
        engine.load(data).address("add")
    assert mapped() <= before + 2


def test_importing_the_engine_does_not_import_llvm():
    code = "import sys, cellc.kernels.engine; sys.exit('llvmlite' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
