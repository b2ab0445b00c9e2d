#!/usr/bin/env python3
"""Tables what the compiler says of every kernel: registers, shared memory, stack, spills, and how many warps of a
multiprocessor registers, shared memory and block size leave room for.

Writes kernels-sm<ARCHITECTURE>.md and .json into the folder of --output. Exit code 1 if a hot kernel spills registers:
one that a training step in bf16 launches. Needs nvcc and no GPU. Block sizes and dynamic shared memory are chosen at
launch: they are those that the tests of the CUDA backend launched with, written down by
    rm -f launches.txt
    EMULATOR_LAUNCHES=launches.txt build/release/tests/test_cuda
    EMULATOR_LAUNCHES=launches.txt EMULATOR_CAPABILITY=80 build/release/tests/test_cuda
and given as --launches launches.txt."""

import argparse
import concurrent.futures
import dataclasses
import json
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
RESULTS = pathlib.Path(__file__).resolve().parent / "results"


@dataclasses.dataclass(frozen=True)
class Multiprocessor:
    warps: int
    blocks: int
    shared: int  # bytes; a block's part is what it asks for and RESERVED
    registers: int = 65536


RESERVED, SHARED_UNIT, REGISTER_UNIT, SCHEDULERS = 1024, 128, 256, 4
MULTIPROCESSORS = {"80": Multiprocessor(64, 32, 164 << 10), "90a": Multiprocessor(64, 32, 228 << 10),
                   "100": Multiprocessor(64, 32, 228 << 10), "120": Multiprocessor(48, 24, 100 << 10)}  # fmt: skip

# Hot is what a step in bf16 launches for every layer or every parameter: all but the float variants of attention and of
# the polar products, which are for tests and for fp32.
COLD = re.compile(r"^(attention|polar)_\w+<float")

ENTRY = re.compile(r"Compiling entry function '(\S+)' for")
SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")
THREADS = re.compile(r"\.entry\s+(\w+)\(.*?\)\s*((?:\.\w+[ \d,]*\s*)*)\{", re.S)


def compile_file(source, architecture):
    """ptxas's report and the PTX of one file."""
    with tempfile.TemporaryDirectory() as folder:
        ptx = pathlib.Path(folder) / (source.stem + ".ptx")
        common = ["nvcc", "-std=c++20", f"-I{ROOT}", f"-I{ROOT / 'kernels'}"]
        target = f"arch=compute_{architecture},code=compute_{architecture}"
        report = ""
        for command in ([*common, "-gencode", target, "-ptx", str(source), "-o", str(ptx)],
                        ["nvcc", f"-arch=sm_{architecture}", "-cubin", "-Xptxas", "-v", str(ptx), "-o", "/dev/null"]):  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                sys.exit(f"{source}: nvcc failed\n{done.stderr}")
            report += done.stderr
        return report, ptx.read_text()


def block_sizes(ptx):
    """Threads of a block by kernel, where __launch_bounds__ says them."""
    sizes = {}
    for name, directives in THREADS.findall(ptx):
        found = re.search(r"\.(?:maxntid|reqntid) (\d+)(?:, (\d+))?(?:, (\d+))?", directives)
        if found:
            size = 1
            for part in found.groups():
                size *= int(part or 1)
            sizes[name] = size
    return sizes


def parse_report(report):
    """One row for every kernel in what `ptxas -v` says."""
    rows, row = [], None
    for line in report.splitlines():
        if match := ENTRY.search(line):
            row = {"kernel": match[1]}
        elif row is not None and (match := SPILLS.search(line)):
            row["stack"], row["spill_stores"], row["spill_loads"] = (int(value) for value in match.groups())
        elif row is not None and (match := USED.search(line)):
            row["registers"] = int(match[1])
            row["shared_static"] = int(shared[1]) if (shared := SHARED.search(line)) else 0
            rows.append(row)
            row = None
    return rows


def parse_launches(text):
    """The largest (threads, dynamic shared memory) that every kernel was launched with."""
    launches = {}
    for number, line in enumerate(text.splitlines(), 1):
        parts = line.split()
        if len(parts) != 3 or not parts[1].isdigit() or not parts[2].isdigit():
            sys.exit(f"launches, line {number}: found '{line}', expected 'kernel threads bytes'")
        launch = (int(parts[1]), int(parts[2]))
        launches[parts[0]] = max(launches.get(parts[0], launch), launch)
    return launches


