"""Would TF Serving run this model, and would its answers be the model's?"""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

from keras_attn.serving.folders import version_folder
from keras_attn.serving.rules import Finding, findings


@dataclasses.dataclass(frozen=True)
class Report:
    """What `check` found.

    Attributes:
        folder: The SavedModel.
        findings: A `Finding` per rule.
    """

    folder: pathlib.Path
    findings: tuple

    @property
    def ok(self):
        """Whether nothing is wrong; notes do not count."""
        return not any(finding.problems for finding in self.findings)

    def __str__(self):
        lines = [f"{self.folder}: {'can be served' if self.ok else 'CANNOT be served as it is'}"]
        for rule, problems, notes in self.findings:
            state = "FAIL" if problems else "note" if notes else "ok  "
            lines += [f"  {state}  {rule}", *(f"        {sentence}" for sentence in (*problems, *notes))]
        return "\n".join(lines)


def check(path, timeout=600):
    """Checks a SavedModel against TF Serving's default flags, and its answers against those at the export.

    First by reading it: signatures that can be batched and written as JSON, no op that needs XLA
    or that the server does not link, all files there. Then by running it: a process of its own
    loads it with XLA switched off, through the loader that servers use, answers the warm-up
    requests and compares: texts and ids exactly, numbers to 1e-4. Then it does what a server's
    batching does: it fills short rows with their first element, merges requests, and splits the
    answers, which must be those of each alone. Where that cannot be, because a model that is
    simply called has an input of free sizes, the report holds a note, and `report.ok` stays true.

    Args:
        path: A SavedModel, or a folder of numbered versions, of which the newest is checked.
        timeout: Seconds that loading and answering may take.

    Returns:
        A `Report`: true or false as `report.ok`, readable as `str(report)`.

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
    return Report(folder, (*findings(folder), *replayed(folder, timeout)))


def replayed(folder, timeout):
    """Returns the `Finding`s of the process that loads and runs the model."""
    command = [sys.executable, "-m", "keras_attn.serving.replay", str(folder)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}  # a training may hold the GPU
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
