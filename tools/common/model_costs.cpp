#include "tools/common/model_costs.h"

#include "nn/cost.h"

namespace entangle {
namespace {

Costs costs_of(const LayerCost& layer) { return {layer.params, layer.macs, layer.activation_bytes, 0}; }

}  // namespace

CostTable model_costs(const SupernetConfig& model, const SearchSpace& space, int64_t batch) {
  model.check_fits(space.largest());
  return CostTable(
      space, [&](int embed_dim) { return costs_of(stem_cost(model, embed_dim, batch)); },
      [&](int embed_dim, int heads, double ratio) {
        return costs_of(block_cost(model, embed_dim, heads, ratio, batch));
      });
}

}  // namespace entangle