def occupancy(registers, shared, threads, architecture):
    """Blocks that a multiprocessor has room for, and what keeps it from having more. Registers are given to a warp in
    units of 256 from those of its scheduler, a quarter of all; shared memory to a block in units of 128 bytes."""
    room = MULTIPROCESSORS[architecture]
    warps = -(-threads // 32)
    registers_of_warp = -(-registers * 32 // REGISTER_UNIT) * REGISTER_UNIT
    warps_by_registers = room.registers // SCHEDULERS // registers_of_warp * SCHEDULERS
    shared_of_block = -(-(shared + RESERVED) // SHARED_UNIT) * SHARED_UNIT
    limits = {"warps": room.warps // warps, "blocks": room.blocks, "registers": warps_by_registers // warps,
              "shared memory": room.shared // shared_of_block}  # fmt: skip
    limit = min(limits, key=limits.get)
    return limits[limit], limit


def complete(rows, source, architecture, threads, launches):
    """Adds the file, block size, dynamic shared memory and occupancy to rows of parse_report."""
    for row in rows:
        row["file"], row["architecture"] = source, architecture
        launched = launches.get(row["kernel"])
        row["threads"] = launched[0] if launched else threads.get(row["kernel"])
        row["shared_dynamic"] = launched[1] if launched else None
        if row["threads"]:
            shared = row["shared_static"] + (row["shared_dynamic"] or 0)
            row["blocks"], row["limit"] = occupancy(row["registers"], shared, row["threads"], architecture)
            row["warps"] = row["blocks"] * -(-row["threads"] // 32)
            row["occupancy"] = row["warps"] / MULTIPROCESSORS[architecture].warps
    return rows


def demangle(names):
    done = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True)
    return [readable(name) for name in done.stdout.splitlines()]


def readable(name):
    """Without return type, namespace and parameters: `rms_norm_forward_kernel<float, 4>`."""
    name = re.sub(r"polar::kernels::|\(anonymous namespace\)::", "", name.removeprefix("void "))
    name = re.sub(r"\((?:unsigned |signed )?(?:int|long|bool|char|[A-Z]\w*)\)", "", name)  # of template arguments
    return name.split("(")[0]


def spilled(row):
    return row["spill_stores"] + row["spill_loads"] > 0


def markdown(rows, architecture):
    room = MULTIPROCESSORS[architecture]
    lines = [f"# Kernels for sm_{architecture}", "",
             f"By the compiler's report (`tools/bench/kernel_table.py`), not measured. A multiprocessor has room for {room.warps} "
             f"warps, {room.registers} registers and {room.shared >> 10} KiB of shared memory. Threads and dynamic shared "
             "memory as launched by the tests; `?`: not launched there.", "",
             "| file | kernel | registers | shared static + dynamic | stack | spills | threads | blocks | warps | occupancy | limit |",
             "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---|"]  # fmt: skip
    for row in rows:
        dynamic = "?" if row["shared_dynamic"] is None else row["shared_dynamic"]
        room_for = (f"{row['threads']} | {row['blocks']} | {row['warps']} | {100 * row['occupancy']:.0f} % | {row['limit']}"
                    if row["threads"] else "? | | | |")  # fmt: skip
        hot = "" if is_hot(row) else " (not hot)"
        lines.append(f"| {row['file']} | `{row['name']}`{hot} | {row['registers']} | {row['shared_static']} + {dynamic} | "
                     f"{row['stack']} | {row['spill_stores'] + row['spill_loads']} | {room_for} |")  # fmt: skip
    spills = sum(spilled(row) for row in rows)
    hot_spills = sum(spilled(row) and is_hot(row) for row in rows)
    lines += ["", f"{len(rows)} kernels, {spills} with spills, {hot_spills} of them hot."]
    return "\n".join(lines) + "\n"


def is_hot(row):
    return COLD.match(row["name"]) is None


def table_of(architecture, sources, launches, pool):
    def rows_of(source):
        report, ptx = compile_file(source, architecture)
        return complete(parse_report(report), source.name, architecture, block_sizes(ptx), launches)

    rows = [row for rows in pool.map(rows_of, sources) for row in rows]
    for row, name in zip(rows, demangle([row["kernel"] for row in rows])):
        row["name"] = name
    rows = [row for row in rows if architecture == "90a" or "_sm90_" not in row["name"]]  # else they are empty
    rows.sort(key=lambda row: (row["file"], row["name"]))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     epilog="example: tools/bench/kernel_table.py --launches launches.txt")  # fmt: skip
    parser.add_argument("--architectures", nargs="+", default=["80", "90a"], choices=list(MULTIPROCESSORS))
    parser.add_argument("--launches", type=pathlib.Path, metavar="FILE", help="what EMULATOR_LAUNCHES wrote")
    parser.add_argument("--output", type=pathlib.Path, metavar="FOLDER", default=RESULTS, help="default: %(default)s")
    parser.add_argument("--jobs", type=int, default=2, help="compilers at a time")
    parser.add_argument("--only", default="", metavar="TEXT", help="only files whose name has it")
    arguments = parser.parse_args()
    launches = parse_launches(arguments.launches.read_text()) if arguments.launches else {}
    sources = [path for path in sorted((ROOT / "kernels").glob("*.cu")) if arguments.only in path.name]
    arguments.output.mkdir(parents=True, exist_ok=True)
    code = 0
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        for architecture in arguments.architectures:
            rows = table_of(architecture, sources, launches, pool)
            name = arguments.output / f"kernels-sm{architecture}"
            name.with_suffix(".json").write_text(
                "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")  # fmt: skip
            name.with_suffix(".md").write_text(markdown(rows, architecture))
            print(f"{name}.md: {len(rows)} kernels")
            for row in rows:
                if spilled(row):
                    hot = is_hot(row)
                    code = 1 if hot else code
                    print(f"{'HOT ' if hot else ''}{row['name']} for sm_{architecture} spills {row['spill_stores']} bytes")
    return code


if __name__ == "__main__":
    sys.exit(main())
