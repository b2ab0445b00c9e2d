// The contents of a SentencePiece .model file (a protocol buffer) that the library's interface does not show.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace polar {

struct SentencePieceModel {
  // Field and enum numbers: sentencepiece_model.proto of SentencePiece 0.1.97.
  enum class Kind { unigram = 1, bpe = 2, word = 3, character = 4 };
  enum class PieceType { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };
  struct Piece {
    std::string text;
    float score = 0.0f;
    PieceType type = PieceType::normal;
  };

  std::vector<Piece> pieces;
  Kind kind = Kind::unigram;
  bool byte_fallback = false;
  int64_t unk_id = 0, bos_id = 1, eos_id = 2, pad_id = -1;
  bool has_character_map = false;
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
};

// Error (exit code 2): not a SentencePiece model.
SentencePieceModel read_sentencepiece_model(const std::filesystem::path& path);

}  // namespace polar
