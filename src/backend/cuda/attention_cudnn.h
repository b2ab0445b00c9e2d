// What cuDNN plans for a GPU that need not be here. For tests: the engine itself is behind
// attention_engine.h.
#pragma once

#include "backend/cuda/attention_engine.h"

namespace polar::cuda {

struct CudnnPlan {
  std::string refusal;  // empty: cuDNN has a plan
  size_t workspace_bytes = 0;
};
// `gpu`: its description in cuDNN's own JSON (CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, cuDNN 9.8 and
// later). cuDNN must have been loaded (load_cudnn). Compiles the kernels, and runs nothing.
CudnnPlan plan_cudnn_attention(const AttentionCase& c, const std::string& gpu);

}  // namespace polar::cuda
