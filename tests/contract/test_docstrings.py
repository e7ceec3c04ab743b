"""A public docstring says what a user must know: every parameter, what comes back, an example (which pytest runs)."""

import ast
import inspect
import textwrap

from numpydoc.docscrape import ClassDoc, FunctionDoc
from public_api import MODULES, methods, public_classes_and_functions

import optcore

# What the functions of a module return: their examples show it, and nobody else makes one.
RESULTS = {f"optcore.{module}.{name}" for module, names in {
    "curvature": "CriticalPoint Eigenpairs Escape Estimate Extremes Flatness Follow SpectralDensity Step Taylor",
    "data": "Dataset",
    "diagnosis": "Cause Diagnosis Quantity Verification",
    "landscape": "Descent Line Plane",
    "landscape.surfaces": "Surface",
    "norm": "RenormSaved Saved SpectralNormSaved Statistics WeightNormSaved",
}.items() for name in names.split()}
BASES = {"optcore.optim.Optimizer", "optcore.optim.Wrapper"}    # of what a user makes
NO_EXAMPLE = RESULTS | {"optcore.optim.Wrapper", "optcore.checkpoint.CheckpointError"}
HOOKS = {"on_start", "on_step", "on_epoch", "on_end"}           # of a callback, which `fit` describes

API = dict(public_classes_and_functions())
CLASSES = {name: thing for name, thing in API.items() if inspect.isclass(thing)}


def functions():
    """Name -> definitions of each public function and method: its own, and for a method those that it overrides."""
    found = {name: [thing] for name, thing in API.items() if name not in CLASSES}
    for owner, cls in CLASSES.items():
        found |= {f"{owner}.{name}": kinds for name, kinds in methods(cls) if name not in HOOKS}
    return found


def class_doc(cls):
    return ClassDoc(cls, config={"show_class_members": False})


def described(doc, section):
    """The names under a heading: "x, y : float" are two, "*args" is args."""
    return {name.strip().lstrip("*") for entry in doc[section] for name in entry.name.split(",")}


def parameters(thing):
    names = inspect.signature(thing).parameters
    return {name for name in names if name not in ("self", "cls") and not name.startswith("_")}


def returns(function):
    """Whether its source, if there is any, returns or yields something; what it defines inside apart."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except TypeError:
        return False
    nodes = list(tree.body[0].body)
    for node in nodes:
        if not isinstance(node, ast.FunctionDef | ast.Lambda):
            nodes += ast.iter_child_nodes(node)
    values = [node.value for node in nodes if isinstance(node, ast.Return | ast.Yield | ast.YieldFrom)]
    return any(value is not None and ast.unparse(value) != "None" for value in values)


def test_each_parameter_of_a_function_is_described():
    wrong = {}
    for name, kinds in functions().items():
        found = [described(FunctionDoc(f), "Parameters") for f in kinds]
        if parameters(kinds[0]) not in found:
            wrong[name] = parameters(kinds[0]) ^ found[0]
    assert wrong == {}


def test_what_a_function_returns_is_described():
    def says(f):
        doc = FunctionDoc(f)
        return doc["Returns"] or doc["Yields"]

    assert [name for name, kinds in functions().items() if returns(kinds[0]) and not any(map(says, kinds))] == []


def test_each_parameter_of_a_class_is_described():
    common = described(class_doc(optcore.optim.Optimizer), "Parameters") - {"params", "lr"}
    wrong = {}
    for name in set(CLASSES) - RESULTS - BASES - {"optcore.checkpoint.CheckpointError"}:
        cls, doc = CLASSES[name], class_doc(CLASSES[name])
        given = parameters(cls)
        if issubclass(cls, optcore.optim.Optimizer) and "`Optimizer`" in str(doc):
            given -= common
        if described(doc, "Parameters") != given and described(doc, "Attributes") != given:
            wrong[name] = described(doc, "Parameters") ^ given
    assert wrong == {}


def test_each_field_of_a_result_is_described():
    missing = {}
    for name in RESULTS:
        fields = {field for field in vars(CLASSES[name]).get("__annotations__", ()) if not field.startswith("_")}
        if not fields <= described(class_doc(CLASSES[name]), "Attributes"):
            missing[name] = fields - described(class_doc(CLASSES[name]), "Attributes")
    assert missing == {}


def test_an_example_shows_each_class_and_function():
    def shown(name):
        doc = class_doc(API[name]) if name in CLASSES else FunctionDoc(API[name])
        return any(line.lstrip().startswith(">>>") for line in doc["Examples"])

    assert [name for name in API if name not in NO_EXAMPLE and not shown(name)] == []


def test_every_module_is_looked_at():
    """Every one that `import optcore as oc; oc.<Tab>` offers."""
    assert {name for name in optcore.__all__ if inspect.ismodule(getattr(optcore, name))} <= set(MODULES)


def test_the_exceptions_are_public():
    assert set(CLASSES) >= RESULTS | BASES | NO_EXAMPLE
