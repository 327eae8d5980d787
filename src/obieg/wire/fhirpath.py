"""FHIRPath as far as the invariants of FHIR R4 use it (http://hl7.org/fhirpath/N1/), compiled to functions.

An expression becomes a tree of closures, each from the focus (a list of nodes) and what surrounds it to a list of
nodes. What cannot be decided from the resource alone (quantities in two units, dates of two precisions) raises
:class:`obieg.wire.fhirpath_values.Undecided`: it breaks no rule. Three departures from the letter of N1, as the
published rules need them and other validators have them: ``is`` of nothing is false, and so are ``startsWith``,
``contains`` and ``matches``; ``in`` takes several on its left, all of which must be in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NoReturn

from obieg.wire.fhir_elements import Exact
from obieg.wire.fhirpath_values import (
    BOOLEAN,
    DECIMAL,
    FALSE,
    INTEGER,
    NOTHING,
    STRING,
    TRUE,
    Node,
    Nodes,
    Scope,
    Undecided,
    as_boolean,
    children,
    collect,
    compared,
    descendants,
    equal,
    key_of,
    truth_of,
)

UCUM = "http://unitsofmeasure.org"


class ExpressionRefused(Exception):  # noqa: N818
    """The expression is not of the subset that is understood here."""


Step = Callable[[Nodes, Nodes, Scope], Nodes]  # what stands before the dot, $this, what surrounds


@cache
def compiled(expression: str) -> Callable[[Node, Scope], bool]:
    """Whether the rule holds of a node. Raises ExpressionRefused here, Undecided when it is asked."""
    step = _Parser(expression).whole()

    def holds(node: Node, scope: Scope) -> bool:
        scope.context = node
        focus = [node]
        return truth_of(step(focus, focus, scope)) is True

    return holds


# functions: what stands before the dot, the arguments, $this, what surrounds ---------------------------------------


def _one_text(nodes: Nodes) -> str | None:
    """The text; None for nothing."""
    if not nodes:
        return None
    if len(nodes) > 1:
        raise Undecided
    value = nodes[0].value
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _each(focus: Nodes, step: Step, scope: Scope) -> Iterator[tuple[Node, Nodes]]:
    for node in focus:
        this = [node]
        yield node, step(this, this, scope)


def _text_function(work: Callable[[str, list[str]], Any], kind: str) -> Callable[..., Nodes]:
    nothing = FALSE if kind == BOOLEAN else NOTHING

    def function(focus: Nodes, arguments: list[Step], this: Nodes, scope: Scope) -> Nodes:
        text = _one_text(focus)
        said = [_one_text(argument(this, this, scope)) for argument in arguments]
        given = [g for g in said if g is not None]
        if text is None or len(given) < len(said):
            return nothing
        made = work(text, given)
        return NOTHING if made is None else [Node(made, kind)]

    return function


def _to_integer(text: str, _: list[str]) -> int | None:
    return int(text) if re.fullmatch(r"[+-]?\d{1,18}", text, re.ASCII) else None


def _exists(focus: Nodes, arguments: list[Step], _this: Nodes, scope: Scope) -> Nodes:
    return as_boolean(any(truth_of(found) for _, found in _each(focus, arguments[0], scope)))


def _has_value(focus: Nodes) -> Nodes:
    return as_boolean(len(focus) == 1 and focus[0].value is not None and not isinstance(focus[0].value, dict))


def _not(focus: Nodes) -> Nodes:
    truth = truth_of(focus)
    return as_boolean(None if truth is None else not truth)


def _distinct(focus: Nodes) -> Nodes:
    return as_boolean(len({key_of(node) for node in focus}) == len(focus))


def _intersect(focus: Nodes, arguments: list[Step], this: Nodes, scope: Scope) -> Nodes:
    return _common(focus, {key_of(node) for node in arguments[0](this, this, scope)})


def _common(focus: Nodes, keys: set[Any]) -> Nodes:
    return list({key: node for node in focus if (key := key_of(node)) in keys}.values())


def _iif(focus: Nodes, arguments: list[Step], _this: Nodes, scope: Scope) -> Nodes:
    condition, then, *otherwise = arguments
    if truth_of(condition(focus, focus, scope)):
        return then(focus, focus, scope)
    return otherwise[0](focus, focus, scope) if otherwise else NOTHING


def _resolve(focus: Nodes, _arguments: list[Step], _this: Nodes, scope: Scope) -> Nodes:
    """What a reference names within the resource; other resources are not at hand."""
    texts = [n.value.get("reference") for n in focus if isinstance(n.value, dict)]
    found = [scope.contained.get(text[1:]) for text in texts if isinstance(text, str) and text[:1] == "#"]
    return [node for node in found if node is not None]


def _substring(text: str, given: list[str]) -> str | None:
    start = int(given[0])
    return text[start:] if 0 <= start < len(text) else None


_PLAIN: dict[str, Callable[[Nodes], Nodes]] = {  # without arguments
    "children": lambda focus: [child for node in focus for child in children(node)],
    "count": lambda focus: [Node(len(focus), INTEGER)],
    "descendants": lambda focus: [child for node in focus for child in descendants(node)],
    "empty": lambda focus: FALSE if focus else TRUE,
    "exists": lambda focus: TRUE if focus else FALSE,
    "first": lambda focus: focus[:1],
    "hasValue": _has_value,
    "isDistinct": _distinct,
    "not": _not,
    "tail": lambda focus: focus[1:],
}
_FUNCTIONS: dict[str, Callable[[Nodes, list[Step], Nodes, Scope], Nodes]] = {
    "all": lambda f, a, _, s: as_boolean(all(truth_of(found) is True for _, found in _each(f, a[0], s))),
    "combine": lambda f, a, t, s: [*f, *a[0](t, t, s)],
    "contains": _text_function(lambda text, given: given[0] in text, BOOLEAN),
    "exists": _exists,
    "iif": _iif,
    "intersect": _intersect,
    "matches": _text_function(lambda text, given: re.fullmatch(given[0], text, re.DOTALL) is not None, BOOLEAN),
    "replaceMatches": _text_function(lambda text, given: re.sub(given[0], given[1], text), STRING),
    "resolve": _resolve,
    "select": lambda f, a, _, s: [node for _, found in _each(f, a[0], s) for node in found],
    "startsWith": _text_function(lambda text, given: text.startswith(given[0]), BOOLEAN),
    "substring": _text_function(_substring, STRING),
    "toInteger": _text_function(_to_integer, INTEGER),
    "toString": _text_function(lambda text, _: text, STRING),
    "where": lambda f, a, _, s: [node for node, found in _each(f, a[0], s) if truth_of(found)],
}
_TYPED = frozenset({"is", "as", "ofType"})


# operators -------------------------------------------------------------------------------------------------------


def _and(left: Step, right: Step) -> Step:
    def step(focus: Nodes, this: Nodes, scope: Scope) -> Nodes:
        one = truth_of(left(focus, this, scope))
        if one is False:
            return FALSE
        other = truth_of(right(focus, this, scope))
        return as_boolean(False if other is False else None if one is None or other is None else True)

    return step


def _or(left: Step, right: Step) -> Step:
    def step(focus: Nodes, this: Nodes, scope: Scope) -> Nodes:
        one = truth_of(left(focus, this, scope))
        if one:
            return TRUE
        other = truth_of(right(focus, this, scope))
        return as_boolean(True if other else None if one is None or other is None else False)

    return step


def _xor(left: Step, right: Step) -> Step:
    def step(focus: Nodes, this: Nodes, scope: Scope) -> Nodes:
        one, other = truth_of(left(focus, this, scope)), truth_of(right(focus, this, scope))
        return as_boolean(None if one is None or other is None else one != other)

    return step


def _implies(left: Step, right: Step) -> Step:
    def step(focus: Nodes, this: Nodes, scope: Scope) -> Nodes:
        one = truth_of(left(focus, this, scope))
        if one is False:
            return TRUE
        other = truth_of(right(focus, this, scope))
        return as_boolean(True if other else other if one else None)

    return step


def _on_values(work: Callable[[Nodes, Nodes], Nodes]) -> Callable[[Step, Step], Step]:
    def operator(left: Step, right: Step) -> Step:
        return lambda focus, this, scope: work(left(focus, this, scope), right(focus, this, scope))

    return operator


def _in(left: Nodes, right: Nodes) -> Nodes:
    keys = {key_of(node) for node in right}
    return as_boolean(all(key_of(node) in keys for node in left)) if left else NOTHING


def _unequal(left: Nodes, right: Nodes) -> Nodes:
    same = equal(left, right)
    return as_boolean(None if same is None else not same)


_ORDER: dict[str, Callable[[int], bool]] = {
    "<": lambda c: c < 0, ">": lambda c: c > 0, "<=": lambda c: c <= 0, ">=": lambda c: c >= 0,
}  # fmt: skip


def _ordered(sign: str) -> Callable[[Nodes, Nodes], Nodes]:
    def work(left: Nodes, right: Nodes) -> Nodes:
        if not left or not right:
            return NOTHING
        if len(left) > 1 or len(right) > 1:
            raise Undecided
        return as_boolean(_ORDER[sign](compared(left[0], right[0])))

    return work


def _plus(left: Nodes, right: Nodes) -> Nodes:
    if not left or not right:
        return NOTHING
    one, other = left[0].value, right[0].value
    if isinstance(one, int) and isinstance(other, int):
        return [Node(one + other, INTEGER)]
    return [Node(f"{_one_text(left)}{_one_text(right)}", STRING)]


_OPERATORS: dict[str, Callable[[Step, Step], Step]] = {
    "and": _and,
    "or": _or,
    "xor": _xor,
    "implies": _implies,
    "=": _on_values(lambda a, b: as_boolean(equal(a, b))),
    "!=": _on_values(_unequal),
    **{sign: _on_values(_ordered(sign)) for sign in _ORDER},
    "in": _on_values(_in),
    "contains": _on_values(lambda a, b: _in(b, a)),
    "|": _on_values(lambda a, b: list({key_of(node): node for node in (*a, *b)}.values())),
    "+": _on_values(_plus),
    "&": _on_values(lambda a, b: [Node((_one_text(a) or "") + (_one_text(b) or ""), STRING)]),
}
# From the weakest to the strongest (N1, 6.8).
_LEVELS = (
    ("implies",), ("or", "xor"), ("and",), ("in", "contains"), ("=", "!="), ("<=", ">=", "<", ">"), ("|",),
    ("is", "as"), ("+", "&"),
)  # fmt: skip


def _typed(focus: Nodes, function: str, name: str) -> Nodes:
    """``is``, ``as``, ``ofType``; a type of FHIRPath stands for that of FHIR as well."""
    names = (name, name[0].lower() + name[1:])
    if function == "is":
        return as_boolean(len(focus) == 1 and focus[0].kind in names)
    return [node for node in focus if node.kind in names]


# parsing ---------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:\\.|[^'\\])*')|(?P<number>\d+(?:\.\d+)?)|(?P<name>[%$]?[A-Za-z_]\w*)|(?P<sign><=|>=|!=|[-+|&=<>().,\[\]]))"
)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "f": "\f"}


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda m: chr(int(m[1][1:], 16)) if len(m[1]) > 1 else _ESCAPED.get(m[1], m[1]), text[1:-1])


class _Parser:
    """One expression.

    A part that depends on nothing but the resource or its container is worked out once for that: with each step goes
    the attribute of the scope where its result is kept, that it is a constant, or nothing.
    """

    def __init__(self, expression: str) -> None:
        self._expression = expression
        self._tokens: list[tuple[str, str]] = []
        position, end = 0, len(expression.rstrip())
        while position < end:
            match = _TOKEN.match(expression, position)
            if match is None:
                self._refuse(f"at character {position}")
            self._tokens.append((str(match.lastgroup), match[str(match.lastgroup)]))
            position = match.end()
        self._next = 0

    def _refuse(self, said: str) -> NoReturn:
        raise ExpressionRefused(f"{said} of {self._expression}")

    def _peek(self) -> str:
        return self._tokens[self._next][1] if self._next < len(self._tokens) else ""

    def _take(self, wanted: str = "") -> tuple[str, str]:
        if self._next == len(self._tokens) or (wanted and self._peek() != wanted):
            self._refuse(f"{wanted or 'more'} is expected before token {self._next}")
        self._next += 1
        return self._tokens[self._next - 1]

    def whole(self) -> Step:
        step, _ = self._level(0)
        if self._peek():
            self._refuse(f"{self._peek()} is not understood")
        return step

    def _level(self, level: int) -> tuple[Step, str]:
        """The step, and where its result is kept."""
        if level == len(_LEVELS):
            return self._chain()
        start = self._next
        left, fixed = self._level(level + 1)
        while (sign := self._peek()) in _LEVELS[level]:
            self._take()
            if sign in _TYPED:
                left = _of_type(left, sign, self._take()[1])
                continue
            right, right_fixed = self._level(level + 1)
            if right_fixed in _KEPT and not fixed and sign == "in":
                left = _in_fixed(left, _kept_keys(right, right_fixed))
            else:
                left = _OPERATORS[sign](left, right)
            fixed = _joint(fixed, right_fixed)
            left = self._kept(left, fixed, start)
        return left, fixed

    def _chain(self) -> tuple[Step, str]:
        start = self._next
        step, fixed = self._term()
        while self._peek() == ".":
            self._take()
            step, fixed = self._invocation(step, fixed=fixed)
            step = self._kept(step, fixed, start)
        return step, fixed

    def _kept(self, step: Step, fixed: str, start: int) -> Step:
        """Equal parts of expressions share one result: what is written in the tokens from ``start``."""
        if fixed not in _KEPT:
            return step
        return _kept(step, fixed, " ".join(text for _, text in self._tokens[start : self._next]))

    def _term(self) -> tuple[Step, str]:
        group, token = self._take()
        if group == "text":
            return _constant(Node(_unescaped(token), STRING)), _CONSTANT
        if group == "number":
            return _constant(Node(Exact(token), DECIMAL) if "." in token else Node(int(token), INTEGER)), _CONSTANT
        if token in ("true", "false"):
            return _constant(Node(token[0] == "t", BOOLEAN)), _CONSTANT
        match token:
            case "(":
                step, fixed = self._level(0)
                self._take(")")
                return step, fixed
            case "$this":
                return (lambda _, this, _scope: this), ""
            case "%resource":
                return (lambda _, _this, scope: [scope.resource]), "kept"
            case "%rootResource":
                return (lambda _, _this, scope: [scope.root]), "kept_of_root"
            case "%context":
                return (lambda _, _this, scope: [scope.context]), ""
            case "%ucum":
                return _constant(Node(UCUM, STRING)), _CONSTANT
        if group != "name":
            self._refuse(f"{token} is not understood")
        self._next -= 1
        return self._invocation(lambda _, this, _scope: this, fixed="", first=True)

    def _invocation(self, before: Step, *, fixed: str, first: bool = False) -> tuple[Step, str]:
        group, name = self._take()
        if group != "name" or name[0] in "%$":
            self._refuse(f"a name is expected in place of {name}")
        if self._peek() != "(":
            return _member(before, name, first=first), fixed
        self._take("(")
        if name in _TYPED:
            step = _of_type(before, name, self._take()[1])
            self._take(")")
            return step, fixed
        arguments: list[Step] = []
        kept = ""
        while self._peek() != ")":
            if arguments:
                self._take(",")
            argument, kept = self._level(0)
            arguments.append(argument)
        self._take(")")
        if name == "trace":  # shows what goes through it, somewhere else
            return before, fixed
        if name in _PLAIN and not arguments:
            plain = _PLAIN[name]
            return (lambda focus, this, scope: plain(before(focus, this, scope))), fixed
        if name not in _FUNCTIONS:
            self._refuse(f"{name}() with {len(arguments)} arguments is not known")
        if name == "intersect" and kept in _KEPT:
            keys = _kept_keys(argument, kept)
            return (lambda focus, this, scope: _common(before(focus, this, scope), keys(focus, this, scope))), ""
        function = _FUNCTIONS[name]
        step = lambda focus, this, scope: function(before(focus, this, scope), arguments, this, scope)  # noqa: E731
        return step, "" if arguments else fixed


_CONSTANT = "constant"
_KEPT = ("kept", "kept_of_root")  # attributes of Scope


def _joint(one: str, other: str) -> str:
    """Where the result of two parts together is kept."""
    if other in (one, _CONSTANT):
        return one
    return other if one == _CONSTANT else "kept" if one and other else ""


def _constant(node: Node) -> Step:
    nodes = [node]
    return lambda _focus, _this, _scope: nodes


def _kept(step: Step, where: str, key: str) -> Step:
    """Worked out once for a resource, or for all that one contains."""

    def kept(focus: Nodes, this: Nodes, scope: Scope) -> Nodes:
        results: dict[Any, Nodes] = getattr(scope, where)
        found = results.get(key)
        if found is None:
            found = results[key] = step(focus, this, scope)
        return found

    return kept


def _kept_keys(step: Step, where: str) -> Callable[[Nodes, Nodes, Scope], set[Any]]:
    """What is among them, for what is asked of many."""
    key = object()

    def keys(focus: Nodes, this: Nodes, scope: Scope) -> set[Any]:
        results: dict[Any, set[Any]] = getattr(scope, where)
        found = results.get(key)
        if found is None:
            found = results[key] = {key_of(node) for node in step(focus, this, scope)}
        return found

    return keys


def _in_fixed(left: Step, keys: Callable[[Nodes, Nodes, Scope], set[Any]]) -> Step:
    """``in`` with a right side that is the same for all."""

    def step(focus: Nodes, this: Nodes, scope: Scope) -> Nodes:
        wanted = left(focus, this, scope)
        return as_boolean(keys(focus, this, scope) >= {key_of(node) for node in wanted}) if wanted else NOTHING

    return step


def _of_type(before: Step, function: str, name: str) -> Step:
    return lambda focus, this, scope: _typed(before(focus, this, scope), function, name)


def _member(before: Step, name: str, *, first: bool) -> Step:
    def step(focus: Nodes, this: Nodes, scope: Scope) -> Nodes:
        found: Nodes = []
        for node in before(focus, this, scope):
            if first and node.kind == name:
                found.append(node)
            else:
                collect(node, name, found)
        return found

    return step
