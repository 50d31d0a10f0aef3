#include "search/search_log.h"

#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <optional>
#include <sstream>

#include <nlohmann/json.hpp>

#include "engine/check.h"

namespace entangle {
namespace {

using nlohmann::json;

// nlohmann's objects are sorted by key, and its numbers are the shortest that read back as the same value: equal
// content has equal text.
json header_of(const SearchSpace& space, const SearchOptions& options) {
  return {{"format", "search log"},
          {"format_version", 2},
          {"options",
           {{"algorithm", options.algorithm},
            {"population", options.population},
            {"generations", options.generations},
            {"top", options.top},
            {"mutations", options.mutations},
            {"crossovers", options.crossovers},
            {"mutate_block", options.mutate_block},
            {"mutate_shape", options.mutate_shape},
            {"seed", options.seed},
            {"min_params", options.min_params},
            {"max_params", options.max_params},
            {"min_macs", options.min_macs},
            {"max_macs", options.max_macs},
            {"min_activation_bytes", options.min_activation_bytes},
            {"max_activation_bytes", options.max_activation_bytes},
            {"min_latency_ms", options.min_latency_ms},
            {"max_latency_ms", options.max_latency_ms},
            {"objectives", options.objectives},
            {"early_stop", options.early_stop},
            {"predictor", options.predictor},
            {"predictor_pool", options.predictor_pool},
            {"subject", options.subject}}},
          {"space",
           {{"depth", space.depth},
            {"embed_dim", space.embed_dim},
            {"mlp_ratio", space.mlp_ratio},
            {"num_heads", space.num_heads}}}};
}

std::string line_of(const Candidate& candidate) {
  return concat("{\"accuracy\":", json(candidate.accuracy).dump(),
                ",\"activation_bytes\":", get(candidate.costs, Metric::activation_bytes),
                ",\"architecture\":", candidate.architecture.to_json(), ",\"generation\":", candidate.generation,
                ",\"images\":", candidate.images, ",\"latency_ns\":", get(candidate.costs, Metric::latency),
                ",\"macs\":", get(candidate.costs, Metric::macs), ",\"params\":", get(candidate.costs, Metric::params),
                candidate.predicted ? ",\"predicted\":" + json(*candidate.predicted).dump() : "",
                ",\"stopped\":", candidate.stopped ? "true" : "false", "}");
}

constexpr const char* kEnd = "{\"end\":";

// Null when the text is not JSON, or is nested more deeply than anything written here.
json parse(const std::string& text) {
  bool deep = false;
  const auto guard = [&deep](int depth, json::parse_event_t, json&) {
    deep = deep || depth > 4;
    return !deep;
  };
  json value = json::parse(text, guard, false);
  return value.is_discarded() || deep ? json() : value;
}

std::string show(const json& value) { return value.dump(-1, ' ', true, json::error_handler_t::replace).substr(0, 80); }

// Says where two headers part: the first key, in order, whose values differ.
std::string first_difference(const json& found, const json& wanted, const std::string& prefix = "") {
  for (const auto& item : wanted.items()) {
    const std::string name = prefix + item.key();
    if (!found.contains(item.key())) return concat("it has no ", name);
    const json& there = found[item.key()];
    if (there == item.value()) continue;
    if (there.is_object() && item.value().is_object()) return first_difference(there, item.value(), name + ".");
    return concat(name, " is ", show(there), " there and ", show(item.value()), " here");
  }
  return "it has more keys than this program writes";
}

void check_header(const std::string& path, const std::string& line, const std::string& wanted) {
  if (line == wanted) return;
  const json found = parse(line);
  const json expected = parse(wanted);
  CHECK(found.is_object() && found.contains("format") && found["format"] == expected["format"], path,
        " is not the log of a search: use another output directory, or move the file away");
  RAISE(path, " is the log of another search: ", first_difference(found, expected),
        "; repeat that search's options to continue it, or use another output directory");
}

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  CHECK(in, "cannot read ", path, ": ", std::strerror(errno));
  std::ostringstream text;
  text << in.rdbuf();
  CHECK(!in.bad() && !text.bad(), "cannot read ", path, ": ", std::strerror(errno));
  return text.str();
}

void cut_file(const std::string& path, size_t length) {
  std::error_code error;
  std::filesystem::resize_file(path, length, error);
  CHECK(!error, "cannot cut the torn last line off ", path, ": ", error.message());
}

}  // namespace

