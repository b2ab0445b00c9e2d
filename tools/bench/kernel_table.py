#!/usr/bin/env python3
"""Tables what the compiler says of every kernel: registers, static shared memory, stack, spills, and the share of a
multiprocessor's warps that its registers and block size allow (dynamic shared memory, chosen at launch, may allow fewer).
Needs nvcc and no GPU."""

import argparse
import concurrent.futures
import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
REGISTERS, WARPS, BLOCKS = 65536, {"80": 64, "90a": 64, "100": 64, "120": 48}, 32  # of a multiprocessor
ENTRY = re.compile(r"Compiling entry function '(\S+)' for")
SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")
THREADS = re.compile(r"\.entry\s+(\w+)\(.*?\)\s*((?:\.\w+[ \d,]*\s*)*)\{", re.S)


def compile_file(source, architecture):
    """ptxas's report and the PTX of one file."""
    common = ["nvcc", "-std=c++20", f"-I{ROOT}", f"-I{ROOT / 'kernels'}", str(source), "-o", "/dev/stdout",
              "-gencode"]  # fmt: skip
    report = subprocess.run([*common[:-3], "-cubin", "-Xptxas", "-v", "-o", "/dev/null", f"-arch=sm_{architecture}"],
                            capture_output=True, text=True)  # fmt: skip
    ptx = subprocess.run([*common, f"arch=compute_{architecture},code=compute_{architecture}", "-ptx"],
                         capture_output=True, text=True)  # fmt: skip
    for done in (report, ptx):
        if done.returncode != 0:
            sys.exit(f"{source}: nvcc failed\n{done.stderr}")
    return report.stderr, ptx.stdout


def block_sizes(ptx):
    sizes = {}
    for name, directives in THREADS.findall(ptx):
        found = re.search(r"\.(?:maxntid|reqntid) (\d+)(?:, (\d+))?(?:, (\d+))?", directives)
        if found:
            size = 1
            for part in found.groups():
                size *= int(part or 1)
            sizes[name] = size
    return sizes


def occupancy(registers, threads, architecture):
    """Share of the warps that fit: registers are given to a warp in units of 256."""
    warps_of_block = -(-threads // 32)
    registers_of_warp = -(-registers * 32 // 256) * 256
    blocks = min(BLOCKS, WARPS[architecture] // warps_of_block, REGISTERS // (registers_of_warp * warps_of_block))
    return blocks * warps_of_block / WARPS[architecture]


def rows_of(source, architecture):
    report, ptx = compile_file(source, architecture)
    threads = block_sizes(ptx)
    rows, row = [], None
    for line in report.splitlines():
        if match := ENTRY.search(line):
            row = {"file": source.name, "kernel": match[1], "architecture": architecture}
        elif row is not None and (match := SPILLS.search(line)):
            row["stack"], row["spill_stores"], row["spill_loads"] = (int(value) for value in match.groups())
        elif row is not None and (match := USED.search(line)):
            row["registers"] = int(match[1])
            row["shared"] = int(shared[1]) if (shared := SHARED.search(line)) else 0
            row["threads"] = threads.get(row["kernel"])
            if row["threads"]:
                row["occupancy"] = occupancy(row["registers"], row["threads"], architecture)
            rows.append(row)
            row = None
    return rows


def demangle(names):
    done = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True)
    # Without the parameters: what stands after the closing bracket of the template's arguments.
    return [re.sub(r"^void |polar::kernels::|\(anonymous namespace\)::|\(.*$", "", name)
            for name in done.stdout.splitlines()]  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     epilog="example: tools/bench/kernel_table.py --json kernels.json")  # fmt: skip
    parser.add_argument("--architectures", nargs="+", default=["80", "90a"], choices=list(WARPS))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the rows there, too")
    arguments = parser.parse_args()
    jobs = [(source, architecture) for source in sorted((ROOT / "kernels").glob("*.cu"))
            for architecture in arguments.architectures]  # fmt: skip
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        rows = [row for rows in pool.map(lambda job: rows_of(*job), jobs) for row in rows]
    for row, name in zip(rows, demangle([row["kernel"] for row in rows])):
        row["kernel"] = name
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    print("| file | kernel | sm | registers | shared | stack | spills | threads | occupancy |")
    print("|---|---|---|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        share = f"{100 * row['occupancy']:.0f} %" if "occupancy" in row else ""
        print(f"| {row['file']} | `{row['kernel']}` | {row['architecture']} | {row['registers']} | {row['shared']} | "
              f"{row['stack']} | {row['spill_stores'] + row['spill_loads']} | {row['threads'] or ''} | {share} |")  # fmt: skip
    spilled = [row for row in rows if row["spill_stores"] + row["spill_loads"] > 0]
    print(f"\n{len(rows)} kernels, {len(spilled)} with spills", file=sys.stderr)


if __name__ == "__main__":
    main()
