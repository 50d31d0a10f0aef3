// PyTorch's checkpoints (.pth), read without Python and without running anything in them (engine/pickle.h): the zip
// archive of torch.save since 1.6, and the sequence of pickles before it.
//
// Weights are the tensors of the dictionary under "model" (as AutoFormer and most others save), else under "state_dict",
// else of the whole file. Tensors may be views of shared storages with any strides.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/input_file.h"
#include "engine/tensor_file.h"
#include "engine/zip_reader.h"

namespace entangle {

class Pickle;
struct PickleValue;

// A checkpoint written by PyTorch, open for reading.
class TorchCheckpoint : public TensorFile {
 public:
  // Reads and checks everything but the tensors' values. Throws Error naming the file and the entry, the pickle's opcode
  // or the tensor that is wrong: a value that is no tensor, of an unknown type, beyond its storage, with more elements
  // than its storage, of an impossible shape; a storage that is missing or of another size.
  explicit TorchCheckpoint(const std::string& path);

  // What the file holds beside the weights, as text: {"epoch", "299"}, {"args", "a call of 'argparse.Namespace', ..."}.
  const std::map<std::string, std::string>& others() const { return others_; }

 private:
  // A piece of the file with elements of one type.
  struct Storage {
    std::string dtype;
    int64_t count = 0;
    uint64_t begin = 0, bytes = 0;
    std::string entry;  // of the zip archive; otherwise the bytes lie at `begin`
  };
  struct View {
    std::string storage;
    int64_t offset = 0;  // elements
    std::vector<int64_t> stride;
  };

  void read_into(const std::string& name, const TensorEntry& entry, void* to) const override;

  void open_zip();
  void open_legacy();
  void locate_legacy(const Pickle& keys, uint64_t begin);
  void collect_storages(const Pickle& pickle, const std::string& where);
  void add_weights(const Pickle& pickle);
  void add_tensor(const Pickle& pickle, const std::string& name, const PickleValue& value);
  const std::vector<uint8_t>& content(const std::string& key) const;

  std::shared_ptr<const InputFile> file_;
  std::unique_ptr<ZipFile> zip_;  // null for the older format
  std::map<std::string, Storage> storages_;
  std::map<std::string, View> views_;
  std::map<std::string, std::string> others_;
  // The storage that was read last: many tensors may share one.
  mutable std::string last_key_;
  mutable std::vector<uint8_t> last_;
};

// Whether a file is to be read as one: by its first bytes, or, when those are of no known format, by its ending .pth, .pt
// or .bin.
bool is_torch_checkpoint(const std::string& path);

}  // namespace entangle
