"""Public docstrings are complete; that their examples run, the doctests check."""

import doctest
import functools
import importlib
import inspect
import pkgutil

import pytest
from numpydoc.docscrape import get_doc_object
from numpydoc.validate import Validator, validate

import skfeat

# Modules under the estimators, for readers of the code: there a docstring may be one
# sentence. A module that is not named here is held to the rules for users.
MACHINERY = {
    *("activations", "adapters", "chain", "kernels"),
    *("losses", "penalties", "solvers", "utils"),
}

# numpydoc's codes: known sections in their order (GL), a one-line summary (SS), no
# parameter that the code does not have (PR02). Left out is what is a matter of taste.
ALWAYS = {
    *("GL05", "GL06", "GL07", "GL08", "GL10"),
    *("SS01", "SS02", "SS03", "SS04", "SS06", "PR02"),
}
# All parameters in the order of the signature, and what comes back.
FOR_USERS = ALWAYS | {"PR01", "PR03", "PR05", "PR06", "PR10", "RT01", "YD01"}


def public_modules():
    yield skfeat
    for info in pkgutil.walk_packages(skfeat.__path__, "skfeat."):
        if not any(part.startswith("_") for part in info.name.split(".")):
            yield importlib.import_module(info.name)


def public_objects():
    """Return classes and functions by the first name that makes them public."""
    found = {}
    for module in public_modules():
        names = getattr(module, "__all__", None)
        if names is None:
            own = module.__name__
            names = [k for k, v in vars(module).items() if _module_of(v) == own]
        for name in names:
            thing = getattr(module, name)
            is_code = inspect.isclass(thing) or inspect.isroutine(thing)
            if is_code and not name.startswith("_"):
                found.setdefault(thing, f"{module.__name__}.{name}")
    return {name: thing for thing, name in found.items()}


def _module_of(thing):
    return getattr(thing, "__module__", None)


def public_methods(cls):
    """Yield the methods and properties that skfeat's own code gives a class."""
    kinds = (classmethod, staticmethod, property, functools.cached_property)
    for base in cls.__mro__:
        if base.__module__.partition(".")[0] != "skfeat":
            continue
        for name, member in vars(base).items():
            is_method = isinstance(member, kinds) or inspect.isfunction(member)
            if is_method and not name.startswith("_"):
                yield name, getattr(member, "__func__", member)


OBJECTS = public_objects()
CLASSES = {name: thing for name, thing in OBJECTS.items() if inspect.isclass(thing)}
METHODS = {
    f"{owner}.{name}": (cls, name, method)
    for owner, cls in CLASSES.items()
    for name, method in public_methods(cls)
}


def is_for_users(name):
    return name.split(".")[1] not in MACHINERY


def errors(name, thing):
    doc = get_doc_object(thing)
    checked = FOR_USERS if is_for_users(name) else ALWAYS
    found = [f"{c}: {text}" for c, text in validate(doc)["errors"] if c in checked]
    for parameter, (kind, description) in Validator(doc).doc_all_parameters.items():
        if not kind and not description:
            found.append(f"Parameter {parameter!r} has neither type nor description")
    return found


@pytest.mark.parametrize("name", OBJECTS)
def test_docstring(name):
    assert not errors(name, OBJECTS[name])


@pytest.mark.parametrize("name", METHODS)
def test_method_docstring(name):
    cls, attribute, method = METHODS[name]
    if method.__doc__:
        assert not errors(name, method)
    else:
        # What a method overrides, here or in scikit-learn, may speak for it.
        assert inspect.getdoc(getattr(cls, attribute)), "no docstring, nor a parent's"


@pytest.mark.parametrize("name", [name for name in CLASSES if is_for_users(name)])
def test_class_has_an_example(name):
    docstring = CLASSES[name].__doc__ or ""
    assert doctest.DocTestParser().get_examples(docstring), "no example"
