"""Normalisation layers."""

from __future__ import annotations

from cellc import ops
from cellc.errors import ShapeFault, ValueFault
from cellc.nn.basic import positive
from cellc.nn.cell import Cell
from cellc.nn.initializer import initializer
from cellc.parameter import Parameter


class _BatchNorm(Cell):
    """What BatchNorm1d and BatchNorm2d share.

    In training, channels are normalised by the statistics of the batch, and then
        moving = momentum * moving + (1 - momentum) * statistic of the batch
    with the unbiased variance; else by the moving statistics. `use_batch_statistics` True or False
    decides instead of the training flag.
    """

    ndims: tuple = ()

    def __init__(self, num_features, eps=1e-5, momentum=0.9, affine=True, gamma_init="ones",
                 beta_init="zeros", moving_mean_init="zeros", moving_var_init="ones",
                 use_batch_statistics=None, dtype="float32"):
        super().__init__()
        self.num_features = positive("num_features", num_features)
        if not 0 <= momentum <= 1:
            raise ValueFault(f"momentum is {momentum}, expected 0 to 1")
        self.eps, self.momentum, self.affine = eps, momentum, bool(affine)
        self.use_batch_statistics = use_batch_statistics
        shape = (num_features,)
        self.moving_mean = Parameter(initializer(moving_mean_init, shape, dtype),
                                     name="mean", requires_grad=False)
        self.moving_variance = Parameter(initializer(moving_var_init, shape, dtype),
                                         name="variance", requires_grad=False)
        self.gamma = Parameter(initializer(gamma_init, shape, dtype), name="gamma",
                               requires_grad=self.affine)
        self.beta = Parameter(initializer(beta_init, shape, dtype), name="beta",
                              requires_grad=self.affine)

    def construct(self, x):
        if x.ndim not in self.ndims:
            raise ShapeFault(f"batch norm of a {x.ndim}-d tensor, expected {self.ndims} axes")
        by_batch = self.use_batch_statistics
        if by_batch is None:
            by_batch = self.training
        if not by_batch:
            return ops.normalize_channels(x, self.moving_mean, self.moving_variance, self.gamma,
                                          self.beta, self.eps)
        mean, variance = ops.channel_moments(x)
        unbiased = ops.unbiased(variance, x)
        keep = self.momentum
        ops.assign(self.moving_mean, self.moving_mean * keep + mean * (1 - keep))
        ops.assign(self.moving_variance, self.moving_variance * keep + unbiased * (1 - keep))
        return ops.normalize_channels(x, mean, variance, self.gamma, self.beta, self.eps)

    def extend_repr(self):
        return (f"num_features={self.num_features}, eps={self.eps}, momentum={self.momentum}, "
                f"gamma={self.gamma}, beta={self.beta}, moving_mean={self.moving_mean}, "
                f"moving_variance={self.moving_variance}")


class BatchNorm2d(_BatchNorm):
    """Batch norm of images [n, c, h, w]. Source: Ioffe and Szegedy, Batch normalization, 2015."""

    ndims = (4,)


class BatchNorm1d(_BatchNorm):
    """Batch norm of features [n, c] or sequences [n, c, l]."""

    ndims = (2, 3)


class LayerNorm(Cell):
    """Normalised over the last axes, those of normalized_shape; see ops.layer_norm.

    Shapes: x [..., *normalized_shape] -> same; gamma and beta [*normalized_shape]. That says which
            axes; begin_norm_axis and begin_params_axis are MindSpore's and change nothing.
    Dtypes: floats -> same.
    Errors: ShapeFault where the last axes are others.
    Source: Ba, Kiros and Hinton, Layer normalization, 2016.
    """

    def __init__(self, normalized_shape, begin_norm_axis=-1, begin_params_axis=-1,
                 gamma_init="ones", beta_init="zeros", epsilon=1e-7, dtype="float32"):
        super().__init__()
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(
            normalized_shape)
        if not shape:
            raise ShapeFault("LayerNorm: normalized_shape is empty")
        self.normalized_shape = shape
        self.begin_norm_axis, self.begin_params_axis = begin_norm_axis, begin_params_axis
        self.epsilon = epsilon
        self.gamma = Parameter(initializer(gamma_init, shape, dtype), name="gamma")
        self.beta = Parameter(initializer(beta_init, shape, dtype), name="beta")

    def construct(self, x):
        return ops.layer_norm(x, self.normalized_shape, self.gamma, self.beta, self.epsilon)

    def extend_repr(self):
        return f"normalized_shape={self.normalized_shape}, epsilon={self.epsilon}"


class GroupNorm(Cell):
    """Channels normalised in groups, for each sample alone; see ops.group_norm.

    Shapes: x [n, num_channels, ...] -> same; gamma and beta [num_channels].
    Errors: ShapeFault where the groups do not divide the channels.
    Source: Wu and He, Group normalization, 2018.
    """

    def __init__(self, num_groups, num_channels, eps=1e-5, affine=True, gamma_init="ones",
                 beta_init="zeros", dtype="float32"):
        super().__init__()
        self.num_groups = positive("num_groups", num_groups)
        self.num_channels = positive("num_channels", num_channels)
        if num_channels % num_groups:
            raise ShapeFault(f"{num_groups} groups do not divide {num_channels} channels")
        self.eps = eps
        self.gamma = Parameter(initializer(gamma_init, (num_channels,), dtype), name="gamma",
                               requires_grad=bool(affine))
        self.beta = Parameter(initializer(beta_init, (num_channels,), dtype), name="beta",
                              requires_grad=bool(affine))

    def construct(self, x):
        return ops.group_norm(x, self.num_groups, self.gamma, self.beta, self.eps)

    def extend_repr(self):
        return f"num_groups={self.num_groups}, num_channels={self.num_channels}"
