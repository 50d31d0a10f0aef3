// The linear layers of a space's largest subnet, as a training step meets them.
#pragma once

#include <string>
#include <vector>

#include "engine/ops.h"
#include "engine/tensor.h"
#include "tools/bench_kernels/rivals.h"
#include "tools/common/config.h"

namespace entangle {

struct Layer {
  std::string space, name;
  LinearShape shape;  // the weight is a slice of the supernet's
  int64_t count;      // layers of these sizes in the subnet
  bool input_needs_gradient;
};

// Patch projection, qkv, proj, fc1, fc2, head of a configuration, which `space` names.
std::vector<Layer> layers_of(const std::string& space, const Config& config, int64_t batch);

// What is computed: y = x w^T, dx = dy w, or dw += dy^T x.
enum class Pass { forward, input, weight };
const char* name_of(Pass pass);

// The operands of one layer and the three products on them; biases are left out, since a plain matrix product has none.
class LayerOperands {
 public:
  explicit LayerOperands(const Layer& layer);

  void run_ours(Pass pass);
  // The same product for a rival. Its result goes where ours goes.
  Product product(Pass pass);
  KernelCost cost(Pass pass);
  const Tensor& result(Pass pass) const;

 private:
  LinearShape s_;
  Tensor x_, w_, y_, dy_, dx_, dw_;
};

}  // namespace entangle
