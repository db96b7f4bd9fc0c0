"""The value of an expression tree at a point: an exact fraction where it has one, else a complex number of 400 bits.

Work is bounded before it is done: numbers of more than MAX_BITS bits are never made exactly, an argument too large for
a function is refused, and every evaluation has a budget of operations. What cannot be evaluated raises UndecidedError.
Nothing here keeps state between calls or depends on the thread.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Any
from zlib import crc32

from cameleer.verify.maths.tree import Node

MAX_BITS = 1 << 15
"""An exact numerator or denominator has at most so many bits (2000! has 19,000)."""
MAX_FACTORIAL = 2500
MAX_COST = 6_000
"""Operations per evaluation; a function counts for `_FUNCTION_COST`, an exact number of n bits for n / 1024 more."""

PRECISION = 400
"""Bits of the mantissa of inexact numbers."""
TOLERANCE = 300
"""Two numbers are equal if they differ by less than 2^-300 of the largest term that led to either."""
MAX_MAGNITUDE = 200
"""Inexact numbers above 2^200 are not compared: their units digit is not known with a margin."""

_ARGUMENT_MAGNITUDE = 12
_FUNCTION_COST = 20

Complex = tuple[Any, Any]
"""Real and imaginary part as mpmath's raw floating-point tuples."""
Value = Fraction | Complex

TRIGONOMETRIC = frozenset(("sin", "cos", "tan", "cot", "sec", "csc"))
CONSTANTS = frozenset(("pi", "e", "i"))


class UndecidedError(Exception):
    """The expression has no value here, or none that bounded work can find."""


@lru_cache(maxsize=1)
def _libmp() -> Any:
    """mpmath's stateless arithmetic: functions of numbers and a precision. Imported once it is needed."""
    from mpmath import libmp

    return libmp


def inexact(value: Value) -> Complex:
    if isinstance(value, Fraction):
        mp = _libmp()
        return mp.from_rational(value.numerator, value.denominator, PRECISION, "n"), mp.fzero
    return value


def magnitude(value: Value) -> int:
    """The exponent of the next power of two above the absolute value; very negative for zero."""
    if isinstance(value, Fraction):
        size = value.numerator.bit_length() - value.denominator.bit_length() + 1
        return size if value else -(1 << 60)
    return max(part[2] + part[3] if part[1] else -(1 << 60) for part in value)


def values_equal(left: Value, right: Value, largest_term: int) -> bool:
    """Whether two values are equal: exactly for fractions, else up to TOLERANCE.

    `largest_term` is the magnitude of the largest term in any sum on the way to either value.
    """
    if isinstance(left, Fraction) and isinstance(right, Fraction):
        return left == right
    size = max(magnitude(left), magnitude(right), largest_term)
    if size > MAX_MAGNITUDE:
        raise UndecidedError("too large to compare")
    difference = _libmp().mpc_sub(inexact(left), inexact(right), PRECISION, "n")
    return magnitude(difference) < size - TOLERANCE


