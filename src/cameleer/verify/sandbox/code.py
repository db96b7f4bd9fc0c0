"""Whether the Python code of a response passes tests. Everything runs in the sandbox (`sandbox`).

A target is a dict with a `kind`:

    function   prompt, tests, entry_point    tests define check(candidate), as in HumanEval; the prompt is the beginning
                                             of the program, up to the function's body
    asserts    tests, [setup]                tests is a list of statements that must not raise, as in MBPP
    unittest   tests, [entry_point]          tests is source with TestCase classes, as in BigCodeBench
    stdin      cases                         a list of {"input", "output"}; the program reads and prints

and for each kind, if wanted: `prefix`, code put before the program; `limits`, fields of `sandbox.Limits`;
`libraries: true`, which lets the program import what this Python environment has installed; `requires`, the packages
without which nothing can be judged: where one is not installed the verdict is an error.

**Which code is judged.** The response is a list of fenced blocks (a fence left open ends with the text) and a
beginning, which is what stands before the first line that begins with a fence, or everything. Code is *complete* if it
parses and defines the entry point at its top level (`asserts`: one of the names that the tests use; `stdin`: anything).
Judged is the last complete block (`stdin`: the longest), or else the beginning, if that is complete. With a prompt,
complete code goes after the prompt, so that it may use the prompt's imports and helpers; and where nothing is complete,
the beginning, or else the last of the blocks, that continues the prompt's text into a longer definition of the entry
point. Continuing is what Tülu 3 grades, whose assistant turn begins with an opened fence. A response that has none of
these is unparseable.

**What a verdict proves.** For `function` and `asserts` the tests run in a process that the program cannot reach: no
exit, printed text, patched built-in, raised or redefined exception, stolen secret or object that equals everything
passes a test (`judge`). For `stdin` the outputs are compared outside. `unittest` has to share the process with
the program and proves less (`unittest`). None can tell a solution from answers that were learnt by heart.

A program that exceeds a limit, crashes, or ends early is a wrong answer: its response is at fault. `error` is left for
a failure of the sandbox itself, and `timeout` for the deadline of the pool around it.
"""

import ast
import builtins
import re
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from decimal import Decimal, InvalidOperation
from importlib.util import find_spec
from typing import Any

from cameleer.core.errors import UserError, did_you_mean
from cameleer.verify.sandbox.process import START_SECONDS
from cameleer.verify.sandbox.run import Judgement, Limits, Run, run_judged, run_python, run_unit_tests
from cameleer.verify.verdict import Outcome, Verdict, graded

MAX_DETAIL_CHARACTERS = 500
MAX_BLOCKS = 64
"""Of a response with more fenced blocks, the first are not looked at: each costs a parse."""
MAX_CHARACTERS = 1 << 18
"""Of a response: what no answer comes near to, and few enough to parse, which takes a hundred times their memory."""
_FENCE = re.compile(r"^[ \t]*```[^\n`]*\n(.*?)(?:^[ \t]*```|\Z)", re.MULTILINE | re.DOTALL)
_CLOSING_FENCE = re.compile(r"^[ \t]*```", re.MULTILINE)
_OPTIONAL = {"prefix": str, "limits": dict, "libraries": bool, "requires": list}
_KEYS: dict[str, dict[str, type]] = {
    "function": {"prompt": str, "tests": str, "entry_point": str},
    "asserts": {"tests": list, "setup": str},
    "unittest": {"tests": str, "entry_point": str},
    "stdin": {"cases": list},
}
_MAY_LACK = {("asserts", "setup"), ("unittest", "entry_point"), *((kind, key) for kind in _KEYS for key in _OPTIONAL)}


def verify_code(response: str, target: dict[str, Any]) -> Verdict:
    """The verdict of the target's tests on the response's code; a malformed target raises a UserError."""
    _check_target(target)
    missing = [name for name in target.get("requires", ()) if find_spec(name) is None]
    if missing:
        return Verdict(Outcome.ERROR, None, {"error": f"needs packages that are not installed: {', '.join(missing)}"})
    program = find_program(response, target)
    if isinstance(program, Verdict):
        return program
    settings = Limits(**target.get("limits", {})), _site_folders(target)
    return _JUDGES[target["kind"]](f"{target.get('prefix', '')}\n{program}", target, *settings)


def seconds_needed(target: dict[str, Any]) -> float:
    """How long a verdict may take at most: every run up to its wall limit, and each sandbox's start and end.

    Raises UserError for a malformed target.
    """
    _check_target(target)
    num_runs = len(target["cases"]) if target["kind"] == "stdin" else 1
    return num_runs * (Limits(**target.get("limits", {})).wall_seconds + START_SECONDS)


