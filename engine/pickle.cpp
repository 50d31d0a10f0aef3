#include "engine/pickle.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "engine/check.h"
#include "engine/safetensors_header.h"

namespace entangle {

using Kind = PickleValue::Kind;

// The stack machine.
class Pickle::Reader {
 public:
  Reader(std::string_view bytes, const std::string& name, std::vector<PickleValue>& values)
      : bytes_(bytes), name_(name), values_(values) {}

  uint32_t run() {
    while (!stopped_) {
      op_at_ = at_;
      opcode_ = static_cast<uint8_t>(take(1)[0]);
      const Instruction* instruction = table()[opcode_];
      if (instruction == nullptr) refuse("is unknown");
      if (instruction->run == nullptr) refuse("is not read here");
      instruction->run(*this);
    }
    if (!marks_.empty()) refuse("comes before the end of a MARK");
    const uint32_t root = pop();
    if (!stack_.empty()) refuse("leaves values on the stack");
    return root;
  }
  size_t length() const { return at_; }

 private:
  // An opcode with its name in Python's pickletools; without `run` it is known and refused.
  struct Instruction {
    uint8_t opcode;
    const char* name;
    void (*run)(Reader&);
  };
  static const Instruction kInstructions[];
  static const std::array<const Instruction*, 256>& table();

  [[noreturn]] void refuse(const std::string& what) const {
    const Instruction* known = table()[opcode_];
    RAISE(name_, ": pickle opcode ", known ? known->name : std::to_string(opcode_), " at byte ", op_at_, " ", what,
          "; this is not a sound PyTorch checkpoint: fetch or write it again");
  }

  // Operands.
  std::string_view take(uint64_t length) {
    if (length > bytes_.size() - at_) refuse("is cut short");
    const std::string_view piece = bytes_.substr(at_, static_cast<size_t>(length));
    at_ += piece.size();
    return piece;
  }
  // A little-endian unsigned number.
  uint64_t number(int bytes) {
    const std::string_view piece = take(static_cast<uint64_t>(bytes));
    uint64_t value = 0;
    for (int i = 0; i < bytes; ++i) {
      value |= uint64_t{static_cast<uint8_t>(piece[static_cast<size_t>(i)])} << (8 * i);
    }
    return value;
  }
  std::string line() {
    const size_t end = bytes_.find('\n', at_);
    if (end == std::string_view::npos) refuse("is cut short");
    const std::string text(take(end - at_));
    take(1);
    return text;
  }

  // The stack. Nothing below the last mark may be taken.
  size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
  uint32_t pop() {
    if (stack_.size() <= floor()) refuse("takes a value that is not there");
    const uint32_t top = stack_.back();
    stack_.pop_back();
    return top;
  }
  uint32_t top() const {
    if (stack_.size() <= floor()) refuse("takes a value that is not there");
    return stack_.back();
  }
  std::vector<uint32_t> pop_to_mark() {
    if (marks_.empty()) refuse("has no MARK");
    const auto first = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
    std::vector<uint32_t> items(first, stack_.end());
    stack_.erase(first, stack_.end());
    marks_.pop_back();
    return items;
  }
  std::vector<uint32_t> pop_last(size_t count) {
    std::vector<uint32_t> items(count);
    for (size_t i = count; i > 0; --i) items[i - 1] = pop();
    return items;
  }

  // New values.
  PickleValue& push(Kind kind) {
    if (values_.size() >= kMostValues) refuse(concat("makes more than ", kMostValues, " values"));
    stack_.push_back(static_cast<uint32_t>(values_.size()));
    values_.emplace_back();
    values_.back().kind = kind;
    return values_.back();
  }
  void push_with(Kind kind, const std::vector<uint32_t>& items) {
    push(kind);
    put_into(stack_.back(), items);
  }
  void push_integer(int64_t value) { push(Kind::integer).integer = value; }
  void push_text(Kind kind, std::string_view text) { push(kind).text = text; }
  void put_into(uint32_t index, const std::vector<uint32_t>& items) {
    PickleValue& value = values_[index];
    for (const uint32_t item : items) value.depth = std::max(value.depth, values_[item].depth + 1);
    if (value.depth > kMostDepth) refuse(concat("nests values deeper than ", kMostDepth, " levels"));
    value.items.insert(value.items.end(), items.begin(), items.end());
  }
  void append(const std::vector<uint32_t>& items, Kind kind, const char* what) {
    // What a call would give is unknown: what is put into it is dropped.
    if (values_[top()].kind == Kind::call) return;
    if (values_[top()].kind != kind) refuse(concat("fills what is no ", what));
    if (kind == Kind::dict && items.size() % 2 != 0) refuse("has a key without a value");
    put_into(top(), items);
  }

