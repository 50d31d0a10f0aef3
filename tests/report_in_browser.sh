#!/usr/bin/env bash
# Opens a page of render_report in a headless Chromium, as wide as a phone and as a desktop: no console errors, nothing wider
# than the window. Skipped, and said so, where there is no Chromium.
#
#   tests/report_in_browser.sh PAGE.html [PICTURES]
#
# With PICTURES, a folder, also writes pictures of the page in light and dark.
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: $0 PAGE.html [PICTURES]" >&2; exit 2; }
[ -r "$1" ] || { echo "error: cannot read $1: write it with ./render_report RUN" >&2; exit 1; }
page=$(realpath "$1")
browser=
for name in chromium chromium-browser google-chrome; do
  [ -n "$browser" ] || browser=$(command -v "$name" || true)
done
[ -n "$browser" ] || { echo "skipped: there is no chromium here"; exit 0; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# chromium [FLAGS...] FILE
chromium() {
  timeout 120 "$browser" --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --user-data-dir="$work/profile" \
    --hide-scrollbars --enable-logging=stderr "$@"
}

# The page in a frame of each width, measured from without: the page itself has no scripts.
cat > "$work/measure.html" << END
<!DOCTYPE html><meta charset="utf-8"><body><script>
const out = [];
const widths = [390, 1280];
let left = widths.length;
for (const width of widths) {
  const frame = document.createElement('iframe');
  frame.style.cssText = 'border:0;height:900px;width:' + width + 'px';
  frame.onload = () => {
    const root = frame.contentDocument.documentElement;
    out.push('at ' + width + ' px: ' + root.scrollWidth + ' px wide, ' + root.querySelectorAll('svg').length + ' drawings');
    for (const image of frame.contentDocument.images) if (!image.naturalWidth) out.push('an image is broken');
    if (--left == 0) document.title = 'MEASURED', document.body.innerText = out.join('\n');
  };
  frame.src = 'file://$page';
  document.body.append(frame);
}
</script>
END
chromium --allow-file-access-from-files --dump-dom --virtual-time-budget=20000 "file://$work/measure.html" \
  > "$work/dom" 2> "$work/log"
lines=$(sed 's/<br>\|<body[^>]*>/\n/g; s/<[^>]*>//g' "$work/dom" | grep -E '^at |broken' || true)
echo "$lines"
failed=0
if grep -F ':CONSOLE' "$work/log"; then failed=1; fi
for width in 390 1280; do
  wide=$(sed -n "s/^at $width px: \([0-9]*\) px wide.*/\1/p" <<< "$lines")
  [ -n "$wide" ] || { echo "error: the browser did not open the page at $width px" >&2; tail -3 "$work/log" >&2; exit 1; }
  [ "$wide" -le "$width" ] || { echo "error: the page is $wide px wide in a window of $width px" >&2; failed=1; }
done
if grep -q broken <<< "$lines"; then failed=1; fi

# A window is never as narrow as a phone's, so the page is in a frame; and dark is what the page itself says of it.
if [ $# -ge 2 ]; then
  mkdir -p "$2"
  cp "$page" "$work/light.html"
  sed 's/@media screen and (prefers-color-scheme:dark)/@media screen/' "$page" > "$work/dark.html"
  for width in 390 1280; do
    for theme in light dark; do
      echo "<body style='margin:0'><iframe style='border:0;width:${width}px;height:${HEIGHT:-6000}px' src='$theme.html'>" > "$work/frame.html"
      chromium --window-size="$((width < 500 ? 500 : width)),${HEIGHT:-6000}" --screenshot="$2/$width-$theme.png" "file://$work/frame.html" 2> /dev/null
    done
  done
  echo "pictures in $2"
fi
exit $failed
