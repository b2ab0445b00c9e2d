// The house is what the README and the layers say; and every check can fail, shown on planted wrong trees.
#include <gmock/gmock.h>

#include <sstream>

#include "base/file.h"
#include "house/house.h"
#include "process.h"
#include "temporary.h"

namespace polar::house {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// The files that git knows; nothing where the sources are no git checkout.
std::vector<std::string> tracked_files() {
  const test::Finished git = test::run_process(
      {"/bin/sh", "-c", "git -c safe.directory='*' -C '" POLAR_SOURCE_DIR "' ls-files 2>/dev/null"});
  std::vector<std::string> files;
  std::istringstream lines(git.output);
  for (std::string line; std::getline(lines, line);) files.push_back(line);
  return files;
}

TEST(House, IncludesFollowTheArrows) {
  EXPECT_THAT(check_includes(POLAR_SOURCE_DIR), IsEmpty());
}
TEST(House, BackendsAreNamedInTheirPlaceOnly) {
  EXPECT_THAT(check_backend_names(POLAR_SOURCE_DIR), IsEmpty());
}
TEST(House, FilesAreShort) {
  EXPECT_THAT(check_lengths(POLAR_SOURCE_DIR), IsEmpty());
}
TEST(House, LibrariesFollowTheArrows) {
  EXPECT_THAT(check_link_arrows(POLAR_SOURCE_DIR), IsEmpty());
}

TEST(House, ReadmesLayoutIsTheTree) {
  const std::vector<std::string> files = tracked_files();
  if (files.empty()) GTEST_SKIP() << "the sources are no git checkout";
  const std::string readme = read_file(fs::path(POLAR_SOURCE_DIR) / "README.md");
  EXPECT_THAT(compare_layout(listed_folders(readme), folders_of(files)), IsEmpty());
}

TEST(House, ArrowsHaveNoCycle) {
  for (const auto& [layer, reached] : closure(arrows())) EXPECT_EQ(reached.count(layer), 0u) << layer;
  const Arrows cycle = closure({{"a", {"b"}}, {"b", {"c"}}, {"c", {"a"}}});
  EXPECT_EQ(cycle.at("a").count("a"), 1u);
}

TEST(House, ArrowsForbidWhatTheDesignForbids) {
  const Arrows reach = closure(arrows());
  const std::vector<std::pair<std::string, std::string>> forbidden{
      {"model", "optim"}, {"optim", "model"},   {"checkpoint", "model"}, {"checkpoint", "optim"},
      {"ops", "backend"}, {"tools", "backend"}, {"data", "tensor"},      {"report", "config"},
      {"base", "tensor"}, {"train", "tools"},   {"config", "train"}};
  for (const auto& [from, to] : forbidden) EXPECT_EQ(reach.at(from).count(to), 0u) << from << " to " << to;
}

// A small right tree, into which each test plants one mistake.
class PlantedTree : public testing::Test {
 protected:
  void SetUp() override {
    put("src/base/file.h", "#include <string>\n");
    put("src/ops/ops.h", "#include \"base/file.h\"\n");
    put("src/backend/cpu/gemm.cpp",
        "#include <cblas.h>\n#include \"backend/cpu/gemm.h\"\n  #pragma omp parallel\n");
    put("src/backend/cpu/gemm.h", "#include \"ops/ops.h\"\n");
    put("src/model/model.cpp", "#include \"ops/ops.h\"\n// #include \"train/train.h\" stands in a comment\n");
    put("tools/command.h", "");
    put("tools/main.cpp", "#include \"command.h\"\n#include \"ops/ops.h\"\n");
    put("kernels/norm.cu", "#include <cuda_runtime.h>\n");
    put("src/CMakeLists.txt", "polar_layer(base spdlog::spdlog)\npolar_layer(ops polar_base)\n");
  }

  void put(const std::string& path, const std::string& content) const { test::put(root_ / path, content); }