  // Two's complement of that many bytes.
  void push_long(uint64_t length) {
    const std::string_view bytes = take(length);
    if (length > 8) return push_text(Kind::long_integer, bytes);
    uint64_t value = !bytes.empty() && (bytes.back() & 0x80) ? ~uint64_t{0} : 0;
    for (size_t i = 0; i < bytes.size(); ++i) {
      value = (value & ~(uint64_t{255} << (8 * i))) | uint64_t{static_cast<uint8_t>(bytes[i])} << (8 * i);
    }
    push_integer(static_cast<int64_t>(value));
  }
  void push_float() {  // big-endian
    uint64_t bits = 0;
    for (const char byte : take(8)) bits = bits << 8 | static_cast<uint8_t>(byte);
    std::memcpy(&push(Kind::number).number, &bits, sizeof bits);
  }

  void push_dict(const std::vector<uint32_t>& items) {
    push(Kind::dict);
    append(items, Kind::dict, "dictionary");
  }
  void global() {
    const std::string module = line(), name = line();
    push_text(Kind::global, module + "." + name);
  }
  void stack_global() {
    const std::vector<uint32_t> parts = pop_last(2);
    const PickleValue &module = values_[parts[0]], &name = values_[parts[1]];
    if (module.kind != Kind::text || name.kind != Kind::text) refuse("needs two texts");
    const std::string text = module.text + "." + name.text;  // push() moves the values
    push_text(Kind::global, text);
  }
  // `parts`: a function or class, a tuple of arguments.
  void call(const std::vector<uint32_t>& parts) {
    const PickleValue &function = values_[parts[0]], &arguments = values_[parts[1]];
    if (arguments.kind != Kind::tuple) refuse("needs a tuple of arguments");
    const bool dictionary = function.kind == Kind::global && function.text == "collections.OrderedDict";
    if (dictionary && arguments.items.empty()) {
      push(Kind::dict);
    } else {
      push_with(Kind::call, parts);
    }
  }
  void call_with_names() {
    pop();  // the arguments by name
    call(pop_last(2));
  }
  // The state of an object: of no use without its class.
  void build() {
    pop();
    top();
  }

  void protocol() {
    const uint64_t protocol = number(1);
    if (protocol > 5) refuse(concat("announces protocol ", protocol, ", newer than 5"));
  }
  void pop_one() {
    if (!marks_.empty() && stack_.size() == marks_.back()) {
      marks_.pop_back();
    } else {
      pop();
    }
  }
  void put(uint64_t key) { memo_[key] = top(); }
  void get(uint64_t key) {
    const auto found = memo_.find(key);
    if (found == memo_.end()) refuse(concat("asks for memo ", key, ", which was never put"));
    stack_.push_back(found->second);
  }

