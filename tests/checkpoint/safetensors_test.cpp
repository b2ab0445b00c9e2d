// safetensors: round trips, what the Python package wrote, conversions, sharded directories.
#include "checkpoint/safetensors.h"

#include <gmock/gmock.h>

#include <cmath>
#include <cstring>
#include <numeric>

#include "errors.h"
#include "temporary.h"

namespace polar::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

template <class T>
struct Owned {
  std::vector<T> values;
  Tensor tensor;
  explicit Owned(Shape shape, DType type = DTypeOf<T>::value)
      : values(static_cast<size_t>(shape.count())), tensor{values.data(), type, shape} {}
  Owned(const Owned&) = delete;
};

template <class T>
std::vector<T> read_all(const SafetensorsFile& file, const std::string& name) {
  Owned<T> out(file.info(name).shape);
  file.read(name, out.tensor);
  return out.values;
}

std::filesystem::path golden(const char* name) {
  return std::filesystem::path(POLAR_GOLDEN_DIR) / "checkpoint" / name;
}

TEST(Safetensors, RoundTripKeepsEveryBit) {
  TemporaryDirectory dir;
  Owned<float> a({3, 5});
  Owned<double> b({2});
  Owned<int32_t> c({1, 2, 2, 2});
  Owned<uint16_t> d({7}, DType::bf16);
  Owned<float> scalar{Shape()}, empty({0, 4});
  for (size_t i = 0; i < a.values.size(); ++i) a.values[i] = std::sin(static_cast<float>(i)) * 1e-30f;
  a.values[3] = std::numeric_limits<float>::quiet_NaN();
  b.values = {0.1, -1e300};
  std::iota(c.values.begin(), c.values.end(), -4);
  std::iota(d.values.begin(), d.values.end(), uint16_t{0x3F7D});
  scalar.values = {2.5f};
  write_safetensors(dir / "x.safetensors",
                    std::vector<NamedTensor>{{"d", d.tensor},
                                             {"a", a.tensor},
                                             {"empty", empty.tensor},
                                             {"b", b.tensor},
                                             {"c", c.tensor},
                                             {"scalar", scalar.tensor}},
                    {{"run", "x \"y\" \n"}});
  const SafetensorsFile file(dir / "x.safetensors");
  EXPECT_EQ(file.metadata(), (Metadata{{"format", "pt"}, {"run", "x \"y\" \n"}}));
  EXPECT_EQ(file.tensors().front().name, "b");  // the widest first, so that each is aligned
  EXPECT_EQ(file.tensors().front().begin % 64, 0u);
  for (const TensorInfo& t : file.tensors()) EXPECT_EQ(t.begin % size_of(t.type), 0u) << t.name;
  const auto a_back = read_all<float>(file, "a");
  EXPECT_EQ(std::memcmp(a_back.data(), a.values.data(), a.tensor.bytes()), 0);
  EXPECT_EQ(read_all<double>(file, "b"), b.values);
  EXPECT_EQ(read_all<int32_t>(file, "c"), c.values);
  EXPECT_EQ(read_all<float>(file, "scalar"), scalar.values);
  EXPECT_EQ(file.info("c").shape, (Shape{1, 2, 2, 2}));
  EXPECT_EQ(file.info("empty").shape, (Shape{0, 4}));
  Owned<uint16_t> d_back({7}, DType::bf16);
  file.read("d", d_back.tensor);
  EXPECT_EQ(d_back.values, d.values);
}

TEST(Safetensors, NoTensorsAtAll) {
  TemporaryDirectory dir;
  write_safetensors(dir / "x.safetensors", {});
  EXPECT_TRUE(SafetensorsFile(dir / "x.safetensors").tensors().empty());
}

