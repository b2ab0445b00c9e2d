#include "data/sentencepiece_model.h"

#include <cstring>
#include <optional>
#include <string_view>

#include "base/error.h"
#include "base/file.h"

namespace polar {
namespace {

// One field of a message: varints in `number`, 4-byte values in `number`'s low half, strings in `bytes`.
struct Field {
  uint32_t id = 0;
  uint64_t number = 0;
  std::string_view bytes;

  int64_t as_int() const { return static_cast<int32_t>(number); }
  float as_float() const {
    const auto low = static_cast<uint32_t>(number);
    float value;
    std::memcpy(&value, &low, sizeof(value));
    return value;
  }
};

// Walks over the fields of a protocol buffer message (https://protobuf.dev/programming-guides/encoding).
// A damaged message ends the walk with ok() false.
class Message {
 public:
  explicit Message(std::string_view bytes) : rest_(bytes) {}
  bool ok() const { return ok_; }

  std::optional<Field> next() {
    if (rest_.empty() || !ok_) return std::nullopt;
    const uint64_t tag = varint();
    Field field;
    field.id = static_cast<uint32_t>(tag >> 3);
    switch (tag & 7) {
      case 0:
        field.number = varint();
        break;
      case 1:
        field.number = fixed(8);
        break;
      case 2:
        field.bytes = take(varint());
        break;
      case 5:
        field.number = fixed(4);
        break;
      default:
        ok_ = false;
    }
    if (!ok_) return std::nullopt;
    return field;
  }

 private:
  uint64_t varint() {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && !rest_.empty(); shift += 7) {
      const auto byte = static_cast<unsigned char>(rest_.front());
      rest_.remove_prefix(1);
      value |= static_cast<uint64_t>(byte & 0x7Fu) << shift;
      if (byte < 0x80u) return value;
    }
    ok_ = false;
    return 0;
  }
  std::string_view take(uint64_t size) {
    if (size > rest_.size()) {
      ok_ = false;
      return {};
    }
    const std::string_view part = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return part;
  }
  uint64_t fixed(size_t size) {
    const std::string_view part = take(size);
    uint64_t value = 0;
    if (!part.empty()) std::memcpy(&value, part.data(), part.size());  // empty: data() may be null
    return value;
  }

  std::string_view rest_;
  bool ok_ = true;
};

bool read_piece(std::string_view bytes, SentencePieceModel& model) {
  SentencePieceModel::Piece piece;
  Message message(bytes);
  while (const auto field = message.next()) {
    if (field->id == 1) piece.text = field->bytes;
    if (field->id == 2) piece.score = field->as_float();
    if (field->id == 3) piece.type = static_cast<SentencePieceModel::PieceType>(field->as_int());
  }
  model.pieces.push_back(std::move(piece));
  return message.ok();
}

bool read_trainer_spec(std::string_view bytes, SentencePieceModel& model) {
  Message message(bytes);
  while (const auto field = message.next()) {
    if (field->id == 3) model.kind = static_cast<SentencePieceModel::Kind>(field->as_int());
    if (field->id == 35) model.byte_fallback = field->number != 0;
    if (field->id == 40) model.unk_id = field->as_int();
    if (field->id == 41) model.bos_id = field->as_int();
    if (field->id == 42) model.eos_id = field->as_int();
    if (field->id == 43) model.pad_id = field->as_int();
  }
  return message.ok();
}

bool read_normalizer_spec(std::string_view bytes, SentencePieceModel& model) {
  Message message(bytes);
  while (const auto field = message.next()) {
    if (field->id == 2) model.has_character_map = !field->bytes.empty();
    if (field->id == 3) model.add_dummy_prefix = field->number != 0;
    if (field->id == 4) model.remove_extra_whitespaces = field->number != 0;
  }
  return message.ok();
}

}  // namespace

SentencePieceModel read_sentencepiece_model(const std::filesystem::path& path) {
  const std::string bytes = read_file(path);
  SentencePieceModel model;
  Message message(bytes);
  bool ok = true;
  while (const auto field = message.next()) {
    if (field->id == 1) ok = ok && read_piece(field->bytes, model);
    if (field->id == 2) ok = ok && read_trainer_spec(field->bytes, model);
    if (field->id == 3) ok = ok && read_normalizer_spec(field->bytes, model);
  }
  const auto count = static_cast<int64_t>(model.pieces.size());
  if (!ok || !message.ok() || count == 0 || model.unk_id < 0 || model.unk_id >= count ||
      model.bos_id >= count || model.eos_id >= count || model.pad_id >= count)
    fail_usage("{} is not a SentencePiece model ({} bytes)", path.string(), bytes.size());
  return model;
}

}  // namespace polar
