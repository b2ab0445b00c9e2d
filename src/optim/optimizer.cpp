#include "optim/optimizer.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/error.h"
#include "optim/adamw.h"
#include "optim/matrix.h"
#include "optim/routing.h"
#include "optim/schedule.h"
#include "optim/shampoo.h"
#include "optim/soap.h"

namespace polar {
namespace {

std::unique_ptr<Group> make_group(const GroupConfig& config, std::vector<Member> members, DType dtype) {
  switch (config.type) {
    case GroupType::adamw:
      return std::make_unique<AdamWGroup>(config, std::move(members), dtype);
    case GroupType::shampoo:
      return std::make_unique<ShampooGroup>(config, std::move(members), dtype);
    case GroupType::soap:
      return std::make_unique<SoapGroup>(config, std::move(members), dtype);
    case GroupType::matrix:
      break;
  }
  return std::make_unique<MatrixGroup>(config, std::move(members), dtype);
}

// Groups whose phase Optimizer::phase has room for.
constexpr size_t kPhases = 32;

using Row = std::vector<std::string>;

std::string aligned(const std::vector<Row>& rows) {
  std::vector<size_t> widths(rows.front().size());
  for (const Row& row : rows)
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  std::string text;
  for (const Row& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) line += fmt::format("{:<{}}", row[i], widths[i] + 2);
    text += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  }
  return text;
}

// The families of one group, one row each, in the order of their first appearance.
std::vector<Row> family_rows(const Group& group) {
  struct Family {
    std::string name;
    const Member* example;
    int count;
  };
  std::vector<Family> families;
  for (const Member& member : group.members()) {
    const std::string name = family_of(member.name);
    const auto same = std::find_if(families.begin(), families.end(), [&](const Family& f) {
      return f.name == name && f.example->shape == member.shape;
    });
    if (same != families.end())
      ++same->count;
    else
      families.push_back({name, &member, 1});
  }
  std::vector<Row> rows;
  for (const Family& family : families) {
    const Rule rule = group.rule(*family.example);
    rows.push_back({family.name, family.example->shape.text(), fmt::format("x{}", family.count),
                    group.config().name, rule.method, fmt::format("lr {}", group.config().lr),
                    "scale " + rule.scale, fmt::format("wd {}", group.config().weight_decay)});
  }
  return rows;
}

// What a rank has of each parameter, by parameter index: all, nothing, or a range of elements.
std::vector<std::vector<Member>> owned_parameters(const ParameterRegistry& registry,
                                                  const Optimizer::Share& share) {
  std::vector<std::vector<Member>> owned(registry.parameters().size());
  if (share.plan == nullptr) {
    for (size_t i = 0; i < owned.size(); ++i) {
      const Parameter& p = registry.parameters()[i];
      owned[i].push_back({p.name, p.shape, 0, p.count(), p.offset, p.offset, p.offset, p.heads});
    }
    return owned;
  }
  for (size_t b = 0; b < share.plan->buckets().size(); ++b)
    for (const Bucket::Piece& piece : share.plan->buckets()[b].pieces) {
      if (piece.owner != share.rank) continue;
      const Parameter& p = registry[piece.parameter];
      const int64_t everywhere = p.offset + piece.begin, own = share.plan->own_offset(b) + piece.position;
      owned[static_cast<size_t>(piece.parameter)].push_back({p.name, p.shape, piece.begin, piece.count,
                                                             share.own_parameters ? own : everywhere, own,
                                                             everywhere, p.heads});
    }
  return owned;
}

// Elements pass through the memory some times, which takes as long as some hundred FLOPs each; five steps of
// a polar factor are seven FLOPs a unit.
constexpr double kElementCost = 64.0, kFlopsOfUnit = 7.0;

// Squares of a side d, with the other side o: a product for the averages, two to precondition with Shampoo's
// root, four to go into SOAP's bases and back; and once in so many steps eigenvectors, or a QR and the turn
// of the momentum.
double preconditioned_cost(const GroupConfig& group, const Shape& shape) {
  double flops = kElementCost * kFlopsOfUnit * static_cast<double>(shape.count());
  for (const int side : {0, 1}) {
    const auto d = static_cast<double>(shape[side]), o = static_cast<double>(shape[1 - side]);
    if (shape[side] > group.max_dimension) continue;
    const bool soap = group.type == GroupType::soap;
    const double renewal = soap ? 7.0 * d * d * d + 2.0 * d * d * o : 11.0 * d * d * d;
    flops += (soap ? 6.0 : 4.0) * d * d * o + renewal / static_cast<double>(group.precondition_frequency);
  }
  return flops / kFlopsOfUnit;
}

// Sign and identity take every element by itself, but for <U, M>. Matrices of layers stay whole all the same:
// cut parameters travel in one bucket after the backward pass, those of layers during it.
bool may_be_cut(const GroupConfig& group, const Parameter& parameter) {
  return group.scale.kind != ScaleKind::nuclear &&
         (parameter.shape.rank() == 1 || layer_of(parameter.name) < 0);
}

}  // namespace

