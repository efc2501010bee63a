"""Writes docs/features.md: `python tests/feature_page.py` (`make docs`).

The rows are in docs/features.yaml. Which tests and benchmarks prove which row is read from their
source alone: `@pytest.mark.proves("F12")` on a test or in a module's `pytestmark`, and a constant
`PROVES = ("F12",)` in a benchmark. Nothing is imported and no test runs.
"""

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

CHECKOUT = Path(__file__).resolve().parents[1]
ROWS = CHECKOUT / "docs" / "features.yaml"
PAGE = CHECKOUT / "docs" / "features.md"
GPU_FOLDER = "tests/gpu/"
BY_HAND = {
    "faults": "make test-faults",
    "containers": "make test-containers",
    "cluster": "make test-cluster",
    "matrix": "make test-matrix",
    "peer": "make test-peer",
    "slow": "make test-slow",
}
WHOLE = ""

INTRODUCTION = """# Features and their proofs

This page is written by `make docs` from [features.yaml](features.yaml) and from the tests and
benchmarks that name the rows they prove. A row is *proven* when every part of it has a proof that
has run, *partly* when some have, and *not proven* otherwise: then it is not built, or nothing shows
it. Tests of `make test-gpu` have not run on a GPU yet and prove nothing until they have.
S: known from "Dreambooth-Stable-Diffusion"; P: from peers; N: nobody has it.
"""


@dataclass(frozen=True)
class Row:
    """One feature.

    Attributes:
        id: F01, F02, ...
        feature: what it is, in words.
        source: S, P or N.
        parts: what it consists of, by short name; empty where it is shown as a whole.
    """

    id: str
    feature: str
    source: str
    parts: Mapping[str, str] = field(default_factory=dict)

    @property
    def claims(self) -> list[str]:
        """What a proof may name: the parts, or the whole row where it has none."""
        return [f"{self.id}/{part}" for part in self.parts] or [self.id]


@dataclass(frozen=True)
class Proof:
    """A test or a benchmark that shows something.

    Attributes:
        claim: `F12` or `F12/part`.
        path: its file, from the checkout.
        name: the test; empty for a whole module and for a benchmark.
        marks: names of the pytest markers that it has.
    """

    claim: str
    path: str
    name: str = ""
    marks: frozenset[str] = frozenset()

    @property
    def has_run(self) -> bool:
        """Whether it runs where nothing is missing: tests of a GPU have not yet."""
        return not self.path.startswith(GPU_FOLDER)

    def shown(self) -> str:
        """Return it as a link, with the command where `make test` does not run it."""
        label = self.name.removeprefix("test_").replace("_", " ") or Path(self.path).stem
        command = next((text for mark, text in BY_HAND.items() if mark in self.marks), "")
        if self.path.startswith("benchmarks/"):
            command = "benchmark"
        return f"[{label}](../{self.path})" + (f" ({command})" if command else "")


def read_rows(path: Path = ROWS) -> list[Row]:
    """Return the rows of a file in its order."""
    rows = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [Row(r["id"], r["feature"], r["from"], r.get("parts", {})) for r in rows]


def read_proofs(checkout: Path = CHECKOUT) -> list[Proof]:
    """Return what every test and benchmark of a checkout claims, by file and place."""
    found: list[Proof] = []
    for folder in ("tests", "benchmarks"):
        for path in sorted((checkout / folder).rglob("*.py")):
            source = path.read_text(encoding="utf-8")
            if "proves" in source or "PROVES" in source:
                place = path.relative_to(checkout).as_posix()
                found += _proofs_of(ast.parse(source), place)
    return found


def _proofs_of(module: ast.Module, path: str) -> Iterator[Proof]:
    """Yield the claims of one module."""
    of_module: list[ast.expr] = []
    for node in module.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            if node.targets[0].id == "pytestmark":
                value = node.value
                of_module = value.elts if isinstance(value, ast.List) else [value]
            elif node.targets[0].id == "PROVES":
                yield from (Proof(claim, path) for claim in ast.literal_eval(node.value))
    shared = _names(of_module)
    for claim in _claims(of_module):
        yield Proof(claim, path, "", shared)
    for node in module.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            marks = shared | _names(node.decorator_list)
            for claim in _claims(node.decorator_list):
                yield Proof(claim, path, node.name, marks)


def _claims(decorators: Sequence[ast.expr]) -> Iterator[str]:
    """Yield the arguments of every `pytest.mark.proves(...)`."""
    for decorator in decorators:
        if isinstance(decorator, ast.Call) and _name(decorator) == "proves":
            yield from (str(ast.literal_eval(argument)) for argument in decorator.args)


def _names(decorators: Sequence[ast.expr]) -> frozenset[str]:
    return frozenset(_name(decorator) for decorator in decorators)


def _name(decorator: ast.expr) -> str:
    """Return the last part of a decorator's dotted name."""
    target: Any = decorator.func if isinstance(decorator, ast.Call) else decorator
    return str(getattr(target, "attr", getattr(target, "id", "")))


def unknown_claims(rows: Sequence[Row], proofs: Sequence[Proof]) -> list[str]:
    """Return the claims that no row allows, with their files."""
    allowed = {claim for row in rows for claim in row.claims}
    return [f"{proof.path}: {proof.claim}" for proof in proofs if proof.claim not in allowed]


def status_of(row: Row, proofs: Sequence[Proof]) -> str:
    """Return `proven`, `partly` or `not proven`."""
    shown = {proof.claim for proof in proofs if proof.has_run}
    num_shown = sum(claim in shown for claim in row.claims)
    if num_shown == len(row.claims):
        return "proven"
    return "partly" if num_shown else "not proven"


def page(rows: Sequence[Row], proofs: Sequence[Proof]) -> str:
    """Return docs/features.md."""
    statuses = [status_of(row, proofs) for row in rows]
    counts = {name: statuses.count(name) for name in ("proven", "partly", "not proven")}
    lines = [
        INTRODUCTION,
        f"Of {len(rows)} rows: " + ", ".join(f"{n} {name}" for name, n in counts.items()) + ".",
        "",
        "| id | feature | from | status | shown by |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row.id} | {_cell(row.feature)} | {row.source} | {status} | {_evidence(row, proofs)} |"
        for row, status in zip(rows, statuses, strict=True)
    ]
    return "\n".join(lines) + "\n"


def _evidence(row: Row, proofs: Sequence[Proof]) -> str:
    """Return the proofs of a row, part by part."""
    texts = []
    for claim in row.claims:
        mine = [proof for proof in proofs if proof.claim == claim]
        links = "; ".join(dict.fromkeys(proof.shown() for proof in mine if proof.has_run))
        waiting = "; ".join(dict.fromkeys(proof.shown() for proof in mine if not proof.has_run))
        if waiting:
            links = (
                f"{links}; waits for a GPU: {waiting}" if links else f"waits for a GPU: {waiting}"
            )
        part = row.parts.get(claim.partition("/")[2], "")
        if part:
            texts.append(f"{_cell(part)}: {links or '**not proven**'}")
        elif links:
            texts.append(links)
    return "<br>".join(texts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    """Write the page.

    Raises:
        SystemExit: a test or benchmark names a row or part that there is not.
    """
    rows, proofs = read_rows(), read_proofs()
    unknown = unknown_claims(rows, proofs)
    if unknown:
        raise SystemExit("\n".join(["no such row or part:", *unknown]))
    PAGE.write_text(page(rows, proofs), encoding="utf-8")


if __name__ == "__main__":
    main()
