// HTML and SVG as text. All of it is XML as well: every tag is closed, every attribute quoted.
#pragma once

#include <cstdint>
#include <string>

namespace entangle {

// Any bytes as text between tags or within an attribute: markup loses its meaning, and what is not UTF-8 or may not stand in a
// page (control characters) becomes U+FFFD.
std::string escape_html(const std::string& text);

// "<td class="n">content</td>" of `td class="n"` and of content that is markup already.
std::string element(const std::string& tag, const std::string& content);
// The same of plain text, escaped.
std::string text_element(const std::string& tag, const std::string& text);

// The bytes of a file within a page: "data:image/png;base64,...".
std::string data_uri(const std::string& type, const std::string& bytes);

// 472106 -> "472,106".
std::string grouped(int64_t number);

}  // namespace entangle
