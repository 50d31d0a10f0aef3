// How long a step takes with many ranks: what a ring or a tree of messages needs, less what the backward pass hides.
#pragma once

#include <cstdint>

namespace entangle {

// What ranks are joined by. `per_node` ranks of a machine share `node_bandwidth` to the others.
struct Network {
  double latency = 10e-6;         // seconds of a message between two ranks
  double rank_bandwidth = 300e9;  // bytes a second that a rank sends within its machine
  double node_bandwidth = 50e9;   // bytes a second that a machine sends to the others
  int64_t per_node = 8;
};

struct StepModel {
  double compute = 0;         // seconds of a rank's step without communication
  double backward = 2.0 / 3;  // share of it in which gradients appear, beside which they travel
  double bytes = 0;           // of the gradient
  double bucket = 2 << 20;    // bytes that travel at once
  double jitter = 0;          // standard deviation of a rank's step, as a share of it: all wait for the slowest
};

// Seconds in which `bytes` are summed over all ranks: within each machine, between the machines, and back. Each number goes
// through a ring's links twice; each bucket through a tree's levels twice, one latency each.
double sum_seconds(const Network& network, int64_t ranks, double bytes, double bucket);

// Seconds by which communication makes the step longer: the last bucket is full when the backward pass ends, the others travel
// beside it as far as they can; and the expected wait for the slowest of the ranks.
double exposed_seconds(const Network& network, int64_t ranks, const StepModel& step);

// Of `ranks` ranks, the share of the time in which they compute.
double scaling_efficiency(const Network& network, int64_t ranks, const StepModel& step);

}  // namespace entangle