TEST(Safetensors, ReadsWhatPythonWrote) {
  const SafetensorsFile file(golden("types.safetensors"));
  EXPECT_EQ(file.metadata(), (Metadata{{"format", "pt"}, {"made_by", "safetensors"}}));
  EXPECT_EQ(file.names().size(), 9u);
  const auto f32 = read_all<float>(file, "f32");
  const auto f64 = read_all<double>(file, "f64");
  const auto bf16 = read_all<float>(file, "bf16");
  const auto f16 = read_all<double>(file, "f16");
  ASSERT_EQ(f32.size(), 12u);
  for (size_t i = 0; i < 12; ++i) {
    const double value = static_cast<double>(i) * 0.37 - 1.5;
    EXPECT_EQ(f32[i], static_cast<float>(value));
    EXPECT_EQ(f64[i], static_cast<double>(i) / 7.0);
    EXPECT_NEAR(bf16[i], value, std::abs(value) * 0x1p-8);
    EXPECT_NEAR(f16[i], value, std::abs(value) * 0x1p-11 + 0x1p-25);
  }
  EXPECT_EQ(file.info("f32").shape, (Shape{3, 4}));
  EXPECT_THAT(read_all<int32_t>(file, "i32"), ElementsAre(INT32_MIN, -1, 0, 1, INT32_MAX));
  EXPECT_THAT(read_all<int32_t>(file, "i64"), ElementsAre(INT32_MIN, 7, INT32_MAX));
  EXPECT_THAT(read_all<float>(file, "scalar"), ElementsAre(3.25f));
  EXPECT_EQ(file.info("empty").shape, (Shape{0, 5}));
}

TEST(Safetensors, ConvertsAsPyTorchDoes) {
  TemporaryDirectory dir;
  const SafetensorsFile file(golden("conversions.safetensors"));
  const auto half = read_all<float>(file, "half");
  const auto expected = read_all<float>(file, "half_as_f32");
  for (size_t i = 0; i < half.size(); ++i) {
    if (std::isnan(expected[i]))
      EXPECT_TRUE(std::isnan(half[i])) << i;
    else
      EXPECT_EQ(std::memcmp(&half[i], &expected[i], sizeof(float)), 0) << i << " " << half[i];
  }
  const Shape shape = file.info("floats").shape;
  Owned<float> floats(shape);
  Owned<uint16_t> rounded(shape, DType::bf16), reference(shape, DType::bf16), written(shape, DType::bf16);
  file.read("floats", floats.tensor);
  file.read("floats", rounded.tensor);
  file.read("floats_as_bf16", reference.tensor);
  write_safetensors(dir / "b.safetensors", std::vector<NamedTensor>{{"floats", floats.tensor}}, {},
                    DType::bf16);
  SafetensorsFile(dir / "b.safetensors").read("floats", written.tensor);
  for (size_t i = 0; i < floats.values.size(); ++i) {
    if (std::isnan(floats.values[i]))
      EXPECT_EQ(rounded.values[i] & 0x7FC0, 0x7FC0);
    else
      EXPECT_EQ(rounded.values[i], reference.values[i]) << floats.values[i];
  }
  EXPECT_EQ(written.values, rounded.values);
}

TEST(Safetensors, LongTensorsAreConvertedInPieces) {
  TemporaryDirectory dir;
  Owned<float> a({3, 50021});
  for (size_t i = 0; i < a.values.size(); ++i) a.values[i] = static_cast<float>(i % 251);  // exact in bf16
  write_safetensors(dir / "b.safetensors", std::vector<NamedTensor>{{"a", a.tensor}}, {}, DType::bf16);
  const SafetensorsFile file(dir / "b.safetensors");
  EXPECT_EQ(file.info("a").type, StoredType::bf16);
  EXPECT_EQ(read_all<float>(file, "a"), a.values);
}

TEST(Safetensors, RefusesWhatDoesNotFitTheCaller) {
  const SafetensorsFile file(golden("types.safetensors"));
  Owned<float> wrong({4, 3});
  EXPECT_THAT(
      message_of([&] { file.read("f32", wrong.tensor); }),
      AllOf(HasSubstr("types.safetensors"), HasSubstr("f32"), HasSubstr("[3, 4]"), HasSubstr("[4, 3]")));
  Owned<int32_t> two({2}), twelve({3, 4});
  EXPECT_THAT(message_of([&] { file.read("i64_large", two.tensor); }),
              AllOf(HasSubstr("i64_large"), HasSubstr("element 1 is 2147483648")));
  EXPECT_THAT(message_of([&] { file.read("f32", twelve.tensor); }),
              HasSubstr("is F32 and cannot be read as I32"));
  EXPECT_THAT(message_of([&] { file.read("weight", two.tensor); }),
              HasSubstr("no tensor weight among its 9"));
}

