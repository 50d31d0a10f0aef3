// The whole of the runner: see runner.h. One file, longer than others here, so that it can be taken along by itself. In
// this order: JSON, the weights file, images, the network, main().
#include "runner.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <stdexcept>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3")  // the inner loops are plain sums of rows, which vectorise at this level
#endif

#if __has_include(<stb_image.h>)
#define RUNNER_STB <stb_image.h>
#elif __has_include(<stb/stb_image.h>)
#define RUNNER_STB <stb/stb_image.h>
#endif
#ifdef RUNNER_STB
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_JPEG
#define STBI_ONLY_PNG
#define STBI_ONLY_BMP
#if defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wunused-function"
#endif
#include RUNNER_STB
#endif

namespace runner {
namespace {

[[noreturn]] void fail(const std::string& what) { throw std::runtime_error(what); }

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) fail("cannot open " + path);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

// ---- JSON: the subset that headers of .safetensors files use (no escapes but \" \\ \/ \n \t and \u00XX) ----

struct Json {
  enum class Kind { null, boolean, number, text, list, object } kind = Kind::null;
  double number = 0;
  std::string text;
  std::vector<Json> list;
  std::map<std::string, Json> object;

  const Json& operator[](const std::string& key) const {
    const auto found = object.find(key);
    if (found == object.end()) fail("the weights do not tell \"" + key + "\": export them again");
    return found->second;
  }
};

class JsonReader {
 public:
  explicit JsonReader(const std::string& text) : text_(text) {}
  Json read() {
    const Json value = next(0);
    if (skip() != '\0') wrong();
    return value;
  }

 private:
  [[noreturn]] void wrong() { fail("the header of the weights is not JSON at byte " + std::to_string(at_)); }
  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  char skip() {
    while (peek() == ' ' || peek() == '\n' || peek() == '\t' || peek() == '\r') ++at_;
    return peek();
  }
  void take(char wanted) {
    if (skip() != wanted) wrong();
    ++at_;
  }
  bool take_if(char wanted) {
    if (skip() != wanted) return false;
    ++at_;
    return true;
  }
  Json next(int depth) {
    if (depth > 8) wrong();
    Json value;
    const char c = skip();
    if (c == '{') {
      value.kind = Json::Kind::object;
      take('{');
      if (take_if('}')) return value;
      do {
        skip();
        const std::string key = string();
        take(':');
        value.object[key] = next(depth + 1);
      } while (take_if(','));
      take('}');
    } else if (c == '[') {
      value.kind = Json::Kind::list;
      take('[');
      if (take_if(']')) return value;
      do value.list.push_back(next(depth + 1));
      while (take_if(','));
      take(']');
    } else if (c == '"') {
      value.kind = Json::Kind::text;
      value.text = string();
    } else {
      scalar(value);
    }
    return value;
  }
  void scalar(Json& value) {
    const size_t end = std::min(text_.find_first_of(",]} \n\t\r", at_), text_.size());
    const std::string word = text_.substr(at_, end - at_);
    if (word == "true" || word == "false") {
      value.kind = Json::Kind::boolean;
      value.number = word == "true";
    } else if (word != "null") {
      char* stop = nullptr;
      value.kind = Json::Kind::number;
      value.number = std::strtod(word.c_str(), &stop);
      if (word.empty() || *stop != '\0') wrong();
    }
    at_ = end;
  }
  std::string string() {
    take('"');
    std::string out;
    for (; peek() != '"'; ++at_) {
      if (at_ >= text_.size()) wrong();
      if (peek() != '\\') {
        out += peek();
        continue;
      }
      ++at_;
      const char c = peek();
      if (c == 'u') {
        out += static_cast<char>(std::strtol(text_.substr(std::min(at_ + 1, text_.size()), 4).c_str(), nullptr, 16));
        at_ += 4;
      } else {
        out += c == 'n' ? '\n' : c == 't' ? '\t' : c;
      }
    }
    take('"');
    return out;
  }

