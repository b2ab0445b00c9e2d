// THE table of all configuration keys: name, unit, meaning, range. Reading, writing, the key lists in
// messages, configs/reference.yaml and the configuration hash are all made from it; an option more is a line
// more here. Types and defaults are those of the members. A visitor is called as visit(Key, member) for each
// key in order.
#pragma once

#include "config/experiment.h"
#include "config/optimizer_fields.h"

namespace polar {

template <class Visitor, Section<RunConfig> C>
void fields(Visitor& visit, C& c) {
  visit({.name = "name", .doc = "name of the run in logs and reports", .changes_result = false}, c.name);
  visit({.name = "dir", .doc = "directory of the run; empty: runs/<name>", .changes_result = false}, c.dir);
  visit({.name = "seed", .doc = "determines the initial weights and the order of the samples"}, c.seed);
  visit({.name = "device",
         .doc = "where to compute; auto: a GPU if there is one",
         .choices = "auto | cpu | cuda",
         .changes_result = false},
        c.device);
  visit({.name = "threads",
         .doc = "CPU threads; 0: OMP_NUM_THREADS, else all cores",
         .range = between(0, 4096),
         .changes_result = false},
        c.threads);
  visit({.name = "gemm_cache",
         .doc = "CUDA: a file that keeps which GEMM algorithms were measured to be the fastest on this card; "
                "empty: "
                "nothing is measured, the library's first proposal is taken"},
        c.gemm_cache);
}

template <class Visitor, Section<ModelConfig> C>
void fields(Visitor& visit, C& c) {
  visit({.name = "architecture", .doc = "qwen2: bias on q, k, v; qwen3: RMSNorm on the heads of q and k"},
        c.architecture);
  visit({.name = "vocab_size",
         .unit = "tokens",
         .doc = "rows of embedding and head",
         .range = between(1, model_limits::kVocabSize),
         .required = true},
        c.vocab_size);
  visit({.name = "hidden_size",
         .unit = "features",
         .doc = "width of the residual stream",
         .range = between(1, model_limits::kHiddenSize),
         .required = true},
        c.hidden_size);
  visit({.name = "num_hidden_layers",
         .unit = "layers",
         .doc = "decoder layers",
         .range = between(1, model_limits::kLayers),
         .required = true},
        c.num_hidden_layers);
  visit({.name = "num_attention_heads",
         .unit = "heads",
         .doc = "query heads",
         .range = between(1, model_limits::kHeads),
         .required = true},
        c.num_attention_heads);
  visit({.name = "num_key_value_heads",
         .unit = "heads",
         .doc = "key and value heads; divides num_attention_heads",
         .range = between(1, model_limits::kHeads),
         .required = true},
        c.num_key_value_heads);
  visit({.name = "head_dim",
         .unit = "features",
         .doc = "width of a head, even; 0: hidden_size / num_attention_heads",
         .range = between(0, model_limits::kHeadDim)},
        c.head_dim);
  visit({.name = "intermediate_size",
         .unit = "features",
         .doc = "width of the SwiGLU MLP",
         .range = between(1, model_limits::kIntermediateSize),
         .required = true},
        c.intermediate_size);
  visit({.name = "max_position_embeddings",
         .unit = "tokens",
         .doc = "longest sequence in config.json; 0: data.sequence_length",
         .range = between(0, model_limits::kPositions)},
        c.max_position_embeddings);
  visit({.name = "rope_theta", .doc = "base of the rotary frequencies", .range = above(0)}, c.rope_theta);
  visit({.name = "rms_norm_eps", .doc = "added to the mean square in RMSNorm", .range = above(0)},
        c.rms_norm_eps);
  visit({.name = "tie_word_embeddings", .doc = "the head is the embedding matrix"}, c.tie_word_embeddings);
  visit({.name = "sliding_window",
         .unit = "tokens",
         .doc = "how many tokens a query sees, itself included; 0: all before it",
         .range = between(0, model_limits::kPositions)},
        c.sliding_window);
  visit({.name = "initializer_range",
         .doc = "standard deviation of the normal initial weights",
         .range = above(0)},
        c.initializer_range);
  visit({.name = "scale_residual_init", .doc = "o_proj and down_proj start divided by sqrt(2 layers)"},
        c.scale_residual_init);
  visit({.name = "z_loss", .doc = "coefficient of logsumexp^2, in the gradient only", .range = at_least(0)},
        c.z_loss);
  visit({.name = "logit_softcap", .doc = "c of c tanh(logit / c); 0: none", .range = at_least(0)},
        c.logit_softcap);
}

template <class Visitor, Section<DataSource> C>
void fields(Visitor& visit, C& c) {
  visit({.name = "path",
         .doc = "glob pattern of token shards, relative to the working directory",
         .required = true},
        c.path);
  visit({.name = "weight", .doc = "relative share of the samples", .range = above(0)}, c.weight);
}

template <class Visitor, Section<DataConfig> C>
void fields(Visitor& visit, C& c) {
  visit({.name = "sequence_length",
         .unit = "tokens",
         .doc = "length of a training sequence",
         .range = between(1, 1 << 24),
         .required = true},
        c.sequence_length);
  visit({.name = "tokenizer", .doc = "a SentencePiece .model, bytes, or empty: token ids only"}, c.tokenizer);
  visit({.name = "train", .doc = "sources, mixed by weight", .required = true}, c.train);
  visit({.name = "validation", .doc = "held-out sources; [] for none"}, c.validation);
  visit({.name = "packing", .doc = "documents: attention and targets stay inside each document"}, c.packing);
  visit({.name = "prefetch_batches",
         .unit = "micro-batches",
         .doc = "micro-batches that a thread reads ahead; 0: none",
         .range = between(0, 4096),
         .changes_result = false},
        c.prefetch_batches);
}

template <class Visitor, Section<BatchConfig> C>
void fields(Visitor& visit, C& c) {
  visit({.name = "global_tokens",
         .unit = "tokens",
         .doc = "tokens of one optimizer step, over all ranks",
         .range = count(1),
         .required = true},
        c.global_tokens);
  visit({.name = "micro_sequences",
         .unit = "sequences",
         .doc = "sequences of one forward and backward on one rank; 0: the whole global batch",
         .range = between(0, 1 << 24)},
        c.micro_sequences);
}

template <class Visitor, Section<PrecisionConfig> C>
void fields(Visitor& visit, C& c) {
  visit({.name = "compute",
         .doc = "format of activations and products; the CPU has fp32",
         .choices = "fp32 | bf16"},
        c.compute);
  visit({.name = "master", .doc = "format of the weights that the optimizer updates", .choices = "fp32"},
        c.master);
  visit({.name = "gradients",
         .doc = "format of the accumulated gradients; the CPU has fp32",
         .choices = "fp32 | bf16"},
        c.gradients);
}

template <class Visitor, Section<AttentionConfig> C>
void fields(Visitor& visit, C& c) {
  visit({.name = "engine",
         .doc = "CUDA in bf16: own kernels, cuDNN where it can, or the faster one as measured once",
         .choices = "native | cudnn | auto"},
        c.engine);
}

template <class Visitor, Section<TrainConfig> C>
void fields(Visitor& visit, C& c) {
  visit({.name = "max_steps",
         .unit = "steps",
         .doc = "optimizer steps of the whole run",
         .range = count(1),
         .required = true},
        c.max_steps);
  visit({.name = "recompute", .doc = "activations computed again in the backward pass to save memory"},
        c.recompute);
  visit({.name = "init_from",
         .doc = "a checkpoint or Hugging Face directory whose weights start the run; empty: random"},
        c.init_from);
}

template <class Visitor, Section<GuardConfig> C>
void fields(Visitor& visit, C& c) {
  visit({.name = "enabled", .doc = "skip steps whose loss or gradient norm is not finite or spikes"},
        c.enabled);
  visit({.name = "deviations",
         .unit = "standard deviations",
         .doc = "a spike is this far above the mean of the window",
         .range = above(0)},
        c.deviations);
  visit({.name = "window",
         .unit = "steps",
         .doc = "last steps from which mean and deviation come",
         .range = between(1, 1 << 20)},
        c.window);
  visit({.name = "minimum",
         .unit = "steps",
         .doc = "steps in the window before spikes are judged; at most window",
         .range = between(1, 1 << 20)},
        c.minimum);
  visit({.name = "max_consecutive_skips",
         .unit = "steps",
         .doc = "steps skipped in a row before the run stops with exit code 4",
         .range = count(1)},
        c.max_consecutive_skips);
}

template <class Visitor, Section<EvaluationConfig> C>
void fields(Visitor& visit, C& c) {
  visit({.name = "every_steps",
         .unit = "steps",
         .doc = "steps between validations; 0: only at the end",
         .range = count(0),
         .changes_result = false},
        c.every_steps);
  visit({.name = "sequences",
         .unit = "sequences",
         .doc = "how much of the validation split is used; 0: all",
         .range = count(0),
         .changes_result = false},
        c.sequences);
}

template <class Visitor, Section<CheckpointConfig> C>
void fields(Visitor& visit, C& c) {
  visit({.name = "every_steps",
         .unit = "steps",
         .doc = "steps between checkpoints; 0: only at the end and on a signal",
         .range = count(0),
         .changes_result = false},
        c.every_steps);
  visit({.name = "keep_last",
         .unit = "checkpoints",
         .doc = "the newest ones kept; 0: all",
         .range = count(0),
         .changes_result = false},
        c.keep_last);
  visit({.name = "keep_every",
         .unit = "steps",
         .doc = "also keep the steps divisible by this; 0: none",
         .range = count(0),
         .changes_result = false},
        c.keep_every);
  visit({.name = "keep_best",
         .doc = "also keep the one with the lowest validation loss",
         .changes_result = false},
        c.keep_best);
  visit({.name = "background", .doc = "write while training goes on", .changes_result = false}, c.background);
}

template <class Visitor, Section<LogConfig> C>
void fields(Visitor& visit, C& c) {
  visit({.name = "every_steps",
         .unit = "steps",
         .doc = "steps between lines of metrics.jsonl",
         .range = count(1),
         .changes_result = false},
        c.every_steps);
  visit({.name = "tensorboard", .doc = "also write TensorBoard events", .changes_result = false},
        c.tensorboard);
  visit(
      {.name = "diagnostics_every_steps",
       .unit = "steps",
       .doc =
           "steps between measurements of the matrix rules' steps (one matrix of each family: <U,M> and its "
           "share of the nuclear norm, orthogonality, size of the update) and of the gradients in spectra; "
           "0: never",
       .range = count(0),
       .changes_result = false},
      c.diagnostics_every_steps);
  visit({.name = "spectra",
         .doc = "patterns of parameters whose gradients' condition number and nuclear norm are measured",
         .changes_result = false},
        c.spectra);
}

template <class Visitor, Section<DistributedConfig> C>
void fields(Visitor& visit, C& c) {
  visit({.name = "backend",
         .doc = "what carries the collective operations; auto: nccl between GPUs, gloo between CPUs",
         .choices = "auto | gloo | nccl",
         .changes_result = false},
        c.backend);
  visit(
      {.name = "sharding",
       .doc = "what a rank keeps of its own parameters only; gradients: these too, sent in every micro-batch",
       .choices = "optimizer | gradients"},
      c.sharding);
  visit({.name = "gradient_dtype",
         .doc = "format in which gradients travel between the ranks; bf16 halves the volume and rounds them",
         .choices = "fp32 | bf16"},
        c.gradient_dtype);
  visit({.name = "reduction",
         .doc = "the order in which gradients are summed; invariant: in pairs over the micro-batches of a "
                "step, so that different numbers of ranks come to the same bits, with equal "
                "batch.micro_sequences and a power of two of micro-batches on each rank (more: README)",
         .choices = "fast | invariant"},
        c.reduction);
  visit({.name = "timeout_seconds",
         .unit = "s",
         .doc = "how long a rank waits for the others: at the start, in an operation; half of it for parts "
                "of a checkpoint",
         .range = between(1, 86400),
         .changes_result = false},
        c.timeout_seconds);
  visit({.name = "slow_rank_share",
         .doc = "say which rank is slow if the others wait for it longer than this share of a step; 1: never",
         .range = between(0, 1),
         .changes_result = false},
        c.slow_rank_share);
}

template <class Visitor, Section<Experiment> C>
void fields(Visitor& visit, C& c) {
  visit({.name = "run", .doc = "the run itself"}, c.run);
  visit({.name = "model", .doc = "the keys of Hugging Face's config.json", .required = true}, c.model);
  visit({.name = "data", .doc = "token shards and how they become samples", .required = true}, c.data);
  visit({.name = "batch",
         .doc = "the size of a step; what a micro-batch does not hold is accumulated",
         .required = true},
        c.batch);
  visit({.name = "optimizer", .doc = "which rule updates which parameters", .required = true}, c.optimizer);
  visit({.name = "schedule", .doc = "the learning rate over the steps"}, c.schedule);
  visit({.name = "precision", .doc = "number formats"}, c.precision);
  visit({.name = "attention", .doc = "what computes attention"}, c.attention);
  visit({.name = "train", .doc = "the training loop", .required = true}, c.train);
  visit({.name = "guard", .doc = "against spikes of the loss"}, c.guard);
  visit({.name = "evaluation", .doc = "validation during training"}, c.evaluation);
  visit({.name = "checkpoint", .doc = "when to save and what to keep"}, c.checkpoint);
  visit({.name = "distributed", .doc = "several processes: see polartrain launch"}, c.distributed);
  visit({.name = "log", .doc = "what is written about the run"}, c.log);
}

}  // namespace polar