// A directory of two shards and their index; `weight_map` replaces the right one.
void write_shards(const TemporaryDirectory& dir, const std::string& weight_map) {
  Owned<float> a({2}), b({3});
  a.values = {1, 2};
  b.values = {3, 4, 5};
  write_safetensors(dir / "model-00001-of-00002.safetensors", std::vector<NamedTensor>{{"a", a.tensor}});
  write_safetensors(dir / "model-00002-of-00002.safetensors", std::vector<NamedTensor>{{"b", b.tensor}});
  write_file_atomically(dir / "model.safetensors.index.json",
                        R"({"metadata": {}, "weight_map": )" + weight_map + "}");
}

TEST(TensorSource, SingleFileAndShardsLookTheSame) {
  TemporaryDirectory dir;
  write_shards(dir, R"({"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"})");
  const TensorSource source(dir.path());
  EXPECT_THAT(source.names(), ElementsAre("a", "b"));
  Owned<float> b({3});
  source.read("b", b.tensor);
  EXPECT_THAT(b.values, ElementsAre(3, 4, 5));
  EXPECT_THAT(message_of([&] { source.info("c"); }), HasSubstr("no tensor c"));
  write_safetensors(dir / "model.safetensors", std::vector<NamedTensor>{{"b", b.tensor}});
  EXPECT_THAT(TensorSource(dir.path()).names(), ElementsAre("b"));  // as in transformers, it comes first
  EXPECT_THAT(TensorSource(dir / "model.safetensors").names(), ElementsAre("b"));
}

struct BadIndex {
  const char* name;
  const char* weight_map;
  const char* message;
};
class BadIndexTest : public ::testing::TestWithParam<BadIndex> {};

TEST_P(BadIndexTest, IsRefused) {
  TemporaryDirectory dir;
  write_shards(dir, GetParam().weight_map);
  EXPECT_THAT(message_of([&] { TensorSource source(dir.path()); }),
              AllOf(HasSubstr("model.safetensors.index.json"), HasSubstr(GetParam().message)));
}

INSTANTIATE_TEST_SUITE_P(
    Cases, BadIndexTest,
    ::testing::Values(
        BadIndex{"missing_shard", R"({"a": "model-00003-of-00003.safetensors"})", "which is missing"},
        BadIndex{"wrong_shard", R"({"a": "model-00002-of-00002.safetensors"})", "which does not hold it"},
        BadIndex{"unlisted",
                 R"({"a": "model-00001-of-00002.safetensors", "c": "model-00002-of-00002.safetensors"})",
                 "tensor c is said to be"},
        BadIndex{"escape", R"({"a": "../model-00001-of-00002.safetensors"})", "not the name of a file"},
        BadIndex{"absolute", R"({"a": "/etc/passwd"})", "not the name of a file"},
        BadIndex{"number", R"({"a": 3})", "not the name of a file"}, BadIndex{"empty", "{}", "weight_map"},
        BadIndex{"list", "[]", "weight_map"}, BadIndex{"broken", "{", "not valid JSON"}),
    [](const auto& each) { return each.param.name; });

TEST(TensorSource, AShardWithMoreThanTheIndexSaysIsRefused) {
  TemporaryDirectory dir;
  write_shards(dir, R"({"b": "model-00002-of-00002.safetensors"})");
  Owned<float> b({3});
  write_safetensors(dir / "model-00002-of-00002.safetensors",
                    std::vector<NamedTensor>{{"b", b.tensor}, {"stray", b.tensor}});
  EXPECT_THAT(message_of([&] { TensorSource source(dir.path()); }), HasSubstr("holds tensor stray"));
}

TEST(TensorSource, NothingThere) {
  TemporaryDirectory dir;
  EXPECT_THAT(message_of([&] { TensorSource source(dir.path()); }),
              AllOf(HasSubstr("model.safetensors"), HasSubstr("index.json"), HasSubstr("is there")));
}

}  // namespace
}  // namespace polar::test