  const std::string& text_;
  size_t at_ = 0;
};

// ---- The weights: 8 bytes of header length, the header, float32 values ----

class Weights {
 public:
  explicit Weights(const std::string& path) : bytes_(read_file(path)) {
    uint64_t length = 0;
    if (bytes_.size() >= 8) std::memcpy(&length, bytes_.data(), 8);
    if (bytes_.size() < 8 || length > bytes_.size() - 8) fail(path + " is no .safetensors file, or is cut short");
    const std::string text = bytes_.substr(8, static_cast<size_t>(length));
    header_ = JsonReader(text).read();
    data_ = 8 + static_cast<size_t>(length);
    const Json& metadata = header_["__metadata__"];
    if (metadata.object.count("runner") == 0) fail(path + " is not for the runner: write it with export_subnet");
    sizes = JsonReader(metadata["runner"].text).read();
  }

  // A tensor's values; its number of elements must be as given.
  std::vector<float> operator[](const std::string& name) const { return tensor(name, -1); }
  std::vector<float> tensor(const std::string& name, int64_t count) const {
    const Json& entry = header_[name];
    const std::vector<Json>& offsets = entry["data_offsets"].list;
    if (entry["dtype"].text != "F32" || offsets.size() != 2) fail("tensor " + name + " is not of float32");
    const double first = offsets[0].number, last = offsets[1].number;
    if (!(first >= 0 && first <= last && last <= static_cast<double>(bytes_.size() - data_))) {
      fail("the weights are cut short at tensor " + name);
    }
    std::vector<float> values(static_cast<size_t>(last - first) / 4);
    if (count >= 0 && values.size() != static_cast<size_t>(count)) fail("tensor " + name + " has another size");
    std::memcpy(values.data(), bytes_.data() + data_ + static_cast<size_t>(first), 4 * values.size());
    return values;
  }

  Json sizes;

