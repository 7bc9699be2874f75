"""Checks that TF Serving can run an exported model, with the same answers as at its export."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

from keras_attn.serving.folders import version_folder
from keras_attn.serving.rules import Finding, findings


@dataclasses.dataclass(frozen=True)
class CheckReport:
    """The result of `check`.

    Attributes:
        folder: The SavedModel.
        findings: A `Finding` per rule.
    """

    folder: pathlib.Path
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong; notes do not count."""
        return not any(finding.problems for finding in self.findings)

    def __str__(self) -> str:
        lines = [f"{self.folder}: {'can be served' if self.ok else 'CANNOT be served as it is'}"]
        for rule, problems, notes in self.findings:
            state = "FAIL" if problems else "note" if notes else "ok  "
            lines += [f"  {state}  {rule}", *(f"        {sentence}" for sentence in (*problems, *notes))]
        return "\n".join(lines)


def check(path: str | os.PathLike[str], timeout: float = 600) -> CheckReport:
    """Checks a SavedModel against TF Serving's default flags, and compares its answers with those at the export.

    First it reads the model: all signatures can be batched and written as JSON, no op needs XLA or is
    unknown to the server, no file is missing. Then it runs the model in a separate process, with XLA
    switched off and with the loader that servers use. It answers the warm-up requests and compares:
    texts and ids exactly, numbers to 1e-4. Then it batches as a server does: it pads short rows with
    their first element, merges requests and splits the answers, which must equal those of each request
    alone. A model without steps cannot recognize this padding in an input of free sizes: the report then
    contains a note, and `report.ok` stays true.

    Args:
        path: A SavedModel, or a folder of numbered versions, of which the newest is checked.
        timeout: Seconds that loading and answering may take.

    Returns:
        A `CheckReport`: `report.ok` is a boolean, `str(report)` lists all rules.

    Raises:
        ValueError: If there is no SavedModel at `path`.

    Example:
    >>> from keras_attn import serving
    >>> print(serving.check("savedmodels/dates"))  # doctest: +SKIP
    savedmodels/dates/1: can be served
      ok    `serving_default` is there
      ...
    """
    folder = version_folder(path)
    return CheckReport(folder, (*findings(folder), *replayed(folder, timeout)))


def replayed(folder: pathlib.Path, timeout: float) -> list[Finding]:
    """Returns the `Finding`s of a process that loads and runs the model."""
    command = [sys.executable, "-m", "keras_attn.serving.replay", str(folder)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}  # a training may be using the GPU
    rule = "loads with XLA off and answers its warm-up requests"
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment)
    except subprocess.TimeoutExpired:
        return [Finding(rule, [f"no answer within {timeout} s"])]
    if run.returncode:
        last = [line for line in run.stderr.splitlines() if line.strip()] or [f"exit status {run.returncode}"]
        return [Finding(rule, [last[-1]])]
    found = json.loads(run.stdout.splitlines()[-1])
    return [
        Finding(f"loads with XLA off and answers its {found['requests']} warm-up requests", found["problems"]),
        Finding("answers do not depend on a server's batching", found["merged"], found["notes"]),
    ]
