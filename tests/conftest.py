"""Settings of every test run, made before cellc is first imported: it reads its switches then."""

import os
import shutil
import tempfile

import pytest

# Every pass's output is checked and read back from its text, whoever runs the tests.
os.environ["CELLC_CHECK"] = "2"
# A private, empty cache: no test may pass because of what an earlier run left on the disk.
_CACHE = tempfile.mkdtemp(prefix="cellc-test-cache-")
os.environ["CELLC_CACHE_DIR"] = _CACHE
os.environ.setdefault("MPLBACKEND", "Agg")


@pytest.fixture(autouse=True)
def settings_of_its_own():
    """What a test sets in the context holds for that test."""
    from cellc import context

    names = ("mode", "device_target", "jit_syntax_level", "max_device_threads", "fast_math",
             "autotune")
    before = {name: context.get_context(name) for name in names}
    yield
    if any(context.get_context(name) != value for name, value in before.items()):
        context.set_context(**before)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config):
    shutil.rmtree(_CACHE, ignore_errors=True)


def pytest_addoption(parser):
    parser.addoption("--update-golden", action="store_true",
                     help="write what the passes give now into tests/ir/*.ir")