 private:
  std::string bytes_;
  Json header_;
  size_t data_ = 0;
};

// ---- Images ----

Image read_pnm(const std::string& bytes, const std::string& path) {
  size_t at = 2;
  const auto number = [&] {
    for (; at < bytes.size() && (std::isspace(static_cast<unsigned char>(bytes[at])) || bytes[at] == '#'); ++at) {
      if (bytes[at] == '#') at = std::min(bytes.find('\n', at), bytes.size() - 1);
    }
    int64_t value = 0;
    for (; at < bytes.size() && std::isdigit(static_cast<unsigned char>(bytes[at])) && value < 100000; ++at) {
      value = 10 * value + (bytes[at] - '0');
    }
    return value;
  };
  Image image;
  image.channels = bytes[1] == '6' ? 3 : 1;
  image.width = number();
  image.height = number();
  const int64_t largest = number();
  ++at;  // one white space
  const size_t size = static_cast<size_t>(image.width * image.height * image.channels);
  if (image.width < 1 || image.height < 1 || image.width > 65535 || image.height > 65535 || largest != 255) {
    fail(path + " is no PPM or PGM image with values to 255");
  }
  if (at > bytes.size() || bytes.size() - at < size) fail(path + " is cut short");
  image.pixels.assign(bytes.begin() + static_cast<std::ptrdiff_t>(at),
                      bytes.begin() + static_cast<std::ptrdiff_t>(at + size));
  return image;
}

// For each output pixel the first input pixel under the filter, and the weights. The filter is as wide as the reduction;
// weights have 22 fractional bits, so that results equal those of the training programs (and Pillow) to the bit.
struct Taps {
  std::vector<int64_t> first;
  std::vector<std::vector<int32_t>> weight;
};

double filter(double x, bool bilinear) {
  x = std::fabs(x);
  if (bilinear) return std::max(0.0, 1 - x);
  const double a = -0.5;
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

Taps taps_of(int64_t in, int64_t out, bool bilinear) {
  const double scale = static_cast<double>(in) / static_cast<double>(out), stretch = std::max(scale, 1.0);
  const double radius = (bilinear ? 1 : 2) * stretch;
  Taps taps;
  for (int64_t i = 0; i < out; ++i) {
    const double centre = (static_cast<double>(i) + 0.5) * scale;
    const int64_t first = std::max<int64_t>(static_cast<int64_t>(centre - radius + 0.5), 0);
    const int64_t last = std::min<int64_t>(static_cast<int64_t>(centre + radius + 0.5), in);
    std::vector<double> exact;
    double sum = 0;
    for (int64_t t = first; t < last; ++t) {
      exact.push_back(filter((static_cast<double>(t) - centre + 0.5) / stretch, bilinear));
      sum += exact.back();
    }
    std::vector<int32_t> weight;
    for (const double value : exact) weight.push_back(static_cast<int32_t>(std::round(value / sum * (1 << 22))));
    taps.first.push_back(first);
    taps.weight.push_back(weight);
  }
  return taps;
}

// Along one axis: `outer` runs of `in` positions of `inner` values each become runs of `out` positions.
std::vector<uint8_t> resize_axis(const std::vector<uint8_t>& pixels, int64_t outer, int64_t in, int64_t inner,
                                 int64_t out, bool bilinear) {
  if (in == out) return pixels;
  const Taps taps = taps_of(in, out, bilinear);
  std::vector<uint8_t> result;
  result.reserve(static_cast<size_t>(outer * out * inner));
  for (int64_t o = 0; o < outer; ++o) {
    for (int64_t i = 0; i < out; ++i) {
      const std::vector<int32_t>& weight = taps.weight[static_cast<size_t>(i)];
      for (int64_t k = 0; k < inner; ++k) {
        int32_t sum = 1 << 21;
        const uint8_t* from = pixels.data() + (o * in + taps.first[static_cast<size_t>(i)]) * inner + k;
        for (size_t t = 0; t < weight.size(); ++t) sum += weight[t] * from[static_cast<int64_t>(t) * inner];
        result.push_back(static_cast<uint8_t>(std::min(std::max(sum >> 22, 0), 255)));
      }
    }
  }
  return result;
}

// Half, to the nearest even number when there are two.
int64_t half_to_even(int64_t n) { return n / 2 + (n % 2 == 1 && n / 2 % 2 == 1 ? 1 : 0); }

// The shorter side to size * 256 / 224, then the centre.
Image fit(const Image& image, int64_t size, bool bilinear) {
  const int64_t shorter = size * 256 / 224;
  const bool wide = image.width >= image.height;
  const int64_t longer = shorter * std::max(image.width, image.height) / std::min(image.width, image.height);
  const int64_t width = wide ? longer : shorter, height = wide ? shorter : longer, c = image.channels;
  std::vector<uint8_t> pixels = resize_axis(image.pixels, image.height, image.width, c, width, bilinear);
  pixels = resize_axis(pixels, 1, image.height, width * c, height, bilinear);
  Image out = {size, size, c, {}};
  const int64_t left = half_to_even(width - size), above = half_to_even(height - size);
  for (int64_t y = 0; y < size; ++y) {
    const auto row = pixels.begin() + ((above + y) * width + left) * c;
    out.pixels.insert(out.pixels.end(), row, row + size * c);
  }
  return out;
}

Image with_channels(const Image& image, int64_t channels) {
  if (image.channels == channels) return image;
  Image out = {image.width, image.height, channels, {}};
  for (size_t i = 0; i < image.pixels.size(); i += static_cast<size_t>(image.channels)) {
    const uint8_t* p = &image.pixels[i];
    const uint8_t grey = image.channels == 1 ? p[0] : static_cast<uint8_t>((p[0] * 77 + p[1] * 150 + p[2] * 29) >> 8);
    out.pixels.insert(out.pixels.end(), static_cast<size_t>(channels), grey);
  }
  return out;
}

// ---- The network ----

// y = x W^T + b for a weight [out, in], kept transposed: each input adds its multiple of a row to the sums.
struct Linear {
  int64_t in = 0, out = 0;
  std::vector<float> columns, bias;  // [in, out], [out]

  Linear() = default;
  Linear(const std::vector<float>& weight, const std::vector<float>& b, int64_t inputs)
      : in(inputs), out(static_cast<int64_t>(b.size())), columns(weight.size()), bias(b) {
    if (static_cast<int64_t>(weight.size()) != in * out) fail("a weight has another size than its layer");
    for (int64_t o = 0; o < out; ++o) {
      for (int64_t i = 0; i < in; ++i)
        columns[static_cast<size_t>(i * out + o)] = weight[static_cast<size_t>(o * in + i)];
    }
  }
  // Four rows at a time: each weight is loaded once for all of them.
  std::vector<float> operator()(const std::vector<float>& x) const {
    const int64_t rows = static_cast<int64_t>(x.size()) / in;
    std::vector<float> y(static_cast<size_t>(rows * out));
    for (int64_t r = 0; r < rows; r += 4) {
      const int64_t some = std::min<int64_t>(4, rows - r);
      float* to[4];
      for (int64_t k = 0; k < 4; ++k) {
        to[k] = y.data() + (r + std::min(k, some - 1)) * out;
        std::copy(bias.begin(), bias.end(), to[k]);
      }
      for (int64_t i = 0; i < in; ++i) add(x.data() + r * in + i, columns.data() + i * out, some, to);
    }
    return y;
  }

 private:
  void add(const float* x, const float* row, int64_t some, float* const* to) const {
    if (some == 4) {
      const float a = x[0], b = x[in], c = x[2 * in], d = x[3 * in];
      float* __restrict y0 = to[0], * __restrict y1 = to[1], * __restrict y2 = to[2], * __restrict y3 = to[3];
      for (int64_t o = 0; o < out; ++o) {
        y0[o] += a * row[o];
        y1[o] += b * row[o];
        y2[o] += c * row[o];
        y3[o] += d * row[o];
      }
      return;
    }
    for (int64_t k = 0; k < some; ++k) {
      for (int64_t o = 0; o < out; ++o) to[k][o] += x[k * in] * row[o];
    }
  }
};

struct Norm {
  std::vector<float> weight, bias;

  std::vector<float> operator()(const std::vector<float>& x) const {
    const size_t width = weight.size();
    std::vector<float> y(x.size());
    for (size_t row = 0; row < x.size(); row += width) {
      double mean = 0, variance = 0;
      for (size_t i = 0; i < width; ++i) mean += x[row + i];
      mean /= static_cast<double>(width);
      for (size_t i = 0; i < width; ++i) variance += (x[row + i] - mean) * (x[row + i] - mean);
      const double scale = 1 / std::sqrt(variance / static_cast<double>(width) + 1e-5);
      for (size_t i = 0; i < width; ++i) {
        y[row + i] = static_cast<float>((x[row + i] - mean) * scale) * weight[i] + bias[i];
      }
    }
    return y;
  }
};

struct Block {
  int64_t heads = 0;
  Norm attention_norm, mlp_norm;
  Linear qkv, proj, fc1, fc2;
  std::vector<float> key_v, key_h, value_v, value_h;  // [2 m + 2, head_dim]; empty without relative position
};

// Row r, column j of both tables for a query at patch i: distance -m .. m of rows (or columns), or 0 for the class token.
struct Buckets {
  int64_t side = 0, m = 0;
  int64_t operator()(int64_t i, int64_t j, bool vertical) const {
    if (i == 0 || j == 0) return 0;
    const int64_t a = vertical ? (i - 1) / side : (i - 1) % side, b = vertical ? (j - 1) / side : (j - 1) % side;
    return std::min(std::max(b - a, -m), m) + m + 1;
  }
};

float dot(const float* a, const float* b, int64_t n) {
  float lane[8] = {};
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    for (int k = 0; k < 8; ++k) lane[k] += a[i + k] * b[i + k];
  }
  for (; i < n; ++i) lane[0] += a[i] * b[i];
  return ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
}

void add_scaled(float scale, const float* row, int64_t n, float* to) {
  for (int64_t i = 0; i < n; ++i) to[i] += scale * row[i];
}

void softmax(std::vector<float>& values) {
  const float largest = *std::max_element(values.begin(), values.end());
  double sum = 0;
  for (float& value : values) sum += value = std::exp(value - largest);
  for (float& value : values) value = static_cast<float>(value / sum);
}

std::vector<float> plus(std::vector<float> a, const std::vector<float>& b) {
  for (size_t i = 0; i < a.size(); ++i) a[i] += b[i];
  return a;
}

}  // namespace

