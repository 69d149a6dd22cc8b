"""Random bits: counter-based, so that any element can be computed alone, in any order, anywhere.

Philox4x32-10. Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3",
SC 2011. Element i of a result is word i % 4 of the block whose counter is (i // 4, offset), both as
two words of 32 bits, under the key seed. Whoever draws twice adds one to the offset in between.
"""

from __future__ import annotations

import math

import numpy as np

from cellc.errors import TypeFault
from cellc.ir.graph import fill, primitive
from cellc.ir.prims import elementwise as e
from cellc.ir.prims import shape as s
from cellc.ir.prims.checks import shape_of, takes_tensor
from cellc.ir.types import TensorType, u32, u64

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)      # what each of the two key words gains every round
ROUNDS = 10
PIECE = 4096      # blocks at a time: what fits the nearest cache


def philox(counter, key) -> list[np.ndarray]:
    """Four words of 32 bits from a counter of four and a key of two (arrays of u64 below 2**32)."""
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    c = list(np.broadcast_arrays(*(np.asarray(word, np.uint64) for word in counter)))
    k = [np.asarray(word, np.uint64) for word in key]
    for _ in range(ROUNDS):
        first, second = c[0] * np.uint64(MULTIPLIERS[0]), c[2] * np.uint64(MULTIPLIERS[1])
        c = [(second >> half) ^ c[1] ^ k[0], second & low, (first >> half) ^ c[3] ^ k[1],
             first & low]
        k = [(word + np.uint64(weyl)) & low for word, weyl in zip(k, WEYL, strict=True)]
    return [word.astype(np.uint32) for word in c]


def _bits(key, shape):
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    n = math.prod(shape)
    seed, offset = (np.asarray(word, np.uint64) for word in key)
    blocks = np.empty(((n + 3) // 4, 4), np.uint32)
    for start in range(0, len(blocks), PIECE):
        piece = blocks[start:start + PIECE]
        block = np.arange(start, start + len(piece), dtype=np.uint64)
        counter = [block & low, block >> half, offset & low, offset >> half]
        np.stack(philox(counter, [seed & low, seed >> half]), axis=1, out=piece)
    return blocks.reshape(-1)[:n].reshape(shape)


def philox_words(b, block, seed, offset) -> list:
    """The four words of block number `block`, over a back end's scalar operations; all three u64.

    `b.cast` from u64 to u32 keeps the low half. A loop that fills four elements a round wants this.
    """
    def halves(x):
        return [b.cast(x, u32), b.cast(b.shr(x, b.const(32, u64)), u32)]

    def word(value: int):
        return b.const(value, u32)

    c, k = [*halves(block), *halves(offset)], halves(seed)
    for i in range(ROUNDS):
        if i:
            k = [b.add(half, word(weyl)) for half, weyl in zip(k, WEYL, strict=True)]
        m0, m1 = map(word, MULTIPLIERS)
        c = [b.bit_xor(b.bit_xor(b.mulhi(c[2], m1), c[1]), k[0]), b.mul(c[2], m1),
             b.bit_xor(b.bit_xor(b.mulhi(c[0], m0), c[3]), k[1]), b.mul(c[0], m0)]
    return c


def philox_element(b, index, seed, offset):
    """Element number `index` (u64) of the result: one word of its block."""
    words = philox_words(b, b.shr(index, b.const(2, u64)), seed, offset)
    lane = b.bit_and(b.cast(index, u32), b.const(3, u32))
    result = words[3]
    for i in (2, 1, 0):
        result = b.select(b.eq(lane, b.const(i, u32)), words[i], result)
    return result


class _Blocks:
    """`b` of `philox_words` over tensors of one shape: the same words, as elementwise applies."""

    def __init__(self, shape):
        self.shape = shape

    def const(self, value, dtype):
        return fill(TensorType(dtype, self.shape), value)

    def cast(self, x, dtype):
        return e.cast(x, dtype=dtype)

    def __getattr__(self, name):
        return getattr(e, name)


def _batch(n, lanes, key, shape):
    """Each lane's words from its own key."""
    count = math.prod(shape)
    blocks = (n, (count + 3) // 4)
    seed, offset = (
        s.broadcast(s.slice(key, starts=(0, i), stops=(n, i + 1), steps=(1, 1)),
                    shape=blocks, dims=(0, 1)) for i in range(2))
    block = s.iota(shape=blocks, axis=1, dtype=u64)
    words = [s.reshape(word, shape=(*blocks, 1))
             for word in philox_words(_Blocks(blocks), block, seed, offset)]
    row = s.reshape(s.concat(*words, axis=2), shape=(n, blocks[1] * 4))
    row = s.slice(row, starts=(0, 0), stops=(n, count), steps=(1, 1))
    return s.reshape(row, shape=(n, *shape))


def _types(key, shape):
    if takes_tensor("random_bits", key) != TensorType(u64, (2,)):
        raise TypeFault(f"random_bits: found key {key}, expected u64[2]")
    return TensorType(u32, shape_of("random_bits", shape))


random_bits = primitive(
    "random_bits", "key", doc="Uniform 32-bit words from a key (seed, offset): Philox4x32-10.",
    kind="kernel", types=_types, eval=_bits, vjp=None, batch=_batch,    # discrete: no gradient
    samples=lambda: [([np.array([0, 0], np.uint64)], {"shape": (2, 5)}),
                     ([np.array([2**40 + 3, 7], np.uint64)], {"shape": ()})])