def find_program(response: str, target: Mapping[str, Any]) -> str | Verdict:
    """The code of a response that is to be judged, by the rule above, or the verdict `unparseable`."""
    if len(response) > MAX_CHARACTERS:
        reason = f"a response of {len(response):,} characters; {MAX_CHARACTERS:,} are read"
        return Verdict(Outcome.UNPARSEABLE, 0.0, {"reason": reason})
    prompt: str | None = target.get("prompt")
    wanted = _wanted_names(target)
    blocks = [match[1] for match in _FENCE.finditer(response)][-MAX_BLOCKS:]
    closing = _CLOSING_FENCE.search(response)
    beginning = response[: closing.start()] if closing else response
    complete = [code for code in blocks if _is_complete(code, wanted)]
    if complete or _is_complete(beginning, wanted):
        chosen = beginning if not complete else max(complete, key=len) if wanted is None else complete[-1]
        return chosen if prompt is None else f"{prompt}\n\n{chosen}"
    if prompt is not None:
        for code in [beginning, *reversed(blocks)]:
            if _continues(prompt, code, target["entry_point"]):
                return prompt + code
    text = blocks[-1] if blocks else beginning
    reason = _syntax_error(text if prompt is None else prompt + text) or "it does not define what the tests use"
    return Verdict(Outcome.UNPARSEABLE, 0.0, {"reason": f"no complete code in the response: {reason}"})


def _continues(prompt: str, code: str, entry_point: str) -> bool:
    """Whether the code, put right behind the prompt, adds to the entry point's definition."""
    before, after = (_parse(text) for text in (prompt, prompt + code))
    if isinstance(after, str):
        return False
    return isinstance(before, str) or _definition(before, entry_point) != _definition(after, entry_point)


def _definition(tree: ast.Module, name: str) -> str | None:
    """The last top-level definition of a function, written out."""
    found = [
        node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name
    ]
    return ast.dump(found[-1]) if found else None


