"""Machine code that calls nothing but its own copies of other loops.

A compiled loop carries copies of the loops that it calls, which are optimised once more
together with it and so may round sums differently from those loops on their own. Numba
leaves it to the linker which of them a call takes: the copy, unless a loop of that name
is in memory already. So results would depend on what a process has compiled or loaded
before: the process that compiles a loop has all that it calls in memory, a later one,
which loads it, has not. Here copies are local names, which nothing can replace.
"""

from __future__ import annotations

from llvmlite.binding import Linkage, parse_bitcode
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler


class _Library(JITCodeLibrary):
    """The code of one loop and of all that it calls."""

    def _finalize_final_module(self):
        # What loops that call this one get to optimise, and what is cached for them: in
        # the form that a later process reads, so that both compile the same.
        shared = parse_bitcode(self._final_module.as_bitcode())
        for function in shared.functions:
            if not function.is_declaration and function.linkage == Linkage.external:
                function.linkage = Linkage.linkonce_odr
        self._shared_module = shared
        for function in self._final_module.functions:
            if function.linkage == Linkage.linkonce_odr:
                function.linkage = Linkage.internal
        super()._finalize_final_module()


class SelfContained(Compiler):
    """Numba's compiler, which it takes as the option ``pipeline_class``."""

    def define_pipelines(self):
        state = self.state
        state.library = _Library(state.targetctx.codegen(), state.func_id.func_qualname)
        # As numba does where it makes one: the code is serialised later.
        state.library.enable_object_caching()
        return super().define_pipelines()
