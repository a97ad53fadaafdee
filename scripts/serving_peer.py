"""The service that `train serve` is compared with: FastAPI and ONNX Runtime, for compare-serving.py.

MODEL names a folder with `model.onnx` and `model.json`: `threshold`, and `scale`, `mean` and `std` of the input.
A network of this size takes less time than to hand it to a thread, so requests are answered where they are read.
"""

import io
import json
import os
from pathlib import Path

import numpy as np
import onnxruntime
from fastapi import FastAPI, UploadFile
from fastapi.responses import JSONResponse
from PIL import Image

folder = Path(os.environ["MODEL"])
model = json.loads((folder / "model.json").read_text())
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(
    folder / "model.onnx", options, providers=["CPUExecutionProvider"]
)
app = FastAPI()


async def pixels(upload):
    with Image.open(io.BytesIO(await upload.read())) as image:
        return np.asarray(image.convert("L"), np.float32)


@app.post("/verify")
async def verify(a: UploadFile, b: UploadFile):
    pair = np.stack([await pixels(a), await pixels(b)])[:, None]
    pair = (pair * np.float32(model["scale"]) - np.float32(model["mean"])) / np.float32(model["std"])
    first, second = session.run(None, {"images": pair})[0]
    distance = float(np.linalg.norm(first - second))
    return JSONResponse(
        {
            "same": distance <= model["threshold"],
            "distance": distance,
            "threshold": model["threshold"],
            "embeddings": [first.tolist(), second.tolist()],
        }
    )
