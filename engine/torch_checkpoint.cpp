#include "engine/torch_checkpoint.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "engine/check.h"
#include "engine/pickle.h"
#include "engine/safetensors_header.h"

namespace entangle {
namespace {

using Kind = PickleValue::Kind;

constexpr uint64_t kLongestPickle = 64 << 20;
constexpr size_t kMostDimensions = 64;
const std::string kZipMagic = "PK\x03\x04";
// PROTO 2, LONG1 of ten bytes: 0x1950a86a20f9469cfc6c.
const std::string kLegacyMagic("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", 14);
constexpr int64_t kLegacyProtocol = 1001;

[[noreturn]] void fail(const std::string& path, const std::string& what) {
  RAISE(path, ": ", what, "; this is not a sound PyTorch checkpoint: fetch or write it again");
}

// The safetensors type of a storage class's elements; empty for one that is not read.
std::string dtype_of(const std::string& storage_class) {
  static const std::map<std::string, std::string> types = {
      {"torch.FloatStorage", "F32"},  {"torch.HalfStorage", "F16"}, {"torch.BFloat16Storage", "BF16"},
      {"torch.DoubleStorage", "F64"}, {"torch.LongStorage", "I64"}, {"torch.IntStorage", "I32"},
      {"torch.ShortStorage", "I16"},  {"torch.CharStorage", "I8"},  {"torch.ByteStorage", "U8"},
      {"torch.BoolStorage", "BOOL"}};
  const auto found = types.find(storage_class);
  return found == types.end() ? "" : found->second;
}

// Bytes of `count` elements; false when there are none such.
bool bytes_of(const std::string& dtype, int64_t count, uint64_t* bytes) {
  return count >= 0 && safetensors_bytes(dtype, {count}, bytes);
}

bool is_call_of(const Pickle& pickle, const PickleValue& value, const char* function) {
  return value.kind == Kind::call && pickle[value.items[0]].kind == Kind::global &&
         pickle[value.items[0]].text == function;
}

// The arguments of a call, at least `count` of them; null when there are fewer.
const std::vector<uint32_t>* arguments_of(const Pickle& pickle, const PickleValue& call, size_t count) {
  const std::vector<uint32_t>& arguments = pickle[call.items[1]].items;
  return arguments.size() < count ? nullptr : &arguments;
}

// A tuple or list of integers that are not negative.
bool read_sizes(const Pickle& pickle, const PickleValue& value, std::vector<int64_t>& sizes) {
  if (value.kind != Kind::tuple && value.kind != Kind::list) return false;
  for (const uint32_t item : value.items) {
    if (pickle[item].kind != Kind::integer || pickle[item].integer < 0) return false;
    sizes.push_back(pickle[item].integer);
  }
  return true;
}

bool is_row_major(const std::vector<int64_t>& shape, const std::vector<int64_t>& stride) {
  int64_t expected = 1;
  for (size_t d = shape.size(); d-- > 0;) {
    if (shape[d] != 1 && stride[d] != expected) return false;
    expected *= shape[d];
  }
  return true;
}

// Index of the last element, from the first; -1 when it does not fit 63 bits. No size is zero.
int64_t last_element(const std::vector<int64_t>& shape, const std::vector<int64_t>& stride) {
  int64_t last = 0, step = 0;
  for (size_t d = 0; d < shape.size(); ++d) {
    if (__builtin_mul_overflow(shape[d] - 1, stride[d], &step) || __builtin_add_overflow(last, step, &last)) return -1;
  }
  return last;
}

// Copies a view's elements, row after row.
void gather(const std::vector<int64_t>& shape, const std::vector<int64_t>& stride, size_t element, const uint8_t* from,
            uint8_t* to, size_t d = 0) {
  if (d == shape.size()) {
    std::memcpy(to, from, element);
    return;
  }
  size_t below = element;
  for (size_t k = d + 1; k < shape.size(); ++k) below *= static_cast<size_t>(shape[k]);
  for (int64_t i = 0; i < shape[d]; ++i) {
    gather(shape, stride, element, from + static_cast<size_t>(i * stride[d]) * element,
           to + static_cast<size_t>(i) * below, d + 1);
  }
}

}  // namespace

TorchCheckpoint::TorchCheckpoint(const std::string& path)
    : TensorFile(path), file_(std::make_shared<const InputFile>(path, "a .pth or .safetensors file")) {
  const uint64_t size = file_->size();
  const std::string begin = file_->text(0, std::min<uint64_t>(size, kLegacyMagic.size()));
  if (begin.rfind(kZipMagic, 0) == 0) {
    open_zip();
  } else if (begin == kLegacyMagic) {
    open_legacy();
  } else {
    fail(path, "it begins neither as torch.save writes now nor as it did before 1.6");
  }
}

void TorchCheckpoint::open_zip() {
  zip_ = std::make_unique<ZipFile>(file_);
  const std::string pickled = "/data.pkl";
  std::string root;  // the folder that everything lies in
  for (const auto& [name, entry] : zip_->entries()) {
    const bool ends = name.size() > pickled.size() && name.substr(name.size() - pickled.size()) == pickled;
    if (!ends) continue;
    if (!root.empty()) fail(path(), "it holds more than one data.pkl");
    root = name.substr(0, name.size() - pickled.size());
    if (entry.size > kLongestPickle) fail(path(), concat("its pickle has ", entry.size, " bytes"));
  }
  if (root.empty()) fail(path(), "it is a zip archive without data.pkl");
  if (zip_->entries().count(root + "/byteorder")) {
    const std::vector<uint8_t> order = zip_->read(root + "/byteorder");
    if (std::string(order.begin(), order.end()) != "little") {
      RAISE(path(),
            ": was written on a big-endian machine; load and save it again with PyTorch on a little-endian one");
    }
  }
  const std::vector<uint8_t> bytes = zip_->read(root + pickled);
  const Pickle pickle(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()), path());
  collect_storages(pickle, root + "/data/");
  add_weights(pickle);
}