std::string family_of(const std::string& name) {
  std::string family;
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find('.', begin), name.size());
    const std::string part = name.substr(begin, end - begin);
    const bool number = !part.empty() && part.find_first_not_of("0123456789") == std::string::npos;
    if (begin > 0) family += '.';
    family += number ? "*" : part;
    begin = end + 1;
  }
  return family;
}

double owner_cost(const GroupConfig& group, const Parameter& parameter) {
  if (group.type == GroupType::adamw) return 0.0;
  if (group.type != GroupType::matrix) return preconditioned_cost(group, parameter.shape);
  if (takes_vectors(group.oracle.kind))
    return may_be_cut(group, parameter) ? 0.0 : kElementCost * static_cast<double>(parameter.count());
  const auto heads = static_cast<double>(group.per_head ? parameter.heads : 1);
  const auto m = static_cast<double>(parameter.shape[0]) / heads, n = static_cast<double>(parameter.shape[1]);
  const double s = std::min(m, n), l = std::max(m, n);
  return heads * (s * s * (2.0 * l + s));
}

std::vector<double> owner_costs(const OptimizerConfig& config, const ParameterRegistry& registry) {
  std::vector<double> costs;
  const std::vector<int> routes = route_parameters(config.groups, registry);
  for (size_t i = 0; i < routes.size(); ++i)
    costs.push_back(owner_cost(config.groups[static_cast<size_t>(routes[i])], registry.parameters()[i]));
  return costs;
}

Optimizer::Optimizer(const OptimizerConfig& config, const ScheduleConfig& schedule,
                     const ParameterRegistry& registry, int64_t max_steps, DType dtype, const Share& share)
    : max_steps_(max_steps), dtype_(dtype) {
  const std::vector<int> routes = route_parameters(config.groups, registry);
  const std::vector<std::vector<Member>> owned = owned_parameters(registry, share);
  for (size_t g = 0; g < config.groups.size(); ++g) {
    std::vector<Member> members;
    for (size_t i = 0; i < routes.size(); ++i) {
      if (routes[i] == static_cast<int>(g)) members.insert(members.end(), owned[i].begin(), owned[i].end());
    }
    const GroupType type = config.groups[g].type;
    if (g >= kPhases && (type == GroupType::shampoo || type == GroupType::soap))
      fail_usage("optimizer.groups.{} ({}): expected one of the first {} groups; move it up", g,
                 config.groups[g].name, kPhases);
    schedules_.push_back(config.groups[g].schedule.value_or(schedule));
    groups_.push_back(make_group(config.groups[g], std::move(members), dtype));
  }
}

