// Bytes into lines.
#include "launch/output.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace polar::launch {
namespace {

using testing::ElementsAre;

// The lines of a stream that comes in these pieces.
std::vector<std::string> lines_of(const std::vector<std::string>& pieces) {
  std::vector<std::string> lines;
  LineSplitter splitter;
  const auto emit = [&](std::string_view line) { lines.emplace_back(line); };
  for (const std::string& piece : pieces) splitter.add(piece, emit);
  splitter.finish(emit);
  return lines;
}

TEST(LineSplitter, CutsAtLineEnds) {
  EXPECT_THAT(lines_of({"a\nb", "c\n", "\n", "d"}), ElementsAre("a", "bc", "", "d"));
  EXPECT_THAT(lines_of({""}), ElementsAre());
}

TEST(LineSplitter, TakesBothCharactersAsOneLineEnd) {
  EXPECT_THAT(lines_of({"a\r\nb\r", "\nc\r\n"}), ElementsAre("a", "b", "c"));
}

// The first state is shown at once, the next ones not within the same second, the last one always.
TEST(LineSplitter, ShowsProgressSeldom) {
  EXPECT_THAT(lines_of({"\r 1%\r 2%\r 3%", "\r 100%\n", "done\n"}), ElementsAre(" 1%", " 100%", "done"));
  EXPECT_THAT(lines_of({"1%\r2%\r3%\r"}), ElementsAre("1%", "3%"));
  EXPECT_THAT(lines_of({"1%\r2%\r\n"}), ElementsAre("1%", "2%"));
}

TEST(LineSplitter, CutsLinesWithoutEnd) {
  const std::vector<std::string> lines =
      lines_of({std::string(70'000, 'x'), std::string(70'000, 'x') + "\n"});
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[0].size() + lines[1].size() + lines[2].size(), 140'000u);
}

}  // namespace
}  // namespace polar::launch
