// A restricted reader of Python's pickles, as PyTorch writes them (protocols 2 to 5).
//
// It executes nothing. A pickle is a program for a small stack machine, which may name any function (GLOBAL) and ask for
// its call (REDUCE); here a call becomes a value that says what was to be called with what, and whoever reads it decides
// what it knows. The only call with a meaning of its own is collections.OrderedDict(), an empty dictionary.
//
// Values lie in one array and name each other by their index, so shared values are never copied and neither reading nor
// releasing them recurses: deep nesting costs no stack, references that multiply cost one index each, and memory is
// proportional to the bytes read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace entangle {

// One value of a pickle.
struct PickleValue {
  enum class Kind {
    none,
    boolean,
    integer,       // of at most 64 bits
    long_integer,  // longer: `text` has its little-endian two's complement
    number,
    text,   // UTF-8 by the writer's word, unchecked
    bytes,  // in `text`
    list,
    tuple,
    dict,       // items: key, value, key, value, ... as they were set
    set,        // items as they were added
    global,     // `text`: "module.name"
    call,       // items: what is to be called, a tuple of arguments
    persistent  // items: the persistent id, for the file around the pickle to resolve
  };
  Kind kind = Kind::none;
  int depth = 0;  // at least that of its items when they were put in, plus one
  int64_t integer = 0;
  double number = 0;
  std::string text;
  std::vector<uint32_t> items;
};

// The values that a pickle describes, read without running anything that it names.
class Pickle {
 public:
  static constexpr size_t kMostValues = 1 << 20;
  static constexpr int kMostDepth = 1000;

  // Reads one pickle from the start of `bytes`. Throws Error that begins with `name` and names the opcode and its place:
  // an opcode that is unknown or of no use here, one that takes what is not there, text that is cut short, more values or
  // levels than the limits.
  Pickle(std::string_view bytes, const std::string& name);

  const PickleValue& root() const { return values_[root_]; }
  const PickleValue& operator[](uint32_t index) const { return values_[index]; }
  // All values, in the order they came into being, whether the root reaches them or not.
  const std::vector<PickleValue>& values() const { return values_; }
  size_t length() const { return length_; }  // bytes of the pickle

  // The value of a text key, of the last one when it was set twice; null when there is none or `dict` is no dictionary.
  const PickleValue* find(const PickleValue& dict, const std::string& key) const;
  // What a value is, for a message: "'text'", "a list of 3", "a call of posix.system, which is not run".
  std::string describe(const PickleValue& value) const;

 private:
  class Reader;

  std::vector<PickleValue> values_;
  uint32_t root_ = 0;
  size_t length_ = 0;
};

}  // namespace entangle
