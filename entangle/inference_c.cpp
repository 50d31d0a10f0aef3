#include "entangle/inference_c.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "engine/check.h"
#include "entangle/inference.h"

struct entangle_model {
  entangle::inference::Model model;
  std::string description;
};

struct entangle_subnet {
  entangle::inference::Subnet subnet;
  std::string architecture;
};

namespace {

using namespace entangle;

// Without memory for the message a shorter one, which needs none.
struct LastError {
  std::string text;
  bool lost = false;
};
thread_local LastError last_error;

void remember(const char* what) noexcept {
  try {
    last_error.text = what;
    last_error.lost = false;
  } catch (...) {
    last_error.lost = true;
  }
}

// f(), or `otherwise` when it throws; the exception's text is kept.
template <class T, class F>
T guarded(T otherwise, const F& f) noexcept {
  try {
    return f();
  } catch (const std::bad_alloc&) {
    remember("out of memory");
  } catch (const std::exception& error) {
    remember(error.what());
  } catch (...) {
    remember("an unknown exception");
  }
  return otherwise;
}

template <class T>
const T& given(const T* pointer, const char* what) {
  CHECK(pointer != nullptr, what, " is a null pointer");
  return *pointer;
}

std::string describe(const inference::Info& info) {
  nlohmann::ordered_json json = {{"image_size", info.image_size}, {"channels", info.channels},
                                 {"classes", info.classes},       {"mean", info.mean},
                                 {"std", info.std_dev},           {"depths", info.depths},
                                 {"embed_dims", info.embed_dims}, {"num_heads", info.num_heads},
                                 {"mlp_ratios", info.mlp_ratios}};
  for (const inference::TensorShape& tensor : info.tensors) json["tensors"][tensor.name] = tensor.shape;
  return json.dump();
}

}  // namespace

extern "C" {

const char* entangle_error(void) { return last_error.lost ? "out of memory" : last_error.text.c_str(); }

entangle_model* entangle_load(const char* path) {
  return guarded<entangle_model*>(nullptr, [&] {
    inference::Model model(&given(path, "the path"));
    std::string description = describe(model.info());
    return new entangle_model{std::move(model), std::move(description)};
  });
}

void entangle_free_model(entangle_model* model) { delete model; }

entangle_sizes entangle_model_sizes(const entangle_model* model) {
  if (model == nullptr) return {0, 0, 0};
  const inference::Info& info = model->model.info();
  return {info.image_size, info.channels, info.classes};
}

const char* entangle_describe(const entangle_model* model) {
  return model == nullptr ? nullptr : model->description.c_str();
}

entangle_subnet* entangle_choose(const entangle_model* model, const char* architecture) {
  return guarded<entangle_subnet*>(nullptr, [&] {
    inference::Subnet subnet = given(model, "the model").model.subnet(&given(architecture, "the architecture"));
    std::string text = subnet.architecture();
    return new entangle_subnet{std::move(subnet), std::move(text)};
  });
}

void entangle_free_subnet(entangle_subnet* subnet) { delete subnet; }

const char* entangle_architecture(const entangle_subnet* subnet) {
  return subnet == nullptr ? nullptr : subnet->architecture.c_str();
}

entangle_cost entangle_cost_of(const entangle_subnet* subnet) {
  return guarded<entangle_cost>({0, 0}, [&] {
    const inference::Cost cost = given(subnet, "the subnet").subnet.cost();
    return entangle_cost{cost.params, cost.macs};
  });
}

int entangle_logits(const entangle_subnet* subnet, const float* images, int64_t count, float* logits) {
  return guarded<int>(1, [&] {
    if (count != 0) given(logits, "logits");
    const std::vector<float> values = given(subnet, "the subnet").subnet.logits(images, count);
    std::copy(values.begin(), values.end(), logits);
    return 0;
  });
}

int entangle_photo_logits(const entangle_subnet* subnet, const uint8_t* pixels, int64_t width, int64_t height,
                          int64_t channels, float* logits) {
  return guarded<int>(1, [&] {
    given(logits, "logits");
    const inference::Photo photo = {pixels, width, height, channels};
    const std::vector<float> values = given(subnet, "the subnet").subnet.logits(photo);
    std::copy(values.begin(), values.end(), logits);
    return 0;
  });
}

int entangle_set_threads(int count) {
  return guarded<int>(1, [&] {
    inference::set_threads(count);
    return 0;
  });
}

}  // extern "C"
