// The store: saving, verifying, falling back, cleaning up, background saving.
#include "checkpoint/store.h"

#include <gmock/gmock.h>

#include "checkpoint/sample.h"
#include "errors.h"
#include "temporary.h"

namespace polar::test {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const char* const kFiles[] = {"model.safetensors", "optimizer.safetensors", "state.json",
                              "config.json",       "tokenizer.model",       "manifest.json"};

void flip_bit(const fs::path& file, size_t bit) {
  std::string content = read_file(file);
  content[bit / 8] = static_cast<char>(content[bit / 8] ^ (1 << bit % 8));
  put(file, content);
}

std::vector<std::string> hidden_entries(const fs::path& run) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(checkpoints_dir(run)))
    if (entry.path().filename().string().starts_with('.')) names.push_back(entry.path().filename().string());
  return names;
}

TEST(Store, SavedCheckpointsComeBackBitByBit) {
  TemporaryDirectory run;
  EXPECT_EQ(latest_valid(run.path()), std::nullopt);
  const Sample first(100), second(200);
  EXPECT_EQ(save_checkpoint(run.path(), 100, first.content()), run / "checkpoints/step-00000100");
  save_checkpoint(run.path(), 200, second.content());
  save_checkpoint(run.path(), 1234567890123, first.content());
  EXPECT_THAT(list_steps(run.path()), ElementsAre(100, 200, 1234567890123));
  first.expect_in(checkpoint_dir(run.path(), 100));
  second.expect_in(checkpoint_dir(run.path(), 200));
  EXPECT_EQ(latest_valid(run.path())->step, 1234567890123);
  EXPECT_THAT(hidden_entries(run.path()), IsEmpty());
}

TEST(Store, OptionalPartsMayBeAbsent) {
  TemporaryDirectory dir;
  CheckpointContent content;
  write_checkpoint(dir / "model/", content);  // a trailing slash does no harm
  EXPECT_THAT(verify(dir / "model"), IsEmpty());
  EXPECT_FALSE(fs::exists(dir / "model/optimizer.safetensors"));
  EXPECT_FALSE(fs::exists(dir / "model/state.json"));
}

TEST(Store, SmallFilesNeedPlainNames) {
  TemporaryDirectory dir;
  for (const char* name : {"", ".", "..", ".hidden", "a/b", "../x", "model.safetensors", "manifest.json"}) {
    CheckpointContent content;
    content.files = {{name, "x"}};
    EXPECT_THAT(message_of([&] { write_checkpoint(dir / "c", content); }), HasSubstr("cannot hold")) << name;
  }
  CheckpointContent twice;
  twice.files = {{"a", "x"}, {"a", "y"}};
  EXPECT_THAT(message_of([&] { write_checkpoint(dir / "c", twice); }), HasSubstr("a is given twice"));
  EXPECT_TRUE(fs::is_empty(dir.path()));
}

TEST(Store, SavingAStepAgainReplacesIt) {
  TemporaryDirectory run;
  const Sample old(100), other(101);
  save_checkpoint(run.path(), 100, old.content());
  save_checkpoint(run.path(), 100, other.content());
  other.expect_in(checkpoint_dir(run.path(), 100));
  put(checkpoint_dir(run.path(), 100) / "model.safetensors", "broken");
  put(checkpoint_dir(run.path(), 100) / "stray", "file");
  save_checkpoint(run.path(), 100, old.content());
  old.expect_in(checkpoint_dir(run.path(), 100));
  EXPECT_FALSE(fs::exists(checkpoint_dir(run.path(), 100) / "stray"));
  EXPECT_THAT(hidden_entries(run.path()), IsEmpty());
}

class EveryFile : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Of, EveryFile, ::testing::ValuesIn(kFiles), [](const auto& each) {
  std::string name = each.param;
  std::replace(name.begin(), name.end(), '.', '_');
  return name;
});

