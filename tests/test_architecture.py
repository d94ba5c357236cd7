"""The house: imports point one way, and nothing in the product needs the tests."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PRODUCT = sorted([*ROOT.glob("lab/**/*.py"), *ROOT.glob("grader/**/*.py")])


def test_imports_point_one_way():
    """The contracts stand in pyproject.toml."""
    tool = Path(sys.executable).with_name("lint-imports")
    if not tool.exists():
        pytest.skip("import-linter is not installed (make env)")
    run = subprocess.run([tool, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


def test_nothing_in_the_product_imports_the_tests():
    imports = re.compile(r"^\s*(from|import) (tests|conftest|test_\w+)\b", re.MULTILINE)
    found = [str(path.relative_to(ROOT)) for path in PRODUCT if imports.search(path.read_text())]
    assert found == []


def test_nothing_in_the_product_has_its_files_in_the_tests():
    """The self-tests are commands of the tests, and what they need lies beside them."""
    found = [str(path.relative_to(ROOT)) for path in PRODUCT if re.search(r"""/ ["']tests["']""", path.read_text())]
    assert found == []


def test_no_file_is_too_long_to_read():
    found = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in PRODUCT}
    assert {name: lines for name, lines in found.items() if lines > 500} == {}


PACKAGES = sorted(path.parent for path in PRODUCT if path.name == "__init__.py" and "examples" not in path.parts)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_package_names_its_modules(package):
    """Each module in the package's docstring, those of lab in docs/architecture.md; no other one."""
    page = ROOT / "docs/architecture.md" if package.name == "lab" else package / "__init__.py"
    text = page.read_text().partition("Imports point one way")[0]
    modules = {path.stem for path in package.glob("*.py") if not path.stem.startswith("__")}
    assert [name for name in sorted(modules) if not re.search(rf"\b{name}\b", text)] == []
    assert set(re.findall(r"\b(\w+)\.py\b", text)) - modules <= {"serial", "parallel", "__init__"}
