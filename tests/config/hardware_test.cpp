// Descriptions of hardware: the files of configs/hardware load, mistakes are answered.
#include "config/hardware.h"

#include <set>

#include "base/file.h"
#include "config/config_testing.h"
#include "config/tree.h"

namespace polar::test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const fs::path kHardware = fs::path(POLAR_SOURCE_DIR) / "configs/hardware";

class HardwareFile : public ConfigTest {
 protected:
  // A valid description with one piece of its text replaced.
  std::string refusal(const std::string& piece, const std::string& replacement) const {
    std::string text = read_file(kHardware / "8xh100.yaml");
    const size_t at = text.find(piece);
    EXPECT_NE(at, std::string::npos) << piece;
    if (at != std::string::npos) text.replace(at, piece.size(), replacement);
    const fs::path file = write("h.yaml", text);
    const Error error = test::error_of([&] { load_hardware(file); });
    EXPECT_EQ(error.code(), ExitCode::bad_usage) << error.what();
    return error.what();
  }
};

TEST_F(HardwareFile, AllOfThemLoad) {
  int files = 0;
  for (const fs::directory_entry& entry : fs::directory_iterator(kHardware)) {
    const Hardware hardware = load_hardware(entry.path());
    EXPECT_FALSE(hardware.name.empty()) << entry.path();
    ++files;
  }
  EXPECT_GE(files, 4);
}

TEST_F(HardwareFile, FiguresAreTakenAsTheyStand) {
  const Hardware h = load_hardware(kHardware / "8xh100.yaml", {"node.link.share=0.5"});
  EXPECT_EQ(h.device.backend, "cuda");
  EXPECT_EQ(h.device.tflops_bf16, 989.4);
  EXPECT_EQ(h.device.memory_gb, 80.0);
  EXPECT_EQ(h.node.devices, 8);
  EXPECT_DOUBLE_EQ(h.node.link.bytes_per_s(), 225e9);
  ASSERT_TRUE(h.network);
  EXPECT_EQ(h.network->cards, 8);
  EXPECT_EQ(load_hardware(kHardware / "8xh100-one-card.yaml").network->cards, 1);
}

// 8xh100.yaml explains the keys: it has all of them.
TEST_F(HardwareFile, TheExplainedFileHasEveryKey) {
  const ConfigNode root = read_config_tree(kHardware / "8xh100.yaml");
  for (const std::string& path : hardware_key_paths()) {
    const ConfigNode* node = &root;
    for (const std::string& key : split(path, '.')) {
      node = node->find(key);
      ASSERT_NE(node, nullptr) << path;
    }
  }
}

TEST_F(HardwareFile, AMachineOfOneNodeNeedsNoNetwork) {
  std::string text = read_file(kHardware / "8xh100.yaml");
  text.resize(text.find("network:"));
  EXPECT_FALSE(load_hardware(write("h.yaml", text)).network);
}

TEST_F(HardwareFile, MistakesAreAnswered) {
  EXPECT_THAT(refusal("gemm_share:", "gem_share:"),
              AllOf(HasSubstr("h.yaml:"), HasSubstr("'gem_share'"), HasSubstr("'device'"),
                    HasSubstr("did you mean 'gemm_share'?")));
  EXPECT_THAT(refusal("  devices: 8", "  devices: 8\n  cards: 8"),
              AllOf(HasSubstr("'cards'"), HasSubstr("'node'"), HasSubstr("network.cards")));
  EXPECT_THAT(refusal("name:", "nom:"), HasSubstr("a hardware description"));
  EXPECT_THAT(refusal("devices: 8", "devices: 8.5"),
              AllOf(HasSubstr("node.devices"), HasSubstr("'8.5'"), HasSubstr("an integer")));
  EXPECT_THAT(refusal("devices: 8", "devices: 0"), HasSubstr("from 1"));
  EXPECT_THAT(refusal("gemm_share: 0.70", "gemm_share: 1.5"), HasSubstr("device.gemm_share"));
  EXPECT_THAT(refusal("gemm_share: 0.70", "gemm_share: 0"), HasSubstr("above 0"));
  EXPECT_THAT(refusal("memory_gb_per_s: 3350.0", "memory_gb_per_s: fast"),
              AllOf(HasSubstr("'fast'"), HasSubstr("a number")));
  EXPECT_THAT(refusal("backend: cuda", "backend: cud"),
              AllOf(HasSubstr("cuda | cpu"), HasSubstr("did you mean 'cuda'?")));
  EXPECT_THAT(refusal("  latency_us: 3.4", "  latency_us: -1"), HasSubstr("node.link.latency_us"));
  EXPECT_THAT(refusal("  tflops_fp32: 66.9", "  # left out"),
              AllOf(HasSubstr("'device.tflops_fp32'"), HasSubstr("missing"), HasSubstr("fp32")));
  EXPECT_THAT(refusal("reserved_gb: 1.1", "reserved_gb: 80"),
              AllOf(HasSubstr("h.yaml:"), HasSubstr("device.reserved_gb"), HasSubstr("less than")));
}

TEST_F(HardwareFile, OtherFilesAreRefused) {
  const auto message = [&](const fs::path& file) {
    const Error error = test::error_of([&] { load_hardware(file); });
    EXPECT_EQ(error.code(), ExitCode::bad_usage) << error.what();
    return std::string(error.what());
  };
  EXPECT_THAT(message(write("empty.yaml", "")),
              AllOf(HasSubstr("empty"), HasSubstr("hardware description"), HasSubstr("configs/hardware")));
  EXPECT_THAT(message(write("list.yaml", "[1, 2]")), HasSubstr("hardware description"));
  EXPECT_THAT(message(write("experiment.yaml", kValid)), HasSubstr("found the unknown key 'run'"));
  EXPECT_THAT(message(directory_.path() / "nothing.yaml"), HasSubstr("nothing.yaml"));
}

}  // namespace
}  // namespace polar::test
