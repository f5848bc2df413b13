"""TensorFlow's training step: all of it in one tf.function, images [n, h, w, c]."""

import os

from peers import networks, turns

given = turns.arguments(())
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402 (reads the environment)

tf.config.threading.set_intra_op_parallelism_threads(given.threads)
tf.config.threading.set_inter_op_parallelism_threads(1)
relu = tf.nn.relu
kind, rate, momentum = networks.OPTIMIZERS[given.network]

weights = networks.channels_last_weights(given.network)
p = {name: tf.Variable(weight) for name, weight in weights.items()}
running = {
    name: (tf.Variable(tf.zeros(shape)), tf.Variable(tf.ones(shape)))
    for name, layer, shape, _ in networks.LAYERS[given.network]
    if layer == "norm"
}


def convolve(x, name, stride):
    weight = p[name + ".weight"]
    if stride == 2 and weight.shape[0] == 3:  # "SAME" would pad one side only
        return tf.nn.conv2d(x, weight, 2, [[0, 0], [1, 1], [1, 1], [0, 0]])
    return tf.nn.conv2d(x, weight, stride, "SAME")


def linear(x, name):
    return tf.nn.bias_add(tf.matmul(x, p[name + ".weight"]), p[name + ".bias"])


def norm(x, name):
    y, mean, variance = tf.compat.v1.nn.fused_batch_norm(
        x, p[name + ".weight"], p[name + ".bias"], epsilon=1e-5, is_training=True
    )
    running_mean, running_variance = running[name]
    running_mean.assign(0.9 * running_mean + 0.1 * mean)
    running_variance.assign(0.9 * running_variance + 0.1 * variance)
    return y


def mlp_small(x):
    return linear(relu(linear(x, "l1")), "l2")


def mlp_big(x):
    return linear(relu(linear(relu(linear(x, "l1")), "l2")), "l3")


def cnn(x):
    for name in ("c1", "c2"):
        x = relu(tf.nn.bias_add(convolve(x, name, 1), p[name + ".bias"]))
        x = tf.nn.max_pool2d(x, 2, 2, "VALID")
    return linear(relu(linear(tf.reshape(x, (x.shape[0], -1)), "l1")), "l2")


def resnet_small(x):
    x = relu(norm(convolve(x, "stem", 1), "stem_bn"))
    for stage in range(3):
        for block in range(2):
            name = f"s{stage}b{block}"
            stride = 2 if stage and not block else 1
            y = relu(norm(convolve(x, name + "c1", stride), name + "n1"))
            y = norm(convolve(y, name + "c2", 1), name + "n2")
            if name + "sc.weight" in p:
                x = norm(convolve(x, name + "sc", stride), name + "sn")
            x = relu(y + x)
    return linear(tf.reduce_mean(x, (1, 2)), "fc")


variables = list(p.values())
first = [tf.Variable(tf.zeros_like(variable)) for variable in variables]
second = [tf.Variable(tf.zeros_like(variable)) for variable in variables]
power1, power2 = tf.Variable(1.0), tf.Variable(1.0)


def update(variable, moment1, moment2, grad):
    ops = tf.raw_ops
    if kind == "adam":
        ops.ResourceApplyAdam(
            var=variable.handle,
            m=moment1.handle,
            v=moment2.handle,
            beta1_power=power1,
            beta2_power=power2,
            lr=rate,
            beta1=0.9,
            beta2=0.999,
            epsilon=1e-8,
            grad=grad,
        )
    elif momentum:
        ops.ResourceApplyMomentum(
            var=variable.handle, accum=moment1.handle, lr=rate, grad=grad, momentum=momentum
        )
    else:
        ops.ResourceApplyGradientDescent(var=variable.handle, alpha=rate, delta=grad)


@tf.function
def train(x, labels):
    with tf.GradientTape() as tape:
        logits = globals()[given.network](x)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    grads = tape.gradient(loss, variables)
    if kind == "adam":
        power1.assign(power1 * 0.9)
        power2.assign(power2 * 0.999)
    for variable, moment1, moment2, grad in zip(variables, first, second, grads, strict=True):
        update(variable, moment1, moment2, grad)
    return loss


images, labels = networks.data(given.data)
labels = labels.astype(np.int32)
if networks.has_images(given.network):
    images = images.reshape(-1, 28, 28, 1)
batches = networks.IMAGES // given.batch


def step(i):
    begin = (i % batches) * given.batch
    rows = slice(begin, begin + given.batch)
    return train(tf.constant(images[rows]), tf.constant(labels[rows]))


def memory():
    return {"peak_bytes": None, "peak_how": "TensorFlow tells none on a CPU"}


turns.serve(step, float, memory, [f"tensorflow {tf.__version__}"])
