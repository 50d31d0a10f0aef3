// Where the time of preparing a batch goes, thread by thread.
#pragma once

#include <array>
#include <cstdint>

#include "engine/trace.h"

namespace entangle {

// read: a file's bytes. decode: to pixels. resize: the crop, resized and mirrored. operations: those of RandAugment or the
// colour jitter. place: normalising, erasing, mixup and CutMix, or copying into a staged batch. targets: the mixed labels.
enum class Stage { read, decode, resize, operations, place, targets };
inline constexpr int kStages = 6;
const char* name_of(Stage stage);

// Seconds spent in each stage: of the processor, and of the clock, which also counts waiting for a disk or for a turn.
struct StageTimes {
  std::array<double, kStages> cpu = {}, wall = {};
  void add(const StageTimes& more);
};

// What the calling thread spent since it last asked.
StageTimes take_stage_times();

// Seconds since it was made: of the calling thread, and of the clock.
class Stopwatch {
 public:
  Stopwatch();
  double cpu() const;
  double wall() const;

 private:
  double cpu_, wall_;
};

// Counts the time until the end of its scope for the calling thread, and is a span of a trace. Stages do not nest: an inner one counts twice.
class StageScope {
 public:
  explicit StageScope(Stage stage) : stage_(stage), span_("loader", name_of(stage)) {}
  ~StageScope();
  StageScope(const StageScope&) = delete;
  StageScope& operator=(const StageScope&) = delete;

 private:
  Stage stage_;
  TraceSpan span_;
  Stopwatch watch_;
};

}  // namespace entangle
