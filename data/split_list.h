// A search split as a list: which training images a search ranks on and training leaves out.
//
// A text file, an image a line: its name (Dataset::name) or its index. Lines that begin with "#" are comments, but for
// "# data: 60000 images, 10 classes, fingerprint 0123456789abcdef", which says what data the list is of.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/dataset.h"

namespace entangle {

// The training images less `held_out`. `list` is where that comes from, for messages. Throws Error naming an index that the
// data set does not have or that is listed twice, and a list that is empty or leaves nothing to train on.
Split split_by_list(const Dataset& train, std::vector<int64_t> held_out, const std::string& list);

// Throws Error as split_by_list; naming the line of an image that the data set does not have; and when the list says that it
// is of other data.
Split read_split_list(const std::string& path, const Dataset& train);

// Whole or not at all; `comment` is one line. Throws Error when the file cannot be written.
void write_split_list(const std::string& path, const Dataset& train, const std::vector<int64_t>& held_out,
                      const std::string& comment);

// One line that says the same, to be kept with what was trained: the data's fingerprint and the indices. Reading throws Error
// as read_split_list, `list` being where the line comes from.
std::string write_split_record(const Dataset& train, const std::vector<int64_t>& held_out);
Split read_split_record(const std::string& record, const Dataset& train, const std::string& list);

}  // namespace entangle