  const std::string_view bytes_;
  const std::string& name_;
  std::vector<PickleValue>& values_;
  size_t at_ = 0, op_at_ = 0;
  uint8_t opcode_ = 0;
  bool stopped_ = false;
  std::vector<uint32_t> stack_;
  std::vector<size_t> marks_;
  std::unordered_map<uint64_t, uint32_t> memo_;
};

// Refused are the text forms of protocol 0, which PyTorch never writes, and what reaches outside of the file.
const Pickle::Reader::Instruction Pickle::Reader::kInstructions[] = {
    {'(', "MARK", [](Reader& r) { r.marks_.push_back(r.stack_.size()); }},
    {'.', "STOP", [](Reader& r) { r.stopped_ = true; }},
    {'0', "POP", [](Reader& r) { r.pop_one(); }},
    {'1', "POP_MARK", [](Reader& r) { r.pop_to_mark(); }},
    {'2', "DUP", [](Reader& r) { r.stack_.push_back(r.top()); }},
    {0x80, "PROTO", [](Reader& r) { r.protocol(); }},
    {0x95, "FRAME", [](Reader& r) { r.number(8); }},
    {'q', "BINPUT", [](Reader& r) { r.put(r.number(1)); }},
    {'r', "LONG_BINPUT", [](Reader& r) { r.put(r.number(4)); }},
    {0x94, "MEMOIZE", [](Reader& r) { r.put(r.memo_.size()); }},
    {'h', "BINGET", [](Reader& r) { r.get(r.number(1)); }},
    {'j', "LONG_BINGET", [](Reader& r) { r.get(r.number(4)); }},
    {'N', "NONE", [](Reader& r) { r.push(Kind::none); }},
    {0x88, "NEWTRUE", [](Reader& r) { r.push(Kind::boolean).integer = 1; }},
    {0x89, "NEWFALSE", [](Reader& r) { r.push(Kind::boolean); }},
    {'K', "BININT1", [](Reader& r) { r.push_integer(static_cast<int64_t>(r.number(1))); }},
    {'M', "BININT2", [](Reader& r) { r.push_integer(static_cast<int64_t>(r.number(2))); }},
    {'J', "BININT", [](Reader& r) { r.push_integer(static_cast<int32_t>(r.number(4))); }},
    {0x8a, "LONG1", [](Reader& r) { r.push_long(r.number(1)); }},
    {0x8b, "LONG4", [](Reader& r) { r.push_long(r.number(4)); }},
    {'G', "BINFLOAT", [](Reader& r) { r.push_float(); }},
    {'U', "SHORT_BINSTRING", [](Reader& r) { r.push_text(Kind::text, r.take(r.number(1))); }},
    {'T', "BINSTRING", [](Reader& r) { r.push_text(Kind::text, r.take(r.number(4))); }},
    {0x8c, "SHORT_BINUNICODE", [](Reader& r) { r.push_text(Kind::text, r.take(r.number(1))); }},
    {'X', "BINUNICODE", [](Reader& r) { r.push_text(Kind::text, r.take(r.number(4))); }},
    {0x8d, "BINUNICODE8", [](Reader& r) { r.push_text(Kind::text, r.take(r.number(8))); }},
    {'C', "SHORT_BINBYTES", [](Reader& r) { r.push_text(Kind::bytes, r.take(r.number(1))); }},
    {'B', "BINBYTES", [](Reader& r) { r.push_text(Kind::bytes, r.take(r.number(4))); }},
    {0x8e, "BINBYTES8", [](Reader& r) { r.push_text(Kind::bytes, r.take(r.number(8))); }},
    {0x96, "BYTEARRAY8", [](Reader& r) { r.push_text(Kind::bytes, r.take(r.number(8))); }},
    {')', "EMPTY_TUPLE", [](Reader& r) { r.push(Kind::tuple); }},
    {0x85, "TUPLE1", [](Reader& r) { r.push_with(Kind::tuple, r.pop_last(1)); }},
    {0x86, "TUPLE2", [](Reader& r) { r.push_with(Kind::tuple, r.pop_last(2)); }},
    {0x87, "TUPLE3", [](Reader& r) { r.push_with(Kind::tuple, r.pop_last(3)); }},
    {'t', "TUPLE", [](Reader& r) { r.push_with(Kind::tuple, r.pop_to_mark()); }},
    {']', "EMPTY_LIST", [](Reader& r) { r.push(Kind::list); }},
    {'l', "LIST", [](Reader& r) { r.push_with(Kind::list, r.pop_to_mark()); }},
    {'a', "APPEND", [](Reader& r) { r.append(r.pop_last(1), Kind::list, "list"); }},
    {'e', "APPENDS", [](Reader& r) { r.append(r.pop_to_mark(), Kind::list, "list"); }},
    {'}', "EMPTY_DICT", [](Reader& r) { r.push(Kind::dict); }},
    {'d', "DICT", [](Reader& r) { r.push_dict(r.pop_to_mark()); }},
    {'s', "SETITEM", [](Reader& r) { r.append(r.pop_last(2), Kind::dict, "dictionary"); }},
    {'u', "SETITEMS", [](Reader& r) { r.append(r.pop_to_mark(), Kind::dict, "dictionary"); }},
    {0x8f, "EMPTY_SET", [](Reader& r) { r.push(Kind::set); }},
    {0x91, "FROZENSET", [](Reader& r) { r.push_with(Kind::set, r.pop_to_mark()); }},
    {0x90, "ADDITEMS", [](Reader& r) { r.append(r.pop_to_mark(), Kind::set, "set"); }},
    {'c', "GLOBAL", [](Reader& r) { r.global(); }},
    {0x93, "STACK_GLOBAL", [](Reader& r) { r.stack_global(); }},
    {'R', "REDUCE", [](Reader& r) { r.call(r.pop_last(2)); }},
    {0x81, "NEWOBJ", [](Reader& r) { r.call(r.pop_last(2)); }},
    {0x92, "NEWOBJ_EX", [](Reader& r) { r.call_with_names(); }},
    {'b', "BUILD", [](Reader& r) { r.build(); }},
    {'Q', "BINPERSID", [](Reader& r) { r.push_with(Kind::persistent, r.pop_last(1)); }},
    {'I', "INT", nullptr},
    {'L', "LONG", nullptr},
    {'F', "FLOAT", nullptr},
    {'S', "STRING", nullptr},
    {'V', "UNICODE", nullptr},
    {'P', "PERSID", nullptr},
    {'g', "GET", nullptr},
    {'p', "PUT", nullptr},
    {'i', "INST", nullptr},
    {'o', "OBJ", nullptr},
    {0x82, "EXT1", nullptr},
    {0x83, "EXT2", nullptr},
    {0x84, "EXT4", nullptr},
    {0x97, "NEXT_BUFFER", nullptr},
    {0x98, "READONLY_BUFFER", nullptr},
};

const std::array<const Pickle::Reader::Instruction*, 256>& Pickle::Reader::table() {
  static const std::array<const Instruction*, 256> by_opcode = [] {
    std::array<const Instruction*, 256> table = {};
    for (const Instruction& instruction : kInstructions) table[instruction.opcode] = &instruction;
    return table;
  }();
  return by_opcode;
}

Pickle::Pickle(std::string_view bytes, const std::string& name) {
  Reader reader(bytes, name, values_);
  root_ = reader.run();
  length_ = reader.length();
}

const PickleValue* Pickle::find(const PickleValue& dict, const std::string& key) const {
  if (dict.kind != Kind::dict) return nullptr;
  for (size_t i = dict.items.size(); i >= 2; i -= 2) {
    const PickleValue& candidate = values_[dict.items[i - 2]];
    if (candidate.kind == Kind::text && candidate.text == key) return &values_[dict.items[i - 1]];
  }
  return nullptr;
}

std::string Pickle::describe(const PickleValue& value) const {
  const auto counted = [&](const char* what, size_t count) { return concat("a ", what, " of ", count); };
  switch (value.kind) {
    case Kind::none:
      return "None";
    case Kind::boolean:
      return value.integer ? "True" : "False";
    case Kind::integer:
      return std::to_string(value.integer);
    case Kind::long_integer:
      return concat("an integer of ", value.text.size(), " bytes");
    case Kind::number:
      return concat(value.number);
    case Kind::text:
      return in_quotes(value.text);
    case Kind::bytes:
      return counted("string of bytes", value.text.size());
    case Kind::list:
      return counted("list", value.items.size());
    case Kind::tuple:
      return counted("tuple", value.items.size());
    case Kind::dict:
      return counted("dictionary", value.items.size() / 2);
    case Kind::set:
      return counted("set", value.items.size());
    case Kind::global:
      return "the global " + in_quotes(value.text);
    case Kind::persistent:
      return "a storage";
    case Kind::call:
      break;
  }
  const PickleValue& function = values_[value.items[0]];
  const std::string called = function.kind == Kind::global ? in_quotes(function.text) : "a value";
  return "a call of " + called + ", which is not run";
}

}  // namespace entangle
