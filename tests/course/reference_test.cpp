// How the headers' comments reach Doxygen, and what `make docs` says where there is none.
#include <gtest/gtest.h>

#include "tests/files.h"
#include "tests/shell.h"
#include "tests/temporary_directory.h"

namespace entangle {
namespace {

std::string filtered(const std::string& header) {
  const TemporaryDirectory dir;
  write_raw(dir.path("header.h"), header);
  return run_shell("awk -f docs/doxygen_comments.awk " + dir.path("header.h")).text;
}

TEST(Reference, CommentsStandWhereDoxygenLooks) {
  EXPECT_EQ(filtered("// A file.\n#pragma once\n"), "/// @file\n/// A file.\n#pragma once\n");
  EXPECT_EQ(filtered("#pragma once\n  // Of f.\n  int f();  // at <once>\n"),
            "#pragma once\n  /// Of f.\n  int f();  ///< at \\<once\\>\n");
  EXPECT_EQ(filtered("\n// ----- part ---\nint a = 0;\n"), "\n\nint a = 0;\n");
  EXPECT_EQ(filtered("\nconst char* a = \"see http://b; // c\";\n"), "\nconst char* a = \"see http://b; // c\";\n");
}

TEST(Reference, FormulasKeepTheirLines) {
  EXPECT_EQ(filtered("\n// A sum:\n//   y = a <b>\n//   z\n// Words.\nint f();\n"),
            "\n/// A sum:\n/// @verbatim\n///   y = a <b>\n///   z\n/// @endverbatim\n/// Words.\nint f();\n");
  // The second line could have stood on the first.
  EXPECT_EQ(filtered("\n// x [N]\n// y [N]\nint f();\n"), "\n/// x [N] @n\n/// y [N]\nint f();\n");
  const std::string full(110, 'x');
  EXPECT_EQ(filtered("\n// " + full + "\n// more\nint f();\n"), "\n/// " + full + "\n/// more\nint f();\n");
}

TEST(Reference, SaysWhatToInstall) {
  const ShellResult result = run_shell("PATH=/none /bin/sh docs/reference.sh");
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.text, "error: there is no doxygen; install it (Debian: sudo apt-get install doxygen)\n");
}

}  // namespace
}  // namespace entangle
