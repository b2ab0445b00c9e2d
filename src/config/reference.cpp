// configs/reference.yaml from the table of keys.
#include "config/checks.h"
#include "config/experiment.h"
#include "config/reader.h"
#include "config/writer.h"

namespace polar {
namespace {

// Defaults everywhere but where a key is required, or where another value lets more keys apply.
Experiment reference_experiment() {
  Experiment e;
  e.model.vocab_size = 4096;
  e.model.hidden_size = 256;
  e.model.num_hidden_layers = 6;
  e.model.num_attention_heads = 8;
  e.model.num_key_value_heads = 4;
  e.model.intermediate_size = 768;
  e.data.sequence_length = 256;
  e.data.train = {{.path = "data/demo/train-*.bin"}};
  e.data.validation = {{.path = "data/demo/val-*.bin"}};
  e.batch.global_tokens = 16384;
  e.train.max_steps = 300;
  e.schedule.kind = ScheduleKind::wsd;

  GroupConfig attention = group_defaults("polargrad");
  attention.match = {"*.self_attn.*_proj.weight"};
  GroupConfig down = group_defaults("polargrad");
  down.match = {"*.mlp.down_proj.weight"};
  down.oracle.kind = OracleKind::qdwh;
  GroupConfig mlp = group_defaults("muon");
  mlp.match = {"*.mlp.*_proj.weight"};
  GroupConfig embedding = group_defaults("lion");
  embedding.match = {"model.embed_tokens.weight"};
  GroupConfig rest = group_defaults("adamw");
  rest.match = {"*norm.weight"};
  rest.schedule = ScheduleConfig{.kind = ScheduleKind::wsd};
  GroupConfig head = group_defaults("soap");
  head.match = {"*"};
  e.optimizer.groups = {attention, down, mlp, embedding, rest, head};
  return e;
}

}  // namespace

std::string reference_yaml() {
  return "# Every key of a configuration: its meaning, [type; unit; default]. Written by the program from "
         "the table\n"
         "# in src/config/fields.h; itself a valid configuration. Any other key is refused.\n"
         "#\n"
         "# `include: other.yaml`, or a list of files (relative to the including file), reads those first: "
         "later keys\n"
         "# win, maps merge, lists replace whole, and a key without a value removes the included one.\n"
         "# On the command line: train.max_steps=20 optimizer.groups.0.lr=1e-3 "
         "optimizer.groups.1.betas=[0.9,0.99];\n"
         "# nothing behind the = removes the key, which brings its default back.\n" +
         print_yaml(to_tree(reference_experiment(), WriteKeys::all, true));
}

}  // namespace polar
