// The row of augment_images, which records nothing: it does by hand what check_case does for operations.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "engine/device.h"
#include "engine/memory.h"
#include "engine/ops.h"
#include "engine/tensor.h"
#include "tests/ops/harness.h"
#include "tests/ops/reference_augment.h"

namespace entangle {
namespace {

// A copy of an array on a device.
template <class T>
class OnDevice {
 public:
  OnDevice(const std::vector<T>& values, DeviceKind device)
      : bytes_(values.size() * sizeof(T)), device_(device), memory_(static_cast<T*>(allocate(bytes_, device))) {
    copy_bytes(bytes_, values.data(), DeviceKind::cpu, memory_, device);
  }
  ~OnDevice() { deallocate(memory_, device_); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;
  const T* data() const { return memory_; }

 private:
  size_t bytes_;
  DeviceKind device_;
  T* memory_;
};

struct AugmentCase {
  AugmentShape shape;
  std::vector<ImagePlan> plans;
  std::vector<float> table;
  std::vector<uint8_t> pixels;
};

constexpr RngKey kNoise = {5, static_cast<uint32_t>(Stream::augmentation), 3};

// Every combination of being moved (a little, or out of sight), flipped and erased (in a corner, everywhere, in several
// boxes that lie over one another, not). Image i is mixed by mixes[i mod their number].
AugmentCase draw_case(int64_t batch, int64_t channels, int64_t size, EraseMode erase, const std::vector<Mix>& mixes) {
  const AugmentShape shape = {batch, channels, size, kNoise, erase};
  AugmentCase c = {shape, {}, {}, {}};
  Rng rng(9, Stream::synthetic, static_cast<uint64_t>(batch * 1000 + size));
  for (int64_t i = 0; i < batch; ++i) {
    ImagePlan plan;
    plan.mix = mixes[static_cast<size_t>(i) % mixes.size()];
    const int64_t reach = i % 5 == 4 ? 3 * size : (size + 1) / 2;
    if (i % 5 != 0) plan.placement = {rng.below(2 * reach + 1) - reach, rng.below(2 * reach + 1) - reach, i % 2 == 1};
    plan.boxes = i % 7 == 6 ? kMostErased : i % 3;
    for (int64_t b = 0; b < plan.boxes; ++b) {
      const int64_t height = 1 + rng.below(size), width = 1 + rng.below(size);
      Erasure& erased = plan.erased[b];
      erased.box = {rng.below(size - height + 1), b == 0 ? size - width : rng.below(size - width + 1), height, width};
      if (i % 7 == 5) erased.box = {0, 0, size, size};
      // At any place of a block.
      erased.first_noise = (static_cast<uint64_t>(i) << 32) + static_cast<uint64_t>(b << 20 | (i * 3 + b) % 8);
    }
    c.plans.push_back(plan);
  }
  for (int64_t k = 0; k < 256 * shape.channels; ++k) c.table.push_back(static_cast<float>(rng.uniform(-3, 3)));
  for (int64_t k = 0; k < shape.batch * shape.channels * shape.size * shape.size; ++k) {
    c.pixels.push_back(static_cast<uint8_t>(rng.below(256)));
  }
  return c;
}

std::vector<float> run_augment(const AugmentCase& c, DeviceKind device, const Variation& variation, Faults& faults) {
  variation.choose();
  const OnDevice<ImagePlan> plans(c.plans, device);
  const OnDevice<float> table(c.table, device);
  const OnDevice<uint8_t> pixels(c.pixels, device);
  Guarded out(static_cast<int64_t>(c.pixels.size()), device);
  kernels::augment_images.on(device)(c.shape, plans.data(), table.data(), pixels.data(), out.data());
  out.check("the images", faults);
  return out.values();
}

// What is neither noise nor a mixture has the bits of the table.
void compare_exact_values(const std::string& what, const std::vector<float>& got,
                          const reference::Array<reference::Bounded>& want, Faults& faults) {
  for (size_t i = 0; i < std::min(got.size(), want.size()); ++i) {
    if (want[i].error != 0 || bits_of(got[i]) == bits_of(static_cast<float>(want[i].value))) continue;
    faults.push_back(what + ": value " + std::to_string(i) + " is not that of the table");
    return;
  }
}

// One mix for all, one for both images of a pair, and one for each image, with every kind of erasing.
std::vector<AugmentCase> augment_cases() {
  const Mix none, mixup = {0.3, {}}, all_of_the_partner = {0, {}}, little = {0.9, {}};
  const Mix cut = {0.4, {2, 1, 5, 7}}, whole = {0, {0, 0, 9, 9}}, corner = {0.9, {6, 6, 3, 3}};
  return {draw_case(1, 1, 1, EraseMode::pixel, {none}),
          draw_case(2, 3, 5, EraseMode::pixel, {mixup}),
          draw_case(5, 2, 7, EraseMode::pixel, {{0.8, {1, 2, 3, 4}}}),
          draw_case(9, 1, 28, EraseMode::pixel, {none}),
          draw_case(8, 3, 16, EraseMode::constant, {mixup}),
          draw_case(6, 1, 33, EraseMode::random, {{0.5, {0, 30, 33, 3}}}),
          draw_case(7, 3, 33, EraseMode::pixel, {mixup}),
          draw_case(3, 1, 40, EraseMode::random, {{0.2, {5, 0, 32, 40}}}),
          draw_case(4, 2, 4, EraseMode::constant, {{1, {0, 1, 2, 2}}}),
          draw_case(2, 1, 3, EraseMode::pixel, {all_of_the_partner}),
          draw_case(0, 3, 8, EraseMode::pixel, {none}),
          draw_case(19, 1, 12, EraseMode::pixel, {mixup}),
          draw_case(17, 2, 9, EraseMode::random, {cut}),
          draw_case(4, 1, 9, EraseMode::pixel, {whole}),
          draw_case(8, 3, 9, EraseMode::pixel, {mixup, cut, none, whole, whole, none, cut, mixup}),
          draw_case(16, 2, 9, EraseMode::random, {mixup, cut, none, whole, little, corner, all_of_the_partner}),
          draw_case(13, 3, 9, EraseMode::constant, {corner, cut, whole, little, none}),
          draw_case(7, 1, 150, EraseMode::pixel, {{0.6, {3, 50, 140, 90}}, mixup, {0.7, {0, 63, 70, 2}}, none})};
}

Faults check_augment() {
  const SettingsScope restore;
  Faults faults;
  for (const AugmentCase& c : augment_cases()) {
    const AugmentShape& shape = c.shape;
    const auto want = reference::augment_images(shape, c.plans, c.table, c.pixels);
    for (const Place& place : places()) {
      place.choose();
      const std::vector<Variation> variations = variations_of(place.device);
      const std::vector<float> once = run_augment(c, place.device, variations[0], faults);
      for (const Variation& variation : variations) {
        const std::string what =
            describe(place.name + ": batch, channels, size", {shape.batch, shape.channels, shape.size});
        const std::vector<float> again = run_augment(c, place.device, variation, faults);
        compare(what, again, want, 2, faults);
        compare_exact_values(what, again, want, faults);
        compare_bits(what + ", " + variation.name, again, once, faults);
      }
    }
  }
  return faults;
}

void time_augment(DeviceKind device) {
  static const AugmentCase c = draw_case(4, 3, 224, EraseMode::pixel, {{0.3, {}}});
  const OnDevice<ImagePlan> plans(c.plans, device);
  const OnDevice<float> table(c.table, device);
  const OnDevice<uint8_t> pixels(c.pixels, device);
  const Tensor out = Tensor::empty({static_cast<int64_t>(c.pixels.size())}, device);
  kernels::augment_images.on(device)(c.shape, plans.data(), table.data(), pixels.data(), out.data());
}

const Row augment_row("augment_images", {"augment_images"}, check_augment, time_augment);

}  // namespace
}  // namespace entangle
