// One rank's part of a collective of the emulated NCCL.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "cuda/emulator/meeting.h"

namespace entangle::emulator {

enum Kind : int32_t { all_reduce, broadcast, all_gather, reduce_scatter };

const char* name_of_kind(int32_t kind);
const char* name_of_type(int32_t type);
// Whether that memory is within an allocation of the device.
bool is_device_memory(const char* memory, size_t bytes);
// Bytes of an element, 0 of an unknown type.
size_t size_of(int32_t type);

struct Communicator {
  Meeting meeting;
  int64_t id;
  std::string name;      // what ranks of one communicator share
  bool aborted = false;  // then its collectives wait for nobody and move nothing

  Communicator(const std::string& shared_name, int ranks, int rank, int64_t number, std::string& fault)
      : meeting(shared_name, ranks, rank, fault), id(number), name(shared_name) {}
};

struct Collective {
  std::shared_ptr<Communicator> communicator;
  Call call;
  const char* send;
  char* receive;

  Meeting& meeting() const { return communicator->meeting; }
  size_t part() const { return call.count * size_of(call.type); }
  size_t ranks() const { return static_cast<size_t>(meeting().ranks()); }
  bool sends() const { return call.kind != broadcast || call.root == meeting().rank(); }
  size_t send_bytes() const { return call.kind == reduce_scatter ? ranks() * part() : part(); }
  size_t receive_bytes() const { return call.kind == all_gather ? ranks() * part() : part(); }

  // What is wrong with the memory that it was given, or an empty string.
  std::string fault() const;
  // Of a piece of what is sent. They return the fault or an empty string.
  std::string post(size_t offset, size_t bytes) const;
  std::string take(size_t offset, size_t bytes) const;
  std::string waits(int rank) const;
};

}  // namespace entangle::emulator
