"""Small modules, short functions, few parameters."""

import ast
import io
import tokenize

LONGEST_MODULE = {"vitrail.explain.trace": 250, "vitrail.training.fit": 300}
LONGEST_FUNCTION = 45
MOST_PARAMETERS = 8
MOST_POSITIONAL = 2
MOST_POSITIONAL_PRIVATE = 4  # docs/decisions/0002
SILENT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


def code_lines(module):
    """Return the numbers of the lines that hold code: no blanks, comments, or docstrings."""
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(module.text).readline):
        if token.type not in SILENT:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            lines.difference_update(range(node.lineno, node.end_lineno + 1))
    return lines


def functions(module):
    return [
        node
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def too_long(module):
    """Tell which module or functions hold more code than the budget."""
    lines = code_lines(module)
    longest = LONGEST_MODULE.get(module.name, 350)
    found = [f"{module.name}: {len(lines)} lines > {longest}"] if len(lines) > longest else []
    for node in functions(module):
        size = len(lines & {*range(node.lineno, node.end_lineno + 1)})
        if size > LONGEST_FUNCTION:
            found.append(f"{module.name}.{node.name}: {size} lines > {LONGEST_FUNCTION}")
    return found


def too_many_parameters(module):
    """Tell which functions take too many parameters, or too many by position."""
    found = []
    for node in functions(module):
        positional = [*node.args.posonlyargs, *node.args.args]
        if positional and positional[0].arg in {"self", "cls"}:
            positional = positional[1:]
        extra = [part for part in (node.args.vararg, node.args.kwarg) if part]
        number = len(positional) + len(node.args.kwonlyargs) + len(extra)
        private = node.name.startswith("_") and not node.name.endswith("__")
        most = MOST_POSITIONAL_PRIVATE if private else MOST_POSITIONAL
        if number > MOST_PARAMETERS or len(positional) > most:
            if excused(module, node):
                continue
            found.append(f"{module.name}.{node.name}: {number}, {len(positional)} by position")
    return found


def excused(module, node):
    """Return whether the function's signature is another's, and says so to the linter as well."""
    head = module.text.splitlines()[node.lineno - 1 : node.body[0].lineno]
    return any("noqa" in line and "PLR091" in line for line in head)


def test_a_module_and_its_functions_stay_within_their_budget(module):
    assert too_long(module) == []


def test_a_long_module_and_a_long_function_are_found(sample):
    body = "x = 1\n" * 300
    assert too_long(sample(body, name="vitrail.explain.trace"))
    assert not too_long(sample(body))
    assert too_long(sample("def f():\n" + "    x = 1\n" * 45))
    assert not too_long(
        sample("def f():\n    '''Tell.\n\n    More.\n    '''\n" + "    x = 1\n" * 44)
    )


def test_a_function_takes_few_parameters_and_at_most_two_by_position(module):
    if not module.name.startswith("vitrail.cli"):  # a command's parameters are its options
        assert too_many_parameters(module) == []


def test_too_many_parameters_are_found(sample):
    assert too_many_parameters(sample("def f(a, b, c): ...\n"))
    assert too_many_parameters(sample("def f(*, a, b, c, d, e, f, g, h, i): ...\n"))
    assert too_many_parameters(sample("def _f(a, b, c, d, e): ...\n"))
    assert not too_many_parameters(sample("def _f(a, b, c, d): ...\n"))
    assert not too_many_parameters(sample("class A:\n    def f(self, a, b, *, c): ...\n"))
