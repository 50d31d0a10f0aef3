#!/usr/bin/env python3
"""Times PyTorch's scaled_dot_product_attention, which has no relative position: nanoseconds per (image, head).

torch_attention.py [--device cuda] [--batch 128] [--heads 4] [--tokens 197] [--width 64] [--fp32]
Prints one JSON line: forward_ns and backward_ns (the backward pass alone).
"""
import argparse
import json
import time

import torch
from torch.nn.functional import scaled_dot_product_attention


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=197)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--fp32", action="store_true")
    parser.add_argument("--repeats", type=int, default=50)
    options = parser.parse_args()
    kind = torch.float32 if options.fp32 else torch.bfloat16
    shape = (options.batch, options.heads, options.tokens, options.width)
    q, k, v = (torch.randn(shape, device=options.device, dtype=kind, requires_grad=True) for _ in range(3))
    grad = torch.randn(shape, device=options.device, dtype=kind)
    wait = torch.cuda.synchronize if options.device.startswith("cuda") else lambda: None

    def seconds(run):
        for _ in range(3):
            run()
        wait()
        start = time.perf_counter()
        for _ in range(options.repeats):
            run()
        wait()
        return (time.perf_counter() - start) / options.repeats

    def forward():
        with torch.no_grad():
            scaled_dot_product_attention(q, k, v)

    def both():
        torch.autograd.grad(scaled_dot_product_attention(q, k, v), (q, k, v), grad)

    pairs = options.batch * options.heads
    first, whole = seconds(forward), seconds(both)
    print(json.dumps(dict(peer="torch " + torch.__version__, fp32=options.fp32, forward_ns=round(1e9 * first / pairs, 1),
                          backward_ns=round(1e9 * (whole - first) / pairs, 1))))


if __name__ == "__main__":
    main()
