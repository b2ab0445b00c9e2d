#include "wgmma.h"

#include <algorithm>
#include <cstring>

#include "collectives.h"
#include "matrix.h"
#include "report.h"
#include "shared_memory.h"
#include "worker.h"

namespace polar::emulator {
namespace {

constexpr uint32_t kFullWarp = 0xffffffffu;

WarpProducts& products_of_this_warp() {
  return current_thread->worker->products[current_thread->warp];
}

// The address of element (index, k) of an operand, index being a row of a or a column of b, as the descriptor
// says (PTX ISA, "Matrix descriptor"; strides in the words of the manual).
uint32_t element_address(uint64_t descriptor, bool k_contiguous, uint32_t index, uint32_t k) {
  const auto field = [descriptor](int bit) { return static_cast<uint32_t>(descriptor >> bit & 0x3fff) << 4; };
  const uint32_t start = field(0), leading = field(16), stride = field(32);
  constexpr uint32_t kRowBytes[4] = {16, 128, 64, 32};  // of the swizzle modes
  const auto mode = static_cast<uint32_t>(descriptor >> 62);
  const uint32_t row_bytes = kRowBytes[mode];
  uint32_t address = start;
  if (k_contiguous) {
    address += index / 8 * stride + index % 8 * row_bytes;
    address += mode == 0 ? k / 8 * leading + k % 8 * 2 : k * 2;
  } else {
    const uint32_t row = row_bytes / 2;  // elements
    address += index / row * (mode == 0 ? stride : leading) + index % row * 2;
    address += k / 8 * (mode == 0 ? leading : stride) + k % 8 * row_bytes;
  }
  return mode == 0 ? address : address ^ ((address >> 7) & (row_bytes / 16 - 1)) << 4;
}

float element(uint64_t descriptor, bool k_contiguous, uint32_t index, uint32_t k) {
  uint16_t bits;
  std::memcpy(&bits, shared_pointer(element_address(descriptor, k_contiguous, index, k)), sizeof bits);
  return low_bf16(bits);
}

float& accumulator(const WarpProduct& product, uint32_t lane, uint32_t i) {
  return product.scattered[lane] != nullptr ? *product.scattered[lane][i] : product.d[lane][i];
}

void read_a(const WarpProduct& product, float (&a)[16][16]) {
  if (!product.operands.a_in_registers) {
    for (uint32_t row = 0; row < 16; ++row)
      for (uint32_t k = 0; k < 16; ++k)
        a[row][k] =
            element(product.operands.a, !product.operands.a_transposed, product.operands.first_row + row, k);
    return;
  }
  for (uint32_t lane = 0; lane < 32; ++lane)
    for (uint32_t i = 0; i < 4; ++i) {
      const uint32_t row = lane / 4 + i % 2 * 8, k = lane % 4 * 2 + i / 2 * 8,
                     word = product.a_registers[lane][i];
      a[row][k] = low_bf16(word);
      a[row][k + 1] = high_bf16(word);
    }
}

void carry_out(const WarpProduct& product) {
  constexpr uint32_t kMaximumColumns = 256;
  float a[16][16];
  static thread_local float b[16][kMaximumColumns];
  read_a(product, a);
  for (uint32_t k = 0; k < 16; ++k)
    for (uint32_t col = 0; col < product.operands.columns; ++col)
      b[k][col] = element(product.operands.b, !product.operands.b_transposed, col, k);
  for (uint32_t row = 0; row < 16; ++row)
    for (uint32_t first = 0; first < product.operands.columns; first += 8) {
      float sums[8];
      const auto place = [&](uint32_t j) -> float& {
        return accumulator(product, row % 8 * 4 + j / 2, first / 2 + row / 8 * 2 + j % 2);
      };
      for (uint32_t j = 0; j < 8; ++j) sums[j] = product.operands.accumulate ? place(j) : 0.0f;
      for (uint32_t k = 0; k < 16; ++k)
        for (uint32_t j = 0; j < 8; ++j) sums[j] += a[row][k] * b[k][first + j];
      for (uint32_t j = 0; j < 8; ++j) place(j) = sums[j];
    }
}

struct Issue {
  float* d;
  float* const* scattered;
  const uint32_t* a_registers;
  ProductOperands operands;
};

void do_issue(uint32_t mask, void** arguments) {
  if (mask != kFullWarp) fail("wgmma needs all 32 lanes");
  WarpProducts& queue = products_of_this_warp();
  if (!queue.fenced) fail("wgmma without wgmma.fence since the last wait");
  if (queue.count == kMaximumProducts) fail("more than {} wgmma under way in a warp", kMaximumProducts);
  const EngineIdentity identity(*current_thread->worker, Identity::internal);
  queue.queued.resize(kMaximumProducts);  // allocates once
  WarpProduct& product = queue.queued[static_cast<size_t>(queue.count++)];
  const ProductOperands& first = static_cast<Issue*>(arguments[0])->operands;
  product.operands = first;
  product.group = queue.group;
  for (uint32_t lane = 0; lane < 32; ++lane) {
    const auto& own = *static_cast<Issue*>(arguments[lane]);
    if (own.operands.a != first.a || own.operands.b != first.b || own.operands.accumulate != first.accumulate)
      fail("wgmma: lanes 0 and {} give different operands", lane);
    product.d[lane] = own.d;
    product.scattered[lane] = own.scattered;
    if (first.a_in_registers) std::copy(own.a_registers, own.a_registers + 4, product.a_registers[lane]);
  }
}

void do_commit(uint32_t, void**) {
  ++products_of_this_warp().group;
}

void do_wait(uint32_t, void** arguments) {
  WarpProducts& queue = products_of_this_warp();
  const EngineIdentity identity(*current_thread->worker, Identity::internal);
  const int done_below = queue.group - *static_cast<int*>(arguments[0]);
  int kept = 0;
  for (int i = 0; i < queue.count; ++i) {
    WarpProduct& product = queue.queued[static_cast<size_t>(i)];
    if (product.group < done_below)
      carry_out(product);
    else if (kept++ != i)
      queue.queued[static_cast<size_t>(kept - 1)] = product;
  }
  queue.count = kept;
  queue.fenced = false;
}

void issue(Issue argument, int columns, std::source_location where) {
  const Thread& self = *current_thread;
  if ((self.warp / 4 + 1) * 128 > self.worker->thread_count)
    fail("wgmma at {}: the warpgroup is not complete", place(where));
  argument.operands.columns = static_cast<uint32_t>(columns);
  argument.operands.first_row = self.warp % 4 * 16;
  argument.operands.a_in_registers = argument.a_registers != nullptr;
  warp_collective(kFullWarp, &do_issue, &argument, "wgmma.mma_async", where);
}

ProductOperands operands(uint64_t a, uint64_t b, bool a_transposed, bool b_transposed, bool accumulate) {
  ProductOperands made;
  made.a = a;
  made.b = b;
  made.a_transposed = a_transposed;
  made.b_transposed = b_transposed;
  made.accumulate = accumulate;
  return made;
}

}  // namespace

void wgmma(float* d, int columns, uint64_t a, const uint32_t* a_registers, uint64_t b, bool a_transposed,
           bool b_transposed, bool accumulate, std::source_location where) {
  issue({d, nullptr, a_registers, operands(a, b, a_transposed, b_transposed, accumulate)}, columns, where);
}
void wgmma_scattered(float* const* d, int columns, uint64_t a, const uint32_t* a_registers, uint64_t b,
                     bool a_transposed, bool b_transposed, bool accumulate, std::source_location where) {
  issue({nullptr, d, a_registers, operands(a, b, a_transposed, b_transposed, accumulate)}, columns, where);
}

void wgmma_fence() {
  products_of_this_warp().fenced = true;
}

void wgmma_commit() {
  int none = 0;
  warp_collective(kFullWarp, &do_commit, &none, "wgmma.commit_group", std::source_location::current());
}

void wgmma_wait_groups(int pending) {
  warp_collective(kFullWarp, &do_wait, &pending, "wgmma.wait_group", std::source_location::current());
}

void reset_wgmma(Worker& worker) {
  for (WarpProducts& queue : worker.products) {
    if (queue.count > 0) fail("{} wgmma at the end of a block that nobody has waited for", queue.count);
    queue.group = 0;
    queue.fenced = false;
  }
}

}  // namespace polar::emulator