struct Classifier::Network {
  int64_t size = 0, patch = 0, channels = 0, classes = 0, width = 0, head_dim = 0, side = 0;
  bool pool = false, bilinear = false, always_resize = false;
  Buckets buckets;
  std::vector<float> mean, std_dev, class_token, positions;
  Linear projection, head;
  std::vector<Block> blocks;
  Norm norm;

  explicit Network(const std::string& path) {
    const Weights weights(path);
    read_sizes(weights.sizes);
    class_token = weights.tensor("cls_token", width);
    if (weights.sizes["absolute_position"].number != 0) {
      positions = weights.tensor("pos_embed", (side * side + 1) * width);
    }
    projection = linear(weights, "patch_embed_super.proj", channels * patch * patch);
    const std::vector<Json>&heads = weights.sizes["num_heads"].list, &hidden = weights.sizes["hidden"].list;
    if (heads.size() != hidden.size() || heads.empty()) fail("the weights tell of no blocks");
    const bool interleaved = weights.sizes["bias_interleaved"].number != 0;
    for (size_t i = 0; i < heads.size(); ++i) {
      blocks.push_back(read_block(weights, "blocks." + std::to_string(i) + ".", static_cast<int64_t>(heads[i].number),
                                  static_cast<int64_t>(hidden[i].number), interleaved));
    }
    norm = {weights.tensor("norm.weight", width), weights.tensor("norm.bias", width)};
    head = linear(weights, "head", width);
    if (projection.out != width || head.out != classes) fail("the weights are not of the sizes that they tell");
  }

