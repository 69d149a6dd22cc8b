"""Small models as people write them, trained for a few steps."""

from mindspore_programs.surface import (
    F,
    GradOperation,
    P,
    Parameter,
    ParameterTuple,
    Tensor,
    data,
    fill,
    initializer,
    ms,
    mstype,
    nn,
    np,
    ops,
    program,
)


def labels(n, classes, seed=0):
    return data(n, seed=seed, low=0, high=classes, dtype=np.int32)


def trained(net, batch, steps=3, rate=0.02, loss=None):
    """The losses, what the net gives afterwards, and its Parameters."""
    loss = loss or nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    optimizer = nn.Momentum(net.trainable_params(), rate, 0.9)
    step = nn.TrainOneStepCell(nn.WithLossCell(net, loss), optimizer)
    step.set_train()
    losses = [step(*batch(i)) for i in range(steps)]
    net.set_train(False)
    return losses, net(batch(0)[0]), [(p.name, p) for p in net.get_parameters()]


class LeNet5(nn.Cell):
    """LeNet as the first tutorials had it, at a fifth of its width."""

    def __init__(self, num_class=4, num_channel=1):
        super(LeNet5, self).__init__()
        self.conv1 = nn.Conv2d(num_channel, 2, 5, pad_mode='valid')
        self.conv2 = nn.Conv2d(2, 3, 5, pad_mode='valid')
        self.fc1 = nn.Dense(3 * 2 * 2, 6, weight_init='normal')
        self.fc2 = nn.Dense(6, num_class)
        self.relu = nn.ReLU()
        self.max_pool2d = nn.MaxPool2d(kernel_size=2, stride=2)
        self.flatten = nn.Flatten()

    def construct(self, x):
        x = self.max_pool2d(self.relu(self.conv1(x)))
        x = self.max_pool2d(self.relu(self.conv2(x)))
        x = self.flatten(x)
        x = self.relu(self.fc1(x))
        return self.fc2(x)


@program(rtol=1e-4)
def model_lenet():
    return trained(fill(LeNet5()), lambda i: (data(3, 1, 20, 20, seed=i), labels(3, 4, i)))


class ResidualBlock(nn.Cell):
    expansion = 2

    def __init__(self, in_channel, out_channel, stride=1):
        super(ResidualBlock, self).__init__()
        channel = out_channel // self.expansion
        self.conv1 = nn.Conv2d(in_channel, channel, kernel_size=1, stride=1)
        self.bn1 = nn.BatchNorm2d(channel)
        self.conv2 = nn.Conv2d(channel, channel, kernel_size=3, stride=stride, padding=0,
                               pad_mode="same")
        self.bn2 = nn.BatchNorm2d(channel)
        self.conv3 = nn.Conv2d(channel, out_channel, kernel_size=1)
        self.bn3 = nn.BatchNorm2d(out_channel)
        self.relu = nn.ReLU()
        self.down_sample = False
        if stride != 1 or in_channel != out_channel:
            self.down_sample = True
        self.down_sample_layer = None
        if self.down_sample:
            self.down_sample_layer = nn.SequentialCell([
                nn.Conv2d(in_channel, out_channel, 1, stride), nn.BatchNorm2d(out_channel)])
        self.add = P.Add()

    def construct(self, x):
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        if self.down_sample:
            identity = self.down_sample_layer(identity)
        return self.relu(self.add(out, identity))


class ResNet(nn.Cell):
    def __init__(self, block, layer_nums, channels, num_classes):
        super(ResNet, self).__init__()
        self.conv1 = nn.Conv2d(2, channels[0], 3)
        layers = []
        for i, n in enumerate(layer_nums):
            layers.append(self._make_layer(block, n, channels[i], channels[i + 1], 1 + i))
        self.layers = nn.SequentialCell(layers)
        self.mean = P.ReduceMean(keep_dims=True)
        self.flatten = nn.Flatten()
        self.end_point = nn.Dense(channels[-1], num_classes, has_bias=True)

    def _make_layer(self, block, layer_num, in_channel, out_channel, stride):
        layers = [block(in_channel, out_channel, stride=stride)]
        for _ in range(1, layer_num):
            layers.append(block(out_channel, out_channel, stride=1))
        return nn.SequentialCell(layers)

    def construct(self, x):
        x = self.layers(self.conv1(x))
        return self.end_point(self.flatten(self.mean(x, (2, 3))))


@program(rtol=1e-3)
def model_resnet():
    net = fill(ResNet(ResidualBlock, [2, 1], [2, 4, 4], 3))
    return trained(net, lambda i: (data(4, 2, 6, 6, seed=i), labels(4, 3, i)), steps=2)