// bf16 where the device has it and the group takes reduced products, as published Muon does.
bool Optimizer::iterates_in_bf16(const GroupConfig& group, const Ops& ops) const {
  return dtype_ == DType::f32 && ops.supports(DType::bf16) && group.type == GroupType::matrix &&
         takes_reduced_products(group.oracle);
}

void Optimizer::plan(MemoryPlan& memory, const Ops& ops) {
  scratch_.set_dtype(dtype_);
  bf16_scratch_.set_dtype(DType::bf16);
  in_bf16_.clear();
  for (const auto& group : groups_) {
    in_bf16_.push_back(iterates_in_bf16(group->config(), ops));
    group->plan(memory, ops, in_bf16_.back() ? bf16_scratch_ : scratch_);
  }
  scratch_.plan(memory);
  bf16_scratch_.plan(memory);
}

void Optimizer::bind(Ops& ops, const Arena& arena) {
  ops_ = &ops;
  for (const auto& group : groups_) group->bind(ops, arena);
  scratch_.bind(ops, arena);
  bf16_scratch_.bind(ops, arena);
}

void Optimizer::step(const StepTensors& tensors, uint64_t phase) {
  scratch_.begin_step(*ops_, tensors.control);
  bf16_scratch_.begin_step(*ops_, tensors.control);
  StepTensors of_group = tensors;
  for (size_t g = 0; g < groups_.size(); ++g) {
    const auto place = static_cast<int64_t>(g);
    if (tensors.betas) of_group.betas = tensors.betas.slice(place, {1});
    of_group.phase = g < kPhases ? static_cast<GroupPhase>(phase >> (2 * g) & 3U) : GroupPhase::plain;
    groups_[g]->step(*ops_, tensors.learning_rates.slice(place, {1}), of_group, scratch_of(g));
  }
}

uint64_t Optimizer::phase(int64_t applied_steps) const {
  uint64_t phase = 0;
  for (size_t g = 0; g < std::min(groups_.size(), kPhases); ++g)
    phase |= static_cast<uint64_t>(groups_[g]->phase(applied_steps)) << (2 * g);
  return phase;
}

std::optional<Diagnosis> Optimizer::diagnose(const std::string& parameter, int64_t step,
                                             const StepTensors& tensors, const Spectrum& spectrum) const {
  for (size_t g = 0; g < groups_.size(); ++g)
    if (auto found = groups_[g]->diagnose(*ops_, parameter, learning_rate(g, step), beta(g, step), tensors,
                                          scratch_of(g), spectrum))
      return found;
  return std::nullopt;
}

std::vector<StateTensor> Optimizer::state() const {
  std::vector<StateTensor> list;
  for (const auto& group : groups_)
    for (StateTensor& tensor : group->state()) list.push_back(std::move(tensor));
  return list;
}

double Optimizer::learning_rate(size_t group, int64_t step) const {
  return groups_[group]->config().lr * learning_rate_factor(schedules_[group], step, max_steps_);
}

std::vector<double> Optimizer::learning_rates(int64_t step) const {
  std::vector<double> rates;
  for (size_t g = 0; g < groups_.size(); ++g) rates.push_back(learning_rate(g, step));
  return rates;
}

double Optimizer::beta(size_t group, int64_t step) const {
  const MomentumConfig& momentum = groups_[group]->config().momentum;
  if (step >= momentum.warmup_steps) return momentum.beta;
  const double done = static_cast<double>(step) / static_cast<double>(momentum.warmup_steps);
  return momentum.warmup_beta + done * (momentum.beta - momentum.warmup_beta);
}

std::vector<std::string> Optimizer::group_names() const {
  std::vector<std::string> names;
  for (const auto& group : groups_) names.push_back(group->config().name);
  return names;
}

std::string Optimizer::table() const {
  std::vector<Row> rows;
  for (const auto& group : groups_)
    for (Row& row : family_rows(*group)) rows.push_back(std::move(row));
  return rows.empty() ? std::string() : aligned(rows);
}

}  // namespace polar
