// Capture of streams into graphs, and their launch.
#include <algorithm>
#include <random>

#include "options.h"
#include "report.h"
#include "runtime.h"

namespace polar::emulator {
namespace {

void merge(std::vector<size_t>& into, const std::vector<size_t>& more) {
  for (const size_t node : more)
    if (std::find(into.begin(), into.end(), node) == into.end()) into.push_back(node);
}

// Which nodes come before any of `last`, those included.
std::vector<bool> ancestors(const Nodes& nodes, const std::vector<size_t>& last) {
  std::vector<bool> found(nodes.size(), false);
  for (const size_t node : last) found[node] = true;
  for (size_t i = nodes.size(); i-- > 0;)
    if (found[i])
      for (const size_t before : nodes[i].after) found[before] = true;
  return found;
}

// Every order that the dependencies allow is right: the one in which the nodes were captured, one from the
// other end, or a random one.
void run_nodes(const Nodes& nodes) {
  std::mt19937 random(options().seed);
  std::vector<size_t> missing(nodes.size());
  std::vector<size_t> ready;
  for (size_t i = 0; i < nodes.size(); ++i) {
    missing[i] = nodes[i].after.size();
    if (missing[i] == 0) ready.push_back(i);
  }
  while (!ready.empty()) {
    auto next = options().order == Order::forward ? std::min_element(ready.begin(), ready.end())
                                                  : std::max_element(ready.begin(), ready.end());
    if (options().order == Order::random)
      next = ready.begin() + static_cast<std::ptrdiff_t>(random() % ready.size());
    const size_t node = *next;
    ready.erase(next);
    if (nodes[node].work) nodes[node].work();
    for (size_t later = node + 1; later < nodes.size(); ++later)
      if (std::count(nodes[later].after.begin(), nodes[later].after.end(), node) > 0 && --missing[later] == 0)
        ready.push_back(later);
  }
}

bool same_shape(const Nodes& a, const Nodes& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const Node& x, const Node& y) { return x.kernel == y.kernel && x.after == y.after; });
}

}  // namespace

cudaError_t capture_operation(const std::shared_ptr<Stream>& stream, std::function<void()> work,
                              const void* kernel) {
  Capture& capture = *stream->capture;
  if (capture.invalid) return cudaErrorStreamCaptureInvalidated;
  capture.nodes.push_back({std::move(work), kernel, stream->captured_after});
  stream->captured_after = {capture.nodes.size() - 1};
  return cudaSuccess;
}

cudaError_t join_capture(const std::shared_ptr<Stream>& stream, const std::shared_ptr<Capture>& capture,
                         const std::vector<size_t>& after) {
  if (stream->capture != nullptr && stream->capture != capture) return cudaErrorStreamCaptureMerge;
  const auto& under_way = runtime().captures;
  if (std::find(under_way.begin(), under_way.end(), capture) == under_way.end())
    return cudaErrorCapturedEvent;
  if (stream->capture == nullptr) {
    stream->capture = capture;
    stream->captured_after.clear();
    capture->members.push_back(stream);
  }
  merge(stream->captured_after, after);
  return cudaSuccess;
}

cudaError_t refuse_in_capture(const Stream* stream) {
  for (const auto& capture : runtime().captures) {
    const bool concerned =
        stream == nullptr ? capture->mode != cudaStreamCaptureModeRelaxed : stream->capture == capture;
    if (!concerned) continue;
    capture->invalid = true;
    return cudaErrorStreamCaptureUnsupported;
  }
  return cudaSuccess;
}

}  // namespace polar::emulator

using namespace polar::emulator;  // NOLINT: what follows are the C functions of CUDA

struct CUgraph_st {
  Nodes nodes;
};
struct CUgraphExec_st {
  std::shared_ptr<const Nodes> nodes;
};

extern "C" {

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
  const std::lock_guard lock(runtime().mutex);
  const std::shared_ptr<Stream> stream = stream_of(handle);
  if (stream == runtime().default_stream) return finish(cudaErrorStreamCaptureUnsupported);
  if (stream->capture != nullptr) return finish(cudaErrorIllegalState);
  stream->capture = std::make_shared<Capture>();
  stream->capture->origin = stream;
  stream->capture->members = {stream};
  stream->capture->mode = mode;
  stream->captured_after.clear();
  runtime().captures.push_back(stream->capture);
  return finish(cudaSuccess);
}

// Ends the capture whatever comes of it.
cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
  const std::lock_guard lock(runtime().mutex);
  const std::shared_ptr<Stream> stream = stream_of(handle);
  const std::shared_ptr<Capture> capture = stream->capture;
  *graph = nullptr;
  if (capture == nullptr) return finish(cudaErrorIllegalState);
  if (capture->origin != stream) return finish(cudaErrorStreamCaptureUnmatched);
  const std::vector<bool> joined = ancestors(capture->nodes, stream->captured_after);
  const bool unjoined = std::count(joined.begin(), joined.end(), false) > 0;
  for (const auto& member : capture->members) {
    member->capture = nullptr;
    member->captured_after.clear();
  }
  std::erase(runtime().captures, capture);
  if (capture->invalid) return finish(cudaErrorStreamCaptureInvalidated);
  if (unjoined) return finish(cudaErrorStreamCaptureUnjoined);
  *graph = new CUgraph_st{std::move(capture->nodes)};
  return finish(cudaSuccess);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
  const std::lock_guard lock(runtime().mutex);
  const std::shared_ptr<Capture> capture = stream_of(handle)->capture;
  *status = capture == nullptr ? cudaStreamCaptureStatusNone
            : capture->invalid ? cudaStreamCaptureStatusInvalidated
                               : cudaStreamCaptureStatusActive;
  return finish(cudaSuccess);
}
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  static thread_local cudaStreamCaptureMode current = cudaStreamCaptureModeGlobal;
  std::swap(*mode, current);
  return finish(cudaSuccess);
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  if (nodes != nullptr) return finish(cudaErrorNotSupported);
  *count = graph->nodes.size();
  return finish(cudaSuccess);
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return finish(cudaSuccess);
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  *executable = new CUgraphExec_st{std::make_shared<const Nodes>(graph->nodes)};
  return finish(cudaSuccess);
}
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* executable, cudaGraph_t graph,
                                          unsigned long long flags) {
  return cudaGraphInstantiate(executable, graph, flags);
}
// The new parameters of a graph of the same shape.
cudaError_t cudaGraphExecUpdate(cudaGraphExec_t executable, cudaGraph_t graph,
                                cudaGraphExecUpdateResultInfo* result) {
  const bool same = same_shape(*executable->nodes, graph->nodes);
  *result = {};
  result->result = same ? cudaGraphExecUpdateSuccess : cudaGraphExecUpdateErrorTopologyChanged;
  if (!same) return finish(cudaErrorGraphExecUpdateFailure);
  executable->nodes = std::make_shared<const Nodes>(graph->nodes);
  return finish(cudaSuccess);
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) {
  return finish(cudaSuccess);
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;  // launches that are queued keep the nodes
  return finish(cudaSuccess);
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  const std::lock_guard lock(runtime().mutex);
  if (stream_of(stream)->capture != nullptr) return finish(cudaErrorNotSupported);  // a graph within a graph
  return finish(enqueue(stream, [nodes = executable->nodes] { run_nodes(*nodes); }));
}

}  // extern "C"
