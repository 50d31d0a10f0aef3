// Opens the device, and does with its memory what the engine asks for (engine/device.h).
//
// Math: fills and sums of arrays. Shapes: arrays of n words. Preconditions: the device is usable (why_unusable).
// Launch: fill and add, blocks of kThreads over kPerBlock elements each, no shared memory.
// Numerics: one fp32 addition per element; the same bits always.
#include "cuda/runtime.h"

#include <cstring>
#include <string>

#include "cuda/device.cuh"
#include "engine/device.h"

namespace entangle::gpu {

namespace {

constexpr int kOldestMajor = 8;  // compute capability: bf16 tensor cores, asynchronous copies
constexpr size_t kBlasWorkspace = size_t{32} << 20;
constexpr int64_t kArrivals = 1 << 16;

int selected = 0;
bool opened = false;

std::string version_text(int version) { return concat(version / 1000, ".", version % 1000 / 10); }

struct Device {
  cudaStream_t stream = nullptr, uploads = nullptr;
  cublasHandle_t blas = nullptr;
  cublasLtHandle_t blas_lt = nullptr;
  void* workspace = nullptr;
  void* arrivals = nullptr;
};

Device open_device() {
  const std::string reason = why_unusable(selected);
  CHECK(reason.empty(), reason);
  Device device;
  CUDA_CHECK(cudaSetDevice(selected));
  CUDA_CHECK(cudaStreamCreateWithFlags(&device.stream, cudaStreamNonBlocking));
  CUDA_CHECK(cudaStreamCreateWithFlags(&device.uploads, cudaStreamNonBlocking));
  CUBLAS_CHECK(cublasCreate(&device.blas));
  CUBLAS_CHECK(cublasSetStream(device.blas, device.stream));
  // Products of fp32 in fp32, not in TF32; the parts of a sum that is cut in fp32, too.
  constexpr int kMath = CUBLAS_DEFAULT_MATH | CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
  CUBLAS_CHECK(cublasSetMathMode(device.blas, static_cast<cublasMath_t>(kMath)));
  CUDA_CHECK(cudaMalloc(&device.workspace, kBlasWorkspace));
  CUBLAS_CHECK(cublasSetWorkspace(device.blas, device.workspace, kBlasWorkspace));
  CUBLAS_CHECK(cublasLtCreate(&device.blas_lt));
  CUDA_CHECK(cudaMalloc(&device.arrivals, kArrivals * sizeof(unsigned)));
  CUDA_CHECK(cudaMemsetAsync(device.arrivals, 0, kArrivals * sizeof(unsigned), device.stream));
  opened = true;
  return device;
}

// Kept until the process ends: tensors in static storage outlive any order of destruction.
const Device& device() {
  static const Device* const instance = new Device(open_device());
  return *instance;
}

__global__ void fill_kernel(int64_t n, uint32_t word, uint32_t* to) {
  for_elements(n, [=](int64_t i) { to[i] = word; });
}

__global__ void add_kernel(int64_t n, const float* from, float* to) {
  for_elements(
      n, [=](int64_t i) { return to[i] + from[i]; }, [=](int64_t i, float sum) { to[i] = sum; });
}

}  // namespace

std::string why_unusable(int index) {
  int count = 0, driver = 0, runtime = 0;
  cudaRuntimeGetVersion(&runtime);
  cudaDriverGetVersion(&driver);
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) cudaGetLastError();  // it is told here; later calls start afresh
  if (driver == 0) return "there is no NVIDIA driver on this machine; use --device cpu";
  if (status == cudaErrorInsufficientDriver) {
    return concat("the NVIDIA driver is too old: it supports CUDA ", version_text(driver), ", this build needs ",
                  version_text(runtime), "; update the driver, or use --device cpu");
  }
  if (status != cudaSuccess) {
    return concat("no usable GPU: ", cudaGetErrorString(status), "; check CUDA_VISIBLE_DEVICES, or use --device cpu");
  }
  if (index >= count) {
    return concat("there is no GPU number ", index, ": ", count, " visible, counted from 0; use another --device");
  }
  cudaDeviceProp properties;
  int major = 0, minor = 0;
  CUDA_CHECK(cudaGetDeviceProperties(&properties, index));
  CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index));
  CUDA_CHECK(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, index));
  if (major >= kOldestMajor) return "";
  return concat("GPU ", index, " (", properties.name, ") is too old: it has compute capability ", major, ".", minor,
                ", this build needs ", kOldestMajor, ".0 or later; use --device cpu");
}

int visible() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  cudaGetLastError();  // why_unusable() tells; later calls start afresh
  return 0;
}

void select_device(int index) {
  CHECK(!opened || index == selected, "GPU ", selected, " is in use already; choose GPU ", index, " at the start");
  selected = index;
}

