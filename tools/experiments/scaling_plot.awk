# scaling_plot.awk: the table of scaling.sh as an SVG of two panels.
#   left   images per second against the batch size, both axes from zero
#   right  milliseconds an image against GFLOP an image, both axes logarithmic; the line is what the FMA ceiling allows
BEGIN {
  FS = "\t"
  width = 420; height = 300  # of a panel's axes
  left[1] = 70; left[2] = 590; top = 50
  colour["batch"] = "#1f5fa8"; colour["tokens"] = "#1f5fa8"; colour["width"] = "#c2571a"
}
NR > 1 {
  ++n
  series[n] = $1; label[n] = $2; images[n] = $3; gflop[n] = $4; rate[n] = $5
  if ($6 > ceiling) ceiling = $6
}

function text(x, y, anchor, words, size) {
  printf "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" font-size=\"%d\" stroke=\"white\" stroke-width=\"3\" " \
         "paint-order=\"stroke\">%s</text>\n", x, y, anchor, size, words
}
function segment(x1, y1, x2, y2, style) {
  printf "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" style=\"%s\"/>\n", x1, y1, x2, y2, style
}
# Places of a value on the axes of panel p.
function scale_of(p, value, low, high) {
  return p == 1 ? value / high : log(value / low) / log(high / low)
}
function place_x(p, value) { return left[p] + width * scale_of(p, value, low_x[p], high_x[p]) }
function place_y(p, value) { return top + height * (1 - scale_of(p, value, low_y[p], high_y[p])) }

# The smallest of 1, 2, 5, 10, 20, ... that is not below a value.
function nice_above(value,  power) {
  power = 10 ^ int(log(value) / log(10) + (value >= 1 ? 0 : -1))
  return value <= power ? power : value <= 2 * power ? 2 * power : value <= 5 * power ? 5 * power : 10 * power
}
function nice_below(value,  above) {
  above = nice_above(value)
  return above == value ? value : next_nice(above, -1)
}
# The neighbour of a nice number in that sequence.
function next_nice(value, direction,  power, digit) {
  power = 10 ^ int(log(value) / log(10) + 1e-9 + (value >= 1 ? 0 : -1 + 1e-6))
  digit = int(value / power + 0.5)
  if (direction > 0) return (digit == 1 ? 2 : digit == 2 ? 5 : 10) * power
  return (digit == 1 ? 0.5 : digit == 2 ? 1 : 2) * power
}

function tick_x(p, value) {
  segment(place_x(p, value), top, place_x(p, value), top + height, "stroke:#ddd")
  text(place_x(p, value), top + height + 16, "middle", value, 11)
}
function tick_y(p, value) {
  segment(left[p], place_y(p, value), left[p] + width, place_y(p, value), "stroke:#ddd")
  text(left[p] - 6, place_y(p, value) + 4, "end", value, 11)
}
function axes(p, title, below, beside,  step, value) {
  if (p == 1) {
    step = nice_above(high_x[p] / 8)
    for (value = 0; value <= high_x[p]; value += step) tick_x(p, value)
    step = nice_above(high_y[p] / 8)
    for (value = 0; value <= high_y[p]; value += step) tick_y(p, value)
  } else {
    for (value = low_x[p]; value <= high_x[p] * 1.001; value = next_nice(value, 1)) tick_x(p, value)
    for (value = low_y[p]; value <= high_y[p] * 1.001; value = next_nice(value, 1)) tick_y(p, value)
  }
  printf "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" style=\"fill:none;stroke:#444\"/>\n", \
         left[p], top, width, height
  text(left[p] + width / 2, top - 14, "middle", title, 14)
  text(left[p] + width / 2, top + height + 36, "middle", below, 12)
  text(left[p], top - 14, "start", beside, 12)
}

# The points of one series joined by a line, each with a label.
function draw(p, name, labels,  i, x, y, path, before) {
  before = name == "tokens"
  for (i = 1; i <= n; ++i) {
    if (series[i] != name) continue
    x = place_x(p, p == 1 ? images[i] : gflop[i])
    y = place_y(p, p == 1 ? rate[i] : 1000 / rate[i])
    path = path sprintf("%.1f,%.1f ", x, y)
    printf "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" style=\"fill:%s\"/>\n", x, y, colour[name]
    if (labels) text(x + (before ? -8 : 8), y + (before ? -4 : 10), before ? "end" : "start", label[i], 10)
  }
  if (name == "width") return
  printf "<polyline points=\"%s\" style=\"fill:none;stroke:%s;stroke-width:1.5\"/>\n", path, colour[name]
}

function limits(  i, time) {
  low_x[2] = low_y[2] = 1e30
  for (i = 1; i <= n; ++i) {
    if (series[i] == "batch") {
      if (images[i] > high_x[1]) high_x[1] = images[i]
      if (rate[i] > high_y[1]) high_y[1] = rate[i]
      continue
    }
    time = 1000 / rate[i]
    if (gflop[i] < low_x[2]) low_x[2] = gflop[i]
    if (gflop[i] > high_x[2]) high_x[2] = gflop[i]
    if (1000 * gflop[i] / ceiling < low_y[2]) low_y[2] = 1000 * gflop[i] / ceiling
    if (time > high_y[2]) high_y[2] = time
  }
  high_x[1] *= 1.06; high_y[1] *= 1.15
  # Room for the labels.
  low_x[2] = nice_below(low_x[2] * 0.7); high_x[2] = nice_above(high_x[2] * 1.4)
  low_y[2] = nice_below(low_y[2]); high_y[2] = nice_above(high_y[2])
}

# The ceiling's line from edge to edge of the panel.
function draw_ceiling(  from, to) {
  from = low_x[2]
  if (1000 * from / ceiling < low_y[2]) from = low_y[2] * ceiling / 1000
  to = high_x[2]
  if (1000 * to / ceiling > high_y[2]) to = high_y[2] * ceiling / 1000
  segment(place_x(2, from), place_y(2, 1000 * from / ceiling), place_x(2, to), place_y(2, 1000 * to / ceiling), \
          "stroke:#444;stroke-dasharray:5 4")
  text(left[2] + width - 8, top + height - 10, "end", sprintf("dashed: FMA ceiling, %.0f GFLOP/s", ceiling), 11)
}

END {
  if (n == 0) { print "scaling_plot.awk: no measurements in the table" > "/dev/stderr"; exit 1 }
  limits()
  printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\">\n", \
         left[2] + width + 40, top + height + 50
  print "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>"
  axes(1, "T, largest subnet, training", "images of a step", "img/s")
  draw(1, "batch", 0)
  axes(2, "batch " batch ", training", "GFLOP an image", "ms an image")
  draw_ceiling()
  draw(2, "tokens", 1)
  draw(2, "width", 1)
  printf "<g fill=\"%s\">\n", colour["tokens"]
  text(left[2] + 10, top + 18, "start", "T at image sizes", 11)
  printf "</g>\n<g fill=\"%s\">\n", colour["width"]
  text(left[2] + 10, top + 34, "start", "subnets of T, S, B", 11)
  print "</g>\n</svg>"
}
