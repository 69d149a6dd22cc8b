"""Five steps of training by WithLossCell and TrainOneStepCell, with every optimiser and option."""

from mindspore_programs.surface import (
    Tensor,
    data,
    fill,
    mstype,
    nn,
    np,
    ops,
    program,
)


class Mlp(nn.Cell):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Dense(4, 5)
        self.norm = nn.LayerNorm((5,))
        self.relu = nn.ReLU()
        self.out = nn.Dense(5, 3)

    def construct(self, x):
        return self.out(self.relu(self.norm(self.hidden(x))))


def train(make_optimizer, net=None, steps=5):
    """The losses, the parameters after the last step, and the optimiser's own."""
    net = fill(net or Mlp())
    optimizer = make_optimizer(net)
    loss_fn = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    step = nn.TrainOneStepCell(nn.WithLossCell(net, loss_fn), optimizer)
    step.set_train()
    losses = []
    for i in range(steps):
        losses.append(step(data(6, 4, seed=i), data(6, seed=i, low=0, high=3, dtype=np.int32)))
    return losses, [(p.name, p) for p in net.get_parameters()]


def optimiser(name, make, **options):
    program(f"train_{name}", **options)(lambda: train(make))


def split(net, **options):
    """Two groups: the weights with options of their own, then the rest."""
    weights = [p for p in net.trainable_params() if "weight" in p.name]
    rest = [p for p in net.trainable_params() if "weight" not in p.name]
    return [{"params": weights, **options}, {"params": rest}]


optimiser("sgd", lambda net: nn.SGD(net.trainable_params(), learning_rate=0.1))
optimiser("sgd_momentum", lambda net: nn.SGD(net.trainable_params(), 0.1, momentum=0.9))
optimiser("sgd_dampening", lambda net: nn.SGD(net.trainable_params(), 0.1, momentum=0.9,
                                              dampening=0.3))
optimiser("sgd_nesterov", lambda net: nn.SGD(net.trainable_params(), 0.1, momentum=0.9,
                                             nesterov=True, weight_decay=0.01))
optimiser("sgd_groups", lambda net: nn.SGD(split(net, lr=0.05, weight_decay=0.02), 0.1,
                                           momentum=0.8))
optimiser("momentum", lambda net: nn.Momentum(net.trainable_params(), 0.1, 0.9))
optimiser("sgd_nesterov_plain", lambda net: nn.SGD(net.trainable_params(), 0.1, momentum=0.9,
                                                   nesterov=True))
optimiser("momentum_nesterov", lambda net: nn.Momentum(net.trainable_params(), 0.1, 0.9,
                                                       use_nesterov=True),
          instead="train_sgd_nesterov_plain", note="MindSpore's CPU kernel ignores use_nesterov")
optimiser("momentum_decay", lambda net: nn.Momentum(net.trainable_params(), 0.1, 0.9,
                                                    weight_decay=0.05))
optimiser("momentum_loss_scale", lambda net: nn.Momentum(net.trainable_params(), 0.1, 0.9,
                                                         loss_scale=4.0))
optimiser("momentum_groups", lambda net: nn.Momentum(split(net, lr=0.02, weight_decay=0.1), 0.1,
                                                     0.9))
optimiser("adam", lambda net: nn.Adam(net.trainable_params(), learning_rate=0.01))
optimiser("adam_options", lambda net: nn.Adam(net.trainable_params(), 0.02, beta1=0.8, beta2=0.99,
                                              eps=1e-6, weight_decay=0.05))
optimiser("adam_nesterov", lambda net: nn.Adam(net.trainable_params(), 0.01, use_nesterov=True))
optimiser("adam_amsgrad", lambda net: nn.Adam(net.trainable_params(), 0.01, use_amsgrad=True))
optimiser("adam_groups", lambda net: nn.Adam(split(net, lr=0.05, weight_decay=0.1), 0.01))
optimiser("adam_weight_decay", lambda net: nn.AdamWeightDecay(net.trainable_params(), 0.01,
                                                              weight_decay=0.1))
optimiser("adam_weight_decay_groups", lambda net: nn.AdamWeightDecay(
    split(net, lr=0.02, weight_decay=0.05), 0.01))
optimiser("rmsprop", lambda net: nn.RMSProp(net.trainable_params(), learning_rate=0.01))
optimiser("rmsprop_momentum", lambda net: nn.RMSProp(net.trainable_params(), 0.01, momentum=0.9,
                                                     decay=0.8, epsilon=1e-6))
optimiser("rmsprop_centered", lambda net: nn.RMSProp(net.trainable_params(), 0.01, centered=True,
                                                     momentum=0.5))
optimiser("rmsprop_groups", lambda net: nn.RMSProp(split(net, lr=0.02, weight_decay=0.05), 0.01))

optimiser("lr_list", lambda net: nn.SGD(net.trainable_params(), [0.5, 0.1, 0.05, 0.01, 0.005]))
optimiser("lr_tensor", lambda net: nn.Momentum(
    net.trainable_params(), Tensor([0.5, 0.1, 0.05, 0.01, 0.0], mstype.float32), 0.9))
optimiser("lr_piecewise", lambda net: nn.SGD(
    net.trainable_params(), nn.piecewise_constant_lr([2, 4, 6], [0.5, 0.1, 0.01])))
optimiser("lr_exponential", lambda net: nn.SGD(net.trainable_params(),
                                               nn.ExponentialDecayLR(0.5, 0.5, 2)))
