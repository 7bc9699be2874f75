"""Measures all speed tables of the README, peers in the same runs, and prints them as Markdown.

Runs the scripts of this folder with their defaults, one after the other: less than five minutes and 4 GB each.
The figures go to `results.json`, for each script with the machine, the versions, the date and the commit;
figures of scripts that do not run stay there. The tables come from this file only.

    python benchmarks/all.py                        # measure all, and print the tables
    python benchmarks/all.py --only decoding
    python benchmarks/all.py --tables               # print the tables of the file, without measuring
    python benchmarks/all.py --tables --readme      # put them into the README too
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

from measuring import ROOT
from tables import TABLES, all_tables, replace_tables

FOLDER = pathlib.Path(__file__).resolve().parent


def main():
    arguments = parse_arguments()
    results = json.loads(arguments.out.read_text(encoding="utf-8")) if arguments.out.exists() else {}
    for name in [] if arguments.tables else arguments.only:
        results[name] = measured(name, ["--memory-limit", arguments.memory_limit] if name == "attention" else [])
        arguments.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    tables = all_tables(results)
    for name, table in tables.items():
        print(f"\n{name}.py:\n\n{table}")
    if arguments.readme:
        text = arguments.readme.read_text(encoding="utf-8")
        arguments.readme.write_text(replace_tables(text, tables), encoding="utf-8")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[*TABLES], choices=[*TABLES], help="which scripts to run")
    parser.add_argument("--tables", action="store_true", help="measure nothing")
    parser.add_argument(
        "--readme",
        type=pathlib.Path,
        nargs="?",
        default=None,
        const=ROOT / "README.md",
        help="file into which to put the tables, by default the README",
    )
    parser.add_argument(
        "--memory-limit", default="4", help="GB for attention; with 12, Keras' layer is measured at 8,192 positions too"
    )
    parser.add_argument("--out", type=pathlib.Path, default=FOLDER / "results.json", help="JSON file of all figures")
    return parser.parse_args()


def measured(name, options):
    """Runs a script and returns the figures that it writes."""
    print(f"\n{name}.py", *options, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "figures.json"
        if subprocess.run([sys.executable, FOLDER / f"{name}.py", *options, "--out", out]).returncode:
            raise SystemExit(f"{name}.py failed.")
        figures = json.loads(out.read_text(encoding="utf-8"))
    print(f"{name}.py took {figures['seconds']} s, and {figures['megabytes']:,} MB at most in one process", flush=True)
    return figures


if __name__ == "__main__":
    main()
