// Embedding against the CPU, bit for bit: rows at both ends of a large table, repeated ids, several sorted
// chunks.
#include "cuda/orders.h"

namespace polar::cuda::test {
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

TEST(CudaEmbedding, ForwardIsTheCpus) {
  Both both;
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const int64_t rows : {1, 7, 130})
      for (const int64_t cols : {1, 5, 64, 1100}) {
        const int64_t vocabulary = 50;
        const Pair ids = both.make(DType::i32, {rows}, make_ids(rows, vocabulary));
        const Pair table = both.random(dtype, {vocabulary, cols}, 1);
        const Pair out = both.random(dtype, {rows, cols + 8}, 2);
        both.cpu.embedding_forward(ids.cpu, table.cpu, matrix(out).columns(8, cols).cpu);
        both.cuda.embedding_forward(ids.cuda, table.cuda, matrix(out).columns(8, cols).cuda);
        ASSERT_EQ(both.read_cuda(out), both.read_cpu(out)) << rows << " x " << cols;
      }
}

// dtable is F32 on both sides, and the contract names the order of additions: so the same bits.
void check_backward(Both& both, DType dtype, int64_t rows, int64_t cols, int64_t vocabulary,
                    const Values& ids) {
  const Pair id = both.make(DType::i32, {rows}, ids);
  const Pair dout = both.random(dtype, {rows, cols + 8}, 3);
  const Pair dtable = both.random(DType::f32, {vocabulary, cols}, 4);
  const Pair workspace = both.workspace(both.cpu.embedding_backward_workspace(rows),
                                        both.cuda.embedding_backward_workspace(rows));
  const MatrixPair view = matrix(dout).columns(8, cols);
  both.cpu.embedding_backward(id.cpu, view.cpu, dtable.cpu, workspace.cpu);
  both.cuda.embedding_backward(id.cuda, view.cuda, dtable.cuda, workspace.cuda);
  ASSERT_EQ(both.read_cuda(dtable), both.read_cpu(dtable)) << rows << " x " << cols;
}

TEST(CudaEmbedding, BackwardAddsInTheOrderOfPositions) {
  Both both;
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const int64_t rows : {1, 7, 33, 1024, 3000})
      for (const int64_t cols : {1, 40}) check_backward(both, dtype, rows, cols, 37, make_ids(rows, 37));
}

TEST(CudaEmbedding, BackwardOfWideRowsAndOneIdOnly) {
  Both both;
  check_backward(both, DType::bf16, 9, 1100, 5, make_ids(9, 5));
  check_backward(both, DType::bf16, 1500, 8, 3, Values(1500, 1.0));
}

TEST(CudaEmbedding, BothEndsOfALargeVocabulary) {
  Both both;
  const int64_t rows = 1100, vocabulary = 151936;
  const Values ids = make_ids(rows, vocabulary);
  check_backward(both, DType::bf16, rows, 2, vocabulary, ids);
  const Pair table = both.random(DType::bf16, {vocabulary, 2}, 5), out = both.zeros(DType::bf16, {rows, 2});
  const Pair id = both.make(DType::i32, {rows}, ids);
  both.cpu.embedding_forward(id.cpu, table.cpu, out.cpu);
  both.cuda.embedding_forward(id.cuda, table.cuda, out.cuda);
  EXPECT_EQ(both.read_cuda(out), both.read_cpu(out));
}

// Nobody waits for the device to say that an id is wrong: the row is NaN, which the loss shows.
TEST(CudaEmbedding, IdsOutsideTheVocabularyGiveNaNAndNoGradient) {
  Both both;
  const Pair ids = both.make(DType::i32, {4}, {-1, 9, 10, 3});
  const Pair table = both.constant(DType::f32, {10, 6}, 2.0), out = both.zeros(DType::f32, {4, 6});
  both.cuda.embedding_forward(ids.cuda, table.cuda, out.cuda);
  const Values got = both.read_cuda(out);
  for (size_t i = 0; i < got.size(); ++i) EXPECT_EQ(std::isnan(got[i]), i / 6 == 0 || i / 6 == 2) << i;
  const Pair dout = both.constant(DType::f32, {4, 6}, 1.0), dtable = both.zeros(DType::f32, {10, 6});
  const Pair workspace = both.workspace(0, both.cuda.embedding_backward_workspace(4));
  both.cuda.embedding_backward(ids.cuda, dout.cuda, dtable.cuda, workspace.cuda);
  Values want(60, 0.0);
  for (const size_t id : {size_t{3}, size_t{9}})
    std::fill_n(want.begin() + static_cast<long>(6 * id), 6, 1.0);
  EXPECT_EQ(both.read_cuda(dtable), want);
}

TEST(CudaEmbedding, GradientIsTheSameInEveryOrder) {
  Both both;
  const int64_t rows = 1500;
  const Pair ids = both.make(DType::i32, {rows}, make_ids(rows, 20));
  const Pair dout = both.random(DType::bf16, {rows, 24}, 3);
  const Pair workspace = both.workspace(0, both.cuda.embedding_backward_workspace(rows));
  expect_same_bits_in_every_order("dtable", [&] {
    const Pair dtable = both.zeros(DType::f32, {20, 24});
    both.cuda.embedding_backward(ids.cuda, dout.cuda, dtable.cuda, workspace.cuda);
    return both.read_cuda(dtable);
  });
}

}  // namespace
}  // namespace polar::cuda::test
