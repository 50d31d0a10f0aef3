# Turns the headers' comments into those that Doxygen reads, so that the headers need no marks of their own:
#   the comment that opens a file   is about the file
#   lines of // before something    are about it; lines that are indented further, formulas and examples, stay as they are
#   // behind something             is about what stands before it
# Rulers of dashes are left out. A line to which the next one's first word could have been added was ended on purpose.
function escaped(text) {
  gsub(/[\\@<>#&$%"]/, "\\\\&", text)
  return text
}
# Writes the line of prose that was held back for a look at the one behind it.
function release(next_word) {
  if (holding) print held (next_word != "" && length(held) + length(next_word) < 112 ? " @n" : "")
  holding = 0
}
function close_verbatim() {
  if (verbatim) print indent "/// @endverbatim"
  verbatim = 0
}
NR == 1 && /^\/\// { print "/// @file" }
/^ *\/\/ ?-----/ {
  release("")
  close_verbatim()
  print ""
  next
}
/^ *\/\// {
  match($0, /^ */)
  indent = substr($0, 1, RLENGTH)
  text = substr($0, RLENGTH + 3)
  if (text ~ /^   /) {
    release("")
    if (!verbatim) print indent "/// @verbatim"
    verbatim = 1
    print indent "///" text
  } else {
    split(text, words, " ")
    release(words[1])
    close_verbatim()
    held = indent "///" escaped(text)
    holding = 1
  }
  next
}
{
  release("")
  close_verbatim()
}
# Not the "//" of an address.
match($0, /[;,{}] +\/\/ /) && $0 !~ /"[^"]*\/\/[^"]*"/ {
  at = RSTART + RLENGTH
  print substr($0, 1, at - 4) "///< " escaped(substr($0, at))
  next
}
{ print }
END {
  release("")
  close_verbatim()
}
