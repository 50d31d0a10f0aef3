// One architecture taken out of a supernet, in forms that others read. Every form is compared with the supernet's view
// before it is written.
#pragma once

#include <map>
#include <string>

#include "data/dataset.h"
#include "nn/supernet.h"
#include "tools/common/models.h"

namespace entangle {

enum class ExportForm {
  dense,      // the architecture's own weights, every block at its own size: for these programs and runner/
  published,  // the supernet's shapes with the QKV bias laid out for this architecture: for the published code
  onnx        // a graph with the architecture's own weights (tools/common/onnx_graph.h): for ONNX Runtime and its like
};

// --form's word; without one, what the file's name ends in tells: .onnx, or else dense. Throws Error for a word that is
// none, and for a file called .onnx that would be none.
ExportForm export_form(const std::string& word, const std::string& output);

// Images [count, channels, size, size], normalised, that an export is checked on: held-out ones of the data set, or normal
// noise when `source` is null.
Tensor images_to_check(const Config& config, const DataSource* source, int64_t count);

// The logits of both differ by rounding at most: |got - want| <= c eps (|want| + scale), eps = 2^-24, scale the largest
// |logit|, c = 8 for each of the network's 2 depth + 2 sums into the residual stream. Throws Error naming the image and
// class otherwise, also for NaN. Returns the largest difference.
double check_logits(const std::vector<float>& got, const std::vector<float>& want, const Architecture& architecture);

// What stands in the metadata of a dense file, for runner/, and of an ONNX file: sizes, normalisation and how images are fitted, as JSON.
std::string runner_metadata(const Config& config, const DataSource* source);

// Makes the form's weights, compares them on `images`, and writes them. An ONNX model is compared as its bytes say, by
// evaluate_onnx, and needs a model in fp32. `source` may be null. Returns the largest difference of a logit.
double export_subnet(const LoadedModel& model, const Architecture& architecture, ExportForm form, const Tensor& images,
                     const DataSource* source, const std::string& output);

}  // namespace entangle
