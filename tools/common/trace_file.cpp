#include "tools/common/trace_file.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>

#include "engine/device.h"

namespace entangle {
namespace {

using nlohmann::ordered_json;

constexpr int kProcess = 1;

bool is(const TracedSpan& span, const char* category) { return std::strcmp(span.category, category) == 0; }

double microseconds(int64_t nanoseconds) { return 1e-3 * static_cast<double>(nanoseconds); }

ordered_json thread_name(int thread, const std::string& name) {
  return {{"ph", "M"}, {"name", "thread_name"}, {"pid", kProcess}, {"tid", thread}, {"args", {{"name", name}}}};
}

// A thread is called after what it does first.
ordered_json thread_names(const Trace& trace) {
  std::map<int, std::string> names = {{trace.main_thread, "main"}};
  for (const TracedSpan& span : trace.spans) names.emplace(span.thread, span.category + std::string(" thread"));
  ordered_json events = ordered_json::array();
  for (const auto& [thread, name] : names) events.push_back(thread_name(thread, name));
  return events;
}

ordered_json event_of(const TracedSpan& span) {
  ordered_json event = {{"ph", "X"},
                        {"cat", span.category},
                        {"name", span.name},
                        {"pid", kProcess},
                        {"tid", span.thread},
                        {"ts", microseconds(span.start)},
                        {"dur", microseconds(span.end - span.start)}};
  if (is(span, "kernel")) event["args"] = {{"flops", span.cost.flops}, {"bytes", span.cost.bytes}};
  return event;
}

int64_t count_steps(const Trace& trace) {
  return std::count_if(trace.spans.begin(), trace.spans.end(), [](const TracedSpan& s) { return is(s, "step"); });
}

}  // namespace

std::string to_json(const Trace& trace) {
  ordered_json events = thread_names(trace);
  for (const TracedSpan& span : trace.spans) events.push_back(event_of(span));
  const std::string counter = std::string("memory in use, ") + name_of(trace.device);
  for (const TracedMemory& sample : trace.memory) {
    events.push_back({{"ph", "C"},
                      {"name", counter},
                      {"pid", kProcess},
                      {"tid", trace.main_thread},
                      {"ts", microseconds(sample.time)},
                      {"args", {{"bytes", sample.in_use}}}});
  }
  return ordered_json{{"traceEvents", events}, {"displayTimeUnit", "ms"}}.dump();
}

double share_of_operations(const Trace& trace) {
  std::vector<TracedSpan> steps, operations;
  for (const TracedSpan& span : trace.spans) {
    if (span.thread != trace.main_thread) continue;
    if (is(span, "step")) steps.push_back(span);
    if (is(span, "forward") || is(span, "backward") || is(span, "optimizer")) operations.push_back(span);
  }
  std::sort(operations.begin(), operations.end(),
            [](const TracedSpan& a, const TracedSpan& b) { return a.start < b.start; });
  int64_t whole = 0, explained = 0;
  for (const TracedSpan& step : steps) {
    whole += step.end - step.start;
    int64_t until = step.start;
    for (const TracedSpan& operation : operations) {
      if (operation.start < until || operation.end > step.end) continue;
      explained += operation.end - operation.start;
      until = operation.end;
    }
  }
  return whole > 0 ? static_cast<double>(explained) / static_cast<double>(whole) : 0;
}

TraceFile::TraceFile(const std::string& path)
    : path_(path), file_(path.empty() ? nullptr : std::make_unique<AtomicFile>(path)) {}

TraceFile::~TraceFile() {
  if (started_) stop_trace();
}

void TraceFile::start(DeviceKind device) {
  if (file_ == nullptr) return;
  start_trace(device);
  started_ = true;
}

void TraceFile::finish() {
  if (!started_) return;
  started_ = false;
  const Trace trace = stop_trace();
  const std::string json = to_json(trace);
  file_->write(json.data(), json.size());
  file_->commit();
  file_.reset();
  std::fprintf(stderr, "%s: %lld steps, %zu spans%s; operations are %.1f %% of the steps\n", path_.c_str(),
               static_cast<long long>(count_steps(trace)), trace.spans.size(), trace.full ? " (no more were kept)" : "",
               100 * share_of_operations(trace));
}

}  // namespace entangle
