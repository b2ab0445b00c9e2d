#!/usr/bin/env python3
"""Holds `polartrain plan --simulate` against training runs on this machine's CPU, with 1 and with 2 ranks.

A rank is one thread here. In every round the parts are measured (polartrain bench gemm, attention, polar, kernels, comm) and
each model is trained for some steps. Of everything the best of all rounds counts, since what else runs on the machine only
makes it slower. The parts make a hardware file; from that alone, and from no training step, the steps are predicted. Prints
predicted against measured milliseconds a step.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = {"3.15M": "configs/bench/3m.yaml", "15.7M": "configs/bench/16m.yaml"}
LAYERS = {"configs/bench/3m.yaml": 6, "configs/bench/16m.yaml": 8}
# Eight sequences of 256 tokens: two micro-batches on one rank, one on each of two.
BATCH = ["batch.global_tokens=2048", "batch.micro_sequences=4"]
RANKS = (1, 2)

# Rows of `polartrain bench kernels` that a layer has, forward and backward, and how often. (Keys are rotated too.)
KERNELS = {
    "rms_norm_forward, residual": 2, "rms_norm_backward": 2, "qk_norm_rope_forward, queries": 1,
    "qk_norm_rope_backward, queries": 1, "swiglu_forward": 1, "swiglu_backward": 1, "adamw": 1, "momentum_update": 1,
    "matrix_update": 1,
}  # fmt: skip
MATRIX_BYTES = 40  # of an element in a polar step beside its products: src/plan/step_cost.cpp, fp32


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: tools/bench/simulate_check.py --rounds 3 --hardware this-machine.yaml",
    )  # fmt: skip
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "build/release/tools/polartrain",
                        help="default: %(default)s")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=12, help="steps of a training run (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=7, help="of each benchmark (default: %(default)s)")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--hardware", type=pathlib.Path, metavar="FILE", help="keep the description of the last model")
    parser.add_argument("--output", type=pathlib.Path, metavar="FILE", help="write the results as JSON")
    return parser.parse_args()


class Polartrain:
    def __init__(self, binary):
        self.binary = binary.resolve()
        self.environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}

    def start(self, *words):
        return subprocess.Popen([self.binary, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                text=True, cwd=ROOT, env=self.environment)  # fmt: skip

    def finish(self, process):
        out, errors = process.communicate()
        if process.returncode != 0:
            sys.exit(f"{' '.join(map(str, process.args))}: exit code {process.returncode}\n{out}{errors}")
        return out

    def run(self, *words):
        return self.finish(self.start(*words))

    def bench(self, part, config, repeats):
        """The report of one benchmark on one thread."""
        return json.loads(self.run("bench", part, config, *BATCH, "--device", "cpu", "--threads", 1, "--repeats",
                                   repeats, "--json"))  # fmt: skip

    def train(self, config, data, folder, ranks, steps, *keys):
        """The metrics of all steps of a training run but the first three, a thread a rank."""
        run = folder / f"run-{ranks}"
        launch = ("launch", "--nproc-per-node", ranks) if ranks > 1 else ()
        self.run(*launch, "train", config, *BATCH, *data, f"run.dir={run}", "run.device=cpu", "run.threads=1",
                 f"train.max_steps={steps}", "log.every_steps=1", *keys, "--fresh")  # fmt: skip
        return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()][3:]

    def two_at_once(self, config, repeats):
        """The rates of two `bench gemm` that run beside each other."""
        words = ("bench", "gemm", config, *BATCH, "--device", "cpu", "--threads", 1, "--repeats", repeats, "--json")
        return [rate_of(json.loads(self.finish(p)), gemm_weight) for p in [self.start(*words), self.start(*words)]]


def gemm_weight(name):
    """How often a row of `bench gemm` comes in a layer; the head is that of six to eight layers."""
    return {"head": 1 / 7, "loss": 0}.get(name.split()[0], 1)


def rate_of(report, weight):
    """FLOPs or bytes a second of all rows together."""
    work = "flops" if "flops" in report["rows"][0] else "bytes"
    rows = [(weight(row["name"]), row[work], row["ms"]) for row in report["rows"]]
    return sum(w * n for w, n, _ in rows) / sum(1e-3 * w * ms for w, _, ms in rows)


def softmax(gemm):
    """Bytes and seconds of what the loss takes beside its products: every logit read twice, its gradient written."""
    rows = gemm["rows"]
    loss = next(row for row in rows if row["name"].startswith("loss"))
    count, vocabulary, _ = map(int, loss["name"].split()[-1].split("x"))
    head = [row for row in rows if row["name"].startswith("head")]
    chunk = int(head[0]["name"].split()[-1].split("x")[0])
    seconds = 1e-3 * (loss["ms"] - sum(row["ms"] for row in head) * count / chunk)
    return 3 * 4 * count * vocabulary, max(seconds, 0.1e-3 * loss["ms"])


def memory_rate(kernels, gemm, layers):
    """Bytes a second of all that is bound by memory in a micro-batch (the softmax on a CPU by its exponentials)."""
    rows = [(layers * KERNELS.get(row["name"], 0), row["bytes"], 1e-3 * row["ms"]) for row in kernels["rows"]]
    rows.append((1, *softmax(gemm)))
    return sum(w * n for w, n, _ in rows) / sum(w * seconds for w, _, seconds in rows)


def polar_rate(report, memory_rate, elements):
    """FLOPs a second of the products in a polar step: what memory takes is taken off."""
    row = next(row for row in report["rows"] if row["name"].startswith("all"))
    return row["flops"] / max(1e-3 * row["ms"] - MATRIX_BYTES * elements / memory_rate, 0.1e-3 * row["ms"])


def matrix_elements(report):
    """Elements of all hidden matrices, from the shapes that `bench polar` lists."""
    total = 0
    for row in report["rows"]:
        if not row["name"].startswith("all"):
            m, n = row["name"].split(" x ")
            total += int(m) * int(n) * row["matrices"]
    return total


def measure_links(polartrain, repeats):
    """Seconds that a collective operation costs, and bytes a second, of two ranks."""
    words = ("launch", "--nproc-per-node", 2, "bench", "comm", "--device", "cpu", "--repeats", repeats, "--json")
    lines = polartrain.run(*words).splitlines()
    rows = json.loads(next(line[line.index("{"):] for line in lines if "{" in line))["rows"]
    small = min(1e-3 * row["ms"] for row in rows)
    large = [row for row in rows if row["bytes_sent"] >= 1 << 20]
    rate = sum(row["bytes_sent"] for row in large) / sum(1e-3 * row["ms"] - small for row in large)
    return small, rate


class Measured:
    """The best of all rounds, for one model."""

    def __init__(self, config):
        self.config = config
        self.reports = {}  # of benchmarks, by part
        self.together = 0.0  # FLOPs a second of each of two ranks
        self.collective, self.link = float("inf"), 0.0
        self.steps = {ranks: float("inf") for ranks in RANKS}

    def measure(self, polartrain, data, folder, arguments):
        for part in ("gemm", "attention", "polar", "kernels"):
            self.keep(part, polartrain.bench(part, self.config, arguments.repeats))
        together = statistics.mean(polartrain.two_at_once(self.config, arguments.repeats))
        self.together = max(self.together, together)
        collective, link = measure_links(polartrain, arguments.repeats)
        self.collective, self.link = min(self.collective, collective), max(self.link, link)
        for ranks in RANKS:
            seconds = step_seconds(polartrain.train(self.config, data, folder, ranks, arguments.steps))
            self.steps[ranks] = min(self.steps[ranks], seconds)

    def keep(self, part, report):
        best = self.reports.setdefault(part, report)
        for row, other in zip(best["rows"], report["rows"]):
            row["ms"] = min(row["ms"], other["ms"])
        for key in ("gemm_peak_flops_per_s", "copy_bytes_per_s"):
            if key in best:
                best[key] = max(best[key], report[key])

    def hardware(self):
        """A hardware file's text for this machine, as this model uses it."""
        gemm, polar = self.reports["gemm"], self.reports["polar"]
        alone = rate_of(gemm, gemm_weight)
        attention = rate_of(self.reports["attention"], lambda name: 1)
        memory = memory_rate(self.reports["kernels"], gemm, LAYERS[self.config])
        copy = max(self.reports["kernels"]["copy_bytes_per_s"], memory)  # small tensors stay in the caches
        products = polar_rate(polar, memory, matrix_elements(polar))
        peak = max(gemm["gemm_peak_flops_per_s"], alone, attention, products)
        return f"""name: 2 CPU cores, measured for {self.config}
collective_us: {1e6 * self.collective:.1f}
device:
  backend: cpu
  tflops_bf16: {1e-12 * peak:.4f}
  tflops_fp32: {1e-12 * peak:.4f}
  gemm_share: {alone / peak:.3f}
  attention_share: {attention / peak:.3f}
  polar_share: {products / peak:.3f}
  memory_gb: 4.0
  reserved_gb: 0.1
  memory_gb_per_s: {1e-9 * copy:.2f}
  memory_share: {memory / copy:.3f}
  launch_us: 0.0
node:
  devices: 2
  busy_share: {min(1.0, self.together / alone):.3f}
  link:
    gb_per_s: {1e-9 * self.link:.3f}
    share: 1.0
    latency_us: 0.0
"""


