"""examples/mandelbrot.py against NumPy, and its PNG read back."""

import struct
import zlib

import mandelbrot
import numpy as np


def counted(xs, ys, most):
    """The rounds by whole arrays."""
    c = xs + 1j * ys[:, None]
    z, rounds = np.zeros_like(c), np.zeros(c.shape, np.int32)
    for _ in range(most):
        inside = z.real ** 2 + z.imag ** 2 <= 4
        rounds += inside
        z = np.where(inside, z * z + c, z)
    return rounds


def pixels_of(png: bytes) -> np.ndarray:
    """An image of unfiltered rows of RGB bytes."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    at, chunks = 8, {}
    while at < len(png):
        size, kind = struct.unpack(">I4s", png[at:at + 8])
        data = png[at + 8:at + 8 + size]
        assert struct.unpack(">I", png[at + 8 + size:at + 12 + size])[0] == zlib.crc32(kind + data)
        chunks[kind], at = data, at + 12 + size
    width, height, depth, colour = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    assert (depth, colour) == (8, 2) and b"IEND" in chunks
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, -1)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, 3)


def test_picture(main_in, tmp_path):
    expected = counted(*mandelbrot.grid(31, 20), 60)
    for mode in ("graph", "eager"):
        out = tmp_path / f"{mode}.png"
        found, text = main_in(mandelbrot, mode, "--width", 31, "--height", 20, "--most", 60,
                              "--out", out)
        # A point may leave a round later where x * x is rounded otherwise in complex arithmetic.
        assert (found != expected).mean() < 0.01
        pixels = pixels_of(out.read_bytes())
        np.testing.assert_array_equal(pixels, mandelbrot.colours(found, 60))
        np.testing.assert_array_equal((pixels == 0).all(-1), found == 60)


def test_a_large_one_is_loops(primitives):
    from cellc import Tensor

    xs, ys = mandelbrot.grid(900, 600)
    names = primitives(mandelbrot.mandelbrot, Tensor(xs), Tensor(ys), 100)
    assert names.count("while") == 3 and len(names) < 100
