#!/bin/sh
# reference.sh: writes the reference of the public headers to build/docs/html. Fails on whatever Doxygen warns of: a header or a
# class without a comment, a comment on what is not there. Functions and members may go without, where the name says it all.
set -eu
command -v doxygen > /dev/null || {
  echo "error: there is no doxygen; install it (Debian: sudo apt-get install doxygen)" >&2
  exit 1
}
rm -rf build/docs
mkdir -p build/docs
doxygen docs/Doxyfile
if grep -v 'warning: Member .* is not documented' build/docs/warnings.txt >&2; then
  echo "error: the headers' comments need mending, see above" >&2
  exit 1
fi
echo "build/docs/html/index.html"