// Saves steps 1 and 2, lets `damage` work on a file of step 2, and expects that it is named, that step 1 is
// used, and that nothing was deleted.
template <class Damage>
void expect_fallback(const char* file, Damage damage) {
  TemporaryDirectory run;
  const Sample first(1), second(2);
  save_checkpoint(run.path(), 1, first.content());
  save_checkpoint(run.path(), 2, second.content());
  const fs::path broken = checkpoint_dir(run.path(), 2);
  damage(broken / file);
  const std::vector<Problem> problems = verify(broken);
  ASSERT_EQ(problems.size(), 1u);
  EXPECT_EQ(problems[0].file, file);
  ::testing::internal::CaptureStdout();
  ::testing::internal::CaptureStderr();
  const auto found = latest_valid(run.path());
  const std::string log = ::testing::internal::GetCapturedStdout() + ::testing::internal::GetCapturedStderr();
  EXPECT_THAT(log, AllOf(HasSubstr("step-00000002 is broken"), HasSubstr(file)));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->step, 1);
  first.expect_in(found->dir);
  EXPECT_TRUE(fs::exists(broken));
}

TEST_P(EveryFile, FlippedBitIsFound) {
  const Sample sample(2);
  for (double place : {0.0, 0.3, 0.6, 0.999})
    expect_fallback(GetParam(), [&](const fs::path& file) {
      flip_bit(file, static_cast<size_t>(place * 8.0 * static_cast<double>(fs::file_size(file))));
    });
}

TEST_P(EveryFile, TruncationIsFound) {
  for (int keep : {0, 1, 2})  // nothing; one byte; all but one byte
    expect_fallback(GetParam(), [&](const fs::path& file) {
      fs::resize_file(file, keep == 2 ? fs::file_size(file) - 1 : static_cast<uintmax_t>(keep));
    });
}

TEST_P(EveryFile, AbsenceIsFound) {
  expect_fallback(GetParam(), [](const fs::path& file) { fs::remove(file); });
}

TEST_P(EveryFile, DirectoryInItsPlaceIsFound) {
  expect_fallback(GetParam(), [](const fs::path& file) {
    fs::remove(file);
    fs::create_directory(file);
  });
}

TEST(Manifest, EveryFlippedBitOfItIsFound) {
  TemporaryDirectory run;
  const Sample sample(1);
  const fs::path dir = save_checkpoint(run.path(), 1, sample.content());
  const std::string good = read_file(dir / "manifest.json");
  for (size_t bit = 0; bit < 8 * good.size(); ++bit) {
    flip_bit(dir / "manifest.json", bit);
    EXPECT_FALSE(verify(dir).empty()) << "bit " << bit;
    put(dir / "manifest.json", good);
  }
  EXPECT_THAT(verify(dir), IsEmpty());
}

TEST(Manifest, HostileOnesAreRefused) {
  TemporaryDirectory run;
  const Sample sample(1);
  const fs::path dir = save_checkpoint(run.path(), 1, sample.content());
  for (const char* text : {"", "[]", "3", "{}", "null", R"({"format": "polartrain-checkpoint"})",
                           R"({"format": "polartrain-checkpoint", "version": 1, "files": []})",
                           R"({"format": "polartrain-checkpoint", "version": 2, "files": {}})",
                           R"({"format": "polartrain-checkpoint", "version": 1, "files": {}})"}) {
    put(dir / "manifest.json", text);
    EXPECT_EQ(verify(dir).size(), 1u) << text;
  }
}

TEST(LatestValid, NoneIntactIsAnError) {
  TemporaryDirectory run;
  const Sample sample(1);
  for (int64_t step : {1, 2}) {
    save_checkpoint(run.path(), step, sample.content());
    fs::remove(checkpoint_dir(run.path(), step) / "state.json");
  }
  EXPECT_THAT(message_of([&] { latest_valid(run.path()); }),
              HasSubstr("none of the 2 checkpoints is intact"));
}

TEST(LatestValid, IgnoresWhatIsNoCheckpoint) {
  TemporaryDirectory run;
  fs::create_directories(run / "checkpoints/step-abc");
  fs::create_directories(run / "checkpoints/step-7");  // not how we write 7
  fs::create_directories(run / "checkpoints/step--0000007");
  fs::create_directories(run / "checkpoints/.step-00000009.tmp");
  put(run / "checkpoints/step-00000005", "a file");
  EXPECT_THAT(list_steps(run.path()), IsEmpty());
  EXPECT_EQ(latest_valid(run.path()), std::nullopt);
}

