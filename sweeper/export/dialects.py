"""Translation of the text of `writer` to the functions of a library: plain Python, jax.numpy or keras.ops."""

from __future__ import annotations

import ast
from dataclasses import dataclass

ELEMENTARY = ("cos", "exp", "expm1", "floor", "log", "sqrt", "tanh")


@dataclass(frozen=True)
class Dialect:
    """How functions are written.

    Attributes:
        elementary: Prefix of `ELEMENTARY`.
        minimum: And `maximum`: of two.
        maximum: As above.
        where: A template of condition, yes and no.
        count: A template of a list and a number.
        at: A template of a list and an index.
    """

    elementary: str
    minimum: str
    maximum: str
    where: str
    count: str
    at: str


PYTHON = Dialect("math.", "min", "max", "({1} if {0} else {2})", "bisect.bisect_right({0}, {1})", "{0}[{1}]")
JAX = Dialect(
    "jnp.",
    "jnp.minimum",
    "jnp.maximum",
    "jnp.where({0}, {1}, {2})",
    'jnp.searchsorted(jnp.asarray({0}), {1}, side="right")',
    "jnp.asarray({0})[jnp.asarray({1}, int)]",
)
KERAS = Dialect(
    "ops.",
    "ops.minimum",
    "ops.maximum",
    "ops.where({0}, {1}, {2})",
    'sum(ops.cast({1} >= bound, "float32") for bound in {0})',
    'ops.take(ops.convert_to_tensor({0}, dtype="float32"), ops.cast({1}, "int32"))',
)


def translate(text: str, dialect: Dialect) -> str:
    """Return an expression in a dialect, without needless parentheses."""
    tree = _Translator(dialect).visit(ast.parse(text, mode="eval"))
    return ast.unparse(ast.fix_missing_locations(tree))


class _Translator(ast.NodeTransformer):
    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect

    def visit_Call(self, node: ast.Call) -> ast.AST:  # the library's name
        self.generic_visit(node)
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        given = [ast.unparse(argument) for argument in node.args]
        if name in ELEMENTARY:
            return _parsed(f"{self._dialect.elementary}{name}({', '.join(given)})")
        if name in ("minimum", "maximum"):
            return _parsed(f"{getattr(self._dialect, name)}({', '.join(given)})")
        if name in ("where", "count", "at"):
            return _parsed(getattr(self._dialect, name).format(*given))
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return _parsed("math.pi") if node.id == "pi" else node


def _parsed(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body
