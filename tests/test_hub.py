import sys
import types
from pathlib import Path

import pytest

from urgentmos import hub
from urgentmos.errors import UsageError


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


def test_what_is_no_model_is_not_pushed(library, tmp_path: Path):
    with pytest.raises(UsageError, match="is not a model"):
        hub.push(tmp_path, "me/model")
    assert library.asked == []


def test_a_release_is_found_by_its_name_and_by_its_repository():
    by_name = hub.release_of("urgent-mos-f1c1m5dref")
    assert by_name is not None and hub.release_of(by_name.repo) is by_name
    assert hub.release_of("Twinkzzzzz/URGENT-PK") is None  # three models: which?
    assert hub.release_of("nobody/nothing") is None
