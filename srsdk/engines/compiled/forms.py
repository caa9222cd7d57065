"""Choose between a model compiled for any input shape and one compiled for a single shape.

Compiling for one shape takes as long as a picture or two and then saves 4 to 10 % of each run, so
only shapes that recur get a form of their own. Knows no library.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

Shape = tuple[int, ...]

MAX_COMPILED = 8
"""Number of shapes whose own compiled models are kept."""
OWN_AFTER_VALUES = 3 << 20
"""Input values computed in a shape before it is compiled on its own: one megapixel of RGB, about
where the time saved equals the time of compiling (40 to 160 ms; shipped networks, 2 cores)."""
MAX_COUNTED = 64
"""Number of shapes whose computed values are counted; the least recently used is forgotten."""


class Form(NamedTuple):
    """A compiled model."""

    compiled: Any
    """The library's compiled model."""
    is_own: bool
    """Whether it is compiled for the shape; False: for any shape."""


class CompiledForms:
    """The compiled forms of one model, shared by all threads.

    Args:
        compile_any: compiles the model for any shape; None: each shape is compiled on its own.
        compile_own: compiles the model for one shape.
        compiled_any: the model already compiled for any shape, or None.
    """

    def __init__(
        self,
        compile_any: Callable[[], Any] | None,
        compile_own: Callable[[Shape], Any],
        compiled_any: Any = None,
    ) -> None:
        self._compile_any = compile_any
        self._compile_own = compile_own
        self._any = compiled_any
        self._own: OrderedDict[Shape, Any] = OrderedDict()
        self._done: OrderedDict[Shape, int] = OrderedDict()
        self._lock = threading.Lock()
        # held while the library compiles; the other lock is then free
        self._compiling = threading.Lock()

    def get(self, shape: Shape) -> Form:
        """Return the form for a shape; raises whatever the compiler raises."""
        own = self._found(shape)
        if own is not None:
            return own
        if self._compile_any is None:
            return self._made(shape)
        compiled = self._any
        if compiled is None:
            with self._compiling:
                if self._any is None:
                    self._any = self._compile_any()
                compiled = self._any
        return Form(compiled, False)

    def count(self, shape: Shape) -> Form | None:
        """Count a run of a shape in the form for any shape.

        Returns:
            The shape's own form if it has one or is now worth one; None: continue as before.
        """
        with self._lock:
            done = self._done.pop(shape, 0) + math.prod(shape)
            is_worth_it = done >= OWN_AFTER_VALUES or shape in self._own
            # other threads continue as before while this one compiles
            self._done[shape] = 0 if is_worth_it else done
            if len(self._done) > MAX_COUNTED:
                self._done.popitem(last=False)
        return self._made(shape) if is_worth_it else None

    def clear(self) -> None:
        """Release the compiled models; those in use live until they are dropped."""
        with self._lock:
            self._own.clear()
        with self._compiling:
            self._any = None

    def _found(self, shape: Shape) -> Form | None:
        with self._lock:
            if shape not in self._own:
                return None
            self._own.move_to_end(shape)
            return Form(self._own[shape], True)

    def _made(self, shape: Shape) -> Form:
        """Compile for a shape, unless another thread has just done so."""
        with self._compiling:
            found = self._found(shape)
            if found is not None:
                return found
            compiled = self._compile_own(shape)
            with self._lock:
                self._own[shape] = compiled
                if len(self._own) > MAX_COMPILED:
                    self._own.popitem(last=False)
        return Form(compiled, True)
