// Matrix products through cuBLASLt: plans by shape, layout and dtypes.
#pragma once

namespace polar::cuda {

class GemmPlans {};

}  // namespace polar::cuda