class Evaluator:
    """Evaluates trees at one point. `largest_term` then holds the largest magnitude that was added to another.

    `point` gives the value of a free symbol, `constants` are the symbols that have a fixed one, `percent` is what `%`
    stands for, and `upper` chooses the upper or the lower sign of `±`.
    """

    def __init__(
        self,
        point: Callable[[str], Fraction],
        constants: frozenset[str] = CONSTANTS,
        percent: Fraction = Fraction(1, 100),
        upper: bool = True,
    ) -> None:
        self.largest_term = -(1 << 60)
        self._point = point
        self._constants = constants
        self._percent = percent
        self._upper = upper
        self._in_trigonometric = False
        self._cost = 0
        self._handlers: dict[str, Callable[[Node], Value]] = {
            "number": self._number, "symbol": self._symbol, "sum": self._sum, "product": self._product,
            "quotient": self._quotient, "power": self._power, "root": self._root, "call": self._call,
            "percent": self._percentage, "degree": self._degrees, "plusminus": self._plus_minus,
            "factorial": self._factorial, "abs": self._absolute, "floor": self._rounded, "ceiling": self._rounded,
        }  # fmt: skip

    def value(self, node: Node) -> Value:
        self._spend(1)
        handler = self._handlers.get(node.kind)
        if handler is None:
            raise UndecidedError(f"{node.kind} has no value")
        return self._bounded(handler(node))

    def _spend(self, cost: int) -> None:
        self._cost += cost
        if self._cost > MAX_COST:
            raise UndecidedError("too much work")

    def _bounded(self, value: Value) -> Value:
        if isinstance(value, Fraction):
            bits = value.numerator.bit_length() + value.denominator.bit_length()
            self._spend(bits >> 10)
            return value if bits <= MAX_BITS else inexact(value)
        if magnitude(value) > 1 << 40:
            raise UndecidedError("too large")
        return value

    def _number(self, node: Node) -> Value:
        assert isinstance(node.value, Fraction)
        return node.value

    def _symbol(self, node: Node) -> Value:
        name = str(node.value)
        if name not in self._constants:
            return self._point(name)
        mp = _libmp()
        if name == "i":
            return mp.fzero, mp.fone
        return (mp.mpf_pi if name == "pi" else mp.mpf_e)(PRECISION, "n"), mp.fzero

    def _sum(self, node: Node) -> Value:
        total: Value = Fraction(0)
        for arg in node.args:
            term = self.value(arg)
            self.largest_term = max(self.largest_term, magnitude(term))
            if isinstance(total, Fraction) and isinstance(term, Fraction):
                total = self._bounded(total + term)
            else:
                total = _libmp().mpc_add(inexact(total), inexact(term), PRECISION, "n")
        return total

    def _product(self, node: Node) -> Value:
        result = self.value(node.args[0])
        for arg in node.args[1:]:
            factor = self.value(arg)
            if isinstance(result, Fraction) and isinstance(factor, Fraction):
                result = self._bounded(result * factor)
            else:
                result = _libmp().mpc_mul(inexact(result), inexact(factor), PRECISION, "n")
        return result

    def _quotient(self, node: Node) -> Value:
        top, bottom = self.value(node.args[0]), self.value(node.args[1])
        return self._divided(top, bottom)

    def _divided(self, top: Value, bottom: Value) -> Value:
        if bottom == 0 or magnitude(bottom) < self.largest_term - TOLERANCE:
            raise UndecidedError("division by zero")
        if isinstance(top, Fraction) and isinstance(bottom, Fraction):
            return top / bottom
        self._spend(2)
        return _libmp().mpc_div(inexact(top), inexact(bottom), PRECISION, "n")

    def _power(self, node: Node) -> Value:
        base, exponent = self.value(node.args[0]), self.value(node.args[1])
        return self._raised(base, exponent)

    def _raised(self, base: Value, exponent: Value) -> Value:
        if base == 0 or magnitude(base) < self.largest_term - TOLERANCE:
            if isinstance(exponent, Fraction) and exponent > 0:
                return Fraction(0)
            raise UndecidedError("zero to no positive power")
        if isinstance(exponent, Fraction) and exponent.denominator == 1:
            return self._integer_power(base, exponent.numerator)
        if exponent == Fraction(1, 2):
            return self._square_root(base)
        if magnitude(exponent) > 30 or abs(magnitude(base)) << max(magnitude(exponent), 0) > 1 << 34:
            raise UndecidedError("power too large")
        self._spend(_FUNCTION_COST)
        return _libmp().mpc_pow(inexact(base), inexact(exponent), PRECISION, "n")

    def _integer_power(self, base: Value, exponent: int) -> Value:
        if isinstance(base, Fraction):
            bits = max(base.numerator.bit_length(), base.denominator.bit_length())
            if abs(base) == 1:
                return base if exponent % 2 else base * base
            if abs(exponent).bit_length() < 32 and bits * abs(exponent) <= MAX_BITS:
                return base**exponent
        if exponent.bit_length() > 30:
            raise UndecidedError("power too large")
        self._spend(_FUNCTION_COST)
        return _libmp().mpc_pow_int(inexact(base), exponent, PRECISION, "n")

    def _square_root(self, value: Value) -> Value:
        if isinstance(value, Fraction) and value >= 0:
            top, bottom = math.isqrt(value.numerator), math.isqrt(value.denominator)
            if top * top == value.numerator and bottom * bottom == value.denominator:
                return Fraction(top, bottom)
        self._spend(4)
        return _libmp().mpc_sqrt(inexact(value), PRECISION, "n")

    def _root(self, node: Node) -> Value:
        """The real root of a real number where there is one: the cube root of -8 is -2."""
        radicand, degree = self.value(node.args[0]), self.value(node.args[1])
        if not isinstance(degree, Fraction) or degree == 0:
            raise UndecidedError("degree of a root")
        odd = degree.denominator == 1 and degree.numerator % 2 == 1
        if odd and isinstance(radicand, Fraction) and radicand < 0:
            positive = inexact(self._raised(-radicand, 1 / degree))
            return _libmp().mpc_neg(positive, PRECISION, "n")
        return self._raised(radicand, 1 / degree)

    def _percentage(self, node: Node) -> Value:
        return self._scaled(node, self._percent)

    def _degrees(self, node: Node) -> Value:
        if not self._in_trigonometric:
            return self.value(node.args[0])
        pi = Node("symbol", (), "pi")
        return self.value(Node("product", (node.args[0], Node("quotient", (pi, Node("number", (), Fraction(180)))))))

    def _scaled(self, node: Node, factor: Fraction) -> Value:
        return self._product(Node("product", (node.args[0], Node("number", (), factor))))

    def _plus_minus(self, node: Node) -> Value:
        return self._scaled(node, Fraction(1 if self._upper == (node.value == "±") else -1))

    def _factorial(self, node: Node) -> Value:
        value = self.value(node.args[0])
        if not isinstance(value, Fraction) or value.denominator != 1 or not 0 <= value <= MAX_FACTORIAL:
            raise UndecidedError("factorial")
        self._spend(int(value) >> 2)
        return Fraction(math.factorial(int(value)))

    def _absolute(self, node: Node) -> Value:
        value = self.value(node.args[0])
        if isinstance(value, Fraction):
            return abs(value)
        return _libmp().mpc_abs(value, PRECISION, "n"), _libmp().fzero

    def _rounded(self, node: Node) -> Value:
        value = self.value(node.args[0])
        if not isinstance(value, Fraction):
            raise UndecidedError("rounding of an inexact number")
        return Fraction(math.floor(value) if node.kind == "floor" else math.ceil(value))

    def _call(self, node: Node) -> Value:
        name = str(node.value)
        if name in _MANY:
            return self._of_integers(name, [self.value(arg) for arg in node.args])
        before = self._in_trigonometric
        self._in_trigonometric = name in TRIGONOMETRIC
        args = [self.value(arg) for arg in node.args]
        self._in_trigonometric = before
        self._spend(_FUNCTION_COST)
        if name.endswith("()"):
            return self._uninterpreted(name, args)
        if magnitude(args[0]) > _ARGUMENT_MAGNITUDE and name not in _LARGE_ARGUMENTS:
            raise UndecidedError("argument too large")
        return self._function(name, args)

    def _of_integers(self, name: str, args: list[Value]) -> Value:
        integers = [int(arg) for arg in args if isinstance(arg, Fraction) and arg.denominator == 1]
        if len(integers) != len(args) or (name == "binom" and not 0 <= integers[0] <= MAX_FACTORIAL):
            raise UndecidedError(name)
        if name == "binom":
            self._spend(integers[0] >> 2)
            return Fraction(math.comb(integers[0], integers[1])) if integers[1] >= 0 else Fraction(0)
        return Fraction(_MANY[name](*integers))

    def _uninterpreted(self, name: str, args: list[Value]) -> Value:
        """A function without a definition takes an arbitrary value that depends on its name and arguments alone."""
        mp = _libmp()
        parts = [mp.to_int(mp.mpf_shift(part, TOLERANCE - 100), "n") for arg in args for part in inexact(arg)]
        return Fraction(500 + crc32(f"{name}{parts}".encode()) % 1000, 997)

    def _function(self, name: str, args: list[Value]) -> Value:
        mp = _libmp()
        argument = inexact(args[0])
        if name == "abs":
            return mp.mpc_abs(argument, PRECISION, "n"), mp.fzero
        if name in ("log", "lg", "ln"):
            base = args[1] if len(args) > 1 else Fraction(10)
            logarithm = self._logarithm(args[0])
            return logarithm if name == "ln" else self._divided(logarithm, self._logarithm(base))
        inverse = {"cot": "tan", "sec": "cos", "csc": "sin"}.get(name)
        if inverse:
            return self._divided(Fraction(1), self._function(inverse, args))
        if name not in _DIRECT:
            raise UndecidedError(f"function {name}")
        result: Complex = getattr(mp, _DIRECT[name])(argument, PRECISION, "n")
        return result

    def _logarithm(self, value: Value) -> Complex:
        if value == 0 or magnitude(value) < self.largest_term - TOLERANCE:
            raise UndecidedError("logarithm of zero")
        return _libmp().mpc_log(inexact(value), PRECISION, "n")


_MANY: dict[str, Callable[..., int]] = {
    "binom": math.comb, "gcd": math.gcd, "lcm": math.lcm, "max": max, "min": min,
}  # fmt: skip
_LARGE_ARGUMENTS = frozenset(("log", "ln", "lg", "abs"))
_DIRECT = {
    "sin": "mpc_sin", "cos": "mpc_cos", "tan": "mpc_tan", "exp": "mpc_exp", "sinh": "mpc_sinh", "cosh": "mpc_cosh",
    "tanh": "mpc_tanh", "arcsin": "mpc_asin", "arccos": "mpc_acos", "arctan": "mpc_atan",
}  # fmt: skip
