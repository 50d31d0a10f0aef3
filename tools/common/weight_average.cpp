#include "tools/common/weight_average.h"

#include <algorithm>
#include <utility>

#include "engine/parallel.h"

namespace entangle {

WeightAverage::WeightAverage(const Supernet& supernet, double decay)
    : decay_(static_cast<float>(decay)), values_(supernet.parameters().to_host(supernet.parameters().values())) {}

void WeightAverage::update(const Supernet& supernet) {
  const ParameterArena& arena = supernet.parameters();
  std::vector<float> copy;
  if (arena.device() != DeviceKind::cpu) copy = arena.to_host(arena.values());
  const float* weights = copy.empty() ? arena.values() : copy.data();
  constexpr int64_t kPerChunk = 16384;
  const int64_t n = arena.size();
  parallel_for((n + kPerChunk - 1) / kPerChunk, [&](int64_t chunk) {
    for (int64_t i = chunk * kPerChunk; i < std::min(n, (chunk + 1) * kPerChunk); ++i) {
      float& value = values_[static_cast<size_t>(i)];
      value = decay_ * value + (1 - decay_) * weights[i];
    }
  });
}

WeightAverage::InPlace::InPlace(Supernet& supernet, const WeightAverage& average)
    : supernet_(supernet), weights_(supernet.parameters().to_host(supernet.parameters().values())) {
  supernet.parameters().from_host(average.values(), supernet.parameters().values());
}

WeightAverage::InPlace::~InPlace() { supernet_.parameters().from_host(weights_, supernet_.parameters().values()); }

}  // namespace entangle
