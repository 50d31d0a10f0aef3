#include "nn/architecture.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <set>

#include <nlohmann/json.hpp>

#include "engine/check.h"
#include "engine/hash.h"

namespace entangle {
namespace {

using nlohmann::json;

// LargestSize::depth entries of the longest numbers take less.
constexpr size_t kLongestText = 64 << 10;

// The shortest decimal that reads back as the same value; no point when it is whole.
template <class Number>
void append_number(std::string& text, Number value) {
  char buffer[32];
  const std::to_chars_result end = std::to_chars(buffer, buffer + sizeof(buffer), value);
  text.append(buffer, end.ptr);
}

template <class Number>
void append_list(std::string& text, const std::vector<Number>& list) {
  text += '[';
  for (size_t i = 0; i < list.size(); ++i) {
    if (i > 0) text += ',';
    append_number(text, list[i]);
  }
  text += ']';
}

// NaN fails too.
bool within(double value, double largest) { return value > 0 && value <= largest; }

// Names an entry of a list; made into text in messages only.
struct Entry {
  const char* list;
  size_t index;
};

std::ostream& operator<<(std::ostream& out, const Entry& entry) {
  return out << entry.list << "[" << entry.index << "]";
}

template <class Name>
void check_size(const Name& name, int64_t value, int64_t largest) {
  CHECK(value >= 1 && value <= largest, "architecture: ", name, " is ", value, ", but must lie in 1 .. ", largest);
}

void check_ratio(const Entry& name, double value) {
  CHECK(within(value, LargestSize::mlp_ratio), "architecture: ", name, " is ", value,
        ", but must be above 0 and at most ", LargestSize::mlp_ratio);
}

// The beginning of a value as text, for a message.
std::string excerpt(const json& value) {
  const std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
  return text.size() <= 40 ? text : text.substr(0, 40) + "...";
}

template <class Name>
int64_t to_integer(const Name& name, const json& value) {
  CHECK(value.is_number_integer(), "architecture: ", name, " is ", excerpt(value), ", but must be a whole number");
  // An unsigned number beyond int64 would wrap around.
  if (value.is_number_unsigned()) {
    return static_cast<int64_t>(std::min<uint64_t>(value.get<uint64_t>(), std::numeric_limits<int64_t>::max()));
  }
  return value.get<int64_t>();
}

const json& list_of(const json& object, const char* name, int depth) {
  const json& list = object.at(name);
  CHECK(list.is_array(), "architecture: ", name, " is ", excerpt(list), ", but must be a list");
  CHECK(list.size() == static_cast<size_t>(depth), "architecture: ", name, " has ", list.size(),
        " entries, but depth is ", depth, ": one entry for each block is needed");
  return list;
}

template <class Name>
int size_of(const Name& name, const json& value, int largest) {
  const int64_t size = to_integer(name, value);
  check_size(name, size, largest);
  return static_cast<int>(size);
}

// Parses an object of numbers and lists of numbers; repeated keys and deeper nesting, which the parser accepts, are
// errors here.
json parse_flat_object(const std::string& text) {
  CHECK(text.size() <= kLongestText, "architecture: ", text.size(),
        " bytes of text, but no architecture has more than ", kLongestText);
  std::set<std::string> keys;
  const auto guard = [&keys](int depth, json::parse_event_t event, json& value) {
    const bool opens = event == json::parse_event_t::array_start || event == json::parse_event_t::object_start;
    CHECK(!opens || depth <= 1, "architecture: lists within lists, but only numbers are expected there");
    if (event == json::parse_event_t::key) {
      const std::string& key = value.get_ref<const std::string&>();
      CHECK(keys.insert(key).second, "architecture: ", excerpt(value), " stands there twice");
    }
    return true;
  };
  try {
    json object = json::parse(text, guard);
    CHECK(object.is_object(), "architecture: ", excerpt(object),
          R"( is not of the form {"depth":2,"embed_dim":64,"mlp_ratio":[4,4],"num_heads":[2,2]})");
    return object;
  } catch (const json::parse_error& error) {
    RAISE("architecture: not valid JSON at byte ", error.byte);
  } catch (const json::out_of_range&) {
    RAISE("architecture: a number is too large to be one");
  }
}

void check_keys(const json& object) {
  const std::set<std::string> known = {"depth", "embed_dim", "mlp_ratio", "num_heads"};
  for (const auto& item : object.items()) {
    CHECK(known.count(item.key()) == 1, "architecture: unknown key ", excerpt(json(item.key())),
          "; the keys are depth, embed_dim, mlp_ratio, num_heads");
  }
  for (const std::string& key : known) CHECK(object.contains(key), "architecture: the key \"", key, "\" is missing");
}

}  // namespace

bool Architecture::operator==(const Architecture& other) const {
  return depth == other.depth && embed_dim == other.embed_dim && mlp_ratio == other.mlp_ratio &&
         num_heads == other.num_heads;
}

std::string Architecture::to_json() const {
  std::string text = "{\"depth\":";
  append_number(text, depth);
  text += ",\"embed_dim\":";
  append_number(text, embed_dim);
  text += ",\"mlp_ratio\":";
  append_list(text, mlp_ratio);
  text += ",\"num_heads\":";
  append_list(text, num_heads);
  return text + "}";
}

Architecture Architecture::from_json(const std::string& text) {
  const json object = parse_flat_object(text);
  check_keys(object);
  Architecture out;
  out.depth = size_of("depth", object["depth"], LargestSize::depth);
  out.embed_dim = size_of("embed_dim", object["embed_dim"], LargestSize::embed_dim);
  const json& ratios = list_of(object, "mlp_ratio", out.depth);
  const json& heads = list_of(object, "num_heads", out.depth);
  for (size_t i = 0; i < ratios.size(); ++i) {
    const Entry name = {"mlp_ratio", i};
    CHECK(ratios[i].is_number(), "architecture: ", name, " is ", excerpt(ratios[i]), ", but must be a number");
    out.mlp_ratio.push_back(ratios[i].get<double>());
    out.num_heads.push_back(size_of(Entry{"num_heads", i}, heads[i], LargestSize::num_heads));
  }
  out.validate();
  return out;
}

void Architecture::validate() const {
  check_size("depth", depth, LargestSize::depth);
  check_size("embed_dim", embed_dim, LargestSize::embed_dim);
  const size_t blocks = static_cast<size_t>(depth);
  CHECK(mlp_ratio.size() == blocks && num_heads.size() == blocks, "architecture: mlp_ratio has ", mlp_ratio.size(),
        " entries and num_heads ", num_heads.size(), ", but depth is ", depth, ": one entry for each block is needed");
  for (size_t i = 0; i < blocks; ++i) {
    const Entry ratio = {"mlp_ratio", i};
    check_ratio(ratio, mlp_ratio[i]);
    CHECK(hidden_width(embed_dim, mlp_ratio[i]) >= 1, "architecture: ", ratio, " is ", mlp_ratio[i],
          ", which leaves an MLP without a hidden unit at embed_dim ", embed_dim);
    check_size(Entry{"num_heads", i}, num_heads[i], LargestSize::num_heads);
  }
}

uint64_t Architecture::hash() const {
  uint64_t hash = kEmptyHash;
  for (const char byte : to_json()) hash = hash_on(hash, static_cast<unsigned char>(byte));
  return hash;
}

Architecture Architecture::uniform(int depth, int embed_dim, int heads, double ratio) {
  check_size("depth", depth, LargestSize::depth);
  Architecture out;
  out.depth = depth;
  out.embed_dim = embed_dim;
  out.mlp_ratio.assign(static_cast<size_t>(depth), ratio);
  out.num_heads.assign(static_cast<size_t>(depth), heads);
  return out;
}

int64_t hidden_width(int64_t embed_dim, double ratio) {
  return static_cast<int64_t>(static_cast<double>(embed_dim) * ratio);
}

}  // namespace entangle
