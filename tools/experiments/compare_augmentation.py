#!/usr/bin/env python3
"""Augmentation beside the libraries of the published recipe (timm, torchvision, Pillow), live.

    venv/bin/python tools/experiments/compare_augmentation.py ./augment_image [PHOTO] [DRAWS]

Every deterministic operation has to be within one grey level; everything that is drawn has to pass the two-sample test
of Kolmogorov and Smirnov, or Pearson's on a table of counts, at p > 0.0005. Exit status 1 when anything does not.
PHOTO is by default a made-up picture, DRAWS 20000 of either side. Needs: pip install timm torchvision scipy.
"""
import json, math, os, random, subprocess, sys, tempfile
from collections import Counter

import numpy as np
import torch
from PIL import Image
from scipy import stats
from timm.data import auto_augment as aa
from timm.data.mixup import Mixup, cutmix_bbox_and_lam
from timm.data.random_erasing import RandomErasing
from timm.data.transforms import RandomResizedCropAndInterpolation
from torchvision import transforms
from torchvision.transforms import functional as F

FILL, P = (124, 116, 104), 0.0005
failures = []


def report(name, ok, detail):
    print(f"{'ok  ' if ok else 'FAIL'} {name}: {detail}")
    if not ok:
        failures.append(name)


def made_up_photo(path):
    x, y = np.meshgrid(np.arange(203), np.arange(151))
    rng = np.random.default_rng(1)
    waves = [128 + 90 * np.sin(x / a + y / b) for a, b in ((9, 31), (23, -14), (50, 7))]
    noise = rng.normal(0, 12, (151, 203, 3))
    Image.fromarray(np.clip(np.stack(waves, 2) + noise, 0, 255).astype(np.uint8)).save(path)


