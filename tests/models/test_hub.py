import sys
import types
from pathlib import Path

import pytest

from urgentmos.api import load
from urgentmos.errors import UsageError
from urgentmos.models import hub


@pytest.fixture
def library(monkeypatch, tmp_path):
    """A stand-in for huggingface_hub that writes down what it is asked."""
    asked: list[tuple[str, tuple, dict]] = []
    fake = types.ModuleType("huggingface_hub")

    def recorder(name, answer):
        def function(*args, **kwargs):
            asked.append((name, args, kwargs))
            if isinstance(answer, Exception):
                raise answer
            return answer

        setattr(fake, name, function)

    for name, answer in (("snapshot_download", str(tmp_path)), ("create_repo", None), ("upload_folder", "https://hub/x")):
        recorder(name, answer)
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    return types.SimpleNamespace(asked=asked, answer=recorder)


@pytest.mark.parametrize(
    "name, expected", [("me/model", True), ("me/model@1a2b", True), ("model", False), ("a/b/c", False), ("../x", False)]
)
def test_a_hub_id_is_recognised(name, expected):
    assert hub.is_hub_id(name) is expected


def test_only_the_three_files_of_a_model_are_fetched(library, tmp_path):
    assert hub.pull("me/model@abc") == tmp_path
    (_, args, kwargs) = library.asked[0]
    assert args == ("me/model",) and kwargs["revision"] == "abc" and set(kwargs["allow_patterns"]) == set(hub.FILES)


def test_a_hub_that_does_not_answer_is_one_sentence(library):
    library.answer("snapshot_download", OSError("no route"))
    with pytest.raises(UsageError, match=r"me/model is no local path and could not be fetched.*no route"):
        hub.pull("me/model")


def test_a_release_is_found_by_its_name_and_by_its_repository():
    by_name = hub.release_of("urgent-mos-f1c1m5dref")
    assert by_name is not None and hub.release_of(by_name.repo) is by_name
    assert hub.release_of("Twinkzzzzz/URGENT-PK") is None  # three models: which?
    assert hub.release_of("nobody/nothing") is None


@pytest.fixture
def here(tmp_path: Path, monkeypatch):
    """A current folder with runs/my_model in it."""
    (tmp_path / "runs/my_model").mkdir(parents=True)
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("allowed", [True, False])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("runs/mymodl", "Did you mean runs/my_model"),
        ("runs/my_model2", "Did you mean runs/my_model"),
        ("runz/my_model", "Did you mean runs/my_model"),
        ("./runz/my_model", "Did you mean runs/my_model"),
        ("./runs/mymodl", "Did you mean runs/my_model"),
        ("data/qqqqq", "There is no qqqqq in data"),
        ("./none/x", "Give a model folder"),
        ("../x/y", "Give a model folder"),
        ("/no/such/model", "Give a model folder"),
        ("runs/my_model/", None),
    ],
)
def test_a_misspelled_folder_is_named_and_no_hub_is_asked(name, said, allowed, here, library):
    with pytest.raises(UsageError, match=said and said.replace(".", r"\.")) as e:
        load(name, allow_download=allowed)
    assert "\n" not in str(e.value) and library.asked == []


def test_a_misspelled_folder_asks_no_hub_where_a_model_is_imported_either(here, library):
    pytest.importorskip("torch")
    from urgentmos.models.folder import load_any

    with pytest.raises(UsageError, match="Did you mean runs/my_model"):
        load_any("runs/mymodl", allow_download=True)
    assert library.asked == []


@pytest.mark.parametrize("name", ["runs/mymodl@main", "org/name", "my/model@1a2b"])
def test_what_can_only_be_a_hub_id_is_fetched(name, here, library):
    library.answer("snapshot_download", OSError("no route"))
    with pytest.raises(UsageError, match="no route"):
        load(name)
    assert [asked[0] for asked in library.asked] == ["snapshot_download"]
