// Barriers in shared memory (mbarrier). Their state is kept in the 64-bit word itself.
#pragma once

#include <cstdint>
#include <source_location>

namespace polar::emulator {

void mbarrier_initialize(uint64_t* barrier, int arrivals, std::source_location where);
// One thread arrives; the phase also waits for `expected_bytes` more of copies.
void mbarrier_arrive_one(uint64_t* barrier, uint32_t expected_bytes, std::source_location where);
// Waits until the phase of this parity has ended.
void mbarrier_wait_phase(uint64_t* barrier, uint32_t parity, std::source_location where);
// For the TMA engine: so many bytes have come.
void mbarrier_complete(uint64_t* barrier, uint32_t bytes);

}  // namespace polar::emulator
