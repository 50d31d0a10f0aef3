// The emulator's own controls, for tests: in which order threads run, what faults were found, which device it plays.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "cuda/emulator/cuda_runtime.h"

namespace entangle::emulator {

// The order of a kernel's blocks, of a block's warps, and of a warp's threads; and, seeded alike, the order in which
// streams take turns. At start ENTANGLE_EMULATOR_ORDER=ascending|descending|shuffled in the environment, else
// ascending.
enum class Order { ascending, descending, shuffled };
inline constexpr Order kOrders[] = {Order::ascending, Order::descending, Order::shuffled};
const char* name_of(Order order);
void set_order(Order order, uint64_t seed = 1);
Order order();
uint64_t order_seed();

// The first fault since the last call, or an empty string. A fault stops all work until it is taken, as an error of a
// real device does.
std::string take_fault();

// The device that is played; applies to what is asked of it from then on.
struct DeviceModel {
  int count = 8;  // so that as many processes have one each
  int driver_version = 13000, runtime_version = 13000;
  int major = 9, minor = 0;
  size_t memory = size_t{1} << 36;
  size_t shared_memory = 232448;  // largest of a block
  double patience = 60;           // seconds without progress after which another process is given up
};
DeviceModel& device_model();

// Calls `run`, which launches, waits and returns what came out, under each order. Returns the first difference ("gelu:
// element 3 is 1 with threads ascending, 2 with threads descending"), or an empty string. Puts the order back.
std::string compare_orders(const std::string& name, const std::function<std::vector<float>()>& run);

}  // namespace entangle::emulator
