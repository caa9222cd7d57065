"""Sections of `gpu-check` that run other programs: pytest, compute-sanitizer, the training."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.gpu.job import ROOT, Job
from benchmarks.gpu.needs import sanitizer_path

TESTS = ROOT / "tests"
MARK = "mark.gpu"
SAVE_EVERY = 250
"""Steps between checkpoints of the training, which is stopped by the clock."""
STOP_S = 12.0
"""Kept back at the end of the training, to stop it and to write weights."""
_RESULT = re.compile(r"^(\S+::.+?) (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b")
_REASON = re.compile(r"^(SKIPPED|FAILED|ERROR) .*")
_ERRORS = re.compile(r"(?:ERROR SUMMARY|RACECHECK SUMMARY): (.*)")


def tests(job: Job) -> None:
    """Run the tests marked `gpu`; each result is recorded as it comes."""
    files = sorted(
        str(path.relative_to(ROOT))
        for path in TESTS.rglob("test_*.py")
        if MARK in path.read_text(encoding="utf-8")
    )
    call = [sys.executable, "-m", "pytest", "-m", "gpu", "-v", "-p", "no:cacheprovider", *files]
    results: dict[str, str] = {}
    reasons: list[str] = []
    with _started(call) as process:
        assert process.stdout is not None
        for line in _echoed(process.stdout):
            if found := _RESULT.match(line):
                results[found[1]] = found[2]
                job.keep(tests=results)
            elif _REASON.match(line):
                reasons.append(line)
    job.keep(tests=results, reasons=reasons, exit_code=process.returncode)
    failed = [name for name, result in results.items() if result in ("FAILED", "ERROR")]
    job.check("no test fails", process.returncode == 0 and not failed, failed or reasons[-3:])
    passed = sum(result == "PASSED" for result in results.values())
    job.check("some tests ran", passed > 0, passed)


def memcheck(job: Job) -> None:
    """Check memory accesses."""
    _sanitize(job, "memcheck")


def racecheck(job: Job) -> None:
    """Check shared memory for races."""
    _sanitize(job, "racecheck")


def _sanitize(job: Job, tool: str) -> None:
    path = sanitizer_path()
    assert path is not None, "the section needs `sanitizer`"
    code = (
        "from benchmarks.gpu.job import Job, Setup; from benchmarks.gpu.sections import sanitized; "
        "import sys; job = Job(Setup.from_json(sys.argv[1]), 0); sanitized(job); "
        "sys.exit(not all(check['holds'] for check in job.checks))"
    )
    call = [str(path), "--tool", tool, "--error-exitcode", "99",
            sys.executable, "-c", code, job.setup.to_json()]  # fmt: skip
    with _started(call) as process:
        assert process.stdout is not None
        lines = [line for line in _echoed(process.stdout) if line.startswith("=====")]
    summary = [found[1] for line in lines if (found := _ERRORS.search(line))]
    job.keep(tool=tool, summary=summary, lines=lines[-20:], exit_code=process.returncode)
    job.check(f"{tool} ran to its summary", bool(summary), lines[-3:])
    clean = all(re.match(r"0 (errors|hazards)", line) for line in summary)
    job.check(f"{tool} finds nothing, results are exact", clean and process.returncode == 0,
              summary or process.returncode)  # fmt: skip


def training(job: Job) -> None:
    """Train on the GPU for the time of the section; a run that exists is continued."""
    from training import checkpoint
    from training.recipe.schema import read_recipe
    from training.recipe.show import to_toml

    setup, run = job.setup, job.setup.out / "training"
    recipe = dataclasses.replace(read_recipe(setup.recipe), save_every=SAVE_EVERY)
    run.mkdir(parents=True, exist_ok=True)
    (run / "recipe.toml").write_text(to_toml(recipe), encoding="utf-8")
    job.keep(recipe=recipe.name, steps=recipe.steps, bf16=recipe.bf16, run=str(run))
    job.check("the recipe computes in bfloat16", recipe.bf16, recipe.bf16)
    before = _steps_done(run)
    finished = _train(training_call(job, run), job.seconds - STOP_S)
    done = _steps_done(run)
    job.keep(steps_before=before, steps_done=done, finished=finished, **_journal(run))
    job.check("the run wrote a checkpoint", done > before or done == recipe.steps, done)
    if not finished and done:
        tensors, facts = checkpoint.load(run / "last.safetensors")
        weights = checkpoint.without_prefix("ema", tensors)
        kept = {"recipe": facts["recipe"], "step": facts["step"]}
        checkpoint.save(run / "weights.safetensors", weights, kept)
    job.keep(weights=str(run / "weights.safetensors"))


def training_call(job: Job, run: Path) -> list[str]:
    """Return the command line of the training."""
    setup = job.setup
    call = [sys.executable, "-m", "training", str(run / "recipe.toml"), "--device", "cuda",
            "--data", str(setup.train_data), "--out", str(run)]  # fmt: skip
    for option, path in (("--start-from", setup.start_from), ("--teacher", setup.teacher)):
        call += [option, str(path)] if path is not None else []
    return call


def _train(call: list[str], seconds: float) -> bool:
    """Return whether the run came to its end; raise if it failed before the time was over."""
    process = subprocess.Popen(call, cwd=ROOT)
    try:
        code = process.wait(max(1.0, seconds))
    except subprocess.TimeoutExpired:
        # checkpoints are replaced atomically: only the steps since the last one are lost
        process.terminate()
        process.wait()
        return False
    if code:
        raise RuntimeError(f"the training failed with exit code {code}; see the log")
    return True


def _steps_done(run: Path) -> int:
    from training import checkpoint

    last = run / "last.safetensors"
    return int(checkpoint.load(last)[1]["step"]) if last.exists() else 0


def _journal(run: Path) -> dict[str, Any]:
    path = run / "log.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {"last_evaluation": json.loads(lines[-1]) if lines else None}


def _started(call: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        call, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def _echoed(lines: Iterable[str]) -> Iterable[str]:
    """Yield lines, and copy them to the log of the section."""
    for line in lines:
        sys.stdout.write(f"{time.strftime('%H:%M:%S')} {line}")
        sys.stdout.flush()
        yield line.rstrip()
