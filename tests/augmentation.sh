#!/bin/sh
# What augment_image does and draws against timm, torchvision and Pillow, live. Needs the programs (make) and a Python
# with them: python3 -m venv venv && venv/bin/pip install timm torchvision scipy.
# Usage: [PYTHON=venv/bin/python] [BIN=./] tests/augmentation.sh [PHOTO [DRAWS]] (from the project's
# root).
set -eu
python=${PYTHON:-python3} bin=${BIN:-./}
if ! "$python" -c 'import scipy, timm, torchvision' 2> /dev/null; then
  echo "skipped: $python has no timm, torchvision and scipy; set PYTHON to one that has them"
  exit 0
fi
exec "$python" tools/experiments/compare_augmentation.py "$bin"augment_image "$@"
