"""Layers: what they give, and their gradients by inputs and weights."""

from mindspore_programs.surface import (
    GradOperation,
    ParameterTuple,
    Tensor,
    data,
    fill,
    mstype,
    nn,
    np,
    ops,
    program,
)


def layer(name, make, *shapes, rtol=5e-5, inputs=None, train=False, calls=1, **options):
    """Record a cell's result, its gradients by its inputs and weights, and all its Parameters."""
    def run():
        net = fill(make())
        net.set_train(train)
        given = inputs() if inputs else tuple(data(*s, seed=i) for i, s in enumerate(shapes))
        for _ in range(calls):
            result = net(*given)
        sens = data(*result.shape, seed=9)
        weights = ParameterTuple(net.trainable_params())
        if len(weights) > 0:
            grad_op = GradOperation(get_all=True, get_by_list=True, sens_param=True)
            gradients = grad_op(net, weights)(*given, sens)
        else:
            gradients = GradOperation(get_all=True, sens_param=True)(net)(*given, sens)
        return result, gradients, [(p.name, p) for p in net.get_parameters()]

    program(f"layer_{name}", rtol=rtol, **options)(run)


def ids(*shape, high, dtype=np.int32):
    return (data(*shape, low=0, high=high, dtype=dtype),)


# -- Dense ----------------------------------------------------------------------------------------

layer("dense", lambda: nn.Dense(3, 4), (2, 3))
layer("dense_3d", lambda: nn.Dense(3, 4), (2, 5, 3))
layer("dense_1d", lambda: nn.Dense(3, 4), (3,))
layer("dense_no_bias", lambda: nn.Dense(3, 4, has_bias=False), (2, 3))
layer("dense_relu", lambda: nn.Dense(3, 4, activation="relu"), (2, 3))
layer("dense_cell_activation", lambda: nn.Dense(3, 4, activation=nn.Sigmoid()), (2, 3))

# -- convolution ----------------------------------------------------------------------------------

layer("conv2d_same", lambda: nn.Conv2d(2, 3, 3), (2, 2, 5, 6))
layer("conv2d_same_even", lambda: nn.Conv2d(2, 3, 2, pad_mode="same"), (1, 2, 5, 4))
layer("conv2d_same_stride", lambda: nn.Conv2d(2, 3, 3, stride=2, pad_mode="same"), (1, 2, 6, 7))
layer("conv2d_same_stride_3", lambda: nn.Conv2d(1, 2, (4, 3), stride=(3, 2), pad_mode="same"),
      (1, 1, 8, 9))
layer("conv2d_valid", lambda: nn.Conv2d(2, 3, 3, pad_mode="valid"), (2, 2, 5, 6))
layer("conv2d_valid_stride", lambda: nn.Conv2d(2, 3, 3, stride=(2, 1), pad_mode="valid"),
      (1, 2, 7, 5))
layer("conv2d_pad", lambda: nn.Conv2d(2, 3, 3, pad_mode="pad", padding=1), (1, 2, 4, 5))
layer("conv2d_pad_sides", lambda: nn.Conv2d(2, 3, 3, pad_mode="pad", padding=(0, 1, 2, 0)),
      (1, 2, 5, 4))
layer("conv2d_pad_stride", lambda: nn.Conv2d(2, 3, 3, stride=2, pad_mode="pad", padding=2),
      (1, 2, 5, 6))
layer("conv2d_bias", lambda: nn.Conv2d(2, 3, 3, has_bias=True), (2, 2, 4, 4))
layer("conv2d_dilation", lambda: nn.Conv2d(2, 3, 3, pad_mode="valid", dilation=2), (1, 2, 7, 8))
layer("conv2d_dilation_same", lambda: nn.Conv2d(2, 3, 3, dilation=(2, 1)), (1, 2, 6, 6))
layer("conv2d_group", lambda: nn.Conv2d(4, 6, 3, group=2, has_bias=True), (2, 4, 4, 5))
layer("conv2d_depthwise", lambda: nn.Conv2d(3, 3, 3, group=3), (1, 3, 5, 5))
layer("conv2d_1x1", lambda: nn.Conv2d(3, 4, 1), (2, 3, 3, 3))
layer("conv1d_same", lambda: nn.Conv1d(2, 3, 3), (2, 2, 6))
layer("conv1d_valid_stride", lambda: nn.Conv1d(2, 3, 3, stride=2, pad_mode="valid",
                                               has_bias=True), (1, 2, 8))
