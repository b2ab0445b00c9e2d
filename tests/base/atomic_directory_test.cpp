// Directories that appear whole: what is left behind, and how it is settled.
#include "base/atomic_directory.h"

#include <gmock/gmock.h>

#include <algorithm>

#include "base/file.h"
#include "errors.h"
#include "temporary.h"

namespace polar::test {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

std::vector<std::string> names_in(const fs::path& directory) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

TEST(AtomicDirectory, AppearsAndReplacesWhole) {
  const TemporaryDirectory folder;
  const fs::path target = directory_path(folder / "above/it/");
  EXPECT_EQ(target, folder / "above/it");
  for (const char* content : {"first", "second"}) {
    AtomicDirectory directory(target);
    put(directory.path() / content, content);
    EXPECT_EQ(fs::exists(target), content == std::string("second"));
    directory.publish();
    EXPECT_THAT(names_in(target), ElementsAre(content));
  }
  EXPECT_THAT(names_in(folder / "above"), ElementsAre("it"));
}

TEST(AtomicDirectory, WithoutPublishingNothingHasHappened) {
  const TemporaryDirectory folder;
  put(folder / "it/old", "old");
  {
    AtomicDirectory directory(folder / "it");
    put(directory.path() / "new", "new");
  }
  EXPECT_THAT(names_in(folder.path()), ElementsAre("it"));
  EXPECT_THAT(names_in(folder / "it"), ElementsAre("old"));
}

// The second rename fails: the directory that was set aside stands again.
TEST(AtomicDirectory, AFailedReplacementIsUndone) {
  const TemporaryDirectory folder;
  put(folder / "it/old", "old");
  int renames = 0;
  set_file_fault([&](std::string_view what, const fs::path&) {
    if (what == "rename" && ++renames == 2) fail("injected");
  });
  EXPECT_THAT(message_of([&] { AtomicDirectory(folder / "it").publish(); }), HasSubstr("injected"));
  set_file_fault({});
  EXPECT_THAT(names_in(folder.path()), ElementsAre("it"));
  EXPECT_THAT(names_in(folder / "it"), ElementsAre("old"));
}

TEST(AtomicDirectory, SettlingPutsBackWhatHasNoSuccessor) {
  const TemporaryDirectory folder;
  put(folder / ".it.old/old", "old");
  put(folder / ".it.tmp/half", "half");
  EXPECT_THAT(settle_directory(folder / "it"), SizeIs(2));
  EXPECT_THAT(names_in(folder.path()), ElementsAre("it"));
  put(folder / ".it.old/older", "older");
  put(folder / ".it.deleted/part", "part");
  EXPECT_THAT(settle_directory(folder / "it"), SizeIs(2));
  EXPECT_THAT(names_in(folder.path()), ElementsAre("it"));
  EXPECT_THAT(names_in(folder / "it"), ElementsAre("old"));
  EXPECT_THAT(settle_directory(folder / "it"), IsEmpty());
}

TEST(AtomicDirectory, KnowsItsLeftovers) {
  for (const char* name : {".step-1.tmp", ".step-1.old", ".step-1.deleted"})
    EXPECT_EQ(settled_name(name), "step-1");
  for (const char* name : {"step-1.tmp", ".tmp", ".step-1", ".step-1.bak", ""})
    EXPECT_EQ(settled_name(name), "");
}

TEST(AtomicDirectory, RemovalIsWhole) {
  const TemporaryDirectory folder;
  put(folder / "it/a", "a");
  set_file_fault([](std::string_view what, const fs::path& path) {
    if (what == "remove" && fs::exists(path)) fail("injected");
  });
  EXPECT_THROW(remove_directory(folder / "it"), Error);
  set_file_fault({});
  EXPECT_THAT(names_in(folder.path()), ElementsAre(".it.deleted"));
  EXPECT_THAT(settle_directory(folder / "it"), SizeIs(1));
  EXPECT_THAT(names_in(folder.path()), IsEmpty());
}

}  // namespace
}  // namespace polar::test
