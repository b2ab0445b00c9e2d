// The file layer: what is written is read back, writes are atomic under every injected fault, messages name
// the file and the reason.
#include "base/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "errors.h"
#include "temporary.h"

namespace polar::test {
namespace {

using ::testing::HasSubstr;

// A directory of its own for each test, removed afterwards with any fault that is still set.
class File : public ::testing::Test {
 protected:
  ~File() override { set_file_fault({}); }
  std::filesystem::path path(const char* name) const { return directory_ / name; }
  std::vector<std::string> names() const {
    std::vector<std::string> out;
    for (const auto& entry : std::filesystem::directory_iterator(directory_.path()))
      out.push_back(entry.path().filename().string());
    return out;
  }

 private:
  TemporaryDirectory directory_;
};

// More than the writer's buffer, in pieces of odd sizes.
TEST_F(File, WriterAndMapAgree) {
  std::string content;
  FileWriter writer(path("a"));
  for (size_t i = 0; i < 300; ++i) {
    const std::string piece(i * 37 % 20011, static_cast<char>('a' + i % 26));
    writer.write(piece);
    content += piece;
  }
  const std::string large(3 << 20, 'x');
  writer.write(large);
  content += large;
  writer.write("end");
  content += "end";
  EXPECT_EQ(writer.position(), content.size());
  writer.write_at(2, "HEADER", 6);
  content.replace(2, 6, "HEADER");
  EXPECT_EQ(writer.position(), content.size());
  writer.close();

  const MappedFile map(path("a"));
  ASSERT_EQ(map.size(), content.size());
  EXPECT_EQ(std::memcmp(map.data(), content.data(), content.size()), 0);
  EXPECT_EQ(read_file(path("a")), content);
}

TEST_F(File, EmptyFiles) {
  write_file_atomically(path("empty"), "");
  EXPECT_EQ(MappedFile(path("empty")).size(), 0u);
  EXPECT_EQ(read_file(path("empty")), "");
}

TEST_F(File, AMapOutlivesTheFilesName) {
  write_file_atomically(path("a"), "hello");
  MappedFile first(path("a"));
  remove_tree(path("a"));
  MappedFile second = std::move(first);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(second.data()), second.size()), "hello");
}

TEST_F(File, AWriterThatIsNotClosedLeavesNothing) {
  { FileWriter(path("a")).write("half"); }
  EXPECT_TRUE(names().empty());
}

// XXH3-128 of nothing is a published constant (`xxh128sum /dev/null`).
TEST_F(File, Checksums) {
  EXPECT_EQ(checksum({}), "99aa06d3014798d86001c324468d497f");
  write_file_atomically(path("a"), "some content");
  const std::string content = "some content";
  EXPECT_EQ(checksum_file(path("a")), checksum(std::as_bytes(std::span(content))));
  EXPECT_NE(checksum_file(path("a")), checksum({}));
}

TEST_F(File, ErrorsNameTheFileAndTheReason) {
  EXPECT_THAT(message_of([&] { MappedFile map(path("missing")); }),
              ::testing::AllOf(HasSubstr(path("missing").string()), HasSubstr("No such file")));
  EXPECT_THAT(message_of([&] { MappedFile map(path("")); }), HasSubstr("not a regular file"));
  EXPECT_THAT(message_of([&] { FileWriter writer(path("none") / "a"); }),
              ::testing::AllOf(HasSubstr("cannot create"), HasSubstr("none")));
  EXPECT_THAT(message_of([&] { rename_durably(path("missing"), path("b")); }),
              ::testing::AllOf(HasSubstr("rename"), HasSubstr(path("b").string())));
  EXPECT_THAT(message_of([&] { sync_directory(path("missing")); }), HasSubstr("missing"));
}

TEST_F(File, AFullDiskSaysSo) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full";
  // A symbolic link, so that the writer's clean-up removes the link.
  std::filesystem::create_symlink("/dev/full", path("a"));
  EXPECT_THAT(
      message_of([&] {
        FileWriter writer(path("a"));
        writer.write(std::string(3 << 20, 'x'));
        writer.close();
      }),
      ::testing::AllOf(HasSubstr(path("a").string()), HasSubstr("No space left"), HasSubstr("free some")));
}

TEST_F(File, RemoveTree) {
  std::filesystem::create_directories(path("d") / "e");
  write_file_atomically(path("d") / "e" / "f", "x");
  remove_tree(path("d"));
  remove_tree(path("d"));  // nothing there: nothing done
  EXPECT_TRUE(names().empty());
}

// Whatever single operation fails, a reader sees the old content or the new, and a second try succeeds.
TEST_F(File, AtomicWriteUnderEveryFault) {
  const std::string before(100, 'o'), after(3 << 20, 'n');
  std::vector<std::string> operations;
  set_file_fault(
      [&](std::string_view operation, const std::filesystem::path&) { operations.emplace_back(operation); });
  write_file_atomically(path("a"), after);
  EXPECT_THAT(operations, ::testing::ElementsAre("create", "write", "sync", "rename"));

  for (size_t failing = 0; failing < operations.size(); ++failing) {
    set_file_fault({});
    write_file_atomically(path("a"), before);
    size_t count = 0;
    set_file_fault([&](std::string_view operation, const std::filesystem::path& file) {
      if (count++ == failing) fail("injected: {} {}", operation, file.string());
    });
    EXPECT_THAT(message_of([&] { write_file_atomically(path("a"), after); }),
                HasSubstr("injected: " + operations[failing]));
    EXPECT_EQ(read_file(path("a")), before) << operations[failing];
    set_file_fault({});
    write_file_atomically(path("a"), after);
    EXPECT_EQ(read_file(path("a")), after);
    EXPECT_THAT(names(), ::testing::ElementsAre("a"));
  }
}

}  // namespace
}  // namespace polar::test
