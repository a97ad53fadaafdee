"""A LeNet of ours as an ONNX model."""

import onnx
from onnx import TensorProto, helper, numpy_helper


def lenet_onnx(net, weights):
    """The bytes of the model of `net`, a model file's configuration, with these weights by name.

    Its input is `images` (N, C, H, W), its output the embeddings (N, D).
    """
    nodes, x = [], "images"

    def add(op, name, *inputs, **attributes):
        nonlocal x
        nodes.append(helper.make_node(op, [x, *inputs], [name], **attributes))
        x = name

    def activate(activation):
        if activation == "relu":
            add("Relu", f"{x}.relu")
        elif activation != "linear":
            raise ValueError(f"no activation {activation}")

    def layer(op, name, **attributes):
        add(op, name, f"{name}.weight", f"{name}.bias", **attributes)

    for i in range(len(net["channels"])):
        layer("Conv", f"conv{i + 1}")
        activate(net["conv_activation"])
        add("MaxPool", f"conv{i + 1}.pool", kernel_shape=[2, 2], strides=[2, 2])
    add("Flatten", "features")
    for i, hidden in enumerate(net["hidden"]):
        layer("Gemm", f"ip{i + 1}", transB=1)
        activate(hidden["activation"])
    layer("Gemm", "feat", transB=1)
    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "lenet",
        [tensor("images", TensorProto.FLOAT, ["N", *net["input"]])],
        [tensor(x, TensorProto.FLOAT, ["N", net["embedding"]])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()
