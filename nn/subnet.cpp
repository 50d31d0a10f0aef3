#include "nn/subnet.h"

#include <algorithm>
#include <cmath>

#include "engine/check.h"

namespace entangle {
namespace {

bool ends_with(const std::string& name, const std::string& end) {
  return name.size() >= end.size() && name.compare(name.size() - end.size(), end.size(), end) == 0;
}

bool is_qkv_bias(const Parameter& parameter) { return ends_with(parameter.name, "attn.qkv.bias"); }

// The values of one arena, in host memory.
class HostValues {
 public:
  explicit HostValues(const Supernet& net) : net_(net), values_(net.parameters().to_host(net.parameters().values())) {}

  // What the architecture uses under a published name, whole.
  Tensor tensor(const std::string& name, const Architecture& architecture) {
    const Parameter* parameter = net_.find(name, architecture);
    CHECK(parameter != nullptr, "the supernet has no parameter ", name, " to inherit");
    return Tensor::over(parameter->shape, values_.data() + parameter->offset, nullptr);
  }
  void set(const Parameter& parameter, const std::vector<float>& values) {
    CHECK(static_cast<int64_t>(values.size()) == parameter.shape.count(), parameter.name, " has ",
          parameter.shape.count(), " elements, but inherits ", values.size());
    std::copy(values.begin(), values.end(), values_.begin() + parameter.offset);
  }
  const std::vector<float>& all() const { return values_; }

