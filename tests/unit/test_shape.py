"""The shape of the code: short files, short functions, few parameters."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
CODE = ("api", "wsi", "tiling", "models", "postprocess", "workflows", "benchmarks", ".ci")
FILE_LINES = 400
BODY_LINES = 60
BODY_LINES_P90 = 30
PARAMETERS = 6
POSITIONAL = 2
# `get` is zarr's: a store of ours has to take what its base class takes.
GIVEN_BY_BASE = {"__exit__", "__aexit__", "get", "postprocess"}
# numba compiles no keyword-only parameters.
COMPILED = {"jit", "njit", "vectorize"}
# typer reads a command's options from its parameters.
COMMAND = {"command", "callback"}

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


class Function(NamedTuple):
    place: str
    body_lines: int
    parameters: int
    positional: int
    is_command: bool = False
    order_is_given: bool = False


def files_under(*folders: str) -> list[Path]:
    return sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py"))


def body_lines(node: FunctionNode) -> int:
    """Lines from the first statement after the docstring to the last."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def names_of(node: FunctionNode) -> set[str]:
    """The decorators' names, called or not, without their module."""
    heads = [item.func if isinstance(item, ast.Call) else item for item in node.decorator_list]
    return {ast.unparse(head).split(".")[-1] for head in heads}


def measure(node: FunctionNode, *, place: str, is_method: bool) -> Function:
    arguments = node.args
    decorators = names_of(node)
    positional = len(arguments.posonlyargs) + len(arguments.args)
    positional -= is_method and "staticmethod" not in decorators
    extra = (arguments.vararg is not None) + (arguments.kwarg is not None)
    return Function(
        place=f"{place}:{node.lineno} {node.name}",
        body_lines=body_lines(node),
        parameters=positional + len(arguments.kwonlyargs) + extra,
        positional=positional,
        is_command=bool(decorators & COMMAND),
        order_is_given=node.name in GIVEN_BY_BASE or bool(decorators & (COMPILED | COMMAND)),
    )


def functions_in(tree: ast.Module, place: str) -> Iterator[Function]:
    for parent in ast.walk(tree):
        for node in ast.iter_child_nodes(parent):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield measure(node, place=place, is_method=isinstance(parent, ast.ClassDef))


@pytest.fixture(scope="module")
def functions() -> list[Function]:
    return [
        function
        for file in files_under(*CODE)
        for function in functions_in(
            ast.parse(file.read_text(encoding="utf-8")), file.relative_to(ROOT).as_posix()
        )
    ]


@pytest.mark.parametrize("folder", [*CODE, "tests"])
def test_files_are_short(folder: str) -> None:
    lengths = {
        file.relative_to(ROOT).as_posix(): len(file.read_text(encoding="utf-8").splitlines())
        for file in files_under(folder)
    }
    assert {file: lines for file, lines in lengths.items() if lines > FILE_LINES} == {}


def test_files_say_first_what_they_are_for() -> None:
    silent = [
        file.relative_to(ROOT).as_posix()
        for file in files_under(*CODE)
        if not file.read_text(encoding="utf-8").startswith('"""')
    ]
    assert silent == []


def test_examples_stand_where_the_documentation_finds_them() -> None:
    # "Example:" would be shown as running text, and not as code.
    unfound = [
        file.relative_to(ROOT).as_posix()
        for file in files_under(*CODE)
        if re.search(r"^\s+Example:$", file.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert unfound == []


def test_function_bodies_are_short(functions: list[Function]) -> None:
    assert [item for item in functions if item.body_lines > BODY_LINES] == []


def test_nine_functions_in_ten_are_shorter_still(functions: list[Function]) -> None:
    lengths = sorted(item.body_lines for item in functions)
    assert lengths[int(0.9 * (len(lengths) - 1))] <= BODY_LINES_P90


def test_functions_take_few_parameters(functions: list[Function]) -> None:
    many = [item for item in functions if item.parameters > PARAMETERS]
    assert [item for item in many if not item.is_command] == []


def test_parameters_after_the_second_are_keyword_only(functions: list[Function]) -> None:
    many = [item for item in functions if item.positional > POSITIONAL]
    assert [item for item in many if not item.order_is_given] == []


def test_the_measure_counts_as_a_reader_does() -> None:
    source = '''
class A:
    def f(self, a, b, *, c=1, **more):
        """Say."""
        x = (
            a
        )
        def inner(y): return y
        return x
    @staticmethod
    def g(a, b, d): ...
    def __exit__(self, a, b, c): ...
@numba.njit(cache=True)
def loop(a, b, c): ...
@app.command()
def run(a, b, c): ...
'''
    found = {item.place.split()[-1]: item for item in functions_in(ast.parse(source), "a.py")}
    assert found["f"] == Function("a.py:3 f", body_lines=5, parameters=4, positional=2)
    assert found["g"] == Function("a.py:11 g", body_lines=1, parameters=3, positional=3)
    assert found["inner"].positional == 1
    assert [item.order_is_given for item in found.values()].count(True) == 3
    assert found["__exit__"].order_is_given
    assert found["loop"].order_is_given
    assert found["run"].is_command
    assert not found["loop"].is_command
