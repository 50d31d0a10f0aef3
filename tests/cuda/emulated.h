// For tests that plant faults in kernels of the emulated device.
#pragma once

#if defined(ENTANGLE_CUDA_EMULATED)

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "cuda/device.cuh"
#include "cuda/emulator/emulator.h"
#include "cuda/runtime.h"
#include "engine/device.h"
#include "engine/tensor.h"

namespace entangle::gpu {

// Puts the device that is played, the order and the fault state back as they were.
class Emulator : public testing::Test {
 protected:
  void SetUp() override { emulator::take_fault(); }
  void TearDown() override {
    emulator::device_model() = {};
    emulator::set_order(emulator::Order::ascending);
    emulator::take_fault();
  }
};

inline void expect_words(const std::string& text, const std::vector<std::string>& words) {
  for (const std::string& word : words) EXPECT_NE(text.find(word), std::string::npos) << word << " is not in: " << text;
}

// What waiting for the device says about what was launched.
inline std::string fault_of(const std::function<void()>& launch) {
  std::string text;
  try {
    launch();
    CUDA_CHECK(cudaStreamSynchronize(stream()));
  } catch (const Error& error) {
    text = error.what();
  }
  emulator::take_fault();
  return text;
}

inline std::vector<float> values_of(const Tensor& t) { return t.to_vector(); }

inline Tensor device_zeros(int64_t n) { return Tensor::zeros({n}, DeviceKind::cuda); }

struct TwoStreams {
  cudaStream_t first, second;
  cudaEvent_t event;
  TwoStreams() {
    CUDA_CHECK(cudaStreamCreateWithFlags(&first, cudaStreamNonBlocking));
    CUDA_CHECK(cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking));
    CUDA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  }
  ~TwoStreams() {
    cudaStreamDestroy(first);
    cudaStreamDestroy(second);
    cudaEventDestroy(event);
  }
};

}  // namespace entangle::gpu

#endif  // ENTANGLE_CUDA_EMULATED
