#!/usr/bin/env python3
"""tools/bench/lab_check.py on experiments made by hand."""

import contextlib
import io
import json
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools" / "bench"))
import lab_check  # noqa: E402


def run_of(name, gaps, diverged=False):
    return {"name": name, "diverged": diverged, "step": list(gaps), "gap": list(gaps.values())}


def reference_runs(change=()):
    rows = {name: dict(zip(lab_check.STEPS, row)) for name, row in lab_check.REFERENCE.items()}
    rows["Newton"] = {100: 1e-9}
    rows["PolarGrad, exact"] = dict(rows["PolarGrad, ZOLO-PD"])
    for (name, step), gap in dict(change).items():
        rows[name][step] = gap
    return {name: [gaps, gaps, gaps] for name, gaps in rows.items()}


def quiet(check, runs, authors=False):
    with contextlib.redirect_stdout(io.StringIO()):
        return check(runs, authors)


class Quadratic(unittest.TestCase):
    def test_the_reference_agrees_with_itself(self):
        self.assertEqual(quiet(lab_check.check_quadratic, reference_runs()), [])

    def test_a_cell_eleven_times_as_large_does_not(self):
        runs = reference_runs({("Muon, NS5", 100): 3.3e9}.items())
        self.assertEqual(quiet(lab_check.check_quadratic, runs), ["Muon, NS5, step 100: 3.3e+09, reference 3.0e+08"])

    def test_the_floor_is_a_floor(self):
        self.assertEqual(
            quiet(lab_check.check_quadratic, reference_runs({("PolarGrad, polar first", 500): 9e-7}.items())), []
        )
        above = reference_runs({("PolarGrad, polar first", 500): 2e-6}.items())
        self.assertEqual(len(quiet(lab_check.check_quadratic, above)), 1)

    def test_what_varies_with_the_draw_is_said_and_passes(self):
        runs = reference_runs({("PolarGrad, QDWH, decay", 100): 1e-3}.items())
        self.assertEqual(quiet(lab_check.check_quadratic, runs), [])

    def test_on_the_authors_draw_nothing_may_vary(self):
        self.assertEqual(quiet(lab_check.check_quadratic, reference_runs(), authors=True), [])
        runs = reference_runs({("PolarGrad, QDWH, decay", 100): 1e-3}.items())
        self.assertEqual(
            quiet(lab_check.check_quadratic, runs, authors=True),
            ["PolarGrad, QDWH, decay, step 100: 1.0e-03, reference 3.1e+01"],
        )

    def test_of_what_oscillates_the_median_around_the_step_counts(self):
        runs = reference_runs({("Adam, decay", 2000): 0.07}.items())
        self.assertEqual(len(quiet(lab_check.check_quadratic, runs)), 1)
        self.assertEqual(len(quiet(lab_check.check_quadratic, runs, authors=True)), 1)
        for gaps in runs["Adam, decay"]:
            gaps.update({1499: 1e-9, 1500: 3.0, 2500: 4.0, 2501: 1e-9})
        with contextlib.redirect_stdout(io.StringIO()) as said:
            self.assertEqual(lab_check.check_quadratic(runs, authors=True), [])
        self.assertIn("7.0e-02 ~ 3.0e+00", said.getvalue())
        self.assertIn("Adam, decay, step 2000 alone: 7.0e-02, reference 5.1e+00", said.getvalue())

    def test_the_authors_draw_is_known_by_generator_and_seed(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "quadratic.json"
            for draw, seeds, expected in (
                ("torch", [42], True),
                ("torch", [42, 43], False),
                ("torch", [1], False),
                ("polartrain", [42], False),
                (None, [42], False),
            ):
                data = {"draws": [{"seed": seed} for seed in seeds]} | ({"draw": draw} if draw else {})
                path.write_text(json.dumps(data))
                self.assertEqual(lab_check.is_authors_draw(path), expected, (draw, seeds))

    def test_a_plateau_that_falls_is_seen(self):
        runs = reference_runs({("Muon, NS5", 4000): 1e4}.items())
        self.assertEqual(len(quiet(lab_check.check_quadratic, runs)), 1)

    def test_what_diverged_has_no_value(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "quadratic.json"
            path.write_text(json.dumps({"runs": [run_of("Adam", {100: 3.6e5}, diverged=True)]}))
            self.assertEqual(lab_check.load(path), {"Adam": [{}]})
        self.assertIsNone(lab_check.median([{}, {100: 1.0}], 100))


class Thin(unittest.TestCase):
    def test_points_lie_evenly_and_the_tables_stay(self):
        steps = list(range(0, 1001, 2))
        run = run_of("Adam", {step: 1.23456 for step in steps})
        with tempfile.TemporaryDirectory() as folder:
            source, target = pathlib.Path(folder) / "completion.json", pathlib.Path(folder) / "thin" / "completion.json"
            source.write_text(json.dumps({"problem": "completion", "quantities": [{"key": "gap"}], "runs": [run]}))
            lab_check.thin(source, target)
            thinned = json.loads(target.read_text())["runs"][0]
        self.assertEqual(len(thinned["step"]), len(thinned["gap"]))
        self.assertEqual(set(thinned["gap"]), {1.23})
        self.assertTrue({0, 2, 20, 50, 100, 200, 500, 1000} <= set(thinned["step"]))
        self.assertLess(len(thinned["step"]), 60)


if __name__ == "__main__":
    unittest.main()