  void read_sizes(const Json& sizes) {
    const auto number = [&](const char* key) {
      const double value = sizes[key].number;
      if (!(value >= 0 && value <= 1 << 24)) fail(std::string("the weights tell an impossible ") + key);
      return static_cast<int64_t>(value);
    };
    size = number("image_size");
    patch = number("patch_size");
    channels = number("in_channels");
    classes = number("num_classes");
    width = number("embed_dim");
    head_dim = number("head_dim");
    if (patch < 1 || size < patch || size > 8192 || channels < 1 || width < 1 || head_dim < 1)
      fail("the weights tell impossible sizes");
    side = size / patch;
    buckets = {side, number("max_relative_position")};
    pool = number("global_pool") != 0;
    bilinear = number("bilinear") != 0;
    always_resize = number("always_resize") != 0;
    for (const Json& value : sizes["mean"].list) mean.push_back(static_cast<float>(value.number));
    for (const Json& value : sizes["std"].list) std_dev.push_back(static_cast<float>(value.number));
    if (static_cast<int64_t>(mean.size()) != channels || std_dev.size() != mean.size()) {
      fail("the weights tell the normalisation of another number of channels");
    }
  }

  static Linear linear(const Weights& weights, const std::string& name, int64_t in) {
    return Linear(weights[name + ".weight"], weights[name + ".bias"], in);
  }

  // Rows 3 j + i of the file's QKV weight are row j of Q, K or V; here Q, K and V follow each other.
  Block read_block(const Weights& weights, const std::string& name, int64_t heads, int64_t hidden, bool interleaved) {
    Block block;
    block.heads = heads;
    const int64_t attention = heads * head_dim, rows = 2 * buckets.m + 2;
    const std::vector<float> weight = weights.tensor(name + "attn.qkv.weight", 3 * attention * width);
    const std::vector<float> bias = weights.tensor(name + "attn.qkv.bias", 3 * attention);
    std::vector<float> ordered, ordered_bias = bias;
    for (int64_t i = 0; i < 3; ++i) {
      for (int64_t j = 0; j < attention; ++j) {
        const auto row = weight.begin() + (3 * j + i) * width;
        ordered.insert(ordered.end(), row, row + width);
        if (interleaved) ordered_bias[static_cast<size_t>(i * attention + j)] = bias[static_cast<size_t>(3 * j + i)];
      }
    }
    block.qkv = Linear(ordered, ordered_bias, width);
    block.proj = linear(weights, name + "attn.proj", attention);
    block.fc1 = linear(weights, name + "fc1", width);
    block.fc2 = linear(weights, name + "fc2", hidden);
    if (block.fc1.out != hidden || block.fc2.out != width || block.proj.out != width) fail(name + " has other sizes");
    const auto norm_of = [&](const char* which) {
      return Norm{weights.tensor(name + which + ".weight", width), weights.tensor(name + which + ".bias", width)};
    };
    block.attention_norm = norm_of("attn_layer_norm");
    block.mlp_norm = norm_of("ffn_layer_norm");
    if (buckets.m == 0) return block;
    const auto table = [&](const char* which) {
      return weights.tensor(name + "attn.rel_pos_embed_" + which, rows * head_dim);
    };
    block.key_v = table("k.embeddings_table_v");
    block.key_h = table("k.embeddings_table_h");
    block.value_v = table("v.embeddings_table_v");
    block.value_h = table("v.embeddings_table_h");
    return block;
  }

