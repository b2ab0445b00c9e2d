// cuDNN's fused attention as an engine: one graph a case, built by cuDNN's header-only front end, of which
// this is the only file. Compiled where both are found (POLAR_CUDNN in CMake), in about two minutes.
#include "backend/cuda/attention_cudnn.h"

#include <cudnn_frontend.h>

#include <map>
#include <mutex>
#include <unordered_map>

#include "backend/cuda/cudnn_library.h"
#include "backend/cuda/runtime.h"
#include "base/error.h"

namespace polar::cuda {
namespace {

namespace fe = cudnn_frontend;
using fe::graph::Graph;
using fe::graph::Tensor_attributes;

// What the tensors of a graph are called.
enum Id : int64_t { kQ = 1, kK, kV, kOutput, kLse, kDOutput, kDQ, kDK, kDV };
using Pointers = std::unordered_map<int64_t, void*>;

#define CUDNN_CHECK(...) check_cudnn((__VA_ARGS__), #__VA_ARGS__, __FILE__, __LINE__)
void check_cudnn(cudnnStatus_t status, const char* call, const char* file, int line) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  fail("cuDNN: {} at {}:{} gave {}; attention.engine=native does without cuDNN", call_text(call),
       file_name(file), line, cudnnGetErrorString(status));
}
void check_cudnn(const fe::error_t& status, const char* call, const char* file, int line) {
  if (status.is_good()) return;
  fail("cuDNN: {} at {}:{} gave {}; attention.engine=native does without cuDNN", call_text(call),
       file_name(file), line, status.err_msg);
}

struct Plan {
  Graph graph;
  size_t workspace_bytes = 0;
  std::string refusal;  // empty: it can be executed
};

class CudnnAttention final : public AttentionEngine {
 public:
  CudnnAttention() {
    cudnnHandle_t handle = nullptr;
    CUDNN_CHECK(cudnnCreate(&handle));
    handle_.reset(handle);
  }

  std::string name() const override { return "cuDNN " + fe::detail::get_backend_version_string(); }
  std::string refusal(const AttentionCase& c, size_t workspace_bytes) override;
  void forward(const AttentionForward& args, cudaStream_t stream) override;
  void backward(const AttentionBackward& args, cudaStream_t stream) override;

 private:
  Plan& plan(const AttentionCase& c);
  void execute(const AttentionCase& c, Pointers pointers, const Tensor& workspace, cudaStream_t stream);

