#include "entangle/description.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "engine/check.h"

namespace entangle {
namespace {

using Json = nlohmann::ordered_json;

// Every key once, for writing and for reading.
template <class F>
void each_value(Description& d, const F& f) {
  f("image_size", d.model.image_size);
  f("patch_size", d.model.patch_size);
  f("in_channels", d.model.in_channels);
  f("num_classes", d.model.num_classes);
  f("embed_dim", d.model.embed_dim);
  f("depth", d.model.depth);
  f("num_heads", d.model.num_heads);
  f("head_dim", d.model.head_dim);
  f("mlp_ratio", d.model.mlp_ratio);
  f("absolute_position", d.model.absolute_position);
  f("relative_position", d.model.relative_position);
  f("max_relative_position", d.model.max_relative_position);
  f("global_pool", d.model.global_pool);
  f("mean", d.mean);
  f("std", d.std_dev);
  f("always_resize", d.always_resize);
}
template <class F>
void each_choice(SearchSpace& s, const F& f) {
  f("depth", s.depth);
  f("embed_dim", s.embed_dim);
  f("mlp_ratio", s.mlp_ratio);
  f("num_heads", s.num_heads);
}

bool fits(const Json& json, const bool&) { return json.is_boolean(); }
bool fits(const Json& json, const int64_t&) { return json.is_number_integer(); }
bool fits(const Json& json, const double&) { return json.is_number(); }
template <class T>
bool fits(const Json& json, const std::vector<T>&) {
  return json.is_array() && std::all_of(json.begin(), json.end(), [](const Json& entry) {
           return std::is_integral<T>::value ? entry.is_number_integer() : entry.is_number();
         });
}

void check_normalisation(const Description& d) {
  const size_t channels = static_cast<size_t>(d.model.in_channels);
  const bool none = d.mean.empty() && d.std_dev.empty();
  CHECK(none || (d.mean.size() == channels && d.std_dev.size() == channels), "mean has ", d.mean.size(),
        " entries and std ", d.std_dev.size(), " for ", channels, " channels");
  for (const float deviation : d.std_dev) CHECK(deviation > 0, "std has ", deviation, ", but must be positive");
}

}  // namespace

std::string Description::to_json() const {
  Json json, choices;
  Description copy = *this;
  const auto put_into = [](Json& to) { return [&to](const char* key, const auto& value) { to[key] = value; }; };
  each_value(copy, put_into(json));
  json["bilinear"] = interpolation == Interpolation::bilinear;
  if (model.is_dense()) {
    json["architecture"] = Json::parse(model.dense.to_json());
  } else {
    each_choice(copy.space, put_into(choices));
    json["choices"] = choices;
  }
  return json.dump();
}

Description Description::from_json(const std::string& text, const std::string& name) {
  Description out;
  try {
    const Json json = Json::parse(text);
    const auto take_from = [](const Json& from) {
      return [&from](const char* key, auto& value) {
        CHECK(from.contains(key), "the key \"", key, "\" is missing");
        CHECK(fits(from.at(key), value), "the key \"", key, "\" has a value of another type");
        value = from.at(key).get<std::decay_t<decltype(value)>>();
      };
    };
    each_value(out, take_from(json));
    bool bilinear = false;
    take_from(json)("bilinear", bilinear);
    out.interpolation = bilinear ? Interpolation::bilinear : Interpolation::bicubic;
    if (json.contains("architecture")) {
      out.model.dense = Architecture::from_json(json.at("architecture").dump());
    } else {
      CHECK(json.contains("choices"), "neither choices nor an architecture is there");
      each_choice(out.space, take_from(json.at("choices")));
      out.space.validate();
      out.model.check_fits(out.space.largest());
    }
    out.model.validate();
    check_normalisation(out);
  } catch (const Json::exception&) {
    RAISE(name, ": its description of the network is broken: not JSON as it should be");
  } catch (const Error& error) {
    RAISE(name, ": its description of the network is broken: ", error.what());
  }
  return out;
}

}  // namespace entangle
