"""Record what MindSpore gives for the programs, in graph mode: run where MindSpore is installed.

    python tests/data/make_mindspore_expected.py            # all programs
    python tests/data/make_mindspore_expected.py grad_ nn_  # those whose names begin so

Writes mindspore_expected.json beside this file; entries of programs that are gone are dropped.
"""

import json
import os
import sys
import tempfile
import warnings
from pathlib import Path

os.environ["PROGRAMS_OF"] = "mindspore"
os.environ.setdefault("GLOG_v", "4")
warnings.simplefilter("ignore")

from mindspore_programs import PROGRAMS, encode  # noqa: E402
from mindspore_programs.surface import context, ms  # noqa: E402

FILE = Path(__file__).resolve().with_name("mindspore_expected.json")


def main(prefixes: list[str]) -> None:
    context.set_context(mode=context.GRAPH_MODE, device_target="CPU")
    known = json.loads(FILE.read_text(encoding="utf-8"))["results"] if FILE.exists() else {}
    results = {name: known[name] for name in PROGRAMS if name in known}
    for name, program in PROGRAMS.items():
        if prefixes and not name.startswith(tuple(prefixes)):
            continue
        if program.instead is not None:
            results.pop(name, None)
            continue
        try:
            results[name] = encode(program.run())
        except Exception as error:      # MindSpore refuses it: to be seen by whoever runs this
            results.pop(name, None)
            print(f"{name}: {type(error).__name__}: {str(error).strip()[:400]}", file=sys.stderr)
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(results[name], separators=(',', ':'))}"
                       for name in sorted(results))
    FILE.write_text(f'{{"mindspore": {json.dumps(ms.__version__)}, "results": {{\n{lines}\n}}}}\n',
                    encoding="utf-8")
    print(f"{len(results)} of {len(PROGRAMS)} programs recorded")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)    # MindSpore leaves files about what it cannot compile
        main(sys.argv[1:])
        os.chdir("/")