TEST(ResolveCheckpoint, TakesRunsAndDirectories) {
  TemporaryDirectory run;
  const Sample sample(1);
  EXPECT_THAT(message_of([&] { resolve_checkpoint(run / "nothing"); }), HasSubstr("no such directory"));
  EXPECT_THAT(message_of([&] { resolve_checkpoint(run.path()); }), HasSubstr("neither a run"));
  fs::create_directories(run / "checkpoints");
  EXPECT_THAT(message_of([&] { resolve_checkpoint(run.path()); }), HasSubstr("no checkpoint yet"));
  const fs::path dir = save_checkpoint(run.path(), 1, sample.content());
  EXPECT_EQ(resolve_checkpoint(run.path()), dir);
  EXPECT_EQ(resolve_checkpoint(dir), dir);
  flip_bit(dir / "config.json", 9);
  EXPECT_THAT(message_of([&] { resolve_checkpoint(dir); }),
              AllOf(HasSubstr("is broken"), HasSubstr("config.json: checksum")));
  fs::remove(dir / "manifest.json");
  EXPECT_EQ(resolve_checkpoint(dir), dir);  // as a Hugging Face directory it has no manifest
}

TEST(Recover, ClearsWhatCrashesLeave) {
  TemporaryDirectory run;
  const Sample kept(1), replaced(3);
  EXPECT_THAT(recover(run.path()), IsEmpty());
  save_checkpoint(run.path(), 1, kept.content());
  save_checkpoint(run.path(), 3, replaced.content());
  const fs::path dir = checkpoints_dir(run.path());
  fs::create_directories(dir / ".step-00000002.tmp");
  put(dir / ".step-00000002.tmp/model.safetensors", "half");
  fs::create_directories(dir / ".step-00000001.old");             // its replacement is in place
  fs::create_directories(dir / ".step-00000000.deleted");         // was being deleted
  fs::rename(dir / "step-00000003", dir / ".step-00000003.old");  // its replacement is not in place
  fs::create_directories(dir / ".step-00000003.tmp");
  fs::create_directories(dir / ".cache");  // not ours
  EXPECT_EQ(latest_valid(run.path())->step, 1);
  EXPECT_EQ(recover(run.path()).size(), 5u);
  EXPECT_THAT(hidden_entries(run.path()), ElementsAre(".cache"));
  EXPECT_THAT(list_steps(run.path()), ElementsAre(1, 3));
  kept.expect_in(checkpoint_dir(run.path(), 1));
  replaced.expect_in(checkpoint_dir(run.path(), 3));
}

TEST(CheckpointWriter, SavesInTheBackgroundAndRetains) {
  TemporaryDirectory run;
  const Sample sample(7);
  CheckpointWriter writer;
  Retention retention;
  retention.keep_last = 2;
  for (int64_t step : {1, 2, 3, 4}) writer.start({run.path(), step, sample.content(), retention});
  writer.wait();
  EXPECT_FALSE(writer.busy());
  EXPECT_THAT(list_steps(run.path()), ElementsAre(3, 4));
  sample.expect_in(checkpoint_dir(run.path(), 4));
  writer.wait();  // nothing to wait for
}

TEST(CheckpointWriter, ReportsAFailureOnceAndGoesOn) {
  TemporaryDirectory run;
  const Sample sample(7);
  CheckpointWriter writer;
  put(run / "file", "in the way");
  writer.start({run / "file", 5, sample.content(), {}});
  EXPECT_THAT(message_of([&] { writer.wait(); }),
              AllOf(HasSubstr("saving checkpoint step 5"), HasSubstr("file")));
  writer.wait();
  writer.start({run.path(), 6, sample.content(), {}});
  writer.wait();
  sample.expect_in(checkpoint_dir(run.path(), 6));
}

TEST(CheckpointWriter, AFailureNobodyAskedForDoesNotEndTheProcess) {
  TemporaryDirectory run;
  const Sample sample(7);
  put(run / "file", "in the way");
  CheckpointWriter writer;
  writer.start({run / "file", 5, sample.content(), {}});
}

}  // namespace
}  // namespace polar::test
