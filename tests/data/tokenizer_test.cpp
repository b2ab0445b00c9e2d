#include "data/tokenizer.h"

#include <gmock/gmock.h>
#include <sentencepiece_processor.h>

#include "data/sentencepiece.h"
#include "data/support.h"
#include "data/utf8.h"

namespace polar::test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

// Two-, three- and four-byte characters, combining marks, runs of spaces and newlines, control characters.
const std::vector<std::string> kTexts = {
    "",
    "It is a truth universally acknowledged.",
    "\n\n  two  spaces \n trailing space \n",
    " leading",
    "Crème brûlée, naïve façade; Ångström",
    "Zażółć gęślą jaźń — „cytat”",
    "Съешь же ещё этих мягких французских булок",
    "日本語のテキスト、漢字とかな。",
    "שלום עולם مرحبا بالعالم",
    "🙂👩‍👩‍👧‍👦🇨🇭 e\xCC\x81 tab\there\r\nCRLF",
    "1234567890 3.14159 x=42;",
};

class RoundTrip : public testing::TestWithParam<const char*> {
 protected:
  std::shared_ptr<const Tokenizer> tokenizer_ =
      load_tokenizer(GetParam() == std::string("bytes") ? "bytes" : small_model(GetParam()));
};

TEST_P(RoundTrip, TextComesBackExactly) {
  for (const std::string& text : kTexts) {
    const std::vector<int32_t> ids = tokenizer_->encode(text);
    for (const int32_t id : ids) {
      ASSERT_GE(id, 0);
      ASSERT_LT(id, tokenizer_->vocab_size());
    }
    EXPECT_EQ(tokenizer_->decode(ids), text);
  }
  const std::string novel = austen(60'000);
  EXPECT_EQ(tokenizer_->decode(tokenizer_->encode(novel)), novel);
}

TEST_P(RoundTrip, StreamingGivesWholeCharactersAndTheSameText) {
  for (const std::string& text : kTexts) {
    StreamDecoder decoder(*tokenizer_);
    std::string streamed;
    for (const int32_t id : tokenizer_->encode(text)) {
      const std::string piece = decoder.push(id);
      for (size_t at = 0; at < piece.size();) {
        const Utf8Prefix prefix = utf8_prefix(std::string_view(piece).substr(at));
        ASSERT_EQ(prefix.state, Utf8Prefix::complete);
        at += prefix.bytes;
      }
      streamed += piece;
    }
    EXPECT_EQ(streamed + decoder.finish(), text);
  }
}

TEST_P(RoundTrip, TextMayBeCutAfterNewlines) {
  ASSERT_TRUE(tokenizer_->splits_at_newlines());
  const std::string text = austen(20'000) + "\n\n  x\n y \n\n";
  std::vector<int32_t> pieces;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin) + 1;
    const std::vector<int32_t> ids = tokenizer_->encode(text.substr(begin, end - begin));
    pieces.insert(pieces.end(), ids.begin(), ids.end());
    begin = end;
  }
  EXPECT_EQ(pieces, tokenizer_->encode(text));
}

