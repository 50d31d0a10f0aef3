#include "tools/bench_kernels/rivals.h"

#include <dlfcn.h>

#include <cstdlib>
#include <optional>

namespace entangle {
namespace {

void* open_first(std::initializer_list<const char*> names) {
  for (const char* name : names) {
    if (void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL)) return library;
  }
  return nullptr;
}

template <class Function>
Function* symbol(void* library, const char* name) {
  return reinterpret_cast<Function*>(dlsym(library, name));
}

std::optional<Rival> load_openblas(int threads) {
  using Sgemm = void(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha, const float* a,
                     int a_row, const float* b, int b_row, float beta, float* c, int c_row);
  void* library = open_first({"libopenblas.so.0", "libopenblas.so"});
  if (library == nullptr) return {};
  const auto sgemm = symbol<Sgemm>(library, "cblas_sgemm");
  const auto set_threads = symbol<void(int)>(library, "openblas_set_num_threads");
  const auto core = symbol<const char*()>(library, "openblas_get_corename");
  if (sgemm == nullptr || set_threads == nullptr || core == nullptr) return {};
  set_threads(threads);
  return Rival{"OpenBLAS (" + std::string(core()) + ")", [sgemm](const Product& p) {
                 constexpr int kRowMajor = 101, kPlain = 111, kTransposed = 112;  // of cblas.h
                 const auto size = [](int64_t n) { return static_cast<int>(n); };
                 sgemm(kRowMajor, p.transpose_a ? kTransposed : kPlain, p.transpose_b ? kTransposed : kPlain, size(p.m),
                       size(p.n), size(p.k), 1, p.a, size(p.a_row), p.b, size(p.b_row), p.beta, p.c, size(p.c_row));
               }};
}

std::optional<Rival> load_onednn() {
  using Sgemm = int(char transpose_a, char transpose_b, int64_t m, int64_t n, int64_t k, float alpha, const float* a,
                    int64_t a_row, const float* b, int64_t b_row, float beta, float* c, int64_t c_row);
  void* library = open_first({"libdnnl.so.3", "libdnnl.so.2", "libdnnl.so"});
  if (library == nullptr) return {};
  const auto sgemm = symbol<Sgemm>(library, "dnnl_sgemm");
  if (sgemm == nullptr) return {};
  return Rival{"oneDNN", [sgemm](const Product& p) {
                 sgemm(p.transpose_a ? 'T' : 'N', p.transpose_b ? 'T' : 'N', p.m, p.n, p.k, 1, p.a, p.a_row, p.b,
                       p.b_row, p.beta, p.c, p.c_row);
               }};
}

}  // namespace

std::vector<Rival> load_rivals(int threads) {
  // Read by the libraries and by their OpenMP while they load. The first two are safe settings of some machines, which
  // make OpenBLAS run code for older processors.
  unsetenv("OPENBLAS_CORETYPE");
  unsetenv("OPENBLAS_L2_SIZE");
  setenv("OMP_NUM_THREADS", std::to_string(threads).c_str(), 1);
  std::vector<Rival> rivals;
  for (std::optional<Rival>& rival : std::vector<std::optional<Rival>>{load_openblas(threads), load_onednn()}) {
    if (rival.has_value()) rivals.push_back(std::move(*rival));
  }
  return rivals;
}

}  // namespace entangle
