#include "cuda/emulator/collective.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "cuda/emulator/memory.h"
#include "cuda/emulator/nccl.h"
#include "engine/check.h"

namespace entangle::emulator {

size_t size_of(int32_t type) {
  switch (type) {
    case ncclUint8:
      return 1;
    case ncclBfloat16:
      return 2;
    case ncclFloat32:
      return 4;
    case ncclInt64:
    case ncclUint64:
    case ncclFloat64:
      return 8;
  }
  return 0;
}

const char* name_of_kind(int32_t kind) {
  static const char* const names[] = {"ncclAllReduce", "ncclBroadcast", "ncclAllGather", "ncclReduceScatter"};
  return names[kind];
}

const char* name_of_type(int32_t type) {
  return type == ncclUint8      ? "uint8"
         : type == ncclBfloat16 ? "bf16"
         : type == ncclFloat32  ? "float32"
         : type == ncclInt64    ? "int64"
         : type == ncclUint64   ? "uint64"
                                : "float64";
}

bool is_device_memory(const char* memory, size_t bytes) {
  const Allocation* allocation = find_allocation(memory);
  return allocation != nullptr && memory + bytes <= allocation->data + allocation->bytes;
}

namespace {

std::string text_of(const Call& call) {
  std::string text = concat(name_of_kind(call.kind), " of ", call.count, " ", name_of_type(call.type));
  if (call.kind == broadcast) text += concat(" from rank ", call.root);
  if (call.kind == all_reduce || call.kind == reduce_scatter) text += concat(", operation ", call.op);
  return text;
}

struct Bf16 {
  uint16_t bits;
};
float load(Bf16 value) {
  const uint32_t word = static_cast<uint32_t>(value.bits) << 16;
  float result;
  std::memcpy(&result, &word, sizeof result);
  return result;
}
void store(float value, Bf16& to) {
  uint32_t word;
  std::memcpy(&word, &value, sizeof word);
  to.bits = static_cast<uint16_t>(value != value ? word >> 16 | 0x40 : (word + 0x7fffu + (word >> 16 & 1)) >> 16);
}
template <class T>
T load(T value) {
  return value;
}
template <class T>
void store(T value, T& to) {
  to = value;
}

template <class V>
V combine(int32_t op, V a, V b) {
  if (op == ncclProd) return static_cast<V>(a * b);
  if (op == ncclMax) return a > b || a != a ? a : b;
  if (op == ncclMin) return a < b || a != a ? a : b;
  return static_cast<V>(a + b);
}

// to[i] = the ranks' elements from `offset` bytes into their slots on, combined in ascending order, each time rounded to the
// type. An average multiplies floating-point numbers by 1 / ranks, rounded, before they are added; sums of others it divides.
template <class T>
void reduce(const Meeting& meeting, int32_t op, size_t offset, size_t bytes, char* to) {
  using Value = decltype(load(T()));
  constexpr bool kFloating = std::is_floating_point_v<Value>;
  const Value ranks = static_cast<Value>(meeting.ranks());
  T share;
  store(static_cast<Value>(1 / ranks), share);
  const auto element = [&](int rank, size_t i) {
    T value;
    std::memcpy(&value, meeting.slot(rank) + offset + i * sizeof(T), sizeof(T));
    if (kFloating && op == ncclAvg) store(static_cast<Value>(load(value) * load(share)), value);
    return load(value);
  };
  for (size_t i = 0; i < bytes / sizeof(T); ++i) {
    T sum;
    store(element(0, i), sum);
    for (int rank = 1; rank < meeting.ranks(); ++rank) store(combine(op, load(sum), element(rank, i)), sum);
    if (!kFloating && op == ncclAvg) store(static_cast<Value>(load(sum) / ranks), sum);
    std::memcpy(to + i * sizeof(T), &sum, sizeof(T));
  }
}

void reduce(const Meeting& meeting, const Call& call, size_t offset, size_t bytes, char* to) {
  switch (call.type) {
    case ncclUint8:
      return reduce<uint8_t>(meeting, call.op, offset, bytes, to);
    case ncclBfloat16:
      return reduce<Bf16>(meeting, call.op, offset, bytes, to);
    case ncclFloat32:
      return reduce<float>(meeting, call.op, offset, bytes, to);
    case ncclFloat64:
      return reduce<double>(meeting, call.op, offset, bytes, to);
    case ncclInt64:
      return reduce<int64_t>(meeting, call.op, offset, bytes, to);
    case ncclUint64:
      return reduce<uint64_t>(meeting, call.op, offset, bytes, to);
  }
}

}  // namespace

std::string Collective::waits(int rank) const {
  return concat("rank ", meeting().rank(), " of ", ranks(), " waits in ", text_of(call), " for rank ", rank);
}

std::string Collective::fault() const {
  const std::string name = name_of_kind(call.kind);
  if (sends() && !is_device_memory(send, send_bytes()))
    return concat(name, ": ", send_bytes(), " bytes to send are no device memory, or leave it");
  if (!is_device_memory(receive, receive_bytes()))
    return concat(name, ": ", receive_bytes(), " bytes to receive are no device memory, or leave it");
  if (!sends() || send >= receive + receive_bytes() || receive >= send + send_bytes()) return "";
  // In place: at this rank's part of the larger one.
  const size_t own = static_cast<size_t>(meeting().rank()) * part();
  const char* at = call.kind == all_gather ? receive + own : receive;
  const char* from = call.kind == reduce_scatter ? send + own : send;
  return from == at ? "" : name + ": what is sent and what is received overlap, but not in place";
}

std::string Collective::post(size_t offset, size_t bytes) const {
  if (sends()) {
    if (!is_written(send + offset, bytes)) {
      return concat(name_of_kind(call.kind), ": sends what nobody has written, in bytes ", offset, " to ",
                    offset + bytes, " of ", send_bytes());
    }
    std::memcpy(meeting().own_slot(), send + offset, bytes);
  }
  meeting().post(call);
  return "";
}

std::string Collective::take(size_t offset, size_t bytes) const {
  for (int rank = 0; rank < meeting().ranks(); ++rank) {
    if (same(meeting().call(rank), call)) continue;
    return concat("rank ", meeting().rank(), " calls ", text_of(call), "; rank ", rank, " calls ",
                  text_of(meeting().call(rank)), ": all ranks of a communicator call the same, in the same order");
  }
  const auto received = [](char* to, size_t size) { note_written(to, size); };
  if (call.kind == all_reduce) {
    reduce(meeting(), call, 0, bytes, receive + offset);
    received(receive + offset, bytes);
  } else if (call.kind == broadcast) {
    std::memcpy(receive + offset, meeting().slot(call.root), bytes);
    received(receive + offset, bytes);
  } else if (call.kind == all_gather) {
    for (size_t rank = 0; rank < ranks(); ++rank) {
      std::memcpy(receive + rank * part() + offset, meeting().slot(static_cast<int>(rank)), bytes);
      received(receive + rank * part() + offset, bytes);
    }
  } else {
    const size_t own = static_cast<size_t>(meeting().rank()) * part();  // of all ranks' parts
    const size_t first = std::max(own, offset), last = std::min(own + part(), offset + bytes);
    if (first < last) {
      reduce(meeting(), call, first - offset, last - first, receive + first - own);
      received(receive + first - own, last - first);
    }
  }
  meeting().taken();
  return "";
}

}  // namespace entangle::emulator