void SearchLog::open(const SearchSpace& space, const SearchOptions& options) {
  if (path_.empty()) return;
  const std::string header = header_of(space, options).dump();
  std::error_code ignored;
  const bool exists = std::filesystem::exists(path_, ignored);
  CHECK(!exists || std::filesystem::is_regular_file(path_, ignored), path_,
        " is not a file: use another name for the log");
  if (exists) read(header);
  if (access_ == Access::read) return;
  out_.open(path_, std::ios::binary | std::ios::app);
  CHECK(out_, "cannot write ", path_, ": ", std::strerror(errno));
  if (std::filesystem::file_size(path_) == 0) write(header);
}

void SearchLog::read(const std::string& header) {
  const std::string text = read_file(path_);
  const size_t length = text.rfind('\n') == std::string::npos ? 0 : text.rfind('\n') + 1;
  // Without one whole line, only the beginning of this search's own header may be thrown away.
  if (length == 0 && header.compare(0, text.size(), text) != 0) check_header(path_, text, header);
  std::istringstream stream(text.substr(0, length));
  std::string line;
  if (std::getline(stream, line)) check_header(path_, line, header);
  while (std::getline(stream, line)) lines_.push_back(line);
  if (length < text.size() && access_ == Access::write) cut_file(path_, length);
  if (lines_.empty() || lines_.back().rfind(kEnd, 0) != 0) return;
  // {"end":RECORD}
  CHECK(!parse(lines_.back()).is_null(), path_, ", line ", lines_.size() + 1,
        ": the record of the end is damaged: use ", "another output directory");
  const size_t begin = std::strlen(kEnd);
  end_ = lines_.back().substr(begin, lines_.back().size() - begin - 1);
  lines_.pop_back();
}

bool SearchLog::take(Candidate& candidate) {
  if (taken_ == lines_.size()) return false;
  const std::string& line = lines_[taken_++];
  const json found = parse(line);
  const auto number = [&](const char* key) {
    return found.is_object() && found.contains(key) && found[key].is_number();
  };
  const bool scored = number("accuracy") && number("images") && found.contains("stopped");
  if (scored) {
    candidate.accuracy = found["accuracy"].get<double>();
    candidate.images = found["images"].get<int64_t>();
    candidate.stopped = found["stopped"] == true;
  }
  // The header is line 1. What is drawn is known, so that all but the score must be as it would be written now.
  CHECK(scored && line == line_of(candidate), path_, ", line ", taken_ + 1, ": is not a candidate of this search, ",
        "which has ", candidate.architecture.to_json(), " with ", get(candidate.costs, Metric::params),
        " parameters there; the log was edited or damaged, or belongs to another model: use another output directory");
  return true;
}

void SearchLog::append(const Candidate& candidate) {
  if (!path_.empty()) write(line_of(candidate));
}

void SearchLog::check_all_taken() const {
  CHECK(taken_ == lines_.size(), path_, ", line ", taken_ + 2,
        ": the search ends before this line; the log was edited or damaged: use another output directory");
}

void SearchLog::record_end(const std::string& json) {
  if (!path_.empty()) write(concat(kEnd, json, "}"));
}

void SearchLog::write(const std::string& line) {
  if (access_ == Access::read) return;
  out_ << line << '\n' << std::flush;
  CHECK(out_, "cannot write ", path_, ": ", std::strerror(errno), "; make room and run the same command again");
}

}  // namespace entangle
