#!/usr/bin/env python3
"""Images per second of one core's processor time: this loader beside Pillow (torchvision's transforms call it) in one run.

    venv/bin/python tools/experiments/compare_loading.py ./bench_loader runs/photos [IMAGES [OPTIONS OF bench_loader]]

Both decode the same kind of JPEG, take a random resized crop to 224 (bicubic), flip, apply two operations of RandAugment,
each with probability 1/2, normalise and erase. Rounds alternate; the figures are medians, and their ratio.
"""
import glob, io, json, math, random, resource, statistics, subprocess, sys, time

try:
    import numpy as np
    from PIL import Image, ImageEnhance, ImageOps
except ImportError as missing:
    sys.exit(f"error: {missing}; pip install numpy pillow, and run this with that Python\n\n{__doc__}")

FILL, SIZE = (124, 116, 104), 224
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


def affine(image, *m):
    return image.transform(image.size, Image.AFFINE, m, resample=Image.BICUBIC, fillcolor=FILL)


def add_below(image, addend):
    return image.point([min(255, v + addend) if v < 128 else v for v in range(256)] * 3)


def enhance(kind):
    return lambda image, level, sign: kind(image).enhance(max(0.1, 1 + sign * 0.09 * level))


OPERATIONS = [
    lambda i, l, s: ImageOps.autocontrast(i),
    lambda i, l, s: ImageOps.equalize(i),
    lambda i, l, s: ImageOps.invert(i),
    lambda i, l, s: i.rotate(s * 3 * l, resample=Image.BICUBIC, fillcolor=FILL),
    lambda i, l, s: ImageOps.posterize(i, max(1, 4 - int(0.4 * l))),
    lambda i, l, s: ImageOps.solarize(i, 256 - int(25.6 * l)),
    lambda i, l, s: add_below(i, int(11 * l)),
    enhance(ImageEnhance.Color),
    enhance(ImageEnhance.Contrast),
    enhance(ImageEnhance.Brightness),
    enhance(ImageEnhance.Sharpness),
    lambda i, l, s: affine(i, 1, s * 0.03 * l, 0, 0, 1, 0),
    lambda i, l, s: affine(i, 1, 0, 0, s * 0.03 * l, 1, 0),
    lambda i, l, s: affine(i, 1, 0, s * 0.045 * l * SIZE, 0, 1, 0),
    lambda i, l, s: affine(i, 1, 0, 0, 0, 1, s * 0.045 * l * SIZE),
]


def crop_box(width, height, rng):
    for _ in range(10):
        area = width * height * rng.uniform(0.08, 1)
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if w <= width and h <= height:
            x, y = rng.randint(0, width - w), rng.randint(0, height - h)
            return x, y, x + w, y + h
    return 0, 0, width, height


def erase(values, rng):
    if rng.random() >= 0.25:
        return
    area, aspect = SIZE * SIZE * rng.uniform(0.02, 1 / 3), math.exp(rng.uniform(math.log(0.3), -math.log(0.3)))
    h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
    if h < SIZE and w < SIZE:
        y, x = rng.randint(0, SIZE - h), rng.randint(0, SIZE - w)
        values[:, y : y + h, x : x + w] = np.random.standard_normal((3, h, w)).astype(np.float32)


def load(path, rng):
    with open(path, "rb") as file:
        image = Image.open(io.BytesIO(file.read())).convert("RGB")
    image = image.crop(crop_box(*image.size, rng)).resize((SIZE, SIZE), Image.BICUBIC)
    if rng.random() < 0.5:
        image = image.transpose(Image.FLIP_LEFT_RIGHT)
    for _ in range(2):
        operation = rng.choice(OPERATIONS)
        if rng.random() < 0.5:
            image = operation(image, min(10, max(0, rng.gauss(9, 0.5))), rng.choice((-1, 1)))
    values = np.asarray(image, np.float32).transpose(2, 0, 1) / 255
    values = (values - MEAN[:, None, None]) / STD[:, None, None]
    erase(values, rng)
    return values


def pillow(files, count):
    rng = random.Random(0)
    start = time.process_time()
    for i in range(count):
        load(files[i % len(files)], rng)
    return count / (time.process_time() - start)


def ours(program, folder, count, options):
    command = [program, "--data", "folder:" + folder, "--images", str(count), "--batch", "64", "--epochs", "100"] + options
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result = json.loads(out)
    return result["img_per_cpu_s"], result["jpeg"]


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    program, folder = sys.argv[1:3]
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 640
    files = sorted(glob.glob(folder + "/train/*/*"))
    random.Random(1).shuffle(files)
    rounds = [(ours(program, folder, count, sys.argv[4:]), pillow(files, count)) for _ in range(3)]
    here = statistics.median(r[0][0] for r in rounds)
    there = statistics.median(r[1] for r in rounds)
    ratios = [r[0][0] / r[1] for r in rounds]
    print(json.dumps({"jpeg": rounds[0][0][1], "img_per_cpu_s": round(here, 1), "pillow_img_per_cpu_s": round(there, 1),
                      "ratio": round(here / there, 2), "ratios": [round(r, 2) for r in ratios]}))


if __name__ == "__main__":
    main()