  struct Destroy {
    void operator()(cudnnHandle_t handle) const noexcept { cudnnDestroy(handle); }
  };
  std::unique_ptr<cudnnContext, Destroy> handle_;
  std::map<AttentionCase, std::unique_ptr<Plan>> plans_;
};

using TensorPointer = std::shared_ptr<Tensor_attributes>;

// (B*T, H*D) rows, `stride` elements apart, as cuDNN's (B, H, T, D).
Tensor_attributes rows_of(const AttentionCase& c, Id id, const char* name, int64_t heads, int64_t stride) {
  return Tensor_attributes()
      .set_name(name)
      .set_uid(id)
      .set_data_type(fe::DataType_t::BFLOAT16)
      .set_dim({c.batch, heads, c.query_time, c.head_dim})
      .set_stride({c.query_time * stride, c.head_dim, stride, 1});
}
// (B, Hq, T), as cuDNN's (B, Hq, T, 1). Its statistics are what lse is: log sum exp of the scaled scores.
Tensor_attributes lse_of(const AttentionCase& c) {
  return Tensor_attributes()
      .set_name("lse")
      .set_uid(kLse)
      .set_data_type(fe::DataType_t::FLOAT)
      .set_dim({c.batch, c.heads_q, c.query_time, 1})
      .set_stride({c.heads_q * c.query_time, c.query_time, 1, 1});
}
// What the graph makes lies where `like` says.
void set_output(const TensorPointer& tensor, const Tensor_attributes& like) {
  tensor->set_output(true)
      .set_uid(like.get_uid())
      .set_data_type(like.get_data_type())
      .set_dim(like.get_dim())
      .set_stride(like.get_stride());
}

// Causal, and with a window the last `window` keys. Both passes have the same options.
template <class Options>
Options masked(const AttentionCase& c) {
  Options options;
  options.set_name("attention").set_attn_scale(static_cast<float>(c.scale));
  options.set_diagonal_alignment(fe::DiagonalAlignment_t::TOP_LEFT).set_diagonal_band_right_bound(0);
  if (c.window > 0) options.set_diagonal_band_left_bound(static_cast<int>(c.window));
  return options;
}

void describe_forward(const AttentionCase& c, Graph& graph) {
  const TensorPointer q = graph.tensor(rows_of(c, kQ, "q", c.heads_q, c.q_stride));
  const TensorPointer k = graph.tensor(rows_of(c, kK, "k", c.heads_kv, c.k_stride));
  const TensorPointer v = graph.tensor(rows_of(c, kV, "v", c.heads_kv, c.v_stride));
  auto options = masked<fe::graph::SDPA_attributes>(c);
  options.set_generate_stats(c.lse);
  const auto [output, lse] = graph.sdpa(q, k, v, options);
  set_output(output, rows_of(c, kOutput, "output", c.heads_q, c.output_stride));
  if (c.lse) set_output(lse, lse_of(c));
}

void describe_backward(const AttentionCase& c, Graph& graph) {
  const TensorPointer q = graph.tensor(rows_of(c, kQ, "q", c.heads_q, c.q_stride));
  const TensorPointer k = graph.tensor(rows_of(c, kK, "k", c.heads_kv, c.k_stride));
  const TensorPointer v = graph.tensor(rows_of(c, kV, "v", c.heads_kv, c.v_stride));
  const TensorPointer output = graph.tensor(rows_of(c, kOutput, "output", c.heads_q, c.output_stride));
  const TensorPointer doutput = graph.tensor(rows_of(c, kDOutput, "doutput", c.heads_q, c.doutput_stride));
  const TensorPointer lse = graph.tensor(lse_of(c));
  auto options = masked<fe::graph::SDPA_backward_attributes>(c);
  options.set_deterministic_algorithm(true);
  const auto [dq, dk, dv] = graph.sdpa_backward(q, k, v, output, doutput, lse, options);
  set_output(dq, rows_of(c, kDQ, "dq", c.heads_q, c.dq_stride));
  set_output(dk, rows_of(c, kDK, "dk", c.heads_kv, c.dk_stride));
  set_output(dv, rows_of(c, kDV, "dv", c.heads_kv, c.dv_stride));
}

// What the engine leaves to our kernels without asking cuDNN.
std::string not_ours(const AttentionCase& c) {
  if (c.dtype != DType::bf16) return "it has no fp32";
  if (c.query_time != c.key_time) return "decoding with a cache is not asked of it";
  if (c.documents) return "document masks are not asked of it";
  return "";
}

// For the GPU of the handle or, without one, for that which the graph names.
void make(const AttentionCase& c, cudnnHandle_t handle, Plan& plan) {
  plan.refusal = not_ours(c);
  if (!plan.refusal.empty()) return;
  Graph& graph = plan.graph;
  graph.set_io_data_type(fe::DataType_t::BFLOAT16)
      .set_intermediate_data_type(fe::DataType_t::FLOAT)
      .set_compute_data_type(fe::DataType_t::FLOAT);
  if (c.backward)
    describe_backward(c, graph);
  else
    describe_forward(c, graph);
  // The heuristic's first plan that is supported: the same in every process, nothing is measured.
  fe::error_t status = graph.validate();
  if (status.is_good()) status = graph.build_operation_graph(handle);
  if (status.is_good()) status = graph.create_execution_plans({fe::HeurMode_t::A});
  if (status.is_good()) status = graph.check_support();
  if (status.is_good()) status = graph.build_plans(fe::BuildPlanPolicy_t::HEURISTICS_CHOICE);
  int64_t bytes = 0;
  if (status.is_good()) status = graph.get_workspace_size(bytes);
  plan.workspace_bytes = static_cast<size_t>(bytes);
  if (status.is_bad()) plan.refusal = status.err_msg.empty() ? "no reason given" : status.err_msg;
}

void make_or_say_why(const AttentionCase& c, cudnnHandle_t handle, Plan& plan) {
  try {
    make(c, handle, plan);
  } catch (const std::exception& error) {  // the front end's own, of the standard library
    plan.refusal = error.what();
  }
}

Plan& CudnnAttention::plan(const AttentionCase& c) {
  std::unique_ptr<Plan>& place = plans_[c];
  if (place == nullptr) {
    place = std::make_unique<Plan>();
    make_or_say_why(c, handle_.get(), *place);
  }
  return *place;
}

std::string CudnnAttention::refusal(const AttentionCase& c, size_t workspace_bytes) {
  const Plan& planned = plan(c);
  if (!planned.refusal.empty() || planned.workspace_bytes <= workspace_bytes) return planned.refusal;
  return fmt::format("it needs {} bytes of workspace where {} are planned", planned.workspace_bytes,
                     workspace_bytes);
}

void CudnnAttention::execute(const AttentionCase& c, Pointers pointers, const Tensor& workspace,
                             cudaStream_t stream) {
  Plan& planned = plan(c);
  if (const std::string why = refusal(c, workspace ? workspace.bytes() : 0); !why.empty())
    fail("{} asked of {}, which cannot: {}", c.text(), name(), why);
  CUDNN_CHECK(cudnnSetStream(handle_.get(), stream));
  CUDNN_CHECK(planned.graph.execute(handle_.get(), pointers, workspace.data));
}

void CudnnAttention::forward(const AttentionForward& args, cudaStream_t stream) {
  Pointers pointers{{kQ, args.q.data}, {kK, args.k.data}, {kV, args.v.data}, {kOutput, args.output.data}};
  if (args.lse) pointers[kLse] = args.lse.data;
  execute(case_of(args), std::move(pointers), args.workspace, stream);
}

void CudnnAttention::backward(const AttentionBackward& args, cudaStream_t stream) {
  execute(case_of(args),
          {{kQ, args.q.data},
           {kK, args.k.data},
           {kV, args.v.data},
           {kOutput, args.output.data},
           {kDOutput, args.doutput.data},
           {kLse, args.lse.data},
           {kDQ, args.dq.data},
           {kDK, args.dk.data},
           {kDV, args.dv.data}},
          args.workspace, stream);
}

}  // namespace

CudnnPlan plan_cudnn_attention(const AttentionCase& c, const std::string& gpu) {
  const auto properties = std::make_shared<fe::DeviceProperties>();
  CUDNN_CHECK(properties->deserialize(std::vector<uint8_t>(gpu.begin(), gpu.end())));
  Plan plan;
  plan.graph.set_device_properties(properties);
  make_or_say_why(c, nullptr, plan);
  return {plan.refusal, plan.workspace_bytes};
}

bool cudnn_compiled_in() {
  return true;
}

std::unique_ptr<AttentionEngine> make_cudnn_attention(std::string& problem) {
  problem = load_cudnn();
  if (!problem.empty()) {
    problem +=
        "; install cuDNN 9 for CUDA 13, or name its folder in LD_LIBRARY_PATH (tools/setup.sh --cudnn)";
    return nullptr;
  }
  try {
    return std::make_unique<CudnnAttention>();
  } catch (const Error& error) {
    problem = error.what();
    return nullptr;
  }
}

}  // namespace polar::cuda