// Five pickles (a magic number, a protocol, facts about the writer's machine, the object, the storages' keys), then for
// each key the number of elements in eight bytes and the elements.
void TorchCheckpoint::open_legacy() {
  const std::string text = file_->text(0, std::min(file_->size(), kLongestPickle));
  std::string_view left = text;
  const auto next = [&] {
    Pickle pickle(left, path());
    left.remove_prefix(pickle.length());
    return pickle;
  };
  next();
  const Pickle protocol = next();
  if (protocol.root().kind != Kind::integer || protocol.root().integer != kLegacyProtocol) {
    fail(path(), "its protocol is " + protocol.describe(protocol.root()));
  }
  const Pickle machine = next();
  const PickleValue* little = machine.find(machine.root(), "little_endian");
  if (little == nullptr || little->kind != Kind::boolean || little->integer != 1) {
    RAISE(path(), ": was written on a big-endian machine; load and save it again with PyTorch on a little-endian one");
  }
  const Pickle pickle = next();
  const Pickle keys = next();
  collect_storages(pickle, "");
  locate_legacy(keys, text.size() - left.size());
  add_weights(pickle);
}

void TorchCheckpoint::locate_legacy(const Pickle& keys, uint64_t begin) {
  const uint64_t size = file_->size();
  std::map<std::string, bool> located;
  for (const uint32_t item : keys.root().items) {
    const std::string& key = keys[item].text;
    const auto found = storages_.find(key);
    const std::string storage = "storage " + in_quotes(key);
    if (found == storages_.end()) fail(path(), storage + " is of no known type");
    if (std::exchange(located[key], true)) fail(path(), storage + " occurs twice");
    int64_t count = 0;
    const bool whole = begin <= size && size - begin >= sizeof count;
    if (whole) file_->read(begin, &count, sizeof count);
    if (!whole || size - begin - sizeof count < found->second.bytes) fail(path(), storage + " is cut short");
    if (count != found->second.count) {
      fail(path(), concat(storage, " has ", count, " elements where ", found->second.count, " are announced"));
    }
    found->second.begin = begin + sizeof count;
    begin += sizeof count + found->second.bytes;
  }
  for (const auto& [key, storage] : storages_) {
    if (located.count(key) == 0) fail(path(), "storage " + in_quotes(key) + " is missing");
  }
  if (begin != size) fail(path(), concat("it has ", size - begin, " bytes more than its storages"));
}

