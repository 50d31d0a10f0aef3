// The rows of attention, in both precisions. What a row is put through: tests/ops/harness.h.
#include <cmath>

#include "engine/device.h"
#include "engine/ops.h"
#include "tests/ops/harness.h"
#include "tests/ops/reference.h"

#if defined(ENTANGLE_CUDA_EMULATED)
#include "cuda/emulator/emulator.h"
#endif

namespace entangle {
namespace {

// ------------------------------------------------------------------------------------------------------- attention ---

struct AttentionRow {
  int64_t batch, side, heads, head_dim, m;
  float dropout = 0;
  bool recompute = false;
  int64_t first_image = 0;  // of dropout's mask
  Precision precision = Precision::fp32;
  // Inputs that bf16 holds exactly leave only the roundings inside of a kernel; and qkv where kernels like it, at a
  // multiple of 64 bytes.
  bool exact = false;
};

Generator representable(double low, double high) {
  return [low, high](Rng& rng, int64_t) { return static_cast<float>(reference::nearest_bf16(rng.uniform(low, high))); };
}

AttentionShape shape_of(const AttentionRow& row) {
  return {row.batch,
          row.side * row.side + 1,
          row.heads,
          row.head_dim,
          row.side,
          row.m,
          1 / std::sqrt(static_cast<float>(row.head_dim)),
          row.dropout,
          rng_key(3, Stream::dropout, 5),
          row.precision,
          row.first_image};
}

std::vector<Input> attention_inputs(const AttentionRow& row, int64_t tokens) {
  const auto generator = row.exact ? representable : uniform;
  std::vector<Input> inputs = {{"qkv", {row.batch, tokens, 3 * row.heads * row.head_dim}, {}, {}, generator(-2, 2)}};
  for (const char* name : {"key_v", "key_h", "value_v", "value_h"}) {
    if (row.m > 0) inputs.push_back({name, {2 * row.m + 2, row.head_dim}, {}, {}, generator(-1, 1)});
  }
  return inputs;
}

// c = 2: the errors of N scores reach an entry of p counted as if all had one sign; what occurs is a tenth of it. c = 1
// in bf16, where nearly all of the error is roundings counted at their largest.
Case attention_case(const AttentionRow& row) {
  const AttentionShape s = shape_of(row);
  return {describe("batch, side, heads, width, m", {row.batch, row.side, row.heads, row.head_dim, row.m}) +
              (row.dropout > 0 ? ", dropout" : "") + (row.first_image > 0 ? ", not the first images" : "") +
              (row.recompute ? ", computed again" : "") + (row.exact ? ", exact inputs" : ""),
          attention_inputs(row, s.tokens),
          {row.batch, s.tokens, row.heads * row.head_dim},
          [s, row](const std::vector<Tensor>& t) {
            const Tensor qkv = row.exact ? dropout(t[0], 0, s.key) : t[0];  // a copy
            if (t.size() == 1) return attention(qkv, {}, s, row.recompute);
            return attention(qkv, {t[1], t[2], t[3], t[4]}, s, row.recompute);
          },
          [s](const auto& in) { return reference::attention(s, in); },
          [s](const auto& in, const auto& dy) { return reference::attention_backward(s, in, dy); },
          row.precision == Precision::bf16 ? 1.0 : 2.0,
          false,
          row.exact ? representable(-1, 1) : uniform(-1, 1)};
}

std::vector<Case> attention_cases_of(const std::vector<AttentionRow>& rows, Precision precision) {
  std::vector<Case> cases;
  for (AttentionRow row : rows) {
    row.precision = precision;
    cases.push_back(attention_case(row));
  }
  return cases;
}

const std::vector<AttentionRow> kAttentionRows = {{1, 1, 1, 8, 1},
                                                  {2, 2, 3, 8, 1},
                                                  {3, 2, 1, 5, 3},
                                                  {1, 4, 2, 20, 2},
                                                  {2, 4, 3, 32, 3},
                                                  {1, 4, 1, 64, 14},
                                                  {2, 5, 2, 20, 2},
                                                  {1, 5, 2, 32, 0},
                                                  {2, 2, 2, 64, 0},
                                                  {1, 7, 1, 32, 4},
                                                  {2, 4, 2, 20, 2, 0.3f},
                                                  {1, 5, 3, 8, 0, 0.1f},
                                                  {1, 14, 1, 16, 14},
                                                  {1, 17, 1, 5, 14},
                                                  {0, 2, 2, 8, 1},
                                                  {2, 5, 2, 20, 2, 0, true},
                                                  {1, 5, 2, 32, 0, 0, true},
                                                  {2, 4, 2, 20, 2, 0.3f, true},
                                                  {2, 4, 3, 20, 2, 0.3f, false, 5}};

std::vector<Case> attention_cases() { return attention_cases_of(kAttentionRows, Precision::fp32); }

// Also more rounds of tiles, more pairs of image and head than the kernels have blocks, and exact inputs at every
// combination of widths: of the head up to 32 and up to 64, of the grid's slots up to 32 and up to 64, none.
std::vector<Case> attention_bf16_cases() {
  std::vector<AttentionRow> rows = kAttentionRows;
  for (AttentionRow row : std::vector<AttentionRow>{{1, 1, 2, 4, 3},
                                                    {2, 5, 2, 32, 2},
                                                    {1, 4, 3, 40, 1},
                                                    {2, 3, 2, 64, 4},
                                                    {1, 11, 1, 64, 14, 0.2f},
                                                    {1, 5, 2, 24, 0},
                                                    {1, 6, 1, 60, 0, 0.4f},
                                                    {1, 16, 1, 33, 3},
                                                    {1, 3, 1, 72, 2}}) {
    row.exact = true;
    rows.push_back(row);
  }
  rows.push_back({89, 2, 3, 8, 1});
  return attention_cases_of(rows, Precision::bf16);
}

const Row attention_row("attention", {"attention_forward", "attention_backward"}, attention_cases, [] {
  return attention_case({4, 14, 4, 64, 14});
});
const Row attention_bf16_row("attention_bf16", {"attention_forward", "attention_backward"}, attention_bf16_cases);

#if defined(ENTANGLE_CUDA_EMULATED)
// Devices with so little shared memory that keys and queries pass through it in chunks; or not at all, the last.
Faults check_attention_in_chunks() {
  struct Small {
    AttentionRow row;
    size_t shared_memory;
  };
  Faults faults;
  for (Small c : std::vector<Small>{{{1, 11, 1, 64, 2}, 60000},
                                    {{1, 7, 2, 40, 0, 0.2f}, 24000},
                                    {{2, 6, 2, 20, 14, 0.2f}, 25000},
                                    {{1, 16, 1, 5, 3}, 60000},
                                    {{1, 4, 1, 64, 2}, 19000}}) {
    c.row.exact = true;
    c.row.precision = Precision::bf16;
    emulator::device_model().shared_memory = c.shared_memory;
    for (const std::string& fault : check_case(attention_case(c.row))) faults.push_back(fault);
    emulator::device_model() = {};
  }
  return faults;
}
const Row attention_chunks_row("attention_bf16_in_chunks", {"attention_forward", "attention_backward"},
                               check_attention_in_chunks);
#endif

// The published size, alone for its time: N = 197, D = 64, all 13 tiles of all kinds.
const Row attention_bf16_197_row("attention_bf16_197_tokens", {"attention_forward", "attention_backward"}, [] {
  AttentionRow row = {1, 14, 1, 64, 14};
  row.exact = true;
  return attention_cases_of({row}, Precision::bf16);
});

}  // namespace
}  // namespace entangle
