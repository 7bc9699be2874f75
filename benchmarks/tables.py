"""The speed tables of the README, as Markdown made from the figures of the benchmarks."""

from measuring import shown

PACKAGES = {
    "tensorflow": "TensorFlow",
    "keras": "Keras",
    "keras-hub": "KerasHub",
    "ctranslate2": "CTranslate2",
    "torch": "PyTorch",
}
# Columns: who was measured, and the header.
RECURRENT = {
    "keras": "hand-written cell in `keras.layers.RNN`",
    "torch": "PyTorch loop",
    "graph": "ours, graph",
    "xla": "ours, XLA",
    "graph-bfloat16": "ours, graph, mixed bfloat16",
}
ATTENTION = {
    "keras": "Keras' `MultiHeadAttention`",
    "blockwise": "ours, blockwise",
    "auto": "ours, chosen by `auto`",
    "torch": "PyTorch SDPA",
}
FIRST_TOKEN = {
    "keras-hub-graph": "KerasHub, graph",
    "graph": "ours, graph",
    "keras-hub-xla": "KerasHub, XLA",
    "xla": "ours, XLA",
}
DECODING = {
    "keras-hub-xla": "KerasHub, XLA",
    "keras-hub-graph": "KerasHub, graph",
    "ctranslate2": "CTranslate2",
    "ctranslate2-int8": "CTranslate2 int8",
    "graph": "ours, graph",
    "graph-bfloat16": "ours, graph bfloat16",
    "xla": "ours, XLA",
    "xla-bfloat16": "ours, XLA bfloat16",
}
TRAINING = {"padded": "padded, in use", "bucketed": "bucketed, in use", "packed": "packed, in use"}
# Names of the lines.
LENGTHS = {"cmudict": "CMUdict", "ted": "translated talks, about (log-normal)"}
MODES = {"graph": "graph, float32", "graph-bfloat16": "graph, mixed bfloat16", "xla": "XLA, float32"}


def recurrent(rows):
    """Returns the rate of training steps relative to a hand-written cell."""
    rows = [row for row in rows if row["work"] == "train"]

    def name(row):
        return f"{row['cell'].upper()}, {row['length']}" + (", a quarter padding" if row["padded"] else "")

    return by_group(rows, "way", RECURRENT, "cell, length", name, lambda row: shown(row["ratio"]))


def attention(rows):
    """Returns the time relative to Keras (seconds without Keras) and the peak memory of causal attention."""
    rows = [row for row in rows if (row["work"], row["causal"]) == ("both", True)]

    def content(row):
        time = f"{row['seconds']:.2f} s" if row["ratio"] is None else shown(row["ratio"])
        return f"{time}, {row['megabytes']:,.0f} MB"

    return by_group(rows, "who", ATTENTION, "positions", lambda row: f"{row['length']:,}", content)


def decoding(rows):
    """Returns the tokens per second of generation, and the seconds to the first token, as two tables."""

    def rate(row):
        only_ratio = row["ratio"] is not None and row["who"] != "keras-hub-xla"
        return shown(row["ratio"]) if only_ratio else with_ratio(row, "rate", 0, "ratio")

    corner = "batch, beams, tokens"
    rates = by_group(rows, "who", DECODING, corner, search, rate)
    first = by_group(rows, "who", FIRST_TOKEN, corner, search, lambda row: with_ratio(row, "first", 1, "first_ratio"))
    text = "Seconds to the first token, tracing and compilation included, and the ratio to KerasHub in the same mode:"
    return f"{rates}\n\n{text}\n\n{first}"


def training_step(rows):
    """Returns the tokens per second of a training step, and the seconds to the end of the first, of each mode."""
    header = ["mode", "KerasHub, tokens/s", "ours, tokens/s", "KerasHub, first step, s", "ours, first step, s"]
    lines = []
    for mode in dict.fromkeys(row["mode"] for row in rows):
        found = {row["who"]: row for row in rows if row["mode"] == mode}
        rates = [with_ratio(found.get(who), "rate", 0, "ratio") for who in ("keras-hub", "ours")]
        firsts = [with_ratio(found.get(who), "first", 1, "first_ratio") for who in ("keras-hub", "ours")]
        lines.append([MODES[mode], *rates, *firsts])
    return markdown(header, lines)


def training(rows):
    """Returns the rate of useful tokens relative to padded batches, and the fraction of positions in use."""

    def name(row):
        return f"{LENGTHS[row['lengths']]}; {row['tokens']:,}"

    def content(row):
        return f"{row['ratio']:.2f}, {row['used']:.0%}"

    return by_group(rows, "layout", TRAINING, "lengths of; tokens in a batch", name, content)


def search(row):
    """Returns the name of a setting of `decoding.py`."""
    beams = "greedy" if row["beams"] == 1 else f"beam {row['beams']}"
    return f"{row['batch']}, {beams}, {row['length']}"


def with_ratio(row, name, digits, ratio):
    """Returns a figure and its ratio to the peer, if there is one; empty without a row."""
    if row is None:
        return ""
    return f"{row[name]:,.{digits}f}" + ("" if row[ratio] is None else f" ({row[ratio]:.2f})")


def by_group(rows, key, columns, corner, name, content):
    """Returns a table with a line for each group of rows, and a column for each value of a key that occurs.

    Args:
        rows: The figures.
        key: The key of the columns.
        columns: The headers of the columns by value of the key.
        corner: Header of the first column.
        name: Function from a row to the name of its line.
        content: Function from a row to the text of its cell.
    """
    used = [value for value in columns if any(row[key] == value for row in rows)]
    lines = {}
    for row in rows:
        lines.setdefault(name(row), {})[row[key]] = content(row)
    header = [corner, *(columns[value] for value in used)]
    return markdown(header, [[line, *(cells.get(value, "") for value in used)] for line, cells in lines.items()])


def markdown(header, lines):
    """Returns a Markdown table."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *lines))


def caption(figures):
    """Returns where, with what and when figures were measured, as a line."""
    machine, versions = figures["machine"], figures["versions"]
    libraries = ", ".join(f"{name} {versions[package]}" for package, name in PACKAGES.items() if package in versions)
    return f"{figures['date']}, {machine['cores']} cores ({machine['cpu']}), {libraries}."


TABLES = {  # by script
    "recurrent": recurrent,
    "attention": attention,
    "decoding": decoding,
    "training_step": training_step,
    "training": training,
}


def all_tables(results):
    """Returns the tables of the scripts that have figures, by script."""
    return {
        script: f"{make(results[script]['rows'])}\n\n{caption(results[script])}"
        for script, make in TABLES.items()
        if script in results
    }


def replace_tables(text, tables):
    """Returns a text in which each table stands between its marks, `<!-- table: SCRIPT -->` and `<!-- end -->`.

    Raises:
        ValueError: If the text lacks the marks of a table.
    """
    for script, table in tables.items():
        before, start, rest = text.partition(f"<!-- table: {script} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        if not end:
            raise ValueError(f"The text must have the lines `<!-- table: {script} -->` and `<!-- end -->`.")
        text = f"{before}{start}{table}\n{end}{after}"
    return text
