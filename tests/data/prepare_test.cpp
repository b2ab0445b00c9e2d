#include "data/prepare.h"

#include <gmock/gmock.h>
#include <unistd.h>
#include <zstd.h>

#include <map>
#include <nlohmann/json.hpp>

#include "data/shard.h"
#include "data/support.h"
#include "data/text_reader.h"
#include "data/tokenizer.h"
#include "process.h"

namespace polar::test {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

PrepareOptions bytes_options(const fs::path& input, const fs::path& output, double fraction = 0) {
  PrepareOptions options;
  options.inputs = {input};
  options.output = output;
  options.tokenizer = "bytes";
  options.text.validation_fraction = fraction;
  return options;
}

// The documents of a shard as text; they must end with eos.
std::vector<std::string> documents_of(const fs::path& path, const std::string& tokenizer_name = "bytes") {
  const auto tokenizer = load_tokenizer(tokenizer_name);
  const Shard shard(path);
  shard.verify();
  EXPECT_EQ(shard.info().tokenizer_hash, tokenizer->hash());
  std::vector<std::string> documents;
  const auto starts = shard.document_starts();
  for (size_t i = 0; i < starts.size(); ++i) {
    const uint64_t end = i + 1 < starts.size() ? starts[i + 1] : shard.info().tokens;
    std::vector<int32_t> ids(end - starts[i]);
    shard.read(starts[i], ids.size(), ids.data());
    EXPECT_EQ(ids.back(), tokenizer->eos_id());
    documents.push_back(tokenizer->decode(ids));
  }
  return documents;
}

std::map<std::string, std::string> files_of(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(folder))
    files[entry.path().filename()] = read_file(entry.path());
  return files;
}

void write_zstd(const fs::path& path, const std::string& text) {
  std::string compressed(ZSTD_compressBound(text.size()), '\0');
  compressed.resize(ZSTD_compress(compressed.data(), compressed.size(), text.data(), text.size(), 3));
  put(path, compressed);
}

std::string json_line(const std::string& text, const std::string& field = "text") {
  return nlohmann::json{{"id", 1}, {field, text}}.dump() + "\n";
}