 private:
  const Supernet& net_;
  std::vector<float> values_;
};

// Row-major values of the view that has `shape`; of a QKV bias, which may be of either kind on either side, the rows Q,
// K, V of the same number of elements.
std::vector<float> view_values(Tensor whole, const Parameter& target) {
  if (is_qkv_bias(target)) {
    const int64_t count = target.shape.count();
    return (whole.rank() == 1 ? whole.slice(0, 0, count) : whole.slice(1, 0, count / 3)).to_vector();
  }
  for (int d = 0; d < whole.rank(); ++d) whole = whole.slice(d, 0, target.shape[d]);
  return whole.to_vector();
}

// Rows 1 .. 2m+1 of a table are the distances -m .. m.
std::vector<float> extend_table(const std::vector<float>& table, int64_t m, int64_t width, int64_t new_m) {
  std::vector<float> out(table.begin(), table.begin() + width);
  for (int64_t distance = -new_m; distance <= new_m; ++distance) {
    const auto row = table.begin() + (std::clamp(distance, -m, m) + m + 1) * width;
    out.insert(out.end(), row, row + width);
  }
  return out;
}

// [1 + side^2, width]: the class token's position stays, the others are resampled.
std::vector<float> resample_positions(const std::vector<float>& positions, int64_t side, int64_t width,
                                      int64_t new_side) {
  const std::vector<float> grid(positions.begin() + width, positions.end());
  std::vector<float> out(positions.begin(), positions.begin() + width);
  const std::vector<float> resampled = resample_grid(grid, side, width, new_side);
  out.insert(out.end(), resampled.begin(), resampled.end());
  return out;
}

void check_equal(const char* what, int64_t from, int64_t to) {
  CHECK(from == to, "weights cannot be inherited: ", what, " is ", from, " there and ", to, " here");
}

void check_inheritable(const SupernetConfig& from, const SupernetConfig& to) {
  check_equal("MODEL.in_channels", from.in_channels, to.in_channels);
  check_equal("MODEL.patch_size", from.patch_size, to.patch_size);
  check_equal("MODEL.head_dim", from.head_dim, to.head_dim);
  check_equal("MODEL.absolute_position", from.absolute_position, to.absolute_position);
  check_equal("MODEL.relative_position", from.relative_position, to.relative_position);
}

double keys_cubic(double x) {
  constexpr double a = -0.75;
  x = std::fabs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

}  // namespace

std::vector<float> resample_grid(const std::vector<float>& grid, int64_t side, int64_t width, int64_t new_side) {
  const double scale = static_cast<double>(side) / static_cast<double>(new_side);
  std::vector<float> out;
  out.reserve(static_cast<size_t>(new_side * new_side * width));
  std::vector<double> sum(static_cast<size_t>(width));
  for (int64_t i = 0; i < new_side * new_side; ++i) {
    const double y = (static_cast<double>(i / new_side) + 0.5) * scale - 0.5;
    const double x = (static_cast<double>(i % new_side) + 0.5) * scale - 0.5;
    const int64_t top = static_cast<int64_t>(std::floor(y)) - 1, left = static_cast<int64_t>(std::floor(x)) - 1;
    std::fill(sum.begin(), sum.end(), 0.0);
    for (int64_t tap = 0; tap < 16; ++tap) {
      const int64_t row = top + tap / 4, column = left + tap % 4;
      const double weight = keys_cubic(y - static_cast<double>(row)) * keys_cubic(x - static_cast<double>(column));
      const int64_t at = std::clamp<int64_t>(row, 0, side - 1) * side + std::clamp<int64_t>(column, 0, side - 1);
      for (int64_t c = 0; c < width; ++c) {
        sum[static_cast<size_t>(c)] += weight * static_cast<double>(grid[static_cast<size_t>(at * width + c)]);
      }
    }
    for (const double value : sum) out.push_back(static_cast<float>(value));
  }
  return out;
}

Inherited inherit_weights(const Supernet& from, const Architecture& architecture, Supernet& to) {
  const SupernetConfig &old = from.config(), &now = to.config();
  old.check_fits(architecture);
  CHECK(now.full() == architecture, "weights of ", architecture.to_json(), " do not fit a network of ",
        now.full().to_json());
  check_inheritable(old, now);
  Inherited inherited;
  inherited.new_head = old.num_classes != now.num_classes;
  inherited.resampled_positions = now.absolute_position && old.side() != now.side();
  inherited.extended_tables = now.relative_position && old.max_relative_position != now.max_relative_position;
  HostValues source(from), target(to);
  for (const Parameter& parameter : to.parameters().all()) {
    const Tensor whole = source.tensor(parameter.name, architecture);
    if (inherited.new_head && parameter.name.rfind("head.", 0) == 0) continue;
    if (inherited.resampled_positions && parameter.name == "pos_embed") {
      const std::vector<float> positions = whole.slice(1, 0, parameter.shape[1]).to_vector();
      target.set(parameter, resample_positions(positions, old.side(), parameter.shape[1], now.side()));
    } else if (inherited.extended_tables && parameter.name.find("rel_pos_embed") != std::string::npos) {
      target.set(parameter, extend_table(whole.to_vector(), old.max_relative_position, parameter.shape[1],
                                         now.max_relative_position));
    } else {
      target.set(parameter, view_values(whole, parameter));
    }
  }
  to.parameters().from_host(target.all(), to.parameters().values());
  return inherited;
}

void lay_out_for_published_code(const Supernet& from, const Architecture& architecture, Supernet& to) {
  from.config().check_fits(architecture);
  CHECK(!from.config().is_classical(),
        "the published code shares weights by entanglement, and has no place for those of "
        "MODEL.sharing=classical; use the dense form");
  CHECK(to.config().qkv_bias == QkvBias::contiguous, "the published code needs a contiguous QKV bias");
  HostValues source(from), target(to);
  const int64_t head_dim = from.config().head_dim;
  int64_t block = 0;
  for (const Parameter& parameter : to.parameters().all()) {
    const Tensor whole = source.tensor(parameter.name, architecture);
    std::vector<float> values = whole.to_vector();
    if (is_qkv_bias(parameter)) {
      if (whole.rank() == 2 && block < architecture.depth) {
        const int64_t width = architecture.num_heads[static_cast<size_t>(block)] * head_dim;
        const std::vector<float> used = whole.slice(1, 0, width).to_vector();
        std::copy(used.begin(), used.end(), values.begin());
      }
      ++block;
    }
    target.set(parameter, values);
  }
  to.parameters().from_host(target.all(), to.parameters().values());
}

}  // namespace entangle
