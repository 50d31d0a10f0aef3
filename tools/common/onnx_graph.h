// A network as a graph of ONNX operators.
//
//   input   images [N, C, H, W], normalised as the metadata's "runner" says (tools/common/export.h); N is any number
//   output  logits [N, classes]
//
// Relative position stays factorised. The score of query i and key j adds q_i . (Kv[dv] + Kh[dh]), where the rows dv and dh of
// the two tables are told by the distances of i and j along rows and along columns of the grid. dv depends on the grid rows of
// i and j alone, so the vertical term is a product of the queries of one grid row with the `side` table rows that its keys use:
// [side, side, D] numbers gathered from a table, instead of [tokens, tokens, D]. The horizontal term is the same with rows and
// columns exchanged, and a broadcast sum makes [tokens, tokens] scores of both. Values likewise: probabilities summed over
// the columns of keys meet the vertical table, those summed over the rows the horizontal one. The file holds the tables as
// they were trained, and one index [side, side] for all of them.
#pragma once

#include "nn/supernet.h"
#include "tools/common/onnx_model.h"

namespace entangle {

// The graph of one architecture's own weights, `subnet.config().full()`, in fp32.
OnnxModel onnx_of(const Supernet& subnet);

}  // namespace entangle