def ours(program, photo, *arguments):
    out = os.path.join(tempfile.gettempdir(), f"compare_augmentation_{os.getpid()}.png")
    subprocess.run([program, photo, out, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)
    with Image.open(out) as image:
        pixels = np.array(image.convert("RGB"))
    os.remove(out)
    return pixels


def compare_images(name, got, want):
    want = np.array(want)
    if got.shape != want.shape:
        return report(name, False, f"{got.shape} against {want.shape}")
    apart = np.abs(got.astype(int) - want.astype(int))
    report(name, apart.max() <= 1, f"at most {apart.max()} levels apart, {100 * (apart > 0).mean():.3f} % of values")


def compare_operations(program, photo):
    image = Image.open(photo).convert("RGB")
    cases = [("auto_contrast", [None], lambda i, v, k: aa.auto_contrast(i)),
             ("equalize", [None], lambda i, v, k: aa.equalize(i)),
             ("invert", [None], lambda i, v, k: aa.invert(i)),
             ("rotate", [-27, 4.2, 30], lambda i, v, k: aa.rotate(i, v, **k)),
             ("posterize", [1, 2, 3], lambda i, v, k: aa.posterize(i, v)),
             ("solarize", [26, 128, 230], lambda i, v, k: aa.solarize(i, v)),
             ("solarize_add", [7, 99, 110], lambda i, v, k: aa.solarize_add(i, v)),
             ("color", [0.19, 0.6, 1.4, 1.81], lambda i, v, k: aa.color(i, v)),
             ("contrast", [0.19, 0.6, 1.4, 1.81], lambda i, v, k: aa.contrast(i, v)),
             ("brightness", [0.19, 0.6, 1.4, 1.81], lambda i, v, k: aa.brightness(i, v)),
             ("sharpness", [0.19, 0.6, 1.4, 1.81], lambda i, v, k: aa.sharpness(i, v)),
             ("shear_x", [-0.27, 0.1], lambda i, v, k: aa.shear_x(i, v, **k)),
             ("shear_y", [-0.27, 0.1], lambda i, v, k: aa.shear_y(i, v, **k)),
             ("translate_x_rel", [-0.405, 0.12], lambda i, v, k: aa.translate_x_rel(i, v, **k)),
             ("translate_y_rel", [-0.405, 0.12], lambda i, v, k: aa.translate_y_rel(i, v, **k))]
    for name, values, function in cases:
        geometric = name in ("rotate", "shear_x", "shear_y", "translate_x_rel", "translate_y_rel")
        for value in values:
            for kind, resample in (("bicubic", Image.BICUBIC), ("bilinear", Image.BILINEAR))[:2 if geometric else 1]:
                arguments = ["--op", name, "--interpolation", kind] + ([] if value is None else ["--arg", value])
                want = function(image, value, dict(fillcolor=FILL, resample=resample))
                compare_images(f"{name} {value} {kind if geometric else ''}", ours(program, photo, *arguments), want)
    for name, function in (("color", F.adjust_saturation), ("contrast", F.adjust_contrast),
                           ("brightness", F.adjust_brightness)):
        for factor in (0.0, 0.63, 1.37):
            compare_images(f"jitter's {name} {factor}", ours(program, photo, "--op", name, "--arg", factor),
                           function(image, factor))
    for x, y, w, h, size in ((5, 3, 48, 40, 32), (0, 0, 203, 151, 224), (60, 20, 100, 120, 224)):
        compare_images(f"resized crop {w}x{h} to {size}",
                       ours(program, photo, "--resized-crop", f"{x},{y},{w},{h},{size},{size}"),
                       F.resized_crop(image, y, x, h, w, [size, size], transforms.InterpolationMode.BICUBIC))


def same_distribution(name, a, b):
    test = stats.ks_2samp(a, b)
    report(name, test.pvalue > P and min(len(a), len(b)) >= 500,
           f"D = {test.statistic:.4f} on {len(a)} and {len(b)}, p = {test.pvalue:.3f}")


def same_counts(name, a, b):
    keys = sorted(set(a) | set(b), key=str)
    table = np.array([[counts.get(key, 0) for key in keys] for counts in (a, b)])
    test = stats.chi2_contingency(table)
    report(name, test.pvalue > P, f"chi2 = {test.statistic:.1f} of {len(keys)} kinds, p = {test.pvalue:.3f}")


# Ours, and of timm's functions.
NAMES = ("auto_contrast equalize invert rotate posterize solarize solarize_add color contrast brightness sharpness "
         "shear_x shear_y translate_x_rel translate_y_rel").split()


def timm_operations(draws, image):
    """What timm's policy applies, image by image: its functions are replaced by ones that take notes."""
    policy = aa.rand_augment_transform("rand-m9-mstd0.5-inc1", dict(img_mean=FILL, translate_const=100))
    notes = []
    for op in policy.ops:
        def note(img, *arguments, name=op.aug_fn.__name__, **_):
            notes[-1].append((name, float(arguments[0]) if arguments else 0.0))
            return img
        op.aug_fn = note
    for _ in range(draws):
        notes.append([])
        policy(image)
    return notes


def compare_policy(lines, draws, image):
    theirs = timm_operations(draws, image)
    own = [[tuple(op) for op in line["ops"]] for line in lines]
    same_counts("operations an image", Counter(map(len, own)), Counter(map(len, theirs)))
    which = [Counter(name for ops in side for name, _ in ops) for side in (own, theirs)]
    same_counts("which operation", *which)
    for name in NAMES:
        a, b = ([value for ops in side for o, value in ops if o == name] for side in (own, theirs))
        if name in ("posterize", "solarize", "solarize_add"):
            width = 1 if name == "posterize" else 4
            same_counts(f"arguments of {name}", *(Counter(v // width for v in side) for side in (a, b)))
        elif name not in ("auto_contrast", "equalize", "invert"):
            same_distribution(f"arguments of {name}", a, b)


def compare_crops_and_jitter(lines, draws, image):
    width, height = image.size
    boxes = [RandomResizedCropAndInterpolation.get_params(image, (0.08, 1.0), (3 / 4, 4 / 3)) for _ in range(draws)]
    own = [(y, x, h, w) for x, y, w, h in (line["crop"] for line in lines)]
    for name, f in (("area", lambda b: b[2] * b[3] / (width * height)), ("ratio", lambda b: math.log(b[3] / b[2])),
                    ("left", lambda b: b[1]), ("top", lambda b: b[0])):
        same_distribution(f"crop's {name}", [f(b) for b in own], [f(b) for b in boxes])
    half, pair = transforms.RandomHorizontalFlip(0.5), Image.fromarray(np.array([[0, 255]], np.uint8))
    same_counts("flips", Counter(line["flip"] for line in lines),
                Counter(half(pair).getpixel((0, 0)) == 255 for _ in range(draws)))
    names, orders, factors = ["brightness", "contrast", "color"], Counter(), [[], [], []]
    jitter = transforms.ColorJitter(0.4, 0.4, 0.4)
    for _ in range(draws):
        order, *drawn = jitter.get_params(jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
        orders[" ".join(names[i] for i in order.tolist() if i < 3)] += 1
        for i in range(3):
            factors[i].append(drawn[i])
    same_counts("jitter's orders", Counter(" ".join(o for o, _ in line["jitter"]) for line in lines), orders)
    for i, name in enumerate(names):
        same_distribution(f"jitter's {name}", [dict(line["jitter"])[name] for line in lines], factors[i])


def compare_erasing(lines, draws, size):
    erase, theirs, image = RandomErasing(probability=0.25, mode="const", device="cpu"), [], torch.ones(1, size, size)
    for _ in range(draws):
        erase(image)
        rows, columns = ((image[0].amin(axis) == 0).nonzero().flatten().tolist() for axis in (1, 0))
        if rows:
            theirs.append((rows[0], columns[0], rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1))
            image.fill_(1)
    own = [box for line in lines for box in line["boxes"]]
    same_counts("erased or not", Counter({True: len(own), False: draws - len(own)}),
                Counter({True: len(theirs), False: draws - len(theirs)}))
    for name, f in (("area", lambda b: b[2] * b[3]), ("aspect", lambda b: math.log(b[2] / b[3])),
                    ("top", lambda b: b[0]), ("left", lambda b: b[1])):
        same_distribution(f"erased {name}", [f(b) for b in own], [f(b) for b in theirs])


def compare_mixing(lines, draws, size):
    mixup = Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, prob=1.0, switch_prob=0.5, mode="elem", num_classes=10)
    lambdas, cut = mixup._params_per_elem(draws)
    own = [line["mix"] for line in lines]
    plain = [m["lambda"] for m in own if m["box"][2] == 0 and m["lambda"] != 1]
    same_distribution("mixup's lambda", plain, lambdas[~cut])
    boxes = [cutmix_bbox_and_lam((1, 1, size, size), lam) for lam in lambdas[cut]]
    boxes = [(b, lam) for b, lam in boxes if lam != 1]
    cuts = [m for m in own if m["box"][2] > 0 and m["box"][3] > 0]
    same_distribution("CutMix's lambda", [m["lambda"] for m in cuts], [lam for _, lam in boxes])
    same_distribution("CutMix's top", [m["box"][0] for m in cuts], [b[0] for b, _ in boxes])
    same_distribution("CutMix's width", [m["box"][3] for m in cuts], [b[3] - b[2] for b, _ in boxes])
    same_counts("mixup or CutMix", Counter({"mixup": len(plain), "cut": len(cuts)}),
                Counter({"mixup": int((~cut).sum()), "cut": len(boxes)}))


def main():
    program, draws, size = sys.argv[1], int(sys.argv[3]) if len(sys.argv) > 3 else 20000, 224
    random.seed(1), np.random.seed(1), torch.manual_seed(1), torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        photo = sys.argv[2] if len(sys.argv) > 2 else os.path.join(folder, "photo.png")
        if len(sys.argv) <= 2:
            made_up_photo(photo)
        compare_operations(program, photo)
        file = os.path.join(folder, "draws.jsonl")
        subprocess.run([program, photo, file, "--draws", str(draws), "--size", str(size)], check=True,
                       stdout=subprocess.DEVNULL)
        lines, image = [json.loads(line) for line in open(file)], Image.open(photo).convert("RGB")
    compare_crops_and_jitter(lines, draws, image)
    compare_policy(lines, draws, image)
    compare_erasing(lines, draws, size)
    compare_mixing(lines, draws, size)
    print(f"{len(failures)} differ" + "".join(f"\n  {name}" for name in failures))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