layer("conv1d_pad_dilation", lambda: nn.Conv1d(2, 4, 3, pad_mode="pad", padding=2, dilation=2,
                                               group=2), (1, 2, 7))

# -- pooling --------------------------------------------------------------------------------------

layer("max_pool2d", lambda: nn.MaxPool2d(kernel_size=2, stride=2), (2, 3, 4, 6))
layer("max_pool2d_overlap", lambda: nn.MaxPool2d(3, 1), (1, 2, 5, 5))
layer("max_pool2d_same", lambda: nn.MaxPool2d(3, 2, pad_mode="same"), (1, 2, 5, 6))
layer("max_pool2d_sizes", lambda: nn.MaxPool2d((2, 3), (1, 2), pad_mode="SAME"), (1, 2, 4, 5))
layer("max_pool2d_pad", lambda: nn.MaxPool2d(3, 2, pad_mode="pad", padding=1), (1, 2, 6, 6))
layer("max_pool1d", lambda: nn.MaxPool1d(kernel_size=3, stride=2), (1, 2, 8))
layer("avg_pool2d", lambda: nn.AvgPool2d(kernel_size=2, stride=2), (2, 3, 4, 6))
layer("avg_pool2d_same", lambda: nn.AvgPool2d(3, 2, pad_mode="same"), (1, 2, 5, 6))
layer("avg_pool2d_overlap", lambda: nn.AvgPool2d((2, 3), 1), (1, 2, 4, 5))
layer("avg_pool2d_pad", lambda: nn.AvgPool2d(3, 2, pad_mode="pad", padding=1), (1, 2, 6, 6))
layer("avg_pool2d_pad_not_counted", lambda: nn.AvgPool2d(3, 2, pad_mode="pad", padding=1,
                                                         count_include_pad=False), (1, 2, 6, 6))
layer("avg_pool1d", lambda: nn.AvgPool1d(kernel_size=2, stride=1), (1, 2, 6))
layer("adaptive_avg_pool2d_1", lambda: nn.AdaptiveAvgPool2d(1), (2, 3, 5, 4))
layer("adaptive_avg_pool2d", lambda: nn.AdaptiveAvgPool2d((2, 3)), (1, 2, 5, 7))
layer("adaptive_avg_pool2d_kept", lambda: nn.AdaptiveAvgPool2d((None, 2)), (1, 2, 3, 4))
layer("adaptive_avg_pool1d", lambda: nn.AdaptiveAvgPool1d(2), (1, 2, 6))

# -- normalisation --------------------------------------------------------------------------------

layer("batch_norm2d_train", lambda: nn.BatchNorm2d(3), (4, 3, 3, 2), train=True, calls=3)
layer("batch_norm2d_eval", lambda: nn.BatchNorm2d(3), (4, 3, 3, 2))
layer("batch_norm2d_momentum", lambda: nn.BatchNorm2d(2, eps=1e-3, momentum=0.5), (3, 2, 2, 2),
      train=True, calls=3)
layer("batch_norm2d_plain", lambda: nn.BatchNorm2d(2, affine=False), (3, 2, 2, 2), train=True)
layer("batch_norm2d_batch_statistics", lambda: nn.BatchNorm2d(2, use_batch_statistics=True),
      (3, 2, 2, 2))
layer("batch_norm2d_moving_statistics", lambda: nn.BatchNorm2d(2, use_batch_statistics=False),
      (3, 2, 2, 2), train=True)
layer("batch_norm1d_train", lambda: nn.BatchNorm1d(3), (5, 3), train=True, calls=3)
layer("batch_norm1d_eval", lambda: nn.BatchNorm1d(3), (5, 3))
layer("layer_norm", lambda: nn.LayerNorm((4,)), (2, 3, 4))
layer("layer_norm_axes", lambda: nn.LayerNorm((3, 4), begin_norm_axis=1, begin_params_axis=1),
      (2, 3, 4))
layer("layer_norm_epsilon", lambda: nn.LayerNorm([4], epsilon=0.1), (3, 4))
layer("group_norm", lambda: nn.GroupNorm(2, 4), (2, 4, 3, 2))
layer("group_norm_one", lambda: nn.GroupNorm(1, 4, eps=0.01), (2, 4, 3, 2))
layer("group_norm_plain", lambda: nn.GroupNorm(4, 4, affine=False), (2, 4, 3, 2))