def prepare_data(polartrain, folder):
    polartrain.run("data", "prepare", ROOT / "data/austen", "--output", folder / "tokens", "--tokenizer", "bytes",
                   "--validation-fraction", "0.1")  # fmt: skip
    return ["data.tokenizer=", f"data.train=[{{path: \"{folder}/tokens/train-*.bin\"}}]"]


def predict(polartrain, config, hardware):
    words = ("plan", config, *BATCH, "--simulate", hardware, "--ranks", ",".join(map(str, RANKS)), "--json")
    rows = json.loads(polartrain.run(*words))["rows"]
    return {row["ranks"]: row["configured"] for row in rows}


def step_seconds(lines):
    """The seconds of a step that only a quarter of the steps undercut."""
    return 2048 / statistics.quantiles((line["tokens_per_s"] for line in lines), n=4)[2]


def table(records):
    lines = ["| model | ranks | predicted ms | of which exposed | measured ms | predicted / measured |",
             "|---|---:|---:|---:|---:|---:|"]  # fmt: skip
    for r in records:
        predicted = r["predicted"]
        lines.append(f"| {r['model']} | {r['ranks']} | {1e3 * predicted['step_s']:.1f} | {1e3 * predicted['exposed_s']:.1f} "
                     f"| {1e3 * r['measured_s']:.1f} | {predicted['step_s'] / r['measured_s']:.2f} |")  # fmt: skip
    for one, two in zip(records[::2], records[1::2]):
        lines.append(f"\n{one['model']}: two ranks are predicted {one['predicted']['step_s'] / two['predicted']['step_s']:.2f} "
                     f"times as fast as one, measured {one['measured_s'] / two['measured_s']:.2f}")  # fmt: skip
    return "\n".join(lines)


def main():
    arguments = parse_arguments()
    if not arguments.binary.exists():
        sys.exit(f"{arguments.binary}: no such program; build it or name it with --binary")
    polartrain = Polartrain(arguments.binary)
    measured = {model: Measured(MODELS[model]) for model in arguments.models}
    records = []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        data = prepare_data(polartrain, folder)
        for index in range(arguments.rounds):
            for model in arguments.models:
                measured[model].measure(polartrain, data, folder, arguments)
                print(f"round {index + 1}, {model} done", file=sys.stderr)
        for model, best in measured.items():
            hardware = arguments.hardware or folder / "hardware.yaml"
            hardware.write_text(best.hardware())
            predicted = predict(polartrain, best.config, hardware)
            records += [{"model": model, "ranks": ranks, "measured_s": best.steps[ranks],
                         "predicted": predicted[ranks]} for ranks in RANKS]  # fmt: skip
    if arguments.output:
        summary = {"rounds": arguments.rounds, "steps": arguments.steps, "records": records}
        arguments.output.write_text(json.dumps(summary, indent=2) + "\n")
    print(table(records))


if __name__ == "__main__":
    main()