optimiser("lr_exponential_stair", lambda net: nn.Adam(net.trainable_params(),
                                                      nn.ExponentialDecayLR(0.1, 0.5, 2, True)))
optimiser("lr_natural", lambda net: nn.Momentum(net.trainable_params(),
                                                nn.NaturalExpDecayLR(0.2, 0.3, 2), 0.9))
optimiser("lr_inverse", lambda net: nn.RMSProp(net.trainable_params(),
                                               nn.InverseDecayLR(0.02, 0.5, 2)))
optimiser("lr_cosine", lambda net: nn.Adam(net.trainable_params(),
                                           nn.CosineDecayLR(0.001, 0.1, 4)))
optimiser("lr_polynomial", lambda net: nn.SGD(net.trainable_params(),
                                              nn.PolynomialDecayLR(0.5, 0.01, 3, 2.0)))
optimiser("lr_warmup", lambda net: nn.Momentum(net.trainable_params(), nn.WarmUpLR(0.2, 3), 0.9))
optimiser("lr_groups", lambda net: nn.Momentum(split(net, lr=nn.ExponentialDecayLR(0.2, 0.5, 2)),
                                               [0.1, 0.05, 0.02, 0.01, 0.01], 0.9))


@program()
def train_lr_lists():
    return (nn.exponential_decay_lr(0.1, 0.9, 6, 2, 1), nn.cosine_decay_lr(0.01, 0.1, 6, 2, 2),
            nn.polynomial_decay_lr(0.1, 0.01, 6, 2, 2, 0.5), nn.warmup_lr(0.1, 6, 2, 2),
            nn.piecewise_constant_lr([2, 5, 6], [0.1, 0.05, 0.01]),
            nn.exponential_decay_lr(0.1, 0.9, 6, 2, 2, is_stair=True))


class Convolutional(nn.Cell):
    def __init__(self):
        super().__init__()
        self.features = nn.SequentialCell(
            nn.Conv2d(1, 3, 3, pad_mode="valid"), nn.BatchNorm2d(3), nn.ReLU(),
            nn.MaxPool2d(kernel_size=2, stride=2))
        self.flatten = nn.Flatten()
        self.classify = nn.Dense(12, 3, activation="tanh")

    def construct(self, x):
        return self.classify(self.flatten(self.features(x)))


@program(rtol=1e-4)
def train_convolutional():
    net = fill(Convolutional())
    optimizer = nn.Momentum(net.trainable_params(), 0.05, 0.9)
    loss_fn = nn.CrossEntropyLoss(label_smoothing=0.1)
    step = nn.TrainOneStepCell(nn.WithLossCell(net, loss_fn), optimizer)
    step.set_train()
    losses = [step(data(4, 1, 6, 6, seed=i), data(4, seed=i, low=0, high=3, dtype=np.int32))
              for i in range(4)]
    net.set_train(False)
    return losses, [(p.name, p) for p in net.get_parameters()], net(data(2, 1, 6, 6))


@program()
def train_regression_with_mse():
    net = fill(nn.SequentialCell(nn.Dense(3, 4, activation="relu"), nn.Dense(4, 1)))
    step = nn.TrainOneStepCell(nn.WithLossCell(net, nn.MSELoss()),
                               nn.Adam(net.trainable_params(), 0.05), sens=2.0)
    losses = [step(data(5, 3, seed=i), data(5, 1, seed=i)) for i in range(3)]
    return losses, list(net.get_parameters())


@program()
def train_by_hand():
    """A training cell as users write their own."""
    class Step(nn.Cell):
        def __init__(self, network, optimizer):
            super().__init__(auto_prefix=False)
            self.network = network
            self.network.set_grad()
            self.optimizer = optimizer
            self.weights = self.optimizer.parameters
            self.grad = ops.GradOperation(get_by_list=True, sens_param=True)

        def construct(self, x, label):
            loss = self.network(x, label)
            sens = ops.fill(loss.dtype, loss.shape, 1.0)
            grads = self.grad(self.network, self.weights)(x, label, sens)
            grads = ops.clip_by_global_norm(grads, 0.5)
            return ops.depend(loss, self.optimizer(grads))

    net = fill(Mlp())
    loss_fn = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    step = Step(nn.WithLossCell(net, loss_fn), nn.Momentum(net.trainable_params(), 0.1, 0.9))
    losses = [step(data(6, 4, seed=i), data(6, seed=i, low=0, high=3, dtype=np.int32))
              for i in range(3)]
    return losses, net.trainable_params()


@program()
def train_frozen_layer():
    net = fill(Mlp())
    for parameter in net.hidden.get_parameters():
        parameter.requires_grad = False
    return train(lambda _: nn.SGD(net.trainable_params(), 0.1), net, steps=2)


@program()
def train_evaluation_cell():
    net = fill(nn.Dense(3, 2))
    return nn.WithEvalCell(net, nn.MSELoss())(data(4, 3), data(4, 2, seed=1))


@program()
def train_parameter_names():
    """What the optimisers call what they keep of each weight."""
    net = Mlp()
    found = []
    for make in (lambda: nn.Momentum(net.trainable_params(), 0.1, 0.9),
                 lambda: nn.Adam(net.trainable_params()),
                 lambda: nn.RMSProp(net.trainable_params(), centered=True)):
        names = [p.name for p in make().get_parameters()]
        found.append(sorted(name for name in names if name.endswith(".hidden.bias")))
    return found