# -- embedding, shape, dropout --------------------------------------------------------------------

layer("embedding", lambda: nn.Embedding(7, 3), inputs=lambda: ids(2, 4, high=7))
layer("embedding_i64", lambda: nn.Embedding(5, 2), inputs=lambda: ids(6, high=5, dtype=np.int64))
layer("embedding_one_hot", lambda: nn.Embedding(7, 3, use_one_hot=True),
      inputs=lambda: ids(2, 4, high=7))
layer("flatten", lambda: nn.Flatten(), (2, 3, 4))
layer("flatten_axes", lambda: nn.Flatten(start_dim=0, end_dim=1), (2, 3, 4))
layer("dropout_eval", lambda: nn.Dropout(p=0.3), (3, 4))
layer("dropout_nothing", lambda: nn.Dropout(p=0.0), (3, 4), train=True)
layer("identity", lambda: nn.Identity(), (2, 3))
layer("pad", lambda: nn.Pad(((1, 0), (2, 1))), (2, 3))

# -- activations ----------------------------------------------------------------------------------

ACTIVATIONS = {
    "relu": lambda: nn.ReLU(), "relu6": lambda: nn.ReLU6(), "leaky_relu": lambda: nn.LeakyReLU(),
    "leaky_relu_alpha": lambda: nn.LeakyReLU(0.05), "prelu": lambda: nn.PReLU(),
    "prelu_channels": lambda: nn.PReLU(channel=5, w=0.1), "elu": lambda: nn.ELU(),
"celu": lambda: nn.CELU(0.7), "gelu": lambda: nn.GELU(),
    "gelu_exact": lambda: nn.GELU(approximate=False), "silu": lambda: nn.SiLU(),
    "mish": lambda: nn.Mish(), "hswish": lambda: nn.HSwish(), "hsigmoid": lambda: nn.HSigmoid(),
    "sigmoid": lambda: nn.Sigmoid(), "log_sigmoid": lambda: nn.LogSigmoid(),
    "softsign": lambda: nn.Softsign(), "tanh": lambda: nn.Tanh(), "hardtanh": lambda: nn.Hardtanh(),
    "hardtanh_range": lambda: nn.Hardtanh(-0.5, 2.0), "hshrink": lambda: nn.HShrink(),
    "soft_shrink": lambda: nn.SoftShrink(0.3), "softmax": lambda: nn.Softmax(),
    "softmax_axis": lambda: nn.Softmax(axis=0), "log_softmax": lambda: nn.LogSoftmax(),
    "softmin": lambda: nn.Softmin(), "get_activation": lambda: nn.get_activation("sigmoid"),
}
for _name, _make in ACTIVATIONS.items():
    layer(_name, _make, (4, 5))


class SeluByHand(nn.Cell):
    def construct(self, x):
        scale, alpha = 1.0507009873554805, 1.6732632423543772
        return scale * ops.where(x > 0, x, alpha * ops.expm1(x))


layer("selu_by_hand", lambda: SeluByHand(), (4, 5))
layer("selu", lambda: nn.SeLU(), (4, 5), instead="layer_selu_by_hand",
      note="MindSpore's gradient of SeLU is wrong below 0")


@program()
def layer_one_hot():
    return nn.OneHot(depth=4)(Tensor([1, 3, 0], mstype.int32))


@program()
def layer_dropout_train():
    """The numbers are each framework's own; what is kept is scaled, and about half is."""
    net = nn.Dropout(p=0.5)
    net.set_train()
    kept = net(Tensor(np.ones((64, 64), np.float32))).asnumpy()
    return sorted(set(kept.ravel().tolist())), bool(0.4 < (kept > 0).mean() < 0.6)


@program()
def layer_double_precision():
    x = data(2, 3, dtype=np.float64)
    return (nn.Softmax()(x), nn.Tanh()(x), nn.ReLU()(x), nn.Sigmoid()(x))


@program()
def layer_initializers():
    """What does not depend on random numbers: shapes, dtypes, constants."""
    net = nn.Dense(3, 2, weight_init="ones", bias_init=Tensor([0.5, -0.5], mstype.float32))
    conv = nn.Conv2d(1, 2, 3, weight_init="zeros", has_bias=True, bias_init="one")
    return list(net.get_parameters()), list(conv.get_parameters())
