// Capture of streams as graphs on the emulated device: what a graph does when it is launched, and the faults of capture.
#if defined(ENTANGLE_CUDA_EMULATED)

#include <algorithm>
#include <set>

#include "tests/cuda/emulated.h"

namespace entangle::gpu {
namespace {

__global__ void add_kernel(int n, float a, const float* x, float* y) {
  if (static_cast<int>(threadIdx.x) < n) y[threadIdx.x] += a * x[threadIdx.x];
}

void launch_add(const char* name, cudaStream_t stream, float a, const Tensor& x, const Tensor& y) {
  LAUNCH_AS(name, add_kernel, 1, kWarp, 0, stream, static_cast<int>(x.count()), a, x.data(), y.data());
}

// What is launched by `work` on the stream, recorded.
class Recorded {
 public:
  explicit Recorded(const std::function<void(cudaStream_t)>& work, cudaStream_t on = stream()) {
    cudaGraph_t graph = nullptr;
    CUDA_CHECK(cudaStreamBeginCapture(on, cudaStreamCaptureModeGlobal));
    work(on);
    CUDA_CHECK(cudaStreamEndCapture(on, &graph));
    CUDA_CHECK(cudaGraphInstantiate(&executable_, graph));
    CUDA_CHECK(cudaGraphDestroy(graph));  // the executable one needs it no longer
  }
  ~Recorded() { cudaGraphExecDestroy(executable_); }
  void launch(cudaStream_t on = stream()) const { CUDA_CHECK(cudaGraphLaunch(executable_, on)); }

