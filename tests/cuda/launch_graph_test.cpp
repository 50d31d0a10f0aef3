// Launches recorded once and launched again (engine/device.h), and the memory that a recording keeps.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <vector>

#include "engine/device.h"
#include "engine/memory.h"
#include "engine/ops.h"
#include "tests/files.h"
#include "tests/small_supernet.h"
#include "tools/common/evaluate.h"
#include "tools/common/models.h"

namespace entangle {
namespace {

#define SKIP_WITHOUT_CUDA() \
  if (!why_no_cuda().empty()) GTEST_SKIP() << why_no_cuda()

TEST(MemoryHold, KeepsWhatIsGivenBackWhileItIsOpen) {
  void* const before = allocate(4096);
  void* outside = nullptr;
  {
    MemoryHold hold(DeviceKind::cpu);
    EXPECT_NE(error_of([] { MemoryHold second(DeviceKind::cpu); }), "");
    void* const inside = allocate(4096);
    deallocate(inside);
    void* const again = allocate(4096);  // the hold hands out its own memory
#if !defined(__SANITIZE_ADDRESS__)
    EXPECT_EQ(again, inside);
#endif
    deallocate(again);
    deallocate(before);
    hold.close();
    std::vector<void*> others;
    for (int i = 0; i < 64; ++i) others.push_back(allocate(4096));
    for (void* const held : {before, inside}) EXPECT_EQ(std::count(others.begin(), others.end(), held), 0);
    for (void* const other : others) deallocate(other);
  }
  const int64_t in_use = memory_counters().in_use;
  outside = allocate(4096);
  EXPECT_EQ(memory_counters().in_use, in_use + 4096);
  deallocate(outside);
}

TEST(LaunchGraph, RunsAgainOnWhatItsInputsHoldThen) {
  SKIP_WITHOUT_CUDA();
  Tensor x = Tensor::from({3}, {-1, 0, 1}, DeviceKind::cuda), y;
  const auto twice = [&] { return gelu(gelu(x)); };  // the inner result is given back while recording
  const std::vector<float> first = twice().to_vector();
  LaunchGraph graph([&] { y = twice(); });
  std::vector<Tensor> others;  // none of them may share memory with the recorded launches
  for (int i = 0; i < 8; ++i) others.push_back(Tensor::from({3}, {7, 8, 9}, DeviceKind::cuda));
  graph.launch();
  EXPECT_EQ(y.to_vector(), first);
  const std::vector<float> values = {2, 3, -0.5f};
  copy_floats(3, values.data(), DeviceKind::cpu, x.data(), DeviceKind::cuda);
  graph.launch();
  EXPECT_EQ(y.to_vector(), twice().to_vector());
  EXPECT_NE(y.to_vector(), first);
  for (const Tensor& other : others) EXPECT_EQ(other.to_vector(), (std::vector<float>{7, 8, 9}));
}

TEST(LaunchGraph, AFailureWhileRecordingLeavesTheDeviceUsable) {
  SKIP_WITHOUT_CUDA();
  const Tensor x = Tensor::from({2}, {1, 2}, DeviceKind::cuda);
  EXPECT_THROW(LaunchGraph([&] {
                 gelu(x);
                 throw std::runtime_error("no");
               }),
               std::runtime_error);
  EXPECT_EQ(gelu(x).to_vector().size(), 2u);
  LaunchGraph([&] { gelu(x); }).launch();
  synchronize(DeviceKind::cuda);
}

TEST(LaunchGraph, NeedsAGpu) {
  if (why_no_cuda().empty()) GTEST_SKIP() << "there is one";
  EXPECT_NE(error_of([] { LaunchGraph graph([] {}); }), "");
}

// `size` images with random pixels.
class RandomImages : public Dataset {
 public:
  RandomImages(const SupernetConfig& model, int64_t size) : model_(model), size_(size) {}
  int64_t size() const override { return size_; }
  int64_t classes() const override { return model_.num_classes; }
  int64_t channels() const override { return model_.in_channels; }
  int64_t label(int64_t index) const override { return index % classes(); }
  void get(int64_t index, Image& image) const override {
    image.height = image.width = model_.image_size;
    image.channels = model_.in_channels;
    image.pixels.resize(static_cast<size_t>(image.height * image.width * image.channels));
    Rng rng(1, Stream::synthetic, static_cast<uint64_t>(index));
    for (uint8_t& pixel : image.pixels) pixel = static_cast<uint8_t>(rng.below(256));
  }

 private:
  SupernetConfig model_;
  int64_t size_;
};

// Four batches of three images, then one of two: plain, recorded, launched twice, plain.
TEST(LaunchGraph, EvaluationByItEqualsPlainPasses) {
  SKIP_WITHOUT_CUDA();
  const SupernetConfig model = small_config();
  const Supernet net(model, 7, DeviceKind::cuda);
  const auto data = std::make_shared<RandomImages>(model, 14);
  const DataSource source = {"random", data, data, {0.5f, 0.4f}, {0.25f, 0.2f}};
  const EvaluationSet set(data, source, all_indices(*data), model.image_size, EvaluationSet::Keep::yes);
  for (const Architecture& architecture : {mixed_architecture(), model.full()}) {
    Evaluation plain;
    for (int64_t begin = 0; begin < set.size(); begin += 3) {
      const Batch batch = set.load(begin, std::min<int64_t>(3, set.size() - begin));
      const Tensor images = Tensor::from({batch.count, model.in_channels, model.image_size, model.image_size},
                                         batch.images, DeviceKind::cuda);
      Evaluation part;
      add_logits(net.forward(images, architecture).to_vector(), batch.labels, model.num_classes, part);
      plain.top1 += part.top1;
      plain.loss += part.loss;
    }
    const Evaluation found = evaluate(net, architecture, set, 3);
    EXPECT_EQ(found.images, 14);
    EXPECT_EQ(found.top1, plain.top1);
    EXPECT_EQ(found.loss, plain.loss / 14);
  }
}

}  // namespace
}  // namespace entangle