// A persistent id names a storage: ("storage", class, key, location, elements[, view]). Those of classes that are not read
// are left out.
void TorchCheckpoint::collect_storages(const Pickle& pickle, const std::string& where) {
  for (const PickleValue& value : pickle.values()) {
    if (value.kind != Kind::persistent) continue;
    const PickleValue& id = pickle[value.items[0]];
    const auto part = [&](size_t i) -> const PickleValue& { return pickle[id.items[i]]; };
    const bool storage = id.kind == Kind::tuple && id.items.size() >= 5 && part(0).text == "storage" &&
                         part(1).kind == Kind::global && part(2).kind == Kind::text && part(4).kind == Kind::integer;
    if (!storage) continue;
    const std::string& key = part(2).text;
    Storage entry;
    entry.dtype = dtype_of(part(1).text);
    entry.count = part(4).integer;
    if (entry.dtype.empty()) continue;
    const std::string name = "storage " + in_quotes(key);
    if (!bytes_of(entry.dtype, entry.count, &entry.bytes)) {
      fail(path(), concat(name, " has the impossible size of ", entry.count, " elements"));
    }
    if (zip_ != nullptr) {
      entry.entry = where + key;
      const auto found = zip_->entries().find(entry.entry);
      if (found == zip_->entries().end()) fail(path(), "entry " + in_quotes(entry.entry) + " is missing");
      if (found->second.size != entry.bytes) {
        fail(path(), concat(name, " has ", found->second.size, " bytes where ", entry.count, " of ", entry.dtype,
                            " need ", entry.bytes));
      }
    }
    const auto [known, is_new] = storages_.emplace(key, entry);
    if (!is_new && (known->second.dtype != entry.dtype || known->second.count != entry.count)) {
      fail(path(), name + " is named with two types or sizes");
    }
  }
}

void TorchCheckpoint::add_weights(const Pickle& pickle) {
  const PickleValue* weights = &pickle.root();
  for (const char* key : {"model", "state_dict"}) {
    const PickleValue* found = pickle.find(pickle.root(), key);
    if (found == nullptr) continue;
    weights = found;
    break;
  }
  if (weights->kind != Kind::dict) {
    RAISE(path(), ": holds ", pickle.describe(*weights),
          " where a dictionary of tensors is needed; save it with torch.save(model.state_dict(), ...)");
  }
  for (size_t i = 0; i < weights->items.size(); i += 2) {
    const PickleValue& key = pickle[weights->items[i]];
    if (key.kind != Kind::text) fail(path(), "a tensor's name is " + pickle.describe(key));
    add_tensor(pickle, key.text, pickle[weights->items[i + 1]]);
  }
  if (weights == &pickle.root()) return;
  for (size_t i = 0; i < pickle.root().items.size(); i += 2) {
    const PickleValue &key = pickle[pickle.root().items[i]], &value = pickle[pickle.root().items[i + 1]];
    if (key.kind == Kind::text && &value != weights) others_[key.text] = pickle.describe(value);
  }
}

