#!/usr/bin/env python3
"""tools/gpu_check.sh on a package of stand-ins, without a GPU: what it runs, what it keeps and what its summary says."""

import os
import pathlib
import stat
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
POLARTRAIN = """#!/bin/sh
if [ "$1" = --version ]; then echo "polartrain stand-in"; exit 0; fi
if [ "$1" = plan ]; then echo '{"rows":[{"ranks":1,"configured":{"tokens_per_s":360}}]}'; exit 0; fi
case "$*" in *"--engine cudnn"*) echo "error: this binary has no cuDNN"; exit 2;; esac
row() {
  echo '{"device":"card","sizes":"a model","precision":"bf16","'$1'":8e14,"rows":[{"name":"'"$2"'","ms":0.5,"spread":0.01,'
  echo '"'$3'":1e9,"'$3'_per_s":2e12,"share":0.25,"matrices":3,"launches":40}]}'
}
case "$2" in
  step) echo '{"tokens_per_s": 300, "mfu": 0.4}' ;;
  kernels) row copy_bytes_per_s rms_norm_forward bytes | tr -d '\\n' ;;
  gemm) exit 7 ;;
  attention) row gemm_peak_flops_per_s "forward 2 x 4, heads 2/1 x 32" flops | tr -d '\\n' ;;
  polar) row gemm_peak_flops_per_s "all, newton_schulz jordan 5" flops | tr -d '\\n' ;;
esac
"""

# Has PyTorch with CUDA if HAS_TORCH is 1; everything but torch's scripts is done by the real one.
PYTHON = """#!/bin/sh
case "$1" in
  -c) [ "$HAS_TORCH" = 1 ]; exit ;;
  */torch_*.py) ;;
  *) exec {python} "$@" ;;
esac
for last; do :; done
case "$1" in
  */torch_step.py) echo '{{"tokens_per_s": 200}}' >"$last" ;;
  */torch_polar.py)
    echo '{{"rows":[{{"name":"torch.optim.Muon","matrices":3,"ms":1.0,"flops_per_s":1e12}}]}}' >"$last" ;;
  */torch_attention.py)
    echo '{{"rows":[{{"name":"forward 2 x 4, heads 2/1 x 32","backend":"CUDNN_ATTENTION","ms":0.4}}]}}' >"$last" ;;
esac
"""


class GpuCheck(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.root = pathlib.Path(self.folder.name)
        self.program("package/polartrain", POLARTRAIN)
        self.program("package/test_gpu", "#!/bin/sh\nexit 0\n")
        self.program("python", PYTHON.format(python=sys.executable))

    def tearDown(self):
        self.folder.cleanup()

    def program(self, name, text):
        path = self.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def check(self, **environment):
        out = self.root / "out"
        done = subprocess.run([ROOT / "tools/gpu_check.sh", out, self.root / "package"], capture_output=True, text=True,
                              env=os.environ | {"PYTHON": str(self.root / "python")} | environment)  # fmt: skip
        return done, (out / "summary.md").read_text()

    def test_the_summary_has_every_ratio_and_what_failed(self):
        done, summary = self.check(HAS_TORCH="1")
        self.assertEqual(done.returncode, 1, done.stderr)  # gemm failed
        self.assertIn("- tests: passed", summary)
        self.assertIn("- gemm: FAILED with exit code 7", summary)
        self.assertIn("- attention-cudnn: not run: error: this binary has no cuDNN", summary)
        self.assertIn("| 0.5b | 300 | 200 | 1.50 | 40.0 % |  |", summary)
        self.assertIn("| all, newton_schulz jordan 5 | 3 | 0.500 | 2.0 | 25 % | 40 |  |", summary)
        self.assertIn("| torch.optim.Muon | 3 | 1.000 | 1.0 |  |  | 2.00 |", summary)
        self.assertIn("| forward 2 x 4, heads 2/1 x 32 | 0.500 | 25 % |  | 0.400 (0.80x) |  |", summary)
        self.assertIn("| rms_norm_forward | 0.5000 | 1 % | 2000.0 | 25 % |", summary)
        self.assertNotIn("## Matrix products", summary)

    def test_without_pytorch_ours_is_measured_all_the_same(self):
        _, summary = self.check(HAS_TORCH="0")
        self.assertIn("- torch-polar: not run: no PyTorch with CUDA and yaml", summary)
        self.assertIn("| 0.5b | 300 |  |  | 40.0 % |  |", summary)

    def test_a_card_that_is_described_is_held_against_its_simulation(self):
        self.program("bin/nvidia-smi", "#!/bin/sh\necho NVIDIA H100 80GB HBM3, 580.1, 81559 MiB\n")
        _, summary = self.check(HAS_TORCH="0", PATH=f"{self.root}/bin:{os.environ['PATH']}")
        self.assertIn("- simulate-0.5b: passed", summary)
        self.assertIn("| 0.5b | 300 |  |  | 40.0 % | 360 (1.20x) |", summary)


if __name__ == "__main__":
    unittest.main()
