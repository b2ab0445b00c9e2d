#!/usr/bin/env python3
"""The parser of tools/bench/kernel_table.py on a compiler's report from the shelf: no nvcc is needed."""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools" / "bench"))
import kernel_table  # noqa: E402

NORM = "_ZN5polar7kernels23rms_norm_forward_kernelIfLb0EEEvPKT_"
ATTENTION = "_ZN5polar7kernels33attention_backward_queries_kernelI13__nv_bfloat16Li128EEEvPT_"
REPORT = f"""ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '{NORM}' for 'sm_80'
ptxas info    : Function properties for {NORM}
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 64 bytes smem, 412 bytes cmem[0]
ptxas info    : Compile time = 12.3 ms
ptxas info    : Compiling entry function '{ATTENTION}' for 'sm_80'
ptxas info    : Function properties for {ATTENTION}
    8 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 8 bytes cumulative stack size, 536 bytes cmem[0]
"""
PTX = f""".version 9.0
.visible .entry {NORM}(
	.param .u64 {NORM}_param_0
)
.maxntid 256, 1, 1
{{
	ret;
}}
.visible .entry {ATTENTION}(
	.param .u64 {ATTENTION}_param_0
)
{{
	ret;
}}
"""


class KernelTable(unittest.TestCase):
    def test_the_report_becomes_rows(self):
        norm, attention = kernel_table.parse_report(REPORT)
        self.assertEqual(norm, {"kernel": NORM, "stack": 0, "spill_stores": 0, "spill_loads": 0, "registers": 40,
                                "shared_static": 64})  # fmt: skip
        self.assertEqual(attention["registers"], 255)
        self.assertEqual((attention["stack"], attention["spill_stores"], attention["spill_loads"]), (8, 8, 12))
        self.assertEqual(attention["shared_static"], 0)
        self.assertFalse(kernel_table.spilled(norm))
        self.assertTrue(kernel_table.spilled(attention))

    def test_launch_bounds_are_read_where_they_stand(self):
        self.assertEqual(kernel_table.block_sizes(PTX), {NORM: 256})

    def test_launches_override_launch_bounds_and_give_dynamic_shared_memory(self):
        launches = kernel_table.parse_launches(f"{ATTENTION} 128 1000\n{ATTENTION} 128 70000\n")
        rows = kernel_table.complete(kernel_table.parse_report(REPORT), "file.cu", "80", {NORM: 256}, launches)
        norm, attention = rows
        self.assertEqual((norm["threads"], norm["shared_dynamic"]), (256, None))
        self.assertEqual((attention["threads"], attention["shared_dynamic"]), (128, 70000))
        # 40 registers x 32 in units of 256: 1280 a warp, 12 warps of a scheduler's 16384, 48 in all: 6 blocks of 8.
        self.assertEqual((norm["blocks"], norm["limit"], norm["warps"]), (6, "registers", 48))
        self.assertEqual(norm["occupancy"], 0.75)
        # 70000 + 1024 bytes twice fit into 164 KiB; so do the registers of two blocks: 8160 -> 8192 a warp, 8 warps.
        self.assertEqual((attention["blocks"], attention["warps"]), (2, 8))

    def test_each_limit_of_a_multiprocessor(self):
        self.assertEqual(kernel_table.occupancy(32, 0, 256, "80"), (8, "warps"))
        self.assertEqual(kernel_table.occupancy(32, 0, 32, "80"), (32, "blocks"))
        self.assertEqual(kernel_table.occupancy(64, 0, 256, "80"), (4, "registers"))
        self.assertEqual(kernel_table.occupancy(32, 100 << 10, 256, "80"), (1, "shared memory"))
        self.assertEqual(kernel_table.occupancy(32, 100 << 10, 256, "90a"), (2, "shared memory"))

    def test_a_line_of_launches_that_is_none_is_named(self):
        with self.assertRaisesRegex(SystemExit, "line 2: found 'nonsense'"):
            kernel_table.parse_launches(f"{NORM} 1 2\nnonsense\n")

    def test_names_are_readable_and_hot_ones_known(self):
        name = kernel_table.readable(
            "void polar::kernels::polar_product_kernel<__nv_bfloat16, (polar::kernels::Stored)0, true>(float const*)")
        self.assertEqual(name, "polar_product_kernel<__nv_bfloat16, 0, true>")
        for hot in (name, "attention_forward_sm90_kernel<128>", "rms_norm_forward_kernel<float, false>", "adamw_kernel"):
            self.assertTrue(kernel_table.is_hot({"name": hot}), hot)
        for cold in ("polar_product_kernel<float, 0, true>", "attention_forward_kernel<float, 64>"):
            self.assertFalse(kernel_table.is_hot({"name": cold}), cold)

    def test_spills_of_hot_kernels_are_counted_in_the_table(self):
        rows = kernel_table.complete(kernel_table.parse_report(REPORT), "file.cu", "80", {}, {})
        for row, name in zip(rows, ["rms_norm_forward_kernel<float, false>",
                                    "attention_backward_queries_kernel<__nv_bfloat16, 128>"]):  # fmt: skip
            row["name"] = name
        text = kernel_table.markdown(rows, "80")
        self.assertIn("2 kernels, 1 with spills, 1 of them hot.", text)
        self.assertIn("| 64 + ? |", text)


if __name__ == "__main__":
    unittest.main()