class Attention(nn.Cell):
    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.depth = heads, width // heads
        self.query, self.key, self.value = [nn.Dense(width, width) for _ in range(3)]
        self.out = nn.Dense(width, width, has_bias=False)
        self.softmax = nn.Softmax(axis=-1)
        self.matmul = P.BatchMatMul()
        self.matmul_transposed = P.BatchMatMul(transpose_b=True)
        self.transpose = P.Transpose()

    def split(self, x):
        batch, length, _ = x.shape
        return self.transpose(x.reshape(batch, length, self.heads, self.depth), (0, 2, 1, 3))

    def construct(self, x, mask=None):
        q, k, v = self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))
        scores = self.matmul_transposed(q, k) / (self.depth ** 0.5)
        if mask is not None:
            scores = scores + (1.0 - mask) * -1e4
        found = self.matmul(self.softmax(scores), v)
        return self.out(found.transpose(0, 2, 1, 3).reshape(x.shape))


class Encoder(nn.Cell):
    def __init__(self, words, width, heads, layers, classes):
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.places = Parameter(initializer("zeros", (1, 5, width), mstype.float32), name="places")
        self.attention = nn.CellList([Attention(width, heads) for _ in range(layers)])
        self.norms = nn.CellList([nn.LayerNorm((width,), epsilon=1e-5) for _ in range(layers)])
        self.forwards = nn.CellList([nn.SequentialCell(
            nn.Dense(width, 2 * width), nn.GELU(), nn.Dense(2 * width, width))
            for _ in range(layers)])
        self.head = nn.Dense(width, classes)

    def construct(self, ids):
        x = self.embedding(ids) + self.places
        mask = F.cast(ids != 0, mstype.float32).expand_dims(1).expand_dims(1)
        for attend, norm, forward in zip(self.attention, self.norms, self.forwards):
            x = x + attend(norm(x), mask)
            x = x + forward(x)
        return self.head(x.mean(1))


@program(rtol=2e-4)
def model_transformer():
    net = fill(Encoder(7, 4, 2, 2, 3), 0.3)
    return trained(net, lambda i: (data(3, 5, seed=i, low=0, high=7, dtype=np.int32),
                                   labels(3, 3, i)))


class LSTMCell(nn.Cell):
    def __init__(self, n_in, n_hidden):
        super().__init__()
        self.input = nn.Dense(n_in, 4 * n_hidden)
        self.hidden = nn.Dense(n_hidden, 4 * n_hidden)
        self.sigmoid, self.tanh = P.Sigmoid(), P.Tanh()
        self.split = P.Split(axis=1, output_num=4)

    def construct(self, x, state):
        h, c = state
        i, f, g, o = self.split(self.input(x) + self.hidden(h))
        c = self.sigmoid(f) * c + self.sigmoid(i) * self.tanh(g)
        h = self.sigmoid(o) * self.tanh(c)
        return h, c


class Recurrent(nn.Cell):
    def __init__(self):
        super().__init__()
        self.cell = LSTMCell(2, 3)
        self.head = nn.Dense(3, 2)
        self.zeros = P.Zeros()

    def construct(self, x):
        state = (self.zeros((x.shape[0], 3), mstype.float32),) * 2
        outputs = []
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], state)
            outputs.append(state[0])
        return self.head(ops.stack(outputs, 1)).mean(axis=1)


@program(rtol=1e-4)
def model_recurrent():
    return trained(fill(Recurrent()), lambda i: (data(3, 4, 2, seed=i), labels(3, 2, i)))


class InvertedResidual(nn.Cell):
    def __init__(self, n, expand):
        super().__init__()
        hidden = n * expand
        self.body = nn.SequentialCell(
            nn.Conv2d(n, hidden, 1), nn.BatchNorm2d(hidden), nn.ReLU6(),
            nn.Conv2d(hidden, hidden, 3, pad_mode="pad", padding=1, group=hidden),
            nn.BatchNorm2d(hidden), nn.ReLU6(), nn.Conv2d(hidden, n, 1), nn.BatchNorm2d(n))

    def construct(self, x):
        return x + self.body(x)


class Mobile(nn.Cell):
    def __init__(self):
        super().__init__()
        self.body = nn.SequentialCell([InvertedResidual(2, 2), nn.AvgPool2d(2, 2)])
        self.drop = nn.Dropout(p=0.0)
        self.head = nn.Dense(2 * 2 * 2, 3)

    def construct(self, x):
        x = self.body(x)
        return self.head(self.drop(x.view(x.shape[0], -1)))


@program(rtol=1e-3)
def model_mobile():
    return trained(fill(Mobile()), lambda i: (data(4, 2, 4, 4, seed=i), labels(4, 3, i)), steps=2)


class TextCnn(nn.Cell):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(9, 4)
        self.convs = nn.CellList([nn.Conv2d(1, 2, (k, 4), pad_mode="valid") for k in (2, 3)])
        self.concat = P.Concat(1)
        self.max = P.ReduceMax()
        self.expand = P.ExpandDims()
        self.fc = nn.Dense(4, 2)

    def construct(self, ids):
        x = self.expand(self.embedding(ids), 1)
        parts = []
        for conv in self.convs:
            parts.append(self.max(ops.relu(conv(x)), (2, 3)))
        return self.fc(self.concat(parts))