def _wanted_names(target: Mapping[str, Any]) -> frozenset[str] | None:
    """Of which one must be defined at the top level; None if any code will do."""
    if "entry_point" in target:
        return frozenset([target["entry_point"]])
    if target["kind"] != "asserts":
        return None
    named: set[str] = set()
    for source in [target.get("setup", ""), *target["tests"]]:
        named |= {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
    # Tests that call nothing but `sum` mean the program's.
    return frozenset(named - set(dir(builtins))) or None


def _is_complete(code: str, wanted: frozenset[str] | None) -> bool:
    tree = _parse(code)
    if not isinstance(tree, ast.Module) or not tree.body:
        return False
    return wanted is None or not wanted.isdisjoint(_defined_names(tree))


def _defined_names(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)


def _parse(code: str) -> ast.Module | str:
    """The tree, or what is wrong with the text. Nesting beyond the parser's depth is wrong, too."""
    try:
        return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"{type(error).__name__}: {error}"


def _syntax_error(code: str) -> str | None:
    tree = _parse(code)
    return tree[:MAX_DETAIL_CHARACTERS] if isinstance(tree, str) else None


def _judge_function(program: str, target: dict[str, Any], limits: Limits, folders: list[str]) -> Verdict:
    setup = f"{target.get('prefix', '')}\n{target['prompt']}"
    found = run_judged(program, setup, [target["tests"]], target["entry_point"], limits, folders)
    return _verdict_of(found)


def _judge_asserts(program: str, target: dict[str, Any], limits: Limits, folders: list[str]) -> Verdict:
    return _verdict_of(run_judged(program, target.get("setup", ""), target["tests"], None, limits, folders))


def _judge_unittest(program: str, target: dict[str, Any], limits: Limits, folders: list[str]) -> Verdict:
    return _verdict_of(run_unit_tests(program, target["tests"], limits, folders))


def _judge_stdin(program: str, target: dict[str, Any], limits: Limits, folders: list[str]) -> Verdict:
    seconds = 0.0
    for number, case in enumerate(target["cases"]):
        run = run_python(program, case["input"], limits, folders)
        seconds += run.seconds
        if not run.succeeded:
            return graded(False, test=number, error=_end_of(run), limit=run.limit, seconds=seconds)
        if not same_output(run.stdout, case["output"]):
            return graded(False, test=number, error=f"printed {run.stdout[:MAX_DETAIL_CHARACTERS]!r}", seconds=seconds)
    return graded(True, seconds=seconds)


def same_output(printed: str, expected: str) -> bool:
    """Whether two texts agree line by line but for space around lines and empty lines at the end.

    Where the expected word is a decimal with a point or an exponent, an equal number will do: 1.50 for 1.5. Nothing is
    rounded, since how much may be lost is the problem's to say.
    """
    lines, wanted = (text.rstrip().split("\n") for text in (printed, expected))
    return len(lines) == len(wanted) and all(map(_same_line, lines, wanted))


def _same_line(line: str, wanted: str) -> bool:
    words, others = line.split(), wanted.split()
    if line.strip() == wanted.strip():
        return True
    return len(words) == len(others) and all(map(_same_word, words, others))


def _same_word(word: str, wanted: str) -> bool:
    if word == wanted:
        return True
    try:
        return any(letter in ".eE" for letter in wanted) and Decimal(word) == Decimal(wanted)
    except InvalidOperation:
        return False


def _verdict_of(found: Judgement) -> Verdict:
    run, report = found.run, found.report
    if report is not None and report["passed"]:
        return graded(True, seconds=run.seconds)
    if report is None or report.get("ended"):
        return graded(False, error=_end_of(run), limit=run.limit, seconds=run.seconds)
    if "unfit" in report:
        raise _unfit(f"has tests that cannot run outside the program's process: {report['unfit']}", _UNFIT_HINT)
    error, test = report["error"][:MAX_DETAIL_CHARACTERS], report["test"][:MAX_DETAIL_CHARACTERS]
    return graded(False, error=error, test=test, limit=run.limit, seconds=run.seconds)


def _end_of(run: Run) -> str:
    """In a few words how a program ended that should not have."""
    if run.limit is not None:
        return f"exceeded its {run.limit} limit"
    last = run.stderr.rstrip().rpartition("\n")[2][-MAX_DETAIL_CHARACTERS:]
    if run.status:
        return last or f"ended with status {run.status}"
    return f"killed by signal {run.signal}" if run.signal else "ended before its tests did"


def _site_folders(target: Mapping[str, Any]) -> list[str]:
    paths = sysconfig.get_paths()
    return sorted({paths["purelib"], paths["platlib"]}) if target.get("libraries") else []


_UNFIT_HINT = "Write them as unit tests (kind 'unittest'), which run inside it."
_JUDGES: dict[str, Callable[[str, dict[str, Any], Limits, list[str]], Verdict]] = {
    "function": _judge_function,
    "asserts": _judge_asserts,
    "unittest": _judge_unittest,
    "stdin": _judge_stdin,
}


def _check_target(target: Any) -> None:
    if not isinstance(target, dict) or target.get("kind") not in _KEYS:
        given = target.get("kind") if isinstance(target, dict) else target
        raise _unfit(f"has no known kind, but {given!r}", f"Known kinds: {', '.join(_KEYS)}.")
    kind: str = target["kind"]
    known = _KEYS[kind] | _OPTIONAL
    for key in target.keys() - known.keys() - {"kind"}:
        raise _unfit(f"has an unknown key '{key}'.{did_you_mean(key, known)}", f"Known: {', '.join(known)}.")
    for key, expected in known.items():
        if key in target and type(target[key]) is not expected:
            raise _unfit(f"has a {type(target[key]).__name__} as '{key}'", f"It must be a {expected.__name__}.")
        if key not in target and (kind, key) not in _MAY_LACK:
            raise _unfit(f"of kind '{kind}' lacks '{key}'", None)
    _check_parts(target)


def _check_parts(target: dict[str, Any]) -> None:
    if "limits" in target:
        known = [field.name for field in fields(Limits)]
        for name, value in target["limits"].items():
            whole = isinstance(value, int) or (isinstance(value, float) and name.endswith("_seconds"))
            if name not in known or not whole or isinstance(value, bool) or value <= 0:
                raise _unfit(
                    f"has the limit {name!r}: {value!r}", f"Positive, whole but for seconds: {', '.join(known)}."
                )
    if not target.get("tests", target.get("cases")):
        raise _unfit("has no test", "Without a test, every program would pass.")
    if target["kind"] == "stdin":
        cases = target["cases"]
        if not all(isinstance(case, dict) and _texts(case.get("input"), case.get("output")) for case in cases):
            raise _unfit("has a case that is no object of two texts, input and output", None)
        return
    if not all(isinstance(name, str) and name.isidentifier() for name in target.get("requires", ())):
        raise _unfit(f"requires {target['requires']!r}", "Name top-level packages.")
    tests = target["tests"]
    for name in ("prefix", "prompt", "setup"):
        _check_source(name, target.get(name, ""))
    for source in tests if isinstance(tests, list) else [tests]:
        _check_source("tests", source)


def _texts(*values: Any) -> bool:
    return all(isinstance(value, str) for value in values)


def _check_source(name: str, source: Any) -> None:
    wrong = _syntax_error(source) if isinstance(source, str) else f"a {type(source).__name__}"
    if wrong is not None:
        raise _unfit(f"has '{name}' that is not Python by itself: {wrong}", None)


def _unfit(what: str, hint: str | None) -> UserError:
    return UserError(f"The target of the verifier 'code' {what}", hint)
