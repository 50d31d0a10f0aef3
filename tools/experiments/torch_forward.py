#!/usr/bin/env python3
"""Times the forward pass alone of the PyTorch peer's network, as `bench_step --forward-only` does.

torch_forward.py PEER.py --space T --batch 16 --threads 2 [--rpe gather|factorised|none] [--compile]
The options and the JSON line are those of the peer's own `bench` command.
"""
import argparse
import importlib.util
import json
import time

import torch


def largest_subnet(peer, space, relative_position):
    """The peer's supernet at 224 x 224 and the largest architecture of its space."""
    dims, choices = peer.SPACES[space]
    settings = dict(img_size=224, patch_size=16, in_chans=3, num_classes=1000, mlp_ratio=4.0, global_pool=True,
                    relative_position=relative_position, max_relative_position=14, **dims)
    depth = max(choices["depth"])
    arch = dict(depth=depth, embed_dim=max(choices["embed_dim"]), mlp_ratio=[max(choices["mlp_ratio"])] * depth,
                num_heads=[max(choices["num_heads"])] * depth)
    return peer.Supernet(settings).eval(), arch


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("peer")
    parser.add_argument("--space", default="T", choices=["T", "S", "B"])
    parser.add_argument("--arch", default="max", choices=["max"])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rpe", default="gather", choices=["gather", "factorised", "none"])
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=2)
    options = parser.parse_args()

    spec = importlib.util.spec_from_file_location("peer", options.peer)
    peer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(peer)
    torch.set_num_threads(options.threads)
    net, arch = largest_subnet(peer, options.space, options.rpe != "none")
    run = torch.compile(net) if options.compile else net
    images = torch.randn(options.batch, 3, 224, 224)
    seconds = []
    with torch.inference_mode():
        for _ in range(options.warmup + options.steps):
            start = time.perf_counter()
            run(images, arch, options.rpe)
            seconds.append(time.perf_counter() - start)
    median = sorted(seconds[options.warmup:])[options.steps // 2]
    print(json.dumps(dict(peer="torch " + torch.__version__, space=options.space, arch="max", rpe=options.rpe,
                          amp=False, compile=options.compile, forward_only=True, batch=options.batch, device="cpu",
                          threads=options.threads, step_s=round(median, 5),
                          img_per_s=round(options.batch / median, 2))))


if __name__ == "__main__":
    main()
