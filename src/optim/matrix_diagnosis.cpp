// The step of one matrix once more, for diagnostics: what the oracle saw comes back from momentum and
// gradient.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

#include "optim/matrix.h"

namespace polar {
namespace {

double frobenius(const std::vector<double>& x) {
  return std::sqrt(std::inner_product(x.begin(), x.end(), x.begin(), 0.0));
}

template <class T>
std::vector<double> downloaded(Ops& ops, const Tensor& tensor) {
  std::vector<T> values(static_cast<size_t>(tensor.count()));
  ops.download(values.data(), tensor);
  ops.synchronize();
  return {values.begin(), values.end()};
}

}  // namespace

std::vector<double> download_values(Ops& ops, const Tensor& tensor) {
  if (tensor.dtype == DType::f32) return downloaded<float>(ops, tensor);
  if (tensor.dtype == DType::f64) return downloaded<double>(ops, tensor);
  std::vector<double> values = downloaded<uint16_t>(ops, tensor);
  for (double& value : values) value = std::bit_cast<float>(static_cast<uint32_t>(value) << 16);
  return values;
}

// Leaves in `x` (1, m, n) what the oracle saw of the part in the step that `work` speaks of.
void MatrixGroup::see_again(const Work& work, double beta, const Tensor& x) const {
  const MomentumConfig& config = config_.momentum;
  MomentumUpdate args = gradient_args(work, x);
  if (gradient_momentum()) {
    if (x.dtype == work.momentum.dtype)
      work.ops.copy(work.momentum, x);
    else
      work.ops.cast(work.momentum, x);
    if (momentum_is_input()) return;
    args.beta = beta;
    args.gain = config.kind == MomentumKind::heavy_ball ? 1.0 : 1.0 - beta;
    if (config.kind == MomentumKind::lion) {  // by the momentum before, which is (M - (1 - b) G) / b
      const double c = config.interpolation;
      args.beta = c / beta;
      args.gain = (1.0 - c) - args.beta * (1.0 - beta);
    }
  }
  work.ops.momentum_update(args);
}

std::optional<Diagnosis> MatrixGroup::diagnose(Ops& ops, const std::string& parameter, double lr, double beta,
                                               const StepTensors& tensors, const MatrixScratch& scratch,
                                               const Spectrum& spectrum) const {
  const auto part = std::find_if(parts_.begin(), parts_.end(),
                                 [&](const MatrixPart& p) { return members_[p.member].name == parameter; });
  if (part == parts_.end() || takes_vectors(config_.oracle.kind)) return std::nullopt;
  if (config_.momentum.kind == MomentumKind::lion && beta == 0.0)
    return std::nullopt;  // nothing is left of M
  const auto index = static_cast<size_t>(part - parts_.begin());
  const auto owner = std::find_if(batches_.begin(), batches_.end(),
                                  [&](const MatrixBatch& b) { return b.begin <= index && index < b.end; });
  MatrixBatch one = *owner;
  const int64_t m = one.shape[1], n = one.shape[2];
  one.state_offset += static_cast<int64_t>(index - one.begin) * m * n;
  one.begin = index;
  one.end = index + 1;
  one.shape = {1, m, n};
  const Tensor momentum = momentum_ ? momentum_.slice(one.state_offset, one.shape) : Tensor{};
  const Tensor x = scratch.x.slice(0, one.shape), y = scratch.y.slice(0, one.shape);
  const Work work{.ops = ops,
                  .scratch = scratch,
                  .batch = one,
                  .lr = {},
                  .tensors = tensors,
                  .momentum = momentum,
                  .x = x,
                  .y = y,
                  .seen = {}};
  see_again(work, beta, x);
  std::vector<double> seen = download_values(ops, x);
  std::vector<double> u = download_values(ops, oracle_.factor(ops, x, y, scratch));

  Diagnosis found;
  found.inner = std::inner_product(seen.begin(), seen.end(), u.begin(), 0.0);
  double size = frobenius(u);
  if (config_.momentum.kind == MomentumKind::polar_first) {
    std::vector<double> direction = download_values(ops, momentum);
    for (size_t i = 0; config_.momentum.nesterov && i < u.size(); ++i)
      direction[i] = beta * direction[i] + (1.0 - beta) * u[i];
    size = frobenius(direction);
  }
  found.orthogonality = spectrum.orthogonality_error(u, m, n);
  const std::vector<double> values = spectrum.singular_values(seen, m, n);
  found.nuclear = std::accumulate(values.begin(), values.end(), 0.0);
  found.condition =
      values.back() > 0.0 ? values.front() / values.back() : std::numeric_limits<double>::infinity();
  const double nuclear =
      config_.scale.kind == ScaleKind::nuclear ? std::pow(std::abs(found.inner), config_.scale.alpha) : 1.0;
  found.effective_lr = lr * multiplier(config_.scale, part->shape) * nuclear;
  found.update_rms = found.effective_lr * size / std::sqrt(static_cast<double>(m * n));
  return found;
}

}  // namespace polar
