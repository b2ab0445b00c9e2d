// `polartrain tokenizer` and `polartrain data` as a user calls them: output, messages, exit codes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "base/file.h"
#include "process.h"
#include "temporary.h"

namespace polar::test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class DataCommand : public testing::Test {
 protected:
  // Runs `polartrain ARGUMENTS` in the test's folder.
  Finished run(const std::string& arguments) const {
    return run_process(
        {"/bin/sh", "-c", "cd '" + folder_.path().string() + "' && '" + polartrain_ + "' " + arguments});
  }
  void expect(const std::string& arguments, int code, const char* text) const {
    const Finished outcome = run(arguments);
    EXPECT_EQ(outcome.code, code) << arguments << "\n" << outcome.output;
    EXPECT_THAT(outcome.output, HasSubstr(text)) << arguments;
  }

  const std::string polartrain_ = command_under_test(POLAR_BINARY);
  TemporaryDirectory folder_;
};

TEST_F(DataCommand, TheWholeWayFromTextToShards) {
  const std::string corpus = POLAR_SOURCE_DIR "/data/austen";
  expect("tokenizer train " + corpus + " --output small.model --vocab-size 600", 0, "600 pieces");
  expect("data prepare " + corpus + " --tokenizer small.model --output shards", 0,
         "2 documents and 1 shards");
  expect("data verify shards/train-00000.bin shards/val-00000.bin", 0, "val-00000.bin: good");
  expect("data inspect shards/train-00000.bin --tokenizer small.model --tokens 100", 0,
         "No one who had ever seen");
  expect("data prepare " + corpus + " --tokenizer small.model --output shards", 2, "--overwrite");
  expect("data prepare " + corpus + " --tokenizer bytes --output shards --overwrite", 0, "validation");
  expect("data inspect shards/train-00000.bin --tokenizer small.model", 2, "another tokenizer");
  const auto manifest = nlohmann::json::parse(read_file(folder_ / "shards/manifest.json"));
  EXPECT_EQ(manifest["tokenizer"], "bytes");
}

TEST_F(DataCommand, EncodeAndDecodeAreInverse) {
  expect("tokenizer encode bytes 'né'", 0, "110 195 169\n");
  expect("tokenizer decode bytes '110 195 169'", 0, "né");
  expect("tokenizer encode bytes 'from the pipe' | '" + polartrain_ + "' tokenizer decode bytes", 0,
         "from the pipe");
}

TEST_F(DataCommand, VerifyNamesEveryDamagedShard) {
  put(folder_ / "text.txt", "some text\n\nand more of it, held out\n");
  ASSERT_EQ(run("data prepare text.txt --tokenizer bytes --output shards --validation-fraction 0.8").code, 0);
  std::fstream shard(folder_ / "shards/train-00000.bin", std::ios::in | std::ios::out | std::ios::binary);
  shard.seekp(130).put('\x7F');
  shard.close();
  put(folder_ / "noise.bin", "not a shard at all");
  const Finished outcome = run("data verify shards/train-00000.bin noise.bin shards/val-00000.bin");
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.output, HasSubstr("shards/train-00000.bin is not a usable token shard: its checksum"));
  EXPECT_THAT(outcome.output, HasSubstr("noise.bin is not a usable token shard"));
  EXPECT_THAT(outcome.output, HasSubstr("shards/val-00000.bin: good"));
  expect("data verify shards/val-00000.bin absent.bin", 2, "does not exist: absent.bin");
}

TEST_F(DataCommand, BadUsageIsNamed) {
  put(folder_ / "text.txt", "some text\n\nand more\n");
  put(folder_ / "bad.jsonl", "{\"text\": \"good\"}\n{\"text\": \n");
  expect("data", 2, "subcommand");
  expect("data prepare", 2, "INPUT");
  expect("data prepare text.txt --tokenizer bytes", 2, "--output");
  expect("data prepare text.txt --tokenizer bytes --output o --shards 3", 2, "--shards");
  expect("data prepare text.txt --tokenizer bytes --output o --threads many", 2, "--threads");
  expect("data prepare text.txt --tokenizer absent.model --output o", 2, "no tokenizer absent.model");
  expect("data prepare text.txt --tokenizer text.txt --output o", 2, "not a SentencePiece model");
  expect("data prepare text.txt --tokenizer bytes --output o --validation-fraction 1", 2, "less than 1");
  expect("data prepare text.txt --tokenizer bytes --output text.txt", 2, "not a folder");
  expect("data prepare bad.jsonl --tokenizer bytes --output o", 2, "bad.jsonl:2: not valid JSON");
  expect("tokenizer train text.txt --output t.model --vocab-size 100", 2, "more than 260");
  expect("tokenizer decode bytes '1 x'", 2, "\"x\" is not a token id");
  expect("tokenizer decode bytes '257'", 2, "the token id 257 is outside");
  EXPECT_FALSE(fs::exists(folder_ / "o"));
}

TEST_F(DataCommand, EveryHelpHasAnExample) {
  for (const char* command : {"tokenizer", "tokenizer train", "tokenizer encode", "tokenizer decode", "data",
                              "data prepare", "data inspect", "data verify"})
    expect(std::string(command) + " --help", 0, "Example: polartrain ");
}

}  // namespace
}  // namespace polar::test
