// Collectives between real processes over Gloo: values, bits, volume.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "comm/communicator.h"
#include "comm/host_sum.h"
#include "ranks.h"

namespace polar::test {
namespace {

using namespace std::chrono_literals;

std::unique_ptr<Communicator> connect(int rank, int ranks, uint16_t port,
                                      std::chrono::milliseconds timeout = 30s) {
  static const std::unique_ptr<Ops> ops = make_ops({"cpu", 1});
  return make_communicator(local_group(rank, ranks, port), {.timeout = timeout}, *ops);
}

// --- an array of any dtype, and what its elements are as doubles ---

struct Array {
  Array(DType dtype, Shape shape) : bytes(static_cast<size_t>(shape.count()) * size_of(dtype)) {
    tensor = {bytes.data(), dtype, shape};
  }
  Array(const Array& other) : bytes(other.bytes), tensor(other.tensor) { tensor.data = bytes.data(); }
  Array& operator=(const Array&) = delete;

  double get(int64_t i) const {
    const auto at = static_cast<size_t>(i);
    if (tensor.dtype == DType::f64) return reinterpret_cast<const double*>(bytes.data())[at];
    if (tensor.dtype == DType::f32) return double{reinterpret_cast<const float*>(bytes.data())[at]};
    const uint32_t bits = reinterpret_cast<const uint16_t*>(bytes.data())[at];
    return double{std::bit_cast<float>(bits << 16)};
  }
  void set(int64_t i, double value) {
    const auto at = static_cast<size_t>(i);
    if (tensor.dtype == DType::f64) reinterpret_cast<double*>(bytes.data())[at] = value;
    if (tensor.dtype == DType::f32) reinterpret_cast<float*>(bytes.data())[at] = static_cast<float>(value);
    if (tensor.dtype == DType::bf16)  // cut off: any bf16 will do
      reinterpret_cast<uint16_t*>(bytes.data())[at] =
          static_cast<uint16_t>(std::bit_cast<uint32_t>(static_cast<float>(value)) >> 16);
  }
  int64_t count() const { return tensor.count(); }

