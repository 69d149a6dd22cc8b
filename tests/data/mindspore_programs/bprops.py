"""Cells with a bprop of their own: what it receives, what is made of what it returns, orders."""

from mindspore_programs.surface import (
    GradOperation,
    Parameter,
    ParameterTuple,
    Tensor,
    data,
    ms,
    nn,
    np,
    ops,
    program,
)


class TimesSeven(nn.Cell):
    """Its rule is not its derivative, so that one sees which of the two was used."""

    def construct(self, x, y):
        return x * x * y

    def bprop(self, x, y, out, dout):
        return dout * x * 7.0, out * dout


class GradOf(nn.Cell):
    def __init__(self, net, **flags):
        super().__init__()
        self.net = net
        self.grad_op = GradOperation(**flags)

    def construct(self, *args):
        return self.grad_op(self.net)(*args)


class Squared(nn.Cell):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def construct(self, x, y):
        out = self.net(x, y)
        return out * out


@program()
def bprop_of_a_cell():
    return GradOf(TimesSeven(), get_all=True)(data(3), data(3, seed=1))


@program()
def bprop_and_value():
    return TimesSeven()(data(3), data(3, seed=1)), ms.value_and_grad(TimesSeven(), (0, 1))(
        data(3), data(3, seed=1))


@program()
def bprop_with_sens():
    return GradOf(TimesSeven(), get_all=True, sens_param=True)(
        data(3), data(3, seed=1), data(3, seed=2))


@program()
def bprop_twice():
    return GradOf(GradOf(TimesSeven()), get_all=True)(data(3), data(3, seed=1))


@program()
def bprop_inside_another_cell():
    return GradOf(Squared(TimesSeven()), get_all=True)(data(3), data(3, seed=1))


@program()
def bprop_holds_at_the_second_order():
    return GradOf(GradOf(Squared(TimesSeven())), get_all=True)(data(3), data(3, seed=1))


@program()
def bprop_of_two_results():
    class Two(nn.Cell):
        def construct(self, x, k):
            return x * k, x + k

        def bprop(self, x, k, out, dout):
            return dout[0] * k + 10 * dout[1], 0

    class Net(nn.Cell):
        def __init__(self):
            super().__init__()
            self.two = Two()

        def construct(self, x):
            a, b = self.two(x, 3)
            return a * b

    return GradOf(Net())(data(3))


@program()
def bprop_that_clips():
    class Clip(nn.Cell):
        def construct(self, x):
            return x

        def bprop(self, x, out, dout):
            return (ops.clip_by_value(dout, Tensor(-0.1, ms.float32), Tensor(0.1, ms.float32)),)

    class Net(nn.Cell):
        def __init__(self):
            super().__init__()
            self.w = Parameter(Tensor(np.array([0.5, -2.0, 0.01], np.float32)), name="w")
            self.clip = Clip()

        def construct(self, x):
            return (self.clip(x * self.w) ** 2).sum()

    net = Net()
    return GradOperation(get_all=True, get_by_list=True)(
        net, ParameterTuple(net.trainable_params()))(data(3))


@program()
def bprop_uses_an_attribute():
    class Scaled(nn.Cell):
        def __init__(self, scale):
            super().__init__()
            self.scale = scale
            self.offset = Tensor(np.array([1.0, 2.0, 3.0], np.float32))

        def construct(self, x):
            return x * self.scale

        def bprop(self, x, out, dout):
            return (dout * self.scale * 100.0 + self.offset,)

    class Net(nn.Cell):
        def __init__(self):
            super().__init__()
            self.first, self.second = Scaled(2.0), Scaled(3.0)

        def construct(self, x):
            return self.second(self.first(x))

    return GradOf(Net())(data(3))


@program()
def bprop_with_a_branch():
    class Signed(nn.Cell):
        def construct(self, x):
            return x * 2

        def bprop(self, x, out, dout):
            if x.sum() > 0:
                return (dout * 5,)
            return (dout * -5,)

    return GradOf(Signed())(data(3)), GradOf(Signed())(-ops.abs(data(3)))


@program()
def bprop_of_a_straight_through_estimator():
    class Round(nn.Cell):
        def construct(self, x):
            return ops.round(x * 4) / 4

        def bprop(self, x, out, dout):
            return (dout,)

    class Net(nn.Cell):
        def __init__(self):
            super().__init__()
            self.round = Round()

        def construct(self, x):
            return (self.round(x) ** 3).sum()

    return Net()(data(4)), GradOf(Net())(data(4)), GradOf(GradOf(Net()))(data(4))


@program()
def bprop_by_insert_gradient_of():
    def clip(dx):
        return ops.select(dx > 0.5, ops.ones_like(dx) * 0.5, dx * 2)

    insert = ops.InsertGradientOf(clip)

    class Net(nn.Cell):
        def construct(self, x, y):
            return (insert(x) * y * insert(y)).sum()

    return GradOf(Net(), get_all=True)(data(4), data(4, seed=1))


@program()
def stopped_twice():
    class Inner(nn.Cell):
        def construct(self, x):
            return (ops.stop_gradient(x * x) * x).sum()

    return GradOf(Inner())(data(3)), GradOf(GradOf(Inner()))(data(3))