 private:
  cudaGraphExec_t executable_ = nullptr;
};

bool is_captured(cudaStream_t stream) {
  cudaStreamCaptureStatus status;
  CUDA_CHECK(cudaStreamIsCapturing(stream, &status));
  return status == cudaStreamCaptureStatusActive;
}

TEST_F(Emulator, GraphRunsWhenItIsLaunchedAndEachTime) {
  const Tensor x = Tensor::from({2}, {1, 2}, DeviceKind::cuda), y = device_zeros(2), copy = device_zeros(2);
  synchronize(DeviceKind::cuda);
  float factor = 1;
  const Recorded graph([&](cudaStream_t on) {
    EXPECT_TRUE(is_captured(on));
    launch_add("add", on, factor, x, y);
    CUDA_CHECK(cudaMemcpyAsync(copy.data(), y.data(), 8, cudaMemcpyDeviceToDevice, on));
    CUDA_CHECK(cudaMemsetAsync(y.data() + 1, 0, 4, on));
  });
  EXPECT_FALSE(is_captured(stream()));
  EXPECT_EQ(values_of(y), (std::vector<float>{0, 0})) << "what is captured does not run";
  factor = 100;  // arguments were taken by value
  for (const float times : {1.0f, 2.0f, 3.0f}) {
    graph.launch();
    EXPECT_EQ(values_of(y), (std::vector<float>{times, 0}));
    EXPECT_EQ(values_of(copy), (std::vector<float>{times, 2}));
  }
}

TEST_F(Emulator, GraphReplaysProductsAndPinnedCopies) {
  const Tensor a = Tensor::from({1}, {3}, DeviceKind::cuda), b = Tensor::from({1}, {0}, DeviceKind::cuda);
  const Tensor c = device_zeros(1);
  float *in = nullptr, *out = nullptr;
  CUDA_CHECK(cudaMallocHost(reinterpret_cast<void**>(&in), sizeof(float)));
  CUDA_CHECK(cudaMallocHost(reinterpret_cast<void**>(&out), sizeof(float)));
  synchronize(DeviceKind::cuda);
  {
    const Recorded graph([&](cudaStream_t on) {
      float one = 1, zero = 0;
      CUDA_CHECK(cudaMemcpyAsync(b.data(), in, sizeof(float), cudaMemcpyHostToDevice, on));
      CUBLAS_CHECK(cublasGemmStridedBatchedEx(blas(), CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, &one, a.data(), CUDA_R_32F, 1,
                                              0, b.data(), CUDA_R_32F, 1, 0, &zero, c.data(), CUDA_R_32F, 1, 0, 1,
                                              CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
      CUDA_CHECK(cudaMemcpyAsync(out, c.data(), sizeof(float), cudaMemcpyDeviceToHost, on));
    });
    for (const float value : {5.0f, 7.0f}) {
      *in = value;
      graph.launch();
      CUDA_CHECK(cudaStreamSynchronize(stream()));
      EXPECT_EQ(*out, 3 * value);
    }
  }
  CUDA_CHECK(cudaFreeHost(in));
  CUDA_CHECK(cudaFreeHost(out));
}

// y = x + x + x by way of a second stream that joins the capture and, with `back`, is joined back.
void fork(const TwoStreams& streams, cudaStream_t origin, const Tensor& x, const Tensor& y, bool out, bool back) {
  launch_add("origin", origin, 1, x, y);
  CUDA_CHECK(cudaEventRecord(streams.event, origin));
  if (!out) launch_add("meanwhile", origin, 1, x, y);
  CUDA_CHECK(cudaStreamWaitEvent(streams.second, streams.event));
  launch_add("branch", streams.second, 1, x, y);
  if (!back) return;
  CUDA_CHECK(cudaEventRecord(streams.event, streams.second));
  CUDA_CHECK(cudaStreamWaitEvent(origin, streams.event));
  launch_add("end", origin, 1, x, y);
}

TEST_F(Emulator, GraphOfTwoStreams) {
  const Tensor x = Tensor::from({2}, {1, 2}, DeviceKind::cuda), y = device_zeros(2);
  synchronize(DeviceKind::cuda);
  const TwoStreams streams;
  const Recorded graph([&](cudaStream_t on) { fork(streams, on, x, y, true, true); }, streams.first);
  EXPECT_FALSE(is_captured(streams.second));
  for (int i = 0; i < 2; ++i) graph.launch(streams.first);
  CUDA_CHECK(cudaStreamSynchronize(streams.first));
  EXPECT_EQ(values_of(y), (std::vector<float>{6, 12}));
  const auto fault = [&](bool out, bool back) {
    return fault_of([&] { Recorded([&](cudaStream_t on) { fork(streams, on, x, y, out, back); }, streams.first); });
  };
  expect_words(fault(false, true), {"'branch', node 2 of the graph, and 'meanwhile', node 1 of the graph, both touch "
                                    "allocation ",
                                    "no event orders them"});
  expect_words(fault(true, false), {"cudaStreamEndCapture: 'branch', node 1 of the graph", "was not joined back"});
  EXPECT_FALSE(is_captured(streams.first)) << "a fault ends the capture";
}

TEST_F(Emulator, BranchesOfAGraphTakeTurnsInDifferentOrders) {
  const Tensor one = Tensor::from({1}, {1}, DeviceKind::cuda), two = Tensor::from({1}, {2}, DeviceKind::cuda);
  float* pinned = nullptr;  // nothing but turns decides which copy is last
  CUDA_CHECK(cudaMallocHost(reinterpret_cast<void**>(&pinned), sizeof(float)));
  synchronize(DeviceKind::cuda);
  const TwoStreams streams;
  const Recorded graph(
      [&](cudaStream_t on) {
        CUDA_CHECK(cudaEventRecord(streams.event, on));
        CUDA_CHECK(cudaStreamWaitEvent(streams.second, streams.event));
        CUDA_CHECK(cudaMemcpyAsync(pinned, one.data(), sizeof(float), cudaMemcpyDeviceToHost, on));
        CUDA_CHECK(cudaMemcpyAsync(pinned, two.data(), sizeof(float), cudaMemcpyDeviceToHost, streams.second));
        CUDA_CHECK(cudaEventRecord(streams.event, streams.second));
        CUDA_CHECK(cudaStreamWaitEvent(on, streams.event));
      },
      streams.first);
  std::set<float> seen;
  for (int i = 0; i < 20; ++i) {
    graph.launch(streams.first);
    CUDA_CHECK(cudaStreamSynchronize(streams.first));
    seen.insert(*pinned);
  }
  EXPECT_EQ(seen, (std::set<float>{1, 2}));
  CUDA_CHECK(cudaFreeHost(pinned));
}

TEST_F(Emulator, GraphIsOrderedLikeAnOperation) {
  const Tensor x = device_zeros(2), y = device_zeros(2);
  synchronize(DeviceKind::cuda);
  const TwoStreams streams;
  const Recorded graph([&](cudaStream_t on) { launch_add("inside", on, 1, x, y); });
  const auto run = [&](bool with_event) {
    return fault_of([&] {
      graph.launch(streams.first);
      CUDA_CHECK(cudaEventRecord(streams.event, streams.first));
      if (with_event) CUDA_CHECK(cudaStreamWaitEvent(streams.second, streams.event));
      launch_add("outside", streams.second, 1, x, y);
      CUDA_CHECK(cudaDeviceSynchronize());
    });
  };
  EXPECT_EQ(run(true), "");
  expect_words(run(false), {"'outside', operation 2 of stream", "and 'graph: inside', operation 2 of stream",
                            "no event orders them"});
}

TEST_F(Emulator, WaitingForWhatIsCapturedIsAFault) {
  const Tensor x = device_zeros(2);
  synchronize(DeviceKind::cuda);
  const TwoStreams streams;
  float host[2] = {};
  void* memory = nullptr;
  const auto during = [&](cudaStreamCaptureMode mode, const std::function<cudaError_t()>& call) {
    return fault_of([&] {
      CUDA_CHECK(cudaStreamBeginCapture(streams.first, mode));
      launch_add("add", streams.first, 1, x, x);
      CUDA_CHECK(cudaEventRecord(streams.event, streams.first));
      CUDA_CHECK(call());
      cudaGraph_t graph = nullptr;
      CUDA_CHECK(cudaStreamEndCapture(streams.first, &graph));
      CUDA_CHECK(cudaGraphDestroy(graph));
    });
  };
  const auto strict = [&](const std::function<cudaError_t()>& call) {
    return during(cudaStreamCaptureModeGlobal, call);
  };
  expect_words(strict([&] { return cudaStreamSynchronize(streams.first); }), {"cudaStreamSynchronize cannot be while"});
  expect_words(strict([&] { return cudaDeviceSynchronize(); }), {"cudaDeviceSynchronize cannot be while stream"});
  expect_words(strict([&] { return cudaEventSynchronize(streams.event); }), {"cudaEventSynchronize: the event was"});
  expect_words(strict([&] { return cudaMemcpyAsync(host, x.data(), 8, cudaMemcpyDeviceToHost, streams.first); }),
               {"cudaMemcpyAsync to pageable memory", "cannot be while stream"});
  expect_words(strict([&] { return cudaMemcpyAsync(x.data(), host, 8, cudaMemcpyHostToDevice, streams.first); }),
               {"cudaMemcpyAsync from pageable memory", "cannot be while stream"});
  const auto allocate = [&] { return cudaMalloc(&memory, 4); };
  expect_words(strict(allocate), {"cudaMalloc cannot be while stream", "cudaStreamCaptureModeRelaxed"});
  EXPECT_EQ(during(cudaStreamCaptureModeRelaxed, allocate), "");
  expect_words(during(cudaStreamCaptureModeRelaxed, [&] { return cudaFree(memory); }), {"cudaFree, which waits"});
  CUDA_CHECK(cudaFree(memory));
  expect_words(strict([&] {
                 CUDA_CHECK(cudaEventRecord(streams.event, streams.second));
                 return cudaStreamWaitEvent(streams.first, streams.event);
               }),
               {"cudaStreamWaitEvent: stream ", "the event was recorded outside"});
  EXPECT_EQ(strict([&] { return cudaStreamSynchronize(streams.second); }), "") << "another stream may be waited for";
}

TEST_F(Emulator, EventOfAnEndedCaptureIsOfNoUse) {
  const Tensor x = device_zeros(2);
  synchronize(DeviceKind::cuda);
  const TwoStreams streams;
  const Recorded graph([&](cudaStream_t on) {
    launch_add("add", on, 1, x, x);
    CUDA_CHECK(cudaEventRecord(streams.event, on));
  });
  expect_words(fault_of([&] { CUDA_CHECK(cudaStreamWaitEvent(streams.second, streams.event)); }),
               {"cudaStreamWaitEvent: the event was recorded in a capture that has ended"});
}

TEST_F(Emulator, GraphNeedsItsMemory) {
  const Tensor x = device_zeros(2);
  Tensor y = device_zeros(2);
  synchronize(DeviceKind::cuda);
  const Recorded graph([&](cudaStream_t on) { launch_add("add", on, 1, x, y); });
  y = device_zeros(2);
  expect_words(fault_of([&] { graph.launch(); }),
               {"cudaGraphLaunch: 'add', node 0 of the graph, touches allocation ", "freed after the capture"});
}

__global__ void one_number_kernel(float* y) { y[0] = static_cast<float>(threadIdx.x); }

TEST_F(Emulator, FaultOfAKernelInAGraph) {
  const Tensor y = device_zeros(1);
  synchronize(DeviceKind::cuda);
  const Recorded graph([&](cudaStream_t on) { LAUNCH(one_number_kernel, 1, 2048, 0, on, y.data()); });
  expect_words(fault_of([&] { graph.launch(); }), {"kernel 'one_number_kernel': blocks of 2048 threads"});
}

}  // namespace
}  // namespace entangle::gpu

#endif  // ENTANGLE_CUDA_EMULATED
