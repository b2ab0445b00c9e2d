// What is there instead of attention_cudnn.cpp in a binary that is built without cuDNN.
#include "backend/cuda/attention_engine.h"

namespace polar::cuda {

bool cudnn_compiled_in() {
  return false;
}

std::unique_ptr<AttentionEngine> make_cudnn_attention(std::string& problem) {
  problem = "this binary was built without cuDNN";
  return nullptr;
}

}  // namespace polar::cuda
