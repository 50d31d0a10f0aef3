#include "data/stages.h"

#include <ctime>
#include <utility>

namespace entangle {

namespace {

thread_local StageTimes own_times;

double seconds_of(clockid_t clock) {
  timespec now = {};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

}  // namespace

const char* name_of(Stage stage) {
  constexpr const char* kNames[kStages] = {"read", "decode", "resize", "operations", "place", "targets"};
  return kNames[static_cast<size_t>(stage)];
}

void StageTimes::add(const StageTimes& more) {
  for (size_t s = 0; s < kStages; ++s) {
    cpu[s] += more.cpu[s];
    wall[s] += more.wall[s];
  }
}

StageTimes take_stage_times() { return std::exchange(own_times, StageTimes()); }

Stopwatch::Stopwatch() : cpu_(seconds_of(CLOCK_THREAD_CPUTIME_ID)), wall_(seconds_of(CLOCK_MONOTONIC)) {}
double Stopwatch::cpu() const { return seconds_of(CLOCK_THREAD_CPUTIME_ID) - cpu_; }
double Stopwatch::wall() const { return seconds_of(CLOCK_MONOTONIC) - wall_; }

StageScope::~StageScope() {
  own_times.cpu[static_cast<size_t>(stage_)] += watch_.cpu();
  own_times.wall[static_cast<size_t>(stage_)] += watch_.wall();
}

}  // namespace entangle
