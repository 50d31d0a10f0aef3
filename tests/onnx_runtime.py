"""Judges one exported model with the ONNX library and ONNX Runtime: onnx_runtime.py MODEL.onnx IMAGES.safetensors
LOGITS.safetensors. The logits are evaluate_subnet's for the images. See onnx_runtime.sh."""

import json
import sys

import numpy as np
import onnx
import onnxruntime


def read_tensor(path, name):
    with open(path, "rb") as file:
        content = file.read()
    start = 8 + int.from_bytes(content[:8], "little")
    entry = json.loads(content[8:start])[name]
    assert entry["dtype"] == "F32"
    first, last = entry["data_offsets"]
    return np.frombuffer(content[start + first : start + last], "<f4").reshape(entry["shape"])


def main():
    path, images_path, logits_path = sys.argv[1:]
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)  # types and shapes are inferred, too
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    depth = json.loads(metadata["architecture"])["depth"]

    images, want = read_tensor(images_path, "images"), read_tensor(logits_path, "logits")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    # As tools/common/export.h states it: 8 roundings for each of the 2 depth + 2 sums into the residual stream.
    allowed = 8 * (2 * depth + 2) * 2.0**-24 * (np.abs(want) + np.abs(want).max())
    largest = 0
    for count in (len(images), 1):  # the batch is any number
        got = session.run(["logits"], {"images": images[:count]})[0]
        assert got.shape == (count, want.shape[1]), got.shape
        difference = np.abs(got.astype(np.float64) - want[:count])
        if not np.all(difference <= allowed[:count]):
            sys.exit(f"{path}: a logit differs by {difference.max():.2e}, of {allowed.min():.2e} allowed")
        largest = max(largest, difference.max())
    print(f"{path}: largest difference of {want.size} logits {largest:.1e}, of {allowed.min():.1e} allowed")


main()
