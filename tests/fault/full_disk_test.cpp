// A disk that is full, or a quota that is reached, in the middle of a save: a clear error, the checkpoint
// before it stands, and the space is given back.
#include <gmock/gmock.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>

#include "base/error.h"
#include "checkpoint/sample.h"
#include "checkpoint/store.h"
#include "process.h"
#include "temporary.h"

namespace polar::test {
namespace {

namespace fs = std::filesystem;

constexpr int kSkipped = 77;

// 0 if saving fails with `reason` in the message, nothing is left behind and step 1 still verifies.
int save_fails_cleanly(const fs::path& run, const CheckpointContent& content, const char* reason) {
  try {
    save_checkpoint(run, 2, content);
    return 1;
  } catch (const Error& e) {
    if (std::string(e.what()).find(reason) == std::string::npos) {
      std::fprintf(stderr, "unexpected message: %s\n", e.what());
      return 2;
    }
  }
  if (!verify(checkpoint_dir(run, 1)).empty() || latest_valid(run)->step != 1) return 3;
  return recover(run).empty() ? 0 : 4;
}

// A checkpoint with `count` weights.
struct LargeContent {
  explicit LargeContent(int64_t count) : weights(static_cast<size_t>(count), 0.5f) {
    content.model = {{"weight", {weights.data(), DType::f32, {count}}}};
    content.state = {{"step", 2}};
  }
  std::vector<float> weights;
  CheckpointContent content;
};

TEST(FullDisk, FileSizeLimitAtManySizes) {
  TemporaryDirectory run;
  const Sample before(1);
  save_checkpoint(run.path(), 1, before.content());
  const LargeContent large(700'000);  // 2.8 MB: more than the writer's buffer
  for (const rlim_t limit : {0u, 1u, 63u, 4096u, 1'000'000u, 1'048'576u, 1'048'577u, 2'799'999u}) {
    const int status = in_child([&] {
      std::signal(SIGXFSZ, SIG_IGN);  // the write returns EFBIG
      const rlimit quota{limit, limit};
      if (::setrlimit(RLIMIT_FSIZE, &quota) != 0) return kSkipped;
      return save_fails_cleanly(run.path(), large.content, "File too large");
    });
    EXPECT_EQ(status, 0) << "limit " << limit;
  }
  before.expect_in(checkpoint_dir(run.path(), 1));
  EXPECT_EQ(list_steps(run.path()), (std::vector<int64_t>{1}));
}

TEST(FullDisk, SmallFileSystem) {
  TemporaryDirectory dir;
  const int status = in_child([&] {
    if (::geteuid() != 0 && ::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return kSkipped;
    if (::geteuid() == 0 && ::unshare(CLONE_NEWNS) != 0) return kSkipped;
    ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
    if (::mount("tmpfs", dir.path().c_str(), "tmpfs", 0, "size=1m") != 0) return kSkipped;
    const Sample before(1);
    save_checkpoint(dir.path(), 1, before.content());
    const LargeContent large(400'000), fits(50'000);
    if (const int bad = save_fails_cleanly(dir.path(), large.content, "No space left on device")) return bad;
    save_checkpoint(dir.path(), 2, fits.content);  // the space has been given back
    return latest_valid(dir.path())->step == 2 ? 0 : 5;
  });
  if (status == kSkipped) GTEST_SKIP() << "this process may not mount a tmpfs";
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace polar::test
