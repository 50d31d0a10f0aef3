#!/bin/sh
# Exports subnets of the golden supernets to ONNX, has the ONNX library check the files, and compares ONNX Runtime's logits
# with evaluate_subnet's. Needs the programs (make) and a Python with both: python3 -m venv venv && venv/bin/pip install
# onnx onnxruntime. Usage: [PYTHON=venv/bin/python] [BIN=build/release/bin/] tests/onnx_runtime.sh (from the project's root).
set -eu
python=${PYTHON:-python3} bin=${BIN:-build/release/bin/}
if ! "$python" -c 'import numpy, onnx, onnxruntime' 2> /dev/null; then
  echo "skipped: $python has no onnx and onnxruntime; set PYTHON to one that has them"
  exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat > "$work/supernet_small.yaml" <<'YAML'
SUPERNET: {MLP_RATIO: 4, NUM_HEADS: 2, EMBED_DIM: 128, DEPTH: 3}
SEARCH_SPACE: {MLP_RATIO: [3, 3.5, 4], NUM_HEADS: [1, 2], EMBED_DIM: [96, 112, 128], DEPTH: [2, 3]}
MODEL: {image_size: 32, patch_size: 8, in_channels: 3, num_classes: 10, head_dim: 64, max_relative_position: 14}
YAML
cat > "$work/supernet_cls_token_clamped.yaml" <<'YAML'
SUPERNET: {MLP_RATIO: 2, NUM_HEADS: 2, EMBED_DIM: 128, DEPTH: 2}
SEARCH_SPACE: {MLP_RATIO: [1, 1.5, 2], NUM_HEADS: [1, 2], EMBED_DIM: [96, 112, 128], DEPTH: [1, 2]}
MODEL: {image_size: 24, patch_size: 4, in_channels: 1, num_classes: 7, head_dim: 64, max_relative_position: 2,
        global_pool: false}
YAML
for golden in supernet_small supernet_cls_token_clamped; do
  for architecture in min mean max; do
    model="--weights tests/golden/$golden/weights.safetensors --config $work/$golden.yaml --architecture $architecture"
    file=$work/$golden.$architecture
    "$bin"export_subnet $model --output "$file.onnx" > /dev/null
    "$bin"evaluate_subnet $model --input tests/golden/$golden/batch.safetensors --output "$file.logits" > /dev/null
    "$python" tests/onnx_runtime.py "$file.onnx" tests/golden/$golden/batch.safetensors "$file.logits"
  done
done