  // One row a patch: channels, then the rows of the patch, then its columns.
  std::vector<float> patches(const std::vector<float>& pixels) const {
    std::vector<float> out;
    out.reserve(pixels.size());
    for (int64_t p = 0; p < side * side; ++p) {
      for (int64_t c = 0; c < channels; ++c) {
        for (int64_t y = 0; y < patch; ++y) {
          const auto row = pixels.begin() + (c * size + p / side * patch + y) * size + p % side * patch;
          out.insert(out.end(), row, row + patch);
        }
      }
    }
    return out;
  }

  // Scores of query i: (q_i . k_j + q_i . (key_v[dv] + key_h[dh])) / sqrt(head_dim). Their softmax p weighs the values,
  // and summed by distance the value tables.
  std::vector<float> attention(const Block& block, const std::vector<float>& qkv) const {
    const int64_t tokens = side * side + 1, all = block.heads * head_dim, stride = 3 * all, rows = 2 * buckets.m + 2;
    const float scale = static_cast<float>(1 / std::sqrt(static_cast<double>(head_dim)));
    std::vector<float> out(static_cast<size_t>(tokens * all)), p(static_cast<size_t>(tokens));
    std::vector<float> vertical(static_cast<size_t>(rows)), horizontal(static_cast<size_t>(rows));
    for (int64_t h = 0; h < block.heads; ++h) {
      const float* q = qkv.data() + h * head_dim;
      const float *k = q + all, *v = q + 2 * all;
      for (int64_t i = 0; i < tokens; ++i) {
        const float* query = q + i * stride;
        for (int64_t r = 0; r < rows && buckets.m > 0; ++r) {
          vertical[static_cast<size_t>(r)] = dot(query, block.key_v.data() + r * head_dim, head_dim);
          horizontal[static_cast<size_t>(r)] = dot(query, block.key_h.data() + r * head_dim, head_dim);
        }
        for (int64_t j = 0; j < tokens; ++j) {
          float score = dot(query, k + j * stride, head_dim);
          if (buckets.m > 0) {
            score += vertical[static_cast<size_t>(buckets(i, j, true))] +
                     horizontal[static_cast<size_t>(buckets(i, j, false))];
          }
          p[static_cast<size_t>(j)] = score * scale;
        }
        softmax(p);
        float* to = out.data() + i * all + h * head_dim;
        for (int64_t j = 0; j < tokens; ++j) add_scaled(p[static_cast<size_t>(j)], v + j * stride, head_dim, to);
        if (buckets.m > 0) add_value_tables(block, p, i, to);
      }
    }
    return out;
  }

  void add_value_tables(const Block& block, const std::vector<float>& p, int64_t i, float* to) const {
    const int64_t rows = 2 * buckets.m + 2;
    std::vector<float> vertical(static_cast<size_t>(rows)), horizontal(static_cast<size_t>(rows));
    for (size_t j = 0; j < p.size(); ++j) {
      vertical[static_cast<size_t>(buckets(i, static_cast<int64_t>(j), true))] += p[j];
      horizontal[static_cast<size_t>(buckets(i, static_cast<int64_t>(j), false))] += p[j];
    }
    for (int64_t r = 0; r < rows; ++r) {
      add_scaled(vertical[static_cast<size_t>(r)], block.value_v.data() + r * head_dim, head_dim, to);
      add_scaled(horizontal[static_cast<size_t>(r)], block.value_h.data() + r * head_dim, head_dim, to);
    }
  }