TEST(Prepare, ATextFileComesBackFromItsShards) {
  const TemporaryDirectory folder;
  const std::string text = austen(300'000);
  put(folder / "novel.txt", text);
  for (const std::string& tokenizer : {std::string("bytes"), small_model()}) {
    PrepareOptions options = bytes_options(folder / "novel.txt", folder / "out", 0.1);
    options.tokenizer = tokenizer;
    options.overwrite = true;
    const PrepareResult result = prepare_data(options);
    const std::string train = documents_of(folder / "out/train-00000.bin", tokenizer).at(0);
    const std::string held_out = documents_of(folder / "out/val-00000.bin", tokenizer).at(0);
    EXPECT_EQ(train + held_out, text);
    EXPECT_TRUE(train.ends_with("\n\n"));  // cut between paragraphs
    EXPECT_NEAR(static_cast<double>(held_out.size()), 30'000, 2'000);
    EXPECT_EQ(result.train.text_bytes + result.validation.text_bytes, text.size());
    EXPECT_EQ(Shard(folder / "out/val-00000.bin").info().text_bytes, held_out.size());
    // Cutting the text for the threads has not changed the ids.
    const Shard shard(folder / "out/train-00000.bin");
    std::vector<int32_t> ids(shard.info().tokens - 1);
    shard.read(0, ids.size(), ids.data());
    EXPECT_EQ(ids, load_tokenizer(tokenizer)->encode(train));
  }
}

TEST(Prepare, TheNumberOfThreadsChangesNothing) {
  const TemporaryDirectory folder;
  put(folder / "in/novel.txt", austen(600'000));
  std::string lines;
  for (size_t i = 0; i < 300; ++i) lines += json_line(austen(5000).substr(i, 1 + i * 7));
  put(folder / "in/more.jsonl", lines);
  PrepareOptions options = bytes_options(folder / "in", folder / "one", 0.1);
  options.shard_tokens = 100'000;
  options.threads = 1;
  prepare_data(options);
  for (const unsigned threads : {2u, 5u}) {
    options.threads = threads;
    options.output = folder / fmt::format("with-{}", threads);
    prepare_data(options);
    EXPECT_EQ(files_of(folder / "one"), files_of(options.output));
  }
}

TEST(Prepare, SeparatorsMakeDocuments) {
  const TemporaryDirectory folder;
  put(folder / "in.txt", "\xEF\xBB\xBFone\n---\ntwo\nlines\n---\n---\nthree\n--- not\n---\r\nfour");
  PrepareOptions options = bytes_options(folder / "in.txt", folder / "out");
  options.text.document_separator = "---";
  prepare_data(options);
  EXPECT_THAT(documents_of(folder / "out/train-00000.bin"),
              ElementsAre("one\n", "two\nlines\n", "three\n--- not\n", "four"));
  EXPECT_FALSE(fs::exists(folder / "out/val-00000.bin"));
}

TEST(Prepare, WithSeparatorsWholeDocumentsAreHeldOut) {
  const TemporaryDirectory folder;
  std::string text;
  for (int i = 0; i < 100; ++i) text += fmt::format("document {:02}\n\nmore\n---\n", i);
  put(folder / "in.txt", text);
  PrepareOptions options = bytes_options(folder / "in.txt", folder / "out", 0.2);
  options.text.document_separator = "---";
  const PrepareResult result = prepare_data(options);
  EXPECT_EQ(result.train.documents + result.validation.documents, 100u);
  EXPECT_NEAR(static_cast<double>(result.validation.documents), 20, 1);
  EXPECT_EQ(documents_of(folder / "out/val-00000.bin").back(), "document 99\n\nmore\n");
}

TEST(Prepare, JsonLinesPlainAndCompressedAreTheSame) {
  const TemporaryDirectory folder;
  std::string lines;
  for (size_t i = 0; i < 500; ++i)
    lines += json_line(fmt::format("Dokument {} — \"日本\"\n\\ {}", i, austen(i)));
  lines += "\n  \r\n";                                   // blank lines are nothing
  lines += R"({"text": "escaped \u00e9\ud83d\ude42"})";  // no newline at the end
  put(folder / "a/x.jsonl", lines);
  write_zstd(folder / "b/x.jsonl.zst", lines);
  prepare_data(bytes_options(folder / "a", folder / "plain", 0.2));
  prepare_data(bytes_options(folder / "b", folder / "packed", 0.2));
  EXPECT_EQ(files_of(folder / "plain"), files_of(folder / "packed"));
  EXPECT_NEAR(static_cast<double>(documents_of(folder / "plain/val-00000.bin").size()), 100,
              36);  // 4 deviations
  std::vector<std::string> all = documents_of(folder / "plain/train-00000.bin");
  for (const std::string& held_out : documents_of(folder / "plain/val-00000.bin")) all.push_back(held_out);
  EXPECT_EQ(all.size(), 501u);
  EXPECT_THAT(all, testing::Contains("escaped é🙂"));
}

TEST(Prepare, CopiesOfADocumentFallOnTheSameSide) {
  const TemporaryDirectory folder;
  std::string lines;
  for (int copy = 0; copy < 3; ++copy)
    for (int i = 0; i < 100; ++i) lines += json_line(fmt::format("document {}", i));
  put(folder / "x.jsonl", lines);
  prepare_data(bytes_options(folder / "x.jsonl", folder / "out", 0.3));
  std::map<std::string, int> copies;
  for (const std::string& text : documents_of(folder / "out/val-00000.bin")) ++copies[text];
  for (const auto& [text, count] : copies) EXPECT_EQ(count, 3) << text;
}

TEST(Prepare, ShardsEndWithDocuments) {
  const TemporaryDirectory folder;
  std::string lines;
  for (int i = 0; i < 100; ++i) lines += json_line(std::string(99, 'x'));  // 100 tokens with eos
  put(folder / "x.jsonl", lines);
  PrepareOptions options = bytes_options(folder / "x.jsonl", folder / "out");
  options.shard_tokens = 2950;
  const PrepareResult result = prepare_data(options);
  EXPECT_EQ(result.train.shards, 4u);
  EXPECT_EQ(Shard(folder / "out/train-00000.bin").info().tokens, 3000u);
  EXPECT_EQ(Shard(folder / "out/train-00003.bin").info().tokens, 1000u);
}

TEST(Prepare, TheManifestSaysWhatIsThere) {
  const TemporaryDirectory folder;
  put(folder / "novel.txt", austen(50'000));
  prepare_data(bytes_options(folder / "novel.txt", folder / "out", 0.1));
  const auto manifest = nlohmann::json::parse(read_file(folder / "out/manifest.json"));
  EXPECT_EQ(manifest["tokenizer_hash"], load_tokenizer("bytes")->hash());
  EXPECT_EQ(manifest["vocab_size"], 257);
  EXPECT_EQ(
      manifest["train"]["text_bytes"].get<uint64_t>() + manifest["validation"]["text_bytes"].get<uint64_t>(),
      50'000u);
  ASSERT_EQ(manifest["shards"].size(), 2u);
  for (const auto& entry : manifest["shards"]) {
    const Shard shard(folder / "out" / entry["file"].get<std::string>());
    EXPECT_EQ(entry["tokens"], shard.info().tokens);
    EXPECT_EQ(entry["documents"], shard.info().documents);
  }
}

TEST(Prepare, FoldersAreReadSortedAndRecursively) {
  const TemporaryDirectory folder;
  for (const char* name : {"b.txt", "a/z.txt", "a/b/c.txt", "c.txt", "ignored.md"})
    put(folder / "in" / name, std::string("I am ") + name);
  prepare_data(bytes_options(folder / "in", folder / "out"));
  EXPECT_THAT(documents_of(folder / "out/train-00000.bin"),
              ElementsAre("I am a/b/c.txt", "I am a/z.txt", "I am b.txt", "I am c.txt"));
}

// Every single operation on the disk fails once: there is no output, or the earlier one, and a rerun works.
TEST(Prepare, AnInterruptionLeavesNoHalfOutput) {
  const TemporaryDirectory folder;
  put(folder / "novel.txt", austen(40'000));
  PrepareOptions options = bytes_options(folder / "novel.txt", folder / "expected", 0.1);
  prepare_data(options);
  const auto expected = files_of(folder / "expected");
  options.output = folder / "out";
  options.overwrite = true;
  for (const bool had_output : {false, true}) {
    int failures = 0;
    for (int operation = 0;; ++operation, ++failures) {
      fs::remove_all(folder / "out");
      if (had_output) fs::copy(folder / "expected", folder / "out");
      int seen = 0;
      set_file_fault([&](std::string_view what, const fs::path&) {
        if (seen++ == operation) fail("injected fault at {}", what);
      });
      bool failed = false;
      try {
        prepare_data(options);
      } catch (const Error& error) {
        failed = true;
        EXPECT_THAT(error.what(), HasSubstr("injected"));
      }
      set_file_fault({});
      if (!failed) break;
      EXPECT_EQ(fs::exists(folder / "out"), had_output);
      if (had_output) {
        EXPECT_EQ(files_of(folder / "out"), expected);
      }
      EXPECT_FALSE(fs::exists(folder / ".out.tmp"));
      prepare_data(options);
      EXPECT_EQ(files_of(folder / "out"), expected);
    }
    EXPECT_GE(failures, 10);
  }
}

// The process dies at every single operation of an --overwrite: the earlier output is there, or put back by
// the next start, which refuses to replace it without --overwrite.
TEST(Prepare, AKilledOverwriteNeverLosesTheOutput) {
  constexpr int kDied = 9;
  const TemporaryDirectory folder;
  put(folder / "novel.txt", austen(10'000));
  PrepareOptions options = bytes_options(folder / "novel.txt", folder / "expected");
  prepare_data(options);
  const auto expected = files_of(folder / "expected");
  options.output = folder / "out";
  int died = 0;
  for (;; ++died) {
    SCOPED_TRACE(died);
    fs::remove_all(folder / "out");
    fs::copy(folder / "expected", folder / "out");
    options.overwrite = true;
    const int status = in_child([&] {
      int seen = 0;
      set_file_fault([&](std::string_view, const fs::path&) {
        if (seen++ == died) ::_exit(kDied);
      });
      prepare_data(options);
      return 0;
    });
    if (status == 0) break;
    ASSERT_EQ(status, kDied);
    options.overwrite = false;
    EXPECT_THAT(error_of([&] { prepare_data(options); }).what(), HasSubstr("--overwrite"));
    EXPECT_EQ(files_of(folder / "out"), expected);
    for (const char* leftover : {".out.tmp", ".out.old"}) EXPECT_FALSE(fs::exists(folder / leftover));
  }
  EXPECT_GE(died, 10);
}

TEST(Prepare, WhatAKilledRunLeftIsReplaced) {
  const TemporaryDirectory folder;
  put(folder / "novel.txt", austen(10'000));
  put(folder / ".out.tmp/train-00007.bin", "half a shard");
  prepare_data(bytes_options(folder / "novel.txt", folder / "out/"));  // the slash does no harm
  EXPECT_EQ(files_of(folder / "out").size(), 2u);
  EXPECT_FALSE(fs::exists(folder / ".out.tmp"));
}

TEST(Prepare, NeighboursOfTheOutputAreNotTouched) {
  const TemporaryDirectory folder;
  put(folder / "novel.txt", austen(10'000));
  PrepareOptions options = bytes_options(folder / "novel.txt", folder / "out");
  options.overwrite = true;
  for (const char* name : {"out.old", "out.partial", "out.tmp"}) put(folder / name / "letter.txt", "mine");
  for (int i = 0; i < 2; ++i) prepare_data(options);
  for (const char* name : {"out.old", "out.partial", "out.tmp"})
    EXPECT_EQ(read_file(folder / name / "letter.txt"), "mine");
}

TEST(Prepare, ExistingOutputsAreNotTouched) {
  const TemporaryDirectory folder;
  put(folder / "novel.txt", austen(10'000));
  PrepareOptions options = bytes_options(folder / "novel.txt", folder / "out");
  put(folder / "out/letter.txt", "mine");
  options.overwrite = true;
  EXPECT_THAT(error_of([&] { prepare_data(options); }).what(), HasSubstr("other files"));
  EXPECT_EQ(read_file(folder / "out/letter.txt"), "mine");
  fs::remove_all(folder / "out");
  prepare_data(options);
  options.overwrite = false;
  EXPECT_THAT(error_of([&] { prepare_data(options); }).what(), HasSubstr("--overwrite"));
}

struct BadLine {
  const char* line;
  const char* message;
};

TEST(Prepare, BadJsonLinesAreNamedOrSkipped) {
  const TemporaryDirectory folder;
  const std::vector<BadLine> bad = {
      {"{\"text\": \"cut off", "not valid JSON"},
      {"{\"text\": \"lone surrogate \\ud800\"}", "not valid JSON"},
      {"{\"text\": \"bad \xFF byte\"}", "not valid JSON"},
      {"[\"text\"]", "expected a JSON object"},
      {"{\"body\": \"other field\"}", "no member \"text\""},
      {"{\"text\": 7}", "not a string"},
  };
  for (const BadLine& fault : bad) {
    put(folder / "x.jsonl", json_line("good") + "\n" + fault.line + "\n" + json_line("also good"));
    PrepareOptions options = bytes_options(folder / "x.jsonl", folder / "out");
    options.overwrite = true;
    const Error error = error_of([&] { prepare_data(options); });
    EXPECT_EQ(error.code(), ExitCode::bad_usage);
    EXPECT_THAT(error.what(), HasSubstr("x.jsonl:3: "));
    EXPECT_THAT(error.what(), HasSubstr(fault.message));
    options.text.skip_bad_lines = true;
    EXPECT_EQ(prepare_data(options).skipped_lines, 1u);
    EXPECT_THAT(documents_of(folder / "out/train-00000.bin"), ElementsAre("good", "also good"));
  }
}

TEST(Prepare, BadInputsAreNamed) {
  const TemporaryDirectory folder;
  const std::string lines = json_line(austen(200'000)) + json_line("x");
  put(folder / "latin1.txt", "caf\xE9 au lait");
  put(folder / "table.parquet", "PAR1");
  put(folder / "blank.txt", "");
  fs::create_directories(folder / "nothing");
  write_zstd(folder / "whole.jsonl.zst", lines);
  const std::string compressed = read_file(folder / "whole.jsonl.zst");
  put(folder / "cut.jsonl.zst", compressed.substr(0, compressed.size() / 2));
  put(folder / "noise.jsonl.zst", "this was never compressed");
  const auto message = [&](const char* name, double fraction = 0) {
    PrepareOptions options = bytes_options(folder / name, folder / "out", fraction);
    const Error error = error_of([&] { prepare_data(options); });
    EXPECT_FALSE(fs::exists(folder / "out"));
    return std::string(error.what());
  };
  EXPECT_THAT(message("latin1.txt"), HasSubstr("0xe9 at offset 3 is not valid UTF-8"));
  EXPECT_THAT(message("table.parquet"), HasSubstr("convert Parquet"));
  EXPECT_THAT(message("absent.txt"), HasSubstr("there is no input"));
  EXPECT_THAT(message("nothing"), HasSubstr("holds no .txt"));
  EXPECT_THAT(message("blank.txt"), HasSubstr("no text"));
  EXPECT_THAT(message("cut.jsonl.zst"), HasSubstr("cut off"));
  EXPECT_THAT(message("noise.jsonl.zst"), HasSubstr("damaged zstd data"));
  EXPECT_THAT(message("whole.jsonl.zst", 1.0), HasSubstr("less than 1"));
  EXPECT_THAT(message("whole.jsonl.zst", -0.1), HasSubstr("validation fraction is -0.1"));
}

}  // namespace
}  // namespace polar::test
