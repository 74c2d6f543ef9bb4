"""The docs are complete and true: what exists is described, and what is shown runs."""

import importlib
import pkgutil
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import Struct

import tenterhook
from tenterhook import config
from tenterhook.config_keys import TABLES
from tenterhook.errors import TenterhookError
from tenterhook.settings import SETTINGS, Setting
from tenterhook.transformations.child import transform
from tenterhook.transformations.jobs import Job

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(Struct, frozen=True):
    """A fenced block of a page; `line` is that of its fence."""

    page: Path
    line: int
    label: str
    text: str


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text("utf-8")


def blocks(path: Path, label: str) -> list[Block]:
    text = path.read_text("utf-8")
    return [
        Block(path, text.count("\n", 0, match.start()) + 1, match[1], match[2])
        for match in BLOCK.finditer(text)
        if match[1] == label
    ]


def with_blocks(label: str) -> pytest.MarkDecorator:
    pages = [path for path in PAGES if blocks(path, label)]
    return pytest.mark.parametrize("path", pages, ids=[path.name for path in pages])


def rows(text: str) -> list[list[str]]:
    """The rows of all tables of a page, as cells."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


@pytest.fixture(scope="module")
def errors() -> list[type[TenterhookError]]:
    """Every error of every module of the package."""
    for module in pkgutil.walk_packages(tenterhook.__path__, "tenterhook."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)

    def below(kind: type[TenterhookError]) -> Iterator[type[TenterhookError]]:
        yield kind
        for child in kind.__subclasses__():
            yield from below(child)

    found = [kind for kind in dict.fromkeys(below(TenterhookError)) if kind.__module__.startswith("tenterhook.")]
    return sorted(found, key=lambda kind: kind.__name__)


def test_there_is_something_to_check() -> None:
    assert len(PAGES) > 3
    assert sum(len(blocks(path, "python")) for path in PAGES) > 3
    assert sum(len(blocks(path, "toml")) for path in PAGES) > 5


# What exists is described. For a further kind of thing (commands, signals), add a test of this shape.


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_setting_is_described(setting: Setting) -> None:
    row = [
        f"`{setting.name}`",
        f"`{setting.env}`",
        f"`{setting.show(setting.default)}`",
        setting.kind.noun,
        setting.help,
    ]
    assert row in rows(page("settings.md")), f"docs/settings.md: | {' | '.join(row)} |"


def test_no_other_setting_is_described() -> None:
    described = {row[0] for row in rows(page("settings.md")) if len(row) == 5} - {"setting", "---"}
    assert described == {f"`{setting.name}`" for setting in SETTINGS}


@pytest.mark.parametrize("noun", TABLES)
def test_configuration_key_is_described(noun: str) -> None:
    section = page("configuration.md").partition(f"\n## `[[{noun}]]`\n")[2].partition("\n## ")[0]
    described = {row[0] for row in rows(section)} - {"key", "---"}
    assert described == {f"`{key}`" for key in TABLES[noun]}


def test_errors_have_message_code_and_status(errors: list[type[TenterhookError]]) -> None:
    assert len(errors) > 15
    for kind in errors:
        assert vars(kind).get("__doc__"), f"{kind.__name__} needs a docstring of its own: it is the message"
        assert re.fullmatch(r"[a-z_ ]+", kind.code), kind.__name__
        assert kind.status in range(400, 600), kind.__name__


def test_no_two_errors_have_one_code(errors: list[type[TenterhookError]]) -> None:
    codes = [vars(kind)["code"] for kind in errors if "code" in vars(kind)]
    assert sorted(codes) == sorted(set(codes))


def test_errors_are_described(errors: list[type[TenterhookError]]) -> None:
    wanted = [[f"`{kind.code}`", str(kind.status), f"`{kind.__name__}`"] for kind in errors]
    described = [row[:3] for row in rows(page("errors.md")) if len(row) == 5 and row[0] not in ("code", "---")]
    missing = [f"| {' | '.join(cells)} | when | what to do |" for cells in wanted if cells not in described]
    assert not missing, "docs/errors.md lacks:\n" + "\n".join(missing)
    assert sorted(described) == sorted(wanted)


# What is shown runs.


@with_blocks("python")
def test_python_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page in order, in one namespace; mark one `python no-run` if it cannot run here."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": path.stem}
    for block in blocks(path, "python"):
        # the blank lines give tracebacks the line numbers of the page
        exec(compile("\n" * block.line + block.text, path, "exec"), namespace)  # the pages are our own


@with_blocks("js")
def test_transformations_are_right(path: Path) -> None:
    for block in blocks(path, "js"):
        assert transform(Job(block.text)).error is None


@with_blocks("toml")
def test_toml_parses(path: Path) -> None:
    for block in blocks(path, "toml"):
        tomllib.loads(block.text)


class Everything(dict[str, str]):
    """An environment in which every variable is set, to something that fits its name."""

    def get(self, name: str, default: object = None) -> str:
        kinds = {
            "DATABASE_URL": "postgresql://app@localhost/shop",
            "URL": "https://hooks.example.com/x",
            "ACCOUNTING_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        }
        return next((value for end, value in kinds.items() if name.endswith(end)), "some-value")


@pytest.mark.parametrize("block", blocks(ROOT / "docs" / "configuration.md", "toml"), ids=lambda block: str(block.line))
def test_configuration_is_right(block: Block) -> None:
    config.parse(block.text, f"{block.page.name}+{block.line}", Everything())


def test_local_links_lead_somewhere() -> None:
    for path in PAGES:
        prose = re.sub(r"`[^`\n]*`", "", BLOCK.sub("", path.read_text("utf-8")))
        for target in re.findall(r"\]\((?!https?:|mailto:)([^)#]+)", prose):
            assert (path.parent / target).exists(), f"{path.name}: {target}"
