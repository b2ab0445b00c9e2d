// The part of the table of configuration keys (config/fields.h) that is about the optimizer.
#pragma once

#include <concepts>
#include <string_view>
#include <type_traits>

#include "config/experiment.h"
#include "config/key.h"

namespace polar {

// Sections are visited for reading (S) and for writing (const S).
template <class T, class S>
concept Section = std::same_as<std::remove_const_t<T>, S>;

template <class Visitor, Section<MomentumConfig> C>
void fields(Visitor& visit, C& c) {
  const bool used = c.kind != MomentumKind::none;
  visit(
      {.name = "kind",
       .doc =
           "first: polar of the EMA; polar_first: EMA of the polar factor; heavy_ball: b M + G; lion: polar "
           "of an EMA that takes more of the new gradient"},
      c.kind);
  visit({.name = "beta",
         .doc = "decay of the momentum",
         .range = below(0, 1),
         .applies = used,
         .applies_to = "a momentum kind other than none"},
        c.beta);
  visit({.name = "nesterov",
         .doc = "look one step ahead",
         .applies = used && c.kind != MomentumKind::lion,
         .applies_to = "a momentum kind other than none and lion"},
        c.nesterov);
  visit({.name = "interpolation",
         .doc = "share of the old momentum in what the oracle sees",
         .range = {.low = 0, .high = 1, .low_open = true, .high_open = true},
         .applies = c.kind == MomentumKind::lion,
         .applies_to = "momentum kind lion"},
        c.interpolation);
  visit({.name = "warmup_steps",
         .unit = "steps",
         .doc = "beta goes linearly from warmup_beta to its value; 0: at once",
         .range = count(0),
         .applies = used,
         .applies_to = "a momentum kind other than none"},
        c.warmup_steps);
  visit({.name = "warmup_beta",
         .doc = "beta of the first step of the momentum's warm-up",
         .range = below(0, 1),
         .applies = used,
         .applies_to = "a momentum kind other than none"},
        c.warmup_beta);
}

template <class Visitor, Section<OracleConfig> C>
void fields(Visitor& visit, C& c) {
  visit({.name = "kind",
         .doc = "what computes the orthogonal factor: by products only (newton_schulz, polar_express), by "
                "factorizations (qdwh, zolo_pd), by eigenvalues (gram_eigh: for one short side), exactly "
                "(svd); in its "
                "place: sign (of every element), identity"},
        c.kind);
  const bool polynomial = c.kind == OracleKind::newton_schulz || c.kind == OracleKind::polar_express;
  const bool rational = c.kind == OracleKind::qdwh || c.kind == OracleKind::zolo_pd;
  visit({.name = "steps",
         .unit = "iterations",
         .doc = "steps of the iteration; 0: as many as qdwh needs to converge",
         .range = between(c.kind == OracleKind::qdwh ? 0 : 1, 100),
         .applies = polynomial || c.kind == OracleKind::qdwh,
         .applies_to = "oracle kind newton_schulz, polar_express or qdwh"},
        c.steps);
  visit({.name = "coefficients",
         .doc = "of x <- a x + b x^3 + c x^5: a name, or one [a, b, c] a step, the last one repeated",
         .choices = kCoefficientNames,
         .applies = c.kind == OracleKind::newton_schulz,
         .applies_to = "oracle kind newton_schulz"},
        Coefficients{c.coefficients, c.custom});
  visit({.name = "lower_bound",
         .doc = "smallest normalised singular value that the polynomials are made for",
         .range = {.low = 0, .high = 1, .low_open = true, .high_open = true},
         .applies = c.kind == OracleKind::polar_express,
         .applies_to = "oracle kind polar_express"},
        c.lower_bound);
  visit({.name = "cushion",
         .doc = "no polynomial is made for values below this share of the largest",
         .range = {.low = 0, .high = 1, .high_open = true},
         .applies = c.kind == OracleKind::polar_express,
         .applies_to = "oracle kind polar_express"},
        c.cushion);
  visit({.name = "safety",
         .doc = "stretches normalisation and polynomials, for values that rounding has brought above 1",
         .range = between(1, 2),
         .applies = c.kind == OracleKind::polar_express,
         .applies_to = "oracle kind polar_express"},
        c.safety);
  visit({.name = "condition",
         .doc = "largest condition number that the weights are made for; 0: 1 / epsilon of fp32",
         .range = between(0, 1e17),
         .applies = rational,
         .applies_to = "oracle kind qdwh or zolo_pd"},
        c.condition);
  visit({.name = "preconditioning",
         .doc = "aol: rows scaled by their sums in the Gram matrix first, for a step fewer",
         .choices = "none | aol",
         .applies = polynomial,
         .applies_to = "a polynomial oracle kind"},
        c.preconditioning);
  visit({.name = "refine",
         .doc = "one cubic Newton-Schulz step behind the others, as the PolarGrad authors' qdwh has it",
         .applies = c.kind == OracleKind::qdwh,
         .applies_to = "oracle kind qdwh"},
        c.refine);
  visit(
      {.name = "products",
       .doc = "reduced: bf16 on CUDA, 16 significant bits on CPUs with matrix units; auto: with compute bf16",
       .choices = "auto | full | reduced",
       .applies = polynomial,
       .applies_to = "a polynomial oracle kind"},
      c.products);
}

template <class Visitor, Section<ScaleConfig> C>
void fields(Visitor& visit, C& c) {
  visit(
      {.name = "kind",
       .doc =
           "nuclear <M,U>^alpha, rms_match 0.2 sqrt(max(m,n)), spectral sqrt(m/n), jordan sqrt(max(1,m/n))"},
      c.kind);
  visit({.name = "alpha",
         .doc = "power of the nuclear norm: 0 is Muon, 1 is PolarGrad",
         .range = between(-8, 8),
         .applies = c.kind == ScaleKind::nuclear,
         .applies_to = "scale kind nuclear"},
        c.alpha);
  visit({.name = "factor", .doc = "a constant on top", .range = above(0)}, c.factor);
}

template <class Visitor, Section<ScheduleConfig> C>
void fields(Visitor& visit, C& c) {
  visit({.name = "kind",
         .doc = "the learning rate after warm-up; wsd: stable, then falling as 1 - sqrt, or linearly"},
        c.kind);
  visit({.name = "warmup_steps",
         .unit = "steps",
         .doc = "the rate rises linearly to lr; less than train.max_steps",
         .range = count(0)},
        c.warmup_steps);
  visit({.name = "decay_fraction",
         .doc = "share of all steps over which the rate falls",
         .range = between(0, 1),
         .applies = c.kind == ScheduleKind::wsd || c.kind == ScheduleKind::wsd_linear,
         .applies_to = "schedule kind wsd or wsd_linear"},
        c.decay_fraction);
  visit({.name = "final",
         .doc = "share of lr at the last step",
         .range = between(0, 1),
         .applies = c.kind != ScheduleKind::constant,
         .applies_to = "a schedule kind other than constant"},
        c.final);
}

template <class Visitor, Section<GroupConfig> C>
void fields(Visitor& visit, C& c) {
  const bool matrix = c.type == GroupType::matrix;
  const bool preconditioned = c.type == GroupType::shampoo || c.type == GroupType::soap;
  constexpr std::string_view kMatrixTypes = "a matrix type (muon, polargrad, sgd, signsgd, lion, matrix)";
  visit({.name = "match",
         .doc = "patterns (* and ?) of parameter names; the first group that matches takes the parameter",
         .required = true},
        c.match);
  visit({.name = "type",
         .doc = "muon, polargrad, sgd, signsgd and lion are names for sets of the matrix keys",
         .choices = kGroupTypes,
         .required = true},
        c.name);
  visit({.name = "lr", .doc = "learning rate at the top of the schedule", .range = at_least(0)}, c.lr);
  visit({.name = "weight_decay", .doc = "decoupled: W <- (1 - lr weight_decay) W", .range = at_least(0)},
        c.weight_decay);
  visit({.name = "cautious_decay", .doc = "decay only the elements that the step brings nearer to zero"},
        c.cautious_decay);
  visit({.name = "betas",
         .doc = "decay of first and second moment; of shampoo the second may be 1: sums that never decay",
         .range = c.type == GroupType::shampoo ? between(0, 1) : below(0, 1),
         .applies = !matrix,
         .applies_to = "type adamw, shampoo or soap"},
        c.betas);
  visit({.name = "eps",
         .doc = "added to the root of the second moment; of shampoo to the eigenvalues of L and R",
         .range = above(0),
         .applies = !matrix,
         .applies_to = "type adamw, shampoo or soap"},
        c.eps);
  visit({.name = "precondition_frequency",
         .unit = "steps",
         .doc = "applied steps from one inverse root (shampoo) or eigenbasis (soap) to the next",
         .range = count(1),
         .applies = preconditioned,
         .applies_to = "type shampoo or soap"},
        c.precondition_frequency);
  visit({.name = "max_dimension",
         .unit = "rows or columns",
         .doc = "a side of a matrix that is longer is not preconditioned",
         .range = count(1),
         .applies = preconditioned,
         .applies_to = "type shampoo or soap"},
        c.max_dimension);
  visit({.name = "momentum", .doc = "what the oracle sees", .applies = matrix, .applies_to = kMatrixTypes},
        c.momentum);
  visit({.name = "oracle", .doc = "the orthogonal factor U", .applies = matrix, .applies_to = kMatrixTypes},
        c.oracle);
  visit({.name = "scale", .doc = "what U is multiplied with", .applies = matrix, .applies_to = kMatrixTypes},
        c.scale);
  visit(
      {.name = "neuron_beta",
       .doc =
           "NorMuon: decay of the second moment by which U's rows (columns if wide) are evened out; 0: they "
           "are not",
       .range = below(0, 1),
       .applies = matrix,
       .applies_to = kMatrixTypes},
      c.neuron_beta);
  visit({.name = "per_head",
         .doc = "q_proj and k_proj: every head is a matrix of its own",
         .applies = matrix,
         .applies_to = kMatrixTypes},
        c.per_head);
  visit({.name = "schedule", .doc = "this group's own schedule; left out: the run's"}, c.schedule);
}

template <class Visitor, Section<OptimizerConfig> C>
void fields(Visitor& visit, C& c) {
  visit({.name = "groups", .doc = "first match wins, no parameter may be left over", .required = true},
        c.groups);
  visit({.name = "clip_norm",
         .doc = "largest norm of the whole gradient; 0: no clipping",
         .range = at_least(0)},
        c.clip_norm);
}

}  // namespace polar
