// A strict reader of pages: XML's rules for tags and attributes, and nothing that the page would have to fetch or run.
#pragma once

#include <algorithm>
#include <cctype>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace entangle {

class PageChecker {
 public:
  explicit PageChecker(const std::string& page) : page_(page) {
    const std::string type = "<!DOCTYPE html>\n";
    if (page.rfind(type, 0) != 0) {
      fail("no document type");
      return;
    }
    at_ = type.size();
    while (fault_.empty() && at_ < page_.size()) page_[at_] == '<' ? tag() : text();
    if (fault_.empty() && !open_.empty()) fail("<" + open_.back() + "> is not closed");
    if (fault_.empty() && elements_ == 0) fail("no element");
  }

  const std::string& fault() const { return fault_; }  // empty: the page is well formed and needs nothing else
  // What a reader sees: text with a space for each tag and white space joined; styles left out.
  const std::string& words() const { return words_; }
  int count(const std::string& name) const {
    int found = 0;
    for (const std::string& other : names_) found += other == name;
    return found;
  }
  const std::string& style() const { return style_; }

 private:
  void fail(const std::string& what) {
    fault_ = what + " at byte " + std::to_string(at_) + ": " + page_.substr(at_, 60);
  }

  void text() {
    if (open_.empty() && !std::isspace(static_cast<unsigned char>(page_[at_]))) return fail("text outside of the page");
    const size_t end = std::min(page_.find('<', at_), page_.size());
    std::string plain;
    const bool style = !open_.empty() && open_.back() == "style";
    if (style) {
      plain = page_.substr(at_, end - at_);
      style_ += plain;
      for (const char* fetch : {"url(", "@import", "expression("}) {
        if (plain.find(fetch) != std::string::npos) return fail(std::string("a style with ") + fetch);
      }
    } else if (!unescape(at_, end, plain)) {
      return fail("a bare or unknown &");
    }
    for (const char c : style ? std::string() : plain) add(c);
    at_ = end;
  }

  void add(char c) {
    const bool space = std::isspace(static_cast<unsigned char>(c)) != 0;
    if (!space) words_ += c;
    if (space && !words_.empty() && words_.back() != ' ') words_ += ' ';
  }

  bool unescape(size_t begin, size_t end, std::string& out) const {
    const std::pair<const char*, char> known[] = {
        {"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&#39;", '\''}};
    for (size_t i = begin; i < end;) {
      if (page_[i] != '&') {
        if (static_cast<unsigned char>(page_[i]) < 0x20 && page_[i] != '\n' && page_[i] != '\t') return false;
        out += page_[i++];
        continue;
      }
      size_t length = 0;
      for (const auto& [name, character] : known) {
        if (page_.compare(i, std::string(name).size(), name) != 0) continue;
        out += character;
        length = std::string(name).size();
      }
      if (length == 0) return false;
      i += length;
    }
    return true;
  }

  std::string word() {
    std::string out;
    while (at_ < page_.size() && (std::isalnum(static_cast<unsigned char>(page_[at_])) || page_[at_] == '-'))
      out += page_[at_++];
    return out;
  }

  void tag() {
    ++at_;
    add(' ');
    if (page_[at_] == '/') {
      ++at_;
      const std::string name = word();
      if (open_.empty() || open_.back() != name) return fail("</" + name + "> closes nothing");
      open_.pop_back();
      if (at_ >= page_.size() || page_[at_] != '>') return fail("a broken end tag");
      ++at_;
      return;
    }
    const std::string name = word();
    if (name.empty()) return fail("a bare <");
    if (open_.empty() && elements_ > 0) return fail("a second root");
    for (const char* forbidden :
         {"script", "link", "iframe", "object", "embed", "base", "form", "use", "foreignObject"}) {
      if (name == forbidden) return fail("<" + name + ">");
    }
    ++elements_;
    names_.push_back(name);
    attributes(name);
  }

  void attributes(const std::string& name) {
    std::set<std::string> seen;
    while (fault_.empty()) {
      const bool space = at_ < page_.size() && page_[at_] == ' ';
      while (at_ < page_.size() && page_[at_] == ' ') ++at_;
      if (at_ >= page_.size()) return fail("a tag without an end");
      if (page_[at_] == '>') {
        ++at_;
        for (const char* empty : {"meta", "img", "br"}) {
          if (name == empty) return fail("<" + name + "> is not closed");
        }
        return open_.push_back(name);
      }
      if (page_.compare(at_, 2, "/>") == 0) {
        at_ += 2;
        return;
      }
      const std::string key = word();
      if (!space || key.empty() || !seen.insert(key).second) return fail("a broken or repeated attribute");
      if (page_.compare(at_, 2, "=\"") != 0) return fail("an attribute without quotes");
      const size_t begin = at_ + 2, end = page_.find('"', begin);
      std::string value;
      if (end == std::string::npos || page_.find('<', begin) < end || !unescape(begin, end, value))
        return fail("a broken attribute");
      check_reference(key, value);
      at_ = end + 1;
    }
  }

  void check_reference(const std::string& key, const std::string& value) {
    const bool reference = key == "src" || key == "href" || key == "srcset" || key == "action" || key == "data";
    if (reference && value.rfind("data:image/png;base64,", 0) != 0)
      return fail("a reference to " + value.substr(0, 40));
    if (key.rfind("on", 0) == 0) return fail("a script in " + key);
    if (key == "style" && value.find("url(") != std::string::npos) return fail("a style with url(");
    if (key != "xmlns" && value.find("://") != std::string::npos) return fail("an address in " + key);
  }

  const std::string page_;
  size_t at_ = 0;
  int elements_ = 0;
  std::vector<std::string> open_, names_;
  std::string words_, style_, fault_;
};

}  // namespace entangle
