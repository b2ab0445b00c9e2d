// safetensors headers of somebody who means harm, or of a broken disk: refused with a message, never a crash.
#include <gmock/gmock.h>

#include <cstring>

#include "checkpoint/safetensors.h"
#include "errors.h"
#include "temporary.h"

namespace polar::test {
namespace {

using ::testing::HasSubstr;

// A file with this header length, header and so many bytes of data.
std::string file_of(const std::string& header, size_t data_bytes, uint64_t length) {
  std::string file(sizeof(length), '\0');
  std::memcpy(file.data(), &length, sizeof(length));
  return file + header + std::string(data_bytes, 'x');
}

void open(const std::string& content) {
  const TemporaryDirectory dir;
  SafetensorsFile file(put(dir / "x.safetensors", content));
}

std::string open_error(const std::string& content) {
  return message_of([&] { open(content); });
}

struct Hostile {
  const char* name;
  std::string header;
  size_t data_bytes;
  const char* message;
};
void PrintTo(const Hostile& h, std::ostream* out) {
  *out << h.name;
}
class HostileHeader : public ::testing::TestWithParam<Hostile> {};

TEST_P(HostileHeader, IsRefusedWithTheFilesName) {
  const Hostile& h = GetParam();
  EXPECT_THAT(open_error(file_of(h.header, h.data_bytes, h.header.size())),
              AllOf(HasSubstr("x.safetensors"), HasSubstr(h.message)));
}

std::string tensor(const std::string& type, const std::string& shape, const std::string& offsets) {
  return R"({"a": {"dtype": ")" + type + R"(", "shape": )" + shape + R"(, "data_offsets": )" + offsets + "}}";
}

std::string pair_of(const std::string& first, const std::string& second) {
  return R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": )" + first +
         R"(}, "b": {"dtype": "F32", "shape": [2], "data_offsets": )" + second + "}}";
}

INSTANTIATE_TEST_SUITE_P(
    Cases, HostileHeader,
    ::testing::Values(
        Hostile{"empty", "", 0, "does not begin with"},
        Hostile{"leading_space", " {}", 0, "does not begin with"},
        Hostile{"list", "[]", 0, "does not begin with"}, Hostile{"open", "{", 0, "not valid JSON"},
        Hostile{"trailing", "{} x", 0, "not valid JSON"}, Hostile{"two_objects", "{}{}", 0, "not valid JSON"},
        Hostile{"zero_byte", std::string("{\0}", 3), 0, "not valid JSON"},
        Hostile{"not_utf8", "{\"\xFF\": {}}", 0, "not valid JSON"},
        Hostile{"comment", "{/* x */}", 0, "not valid JSON"},
        Hostile{"nan", tensor("F32", "[NaN]", "[0, 8]"), 8, "not valid JSON"},
        Hostile{"entry_is_number", R"({"a": 3})", 0, "a is a number, expected an object"},
        Hostile{"entry_is_text", R"({"a": "F32"})", 0, "a is a string"},
        Hostile{"entry_is_null", R"({"a": null})", 0, "a is null"},
        Hostile{"entry_is_list", R"({"a": [1]})", 0, "a is an array"},
        Hostile{"nested", R"({"a": {"dtype": {"x": 1}}})", 0, "an object, expected a string"},
        Hostile{"deep", R"({"a": {"shape": )" + std::string(1'000'000, '['), 0, "shape is or holds an array"},
        Hostile{"deep_objects", R"({"a": {"shape": )" + std::string(100'000, '{'), 0, "an object"},
        Hostile{"unknown_key", R"({"a": {"stride": [1]}})", 0, "unknown key \"stride\""},
        Hostile{
            "duplicate_name",
            R"({"a": {"dtype":"F32","shape":[1],"data_offsets":[0,4]}, "a": {"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
            8, "names a twice"},
        Hostile{
            "escaped_duplicate",
            R"({"a": {"dtype":"F32","shape":[1],"data_offsets":[0,4]}, "\u0061": {"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
            8, "names a twice"},
        Hostile{"duplicate_key", R"({"a": {"dtype":"F32","dtype":"F32"}})", 0, "stands twice"},
        Hostile{"no_dtype", R"({"a": {"shape":[1],"data_offsets":[0,4]}})", 4, "dtype is missing"},
        Hostile{"no_shape", R"({"a": {"dtype":"F32","data_offsets":[0,4]}})", 4, "shape is missing"},
        Hostile{"no_offsets", R"({"a": {"dtype":"F32","shape":[1]}})", 4, "data_offsets is missing"},
        Hostile{"no_entry_keys", R"({"a": {}})", 0, "dtype is missing"},
        Hostile{"unknown_dtype", tensor("F8_E4M3", "[4]", "[0, 4]"), 4, "F8_E4M3 is not supported"},
        Hostile{"lower_case_dtype", tensor("f32", "[1]", "[0, 4]"), 4, "f32 is not supported"},
        Hostile{"dtype_is_number", R"({"a": {"dtype": 32}})", 0, "expected a string"},
        Hostile{"negative_size", tensor("F32", "[-1]", "[0, 4]"), 4, "a negative number"},
        Hostile{"fraction", tensor("F32", "[1.0]", "[0, 4]"), 4, "no 64-bit integer"},
        Hostile{"exponent", tensor("F32", "[1e3]", "[0, 4000]"), 4000, "no 64-bit integer"},
        Hostile{"beyond_64_bits", tensor("F32", "[99999999999999999999]", "[0, 4]"), 4, "no 64-bit integer"},
        Hostile{"text_in_shape", tensor("F32", "[\"1\"]", "[0, 4]"), 4, "holds a string"},
        Hostile{"true_in_shape", tensor("F32", "[true]", "[0, 4]"), 4, "holds a boolean"},
        Hostile{"shape_is_number", tensor("F32", "1", "[0, 4]"), 4, "is or holds a number"},
        Hostile{"five_dimensions", tensor("F32", "[1,1,1,1,1]", "[0, 4]"), 4, "more than 4"},
        Hostile{"product_overflows", tensor("F32", "[4294967296, 4294967296]", "[0, 0]"), 0,
                "overflows 64 bits"},
        Hostile{"bytes_overflow", tensor("F64", "[2305843009213693952]", "[0, 0]"), 0, "overflows 64 bits"},
        Hostile{"above_int64", tensor("F32", "[18446744073709551615]", "[0, 4]"), 4, "overflows 64 bits"},
        Hostile{"overflow_times_zero", tensor("F32", "[4294967296, 4294967296, 0]", "[0, 0]"), 0,
                "overflows"},
        Hostile{"one_offset", tensor("F32", "[1]", "[0]"), 4, "has 1 entries"},
        Hostile{"three_offsets", tensor("F32", "[1]", "[0, 4, 8]"), 8, "more than 2"},
        Hostile{"negative_offset", tensor("F32", "[1]", "[-4, 0]"), 4, "a negative number"},
        Hostile{"backward_offsets", tensor("F32", "[1]", "[4, 0]"), 4, "do not span the 4 bytes"},
        Hostile{"huge_offsets", tensor("F32", "[1]", "[18446744073709551612, 18446744073709551615]"), 4,
                "do not span"},
        Hostile{"far_away", tensor("F32", "[1]", "[18446744073709551608, 18446744073709551612]"), 4,
                "a hole"},
        Hostile{"too_few_bytes", tensor("F32", "[2]", "[0, 4]"), 4, "do not span the 8 bytes of F32 [2]"},
        Hostile{"wraps_to_fit", tensor("F32", "[4611686018427387905]", "[0, 4]"), 4, "overflows"},
        Hostile{"hole", pair_of("[0, 8]", "[12, 20]"), 20,
                "begins at data byte 12, expected 8 (there is a hole"},
        Hostile{"overlap", pair_of("[0, 8]", "[4, 12]"), 12,
                "begins at data byte 4, expected 8 (it overlaps"},
        Hostile{"same_place", pair_of("[0, 8]", "[0, 8]"), 8, "it overlaps"},
        Hostile{"hole_at_start", tensor("F32", "[1]", "[4, 8]"), 8, "begins at data byte 4, expected 0"},
        Hostile{"truncated", tensor("F32", "[4]", "[0, 16]"), 15, "take 16 bytes of data, the file has 15"},
        Hostile{"bytes_left_over", tensor("F32", "[1]", "[0, 4]"), 5, "bytes follow the last tensor"},
        Hostile{"data_without_tensors", "{}", 1, "bytes follow"},
        Hostile{"metadata_is_text", R"({"__metadata__": "pt"})", 0, "__metadata__ is a string"},
        Hostile{"metadata_holds_number", R"({"__metadata__": {"x": 1}})", 0, "a number, expected a string"},
        Hostile{"metadata_nested", R"({"__metadata__": {"x": {}}})", 0, "an object, expected a string"},
        Hostile{"metadata_twice", R"({"__metadata__": {}, "__metadata__": {}})", 0, "twice"}),
    [](const auto& each) { return each.param.name; });

TEST(HeaderLength, Hostile) {
  EXPECT_THAT(open_error(""), HasSubstr("too few"));
  EXPECT_THAT(open_error("1234567"), HasSubstr("7 bytes are too few"));
  EXPECT_THAT(open_error(file_of("{}", 0, 0)), HasSubstr("does not begin with"));
  EXPECT_THAT(open_error(file_of("{}", 0, 3)), HasSubstr("claims 3 bytes, the file has only 10"));
  EXPECT_THAT(open_error(file_of("{}", 0, 100'000'000)), HasSubstr("truncated"));
  EXPECT_THAT(open_error(file_of("{}", 0, 100'000'001)), HasSubstr("at most 100000000"));
  EXPECT_THAT(open_error(file_of("{}", 0, UINT64_MAX)), HasSubstr("at most"));
  EXPECT_THAT(open_error(file_of("{}", 0, UINT64_MAX - 7)), HasSubstr("at most"));
}

TEST(HostileFile, EveryTruncationAndEveryFlippedHeaderBitIsHandled) {
  TemporaryDirectory dir;
  std::vector<float> values{1, 2, 3, 4};
  write_safetensors(dir / "good.safetensors",
                    std::vector<NamedTensor>{{"a", {values.data(), DType::f32, {2, 2}}}});
  const std::string good = read_file(dir / "good.safetensors");
  for (size_t size = 0; size < good.size(); ++size) EXPECT_THROW(open(good.substr(0, size)), Error) << size;
  for (size_t bit = 0; bit < 8 * (good.size() - 16); ++bit) {
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << bit % 8));
    try {
      open(bad);  // a changed name or metadata may well be valid; nothing may crash (sanitizers watch)
    } catch (const Error&) {
    }
  }
}

TEST(HostileFile, MissingOrNoFile) {
  TemporaryDirectory dir;
  EXPECT_THROW(SafetensorsFile(dir / "nothing"), Error);
  EXPECT_THROW(SafetensorsFile(dir.path()), Error);
}

}  // namespace
}  // namespace polar::test
