"""The Mandelbrot set by plain nested loops that write single elements of a tensor; a PNG.

    python examples/mandelbrot.py                    # compiled; writes mandelbrot.png
    python examples/mandelbrot.py --mode eager --width 60 --height 40

For each point c of the picture z = z^2 + c is repeated from 0 until |z| > 2, and how often that
takes is written down. The loop over the rounds stops when it may: its length depends on the data.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from harness import arguments, program, report

from cellc import Tensor, ops

LEFT, RIGHT, BOTTOM, TOP = -2.2, 0.8, -1.0, 1.0


def rounds_of(x, y, most):
    """After how many rounds c = x + iy leaves the disc of radius 2; `most` where it stays."""
    a, b = 0.0, 0.0
    n = 0
    while n < most and a * a + b * b <= 4.0:
        a, b = a * a - b * b + x, 2.0 * a * b + y
        n += 1
    return n


def mandelbrot(xs, ys, most):
    """The rounds at each point of the grid, by rows from ys[0]."""
    picture = ops.zeros((len(ys), len(xs)), dtype="int32")
    for i in range(len(ys)):
        for j in range(len(xs)):
            picture[i, j] = rounds_of(float(xs[j]), float(ys[i]), most)
    return picture


def grid(width: int, height: int):
    """The points' coordinates, each axis by itself, from the top left."""
    return np.linspace(LEFT, RIGHT, width), np.linspace(TOP, BOTTOM, height)


def colours(rounds: np.ndarray, most: int) -> np.ndarray:
    """Black inside; outside blue to white by the logarithm of the rounds."""
    share = np.log1p(rounds) / np.log1p(most)
    shades = np.stack([share ** 3, share ** 1.5, share ** 0.6], axis=-1)
    shades[rounds == most] = 0
    return (255 * shades).astype(np.uint8)


def write_png(path: Path, pixels: np.ndarray) -> None:
    """An image [height, width, 3] of bytes as a PNG file (RFC 2083)."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (struct.pack(">I", len(data)) + kind + data
                + struct.pack(">I", zlib.crc32(kind + data)))

    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)       # 0: the row is not filtered
    path.write_bytes(b"\x89PNG\r\n\x1a\n"
                     + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
                     + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def main(given=None):
    options = arguments(
        __doc__, given,
        ("--width", int, 900, "at least 1", lambda n: n >= 1),
        ("--height", int, 600, "at least 1", lambda n: n >= 1),
        ("--most", int, 200, "the most rounds at a point, at least 1", lambda n: n >= 1),
        ("--out", Path, Path("mandelbrot.png"), "the file to write", lambda path: True))
    xs, ys = grid(options.width, options.height)
    picture = report("picture", program(mandelbrot, options), Tensor(xs), Tensor(ys), options.most)
    rounds = picture.asnumpy()
    write_png(options.out, colours(rounds, options.most))
    print(f"{int(rounds.sum()):,} rounds in all, {(rounds == options.most).mean():.3%} of the "
          f"points are inside; written to {options.out}")
    return rounds


if __name__ == "__main__":
    main()
