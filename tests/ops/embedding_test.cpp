// Embedding: rows at both ends of the table, repeated ids, strided views; the order of additions bit for bit.
#include <gmock/gmock.h>

#include "device.h"

namespace polar::testing {
namespace {

// Ids with both ends of the vocabulary, many repetitions of one, the rest spread.
Values make_ids(int64_t rows, int64_t vocabulary) {
  Values ids(static_cast<size_t>(rows));
  for (size_t i = 0; i < ids.size(); ++i) {
    const uint64_t r = random_bits(3, 1, i);
    ids[i] =
        static_cast<double>(r % 3 == 0 ? vocabulary / 2 : static_cast<int64_t>(r % 1000003) % vocabulary);
  }
  ids[0] = static_cast<double>(vocabulary - 1);
  ids[ids.size() - 1] = 0;
  return ids;
}

TEST(Embedding, ForwardGathersRows) {
  Device device;
  for (int64_t rows : {1, 7, 33, 130, 1000})
    for (int64_t cols : {1, 5, 64, 200}) {
      const int64_t vocabulary = 50, stride = cols + 3;
      const Values ids = make_ids(rows, vocabulary);
      const Tensor table = device.random(DType::f32, {vocabulary, cols}, 1);
      const Tensor out = device.random(DType::f32, {rows, stride}, 2);
      const Values before = device.read(out), t = device.read(table);
      device->embedding_forward(device.make(DType::i32, {rows}, ids), table,
                                MatrixView(out).columns(2, cols));
      Values want = before;
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < cols; ++j)
          want[static_cast<size_t>(i * stride + 2 + j)] =
              t[static_cast<size_t>(static_cast<int64_t>(ids[static_cast<size_t>(i)]) * cols + j)];
      ASSERT_EQ(device.read(out), want);
    }
}

// The contract names the order: position after position. So a plain loop in f32 gives the same bits, with any
// number of threads.
TEST(Embedding, BackwardAddsInTheOrderOfPositions) {
  for (int threads : {1, 2})
    for (int64_t rows : {1, 7, 33, 130, 3000})
      for (int64_t cols : {1, 5, 64, 200}) {
        Device device(threads);
        const int64_t vocabulary = 37, stride = cols + 4;
        const Values ids = make_ids(rows, vocabulary);
        const Tensor dout = device.random(DType::f32, {rows, stride}, 3);
        const Tensor dtable = device.random(DType::f32, {vocabulary, cols}, 4);
        std::vector<float> want = converted<float>(device.read(dtable));
        const std::vector<float> d = converted<float>(device.read(dout));
        for (int64_t i = 0; i < rows; ++i)
          for (int64_t j = 0; j < cols; ++j)
            want[static_cast<size_t>(static_cast<int64_t>(ids[static_cast<size_t>(i)]) * cols + j)] +=
                d[static_cast<size_t>(i * stride + 1 + j)];
        device->embedding_backward(device.make(DType::i32, {rows}, ids), MatrixView(dout).columns(1, cols),
                                   dtable, device.bytes(device->embedding_backward_workspace(rows)));
        ASSERT_EQ(device.read(dtable), Values(want.begin(), want.end()))
            << rows << " rows, " << cols << " columns, " << threads << " threads";
      }
}

TEST(Embedding, BackwardWithOneIdOnly) {
  Device device;
  const int64_t rows = 2000, cols = 64;
  const Tensor dtable = device.zeros(DType::f64, {2, cols});
  device->embedding_backward(device.make(DType::i32, {rows}, Values(rows, 1.0)),
                             device.make(DType::f64, {rows, cols}, Values(rows * cols, 0.5)), dtable,
                             device.bytes(device->embedding_backward_workspace(rows)));
  Values want(2 * cols, 0.0);
  std::fill(want.begin() + cols, want.end(), 1000.0);
  EXPECT_EQ(device.read(dtable), want);
}

TEST(Embedding, IdsOutsideTheVocabularyAreNamed) {
  Device device;
  const Tensor table = device.zeros(DType::f32, {10, 4}), out = device.zeros(DType::f32, {3, 4});
  for (double bad : {-1.0, 10.0}) {
    const Tensor ids = device.make(DType::i32, {3}, {0, bad, 9});
    try {
      device->embedding_forward(ids, table, out);
      FAIL() << "id " << bad << " was accepted";
    } catch (const std::runtime_error& error) {
      EXPECT_THAT(error.what(),
                  ::testing::HasSubstr(bad < 0 ? "id -1 at position 1" : "id 10 at position 1"));
    }
    EXPECT_THROW(
        device->embedding_backward(ids, out, table, device.bytes(device->embedding_backward_workspace(3))),
        std::runtime_error);
  }
}

}  // namespace
}  // namespace polar::testing
