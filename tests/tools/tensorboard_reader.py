"""Prints as JSON what TensorBoard itself reads in a directory of event files: tensorboard_reader.py DIRECTORY. `scalars`
and `texts` are what it shows, after what it forgets at the start of a session; `records` are those that its loader of one
file finds in each, up to the last whole one."""

import glob
import json
import sys

from tensorboard.backend.event_processing import event_accumulator, event_file_loader
from tensorboard.util import tensor_util


def main():
    directory = sys.argv[1]
    board = event_accumulator.EventAccumulator(directory, size_guidance={name: 0 for name in ("scalars", "tensors")})
    board.Reload()
    tags = board.Tags()
    scalars = {tag: [[point.step, point.value] for point in board.Scalars(tag)] for tag in tags["scalars"]}
    texts = {}
    for tag in tags["tensors"]:
        # A scalar is a tensor here too.
        points = [(point.step, tensor_util.make_ndarray(point.tensor_proto)) for point in board.Tensors(tag)]
        if board.SummaryMetadata(tag).plugin_data.plugin_name == "text":
            texts[tag] = [[step, value.item().decode()] for step, value in points]
        else:
            scalars[tag] = [[step, value.item()] for step, value in points]
    loader = event_file_loader.EventFileLoader
    files = sorted(glob.glob(directory + "/*tfevents*"))
    print(json.dumps({"scalars": scalars, "texts": texts, "records": [len(list(loader(f).Load())) for f in files]}))


main()
