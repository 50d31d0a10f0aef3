#include "tools/common/run_board.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

namespace entangle {
namespace {

using nlohmann::ordered_json;

// What is no measurement.
bool is_name(const std::string& key) { return key == "step" || key == "architecture" || key == "teacher"; }

// The numbers in a record, each under the path of its key.
void add_numbers(const ordered_json& record, const std::string& path, std::vector<BoardScalar>& out) {
  for (const auto& [key, value] : record.items()) {  // of a list the key is the index
    if (is_name(key)) continue;
    if (value.is_number()) out.push_back({path + key, value.get<double>()});
    if (value.is_structured()) add_numbers(value, path + key + "/", out);
  }
}

ordered_json parsed(const std::string& line) { return ordered_json::parse(line, nullptr, false); }

int64_t integer_of(const ordered_json& record, const char* key) {
  return record.is_object() && record.contains(key) && record[key].is_number() ? record[key].get<int64_t>() : -1;
}

// Beside a search's candidates its log has a header and a last line.
bool is_candidate(const ordered_json& record) { return integer_of(record, "accuracy") >= 0; }

// Every line as one of code.
std::string indented(const std::string& text) {
  std::string out = "    ";
  for (const char c : text) out += c == '\n' ? std::string("\n    ") : std::string(1, c);
  return out;
}

}  // namespace

std::vector<BoardText> board_texts(const Config& config, const std::map<std::string, std::string>& environment) {
  std::string table = "| what | value |\n|---|---|\n";
  for (const auto& [name, value] : environment) table += "| " + name + " | " + value + " |\n";
  return {{"config", indented(config.to_yaml())}, {"environment", table}};
}

std::vector<std::string> GrowingLog::take() {
  std::ifstream in(path_, std::ios::binary);
  in.seekg(read_);
  const std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  std::vector<std::string> lines;
  size_t begin = 0;
  for (size_t end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
    lines.push_back(text.substr(begin, end - begin));
  }
  read_ += static_cast<int64_t>(begin);
  return lines;
}

TrainingBoard::TrainingBoard(const std::string& run, std::vector<BoardText> texts)
    : log_(run + "/log.jsonl"), events_(run + "/tensorboard/train", std::move(texts)) {
  const std::vector<std::string> lines = log_.take();
  // Event files may tell of steps that the log has no longer: those are computed again.
  add(lines, events_.last());
}

void TrainingBoard::add(const std::vector<std::string>& lines, int64_t known) {
  for (const std::string& line : lines) {
    const ordered_json record = parsed(line);
    const int64_t step = integer_of(record, "step");
    std::vector<BoardScalar> numbers;
    if (step > known) add_numbers(record, "", numbers);
    if (!numbers.empty()) events_.add(step, numbers);
  }
}

void TrainingBoard::follow() { add(log_.take(), -1); }

SearchBoard::SearchBoard(const std::string& run, const std::string& name, const std::vector<BoardText>& texts)
    : log_(run + "/" + name + ".jsonl"),
      candidates_(run + "/tensorboard/" + name, texts),
      generations_(run + "/tensorboard/" + name + "/generations", {}) {
  // Where the log has lost candidates, those are scored again.
  int64_t logged = 0, ended = -1;
  for (const std::string& line : GrowingLog(log_).take()) {
    const ordered_json record = parsed(line);
    if (is_candidate(record)) ++logged, ended = integer_of(record, "generation") - 1;
    if (record.is_object() && record.contains("end")) ++ended;
  }
  known_candidate_ = std::min(candidates_.last(), logged);
  known_generation_ = std::min(generations_.last(), ended);
}

void SearchBoard::follow() {
  for (const std::string& line : log_.take()) {
    ordered_json record = parsed(line);
    if (!is_candidate(record)) continue;
    const int64_t generation = integer_of(record, "generation");
    if (candidate_ > 0 && generation != generation_) end_generation();
    ++candidate_;
    generation_ = generation;
    const double accuracy = record["accuracy"].get<double>();
    if (record["stopped"] == true) {
      record["accuracy_at_most"] = record["accuracy"];
      record.erase("accuracy");
    } else if (accuracy > best_accuracy_) {
      best_accuracy_ = accuracy;
      best_params_ = record["params"].get<double>();
    }
    if (best_accuracy_ >= 0) record["best_accuracy"] = best_accuracy_;
    if (record["latency_ns"] == 0) record.erase("latency_ns");  // not measured
    std::vector<BoardScalar> numbers;
    add_numbers(record, "", numbers);
    if (candidate_ > known_candidate_) candidates_.add(candidate_, numbers);
  }
}

void SearchBoard::end_generation() {
  if (generation_ <= known_generation_ || best_accuracy_ < 0) return;
  generations_.add(generation_, {{"best_accuracy", best_accuracy_}, {"best_params", best_params_}});
}

void SearchBoard::finish() {
  follow();
  if (candidate_ > 0) end_generation();
}

}  // namespace entangle