  std::vector<std::byte> bytes;
  Tensor tensor;
};

// What rank `rank` holds: known to all.
Array values_of(int rank, DType dtype, Shape shape) {
  Array array(dtype, shape);
  uint64_t state = static_cast<uint64_t>(rank) * 7919 + static_cast<uint64_t>(shape.count());
  for (int64_t i = 0; i < array.count(); ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;  // Knuth's linear congruence
    array.set(i, static_cast<double>(static_cast<int64_t>(state)) * 0x1p-63);
  }
  return array;
}

// The sum of the ranks' element i in the order of the ranks, rounded as the communicator promises: in the
// element's own type, bf16 in float and once.
double sum_of(const std::vector<Array>& arrays, int64_t i) {
  if (arrays[0].tensor.dtype == DType::f64) {
    double sum = arrays[0].get(i);
    for (size_t r = 1; r < arrays.size(); ++r) sum += arrays[r].get(i);
    return sum;
  }
  auto sum = static_cast<float>(arrays[0].get(i));
  for (size_t r = 1; r < arrays.size(); ++r) sum += static_cast<float>(arrays[r].get(i));
  if (arrays[0].tensor.dtype == DType::f32) return double{sum};
  // The nearest of the two bf16 around it; of equally near ones the even.
  const uint32_t bits = std::bit_cast<uint32_t>(sum) >> 16;
  const double below = double{std::bit_cast<float>(bits << 16)};
  const double above = double{std::bit_cast<float>((bits + 1) << 16)};
  const double to_below = std::fabs(double{sum} - below), to_above = std::fabs(above - double{sum});
  if (to_below != to_above) return to_below < to_above ? below : above;
  return bits % 2 == 0 ? below : above;
}

std::vector<Array> all_values(int ranks, DType dtype, Shape shape) {
  std::vector<Array> arrays;
  for (int r = 0; r < ranks; ++r) arrays.push_back(values_of(r, dtype, shape));
  return arrays;
}

void expect_sum(const Array& got, int64_t offset, const std::vector<Array>& arrays, const std::string& what) {
  for (int64_t i = 0; i < got.count(); ++i)
    ASSERT_EQ(got.get(i), sum_of(arrays, offset + i)) << what << ", element " << i;
}

void check_all_reduce(Communicator& comm, DType dtype, int64_t count) {
  Array own = values_of(comm.rank(), dtype, {count});
  const auto done = comm.make_mark();
  const uint64_t before = comm.bytes_sent();
  comm.all_reduce_sum(own.tensor, "values", *done);
  done->wait();
  expect_sum(own, 0, all_values(comm.world_size(), dtype, {count}), "all-reduce");
  // Each rank sends what is not its own, and its own to all others: 2 (N - 1) / N of the whole, to an
  // element.
  const int64_t ranks = comm.world_size(), rank = comm.rank();
  const int64_t owned = count * (rank + 1) / ranks - count * rank / ranks;
  EXPECT_EQ(comm.bytes_sent() - before,
            static_cast<uint64_t>(count - owned + (ranks - 1) * owned) * size_of(dtype));
}

void check_reduce_scatter(Communicator& comm, DType dtype, int64_t count, bool in_place) {
  const Shape shape{comm.world_size(), count};
  Array parts = values_of(comm.rank(), dtype, shape), apart(dtype, {count});
  const int64_t offset = comm.rank() * count;
  const Tensor own = in_place ? parts.tensor.slice(offset, {count}) : apart.tensor;
  const auto done = comm.make_mark();
  const uint64_t before = comm.bytes_sent();
  comm.reduce_scatter_sum(parts.tensor, own, "parts", *done);
  done->wait();
  Array got(dtype, {count});
  std::copy_n(static_cast<const std::byte*>(own.data), own.bytes(), got.bytes.data());
  expect_sum(got, offset, all_values(comm.world_size(), dtype, shape), "reduce-scatter");
  EXPECT_EQ(comm.bytes_sent() - before, static_cast<uint64_t>(comm.world_size() - 1) * own.bytes());
}

void check_all_to_all(Communicator& comm, DType dtype, int64_t count) {
  const Shape shape{comm.world_size(), count};
  Array parts = values_of(comm.rank(), dtype, shape), arrived(dtype, shape);
  const auto done = comm.make_mark();
  const uint64_t before = comm.bytes_sent();
  comm.all_to_all(parts.tensor, arrived.tensor, "parts", *done);
  done->wait();
  for (int r = 0; r < comm.world_size(); ++r) {
    const Array sent = values_of(r, dtype, shape);
    for (int64_t i = 0; i < count; ++i)
      ASSERT_EQ(arrived.get(r * count + i), sent.get(comm.rank() * count + i)) << "row " << r;
  }
  EXPECT_EQ(comm.bytes_sent() - before,
            static_cast<uint64_t>((comm.world_size() - 1) * count) * size_of(dtype));
}

void check_all_gather(Communicator& comm, DType dtype, int64_t count) {
  const int ranks = comm.world_size();
  Array parts(dtype, {ranks, count});
  const std::vector<Array> arrays = all_values(ranks, dtype, {count});
  const auto row = [&](int r) {
    return parts.bytes.begin() + r * count * static_cast<int64_t>(size_of(dtype));
  };
  std::copy(arrays[static_cast<size_t>(comm.rank())].bytes.begin(),
            arrays[static_cast<size_t>(comm.rank())].bytes.end(), row(comm.rank()));
  const auto done = comm.make_mark();
  comm.all_gather(parts.tensor, "parts", *done);
  done->wait();
  for (int r = 0; r < ranks; ++r)
    EXPECT_TRUE(std::equal(arrays[static_cast<size_t>(r)].bytes.begin(),
                           arrays[static_cast<size_t>(r)].bytes.end(), row(r)))
        << "row " << r;
}

void check_broadcast(Communicator& comm, DType dtype, int64_t count, int root) {
  Array own = values_of(comm.rank(), dtype, {count});
  const auto done = comm.make_mark();
  comm.broadcast(own.tensor, root, "values", *done);
  done->wait();
  EXPECT_EQ(own.bytes, values_of(root, dtype, {count}).bytes);
}

class Gloo : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, Gloo, testing::Values(2, 3, 4));

TEST_P(Gloo, EveryCollective) {
  const int ranks = GetParam();
  const uint16_t port = free_port();
  Ranks processes(ranks, [&](int rank) {
    const auto comm = connect(rank, ranks, port);
    EXPECT_EQ(comm->rank(), rank);
    EXPECT_EQ(comm->world_size(), ranks);
    for (const DType dtype : {DType::f32, DType::f64, DType::bf16})
      for (const int64_t count : {1, 2, 3, 5, 64, 1001, 4099}) {
        SCOPED_TRACE(std::string(name_of(dtype)) + " " + std::to_string(count));
        check_all_reduce(*comm, dtype, count);
        check_reduce_scatter(*comm, dtype, count, true);
        check_reduce_scatter(*comm, dtype, count, false);
        check_all_to_all(*comm, dtype, count);
        check_all_gather(*comm, dtype, count);
        for (int root = 0; root < ranks; ++root) check_broadcast(*comm, dtype, count, root);
      }
    comm->barrier();
  });
  processes.expect_all_good();
}

TEST_P(Gloo, ManyRounds) {  // more than the scratch memory holds
  const int ranks = GetParam();
  const uint16_t port = free_port();
  Ranks processes(ranks, [&](int rank) {
    const auto comm = connect(rank, ranks, port);
    check_reduce_scatter(*comm, DType::f32, 600001, true);
    check_all_reduce(*comm, DType::f32, 1300001);
    check_all_reduce(*comm, DType::bf16, 2200001);
    comm->barrier();
  });
  processes.expect_all_good();
}

TEST_P(Gloo, ValuesOfTheHost) {
  const int ranks = GetParam();
  const uint16_t port = free_port();
  Ranks processes(ranks, [&](int rank) {
    const auto comm = connect(rank, ranks, port);
    std::vector<double> values{1.0 + rank, 0.1 * rank, -1.0};
    comm->all_reduce_sum(values);
    double tenths = 0.0;
    for (int r = 1; r < ranks; ++r) tenths += 0.1 * r;
    EXPECT_EQ(values, (std::vector<double>{ranks * (ranks + 1) / 2.0, tenths, -1.0 * ranks}));
    std::string bytes = rank == 1 ? "from rank 1" : "___________";
    comm->broadcast(std::as_writable_bytes(std::span(bytes)), 1);
    EXPECT_EQ(bytes, "from rank 1");
    const auto texts = comm->all_gather_text(std::string(static_cast<size_t>(rank) * 1000, 'a' + char(rank)));
    for (int r = 0; r < ranks; ++r)
      EXPECT_EQ(texts.at(static_cast<size_t>(r)), std::string(static_cast<size_t>(r) * 1000, 'a' + char(r)));
    std::vector<double> none;
    comm->all_reduce_sum(none);
    EXPECT_EQ(comm->bytes_sent(), 0u);  // what the host exchanges is not counted
    comm->barrier();
  });
  processes.expect_all_good();
}

TEST_P(Gloo, ManyInFlightAndTheSameBitsEverywhere) {
  const int ranks = GetParam();
  const uint16_t port = free_port();
  Ranks processes(ranks, [&](int rank) {
    const auto comm = connect(rank, ranks, port);
    std::vector<std::string> digests;
    for (int repetition = 0; repetition < 2; ++repetition) {
      std::vector<Array> buckets;
      std::vector<std::unique_ptr<Mark>> marks;
      const auto shared = comm->make_mark();  // one mark for many operations
      for (int i = 0; i < 50; ++i) {
        buckets.push_back(values_of(rank, i % 2 == 0 ? DType::f32 : DType::bf16, {100 + 17 * i}));
        marks.push_back(comm->make_mark());
      }
      if (rank == 0) std::this_thread::sleep_for(20ms);  // one is late
      for (size_t i = 0; i < buckets.size(); ++i)
        comm->all_reduce_sum(buckets[i].tensor, "bucket", i % 3 == 0 ? *shared : *marks[i]);
      shared->wait();
      for (const auto& mark : marks) mark->wait();
      std::string digest;
      for (const Array& bucket : buckets)
        digest.append(reinterpret_cast<const char*>(bucket.bytes.data()), bucket.bytes.size());
      for (const std::string& other : comm->all_gather_text(digest)) EXPECT_EQ(other, digest);
      digests.push_back(digest);
    }
    EXPECT_EQ(digests[0], digests[1]);
  });
  processes.expect_all_good();
}

TEST(GlooUse, WrongShapesAreErrorsAtOnce) {
  const uint16_t port = free_port();
  Ranks processes(2, [&](int rank) {
    const auto comm = connect(rank, 2, port);
    std::vector<float> values(6);
    std::vector<int32_t> ids(6);
    const Tensor six{values.data(), DType::f32, {6}};
    const auto done = comm->make_mark();
    EXPECT_THROW(comm->reduce_scatter_sum(six, six.slice(0, {2}), "x", *done), Error);
    EXPECT_THROW(comm->all_to_all(six.slice(0, {4}), six.slice(4, {2}), "x", *done), Error);
    EXPECT_THROW(comm->all_to_all(six.slice(0, {4}), six.slice(2, {4}), "x", *done), Error);
    EXPECT_THROW(comm->all_to_all(six.slice(0, {3}), six.slice(3, {3}), "x", *done), Error);
    EXPECT_THROW(comm->all_gather(six.slice(0, {5}), "x", *done), Error);
    EXPECT_THROW(comm->all_reduce_sum({ids.data(), DType::i32, {6}}, "x", *done), Error);
    EXPECT_THROW(comm->broadcast(six, 2, "x", *done), Error);
    Mark foreign;
    EXPECT_THROW(comm->all_reduce_sum(six, "x", foreign), Error);
    done->wait();  // nothing was queued
    comm->barrier();
  });
  processes.expect_all_good();
}

TEST(SumInOrder, Bf16IsRoundedToTheNearestEvenOnce) {
  const auto bf16 = [](float value) { return static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16); };
  const float inf = std::numeric_limits<float>::infinity();
  struct Case {
    float a, b, c;
    float sum;
  };
  const float step = 0x1p-7f;  // between neighbours above 1
  for (const Case& c :
       {Case{1.0f, step / 2, 0.0f, 1.0f}, Case{1.0f + step, step / 2, 0.0f, 1.0f + 2 * step},
        Case{1.0f, step / 2, step / 4, 1.0f + step}, Case{-1.0f, -step / 2, -step / 8, -1.0f - step},
        Case{inf, 1.0f, 1.0f, inf}, Case{0x1.fep127f, 0x1p119f, 0.0f, inf}}) {
    const uint16_t a = bf16(c.a), b = bf16(c.b), d = bf16(c.c);
    uint16_t sum = 0;
    const std::vector<const void*> parts{&a, &b, &d};
    sum_in_order(parts, &sum, 1, DType::bf16);
    EXPECT_EQ(sum, bf16(c.sum)) << c.a << " " << c.b << " " << c.c;
  }
  const uint16_t infinite = bf16(inf), minus = bf16(-inf);
  uint16_t sum = 0;
  sum_in_order(std::vector<const void*>{&infinite, &minus}, &sum, 1, DType::bf16);
  EXPECT_TRUE(std::isnan(std::bit_cast<float>(static_cast<uint32_t>(sum) << 16)));
}

}  // namespace
}  // namespace polar::test
