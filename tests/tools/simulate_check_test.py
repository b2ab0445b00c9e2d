#!/usr/bin/env python3
"""What tools/bench/simulate_check.py makes of benchmarks' reports, on reports made by hand."""

import pathlib
import re
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "bench"))
import simulate_check  # noqa: E402

CONFIG = "configs/bench/3m.yaml"


def report(work, peak, rows):
    peak_name = "copy_bytes_per_s" if work == "bytes" else "gemm_peak_flops_per_s"
    return {peak_name: peak, "rows": [{"name": name, work: amount, "ms": ms, **rest} for name, amount, ms, rest in rows]}


GEMM = report("flops", 4e9, [("o forward 8x2x2", 2e6, 1.0, {}), ("head forward 4x3x2", 7e6, 2.0, {}),
                             ("head input gradient 4x3x2", 7e6, 1.0, {}), ("loss with gradients 8x3x2", 9e6, 8.0, {})])  # fmt: skip
KERNELS = report("bytes", 5e6, [("swiglu_forward", 1000, 0.5, {}), ("fill", 1e9, 1.0, {})])
POLAR = report("flops", 4e9, [("3 x 2", 1e6, 1.0, {"matrices": 4}), ("5 x 2", 1e6, 1.0, {"matrices": 1}),
                              ("all, newton_schulz jordan 5", 6e6, 10.0, {"matrices": 5})])  # fmt: skip
ATTENTION = report("flops", 4e9, [("forward", 1e6, 1.0, {}), ("backward", 3e6, 1.0, {})])


class Rates(unittest.TestCase):
    def test_rows_together(self):
        self.assertAlmostEqual(simulate_check.rate_of(ATTENTION, lambda name: 1), 2e9)
        # A layer's rows and a seventh of the head's; the loss is not a product of its own.
        expected = (2e6 + 14e6 / 7) / (1e-3 + 3e-3 / 7)
        self.assertAlmostEqual(simulate_check.rate_of(GEMM, simulate_check.gemm_weight), expected)

    def test_softmax_is_what_the_loss_takes_beside_its_products(self):
        count, seconds = simulate_check.softmax(GEMM)  # two chunks of four rows
        self.assertEqual(count, 3 * 4 * 8 * 3)
        self.assertAlmostEqual(seconds, 8e-3 - 2 * 3e-3)

    def test_memory(self):
        expected = (6 * 1000 + 288) / (6 * 0.5e-3 + 2e-3)
        self.assertAlmostEqual(simulate_check.memory_rate(KERNELS, GEMM, 6), expected)

    def test_polar_products(self):
        self.assertEqual(simulate_check.matrix_elements(POLAR), 34)
        self.assertAlmostEqual(simulate_check.polar_rate(POLAR, 40 * 34 / 4e-3, 34), 6e6 / 6e-3)
        self.assertAlmostEqual(simulate_check.polar_rate(POLAR, 1.0, 34), 6e6 / 1e-3)  # never below a tenth


class Best(unittest.TestCase):
    def test_of_all_rounds(self):
        measured = simulate_check.Measured(CONFIG)
        measured.keep("attention", report("flops", 4e9, [("forward", 1e6, 2.0, {}), ("backward", 3e6, 1.0, {})]))
        measured.keep("attention", report("flops", 5e9, [("forward", 1e6, 1.0, {}), ("backward", 3e6, 3.0, {})]))
        self.assertEqual([row["ms"] for row in measured.reports["attention"]["rows"]], [1.0, 1.0])
        self.assertEqual(measured.reports["attention"]["gemm_peak_flops_per_s"], 5e9)

    def test_description_has_every_key(self):
        measured = simulate_check.Measured(CONFIG)
        for part, rows in (("gemm", GEMM), ("attention", ATTENTION), ("polar", POLAR), ("kernels", KERNELS)):
            measured.keep(part, rows)
        measured.together, measured.collective, measured.link = 1e9, 1e-4, 2e9
        keys = re.findall(r"^ *(\w+):", measured.hardware(), re.MULTILINE)
        explained = (ROOT / "configs/hardware/8xh100.yaml").read_text().split("\nnetwork:")[0]
        self.assertEqual(sorted(keys), sorted(re.findall(r"^ *(\w+):", explained, re.MULTILINE)))
        shares = [float(x) for x in re.findall(r"share: ([\d.]+)", measured.hardware())]
        self.assertTrue(all(0 < share <= 1 for share in shares), shares)


if __name__ == "__main__":
    unittest.main()