@program(rtol=1e-4)
def model_text_cnn():
    return trained(fill(TextCnn()), lambda i: (data(3, 6, seed=i, low=0, high=9, dtype=np.int32),
                                               labels(3, 2, i)))


@program(rtol=1e-4)
def model_autoencoder():
    class AutoEncoder(nn.Cell):
        def __init__(self):
            super().__init__()
            self.encoder = nn.SequentialCell(nn.Dense(6, 3), nn.LeakyReLU(0.1))
            self.decoder = nn.Dense(3, 6, activation="sigmoid")

        def construct(self, x):
            return self.decoder(self.encoder(x))

    def batch(i):
        x = data(4, 6, seed=i, low=0, high=1)
        return x, x

    return trained(fill(AutoEncoder()), batch, loss=nn.MSELoss(), rate=0.1)


@program(rtol=1e-4)
def model_logistic_by_hand():
    """The gradient by GradOperation, the step by assign_sub."""
    class Logistic(nn.Cell):
        def __init__(self):
            super().__init__()
            self.w = Parameter(Tensor(np.zeros((3, 1), np.float32)), name="w")
            self.b = Parameter(Tensor(np.zeros((1,), np.float32)), name="b")

        def construct(self, x, y):
            p = ops.sigmoid(ops.matmul(x, self.w) + self.b)
            return -(y * ops.log(p) + (1 - y) * ops.log(1 - p)).mean()

    class Step(nn.Cell):
        def __init__(self, net, rate):
            super().__init__()
            self.net, self.rate = net, rate
            self.weights = ParameterTuple(net.trainable_params())
            self.grad = GradOperation(get_by_list=True)
            self.assign_sub = P.AssignSub()

        def construct(self, x, y):
            loss = self.net(x, y)
            grads = self.grad(self.net, self.weights)(x, y)
            for w, g in zip(self.weights, grads):
                self.assign_sub(w, g * self.rate)
            return loss

    net = Logistic()
    step = Step(net, 0.5)
    x, y = data(6, 3), F.cast(data(6, 1, seed=1) > 0, mstype.float32)
    return [step(x, y) for _ in range(4)], net.w, net.b


@program(rtol=1e-4)
def model_adversarial():
    """Two nets with two optimisers, each trained against the other."""
    generator = fill(nn.SequentialCell(nn.Dense(2, 4), nn.Tanh(), nn.Dense(4, 3)))
    critic = fill(nn.SequentialCell(nn.Dense(3, 4), nn.LeakyReLU(), nn.Dense(4, 1)))
    generator.update_parameters_name("generator.")
    critic.update_parameters_name("critic.")
    loss_fn = nn.BCEWithLogitsLoss()
    of_generator = nn.Adam(generator.trainable_params(), 0.01, beta1=0.5)
    of_critic = nn.Adam(critic.trainable_params(), 0.01, beta1=0.5)

    def generator_loss(noise):
        verdict = critic(generator(noise))
        return loss_fn(verdict, ops.ones_like(verdict))

    def critic_loss(real, noise):
        good, bad = critic(real), critic(ops.stop_gradient(generator(noise)))
        return (loss_fn(good, ops.ones_like(good)) + loss_fn(bad, ops.zeros_like(bad))) / 2

    generator_grad = ms.value_and_grad(generator_loss, None, of_generator.parameters)
    critic_grad = ms.value_and_grad(critic_loss, None, of_critic.parameters)
    losses = []
    for i in range(3):
        loss, grads = critic_grad(data(4, 3, seed=i), data(4, 2, seed=i))
        of_critic(grads)
        second, grads = generator_grad(data(4, 2, seed=i))
        of_generator(grads)
        losses.append((loss, second))
    return losses, generator.trainable_params(), critic.trainable_params()


@program(rtol=1e-4)
def model_jit_step():
    """A training step as a decorated function."""
    net = fill(nn.Dense(3, 2))
    optimizer = nn.SGD(net.trainable_params(), 0.1)

    def forward(x, y):
        return ((net(x) - y) ** 2).mean()

    grad_fn = ms.value_and_grad(forward, None, optimizer.parameters)

    @ms.jit
    def step(x, y):
        loss, grads = grad_fn(x, y)
        optimizer(grads)
        return loss

    return [step(data(4, 3, seed=i), data(4, 2, seed=i)) for i in range(3)], net.weight


@program()
def model_exponential_average():
    """Weights averaged by a cell of its own, over parameters in a tuple."""
    class Average(nn.Cell):
        def __init__(self, net, decay):
            super().__init__(auto_prefix=False)
            self.weights = ParameterTuple(net.trainable_params())
            self.averages = self.weights.clone("average", init="same")
            self.decay = decay

        def construct(self):
            for average, weight in zip(self.averages, self.weights):
                ops.assign(average, average * self.decay + weight * (1 - self.decay))
            return len(self.weights)

    net = fill(nn.Dense(2, 2))
    average = Average(net, 0.9)
    for parameter in net.trainable_params():
        parameter.set_data(parameter + 1)
    count = [average() for _ in range(2)]
    return count, [(p.name, p) for p in average.averages]