  std::vector<float> forward(const std::vector<float>& pixels) const {
    if (static_cast<int64_t>(pixels.size()) != channels * size * size) fail("the network takes other images");
    std::vector<float> x = class_token;
    const std::vector<float> projected = projection(patches(pixels));
    x.insert(x.end(), projected.begin(), projected.end());
    if (!positions.empty()) x = plus(x, positions);
    for (const Block& block : blocks) {
      x = plus(x, block.proj(attention(block, block.qkv(block.attention_norm(x)))));
      std::vector<float> hidden = block.fc1(block.mlp_norm(x));
      for (float& value : hidden) value = 0.5f * value * (1 + std::erf(value * 0.70710678f));
      x = plus(x, block.fc2(hidden));
    }
    x = norm(x);
    if (!pool) return head(std::vector<float>(x.begin(), x.begin() + width));
    std::vector<float> mean_token(static_cast<size_t>(width));
    const int64_t count = side * side;
    for (int64_t t = 1; t <= count; ++t)
      add_scaled(1.0f / static_cast<float>(count), x.data() + t * width, width, mean_token.data());
    return head(mean_token);
  }

  std::vector<float> normalised(const Image& given) const {
    Image image = with_channels(given, channels);
    if (always_resize || image.width != size || image.height != size) image = fit(image, size, bilinear);
    std::vector<float> pixels(static_cast<size_t>(channels * size * size));
    for (size_t c = 0; c < mean.size(); ++c) {
      for (int64_t i = 0; i < size * size; ++i) {
        const float value = static_cast<float>(image.pixels[static_cast<size_t>(i * channels) + c]) / 255;
        pixels[c * static_cast<size_t>(size * size) + static_cast<size_t>(i)] = (value - mean[c]) / std_dev[c];
      }
    }
    return pixels;
  }
};

Classifier::Classifier(const std::string& weights) : network_(std::make_unique<Network>(weights)) {}
Classifier::~Classifier() = default;
std::vector<float> Classifier::logits(const Image& image) const {
  return network_->forward(network_->normalised(image));
}
std::vector<float> Classifier::logits(const std::vector<float>& pixels) const { return network_->forward(pixels); }

std::vector<Guess> top(const std::vector<float>& logits, int64_t count) {
  std::vector<float> probabilities = logits;
  softmax(probabilities);
  std::vector<Guess> guesses;
  for (size_t i = 0; i < probabilities.size(); ++i) guesses.push_back({static_cast<int64_t>(i), probabilities[i]});
  std::stable_sort(guesses.begin(), guesses.end(),
                   [](const Guess& a, const Guess& b) { return a.probability > b.probability; });
  guesses.resize(std::min(guesses.size(), static_cast<size_t>(count)));
  return guesses;
}

Image read_image(const std::string& path) {
  const std::string bytes = read_file(path);
  if (bytes.rfind("P6", 0) == 0 || bytes.rfind("P5", 0) == 0) return read_pnm(bytes, path);
#ifdef RUNNER_STB
  int width = 0, height = 0, channels = 0;
  const std::unique_ptr<stbi_uc, void (*)(void*)> pixels(
      stbi_load_from_memory(reinterpret_cast<const stbi_uc*>(bytes.data()), static_cast<int>(bytes.size()), &width,
                            &height, &channels, 3),
      stbi_image_free);
  if (pixels == nullptr) fail(path + " is no PPM, PGM, JPEG, PNG or BMP image that can be read");
  return {width, height, 3, std::vector<uint8_t>(pixels.get(), pixels.get() + int64_t{width} * height * 3)};
#else
  fail(path + " is no PPM or PGM image; for JPEG and PNG, compile the runner where stb_image.h is found");
#endif
}

}  // namespace runner

#ifndef RUNNER_NO_MAIN
int main(int argc, char** argv) {
  const bool all = argc > 1 && std::strcmp(argv[1], "--logits") == 0;
  const int first = all ? 2 : 1;
  if (argc < first + 2) {
    std::fprintf(stderr, "usage: %s [--logits] WEIGHTS IMAGE...\n", argv[0]);
    return 2;
  }
  try {
    const runner::Classifier classifier(argv[first]);
    for (int i = first + 1; i < argc; ++i) {
      const std::vector<float> logits = classifier.logits(runner::read_image(argv[i]));
      std::printf("%s", argv[i]);
      if (all) {
        for (const float logit : logits) std::printf(" %.9g", static_cast<double>(logit));
      } else {
        for (const runner::Guess& guess : runner::top(logits, 5)) {
          std::printf("  %lld %.4f", static_cast<long long>(guess.index), static_cast<double>(guess.probability));
        }
      }
      std::printf("\n");
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
  return 0;
}
#endif