  test::TemporaryDirectory directory_;
  const fs::path& root_ = directory_.path();
};

TEST_F(PlantedTree, IsRightAsItStands) {
  EXPECT_THAT(check_includes(root_), IsEmpty());
  EXPECT_THAT(check_backend_names(root_), IsEmpty());
  EXPECT_THAT(check_lengths(root_), IsEmpty());
  EXPECT_THAT(check_link_arrows(root_), IsEmpty());
}

TEST_F(PlantedTree, IncludeUpwardsIsFound) {
  put("src/base/wrong.cpp", "\n  #  include \"model/model.h\"\n");
  EXPECT_THAT(check_includes(root_), ElementsAre("src/base/wrong.cpp:2: base may not include model/model.h"));
}

TEST_F(PlantedTree, IncludeSidewaysIsFound) {
  put("src/model/wrong.h", "#include \"optim/config.h\"\n");
  EXPECT_THAT(check_includes(root_), ElementsAre(HasSubstr("src/model/wrong.h:1: model may not include")));
}

TEST_F(PlantedTree, IncludeOfTheCommandLineIsFound) {
  put("src/ops/wrong.h", "#include \"tools/command.h\"\n");
  EXPECT_THAT(check_includes(root_), ElementsAre(HasSubstr("ops may not include tools/command.h")));
}

TEST_F(PlantedTree, IncludesMustBeRelativeToSrc) {
  put("src/ops/wrong.h", "#include \"../base/file.h\"\n#include \"nowhere.h\"\n");
  EXPECT_THAT(check_includes(root_), ElementsAre(HasSubstr("../base/file.h"), HasSubstr("nowhere.h")));
}

TEST_F(PlantedTree, UnknownLayerIsFound) {
  put("src/misc/helpers.h", "");
  EXPECT_THAT(check_includes(root_), ElementsAre(HasSubstr("misc is no known layer")));
}

TEST_F(PlantedTree, BackendOutsideItsPlaceIsFound) {
  for (const char* line :
       {"#include <cblas.h>", "#include <omp.h>", "#include <cuda_runtime.h>", "#include <cublasLt.h>",
        "#include \"backend/cpu/gemm.h\"", "#pragma omp parallel for"}) {
    put("src/model/wrong.cpp", std::string(line) + "\n");
    EXPECT_THAT(check_backend_names(root_), ElementsAre(HasSubstr("src/model/wrong.cpp:1: "))) << line;
  }
  fs::remove(root_ / "src/model/wrong.cpp");
  put("tools/wrong.cpp", "#include \"backend/cpu/gemm.h\"\n");
  EXPECT_THAT(check_backend_names(root_), ElementsAre(HasSubstr("tools/wrong.cpp:1: ")));
  EXPECT_THAT(check_includes(root_), ElementsAre(HasSubstr("tools may not include backend")));
}

TEST_F(PlantedTree, LongFileIsFound) {
  std::string lines;
  for (int i = 0; i < 500; ++i) lines += "\n";
  put("src/base/long.cpp", lines);
  EXPECT_THAT(check_lengths(root_), IsEmpty());
  put("src/base/long.cpp", lines + "\n");
  EXPECT_THAT(check_lengths(root_), ElementsAre("src/base/long.cpp: 501 lines, at most 500"));
}

TEST_F(PlantedTree, LinkUpwardsIsFound) {
  put("src/CMakeLists.txt", "polar_layer(base spdlog::spdlog polar_train)\n");
  EXPECT_THAT(check_link_arrows(root_), ElementsAre("src/CMakeLists.txt: base may not link to train"));
}

TEST(Layout, ReadsTheFoldersOfTheBlock) {
  const std::string readme =
      "# X\n```\nother/ block\n```\n## Layout\nWords a/b.\n```text\nsrc/base      errors\n              "
      "and/or more\n"
      "configs/      experiments\nREADME.md     a file\n.ci/\n```\n```\nlater/ block\n```\n";
  EXPECT_THAT(listed_folders(readme), ElementsAre(".ci", "configs", "src/base"));
  EXPECT_THAT(listed_folders("# X\n## Layout of it\n```\nsrc/\n```\n"), IsEmpty());
}

TEST(Layout, FoldersOfFiles) {
  EXPECT_THAT(folders_of({"README.md", ".ci/run", "src/CMakeLists.txt", "src/backend/cpu/gemm.cpp",
                          "tools/main.cpp", "tests/base/a.cpp", "data/demo/text.txt"}),
              ElementsAre(".ci", "data", "src", "src/backend", "tests", "tests/base", "tools"));
}

TEST(Layout, MissingAndSuperfluousFoldersAreFound) {
  EXPECT_THAT(
      compare_layout({"src", "lab"}, {"src", "src/base"}),
      ElementsAre(HasSubstr("src/base/ is not in"), AllOf(HasSubstr("lab/"), HasSubstr("not in the tree"))));
}

}  // namespace
}  // namespace polar::house