void TorchCheckpoint::add_tensor(const Pickle& pickle, const std::string& name, const PickleValue& value) {
  const std::string tensor = "tensor " + in_quotes(name);
  const PickleValue* call = &value;
  if (is_call_of(pickle, *call, "torch._utils._rebuild_parameter") && arguments_of(pickle, *call, 1)) {
    call = &pickle[(*arguments_of(pickle, *call, 1))[0]];
  }
  const bool rebuilds = is_call_of(pickle, *call, "torch._utils._rebuild_tensor_v2");
  if (!rebuilds) fail(path(), tensor + " is " + pickle.describe(*call));
  // Storage, offset, sizes, strides, two that concern gradients, and for conjugate or negated views their marks.
  const std::vector<uint32_t>* arguments = arguments_of(pickle, *call, 4);
  if (arguments == nullptr) fail(path(), tensor + " is rebuilt from too few values");
  const auto part = [&](size_t i) -> const PickleValue& { return pickle[(*arguments)[i]]; };
  if (arguments->size() > 6 && !part(6).items.empty()) {
    RAISE(path(), ": ", tensor, " is a conjugate or negated view; save it as .resolve_neg() gives it");
  }
  View view;
  TensorEntry entry;
  const PickleValue* id = part(0).kind == Kind::persistent ? &pickle[part(0).items[0]] : nullptr;
  const bool named = id != nullptr && id->kind == Kind::tuple && id->items.size() >= 5;
  if (!named) fail(path(), tensor + " lies in " + pickle.describe(part(0)));
  const auto storage = storages_.find(pickle[id->items[2]].text);
  if (storage == storages_.end()) {
    RAISE(path(), ": ", tensor, " lies in a storage of the class ", pickle.describe(pickle[id->items[1]]),
          ", which is not read; save it as float32");
  }
  if (id->items.size() > 5 && pickle[id->items[5]].kind != Kind::none) {
    RAISE(path(), ": ", tensor, " lies in a view of a storage; load and save the file again with a newer PyTorch");
  }
  view.storage = storage->first;
  view.offset = part(1).integer;
  const bool sizes = part(1).kind == Kind::integer && view.offset >= 0 && read_sizes(pickle, part(2), entry.shape) &&
                     read_sizes(pickle, part(3), view.stride) && view.stride.size() == entry.shape.size() &&
                     entry.shape.size() <= kMostDimensions;
  entry.dtype = storage->second.dtype;
  if (!sizes || !safetensors_bytes(entry.dtype, entry.shape, &entry.end))
    fail(path(), tensor + " has an impossible shape");
  const int64_t last = entry.count() == 0 ? 0 : last_element(entry.shape, view.stride);
  const int64_t room = storage->second.count - view.offset;
  if (last < 0 || last >= room + (entry.count() == 0)) {
    fail(path(), concat(tensor, " reaches beyond its storage of ", storage->second.count, " elements"));
  }
  if (entry.count() > storage->second.count) {
    RAISE(path(), ": ", tensor, " repeats the elements of its storage; save it as .contiguous() gives it");
  }
  if (!tensors_.emplace(name, entry).second) fail(path(), tensor + " occurs twice");
  views_[name] = view;
}

const std::vector<uint8_t>& TorchCheckpoint::content(const std::string& key) const {
  if (!last_.empty() && last_key_ == key) return last_;
  const Storage& storage = storages_.at(key);
  last_.clear();
  if (zip_ != nullptr) {
    last_ = zip_->read(storage.entry);
  } else {
    last_.resize(static_cast<size_t>(storage.bytes));
    file_->read(storage.begin, last_.data(), storage.bytes);
  }
  last_key_ = key;
  return last_;
}

void TorchCheckpoint::read_into(const std::string& name, const TensorEntry& entry, void* to) const {
  if (entry.count() == 0) return;
  const View& view = views_.at(name);
  const size_t element = static_cast<size_t>(entry.end) / static_cast<size_t>(entry.count());
  const uint8_t* from = content(view.storage).data() + static_cast<size_t>(view.offset) * element;
  if (is_row_major(entry.shape, view.stride)) {
    std::memcpy(to, from, static_cast<size_t>(entry.end));
  } else {
    gather(entry.shape, view.stride, element, from, static_cast<uint8_t*>(to));
  }
}

bool is_torch_checkpoint(const std::string& path) {
  const InputFile file(path, "a .pth or .safetensors file");
  const std::string begin = file.text(0, std::min<uint64_t>(file.size(), kLegacyMagic.size()));
  if (begin.rfind(kZipMagic, 0) == 0 || begin == kLegacyMagic) return true;
  const size_t dot = path.rfind('.');
  const std::string ending = dot == std::string::npos ? "" : path.substr(dot);
  return ending == ".pth" || ending == ".pt" || ending == ".bin";
}

}  // namespace entangle
