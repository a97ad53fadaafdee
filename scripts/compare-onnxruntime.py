"""Embeddings in ONNX Runtime and here.

usage: compare-onnxruntime.py SERVE_EMBEDDINGS [ROUNDS]

The default network of the digits, a LeNet of 32 and 64 filters with ReLU, twice 256 units and 2
dimensions, with random weights; f32, on the CPU. Given the same weights and images, both sides must give
the same embeddings, to 1e-5 of the largest.

Then times ROUNDS (25) alternating rounds with 1 and with 2 threads, of 2 images (a pair), 256 and 2,048 in
one call. Ratios are taken within a round, so a busy machine slows both sides; the fastest round of each
side is given too.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from ours import Ours
from safetensors.numpy import load_file, save_file

# Images in a call, and calls in a round.
CALLS = {2: 200, 256: 4, 2048: 1}
NET = {
    "input": [1, 28, 28],
    "channels": [32, 64],
    "conv_activation": "relu",
    "hidden": [{"units": 256, "activation": "relu"}] * 2,
    "embedding": 2,
}
SHAPES = {
    "conv1": (32, 1, 5, 5),
    "conv2": (64, 32, 5, 5),
    "ip1": (256, 1024),
    "ip2": (256, 256),
    "feat": (2, 256),
}


def weights(rng):
    drawn = {}
    for name, shape in SHAPES.items():
        bound = np.sqrt(3 / np.prod(shape[1:]))
        drawn[f"{name}.weight"] = rng.uniform(-bound, bound, shape).astype(np.float32)
        drawn[f"{name}.bias"] = rng.uniform(-0.1, 0.1, shape[0]).astype(np.float32)
    return drawn


def graph(weights):
    nodes, x = [], "images"

    def add(op, name, *inputs, **attributes):
        nonlocal x
        nodes.append(helper.make_node(op, [x, *inputs], [name], **attributes))
        x = name

    for name in SHAPES:
        of_layer = f"{name}.weight", f"{name}.bias"
        if name.startswith("conv"):
            add("Conv", name, *of_layer)
            add("Relu", f"{name}.relu")
            add("MaxPool", f"{name}.pool", kernel_shape=[2, 2], strides=[2, 2])
            continue
        if name == "ip1":
            add("Flatten", "features")
        add("Gemm", name, *of_layer, transB=1)
        if name != "feat":
            add("Relu", f"{name}.relu")
    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "lenet",
        [tensor("images", TensorProto.FLOAT, ["N", *NET["input"]])],
        [tensor(x, TensorProto.FLOAT, ["N", NET["embedding"]])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


class Onnx:
    def __init__(self, model, images, threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
        self.images = images

    def embed(self, images):
        return self.session.run(None, {"images": images})[0]

    def seconds(self, count, calls):
        images = self.images[:count]
        start = time.perf_counter()
        for _ in range(calls):
            self.embed(images)
        return time.perf_counter() - start


def check(found, expected):
    worst, largest = np.abs(found - expected).max(), np.abs(expected).max()
    # `not <=` rather than `>`: a NaN must fail.
    if found.shape != expected.shape or not worst <= 1e-5 * largest:
        sys.exit(f"the embeddings differ by {worst:.3g} of {largest:.3g}")
    print(f"embeddings agree to {worst / largest:.1e} of the largest")


def main(program, rounds=25):
    rng = np.random.default_rng(1)
    start = weights(rng)
    model = graph(start)
    images = rng.uniform(0, 1, (max(CALLS), *NET["input"])).astype(np.float32)
    print(f"ONNX Runtime {onnxruntime.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        start_file, result_file = Path(folder) / "start", Path(folder) / "result"
        save_file(start | {"images": images}, start_file)
        for threads in (1, 2):
            ours = Ours([program, json.dumps(NET), start_file, result_file], threads)
            sides = {"onnx": Onnx(model, images, threads), "ours": ours}
            check(load_file(result_file)["embeddings"], sides["onnx"].embed(images))
            print(f"{threads} thread{'s'[: threads - 1]}, of {rounds} rounds:")
            for count, calls in CALLS.items():
                times = {name: [] for name in sides}
                for _ in range(int(rounds) + 1):
                    for name, side in sides.items():
                        # ONNX Runtime's threads keep spinning for a while.
                        time.sleep(0.02)
                        times[name].append(side.seconds(count, calls) / calls * 1e3)
                # Without the first round, which warms up.
                onnx_ms, ours_ms = (times[name][1:] for name in ("onnx", "ours"))
                ratios = sorted(theirs / our for theirs, our in zip(onnx_ms, ours_ms))
                best = min(onnx_ms), min(ours_ms)
                print(
                    f"  {count:4} images: ONNX Runtime {median(onnx_ms):.3f} ms (fastest "
                    f"{best[0]:.3f}), ours {median(ours_ms):.3f} ({best[1]:.3f}, "
                    f"{count / best[1] * 1e3:,.0f} images a second), ratio {median(ratios):.2f} "
                    f"({ratios[0]:.2f} to {ratios[-1]:.2f}; of the fastest {best[0] / best[1]:.2f})"
                )
            ours.close()


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(*sys.argv[1:])