TEST_P(RoundTrip, IdsOutsideTheVocabularyAreNamed) {
  for (const int64_t id : {int64_t{-1}, tokenizer_->vocab_size()}) {
    const Error error = error_of([&] { tokenizer_->token_bytes(static_cast<int32_t>(id)); });
    EXPECT_EQ(error.code(), ExitCode::bad_usage);
    EXPECT_THAT(error.what(), HasSubstr(std::to_string(id)));
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, RoundTrip, testing::Values("bytes", "bpe", "unigram"),
                         [](const auto& instance) { return std::string(instance.param); });

TEST(Bytes, IdsAreTheBytesAndEosFollows) {
  const auto tokenizer = load_tokenizer("bytes");
  EXPECT_EQ(tokenizer->encode("A\xFF"), (std::vector<int32_t>{65, 255}));
  EXPECT_EQ(tokenizer->vocab_size(), 257);
  EXPECT_EQ(tokenizer->eos_id(), 256);
  EXPECT_EQ(tokenizer->bos_id(), -1);
  EXPECT_EQ(tokenizer->token_bytes(256), "");
  EXPECT_EQ(tokenizer->hash().size(), 32u);
}

TEST(SentencePiece, AgreesWithTheLibrary) {
  const std::string path = small_model();
  sentencepiece::SentencePieceProcessor library;
  ASSERT_TRUE(library.Load(path).ok());
  const auto tokenizer = load_tokenizer(path);
  EXPECT_EQ(tokenizer->vocab_size(), library.GetPieceSize());
  EXPECT_EQ(tokenizer->bos_id(), library.bos_id());
  EXPECT_EQ(tokenizer->eos_id(), library.eos_id());
  for (const std::string& text : kTexts) {
    EXPECT_EQ(tokenizer->encode(text), library.EncodeAsIds(text));
    EXPECT_EQ(tokenizer->decode(library.EncodeAsIds(text)), library.DecodeIds(library.EncodeAsIds(text)));
  }
  EXPECT_EQ(tokenizer->hash(), checksum_file(path));
}

TEST(SentencePiece, TrainingTwiceGivesTheSameFile) {
  const TemporaryDirectory folder;
  put(folder / "text.txt", austen(50'000));
  for (const char* type : {"bpe", "unigram"}) {
    SentencePieceTraining training{.inputs = {folder / "text.txt"},
                                   .text = {},
                                   .output = folder / "a.model",
                                   .vocab_size = 400,
                                   .type = type};
    train_sentencepiece(training);
    training.output = folder / "b.model";
    train_sentencepiece(training);
    EXPECT_EQ(checksum_file(folder / "a.model"), checksum_file(folder / "b.model"));
  }
}

TEST(SentencePiece, TrainingDoesNotLookAtWhatIsHeldOut) {
  const TemporaryDirectory folder;
  const std::string text = austen(50'000);
  SentencePieceTraining training{
      .inputs = {folder / "text.txt"}, .text = {}, .output = folder / "a.model", .vocab_size = 400};
  put(folder / "text.txt", text);
  train_sentencepiece(training);
  // Other words in the tail, of the same length so that the border stays.
  std::string changed = text;
  for (size_t i = changed.size() - 2000; i < changed.size(); ++i)
    if (changed[i] >= 'a' && changed[i] <= 'z') changed[i] = 'q';
  put(folder / "text.txt", changed);
  training.output = folder / "b.model";
  train_sentencepiece(training);
  EXPECT_EQ(checksum_file(folder / "a.model"), checksum_file(folder / "b.model"));
}

TEST(SentencePiece, BadTrainingIsRefused) {
  const TemporaryDirectory folder;
  put(folder / "text.txt", austen(20'000));
  put(folder / "empty.txt", "\n\n");
  const auto message = [&](auto change) {
    SentencePieceTraining training{
        .inputs = {folder / "text.txt"}, .text = {}, .output = folder / "a.model", .vocab_size = 400};
    change(training);
    const Error error = error_of([&] { train_sentencepiece(training); });
    EXPECT_EQ(error.code(), ExitCode::bad_usage);
    EXPECT_FALSE(fs::exists(folder / "a.model"));
    return std::string(error.what());
  };
  using T = SentencePieceTraining;
  EXPECT_THAT(message([](T& t) { t.type = "wordpiece"; }), HasSubstr("bpe or unigram"));
  EXPECT_THAT(message([](T& t) { t.vocab_size = 100; }), HasSubstr("more than 260"));
  EXPECT_THAT(message([](T& t) { t.vocab_size = 270; }), HasSubstr("Increase vocab_size"));
  EXPECT_THAT(message([](T& t) { t.vocab_size = 50'000; }), HasSubstr("too high"));
  EXPECT_THAT(message([](T& t) { t.character_coverage = 0.5; }), HasSubstr("coverage"));
  EXPECT_THAT(message([&](T& t) { t.inputs = {folder / "empty.txt"}; }), HasSubstr("no text"));
  EXPECT_THAT(message([&](T& t) { t.inputs = {folder / "absent.txt"}; }), HasSubstr("absent.txt"));
}

TEST(LoadTokenizer, BadFilesAreNamed) {
  const TemporaryDirectory folder;
  put(folder / "noise.model", "this is not a protocol buffer");
  put(folder / "empty.model", "");
  put(folder / "cut.model", read_file(small_model()).substr(0, 3000));
  for (const char* name : {"noise.model", "empty.model", "cut.model", "absent.model"}) {
    const Error error = error_of([&] { load_tokenizer((folder / name).string()); });
    EXPECT_EQ(error.code(), ExitCode::bad_usage);
    EXPECT_THAT(error.what(), HasSubstr(name));
  }
  EXPECT_THAT(error_of([] { load_tokenizer(""); }).what(), HasSubstr("bytes"));
}

TEST(StreamDecoder, BrokenBytesBecomeReplacements) {
  const auto tokenizer = load_tokenizer("bytes");
  const auto stream = [&](std::string_view bytes) {
    StreamDecoder decoder(*tokenizer);
    std::string text;
    for (const char byte : bytes) text += decoder.push(static_cast<unsigned char>(byte));
    return text + decoder.finish();
  };
  EXPECT_EQ(stream("a\xFFz"), "a\uFFFDz");                  // never a lead byte
  EXPECT_EQ(stream("\xE2\x82"), "\uFFFD");                  // cut off at the end: one character was begun
  EXPECT_EQ(stream("\xE2\x82x"), "\uFFFDx");                // cut off by another
  EXPECT_EQ(stream("\xC0\xAF"), "\uFFFD\uFFFD");            // overlong
  EXPECT_EQ(stream("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD");  // surrogate
  EXPECT_EQ(stream("\xF4\x90\x80\x80"), "\uFFFD\uFFFD\uFFFD\uFFFD");  // above U+10FFFF
}

}  // namespace
}  // namespace polar::test