cudaStream_t stream() { return device().stream; }
cublasHandle_t blas() { return device().blas; }
cublasLtHandle_t blas_lt() { return device().blas_lt; }
BlasWorkspace blas_workspace() { return {device().workspace, kBlasWorkspace}; }
unsigned* arrivals(int64_t count) {
  CHECK(count <= kArrivals, "a sum of ", count, " parts is more than a device's ", kArrivals,
        " counts are for; use narrower layers");
  return static_cast<unsigned*>(device().arrivals);
}
size_t shared_memory_limit() {
  int bytes = 0;
  stream();  // the device is open
  CUDA_CHECK(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, selected));
  return static_cast<size_t>(bytes);
}

void* system_allocate(size_t bytes) {
  stream();  // the device is open, or the reason why not is told
  void* memory = nullptr;
  if (cudaMalloc(&memory, bytes) == cudaSuccess) return memory;
  cudaGetLastError();  // the caller tells; later calls start afresh
  return nullptr;
}

void system_free(void* memory) { cudaFree(memory); }

size_t free_memory() {
  size_t bytes = 0, total = 0;
  stream();  // the device is open
  CUDA_CHECK(cudaMemGetInfo(&bytes, &total));
  return bytes;
}

void synchronize() { CUDA_CHECK(cudaStreamSynchronize(stream())); }

void copy_to_device(const void* from, void* to, size_t bytes) {
  CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream()));
}

void copy_to_host(const void* from, void* to, size_t bytes) {
  CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream()));
  synchronize();
}

void* allocate_pinned(size_t bytes) {
  stream();  // the device is open
  void* memory = nullptr;
  CUDA_CHECK(cudaMallocHost(&memory, bytes));
  return memory;
}

void free_pinned(void* memory) { cudaFreeHost(memory); }

void copy_to_pinned(const void* from, void* to, size_t bytes) {
  CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream()));
}

void* create_event(bool timed) {
  cudaEvent_t event = nullptr;
  stream();  // the device is open
  CUDA_CHECK(cudaEventCreateWithFlags(&event, timed ? cudaEventDefault : cudaEventDisableTiming));
  return event;
}

void destroy_event(void* event) { cudaEventDestroy(static_cast<cudaEvent_t>(event)); }
void record_event(void* event) { CUDA_CHECK(cudaEventRecord(static_cast<cudaEvent_t>(event), stream())); }
double seconds_between(void* first, void* second) {
  float ms = 0;
  CUDA_CHECK(cudaEventElapsedTime(&ms, static_cast<cudaEvent_t>(first), static_cast<cudaEvent_t>(second)));
  return 1e-3 * static_cast<double>(ms);
}
void wait_for_event(void* event) { CUDA_CHECK(cudaEventSynchronize(static_cast<cudaEvent_t>(event))); }

void launch_after_event(void* event) { CUDA_CHECK(cudaStreamWaitEvent(stream(), static_cast<cudaEvent_t>(event), 0)); }

void upload_after_event(void* event) {
  CUDA_CHECK(cudaStreamWaitEvent(device().uploads, static_cast<cudaEvent_t>(event), 0));
}

void upload_from_pinned(const void* from, void* to, size_t bytes) {
  CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, device().uploads));
}

void record_upload(void* event) { CUDA_CHECK(cudaEventRecord(static_cast<cudaEvent_t>(event), device().uploads)); }

// Relaxed: the allocator may ask for memory in between.
void begin_recording() { CUDA_CHECK(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeRelaxed)); }

void* end_recording() {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  CUDA_CHECK(cudaStreamEndCapture(stream(), &graph));
  const cudaError_t status = cudaGraphInstantiate(&executable, graph);
  cudaGraphDestroy(graph);
  CUDA_CHECK(status);
  return executable;
}

void abandon_recording() {
  cudaGraph_t graph = nullptr;
  if (cudaStreamEndCapture(stream(), &graph) == cudaSuccess) cudaGraphDestroy(graph);
  cudaGetLastError();  // whoever gave up tells why
}

void launch_recording(void* graph) { CUDA_CHECK(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph), stream())); }
void destroy_recording(void* graph) { cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph)); }

void copy_on_device(const void* from, void* to, size_t bytes) {
  CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream()));
}

void fill(int64_t count, uint32_t word, void* to) {
  LAUNCH(fill_kernel, blocks_for(count, kPerBlock), kThreads, 0, stream(), count, word, static_cast<uint32_t*>(to));
}

void add(int64_t count, const float* from, float* to) {
  LAUNCH(add_kernel, blocks_for(count, kPerBlock), kThreads, 0, stream(), count, from, to);
}

}  // namespace entangle::gpu
