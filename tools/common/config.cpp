#include "tools/common/config.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>

#include "engine/check.h"
#include "tools/common/binding.h"

namespace entangle {
namespace {

using Bindings = std::vector<Binding>;

constexpr double kMany = 1e15;          // any count: exact in a double
constexpr double kBelowOne = 1 - 1e-9;  // [0, 1)
constexpr double kLargestSeed = 18446744073709551615.0;
constexpr Range64 kDepth = {1, LargestSize::depth}, kWidth = {1, LargestSize::embed_dim};
constexpr Range64 kHeads = {1, LargestSize::num_heads}, kRatio = {0.01, LargestSize::mlp_ratio};
constexpr Range64 kCount = {0, kMany}, kRate = {0, 1e38}, kShare = {0, 1}, kPart = {0, kBelowOne};
constexpr Range64 kSeed = {0, kLargestSeed};

Bindings published_bindings(Config& c) {
  return {
      {"SUPERNET", "MLP_RATIO", &c.model.mlp_ratio, kRatio, true},
      {"SUPERNET", "NUM_HEADS", &c.model.num_heads, kHeads, true},
      {"SUPERNET", "EMBED_DIM", &c.model.embed_dim, kWidth, true},
      {"SUPERNET", "DEPTH", &c.model.depth, kDepth, true},
      {"SEARCH_SPACE", "MLP_RATIO", &c.space.mlp_ratio, kRatio, true},
      {"SEARCH_SPACE", "NUM_HEADS", &c.space.num_heads, kHeads, true},
      {"SEARCH_SPACE", "DEPTH", &c.space.depth, kDepth, true},
      {"SEARCH_SPACE", "EMBED_DIM", &c.space.embed_dim, kWidth, true},
      {"RETRAIN", "MLP_RATIO", &c.retrain.mlp_ratio, kRatio},
      {"RETRAIN", "NUM_HEADS", &c.retrain.num_heads, kHeads},
      {"RETRAIN", "DEPTH", &c.retrain.depth, kDepth},
      {"RETRAIN", "EMBED_DIM", &c.retrain.embed_dim, kWidth},
  };
}

Bindings model_bindings(Config& c) {
  return {
      {"MODEL", "image_size", &c.model.image_size, {1, 16384}},
      {"MODEL", "patch_size", &c.model.patch_size, {1, 16384}},
      {"MODEL", "in_channels", &c.model.in_channels, {1, 1024}},
      {"MODEL", "num_classes", &c.model.num_classes, {1, 1 << 24}},
      {"MODEL", "head_dim", &c.model.head_dim, {1, 4096}},
      {"MODEL", "absolute_position", &c.model.absolute_position},
      {"MODEL", "relative_position", &c.model.relative_position},
      {"MODEL", "max_relative_position", &c.model.max_relative_position, {1, 16384}},
      {"MODEL", "global_pool", &c.model.global_pool},
      {"MODEL", "qkv_bias", &c.model.qkv_bias},
      {"MODEL", "subnet", &c.subnet},
      {"MODEL", "sharing", &c.sharing},
      {"MODEL", "init_std", &c.model.init_std, {0, 1}},
      {"MODEL", "precision", &c.model.precision},
  };
}

Bindings train_bindings(Config& c) {
  return {
      {"TRAIN", "epochs", &c.train.epochs, {1, 1e6}},
      {"TRAIN", "batch_size", &c.train.batch_size, {1, 1 << 24}},
      {"TRAIN", "accumulate", &c.train.accumulate, {1, 1 << 24}},
      {"TRAIN", "shards", &c.train.shards, {0, 1 << 16}},
      {"TRAIN", "wire", &c.train.wire},
      {"TRAIN", "lr", &c.train.lr, kRate},
      {"TRAIN", "lr_scale_batch", &c.train.lr_scale_batch},
      {"TRAIN", "min_lr", &c.train.min_lr, kRate},
      {"TRAIN", "warmup_lr", &c.train.warmup_lr, kRate},
      {"TRAIN", "warmup_epochs", &c.train.warmup_epochs, {0, 1e6}},
      {"TRAIN", "per_epoch", &c.train.per_epoch},
      {"TRAIN", "weight_decay", &c.train.weight_decay, {0, 1}},
      {"TRAIN", "beta1", &c.train.beta1, kPart},
      {"TRAIN", "beta2", &c.train.beta2, kPart},
      {"TRAIN", "eps", &c.train.eps, {1e-30, 1}},
      {"TRAIN", "clip_norm", &c.train.clip_norm, kRate},
      {"TRAIN", "layer_decay", &c.train.layer_decay, {0.01, 1}},
      {"TRAIN", "linear_probe", &c.train.linear_probe},
      {"TRAIN", "teacher", &c.train.teacher},
      {"TRAIN", "distillation", &c.train.distillation},
      {"TRAIN", "distillation_share", &c.train.distillation_share, kShare},
      {"TRAIN", "average_decay", &c.train.average_decay, kPart},
      {"TRAIN", "strategy", &c.train.strategy.name},
      {"TRAIN", "random_subnets", &c.train.strategy.random_subnets, {0, 100}},
      {"TRAIN", "inplace_distillation", &c.train.strategy.inplace_distillation},
      {"TRAIN", "open_order", &c.train.strategy.open_order},
      {"TRAIN", "open_by", &c.train.strategy.open_by, kShare},
      {"TRAIN", "drop_path", &c.model.drop_path, kPart},
      {"TRAIN", "dropout", &c.model.dropout, kPart},
      {"TRAIN", "attention_dropout", &c.model.attention_dropout, kPart},
      {"TRAIN", "recompute", &c.model.recompute},
      {"TRAIN", "seed", &c.train.seed, kSeed},
      {"TRAIN", "health_images", &c.train.health_images, kCount},
  };
}

Bindings data_bindings(Config& c) {
  Augmentation& a = c.data.augmentation;
  return {
      {"DATA", "spec", &c.data.spec},
      {"DATA", "split", &c.data.split},
      {"DATA", "held_out", &c.data.held_out, kCount},
      {"DATA", "split_seed", &c.data.split_seed, kSeed},
      {"DATA", "shuffle_buffer", &c.data.options.shuffle_buffer, {1, 1e9}},
      {"DATA", "repeated_augmentation", &c.data.repeated_augmentation, {1, 64}},
      {"DATA", "published_order", &c.data.published_order},
      {"DATA", "max_broken", &c.data.max_broken, kShare},
      {"DATA", "interpolation", &a.interpolation},
      {"DATA", "decode", &a.decode},
      {"DATA", "auto_augment", &a.auto_augment},
      {"DATA", "color_jitter", &a.color_jitter, {0, 1000}},
      {"DATA", "crop_padding", &a.crop_padding, {0, 1024}},
      {"DATA", "flip", &a.flip, kShare},
      {"DATA", "erase", &a.erase, kShare},
      {"DATA", "erase_mode", &a.erase_mode},
      {"DATA", "erase_min_count", &a.erase_min_count, {1, kMostErased}},
      {"DATA", "erase_max_count", &a.erase_max_count, {1, kMostErased}},
      {"DATA", "mixup_alpha", &a.mixup_alpha, {0, 1000}},
      {"DATA", "cutmix_alpha", &a.cutmix_alpha, {0, 1000}},
      {"DATA", "mix_mode", &a.mix_mode},
      {"DATA", "mix_probability", &a.mix_probability, kShare},
      {"DATA", "switch_probability", &a.switch_probability, kShare},
      {"DATA", "label_smoothing", &a.label_smoothing, kPart},
  };
}

Bindings search_bindings(Config& c) {
  SearchOptions& o = c.search.options;
  return {
      {"SEARCH", "algorithm", &o.algorithm},
      {"SEARCH", "population", &o.population, {1, 1e9}},
      {"SEARCH", "generations", &o.generations, {1, 1e9}},
      {"SEARCH", "top", &o.top, {1, 1e9}},
      {"SEARCH", "mutations", &o.mutations, {0, 1e9}},
      {"SEARCH", "crossovers", &o.crossovers, {0, 1e9}},
      {"SEARCH", "mutate_block", &o.mutate_block, kShare},
      {"SEARCH", "mutate_shape", &o.mutate_shape, kShare},
      {"SEARCH", "seed", &o.seed, kSeed},
      {"SEARCH", "min_params", &o.min_params, kCount},
      {"SEARCH", "max_params", &o.max_params, kCount},
      {"SEARCH", "min_macs", &o.min_macs, kCount},
      {"SEARCH", "max_macs", &o.max_macs, kCount},
      {"SEARCH", "min_activation_bytes", &o.min_activation_bytes, kCount},
      {"SEARCH", "max_activation_bytes", &o.max_activation_bytes, kCount},
      {"SEARCH", "min_latency_ms", &o.min_latency_ms, {0, 1e9}},
      {"SEARCH", "max_latency_ms", &o.max_latency_ms, {0, 1e9}},
      {"SEARCH", "objectives", &o.objectives},
      {"SEARCH", "early_stop", &o.early_stop},
      {"SEARCH", "predictor", &o.predictor},
      {"SEARCH", "predictor_pool", &o.predictor_pool, {1, 1e6}},
      {"SEARCH", "batch_size", &c.search.batch_size, {1, 65536}},
      {"SEARCH", "images", &c.search.images, {1, kMany}},
  };
}

// Every key there is: the table that this file is about.
Bindings all_bindings(Config& config) {
  Bindings all;
  for (const auto part : {published_bindings, model_bindings, train_bindings, data_bindings, search_bindings}) {
    const Bindings some = part(config);
    all.insert(all.end(), some.begin(), some.end());
  }
  return all;
}

const Binding& find_binding(const Bindings& bindings, const std::string& section, const std::string& key) {
  for (const Binding& binding : bindings) {
    if (section == binding.section && key == binding.key) return binding;
  }
  RAISE("unknown key ", section, ".", key, "; the nearest known one is ",
        nearest_binding(bindings, section, key).name());
}

void check_section(const Bindings& bindings, const std::string& section) {
  std::vector<std::string> known;
  for (const Binding& binding : bindings) known.push_back(binding.section);
  CHECK(std::count(known.begin(), known.end(), section) > 0, "unknown section ", section, "; the nearest known one is ",
        nearest_word(known, section));
}

// Runs `f`; an Error gets the place in the text put before its message.
template <class F>
void at_line(const YAML::Mark& mark, const F& f) {
  try {
    f();
  } catch (const Error& error) {
    RAISE("line ", mark.line + 1, ": ", error.what());
  }
}

void read_sections(const Bindings& bindings, const YAML::Node& root) {
  CHECK(root.IsMap(), "not a configuration: expected sections such as SUPERNET and SEARCH_SPACE");
  std::set<std::string> seen;
  for (const auto& section : root) {
    const std::string section_name = section.first.as<std::string>();
    at_line(section.first.Mark(), [&] {
      check_section(bindings, section_name);
      CHECK(section.second.IsMap(), section_name, " is a section: it needs keys below it");
    });
    for (const auto& entry : section.second) {
      at_line(entry.first.Mark(), [&] {
        const Binding& binding = find_binding(bindings, section_name, entry.first.as<std::string>());
        CHECK(seen.insert(binding.name()).second, binding.name(), " is given twice");
        read_value(binding, entry.second);
      });
    }
  }
  for (const Binding& binding : bindings) {
    CHECK(!binding.required || seen.count(binding.name()) != 0, binding.name(), " is missing");
  }
}

void apply_setting(const Bindings& bindings, const std::string& setting) {
  const size_t dot = setting.find('.'), equals = setting.find('=');
  CHECK(dot != std::string::npos && equals != std::string::npos && dot < equals, "setting '", setting,
        "' is not of the form SECTION.key=value");
  const std::string section = setting.substr(0, dot);
  check_section(bindings, section);
  const Binding& binding = find_binding(bindings, section, setting.substr(dot + 1, equals - dot - 1));
  // A word is taken as it stands, so that a path needs no quotes.
  const std::string text = setting.substr(equals + 1);
  read_value(binding, std::holds_alternative<std::string*>(binding.variable) ? YAML::Node(text) : YAML::Load(text));
}

// Choices are sets: the order in the file does not matter.
template <class T>
void sort_choices(std::vector<T>& choices) {
  std::sort(choices.begin(), choices.end());
}

void check_retrain(const Config& config) {
  const Architecture& fixed = config.retrain;
  const bool complete = fixed.depth > 0 && fixed.embed_dim > 0 && fixed.mlp_ratio.size() == size_t(fixed.depth) &&
                        fixed.num_heads.size() == size_t(fixed.depth);
  const bool absent = fixed.depth == 0 && fixed.embed_dim == 0 && fixed.mlp_ratio.empty() && fixed.num_heads.empty();
  CHECK(complete || absent,
        "RETRAIN needs DEPTH, EMBED_DIM and as many entries in MLP_RATIO and NUM_HEADS as DEPTH "
        "says; found depth ",
        fixed.depth, ", embed_dim ", fixed.embed_dim, ", ", fixed.mlp_ratio.size(), " ratios, ", fixed.num_heads.size(),
        " heads");
  if (complete) config.model.check_fits(fixed);
}

void resolve(Config& config) {
  sort_choices(config.space.depth);
  sort_choices(config.space.embed_dim);
  sort_choices(config.space.mlp_ratio);
  sort_choices(config.space.num_heads);
  config.data.augmentation.image_size = config.model.image_size;
  CHECK(!config.subnet || config.retrain.depth > 0, "MODEL.subnet needs the section RETRAIN: the subnet");
  if (config.subnet) config.model.dense = config.retrain;
  check_retrain(config);
  config.model.validate();
  config.space.validate();
  if (!config.subnet) config.model.check_fits(config.space.largest());
  CHECK(config.sharing == "entangled" || config.sharing == "classical", "MODEL.sharing is ", config.sharing,
        ", but must be entangled or classical");
  // Not before RETRAIN was checked, which may name what is no choice.
  if (config.sharing == "classical") config.model.classical = config.space;
  config.model.validate();
  CHECK(config.train.distillation == "hard" || config.train.distillation == "soft", "TRAIN.distillation is ",
        config.train.distillation, ", but must be hard or soft");
  CHECK(config.train.wire == Precision::fp32 || config.train.shards == 0,
        "TRAIN.wire=bf16 rounds what each process sends, ",
        "so that bits depend on their number, which TRAIN.shards=", config.train.shards,
        " (--deterministic-reduce) promises they do not: set one of them");
  config.train.strategy.validate();
  config.data.augmentation.validate();
  config.search.options.validate(config.space);
}

}  // namespace

Config::Config() {
  model.drop_path = 0.1;
  data.augmentation.color_jitter = 0.4;
  data.augmentation.flip = 0.5;
  data.augmentation.erase = 0.25;
  data.augmentation.mixup_alpha = 0.8;
  data.augmentation.cutmix_alpha = 1.0;
  data.augmentation.label_smoothing = 0.1;
}

Config Config::dense(const Architecture& architecture) const {
  architecture.validate();
  Config config = *this;
  config.subnet = true;
  config.retrain = config.model.dense = architecture;
  config.model.embed_dim = architecture.embed_dim;
  config.model.depth = architecture.depth;
  config.model.num_heads = *std::max_element(architecture.num_heads.begin(), architecture.num_heads.end());
  config.model.mlp_ratio = *std::max_element(architecture.mlp_ratio.begin(), architecture.mlp_ratio.end());
  config.space.embed_dim = {architecture.embed_dim};
  config.space.depth = {architecture.depth};
  config.space.num_heads = {static_cast<int>(config.model.num_heads)};
  config.space.mlp_ratio = {config.model.mlp_ratio};
  config.train.strategy = {};
  config.sharing = "entangled";
  config.model.classical = {};
  return config;
}

Schedule TrainConfig::schedule(int64_t steps_per_epoch) const {
  Schedule schedule;
  schedule.lr = lr_scale_batch ? lr * static_cast<double>(batch_size) / 512 : lr;
  schedule.min_lr = min_lr;
  schedule.warmup_lr = warmup_lr;
  schedule.warmup_epochs = warmup_epochs;
  schedule.epochs = static_cast<double>(epochs);
  schedule.steps_per_epoch = steps_per_epoch;
  schedule.per_epoch = per_epoch;
  return schedule;
}

std::string Config::to_yaml() const {
  Config copy = *this;  // bindings point to variables that may be written
  std::string text, section;
  for (const Binding& binding : all_bindings(copy)) {
    if (copy.retrain.depth == 0 && binding.section == std::string("RETRAIN")) continue;
    if (section != binding.section) text += (section = binding.section) + ":\n";
    text += concat("  ", binding.key, ": ", write_value(binding), "\n");
  }
  return text;
}

Config parse_config(const std::string& text, const std::string& name, const std::vector<std::string>& settings) {
  Config config;
  config.name = name;
  const Bindings bindings = all_bindings(config);
  try {
    read_sections(bindings, YAML::Load(text));
    for (const std::string& setting : settings) apply_setting(bindings, setting);
    resolve(config);
  } catch (const YAML::Exception& error) {
    RAISE("configuration ", name, ": line ", error.mark.line + 1, ": not YAML: ", error.msg);
  } catch (const Error& error) {
    RAISE("configuration ", name, ": ", error.what());
  }
  return config;
}

Config load_config(const std::string& name_or_path, const std::vector<std::string>& settings) {
  std::string names;
  for (const BuiltinConfig& builtin : builtin_configs()) {
    if (name_or_path == builtin.name) return parse_config(builtin.text, builtin.name, settings);
    names += concat(names.empty() ? "" : ", ", builtin.name);
  }
  std::error_code ignored;
  CHECK(std::filesystem::exists(name_or_path, ignored), "no configuration '", name_or_path,
        "': neither a file nor one of the built-in ones (", names, ")");
  return parse_config(read_text_file(name_or_path), std::filesystem::path(name_or_path).stem().string(), settings);
}

std::string first_difference(const Config& before, const Config& now) {
  Config a = before, b = now;  // bindings point to variables that may be written
  const Bindings left = all_bindings(a), right = all_bindings(b);
  for (size_t i = 0; i < left.size(); ++i) {
    const std::string old_value = write_value(left[i]), new_value = write_value(right[i]);
    if (old_value != new_value) return concat(left[i].name(), " is ", old_value, " before and ", new_value, " now");
  }
  return "";
}

std::string read_text_file(const std::string& path) {
  std::error_code ignored;
  CHECK(!std::filesystem::is_directory(path, ignored), "cannot read ", path, ": it is a directory");
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  CHECK(in.is_open() && !in.bad(), "cannot read ", path, ": ", std::strerror(errno != 0 ? errno : EIO));
  return text;
}

}  // namespace entangle
