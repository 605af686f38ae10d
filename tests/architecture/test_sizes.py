"""Code that strangers can read: modules with one subject, functions of one page."""

import ast

MODULE_LINES = 600
FUNCTION_LINES = 50


def test_modules_have_at_most_600_lines(modules):
    assert {module.path: module.lines for module in modules if module.lines > MODULE_LINES} == {}


def test_functions_have_at_most_50_lines(modules):
    too_long = {
        f"{module.path}:{node.lineno} {node.name}": length
        for module in modules
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := node.end_lineno - node.lineno + 1) > FUNCTION_LINES
    }
    assert too_long == {}
