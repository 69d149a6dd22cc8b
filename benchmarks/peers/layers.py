"""Layers as functions, the same for every peer: what differs is what it calls the operations.

`define(o)` takes them as attributes of `o`: matmul, softmax, layer_norm(x, gamma, beta), gelu,
relu, logsumexp(x), variance(x), conv(x, w, groups), halving(x, w), max_pool(x),
batch_norm(x, gamma, beta), swap(x, i, j), reshape, mean(x) or of an axis. Convolutions pad so that
the image keeps its size, or with half a window of zeros where they advance by two; the pooling is
of 3 x 3 by two. x is [n, c, h, w] and weights are [out, in, h, w].
"""

from types import SimpleNamespace

HEADS = 4


def define(o):
    def norms(x, gamma, beta):
        return x + o.gelu(o.layer_norm(o.softmax(x), gamma, beta))

    def norms_loss(x, gamma, beta):
        y = norms(x, gamma, beta)
        return o.mean(y * y)

    def dense(x, w, b):
        return o.relu(o.matmul(x, w) + b)

    def matmul_nt(x, y):
        return o.matmul(x, o.swap(y, 0, 1))

    def matmul_tn(x, y):
        return o.matmul(o.swap(x, 0, 1), y)

    def conv(x, w, gamma, beta):
        return o.relu(o.batch_norm(o.conv(x, w, 1), gamma, beta))

    def conv_loss(x, w, gamma, beta):
        y = conv(x, w, gamma, beta)
        return o.mean(y * y)

    def depthwise(x, w):
        return o.conv(x, w, x.shape[1])

    def pointwise(x, w):
        return o.conv(x, w, 1)

    def attention(x, w_in, w_out):
        batch, steps, width = x.shape
        qkv = o.reshape(o.matmul(x, w_in), (batch, steps, 3 * HEADS, width // HEADS))
        qkv = o.swap(qkv, 1, 2)
        q, k, v = qkv[:, :HEADS], qkv[:, HEADS:2 * HEADS], qkv[:, 2 * HEADS:]
        scores = o.softmax(o.matmul(q, o.swap(k, 2, 3)) * (width // HEADS) ** -0.5)
        y = o.reshape(o.swap(o.matmul(scores, v), 1, 2), (batch, steps, width))
        return o.matmul(y, w_out)

    def transformer(x, w_in, w_out, w_up, w_down, gamma1, beta1, gamma2, beta2):
        x = x + attention(o.layer_norm(x, gamma1, beta1), w_in, w_out)
        y = o.gelu(o.matmul(o.layer_norm(x, gamma2, beta2), w_up))
        return x + o.matmul(y, w_down)

    def transformer_loss(x, *weights):
        y = transformer(x, *weights)
        return o.mean(y * y)

    def block(x, w1, gamma1, beta1, w2, gamma2, beta2):
        y = o.relu(o.batch_norm(o.conv(x, w1, 1), gamma1, beta1))
        return o.relu(x + o.batch_norm(o.conv(y, w2, 1), gamma2, beta2))

    def halving_block(x, w1, gamma1, beta1, w2, gamma2, beta2, w, gamma, beta):
        y = o.relu(o.batch_norm(o.halving(x, w1), gamma1, beta1))
        y = o.batch_norm(o.conv(y, w2, 1), gamma2, beta2)
        return o.relu(o.batch_norm(o.halving(x, w), gamma, beta) + y)

    def resnet(x, w, gamma, beta, *rest):
        x = o.max_pool(o.relu(o.batch_norm(o.halving(x, w), gamma, beta)))
        x = block(block(x, *rest[:6]), *rest[6:12])
        x = block(halving_block(x, *rest[12:21]), *rest[21:27])
        x = block(halving_block(x, *rest[27:36]), *rest[36:42])
        x = block(halving_block(x, *rest[42:51]), *rest[51:57])
        n, channels, height, width = x.shape
        x = o.mean(o.reshape(x, (n, channels, height * width)), 2)
        return o.matmul(x, rest[57]) + rest[58]

    def resnet_loss(x, *weights):
        y = resnet(x, *weights)
        return o.mean(y * y)

    return SimpleNamespace(
        norms=norms, norms_loss=norms_loss, dense=dense, matmul_nt=matmul_nt, matmul_tn=matmul_tn,
        conv=conv, conv_loss=conv_loss, depthwise=depthwise, pointwise=pointwise,
        logsumexp=o.logsumexp, variance=o.variance, batched=o.matmul, gemv=o.matmul,
        transformer=transformer, transformer_loss=transformer_loss, resnet=resnet,
        resnet_loss=resnet_loss)
