// Draws the figures of the course: figures FOLDER. A test compares them with those in docs/course/figures.
//   g++ -std=c++17 docs/course/figures.cpp -o /tmp/figures && /tmp/figures docs/course/figures
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

namespace {

constexpr const char *kInk = "#222", *kGrey = "#e4e4e4", *kBlue = "#9ec5f0", *kOrange = "#f5c18a", *kGreen = "#b5dca4";

std::string number(int value) { return std::to_string(value); }

// One drawing. Coordinates are whole pixels, so that every machine writes the same bytes.
class Drawing {
 public:
  Drawing(int width, int height) {
    out_ << "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " << width << " " << height << "\" width=\""
         << width << "\" font-family=\"sans-serif\" font-size=\"14\">\n"
         << "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n";
  }
  void box(int x, int y, int width, int height, const char* fill, const std::string& words = "") {
    out_ << "<rect x=\"" << x << "\" y=\"" << y << "\" width=\"" << width << "\" height=\"" << height << "\" fill=\""
         << fill << "\" stroke=\"" << kInk << "\"/>\n";
    if (!words.empty()) text(x + width / 2, y + height / 2 + 5, words, "middle");
  }
  void text(int x, int y, const std::string& words, const char* anchor = "start") {
    out_ << "<text x=\"" << x << "\" y=\"" << y << "\" text-anchor=\"" << anchor << "\" fill=\"" << kInk << "\">"
         << words << "</text>\n";
  }
  void arrow(int x1, int y1, int x2, int y2) {
    if (!marker_) {
      out_ << "<defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" "
              "orient=\"auto\"><path d=\"M0,0 L8,4 L0,8 z\"/></marker></defs>\n";
      marker_ = true;
    }
    out_ << "<line x1=\"" << x1 << "\" y1=\"" << y1 << "\" x2=\"" << x2 << "\" y2=\"" << y2 << "\" stroke=\"" << kInk
         << "\" marker-end=\"url(#tip)\"/>\n";
  }
  std::string str() const { return out_.str() + "</svg>\n"; }

 private:
  std::ostringstream out_;
  bool marker_ = false;
};

// Lesson 2: a weight [4, 4] as a square and as it lies in memory; the view [2, 3] is coloured.
std::string stride() {
  Drawing d(640, 215);
  const auto colour = [](int i) { return i / 4 < 2 && i % 4 < 3 ? kBlue : kGrey; };
  d.text(20, 25, "the weight, 4 x 4");
  for (int i = 0; i < 16; ++i) d.box(20 + i % 4 * 32, 40 + i / 4 * 26, 32, 26, colour(i), number(i + 1));
  d.text(200, 65, "the view: rows 0 and 1, columns 0 to 2");
  d.text(200, 90, "sizes 2 and 3, stride 4: to the next row it is four numbers,");
  d.text(200, 110, "three that the view has and one that it leaves out");
  d.text(20, 172, "in memory");
  for (int i = 0; i < 16; ++i) d.box(100 + i * 32, 155, 32, 26, colour(i), number(i + 1));
  d.arrow(116, 193, 244, 193);
  d.text(250, 200, "stride");
  return d.str();
}

// Lesson 3: what each token's place is, as seen from patch (0, 0) of a grid of 2 x 2 with m = 1.
std::string buckets() {
  Drawing d(640, 190);
  const auto grid = [&](int x, const std::string& title, const char* const(&words)[4], const char* token) {
    d.text(x, 25, title);
    d.box(x, 40, 56, 130, kGrey, token);
    for (int i = 0; i < 4; ++i) {
      d.box(x + 64 + i % 2 * 56, 40 + i / 2 * 65, 56, 65, i == 0 ? kOrange : kBlue, words[i]);
    }
  };
  grid(20, "tokens", {"(0,0)", "(0,1)", "(1,0)", "(1,1)"}, "class");
  grid(235, "bv: rows apart", {"2", "2", "3", "3"}, "0");
  grid(450, "bh: columns apart", {"2", "3", "2", "3"}, "0");
  return d.str();
}

// Lesson 4: the tile that stays in registers.
std::string tile() {
  Drawing d(640, 250);
  d.text(20, 25, "one step k of a tile with 6 rows and 2 vectors of 8");
  d.text(20, 162, "a[i, k]");
  d.text(20, 182, "6 broadcasts");
  for (int i = 0; i < 6; ++i) d.box(160, 95 + i * 24, 40, 24, kOrange);
  for (int v = 0; v < 2; ++v) {
    for (int i = 0; i < 6; ++i) d.box(230 + v * 160, 95 + i * 24, 160, 24, kGreen, "sum += a b");
    d.box(230 + v * 160, 50, 160, 24, kBlue, v == 0 ? "b[k, 0..7]" : "b[k, 8..15]");
  }
  d.text(560, 67, "2 loads");
  d.text(560, 172, "12 sums");
  d.text(560, 192, "in registers");
  return d.str();
}

// Lesson 5: a butterfly sum over four lanes.
std::string butterfly() {
  Drawing d(640, 230);
  const char* const values[3][4] = {{"1", "2", "3", "4"}, {"4", "6", "4", "6"}, {"10", "10", "10", "10"}};
  const char* const titles[3] = {"each lane's own", "after xor 2", "after xor 1"};
  for (int step = 0; step < 3; ++step) {
    d.text(20, 47 + step * 80, titles[step]);
    for (int lane = 0; lane < 4; ++lane) {
      d.box(180 + lane * 110, 25 + step * 80, 60, 34, step == 2 ? kGreen : kBlue, values[step][lane]);
      if (step == 2) continue;
      const int from = lane ^ (2 >> step);
      d.arrow(210 + from * 110, 59 + step * 80, 210 + lane * 110, 104 + step * 80);
      d.arrow(210 + lane * 110, 59 + step * 80, 210 + lane * 110, 104 + step * 80);
    }
  }
  return d.str();
}

// Lesson 8: three ranks in a ring, the first step of a reduce-scatter.
std::string ring() {
  Drawing d(640, 190);
  for (int rank = 0; rank < 3; ++rank) {
    const int x = 20 + rank * 215;
    d.text(x, 30, "rank " + number(rank));
    for (int part = 0; part < 3; ++part)
      d.box(x + part * 50, 45, 50, 34, part == rank ? kOrange : kGrey, "part " + number(part));
    if (rank < 2) d.arrow(x + 155, 62, x + 210, 62);
  }
  d.text(20, 115,
         "Each rank sends one part (orange) to its right neighbour, rank 2 to rank 0, which adds it to its own.");
  d.text(20, 140, "After 2 such steps every part is complete on one rank. 2 more steps pass the complete parts round.");
  d.text(20, 165, "Sent by each rank: 2 (n - 1) parts of 1/n: just below twice the gradient, for any n.");
  return d.str();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: figures FOLDER\n");
    return 2;
  }
  const struct {
    const char* name;
    std::string (*draw)();
  } figures[] = {{"stride", stride}, {"buckets", buckets}, {"tile", tile}, {"butterfly", butterfly}, {"ring", ring}};
  for (const auto& figure : figures) {
    const std::string path = std::string(argv[1]) + "/" + figure.name + ".svg";
    std::ofstream out(path, std::ios::binary);
    out << figure.draw();
    if (!out.flush()) {
      std::fprintf(stderr, "error: cannot write %s; does the folder exist?\n", path.c_str());
      return 1;
    }
  }
  return 0;
}
