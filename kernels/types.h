// Types that kernels, their launchers and the host code of the backend share.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

namespace polar::kernels {

using bf16 = __nv_bfloat16;

}  // namespace polar::kernels
