// What a subnet costs. Every figure but the published one is that of what is executed here, and is checked against it
// in the tests.
#pragma once

#include <cstdint>

#include "nn/supernet.h"

namespace entangle {

// The figures of one architecture.
struct Cost {
  int64_t params;  // elements of all parameter views that a forward pass uses
  // Multiply-accumulates of one image's forward pass: every product of linear layers and attention, the factorised
  // relative position included (q . table, bucket sums . table); not softmax, norms, GELU, additions.
  int64_t macs;
  // The published get_complexity: 198 tokens at 224/16, a head on every token, a made-up relative position term.
  double reference_complexity;
  // Bytes alive at the end of a training forward pass, parameters excluded: what the backward pass needs.
  int64_t activation_bytes;
  // Bytes that a training step takes at its peak, parameters excluded: the images, the activations, and the gradients
  // that the backward pass holds beside them. No less than the peak on the CPU, and at most 15 % more.
  int64_t step_bytes;
};

// Throws Error when the configuration is not valid, the architecture does not fit or batch is not in 1 .. 65536.
Cost cost_of(const SupernetConfig& supernet, const Architecture& architecture, int64_t batch = 1);

// Elements of all parameters of the supernet: those of its largest architecture, or of classical sharing all choices' own.
int64_t supernet_params(const SupernetConfig& supernet);

// The figures that add up over layers: a subnet's are its stem's (everything but the blocks) and its blocks'. At `batch`
// images, 1 .. 65536; the sizes are not checked against the supernet's.
struct LayerCost {
  int64_t params, macs, activation_bytes;
};
LayerCost stem_cost(const SupernetConfig& supernet, int64_t embed_dim, int64_t batch = 1);
LayerCost block_cost(const SupernetConfig& supernet, int64_t embed_dim, int64_t heads, double ratio, int64_t batch = 1);

}  // namespace entangle
